//! Killed at any instant, every play is counted once: the program itself, by `kill -9`, over real Kafka
//! and over the embedded log, while listens keep coming.
//!
//! In exact mode what a run writes is a function of the plays alone. So the standard is hard: what
//! readers of committed records see after many kills is, byte for byte, what one run that nobody
//! disturbed writes; and it stays so where the newest checkpoint is damaged.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use segue::commands::run::{Backend, Run, output_topics};
use segue::config::Config;
use segue::http::Phase;
use segue_flow::clock::{MachineClock, WallClock};
use segue_flow::{Sink, Source};
use segue_kafka::broker::Broker;
use segue_kafka::{Guarantee, KafkaSink, topics};
use segue_log::Log;

use crate::rig::{self, Record};
use crate::same_answer::{deliver, read_all};

/// Kills of a short run; `SEGUE_CRASH_KILLS` asks for more.
const KILLS: usize = 10;
pub const LANES: u32 = 2;
pub const PLAYS: usize = 12_000;
/// Listens that come at once, and the pause after them.
const PORTION: usize = 200;
const PAUSE: Duration = Duration::from_millis(150);
/// How long it is waited for another checkpoint, which may not come: all may have been read.
const ANOTHER: Duration = Duration::from_secs(30);

fn kills() -> usize {
    let asked = std::env::var("SEGUE_CRASH_KILLS").ok();
    asked.and_then(|kills| kills.parse().ok()).unwrap_or(KILLS)
}

/// The program, as it is started after each kill.
pub fn program(config: &Path, backend: &str, until: Option<&str>) -> Child {
    program_on(0, config, backend, until)
}

/// The same, with its lanes on so many threads.
fn program_on(threads: usize, config: &Path, backend: &str, until: Option<&str>) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_segue"));
    command.arg("--config").arg(config);
    command.args(["run", "--on", backend]).args(until);
    command.env("SEGUE_LOG", "warn");
    command.env("SEGUE__STREAM__THREADS", threads.to_string());
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Kills the program so many times while `feed` goes on; the file of its configuration.
pub fn killed(
    config: &Config,
    folder: &Path,
    backend: &str,
    kills: usize,
    feed: impl FnOnce() + Send,
) -> PathBuf {
    let file = folder.join("segue.toml");
    std::fs::write(&file, config.to_toml().unwrap()).unwrap();
    let clock = MachineClock::start();
    std::thread::scope(|scope| {
        let feeding = scope.spawn(feed);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for kill in 0..kills {
            // What one life kept with its lanes apart, the next takes up with all on one thread.
            let mut child = program_on(kill % 2, &file, backend, None);
            // From before it has restored its state to well after its first commits.
            clock.sleep(Duration::from_millis(rng.random_range(100..2_500)));
            if let Some(status) = child.try_wait().unwrap() {
                let output = child.wait_with_output().unwrap();
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                panic!("before kill {kill} it ended by itself ({status}): {said}");
            }
            child.kill().unwrap();
            child.wait().unwrap();
        }
        feeding.join().unwrap();
    });
    file
}

/// What the program says of the whole stream, once nobody kills it any more.
pub fn finished(file: &Path, backend: &str) -> serde_json::Value {
    let output = program(file, backend, Some("--until-end"))
        .wait_with_output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Kills the program again and again while `feed` goes on, damages the newest checkpoint, then lets it
/// finish; what it says of the whole stream at its end.
fn killed_and_finished(
    config: &Config,
    folder: &Path,
    backend: &str,
    feed: impl FnOnce() + Send,
) -> serde_json::Value {
    let file = killed(config, folder, backend, kills(), feed);
    let checkpoints = Path::new(&config.checkpoint.url);
    if whole(checkpoints).len() < 2 {
        // On a machine that is busy nearly every life may have been too short.
        let clock = MachineClock::start();
        let mut child = program(&file, backend, None);
        while whole(checkpoints).len() < 2 && clock.now() < ANOTHER {
            clock.sleep(Duration::from_millis(50));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // Without another there is nothing to go back to, and the program rightly refuses.
    if whole(checkpoints).len() >= 2 {
        damage_newest(checkpoints);
    }
    finished(&file, backend)
}

/// The folders of checkpoints that have been taken to their end.
fn whole(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let folders = entries.map(|entry| entry.unwrap().path());
    folders
        .filter(|path| path.join("manifest.json").is_file())
        .collect()
}

/// Flips a bit in the newest checkpoint: the one before it has to do.
pub fn damage_newest(folder: &Path) {
    let newest = whole(folder).into_iter().max();
    let part = newest.expect("some life has taken a checkpoint");
    let part = part.join("stage");
    let mut bytes = std::fs::read(&part).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&part, bytes).unwrap();
}

/// In portions, as they come.
fn feed(config: &Config, sink: &mut dyn Sink) {
    let clock = MachineClock::start();
    for portion in rig::listens(PLAYS).chunks(PORTION) {
        deliver(config, portion.to_vec(), sink);
        clock.sleep(PAUSE);
    }
}

pub fn assert_nothing_lost(
    summary: &serde_json::Value,
    killed: &[Record],
    undisturbed: &[Record],
    config: (&Config, &Config),
) {
    assert_eq!(summary["stream"]["plays"], PLAYS, "each play once");
    let overall = &summary["prequential"]["recommenders"][0]["overall"];
    assert_eq!(overall["events"], PLAYS, "each play measured once");
    for (topic, other) in output_topics(config.0).iter().zip(output_topics(config.1)) {
        let (mut found, mut expected) = (
            rig::of_topic(killed, topic),
            rig::of_topic(undisturbed, other),
        );
        if *topic == config.0.recommend.topics.sessions {
            // Which of two lanes' sessions is told first is left open.
            found.sort_unstable();
            expected.sort_unstable();
            let plays: u64 = found.iter().map(|record| session_plays(record.1)).sum();
            assert_eq!(plays, PLAYS as u64, "plays of all sessions");
        }
        assert_eq!(found.len(), expected.len(), "records in {topic}");
        let differs = expected.iter().zip(&found).position(|(a, b)| a != b);
        assert_eq!(differs, None, "first record of {topic} that differs");
    }
    let predictions = rig::of_topic(killed, &config.0.recommend.topics.predictions);
    assert!(predictions.len() > 500, "{}", predictions.len());
}

fn session_plays(record: &[u8]) -> u64 {
    let session: serde_json::Value = rmp_serde::from_slice(record).unwrap();
    assert_eq!(session["retracted"], false);
    session["plays"].as_u64().unwrap()
}

pub fn config(folder: &Path, name: &str) -> Config {
    let mut config = rig::config(folder);
    config.stream.lanes = LANES;
    config.stream.topic = "crash-listens".to_owned();
    config.checkpoint.every = Duration::from_millis(150);
    config.checkpoint.url = folder.join(name).display().to_string();
    rig::name_outputs(&mut config, name);
    config
}

#[test]
fn kill_9_over_real_kafka_loses_and_doubles_nothing() {
    let broker = Broker::shared().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = |name: &str| {
        let mut config = config(folder.path(), name);
        config.kafka.brokers = broker.address();
        config.kafka.group = name.to_owned();
        config
    };
    let (killed, undisturbed) = (config("crash-killed"), config("crash-undisturbed"));
    topics::ensure_topic(&killed.kafka, &killed.stream.topic, LANES).unwrap();
    let summary = killed_and_finished(&killed, folder.path(), "kafka", || {
        let mut sink = KafkaSink::open(&killed.kafka, &Guarantee::Idempotent, None).unwrap();
        feed(&killed, &mut sink);
    });
    Run {
        on: Backend::Kafka,
        until_end: true,
        no_checkpoints: true,
        ..Run::default()
    }
    .engine(&undisturbed, Arc::default(), &Phase::default())
    .unwrap();
    let read = |config| rig::committed_on_kafka(config, LANES);
    let configs = (&killed, &undisturbed);
    assert_nothing_lost(&summary, &read(&killed), &read(&undisturbed), configs);
}

#[test]
fn kill_9_over_the_embedded_log_loses_and_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let killed = config(folder.path(), "crash-killed");
    let mut undisturbed = config(folder.path(), "crash-undisturbed");
    let log = Log::open(&killed.log).unwrap();
    log.ensure_topic(&killed.stream.topic, LANES).unwrap();
    let summary = killed_and_finished(&killed, folder.path(), "log", || {
        feed(&killed, &mut log.sink("replay").unwrap());
    });
    // A log of its own: what a run has committed is kept under one name.
    undisturbed.log.dir = folder.path().join("again");
    let again = Log::open(&undisturbed.log).unwrap();
    again
        .ensure_topic(&undisturbed.stream.topic, LANES)
        .unwrap();
    deliver(
        &undisturbed,
        rig::listens(PLAYS),
        &mut again.sink("replay").unwrap(),
    );
    Run {
        until_end: true,
        no_checkpoints: true,
        ..Run::default()
    }
    .engine(&undisturbed, Arc::default(), &Phase::default())
    .unwrap();
    let read = |log: &Log, config: &Config| {
        let mut records = Vec::new();
        for topic in output_topics(config) {
            for partition in 0..LANES {
                let mut source = log.source(topic, partition, segue_log::Until::Now).unwrap();
                read_all(&mut source as &mut dyn Source, topic, &mut records);
            }
        }
        records
    };
    let configs = (&killed, &undisturbed);
    let (found, expected) = (read(&log, &killed), read(&again, &undisturbed));
    assert_nothing_lost(&summary, &found, &expected, configs);
}
