//! Several instances share a topic over real Kafka, come and go in every way there is, and lanes move
//! between them with their state: what readers of committed records see is what one run writes that
//! nobody disturbed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use segue::commands::run::{Backend, Run, output_topics};
use segue::config::Config;
use segue::http::Phase;
use segue_flow::clock::{MachineClock, WallClock};
use segue_kafka::broker::Broker;
use segue_kafka::{Guarantee, KafkaSink, KafkaSource, topics};

use crate::rig::{self, Record};
use crate::same_answer::{deliver, read_all};

const LANES: u32 = 4;
const PLAYS: usize = 12_000;
/// Listens that come at once, and the pause after them: some come whatever happens.
const PORTION: usize = 40;
const PAUSE: Duration = Duration::from_millis(150);
/// How long the group may take until lanes are where they belong.
const SETTLES_WITHIN: Duration = Duration::from_secs(60);

/// A process of the program, as one instance.
struct Instance {
    name: &'static str,
    child: Child,
    said: PathBuf,
}

impl Instance {
    fn start(folder: &Path, name: &'static str) -> Self {
        let said = folder.join(format!("{name}.log"));
        let log = File::options().create(true).append(true).open(&said);
        let child = Command::new(env!("CARGO_BIN_EXE_segue"))
            .arg("--config")
            .arg(folder.join("segue.toml"))
            .args(["run", "--on", "kafka", "--instance", name])
            .env("SEGUE_LOG", "info")
            .stdout(Stdio::null())
            .stderr(log.unwrap())
            .spawn()
            .unwrap();
        Self { name, child, said }
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status();
        assert!(status.unwrap().success(), "{signal}");
    }

    fn said(&self) -> String {
        format!(
            "{}: {}",
            self.name,
            std::fs::read_to_string(&self.said).unwrap()
        )
    }

    /// By a signal, with everything worked off.
    fn end(mut self) {
        self.signal("-TERM");
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.said());
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Raises the flag when it goes, so that nobody waits for a test that has failed.
struct Raised<'a>(&'a AtomicBool);

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits until what is committed of the lanes is by these instances, each of which has some.
#[track_caller]
fn settles(config: &Config, names: &[&str], instances: &mut [&mut Instance]) {
    let clock = MachineClock::start();
    let expected: BTreeSet<&str> = names.iter().copied().collect();
    loop {
        // What is just being committed is asked for again.
        let committed = topics::committed(&config.kafka, &config.stream.topic).unwrap_or_default();
        let held: BTreeSet<&str> = committed
            .iter()
            .map(|lane| {
                lane.as_ref()
                    .and_then(|lane| lane.instance.as_deref())
                    .unwrap_or("?")
            })
            .collect();
        if held == expected {
            return;
        }
        let gone = |one: &mut &mut Instance| one.child.try_wait().unwrap().is_some();
        if clock.now() > SETTLES_WITHIN || instances.iter_mut().any(gone) {
            let said: Vec<_> = instances.iter().map(|one| one.said()).collect();
            panic!(
                "lanes are {held:?}'s and not {expected:?}'s: {}",
                said.join("\n")
            );
        }
        clock.sleep(Duration::from_millis(50));
    }
}

fn config(broker: &Broker, folder: &Path, name: &str) -> Config {
    let mut config = rig::config(folder);
    config.recommend.exact = false;
    config.stream.lanes = LANES;
    config.stream.topic = "group-listens".to_owned();
    config.checkpoint.every = Duration::from_millis(300);
    config.checkpoint.url = folder.join(name).display().to_string();
    config.kafka.brokers = broker.address();
    config.kafka.group = name.to_owned();
    config.kafka.session_timeout = Duration::from_secs(3);
    rig::name_outputs(&mut config, name);
    config
}

fn alone(config: &Config) -> u64 {
    let run = Run {
        on: Backend::Kafka,
        until_end: true,
        ..Run::default()
    };
    let summary = run.engine(config, Arc::default(), &Phase::default());
    summary.unwrap().stream.plays
}

fn read(config: &Config) -> BTreeMap<String, Vec<Record>> {
    let mut by_topic = BTreeMap::new();
    for topic in output_topics(config) {
        let mut records = Vec::new();
        for partition in 0..LANES {
            let until = segue_kafka::Until::Now;
            let mut source = KafkaSource::open(&config.kafka, topic, partition, until).unwrap();
            read_all(&mut source, "", &mut records);
        }
        records.sort_unstable();
        let output = topic.strip_prefix(&format!("{}-", config.kafka.group));
        by_topic.insert(output.unwrap().to_owned(), records);
    }
    by_topic
}

/// Plays of all sessions that stand.
fn session_plays(records: &[Record]) -> i64 {
    let plays = |record: &Record| {
        let session: serde_json::Value = rmp_serde::from_slice(&record.2).unwrap();
        let plays = session["plays"].as_i64().unwrap();
        if session["retracted"] == true {
            -plays
        } else {
            plays
        }
    };
    records.iter().map(plays).sum()
}

#[test]
fn instances_come_go_die_and_freeze_and_every_play_counts_once() {
    let broker = Broker::shared().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (shared, undisturbed) = (
        config(&broker, folder, "group-shared"),
        config(&broker, folder, "group-undisturbed"),
    );
    std::fs::write(folder.join("segue.toml"), shared.to_toml().unwrap()).unwrap();
    topics::ensure_topic(&shared.kafka, &shared.stream.topic, LANES).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let feeding = scope.spawn(|| {
            let mut sink = KafkaSink::open(&shared.kafka, &Guarantee::Idempotent, None).unwrap();
            let clock = MachineClock::start();
            let listens = rig::listens(PLAYS);
            let mut left = listens.as_slice();
            while !over.load(Ordering::Relaxed) {
                // Some are left for the end, however long all of it takes.
                if left.len() > PLAYS / 8 {
                    let (now, later) = left.split_at(PORTION);
                    deliver(&shared, now.to_vec(), &mut sink);
                    left = later;
                }
                clock.sleep(PAUSE);
            }
            deliver(&shared, left.to_vec(), &mut sink);
        });
        let _over = Raised(&over);
        let mut a = Instance::start(folder, "a");
        settles(&shared, &["a"], &mut [&mut a]);
        let mut b = Instance::start(folder, "b");
        settles(&shared, &["a", "b"], &mut [&mut a, &mut b]);
        let mut c = Instance::start(folder, "c");
        settles(&shared, &["a", "b", "c"], &mut [&mut a, &mut b, &mut c]);
        b.end();
        settles(&shared, &["a", "c"], &mut [&mut a, &mut c]);
        c.kill();
        settles(&shared, &["a"], &mut [&mut a]);
        let mut c = Instance::start(folder, "c");
        settles(&shared, &["a", "c"], &mut [&mut a, &mut c]);
        a.signal("-STOP");
        settles(&shared, &["c"], &mut [&mut c]);
        a.signal("-CONT");
        settles(&shared, &["a", "c"], &mut [&mut a, &mut c]);
        let said = a.said();
        assert!(said.contains("away for longer than a session"), "{said}");
        over.store(true, Ordering::Relaxed);
        feeding.join().unwrap();
        a.end();
        c.end();
    });
    // Goes on from the instances' checkpoints; what is left of the log is worked off, all sessions close.
    alone(&shared);
    assert_eq!(alone(&undisturbed), PLAYS as u64);

    let (found, mut expected) = std::thread::scope(|scope| {
        let found = scope.spawn(|| read(&shared));
        let expected = read(&undisturbed);
        (found.join().unwrap(), expected)
    });
    // Which of a listener's plays are answered depends on the rounds; none is answered twice.
    let predictions = &found["predictions"];
    let after = |record: &Record| {
        let prediction: serde_json::Value = rmp_serde::from_slice(&record.2).unwrap();
        (record.1.clone(), prediction["after_ms"].as_i64().unwrap())
    };
    let answered: BTreeSet<_> = predictions.iter().map(after).collect();
    assert_eq!(answered.len(), predictions.len(), "no play answered twice");
    assert!(predictions.len() > 500, "{}", predictions.len());
    expected.insert("predictions".to_owned(), predictions.clone());
    for (topic, expected) in &expected {
        let differs = expected.iter().zip(&found[topic]).position(|(a, b)| a != b);
        assert_eq!(
            (found[topic].len(), differs),
            (expected.len(), None),
            "{topic}"
        );
    }
    assert_eq!(session_plays(&found["sessions"]), PLAYS as i64);
}

#[test]
fn who_reads_alone_and_who_shares_keep_each_other_out() {
    let broker = Broker::shared().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut config = config(&broker, folder, "group-apart");
    config.stream.topic = "group-apart-listens".to_owned();
    std::fs::write(folder.join("segue.toml"), config.to_toml().unwrap()).unwrap();
    topics::ensure_topic(&config.kafka, &config.stream.topic, LANES).unwrap();
    let mut sink = KafkaSink::open(&config.kafka, &Guarantee::Idempotent, None).unwrap();
    deliver(&config, rig::listens(400), &mut sink);

    // One that reads alone, and goes on reading.
    let run = || Run {
        on: Backend::Kafka,
        ..Run::default()
    };
    std::thread::scope(|scope| {
        let reads = scope.spawn(|| run().engine(&config, Arc::default(), &Phase::default()));
        settles(&config, &["?"], &mut []);
        let clock = MachineClock::start();
        while clock.now() < SETTLES_WITHIN && alone_has_committed(&config) < 400 {
            clock.sleep(Duration::from_millis(50));
        }
        let mut a = Instance::start(folder, "a");
        settles(&config, &["a"], &mut [&mut a]);
        // Nothing new has come, so what "a" has of the lanes is the other's.
        deliver(&config, rig::listens(800)[400..].to_vec(), &mut sink);
        let error = format!("{:#}", reads.join().unwrap().unwrap_err());
        assert!(error.contains("fenced off"), "{error}");
        let error = run().engine(&config, Arc::default(), &Phase::default());
        let error = format!("{:#}", error.unwrap_err());
        assert!(
            error.contains("has 1 instances") && error.contains("--instance"),
            "{error}"
        );
        a.end();
    });
    alone(&config);
    let sessions = &read(&config)["sessions"];
    assert_eq!(
        session_plays(sessions),
        800,
        "each play once, whoever read it"
    );
}

fn alone_has_committed(config: &Config) -> u64 {
    let committed = topics::committed(&config.kafka, &config.stream.topic).unwrap_or_default();
    committed.iter().flatten().map(|lane| lane.offset.0).sum()
}

#[test]
fn what_does_not_go_with_a_group_is_refused() {
    let broker = Broker::shared().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = config(&broker, folder.path(), "group-refused");
    let refused = |run: Run, words: &str| {
        let error = run.engine(&config, Arc::default(), &Phase::default());
        let error = format!("{:#}", error.unwrap_err());
        assert!(error.contains(words), "{error}");
    };
    let run = |name: &str| Run {
        on: Backend::Kafka,
        instance: Some(name.to_owned()),
        ..Run::default()
    };
    refused(run("A b"), "kafka.instance = \"A b\"");
    let no_checkpoints = true;
    refused(
        Run {
            no_checkpoints,
            ..run("a")
        },
        "--no-checkpoints",
    );
    let until_end = true;
    refused(
        Run {
            until_end,
            ..run("a")
        },
        "--until-end",
    );
    let on = Backend::Log;
    refused(Run { on, ..run("a") }, "--instance");
}
