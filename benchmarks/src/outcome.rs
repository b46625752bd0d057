//! What a scenario says it found: one JSON object in one line, the same shape for all.
//!
//! Each key that a bar names stands at the top level with its bare value, and once more under
//! `metrics` with unit, baseline and interval; `bars` says what was asked of it and whether it holds.

use std::collections::BTreeMap;

use segue_recommend::interval::Estimate;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::machine::{Machine, commit, date};
use crate::timing::Interval;

/// What is asked of a figure.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bar {
    /// At least so much.
    AtLeast(f64),
    /// At most so much.
    AtMost(f64),
}

impl Bar {
    /// Whether a figure meets it. What is not a number meets nothing.
    pub fn met(self, value: f64) -> bool {
        match self {
            Bar::AtLeast(least) => value >= least,
            Bar::AtMost(most) => value <= most,
        }
    }

    fn json(self, value: f64) -> Value {
        match self {
            Bar::AtLeast(least) => json!({"at_least": least, "met": self.met(value)}),
            Bar::AtMost(most) => json!({"at_most": most, "met": self.met(value)}),
        }
    }
}

/// One figure.
#[derive(Clone, PartialEq, Debug)]
pub struct Metric {
    /// Its key.
    pub key: String,
    /// Its value: over repeats, the median.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// Its spread over repeats.
    pub interval: Option<Interval>,
    /// Its 95 % confidence interval, where the figure is an estimate: the bounds.
    pub confidence: Option<(f64, f64)>,
    /// What else was measured in the same run to compare it with, and that one's value.
    pub baseline: Option<(String, f64)>,
}

impl Metric {
    /// A figure without repeats.
    pub fn single(key: &str, value: f64, unit: &'static str) -> Self {
        Self {
            key: key.to_owned(),
            value,
            unit,
            interval: None,
            confidence: None,
            baseline: None,
        }
    }

    /// A mean, with its interval.
    pub fn estimated(key: &str, estimate: Estimate, unit: &'static str) -> Self {
        Self {
            confidence: estimate.low.zip(estimate.high),
            ..Self::single(key, estimate.mean.unwrap_or(f64::NAN), unit)
        }
    }

    /// The median of repeats, with their spread.
    pub fn repeated(key: &str, interval: Interval, unit: &'static str) -> Self {
        Self {
            interval: Some(interval),
            ..Self::single(key, interval.median, unit)
        }
    }

    /// Beside what it stands.
    #[must_use]
    pub fn beside(mut self, what: &str, value: f64) -> Self {
        self.baseline = Some((what.to_owned(), value));
        self
    }
}

/// All that a scenario found.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    /// The scenario's name.
    pub name: &'static str,
    /// Whether the workload was cut down; bars are set for the full one.
    pub quick: bool,
    /// Whether the plays are made up.
    pub simulated: bool,
    /// Its figures.
    pub metrics: Vec<Metric>,
    /// How often each was taken.
    pub repeats: usize,
    /// What it ran on, in words: simulated or real data, and how much.
    pub workload: String,
}

impl Outcome {
    /// The object, with machine, commit and date of now. A bar whose figure is missing is not met.
    /// Those of `on_real_data` are not judged by simulated plays, whatever these show.
    pub fn json(
        &self,
        asked: &BTreeMap<String, Bar>,
        on_real_data: &BTreeMap<String, Bar>,
    ) -> Value {
        let mut metrics = Map::new();
        let (mut bars, mut baselines) = (Map::new(), Map::new());
        let (mut ratios, mut intervals) = (Map::new(), Map::new());
        for metric in &self.metrics {
            let mut entry = json!({"value": metric.value, "unit": metric.unit});
            if let Some(interval) = metric.interval {
                entry["interval"] = json!(interval);
                intervals.insert(metric.key.clone(), json!(interval));
            }
            if let Some((low, high)) = metric.confidence {
                let interval = json!({"low": low, "high": high, "confidence": 0.95});
                entry["interval"] = interval.clone();
                intervals.insert(metric.key.clone(), interval);
            }
            if let Some((what, value)) = &metric.baseline {
                let ratio = metric.value / value;
                entry["baseline"] = json!({"what": what, "value": value});
                entry["ratio"] = json!(ratio);
                baselines.insert(metric.key.clone(), json!({"what": what, "value": value}));
                ratios.insert(metric.key.clone(), json!(ratio));
            }
            metrics.insert(metric.key.clone(), entry);
        }
        for (key, bar) in asked.iter().chain(on_real_data) {
            let found = self.metrics.iter().find(|metric| metric.key == *key);
            let value = found.map_or(f64::NAN, |metric| metric.value);
            let mut judged = bar.json(value);
            if self.simulated && on_real_data.contains_key(key) {
                judged["met"] = Value::Null;
                judged["not_applicable"] = json!("asked of real data; these plays are simulated");
            }
            bars.insert(key.clone(), judged);
        }
        let mut object = json!({
            "name": self.name,
            "quick": self.quick,
            "simulated": self.simulated,
            "workload": self.workload,
            "metrics": metrics,
            "bars": bars,
            "baseline": baselines,
            "ratio": ratios,
            "interval": intervals,
            "repeats": self.repeats,
            "machine": Machine::here(),
            "commit": commit(),
            "date": date(),
        });
        for metric in &self.metrics {
            object[&metric.key] = json!(metric.value);
        }
        object
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_the_bars_are_keys_of_the_object() {
        let interval = Interval::of(&[9.0, 10.0, 11.0]).unwrap();
        let outcome = Outcome {
            name: "some",
            quick: true,
            simulated: true,
            metrics: vec![
                Metric::repeated("rows_per_s", interval, "rows/s").beside("csv", 5.0),
                Metric::single("max_rss_mib", 2.0, "MiB"),
            ],
            repeats: 3,
            workload: "simulated".to_owned(),
        };
        let asked = BTreeMap::from([
            ("rows_per_s".to_owned(), Bar::AtLeast(10.5)),
            ("max_rss_mib".to_owned(), Bar::AtMost(2.0)),
            ("forgotten".to_owned(), Bar::AtMost(2.0)),
        ]);
        let object = outcome.json(&asked, &BTreeMap::new());
        assert_eq!(object["rows_per_s"], 10.0);
        assert_eq!(object["ratio"]["rows_per_s"], 2.0);
        assert_eq!(object["metrics"]["rows_per_s"]["unit"], "rows/s");
        assert_eq!(object["bars"]["rows_per_s"]["met"], false);
        assert_eq!(object["bars"]["max_rss_mib"]["met"], true);
        assert_eq!(object["bars"]["forgotten"]["met"], false);
        assert!(
            !Bar::AtLeast(0.0).met(f64::NAN),
            "what is no number meets nothing"
        );
        assert!(!object.to_string().contains('\n'));
    }

    #[test]
    fn a_bar_of_real_data_is_not_judged_by_simulated_plays() {
        let mut outcome = Outcome {
            name: "some",
            quick: false,
            simulated: true,
            metrics: vec![Metric::single("delta", 0.1, "share of plays")],
            repeats: 1,
            workload: String::new(),
        };
        let asked = BTreeMap::from([("delta".to_owned(), Bar::AtLeast(0.0))]);
        let object = outcome.json(&BTreeMap::new(), &asked);
        assert_eq!(object["delta"], 0.1);
        assert_eq!(object["simulated"], true);
        let bar = &object["bars"]["delta"];
        assert!(bar["met"].is_null() && bar["not_applicable"].is_string());
        outcome.simulated = false;
        let bar = outcome.json(&BTreeMap::new(), &asked)["bars"]["delta"].take();
        assert_eq!(bar, json!({"at_least": 0.0, "met": true}));
    }
}
