//! A signal drains within a time: what could not be committed by then is read again.

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use segue::config::Config;
use segue_flow::clock::{MachineClock, WallClock};
use segue_kafka::broker::Broker;
use segue_kafka::{Guarantee, KafkaSink, topics};

use crate::crash::program;
use crate::rig;
use crate::same_answer::deliver;

const PLAYS: usize = 2_000;
const PATIENCE: Duration = Duration::from_secs(60);

pub fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args([format!("-{name}"), child.id().to_string()])
        .status();
    assert!(status.unwrap().success());
}

/// How it ended, and what it said.
pub fn ended(mut child: Child, within: Duration) -> (ExitStatus, String) {
    let clock = MachineClock::start();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            let mut said = String::new();
            (child.stderr.take().unwrap())
                .read_to_string(&mut said)
                .unwrap();
            return (status, said);
        }
        if clock.now() > within {
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            panic!(
                "it goes on after {within:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        clock.sleep(Duration::from_millis(20));
    }
}

/// An address that nobody listens on.
pub fn free_address() -> SocketAddr {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    held.local_addr().unwrap()
}

/// A counter or gauge without labels; 0 while nobody answers.
pub fn metric(address: SocketAddr, name: &str) -> f64 {
    let metrics = rig::ask(address, "/metrics").unwrap_or_default();
    rig::metric(&metrics, name).unwrap_or(0.0)
}

/// Waits until a metric is at least so much.
#[track_caller]
pub fn await_metric(address: SocketAddr, name: &str, least: f64) {
    let clock = MachineClock::start();
    while metric(address, name) < least {
        let is = metric(address, name);
        assert!(clock.now() < PATIENCE, "{name} is {is}, not {least}");
        clock.sleep(Duration::from_millis(50));
    }
}

/// The program, once it has read everything.
fn at_work(config: &Config, file: &Path) -> Child {
    let mut child = program(file, "kafka", None);
    let address = config.http.listen.unwrap();
    let clock = MachineClock::start();
    while metric(address, "segue_records_read_total") < PLAYS as f64 {
        if child.try_wait().unwrap().is_some() || clock.now() > PATIENCE {
            child.kill().unwrap();
            let (status, said) = ended(child, PATIENCE);
            panic!("it has not read everything ({status}): {said}");
        }
        clock.sleep(Duration::from_millis(50));
    }
    child
}

#[test]
fn what_does_not_drain_in_time_ends_with_an_error_and_nothing_is_lost() {
    let mut broker = Broker::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut config = rig::config(folder.path());
    config.stream.topic = "drain-listens".to_owned();
    // In exact mode the newest plays wait for what may come before them.
    config.recommend.exact = false;
    config.kafka.brokers = broker.address();
    config.kafka.group = "drain".to_owned();
    config.http.listen = Some(free_address());
    // Nothing is committed before the end; a transaction may stay open four times as long.
    config.checkpoint.every = Duration::from_secs(200);
    topics::ensure_topic(&config.kafka, &config.stream.topic, 1).unwrap();
    let mut sink = KafkaSink::open(&config.kafka, &Guarantee::Idempotent, None).unwrap();
    deliver(&config, rig::listens(PLAYS), &mut sink);
    drop(sink);
    let file = folder.path().join("segue.toml");
    let write = |config: &Config| std::fs::write(&file, config.to_toml().unwrap()).unwrap();

    // The broker is gone: what was read cannot be committed.
    config.stream.drain_within = Duration::from_secs(2);
    write(&config);
    let child = at_work(&config, &file);
    broker.kill();
    let clock = MachineClock::start();
    signal(&child, "TERM");
    let (status, said) = ended(child, PATIENCE);
    assert_eq!(status.code(), Some(75), "{said}");
    assert!(
        said.contains("stream.drain_within") && said.contains("read again"),
        "{said}"
    );
    let took = clock.now();
    assert!(
        (Duration::from_secs(2)..Duration::from_secs(10)).contains(&took),
        "{took:?}"
    );

    // Where there is more time, a second signal ends it at once.
    broker.restart().unwrap();
    config.stream.drain_within = Duration::from_secs(3_600);
    write(&config);
    let child = at_work(&config, &file);
    broker.kill();
    signal(&child, "TERM");
    clock.sleep(Duration::from_millis(500));
    let clock = MachineClock::start();
    signal(&child, "INT");
    let (status, said) = ended(child, PATIENCE);
    assert_eq!(status.code(), Some(130), "{said}");
    assert!(clock.now() < Duration::from_secs(2), "{:?}", clock.now());

    // In its time it drains well, and everything is there once.
    broker.restart().unwrap();
    let child = at_work(&config, &file);
    signal(&child, "TERM");
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["stream"]["plays"], PLAYS);
    let output = program(&file, "kafka", Some("--until-now"))
        .wait_with_output()
        .unwrap();
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["stream"]["records"], PLAYS, "nothing was left");
}
