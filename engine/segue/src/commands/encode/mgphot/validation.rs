//! Ratings beside true ones.

use std::path::Path;

use anyhow::{Result, ensure};
use segue_catalog::ratings::agreement::{Agreement, Mean, Pair, agreement};
use segue_catalog::ratings::table::RatingTable;

use super::{Anchors, LEAST_COMPARED, RESAMPLES};
use crate::commands::encode::store::beside;
use crate::report::figures::{ABSENT, count};
use crate::report::file::write_whole;

/// Compares, says what came out, and writes it beside `out`.
pub fn compare(
    rated: &RatingTable,
    truth: &RatingTable,
    anchors: &Anchors,
    out: &Path,
    seed: u64,
) -> Result<()> {
    let pairs: Vec<Pair> = rated
        .tracks()
        .iter()
        .filter(|track| !anchors.keys.contains(&track.key()))
        .filter_map(|track| {
            Some(Pair {
                rated: rated.by_schema(&track.ratings),
                truly: truth.by_schema(truth.of(track.key())?),
            })
        })
        .collect();
    ensure!(
        pairs.len() >= LEAST_COMPARED,
        "--validate: {} of the rated tracks have true ratings (of {} in the file) and are no anchors, and a \
         rank correlation needs {LEAST_COMPARED}",
        pairs.len(),
        count(truth.tracks().len() as u64)
    );
    let found = agreement(&pairs, RESAMPLES, seed);
    let path = beside(out, "agreement.json");
    let mut json = serde_json::to_vec_pretty(&found)?;
    json.push(b'\n');
    write_whole(&path, &json)?;
    print!("{}", told(&found));
    println!("the same by attribute: {}", path.display());
    Ok(())
}

/// A line for each category, and one for all.
fn told(found: &Agreement) -> String {
    let mut text = format!(
        "{} tracks compared\n{:<16} {:>8} {:>17} {:>11}\n",
        count(found.tracks as u64),
        "category",
        "Spearman",
        "95 % interval",
        "attributes"
    );
    let categories = found.categories.iter().map(|c| (c.category.name(), c.mean));
    for (name, mean) in categories.chain([("all", found.all)]) {
        text.push_str(&line(name, mean));
    }
    text
}

fn line(name: &str, mean: Mean) -> String {
    let value = |value: Option<f64>| value.map_or(ABSENT.to_owned(), |value| format!("{value:.3}"));
    let interval = match (mean.low, mean.high) {
        (Some(low), Some(high)) => format!("{low:.3} to {high:.3}"),
        _ => ABSENT.to_owned(),
    };
    let flat = match mean.flat {
        0 => String::new(),
        flat => format!("  ({flat} more rated all the same)"),
    };
    format!(
        "{name:<16} {:>8} {interval:>17} {:>11}{flat}\n",
        value(mean.spearman),
        mean.attributes
    )
}
