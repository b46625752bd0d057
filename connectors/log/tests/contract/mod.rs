//! What every source and sink promises, whatever stands behind them. Each check is a function over
//! a [`Connector`]; the log's and Kafka's tests call them all.

use std::time::Duration;

use segue_flow::clock::{MachineClock, WallClock};
use segue_flow::partition::partition_of;
use segue_flow::{Epoch, Offset, OutRecord, Readiness, Sink, SinkError, Source, SourceError};
use segue_listen::EventTime;

/// One way to keep records, under test.
pub trait Connector {
    /// The name for a topic of the checks, where one log serves several connectors.
    fn name(&self, short: &str) -> String {
        short.to_owned()
    }
    /// Whether offsets follow each other without gaps, also from one epoch to the next.
    fn gapless(&self) -> bool {
        true
    }
    /// Makes a topic.
    fn topic(&self, name: &str, partitions: u32);
    /// A writer.
    fn sink(&self) -> Box<dyn Sink>;
    /// A reader that ends at what is there now.
    fn bounded(&self, topic: &str, partition: u32) -> Box<dyn Source>;
    /// A reader that waits for more.
    fn following(&self, topic: &str, partition: u32) -> Box<dyn Source>;
    /// A payload size, in bytes, that it must refuse.
    fn too_large(&self) -> usize;
}

/// A record as it was seen, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub offset: u64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub content_type: Option<Vec<u8>>,
    pub at: Option<EventTime>,
}

pub const JSON: (&str, &[u8]) = ("content-type", b"application/json");
const PATIENCE: Duration = Duration::from_millis(200);

/// Runs all checks.
pub fn source_and_sink(connector: &dyn Connector) {
    every_byte_comes_back_in_order(connector);
    an_empty_partition_ends_at_once(connector);
    seek_goes_anywhere_and_on_from_there(connector);
    a_follower_waits_and_then_sees(connector);
    a_key_has_one_partition_and_it_is_kafkas(connector);
    large_is_taken_and_too_large_is_refused(connector);
    unknown_topics_are_named(connector);
    calls_out_of_order_are_misuse(connector);
}

fn every_byte_comes_back_in_order(connector: &dyn Connector) {
    let topic = &connector.name("bytes");
    connector.topic(topic, 2);
    let all: Vec<u8> = (0..=255).collect();
    let values = [None, Some(&b""[..]), Some(&all[..]), Some(b"last")];
    let keys = [None, Some(&b""[..]), Some(&all[..]), Some(b"user_000001")];
    let mut expected = Vec::new();
    let mut sink = connector.sink();
    for epoch in 1..=3 {
        sink.begin(Epoch(epoch)).unwrap();
        for (index, (value, key)) in values
            .iter()
            .flat_map(|v| keys.map(|k| (*v, k)))
            .enumerate()
        {
            let at = EventTime::from_millis(1_108_512_345_678 + index as i64);
            let headers: &[_] = if index % 2 == 0 {
                &[("other", &b"x"[..]), JSON]
            } else {
                &[]
            };
            let record = OutRecord {
                topic,
                partition: Some(1),
                key,
                value,
                headers,
                at: Some(at),
            };
            sink.write(record).unwrap();
            expected.push(Seen {
                offset: expected.len() as u64,
                key: key.map(<[u8]>::to_vec),
                value: value.map(<[u8]>::to_vec),
                content_type: (index % 2 == 0).then(|| JSON.1.to_vec()),
                at: Some(at),
            });
        }
        sink.commit(Epoch(epoch), &[]).unwrap();
    }
    let mut source = connector.bounded(topic, 1);
    let mut seen = read_to_end(source.as_mut());
    if !connector.gapless() {
        seen.iter_mut()
            .zip(&expected)
            .for_each(|(seen, expected)| seen.offset = expected.offset);
    }
    assert_eq!(seen, expected);
    for _ in 0..2 {
        let again = source.read(PATIENCE, &mut |record| panic!("{record:?} after the end"));
        assert_eq!(again.unwrap(), Readiness::Ended);
    }
}

fn an_empty_partition_ends_at_once(connector: &dyn Connector) {
    let topic = &connector.name("empty");
    connector.topic(topic, 1);
    assert_eq!(read_to_end(connector.bounded(topic, 0).as_mut()), []);
}

fn seek_goes_anywhere_and_on_from_there(connector: &dyn Connector) {
    let topic = &connector.name("seek");
    connector.topic(topic, 1);
    write_numbers(connector.sink().as_mut(), topic, 0..1000);
    let all: Vec<u64> = (0..1000).collect();
    for to in [0, 1, 999, 1000, 500] {
        let mut source = connector.bounded(topic, 0);
        source.seek(Offset(to)).unwrap();
        assert_eq!(
            numbers(&read_to_end(source.as_mut())),
            all[to as usize..],
            "from {to}"
        );
    }
    // In the midst of reading, forwards and back: as after a crash, from the last checkpoint.
    let mut source = connector.following(topic, 0);
    let seen = read_count(source.as_mut(), 1000);
    assert_eq!(numbers(&seen), all);
    source.seek(Offset(700)).unwrap();
    assert_eq!(numbers(&read_count(source.as_mut(), 300)), all[700..]);
    source.seek(Offset(10)).unwrap();
    let seen = read_count(source.as_mut(), 990);
    assert_eq!((seen[0].offset, seen.len()), (10, 990));
}

fn a_follower_waits_and_then_sees(connector: &dyn Connector) {
    let topic = &connector.name("follow");
    connector.topic(topic, 1);
    let mut source = connector.following(topic, 0);
    let nothing = source.read(Duration::from_millis(20), &mut |record| {
        panic!("{record:?}")
    });
    assert_eq!(nothing.unwrap(), Readiness::Idle);
    let mut sink = connector.sink();
    for batch in 0..3 {
        write_numbers(sink.as_mut(), topic, batch * 10..batch * 10 + 10);
        let seen = read_count(source.as_mut(), 10);
        assert_eq!(
            numbers(&seen),
            (batch * 10..batch * 10 + 10).collect::<Vec<_>>()
        );
        // Between two transactions stand marks, which nobody reads.
        let (position, end) = (source.position().0, source.end().unwrap().0);
        assert!((position..=position + 2).contains(&end), "{position} {end}");
    }
    let read = source.position();
    write_numbers(sink.as_mut(), topic, 30..40);
    // A client that fetches ahead learns of it by itself.
    for _ in 0..50 {
        if source.end().unwrap().0 >= read.0 + 10 {
            return;
        }
        MachineClock::start().sleep(PATIENCE / 10);
    }
    panic!("an end of {:?}, ten records behind {read:?}", source.end());
}

fn a_key_has_one_partition_and_it_is_kafkas(connector: &dyn Connector) {
    const PARTITIONS: u32 = 5;
    let topic = &connector.name("keys");
    connector.topic(topic, PARTITIONS);
    let mut sink = connector.sink();
    sink.begin(Epoch(1)).unwrap();
    let keys: Vec<String> = (0..200).map(|user| format!("user_{user:06}")).collect();
    for key in keys.iter().chain(&keys) {
        let key = Some(key.as_bytes());
        let record = OutRecord {
            topic,
            partition: None,
            key,
            value: key,
            headers: &[],
            at: None,
        };
        sink.write(record).unwrap();
    }
    sink.commit(Epoch(1), &[]).unwrap();
    let mut seen = 0;
    for partition in 0..PARTITIONS {
        for record in read_to_end(connector.bounded(topic, partition).as_mut()) {
            assert_eq!(partition_of(&record.key.unwrap(), PARTITIONS), partition);
            seen += 1;
        }
    }
    assert_eq!(seen, 400);
}

fn large_is_taken_and_too_large_is_refused(connector: &dyn Connector) {
    let topic = &connector.name("large");
    connector.topic(topic, 1);
    let mut sink = connector.sink();
    sink.begin(Epoch(1)).unwrap();
    // Of noise, so that no compression makes it small.
    let mut state = 1_u32;
    let mut noise = |length| -> Vec<u8> {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..length).map(|_| next()).collect()
    };
    let large = noise(1 << 20);
    let too_large = noise(connector.too_large());
    let record = |value| OutRecord {
        topic,
        partition: Some(0),
        key: None,
        value: Some(value),
        headers: &[],
        at: None,
    };
    sink.write(record(b"before")).unwrap();
    sink.write(record(&large)).unwrap();
    match sink.write(record(&too_large)).unwrap_err() {
        SinkError::TooLarge {
            topic: named, size, ..
        } => {
            assert_eq!(&named, topic);
            assert!(size >= too_large.len());
        }
        other => panic!("{other}"),
    }
    // The epoch is still good.
    sink.write(record(b"after")).unwrap();
    sink.commit(Epoch(1), &[]).unwrap();
    let seen = read_to_end(connector.bounded(topic, 0).as_mut());
    let values: Vec<_> = seen
        .iter()
        .map(|record| record.value.as_deref().unwrap())
        .collect();
    assert_eq!(values, [&b"before"[..], &large, b"after"]);
}

fn unknown_topics_are_named(connector: &dyn Connector) {
    let mut sink = connector.sink();
    sink.begin(Epoch(1)).unwrap();
    let topic = "nobody-made-this";
    let record = OutRecord {
        topic,
        partition: None,
        key: None,
        value: None,
        headers: &[],
        at: None,
    };
    // At the write or at the commit, but before anyone could think it written.
    let error = sink
        .write(record)
        .and_then(|()| sink.commit(Epoch(1), &[]))
        .unwrap_err();
    assert!(matches!(error, SinkError::Refused { .. }), "{error:?}");
    assert!(error.to_string().contains(topic), "{error}");
}

fn calls_out_of_order_are_misuse(connector: &dyn Connector) {
    let topic = &connector.name("order");
    connector.topic(topic, 1);
    let mut sink = connector.sink();
    let record = OutRecord {
        topic,
        partition: None,
        key: None,
        value: Some(b"x"),
        headers: &[],
        at: None,
    };
    assert!(matches!(sink.write(record), Err(SinkError::Misuse(_))));
    assert!(matches!(
        sink.commit(Epoch(1), &[]),
        Err(SinkError::Misuse(_))
    ));
    sink.begin(Epoch(1)).unwrap();
    assert!(matches!(sink.begin(Epoch(2)), Err(SinkError::Misuse(_))));
    assert!(matches!(
        sink.commit(Epoch(2), &[]),
        Err(SinkError::Misuse(_))
    ));
    sink.write(record).unwrap();
    sink.commit(Epoch(1), &[]).unwrap();
    assert_eq!(read_to_end(connector.bounded(topic, 0).as_mut()).len(), 1);
}

/// Writes one epoch of numbers as text, to partition 0.
pub fn write_numbers(sink: &mut dyn Sink, topic: &str, numbers: std::ops::Range<u64>) {
    let epoch = Epoch(numbers.end);
    sink.begin(epoch).unwrap();
    for number in numbers {
        let value = number.to_string();
        let record = OutRecord {
            topic,
            partition: Some(0),
            key: Some(b"key"),
            value: Some(value.as_bytes()),
            headers: &[],
            at: None,
        };
        sink.write(record).unwrap();
    }
    sink.commit(epoch, &[]).unwrap();
}

/// The numbers that [`write_numbers`] wrote.
pub fn numbers(seen: &[Seen]) -> Vec<u64> {
    let number = |seen: &Seen| {
        String::from_utf8(seen.value.clone().unwrap())
            .unwrap()
            .parse()
    };
    seen.iter().map(|seen| number(seen).unwrap()).collect()
}

/// All records up to the end of a bounded source.
pub fn read_to_end(source: &mut dyn Source) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut idle = 0;
    while try_read(source, &mut seen).unwrap() != Readiness::Ended {
        idle += 1;
        assert!(
            idle < 1000,
            "a bounded source does not end; {} records seen",
            seen.len()
        );
    }
    seen
}

/// So many records.
pub fn read_count(source: &mut dyn Source, count: usize) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut calls = 0;
    while seen.len() < count {
        try_read(source, &mut seen).unwrap();
        calls += 1;
        assert!(
            calls < 1000,
            "{} of {count} records after {calls} reads",
            seen.len()
        );
    }
    seen
}

/// One read, appended to `seen`.
pub fn try_read(source: &mut dyn Source, seen: &mut Vec<Seen>) -> Result<Readiness, SourceError> {
    source.read(PATIENCE, &mut |record| {
        let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        let offset = record.offset.0;
        assert!(
            seen.last().is_none_or(|last| last.offset < offset),
            "offsets go forward"
        );
        seen.push(Seen {
            offset,
            key: owned(record.key),
            value: owned(record.value),
            content_type: owned(record.content_type.get()),
            at: record.logged_at,
        });
    })
}
