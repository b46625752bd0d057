//! A topic that somebody else keyed: noticed before it does harm, and mended.

use std::sync::Arc;

use clap::Parser;
use segue::commands::Cli;
use segue::commands::run::Run;
use segue::config::Config;
use segue::http::Phase;
use segue_flow::{Epoch, OutRecord, Sink};
use segue_listen::wire;
use segue_log::Log;

use crate::rig;

const PLAYS: usize = 2_000;
const PARTITIONS: u32 = 3;

/// Listens without keys, and so one partition after the other.
fn foreign(config: &Config, log: &Log) {
    let mut sink = log.sink("foreign").unwrap();
    sink.begin(Epoch(0)).unwrap();
    for listen in rig::listens(PLAYS) {
        let mut value = Vec::new();
        wire::encode(listen.borrowed(), config.stream.format, &mut value).unwrap();
        sink.write(OutRecord {
            topic: &config.stream.topic,
            partition: None,
            key: None,
            value: Some(&value),
            headers: &[],
            at: None,
        })
        .unwrap();
    }
    sink.write(OutRecord {
        topic: &config.stream.topic,
        partition: None,
        key: Some(b"who"),
        value: Some(b"\xc1 no play"),
        headers: &[],
        at: None,
    })
    .unwrap();
    sink.commit(Epoch(0), &[]).unwrap();
}

#[test]
fn a_topic_keyed_otherwise_is_refused_and_rekey_mends_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = rig::config(folder.path());
    let log = Log::open(&config.log).unwrap();
    log.ensure_topic(&config.stream.topic, PARTITIONS).unwrap();
    foreign(&config, &log);
    let run = Run {
        until_end: true,
        ..Run::default()
    };
    let refused = run.engine(&config, Arc::default(), &Phase::default());
    let error = format!("{:#}", refused.unwrap_err());
    for part in [
        "topic listens",
        "plays in partition 0",
        "segue rekey listens",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }

    let file = folder.path().join("segue.toml");
    std::fs::write(&file, config.to_toml().unwrap()).unwrap();
    let rekey = || {
        let arguments = ["segue", "--config", file.to_str().unwrap(), "rekey"];
        let topics = ["listens", "listens-by-listener"];
        Cli::parse_from(arguments.into_iter().chain(topics))
            .run()
            .unwrap();
    };
    rekey();
    let ends = log.ends("listens-by-listener").unwrap();
    assert_eq!(ends.iter().sum::<u64>(), PLAYS as u64);
    assert_eq!(
        log.ends("listens.dead-letters")
            .unwrap()
            .iter()
            .sum::<u64>(),
        1
    );
    rekey();
    assert_eq!(
        log.ends("listens-by-listener").unwrap(),
        ends,
        "nothing twice"
    );

    config.stream.topic = "listens-by-listener".to_owned();
    let mended = run
        .engine(&config, Arc::default(), &Phase::default())
        .unwrap();
    let (whole, _) = rig::in_process(&config, rig::listens(PLAYS));
    assert_eq!(mended.stream.session_plays, whole.stream.session_plays);
    assert_eq!((mended.stream.plays, mended.stream.late), (PLAYS as u64, 0));
}
