//! `segue demo` as a user runs it, and the figures of its report.json.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use segue_benchmarks::outcome::{Metric, Outcome};
use segue_benchmarks::timing::timed;
use serde_json::Value;

use crate::Ask;
use crate::binary::{binary, checkout};

pub fn run(ask: &Ask) -> anyhow::Result<Outcome> {
    let segue = binary()?;
    let folder = tempfile::tempdir().context("folder for the demo's report")?;
    let mut command = Command::new(&segue);
    command.arg("demo").arg("--out").arg(folder.path());
    if ask.data.is_empty() {
        let plays = ask.config.size("plays", ask.quick)?;
        command.args(["--plays", &plays.to_string()]);
    }
    for data in &ask.data {
        // Absolute: the demo runs in another folder.
        command.arg(data.canonicalize().with_context(|| {
            let path = data.display();
            format!("{path}: name listening logs or folders of them")
        })?);
    }
    // Cargo sets this for what it runs itself (.cargo/config.toml).
    let models = checkout().join(".models");
    if std::env::var_os("SEGUE_MODELS").is_none() && models.is_dir() {
        command.env("SEGUE_MODELS", models);
    }
    let (took, status) = timed(|| command.current_dir(checkout()).status());
    let status = status.with_context(|| segue.display().to_string())?;
    ensure!(status.success(), "{} demo: {status}", segue.display());
    let report = report(folder.path())?;
    let mut metrics = figures(&report);
    metrics.push(Metric::single("run_seconds", took.as_secs_f64(), "s"));
    let of = |pointer| {
        report
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or("")
    };
    Ok(Outcome {
        name: "demo",
        quick: ask.quick,
        simulated: ask.data.is_empty(),
        metrics,
        repeats: 1,
        workload: format!(
            "{}; device: {}",
            of("/input/description"),
            of("/machine/device")
        ),
    })
}

/// The report of the one run in `folder`, which keeps a folder per run.
fn report(folder: &Path) -> anyhow::Result<Value> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path().join("report.json");
        if path.is_file() {
            let text = std::fs::read_to_string(&path)?;
            return serde_json::from_str(&text).with_context(|| path.display().to_string());
        }
    }
    anyhow::bail!(
        "the demo ended well and left no report.json in {}",
        folder.display()
    )
}

/// Recall@20 of each recommender, and, where the report has a headline, of its pair and their
/// difference. What the report does not say is not among them.
fn figures(report: &Value) -> Vec<Metric> {
    let rows = |of: &str| {
        let rows = report.pointer(of).and_then(Value::as_array);
        rows.map_or(&[][..], Vec::as_slice)
    };
    let text = |row: &Value, key: &str| row.get(key).and_then(Value::as_str).map(str::to_owned);
    let recommenders: Vec<(String, &Value)> = rows("/prequential/recommenders")
        .iter()
        .filter_map(|row| Some((text(row, "name")?, row)))
        .collect();
    let mut metrics: Vec<Metric> = recommenders
        .iter()
        .filter_map(|(name, row)| recall(&format!("recall20_{}", name.replace('-', "_")), row))
        .collect();
    let Some(headline) = report
        .get("headline")
        .filter(|headline| !headline.is_null())
    else {
        println!("the report has no headline: nothing was compared with its frozen self");
        return metrics;
    };
    let (online, frozen) = (text(headline, "online"), text(headline, "frozen"));
    for (key, name) in [("recall20_online", &online), ("recall20_frozen", &frozen)] {
        let row = recommenders
            .iter()
            .find(|(other, _)| Some(other) == name.as_ref());
        metrics.extend(row.and_then(|(_, row)| recall(key, row)));
    }
    let difference = rows("/prequential/differences")
        .iter()
        .find(|row| text(row, "name") == online && text(row, "minus") == frozen);
    metrics.extend(difference.and_then(|row| recall("delta", row)));
    metrics
}

/// The mean over events, with its interval over listeners.
fn recall(key: &str, row: &Value) -> Option<Metric> {
    let estimate = row.pointer("/overall/per_event/recall_20")?;
    let figure = |name| estimate.get(name).and_then(Value::as_f64);
    Some(Metric {
        confidence: figure("low").zip(figure("high")),
        ..Metric::single(key, figure("mean")?, "share of plays")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn figures_come_from_the_headline_pair() {
        let row = |name: &str, mean: f64| {
            json!({"name": name, "minus": "m (frozen)", "overall": {"per_event": {
                "recall_20": {"mean": mean, "low": mean - 0.01, "high": null}}}})
        };
        let mut report = json!({
            "headline": {"online": "m", "frozen": "m (frozen)"},
            "prequential": {
                "recommenders": [row("personal-most-pop", 0.3), row("m", 0.2), row("m (frozen)", 0.1)],
                "differences": [row("x", 0.9), row("m", 0.1)],
            },
        });
        let value = |report: &Value, key: &str| {
            let metrics = figures(report);
            metrics.iter().find(|m| m.key == key).map(|m| m.value)
        };
        assert_eq!(value(&report, "recall20_online"), Some(0.2));
        assert_eq!(value(&report, "recall20_frozen"), Some(0.1));
        assert_eq!(value(&report, "delta"), Some(0.1));
        assert_eq!(value(&report, "recall20_personal_most_pop"), Some(0.3));
        report["headline"] = Value::Null;
        assert_eq!(value(&report, "delta"), None);
    }
}
