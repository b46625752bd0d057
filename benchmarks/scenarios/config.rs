//! A scenario's configuration: what it is called, how large it is, what is asked of it.

use std::collections::BTreeMap;

use anyhow::Context;
use segue_benchmarks::outcome::Bar;
use serde::Deserialize;

/// One `scenario.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What it is run by.
    pub name: String,
    /// One line.
    pub help: String,
    /// What is asked of its figures, by key.
    #[serde(default)]
    pub bars: BTreeMap<String, Bar>,
    /// What is asked of them only where the log is a real one.
    #[serde(default)]
    pub bars_on_real_data: BTreeMap<String, Bar>,
    /// Sizes of the full workload.
    #[serde(default)]
    full: BTreeMap<String, u64>,
    /// Sizes of the quick one; what is missing is as in the full one.
    #[serde(default)]
    quick: BTreeMap<String, u64>,
}

impl Config {
    /// Reads one.
    pub fn read(text: &str) -> anyhow::Result<Self> {
        toml::from_str(text).context("scenario.toml")
    }

    /// Another size than the configured one, of the full and of the quick workload.
    pub fn set_size(&mut self, key: &str, value: u64) -> anyhow::Result<()> {
        let known: Vec<&str> = self.full.keys().map(String::as_str).collect();
        anyhow::ensure!(
            known.contains(&key),
            "scenario {} has no size {key}; it has {}",
            self.name,
            known.join(", ")
        );
        self.full.insert(key.to_owned(), value);
        self.quick.remove(key);
        Ok(())
    }

    /// A size.
    pub fn size(&self, key: &str, quick: bool) -> anyhow::Result<u64> {
        let quick = self.quick.get(key).filter(|_| quick);
        let size = quick.or_else(|| self.full.get(key));
        size.copied()
            .with_context(|| format!("scenario.toml of {}: [full] lacks {key}", self.name))
    }
}
