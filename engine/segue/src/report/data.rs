//! Everything a run can say about itself.

use segue_catalog::durations::DurationReport;
use segue_recommend::prequential::PrequentialReport;
use serde::{Deserialize, Serialize};

use super::distributions::{Completion, Latency, SessionLengths};

/// A whole run. `Report::default()` is a valid report of nothing.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// What the page is called.
    pub title: String,
    /// Segue's version.
    pub version: String,
    /// The commit it was built from, if known.
    pub commit: Option<String>,
    /// The root seed: every generator of the run stems from it.
    pub seed: u64,
    /// What was read.
    pub input: Input,
    /// What it ran on.
    pub machine: Machine,
    /// How many of what.
    pub counts: Counts,
    /// What the run did, in order.
    pub phases: Vec<Phase>,
    /// How fast, one series per phase that was watched.
    pub throughput: Vec<Throughput>,
    /// From reading an event to its prediction.
    pub latency: Latency,
    /// How long sessions were.
    pub sessions: SessionLengths,
    /// How much of each track was heard.
    pub completion: Completion,
    /// How far estimated track lengths are from stated ones; `None` if no event states one.
    pub durations: Option<DurationReport>,
    /// How well each recommender predicted; `None` if nothing was evaluated.
    pub prequential: Option<PrequentialReport>,
    /// Whose lead is the headline; `None` if there is none to state.
    pub headline: Option<Headline>,
    /// Training curves.
    pub curves: Vec<Curve>,
    /// What became of each adapter.
    pub adapters: Vec<Adapter>,
    /// What a reader must know besides: each a sentence.
    pub notes: Vec<String>,
}

/// What was read.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Input {
    /// Which files or which generator, in words.
    pub description: String,
    /// Whether the listens were made up: every figure is then labelled.
    pub simulated: bool,
    /// Earliest event time, in milliseconds since 1970.
    pub from: Option<i64>,
    /// Latest event time.
    pub to: Option<i64>,
}

/// What it ran on.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Machine {
    /// The device of the models, in words.
    pub device: String,
    /// Why this one.
    pub reason: String,
    /// Threads that the models may use.
    pub threads: usize,
}

/// How many of what.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counts {
    /// Records read from the log.
    pub records: u64,
    /// Rows the reader refused and kept in the rejects file.
    pub rejects: u64,
    /// Records that could not be decoded and were kept with the reason.
    pub dead_letters: u64,
    /// Plays taken in.
    pub plays: u64,
    /// Exact duplicates, dropped.
    pub duplicates: u64,
    /// Plays behind the watermark but inside the allowed lateness.
    pub late: u64,
    /// Plays later than that: kept apart.
    pub too_late: u64,
    /// Listeners.
    pub listeners: u64,
    /// Tracks.
    pub tracks: u64,
    /// Tracks that got a text vector.
    pub tracks_encoded: u64,
    /// Tracks whose text could not be encoded.
    pub tracks_failed: u64,
    /// Sessions closed.
    pub sessions_closed: u64,
    /// Sessions taken back and corrected because of late plays.
    pub sessions_retracted: u64,
    /// Tracks whose length could be estimated from the gaps after them.
    pub durations_estimated: u64,
    /// Predictions made.
    pub predictions: u64,
}

/// One part of the run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Phase {
    /// What it did.
    pub name: String,
    /// How long it took.
    pub seconds: f64,
    /// How many of what it went through, where that can be counted: `(186_160, "events")`.
    pub amount: Option<(u64, String)>,
}

/// How far a phase had come, and when.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Throughput {
    /// The phase.
    pub phase: String,
    /// What is counted, in the plural: `events`.
    pub unit: String,
    /// Seconds since the phase began, and how many were done by then. Both ascend.
    pub points: Vec<(f64, u64)>,
}

/// The pair of recommenders whose difference is the headline: it must be among those compared.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Headline {
    /// The one that keeps learning.
    pub online: String,
    /// The same, frozen.
    pub frozen: String,
}

/// A training curve.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Curve {
    /// Whose training; curves of one model share a plot.
    pub model: String,
    /// Which quantity: `training loss`.
    pub name: String,
    /// Step and value.
    pub points: Vec<(u64, f64)>,
}

/// One published adapter.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Adapter {
    /// Whose.
    pub model: String,
    /// Which version.
    pub version: u64,
    /// The epoch at whose barrier it came into use.
    pub epoch: u64,
    /// Examples it had learnt from.
    pub examples: u64,
    /// The mean loss of its step, before it.
    pub loss: Option<f64>,
    /// What became of it, in a word or two: `in use`, `rolled back`.
    pub fate: String,
}

impl Report {
    /// The label that every figure must carry, if any.
    pub fn label(&self) -> Option<&'static str> {
        self.input.simulated.then_some("simulated")
    }
}
