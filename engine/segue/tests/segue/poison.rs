//! Poison in a real topic, read as somebody would who looks after it: with Kafka's own client. Every bad
//! record is in the dead-letter topic once, with its reason, lane, offset and bytes; what is good around
//! it counts as if nothing had happened.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use segue::commands::run::{Backend, Run};
use segue::config::Config;
use segue::http::Phase;
use segue_flow::{Epoch, OutRecord, Sink};
use segue_kafka::broker::Broker;
use segue_kafka::{Guarantee, KafkaSink, Settings, topics};
use segue_listen::wire;
use segue_recommend::stage::RunSummary;

use crate::rig;

const PLAYS: usize = 600;
const LANES: u32 = 2;
/// What the topic of listens takes, by somebody's decision who is not us.
const HUGE: usize = 12 << 20;

type Headed<'a> = (
    Option<&'a [u8]>,
    Option<&'a [u8]>,
    &'a [(&'a str, &'a [u8])],
);

/// A record as a client sees it.
#[derive(Debug)]
struct Seen {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: BTreeMap<String, Vec<u8>>,
}

impl Seen {
    fn of(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().into_iter().flat_map(Headers::iter);
        Self {
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers
                .map(|h| (h.key.to_owned(), h.value.unwrap_or_default().to_vec()))
                .collect(),
        }
    }

    fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).map_or(&b""[..], Vec::as_slice);
        std::str::from_utf8(value).unwrap()
    }
}

/// All committed records of a topic, by Kafka's own client.
fn seen(brokers: &str, topic: &str) -> Vec<Seen> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "somebody")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..LANES {
        list.add_partition_offset(topic, partition as i32, Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&list).unwrap();
    let (mut seen, mut ended) = (Vec::new(), 0);
    while ended < LANES {
        match consumer.poll(Duration::from_secs(10)) {
            Some(Ok(message)) => seen.push(Seen::of(&message)),
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(error)) => panic!("{topic}: {error}"),
            None => panic!("{topic}: its end does not come"),
        }
    }
    seen
}

fn config(broker: &Broker, folder: &std::path::Path, name: &str) -> Config {
    let mut config = rig::config(folder);
    config.stream.lanes = LANES;
    config.stream.topic = format!("{name}-listens");
    config.kafka.brokers = broker.address();
    config.kafka.group = name.to_owned();
    rig::name_outputs(&mut config, name);
    let topic = Settings {
        max_record_bytes: HUGE,
        ..config.kafka.clone()
    };
    topics::ensure_topic(&topic, &config.stream.topic, LANES).unwrap();
    config
}

/// Good listens in order, and one poisoned record after each portion of them.
fn feed(config: &Config, poison: &[Headed<'_>]) {
    let settings = Settings {
        max_record_bytes: HUGE,
        ..config.kafka.clone()
    };
    let mut sink = KafkaSink::open(&settings, &Guarantee::Idempotent, None).unwrap();
    sink.begin(Epoch(0)).unwrap();
    let mut write = |(key, value, headers): Headed<'_>| {
        sink.write(OutRecord {
            topic: &config.stream.topic,
            partition: None,
            key,
            value,
            headers,
            at: None,
        })
        .unwrap();
    };
    let mut poison = poison.iter();
    for (listen, n) in rig::listens(PLAYS).iter().zip(1..) {
        let mut value = Vec::new();
        wire::encode(listen.borrowed(), config.stream.format, &mut value).unwrap();
        write((Some(listen.user.as_bytes()), Some(&value), &[]));
        if n % 20 == 0
            && let Some(bad) = poison.next()
        {
            write(*bad);
        }
    }
    assert_eq!(poison.next().map(|_| ()), None, "all of it is among them");
    sink.commit(Epoch(0), &[]).unwrap();
}

fn run(config: &Config) -> RunSummary {
    let run = Run {
        on: Backend::Kafka,
        until_end: true,
        ..Run::default()
    };
    run.engine(config, Arc::default(), &Phase::default())
        .unwrap()
}

#[test]
fn each_poisoned_record_is_a_dead_letter_once_with_all_it_came_with() {
    let broker = Broker::shared().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = config(&broker, folder.path(), "poison");
    let future = br#"{"v":9,"who":"a later Segue"}"#;
    let nan = br#"{"v":1,"user":"u","title":"t","at_ms":1234567890000,"played_ms":NaN}"#;
    let far = br#"{"v":1,"user":"u","title":"t","at_ms":9223372036854775807}"#;
    let long = vec![b'k'; 100_000];
    let bad: Vec<(Headed<'_>, &str)> = vec![
        ((Some(b"u"), Some(b"\xc1\x00\xff"), &[]), "not a listen"),
        (
            (Some(b"u"), Some(future), &[]),
            "schema version 9 is unknown",
        ),
        ((Some(b"u"), Some(nan), &[]), "not a listen"),
        ((Some(b"u"), Some(far), &[]), "9223372036854775807 ms is"),
        ((None, Some(b"no key and no sense"), &[]), "not a listen"),
        ((Some(b""), Some(b"an empty key"), &[]), "not a listen"),
        (
            (Some(b"\xff\xfe"), Some(b"a key that is no text"), &[]),
            "not a listen",
        ),
        ((Some(&long), Some(b"a long key"), &[]), "not a listen"),
        ((Some(b"u"), Some(b""), &[]), "not a listen"),
        (
            (
                Some(b"u"),
                Some(b"<html>"),
                &[("content-type", b"text/html"), ("trace", b"7")],
            ),
            "text/html",
        ),
        (
            (
                Some(b"u"),
                Some(b"odd header"),
                &[("content-type", b"\xff\x00"), ("", b"")],
            ),
            "not a listen",
        ),
    ];
    let mut poison: Vec<Headed<'_>> = bad.iter().map(|(record, _)| *record).collect();
    // What says nothing is no poison: it is passed over.
    poison.push((Some(b"u"), None, &[]));
    poison.push((Some(b""), None, &[]));
    feed(&config, &poison);

    let summary = run(&config);
    assert_eq!(summary.stream.plays, PLAYS as u64);
    assert_eq!(summary.stream.dead_letters, bad.len() as u64);
    // Nothing is read twice, nor told twice.
    assert_eq!(run(&config).stream.dead_letters, bad.len() as u64);

    let listens = &config.stream.topic;
    let letters = seen(&config.kafka.brokers, &config.recommend.topics.dead_letters);
    assert_eq!(letters.len(), bad.len());
    for ((key, value, _), reason) in &bad {
        let letter = letters
            .iter()
            .find(|letter| letter.value.as_deref() == *value)
            .unwrap_or_else(|| panic!("{value:?} is not among {letters:?}"));
        assert_eq!(letter.key.as_deref(), *key);
        assert!(letter.header("reason").contains(reason), "{letter:?}");
        // It is where the letter says.
        let lane = letter.header("lane").parse().unwrap();
        let offset = letter.header("offset").parse().unwrap();
        let original = at(&config.kafka.brokers, listens, lane, offset);
        assert_eq!(original.value.as_deref(), *value);
        let (given, kept) = (original.headers, &letter.headers);
        assert_eq!(kept.get("content-type"), given.get("content-type"));
    }
}

/// One record of a topic, by where it lies.
fn at(brokers: &str, topic: &str, partition: i32, offset: i64) -> Seen {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "somebody")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset))
        .unwrap();
    consumer.assign(&list).unwrap();
    let message = consumer.poll(Duration::from_secs(10)).unwrap().unwrap();
    Seen::of(&message)
}

#[test]
fn ten_megabytes_are_a_dead_letter_whole_where_there_is_room_and_else_its_beginning() {
    let broker = Broker::shared().unwrap();
    let mut huge = b"\x84\xa1v\x01\xa5title\xa1t\xa5at_ms\x01\xa4user\xdb".to_vec();
    huge.extend_from_slice(&(10_u32 << 20).to_be_bytes());
    huge.resize(huge.len() + (10 << 20), b'u');
    for (name, room) in [("small", None), ("roomy", Some(HUGE))] {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(&broker, folder.path(), name);
        if let Some(room) = room {
            config.kafka.max_record_bytes = room;
        }
        feed(&config, &[(Some(b"u"), Some(&huge), &[])]);
        let summary = run(&config);
        assert_eq!(summary.stream.plays, PLAYS as u64, "{name}");
        assert_eq!(summary.stream.dead_letters, 1, "{name}");
        let letters = seen(&config.kafka.brokers, &config.recommend.topics.dead_letters);
        let [letter] = &letters[..] else {
            panic!("{name}: {} letters", letters.len());
        };
        let value = letter.value.as_deref().unwrap();
        let reason = letter.header("reason");
        assert!(reason.contains("10485760 bytes exceeds 512"), "{reason}");
        match room {
            Some(_) => assert!(value == huge, "{name}: whole"),
            None => {
                assert!(
                    !value.is_empty() && huge.starts_with(value),
                    "{name}: its beginning"
                );
                assert_eq!(letter.header("truncated-from"), huge.len().to_string());
            }
        }
    }
}
