//! Replay equals live: in this process, through the embedded log, and through real Kafka.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use segue::commands::run::{Backend, Run, output_topics};
use segue::config::Config;
use segue::http::Phase;
use segue_flow::clock::MachineClock;
use segue_flow::{Readiness, Sink, Source};
use segue_kafka::broker::Broker;
use segue_kafka::{Guarantee, KafkaSink, topics};
use segue_listen::Listen;
use segue_log::Log;
use segue_replay::state::Standing;
use segue_replay::{Delivery, DeliverySettings, InOrder};

use crate::rig;

const PLAYS: usize = 5_000;

pub fn deliver(config: &Config, listens: Vec<Listen>, sink: &mut dyn Sink) {
    let settings = DeliverySettings {
        topic: config.stream.topic.clone(),
        partitions: config.stream.lanes,
        heartbeat_ms: 0,
        ..DeliverySettings::default()
    };
    let start = Standing::start("", &settings.topic, settings.partitions);
    let total = listens.len() as u64;
    let mut stream = InOrder::new(listens.into_iter(), Some(total));
    let clock = Arc::new(MachineClock::start());
    let stop = AtomicBool::new(false);
    let delivery = Delivery::new(&settings, clock, sink, &stop, start, None).unwrap();
    assert_eq!(
        delivery.run(&mut stream, &mut |_| {}).unwrap().listens,
        total
    );
}

pub fn read_all(source: &mut dyn Source, topic: &str, records: &mut Vec<rig::Record>) {
    loop {
        let readiness = source.read(Duration::from_millis(100), &mut |record| {
            records.push((
                topic.to_owned(),
                record.key.unwrap_or_default().to_vec(),
                record.value.unwrap_or_default().to_vec(),
            ));
        });
        if readiness.unwrap() == Readiness::Ended {
            return;
        }
    }
}

fn assert_same(expected: &[rig::Record], found: &[rig::Record], config: &Config) {
    for topic in output_topics(config) {
        let (expected, found) = (rig::of_topic(expected, topic), rig::of_topic(found, topic));
        assert_eq!(expected.len(), found.len(), "records in {topic}");
        let differs = expected.iter().zip(&found).position(|(a, b)| a != b);
        assert_eq!(differs, None, "first record of {topic} that differs");
    }
}

#[test]
fn through_the_embedded_log_as_in_process() {
    let folder = tempfile::tempdir().unwrap();
    let config = rig::config(folder.path());
    let (summary, expected) = rig::in_process(&config, rig::listens(PLAYS));
    assert!(summary.predictions > 300 && summary.stream.sessions > 300);

    let log = Log::open(&config.log).unwrap();
    log.ensure_topic(&config.stream.topic, 1).unwrap();
    deliver(
        &config,
        rig::listens(PLAYS),
        &mut log.sink("replay").unwrap(),
    );
    let run = Run {
        on: Backend::Log,
        until_end: true,
        ..Run::default()
    };
    let through = run
        .engine(&config, Arc::default(), &Phase::default())
        .unwrap();
    assert_eq!(through.stream.plays, summary.stream.plays);
    assert_eq!(through.prequential, summary.prequential);
    let mut found = Vec::new();
    for topic in output_topics(&config) {
        let mut source = log.source(topic, 0, segue_log::Until::Now).unwrap();
        read_all(&mut source, topic, &mut found);
    }
    assert_same(&expected, &found, &config);
}

#[test]
fn through_kafka_as_in_process() {
    let broker = Broker::shared().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut config = rig::config(folder.path());
    config.kafka.brokers = broker.address();
    config.stream.topic = "same-answer-listens".to_owned();
    rig::name_outputs(&mut config, "same-answer");
    let (_, expected) = rig::in_process(&config, rig::listens(PLAYS));

    topics::ensure_topic(&config.kafka, &config.stream.topic, 1).unwrap();
    let mut sink = KafkaSink::open(&config.kafka, &Guarantee::Idempotent, None).unwrap();
    deliver(&config, rig::listens(PLAYS), &mut sink);
    drop(sink);
    let run = Run {
        on: Backend::Kafka,
        until_end: true,
        ..Run::default()
    };
    run.engine(&config, Arc::default(), &Phase::default())
        .unwrap();
    let found = rig::committed_on_kafka(&config, 1);
    assert_same(&expected, &found, &config);
    let committed = topics::committed(&config.kafka, &config.stream.topic).unwrap();
    assert_eq!(
        committed[0].as_ref().unwrap().offset.0,
        PLAYS as u64,
        "input offsets are committed with the work"
    );
}

#[test]
fn four_lanes_give_the_same_sessions_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let one = rig::config(folder.path());
    let mut four = one.clone();
    four.stream.lanes = 4;
    let sorted = |config: &Config| {
        let (summary, records) = rig::in_process(config, rig::listens(PLAYS));
        let mut sessions: Vec<_> = rig::of_topic(&records, "sessions")
            .into_iter()
            .map(|(key, value)| (key.to_vec(), value.to_vec()))
            .collect();
        sessions.sort();
        (summary.stream.plays, sessions)
    };
    let alone = sorted(&one);
    // Four threads, one for all, and two lanes and more on each of two.
    for threads in [0, 1, 2] {
        four.stream.threads = threads;
        assert_eq!(alone, sorted(&four), "{threads} threads");
    }
}
