//! The item encoders on a public benchmark: NDCG@10 and hit rate at 10 of each user's last rating
//! among all items, against what others published, so that a weak one cannot flatter what stands
//! above it.
//!
//! Training is done by an example of the models' room, as a process of its own: what is measured
//! elsewhere must not have libtorch in its memory.

mod data;
mod published;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use segue_benchmarks::outcome::{Metric, Outcome};
use serde::Deserialize;
use serde_json::{Value, json};

use self::data::Sequences;
use self::published::Known;
use crate::Ask;
use crate::binary::{built, checkout};

const NAME: &str = "item-encoders";
const ENCODERS: [&str; 3] = ["sasrec", "bert4rec", "gru4rec"];
/// Where the normal distribution leaves 2.5 % on a side.
const SURE: f64 = 1.96;

/// The last line of what the example prints.
#[derive(Deserialize)]
struct Trained {
    epochs: u32,
    seconds: f64,
    /// Of each user's last item, among those they had not rated.
    ranks: Vec<usize>,
    ranks_of_all: Vec<usize>,
}

pub fn run(ask: &Ask) -> anyhow::Result<Outcome> {
    let example = built(
        "SEGUE_LEAVE_ONE_OUT",
        "examples/leave_one_out",
        "cargo build --release -p segue-e4srec --example leave_one_out",
    )?;
    let path = match ask.data.first() {
        Some(path) => path.clone(),
        None => movielens()?,
    };
    let mut sequences = Sequences::open(&path, 1)?;
    let known = Known::of(sequences.users.len());
    if let Some(known) = known.filter(|known| known.least > 1) {
        sequences = Sequences::open(&path, known.least)?;
    }
    let folder = tempfile::tempdir().context("folder for the sequences")?;
    let lines = folder.path().join("sequences.txt");
    std::fs::write(&lines, sequences.lines())?;

    let mut metrics = mean("most_popular", "", &sequences.ranks_by_popularity());
    for encoder in ENCODERS {
        let trained = train(&example, &lines, encoder, ask)?;
        ensure!(
            trained.ranks.len() == sequences.users.len(),
            "{encoder}: {} ranks",
            trained.ranks.len()
        );
        metrics.extend(figures(encoder, &trained, known));
    }
    let name = known.map_or_else(|| path.display().to_string(), |k| k.name.to_owned());
    Ok(Outcome {
        name: NAME,
        quick: ask.quick,
        simulated: false,
        metrics,
        repeats: 1,
        workload: format!(
            "{name}: {} users, {} items, {} ratings; each user's last rating is ranked among all \
             items that they had not rated, and again among all; 95 % intervals over users",
            sequences.users.len(),
            sequences.items(),
            sequences.ratings()
        ),
    })
}

/// The ratings of MovieLens-100K, fetched if they are not there.
fn movielens() -> anyhow::Result<PathBuf> {
    let path = checkout().join(".datasets/movielens-100k/ratings.inter");
    let mut setup = Command::new("python3");
    setup.current_dir(checkout());
    setup.args(["config/setup/setup.py", "datasets"]);
    let status = setup.stdout(Stdio::null()).status().context("python3")?;
    ensure!(
        status.success(),
        "MovieLens-100K cannot be fetched; name a file of ratings with --data"
    );
    Ok(path)
}

/// The reference settings (64 components, two blocks, rate 0.001), in windows as long as the engine
/// has them.
fn settings(encoder: &str, ask: &Ask) -> anyhow::Result<Value> {
    let size = |key: &str| ask.config.size(&format!("{encoder}_{key}"), ask.quick);
    let mut settings = json!({
        "dimensions": 64,
        "lookback": 50,
        // Nothing is new at inference.
        "unknown": 0.0,
        // A rating or a few of each user judge when to stop.
        "validation": 0.03,
        "learning_rate": 0.001,
        "epochs": size("epochs")?,
        "patience": size("patience")?,
    });
    if encoder == "gru4rec" {
        settings["learning_rate"] = json!(0.002);
        settings["dropout"] = json!(0.3);
        settings["input_dropout"] = json!(0.3);
    }
    Ok(settings)
}

fn train(example: &Path, lines: &Path, encoder: &str, ask: &Ask) -> anyhow::Result<Trained> {
    eprintln!("training {encoder}");
    let mut command = Command::new(example);
    command.arg(lines).arg(encoder);
    command.arg(settings(encoder, ask)?.to_string());
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.with_context(|| example.display().to_string())?;
    ensure!(output.status.success(), "{encoder}: {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or("");
    serde_json::from_str(last).with_context(|| format!("{encoder} printed {last:?}"))
}

/// What became of one encoder, beside what was published.
fn figures(encoder: &str, trained: &Trained, known: Option<&Known>) -> Vec<Metric> {
    let mut metrics = mean(encoder, "", &trained.ranks);
    metrics.extend(mean(encoder, "_of_all", &trained.ranks_of_all));
    if let Some(published) = known.and_then(|known| known.figure(encoder)) {
        let ranks = match published.unseen_only {
            true => &trained.ranks,
            false => &trained.ranks_of_all,
        };
        for (figure, key, theirs) in [
            (
                ndcg as fn(usize) -> f64,
                "ratio_published",
                published.ndcg_at_10,
            ),
            (hit, "hr_ratio_published", published.hr_at_10),
        ] {
            let (ours, low, high) = estimate(ranks, figure);
            let key = format!("{encoder}_{key}");
            let metric = Metric {
                confidence: Some((low / theirs, high / theirs)),
                ..Metric::single(&key, ours / theirs, "ratio")
            };
            metrics.push(metric.beside(published.source, theirs));
        }
    }
    let epochs = f64::from(trained.epochs);
    metrics.push(Metric::single(
        &format!("{encoder}_epochs"),
        epochs,
        "epochs",
    ));
    let key = format!("{encoder}_training_seconds");
    metrics.push(Metric::single(&key, trained.seconds, "s"));
    metrics
}

/// NDCG@10 and hit rate at 10, with their intervals.
fn mean(of: &str, among: &str, ranks: &[usize]) -> Vec<Metric> {
    let figures = [("ndcg", ndcg as fn(usize) -> f64), ("hr", hit)];
    figures
        .map(|(name, figure)| {
            let (value, low, high) = estimate(ranks, figure);
            let key = format!("{of}_{name}_at_10{among}");
            Metric {
                confidence: Some((low, high)),
                ..Metric::single(&key, value, "mean over users")
            }
        })
        .to_vec()
}

fn ndcg(rank: usize) -> f64 {
    match rank {
        1..=10 => 1.0 / (rank as f64 + 1.0).log2(),
        _ => 0.0,
    }
}

fn hit(rank: usize) -> f64 {
    f64::from(u8::from((1..=10).contains(&rank)))
}

/// The mean, and its 95 % interval: users are independent of each other.
fn estimate(ranks: &[usize], figure: fn(usize) -> f64) -> (f64, f64, f64) {
    let count = ranks.len() as f64;
    let values = ranks.iter().map(|&rank| figure(rank));
    let mean = values.clone().sum::<f64>() / count;
    let spread = values.map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let half = SURE * (spread / count).sqrt();
    (mean, mean - half, mean + half)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_the_ranks_that_were_published() {
        let trained = Trained {
            epochs: 3,
            seconds: 1.0,
            ranks: vec![1, 3, 11, 40],
            ranks_of_all: vec![3, 11, 11, 40],
        };
        let value =
            |metrics: &[Metric], key: &str| metrics.iter().find(|m| m.key == key).map(|m| m.value);
        let found = figures("sasrec", &trained, Known::of(6_040));
        assert_eq!(value(&found, "sasrec_ndcg_at_10"), Some(0.375));
        assert_eq!(value(&found, "sasrec_hr_at_10"), Some(0.5));
        assert_eq!(value(&found, "sasrec_ndcg_at_10_of_all"), Some(0.125));
        let ratio = value(&found, "sasrec_ratio_published").unwrap();
        assert!((ratio - 0.375 / 0.1821).abs() < 1e-12);
        // Published over all items, seen or not.
        let found = figures("gru4rec", &trained, Known::of(6_040));
        let ratio = value(&found, "gru4rec_ratio_published").unwrap();
        assert!((ratio - 0.125 / 0.1406).abs() < 1e-12);
        let found = figures("gru4rec", &trained, None);
        assert_eq!(value(&found, "gru4rec_ratio_published"), None);
    }

    #[test]
    fn the_interval_is_that_of_a_mean() {
        let (mean, low, high) = estimate(&[1, 1, 20, 20], hit);
        assert!((mean - 0.5).abs() < 1e-12);
        let half = 1.96 * (1.0f64 / 3.0 / 4.0).sqrt();
        assert!((mean - low - half).abs() < 1e-12 && (high - mean - half).abs() < 1e-12);
    }
}
