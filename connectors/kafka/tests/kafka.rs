//! Kafka against a real broker: the contract of all connectors, transactions, and what a broker can
//! do to its clients. All tests that overlap share one broker.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../log/tests/contract/mod.rs"]
mod contract;

use std::sync::Arc;
use std::time::Duration;

use contract::{Connector, numbers, read_count, read_to_end, write_numbers};
use rdkafka::producer::{BaseProducer, Producer};
use segue_flow::secret::Secret;
use segue_flow::{
    Epoch, LaneId, Offset, OffsetRange, OutRecord, Readiness, Sink, SinkError, Source, SourceError,
};
use segue_kafka::broker::{Broker, PASSWORD, USER};
use segue_kafka::{
    Guarantee, KafkaError, KafkaSink, KafkaSource, Mechanism, Protocol, Settings, Until, topics,
};
use segue_listen::EventTime;

struct OnBroker {
    /// Held as long as it is used.
    broker: Arc<Broker>,
    settings: Settings,
    prefix: &'static str,
    guarantee: Guarantee,
}

impl OnBroker {
    fn new(prefix: &'static str, guarantee: Guarantee) -> Self {
        let broker = Broker::shared().unwrap_or_else(|error| panic!("{error}"));
        let settings = Settings {
            brokers: broker.address(),
            group: prefix.to_owned(),
            ..Settings::default()
        };
        Self {
            broker,
            settings,
            prefix,
            guarantee,
        }
    }

    fn idempotent(prefix: &'static str) -> Self {
        Self::new(prefix, Guarantee::Idempotent)
    }

    fn transactional(prefix: &'static str) -> Self {
        Self::new(
            prefix,
            Guarantee::Transactional {
                id: prefix.to_owned(),
                open_for: Duration::from_secs(30),
            },
        )
    }

    fn writer(&self, input: Option<&str>) -> KafkaSink {
        KafkaSink::open(&self.settings, &self.guarantee, input).unwrap()
    }

    fn made(&self, short: &str, partitions: u32) -> String {
        let topic = self.name(short);
        self.topic(&topic, partitions);
        topic
    }
}

impl Connector for OnBroker {
    fn name(&self, short: &str) -> String {
        format!("{}-{short}", self.prefix)
    }

    fn gapless(&self) -> bool {
        // The marker that ends a transaction takes an offset.
        self.guarantee == Guarantee::Idempotent
    }

    fn topic(&self, name: &str, partitions: u32) {
        segue_kafka::ensure_topic(&self.settings, name, partitions).unwrap();
    }

    fn sink(&self) -> Box<dyn Sink> {
        Box::new(self.writer(None))
    }

    fn bounded(&self, topic: &str, partition: u32) -> Box<dyn Source> {
        Box::new(KafkaSource::open(&self.settings, topic, partition, Until::Now).unwrap())
    }

    fn following(&self, topic: &str, partition: u32) -> Box<dyn Source> {
        Box::new(KafkaSource::open(&self.settings, topic, partition, Until::Forever).unwrap())
    }

    fn too_large(&self) -> usize {
        self.settings.max_record_bytes + 1
    }
}

fn record<'a>(topic: &'a str, value: &'a [u8]) -> OutRecord<'a> {
    let partition = Some(0);
    OutRecord {
        topic,
        partition,
        key: None,
        value: Some(value),
        headers: &[],
        at: None,
    }
}

/// What is committed for a partition at the end of an epoch.
fn place(offset: u64, epoch: u64) -> Option<topics::Committed> {
    Some(topics::Committed {
        offset: Offset(offset),
        epoch: Some(Epoch(epoch)),
        instance: None,
    })
}

fn inputs(to: u64) -> [OffsetRange; 1] {
    [OffsetRange {
        lane: LaneId(1),
        from: Offset(0),
        to: Offset(to),
    }]
}

#[test]
fn the_contract_holds() {
    contract::source_and_sink(&OnBroker::idempotent("plain"));
}

#[test]
fn the_contract_holds_in_transactions() {
    contract::source_and_sink(&OnBroker::transactional("exact"));
}

#[test]
fn records_and_input_offsets_are_committed_together_or_not_at_all() {
    let on = OnBroker::transactional("together");
    let (input, output) = (on.made("in", 2), on.made("out", 1));
    let committed = || segue_kafka::committed(&on.settings, &input).unwrap();
    assert_eq!(committed(), [None, None]);
    let mut sink = on.writer(Some(&input));
    sink.begin(Epoch(1)).unwrap();
    sink.write(record(&output, b"0")).unwrap();
    sink.commit(Epoch(1), &inputs(10)).unwrap();
    assert_eq!(committed(), [None, place(10, 1)]);

    sink.begin(Epoch(2)).unwrap();
    sink.write(record(&output, b"999")).unwrap();
    sink.abort(Epoch(2)).unwrap();
    sink.begin(Epoch(2)).unwrap();
    sink.write(record(&output, b"1")).unwrap();
    // Two records with their markers, and this one: once the broker has it, it is there. How soon
    // is the client's and the broker's affair.
    let written = || segue_kafka::inspect(&on.settings, &output).unwrap()[0].end;
    let asked = (0..600).find(|_| {
        let there = written() >= Offset(5);
        if !there {
            std::thread::sleep(Duration::from_millis(100));
        }
        there
    });
    assert!(asked.is_some(), "{:?}", written());
    // Open, and so not to be seen; a reader to the end waits for it.
    let mut bounded = on.bounded(&output, 0);
    assert_eq!(numbers(&read_count(bounded.as_mut(), 1)), [0]);
    let mut more = Vec::new();
    assert_eq!(
        contract::try_read(bounded.as_mut(), &mut more).unwrap(),
        Readiness::Idle
    );
    assert_eq!(more, []);
    assert_eq!(committed(), [None, place(10, 1)]);
    sink.commit(Epoch(2), &inputs(20)).unwrap();
    assert_eq!(
        numbers(&read_to_end(on.bounded(&output, 0).as_mut())),
        [0, 1]
    );
    assert_eq!(committed(), [None, place(20, 2)]);
}

#[test]
fn a_second_holder_of_a_transactional_id_fences_the_first_off() {
    let on = OnBroker::transactional("fence");
    let topic = on.made("t", 1);
    let mut first = on.writer(None);
    write_numbers(&mut first, &topic, 0..5);
    first.begin(Epoch(6)).unwrap();
    first.write(record(&topic, b"lost")).unwrap();
    let mut second = on.writer(None);
    write_numbers(&mut second, &topic, 5..10);
    let error = first.commit(Epoch(6), &[]).unwrap_err();
    assert!(matches!(error, SinkError::Fenced { .. }), "{error:?}");
    let seen = read_to_end(on.bounded(&topic, 0).as_mut());
    assert_eq!(numbers(&seen), (0..10).collect::<Vec<_>>());
}

#[test]
fn without_transactions_input_offsets_follow_the_records() {
    let on = OnBroker::idempotent("follows");
    let (input, output) = (on.made("in", 2), on.made("out", 1));
    let mut sink = on.writer(Some(&input));
    for epoch in 1..=3 {
        sink.begin(Epoch(epoch)).unwrap();
        sink.write(record(&output, b"1")).unwrap();
        sink.commit(Epoch(epoch), &inputs(epoch * 100)).unwrap();
        let committed = segue_kafka::committed(&on.settings, &input).unwrap();
        assert_eq!(committed, [None, place(epoch * 100, epoch)]);
    }
    assert_eq!(read_to_end(on.bounded(&output, 0).as_mut()).len(), 3);
}

#[test]
fn a_full_queue_holds_the_writer_up_and_loses_nothing() {
    let mut on = OnBroker::idempotent("full");
    on.settings
        .client
        .insert("queue.buffering.max.messages".into(), "10".into());
    let topic = on.made("t", 1);
    write_numbers(on.sink().as_mut(), &topic, 0..2000);
    let mut reader = on.following(&topic, 0);
    assert_eq!(
        numbers(&read_count(reader.as_mut(), 2000)),
        (0..2000).collect::<Vec<_>>()
    );
}

#[test]
fn a_topic_takes_listens_of_any_year() {
    let on = OnBroker::idempotent("years");
    let topic = on.made("t", 1);
    let years = [-315_619_200_000, 0, 1_108_512_345_678, 7_258_118_400_000];
    let mut sink = on.sink();
    sink.begin(Epoch(1)).unwrap();
    for at in years.map(EventTime::from_millis) {
        sink.write(OutRecord {
            at: Some(at),
            ..record(&topic, b"x")
        })
        .unwrap();
    }
    sink.commit(Epoch(1), &[]).unwrap();
    let seen = read_to_end(on.bounded(&topic, 0).as_mut());
    let seen: Vec<_> = seen.iter().map(|record| record.at).collect();
    assert_eq!(seen.len(), 4);
    // Kafka has no time before 1970: the client stamps such a record itself.
    assert_eq!(
        seen[2..],
        years.map(|at| Some(EventTime::from_millis(at)))[2..]
    );
}

#[test]
fn what_the_broker_refuses_is_returned_at_the_commit() {
    let mut on = OnBroker::idempotent("refuses");
    on.settings
        .topic
        .insert("max.message.bytes".into(), "1000".into());
    let topic = on.made("t", 1);
    let mut sink = on.sink();
    sink.begin(Epoch(1)).unwrap();
    // Noise: compression must not make it fit.
    let noise: Vec<u8> = (0..50_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes())
        .collect();
    sink.write(record(&topic, &noise)).unwrap();
    let error = sink.commit(Epoch(1), &[]).unwrap_err();
    assert!(matches!(error, SinkError::Refused { .. }), "{error:?}");
    let message = error.to_string();
    assert!(
        message.contains(&topic) && message.contains("max.message.bytes"),
        "{message}"
    );
    sink.abort(Epoch(1)).unwrap();
    write_numbers(sink.as_mut(), &topic, 0..3);
    assert_eq!(
        numbers(&read_to_end(on.bounded(&topic, 0).as_mut())),
        [0, 1, 2]
    );
}

#[test]
fn topics_partitions_and_offsets_that_are_not_there_are_named() {
    let on = OnBroker::idempotent("named");
    let topic = on.made("t", 2);
    segue_kafka::ensure_topic(&on.settings, &topic, 2).unwrap();
    let other = segue_kafka::ensure_topic(&on.settings, &topic, 3)
        .unwrap_err()
        .to_string();
    assert!(other.contains("has 2 partitions, not 3"), "{other}");
    let bad = segue_kafka::ensure_topic(&on.settings, "a/b", 1).unwrap_err();
    assert!(matches!(bad, KafkaError::Refused { .. }), "{bad:?}");

    let open = |topic: &str, partition| {
        KafkaSource::open(&on.settings, topic, partition, Until::Now)
            .err()
            .unwrap()
    };
    let unknown = open("named-nothing", 0);
    assert!(matches!(unknown, KafkaError::Refused { .. }), "{unknown:?}");
    assert!(unknown.to_string().contains("named-nothing"), "{unknown}");
    let partition = open(&topic, 2).to_string();
    assert!(partition.contains("no partition 2"), "{partition}");
    let mut sink = on.sink();
    sink.begin(Epoch(1)).unwrap();
    let error = sink
        .write(OutRecord {
            partition: Some(9),
            ..record(&topic, b"x")
        })
        .unwrap_err();
    assert!(error.to_string().contains("no partition 9"), "{error}");

    let past = on.bounded(&topic, 0).seek(Offset(1)).unwrap_err();
    assert!(
        matches!(past, SourceError::OutOfRange { offset: 1, .. }),
        "{past:?}"
    );
    write_numbers(on.sink().as_mut(), &topic, 0..7);
    let states = segue_kafka::inspect(&on.settings, &topic).unwrap();
    assert_eq!(
        states.iter().map(|state| state.end.0).collect::<Vec<_>>(),
        [7, 0]
    );
}

#[test]
fn nobody_at_the_address_is_said_in_time() {
    // The discard port: reserved, and nothing listens there.
    let settings = Settings {
        brokers: "127.0.0.1:9".to_owned(),
        connect_within: Duration::from_secs(1),
        deliver_within: Duration::from_secs(1),
        ..Settings::default()
    };
    let source = KafkaSource::open(&settings, "t", 0, Until::Now)
        .err()
        .unwrap();
    let topic = segue_kafka::ensure_topic(&settings, "t", 1).unwrap_err();
    let mut sink = KafkaSink::open(&settings, &Guarantee::Idempotent, None).unwrap();
    sink.begin(Epoch(1)).unwrap();
    let write = sink.write(record("t", b"x")).unwrap_err();
    let exact = Guarantee::Transactional {
        id: "x".into(),
        open_for: Duration::from_secs(10),
    };
    let exact = KafkaSink::open(&settings, &exact, None).err().unwrap();
    for message in [
        source.to_string(),
        topic.to_string(),
        write.to_string(),
        exact.to_string(),
    ] {
        assert!(
            message.contains("127.0.0.1:9 cannot be reached"),
            "{message}"
        );
        assert!(message.contains("check that the broker runs"), "{message}");
    }
}

#[test]
fn a_wrong_password_is_refused_at_once_and_the_right_one_taken() {
    let mut on = OnBroker::idempotent("password");
    let topic = on.made("t", 1);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "wrong").unwrap();
    on.settings.brokers = on.broker.authenticated();
    on.settings.connect_within = Duration::from_secs(60);
    on.settings.security.protocol = Protocol::SaslPlaintext;
    on.settings.security.mechanism = Some(Mechanism::Plain);
    on.settings.security.username = Some(USER.to_owned());
    on.settings.security.password = Some(Secret::File(file.path().to_owned()));
    // A minute is allowed: it is the refusal that ends it.
    let error = segue_kafka::partitions(&on.settings, &topic).unwrap_err();
    assert!(matches!(error, KafkaError::Refused { .. }), "{error:?}");
    assert!(error.to_string().contains("kafka.security"), "{error}");
    std::fs::write(file.path(), PASSWORD).unwrap();
    write_numbers(on.sink().as_mut(), &topic, 0..3);
    assert_eq!(
        numbers(&read_to_end(on.bounded(&topic, 0).as_mut())),
        [0, 1, 2]
    );
}

#[test]
fn a_broker_that_goes_away_is_an_error_and_not_a_hang() {
    let broker = Broker::start().unwrap_or_else(|error| panic!("{error}"));
    // A broker that has only just begun may take its time: long enough limits for that one.
    let healthy = Settings {
        brokers: broker.address(),
        connect_within: Duration::from_secs(60),
        deliver_within: Duration::from_secs(60),
        ..Settings::default()
    };
    segue_kafka::ensure_topic(&healthy, "t", 1).unwrap();
    let mut first = KafkaSink::open(&healthy, &Guarantee::Idempotent, None).unwrap();
    write_numbers(&mut first, "t", 0..3);
    drop(first);
    // Ten seconds are what those wait that outlive it.
    let settings = Settings {
        connect_within: Duration::from_secs(10),
        deliver_within: Duration::from_secs(10),
        ..healthy
    };
    let mut sink = KafkaSink::open(&settings, &Guarantee::Idempotent, None).unwrap();
    write_numbers(&mut sink, "t", 3..4);
    let mut source = KafkaSource::open(&settings, "t", 0, Until::Forever).unwrap();
    assert_eq!(numbers(&read_count(&mut source, 4)), [0, 1, 2, 3]);
    let address = broker.address();
    drop(broker);

    sink.begin(Epoch(5)).unwrap();
    sink.write(record("t", b"4")).unwrap();
    let error = sink.commit(Epoch(5), &[]).unwrap_err();
    assert!(matches!(error, SinkError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains(&address), "{error}");
    for _ in 0..5 {
        match source.read(Duration::from_millis(100), &mut |record| {
            panic!("{record:?}")
        }) {
            Ok(readiness) => assert_eq!(readiness, Readiness::Idle),
            Err(error) => assert!(
                matches!(error, SourceError::Unreachable { .. }),
                "{error:?}"
            ),
        }
    }
    let seek = source.seek(Offset(0)).unwrap_err();
    assert!(matches!(seek, SourceError::Unreachable { .. }), "{seek:?}");
}

/// rdkafka's own look at such a header panics.
#[test]
fn a_header_whose_name_is_not_text_is_only_a_header() {
    let on = OnBroker::idempotent("header");
    let topic = on.made("t", 1);
    let producer: BaseProducer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", &on.settings.brokers)
        .create()
        .unwrap();
    send_with_header(&producer, &topic, b"\xff\xfe");
    send_with_header(&producer, &topic, b"content-type");
    producer.flush(Duration::from_secs(10)).unwrap();
    let seen = read_to_end(on.bounded(&topic, 0).as_mut());
    let types: Vec<_> = seen
        .iter()
        .map(|record| record.content_type.clone())
        .collect();
    assert_eq!(types, [None, Some(b"x".to_vec())]);
}

/// Produces a record with one header of any name and the value `x`; rdkafka allows text only.
#[allow(unsafe_code)]
fn send_with_header(producer: &BaseProducer, topic: &str, name: &[u8]) {
    use rdkafka::bindings;
    let topic = std::ffi::CString::new(topic).unwrap();
    // SAFETY: the calls of rdkafka's own `send`, with a name that need not be text. The producer
    // copies the payload, and owns the headers once it has taken the record.
    unsafe {
        let headers = bindings::rd_kafka_headers_new(1);
        let length = isize::try_from(name.len()).unwrap();
        bindings::rd_kafka_header_add(
            headers,
            name.as_ptr().cast(),
            length,
            c"x".as_ptr().cast(),
            1,
        );
        let error = bindings::rd_kafka_producev(
            producer.client().native_ptr(),
            bindings::rd_kafka_vtype_t::RD_KAFKA_VTYPE_TOPIC,
            topic.as_ptr(),
            bindings::rd_kafka_vtype_t::RD_KAFKA_VTYPE_PARTITION,
            0_i32,
            bindings::rd_kafka_vtype_t::RD_KAFKA_VTYPE_MSGFLAGS,
            bindings::RD_KAFKA_MSG_F_COPY,
            bindings::rd_kafka_vtype_t::RD_KAFKA_VTYPE_VALUE,
            c"value".as_ptr(),
            5_usize,
            bindings::rd_kafka_vtype_t::RD_KAFKA_VTYPE_HEADERS,
            headers,
            bindings::rd_kafka_vtype_t::RD_KAFKA_VTYPE_END,
        );
        assert_eq!(
            error,
            bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        );
    }
}
