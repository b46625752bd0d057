//! The engine, in a process of its own: its memory is to be nobody else's. It is `segue run` but for
//! the recommender on top, and tells once a second how far it is.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow};
use segue::commands::run::{counting, counting_recommenders, output_topics};
use segue::config::Config;
use segue::http::record_metrics;
use segue::pipeline::{self, Pipeline};
use segue::watch::RunWatcher;
use segue_flow::Source;
use segue_flow::barrier::BarrierCall;
use segue_flow::checkpoint::CheckpointStore;
use segue_flow::clock::{MachineClock, WallClock};
use segue_flow::lane::{AtEnd, LaneSettings};
use segue_flow::names::Name;
use segue_kafka::{Guarantee, KafkaSink, KafkaSource, Until, topics};
use segue_recommend::rules::SequentialRules;
use segue_recommend::stage::Checkpointing;
use serde::{Deserialize, Serialize};

use super::slow::Slow;

/// How long a transaction may stay open.
const OPEN_FOR: Duration = Duration::from_secs(60);
/// Successors that the rules inside the slow model remember of a track, as a run's own do.
const SUCCESSORS: usize = 100;
/// How often it tells.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// One line of its output.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// Plays taken in so far.
    Plays(u64),
    /// The last line.
    Over(Over),
}

/// What became of a run.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Over {
    pub plays: u64,
    /// Answers given.
    pub answered: u64,
    /// Of them by the slow model.
    pub answered_by_slow: u64,
    /// Plays whose listener was answered after a newer one.
    pub answered_later: u64,
    pub not_measured: u64,
    /// Epochs committed, each with a checkpoint.
    pub epochs: u64,
    pub sessions: u64,
    /// How long lanes waited for the recommending stage.
    pub blocked_seconds: f64,
    /// How long from reading a play to the answer, half of the plays and nearly all of them.
    pub latency_ms: (f64, f64),
}

/// Runs for so long under the configuration in `file`, with a model for whose questions `cost` each is
/// taken on top.
pub fn child(file: &Path, seconds: u64, cost: Duration) -> anyhow::Result<()> {
    let config = Config::load(Some(file))?;
    let metrics = record_metrics()?;
    let (kafka, topic) = (&config.kafka, &config.stream.topic);
    for topic in output_topics(&config) {
        topics::ensure_topic(kafka, topic, config.stream.lanes)?;
    }
    let guarantee = Guarantee::Transactional {
        id: "soak".to_owned(),
        open_for: OPEN_FOR,
    };
    let sink = KafkaSink::open(kafka, &guarantee, Some(topic))?;
    let open = |lane| {
        let source = KafkaSource::open(kafka, topic, lane, Until::Forever)?;
        Ok(Box::new(source) as Box<dyn Source>)
    };
    let sources = (0..config.stream.lanes).map(open);
    let sources = sources.collect::<anyhow::Result<Vec<_>>>()?;
    let clock = Arc::new(MachineClock::start());
    let (watcher, seen) = RunWatcher::new(0, clock.clone())?;
    let mut recommenders = counting_recommenders();
    let slow = Slow::around(SequentialRules::new(SUCCESSORS, 1.0), cost);
    recommenders.insert(0, Box::new(slow));

    let stop = Arc::new(AtomicBool::new(false));
    let plays = || seen.lock().unwrap_or_else(PoisonError::into_inner).plays;
    let pipeline = Pipeline {
        lane: LaneSettings {
            at_end: AtEnd::Leave,
            ..config.lane()
        },
        recommenders,
        checkpointing: Some(Checkpointing {
            store: CheckpointStore::open(&config.checkpoint)?,
            call: BarrierCall::default(),
            every: config.checkpoint.every,
            topic: topic.clone(),
            fixed: std::collections::BTreeMap::new(),
        }),
        watcher: Box::new(watcher),
        clock: clock.clone(),
        stop: stop.clone(),
        ..counting(&config, sources, Box::new(sink))
    };
    let summary = std::thread::scope(|scope| {
        scope.spawn(|| {
            let until = clock.now() + Duration::from_secs(seconds);
            while clock.now() < until && !stop.load(Ordering::Relaxed) {
                clock.sleep(TELL_EVERY);
                tell(&Told::Plays(plays()));
            }
            stop.store(true, Ordering::Relaxed);
        });
        pipeline::run(pipeline)
    })?;
    let slow = summary.rungs.iter().find(|rung| rung.name == "slow");
    let slow = slow.context("the summary does not know the slow model")?;
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let latency = |share| seen.latency.value_at_quantile(share) as f64 / 1_000.0;
    tell(&Told::Over(Over {
        plays: summary.stream.plays,
        answered: summary.predictions,
        answered_by_slow: slow.counts.answered,
        answered_later: summary.stream.answered_later,
        not_measured: summary.stream.not_measured,
        epochs: counted(&metrics.render(), Name::Epochs.as_str(), "")?,
        sessions: summary.stream.sessions,
        blocked_seconds: counted(
            &metrics.render(),
            &format!("{}_sum", Name::QueueBlocked.as_str()),
            "queue=\"lanes\"",
        )?,
        latency_ms: (latency(0.5), latency(0.99)),
    }));
    Ok(())
}

fn tell(told: &Told) {
    match serde_json::to_string(told) {
        Ok(line) => println!("{line}"),
        Err(error) => eprintln!("{told:?} cannot be told: {error}"),
    }
}

/// A figure in the text of all metrics.
fn counted<T: std::str::FromStr>(text: &str, name: &str, label: &str) -> anyhow::Result<T> {
    let line = text.lines().find(|line| {
        let named = line.split(['{', ' ']).next() == Some(name);
        named && line.contains(label)
    });
    let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    value.ok_or_else(|| anyhow!("the metrics do not tell {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_found_by_its_whole_name_and_its_label() {
        let text = "# HELP a_sum what\na_sum_of{queue=\"x\"} 1\na_sum{queue=\"y\"} 2\n\
                    a_sum{queue=\"x\"} 3.5\nb 7\n";
        assert_eq!(counted::<f64>(text, "a_sum", "queue=\"x\"").unwrap(), 3.5);
        assert_eq!(counted::<u64>(text, "b", "").unwrap(), 7);
        assert!(counted::<u64>(text, "c", "").is_err());
    }
}
