//! Encryption and identity against a real broker: what is right works, reading, writing and in
//! transactions; what is wrong ends at once, or in the time to connect, with an error that names the
//! setting. The secret is in none of them, and in no log.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use segue_flow::secret::Secret;
use segue_flow::{Epoch, LaneId, Offset, OffsetRange, OutRecord, Readiness, Remedy, Sink, Source};
use segue_kafka::broker::{Broker, Certificates, PASSWORD, USER};
use segue_kafka::{
    Guarantee, KafkaError, KafkaSink, KafkaSource, Mechanism, Protocol, Settings, Until,
};

/// The wrong password of all tests.
const WRONG: &str = "hunter2-is-wrong";

/// The broker of all tests that overlap.
fn broker() -> Arc<Broker> {
    static SHARED: Mutex<Weak<Broker>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(broker) = shared.upgrade() {
        return broker;
    }
    let broker = Arc::new(Broker::secured().unwrap_or_else(|error| panic!("{error}")));
    *shared = Arc::downgrade(&broker);
    broker
}

fn certificates(broker: &Broker) -> &Certificates {
    broker.certificates().expect("a secured broker has them")
}

/// A file with a secret, kept until the process ends. Each has its own: written over, a file is empty for
/// an instant, and another test may read it then.
fn kept(secret: &str) -> Secret {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    static KEPT: AtomicU32 = AtomicU32::new(0);
    let folder = FOLDER.get_or_init(|| tempfile::tempdir().unwrap());
    let number = KEPT.fetch_add(1, Ordering::Relaxed);
    let path = folder.path().join(format!("secret-{number}"));
    std::fs::write(&path, format!("{secret}\n")).unwrap();
    Secret::File(path)
}

fn encrypted(broker: &Broker, address: String) -> Settings {
    let mut settings = Settings {
        brokers: address,
        // What is certain ends before; the rest waits so long.
        connect_within: Duration::from_secs(60),
        ..Settings::default()
    };
    settings.security.protocol = Protocol::Ssl;
    settings.security.ca_file = Some(certificates(broker).authority.clone());
    settings
}

fn known(broker: &Broker, mechanism: Mechanism, password: &str) -> Settings {
    let mut settings = encrypted(broker, broker.encrypted_authenticated());
    settings.security.protocol = Protocol::SaslSsl;
    settings.security.mechanism = Some(mechanism);
    settings.security.username = Some(USER.to_owned());
    settings.security.password = Some(kept(password));
    settings
}

/// As much of a run as there is here: a topic made, written in transactions, read, and where it
/// stands committed.
fn works(settings: &Settings, topic: &str) {
    let settings = Settings {
        group: topic.to_owned(),
        ..settings.clone()
    };
    segue_kafka::ensure_topic(&settings, topic, 1).unwrap();
    let guarantee = Guarantee::Transactional {
        id: topic.to_owned(),
        open_for: Duration::from_secs(30),
    };
    let mut sink = KafkaSink::open(&settings, &guarantee, Some(topic)).unwrap();
    sink.begin(Epoch(1)).unwrap();
    sink.write(OutRecord {
        topic,
        partition: Some(0),
        key: None,
        value: Some(b"x"),
        headers: &[],
        at: None,
    })
    .unwrap();
    let covers = OffsetRange {
        lane: LaneId(0),
        from: Offset(0),
        to: Offset(1),
    };
    sink.commit(Epoch(1), &[covers]).unwrap();
    let mut source = KafkaSource::open(&settings, topic, 0, Until::Now).unwrap();
    let mut read = Vec::new();
    loop {
        let readiness = source.read(Duration::from_millis(100), &mut |record| {
            read.push(record.value.unwrap_or_default().to_vec());
        });
        if readiness.unwrap() == Readiness::Ended {
            break;
        }
    }
    assert_eq!(read, [b"x"]);
    let committed = segue_kafka::committed(&settings, topic).unwrap();
    assert_eq!(committed[0].as_ref().unwrap().offset, Offset(1));
}

/// Nobody gets through: whoever asks, reads or writes is told the same.
#[track_caller]
fn refused(settings: &Settings, words: &[&str]) {
    let exact = Guarantee::Transactional {
        id: "refused".to_owned(),
        open_for: Duration::from_secs(30),
    };
    let errors: [KafkaError; 3] = [
        segue_kafka::partitions(settings, "t").unwrap_err(),
        KafkaSource::open(settings, "t", 0, Until::Now)
            .err()
            .unwrap(),
        KafkaSink::open(settings, &exact, None).err().unwrap(),
    ];
    for error in errors {
        assert_eq!(error.remedy(), Remedy::Configure, "{error}");
        says(&error, words);
    }
}

fn says(error: &KafkaError, words: &[&str]) {
    let said = format!("{error} {error:?}");
    for word in words {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
    assert!(!said.contains(PASSWORD) && !said.contains(WRONG), "{said}");
}

/// Who hangs up without a word may also be on the way down: the error says what to look at, and whoever
/// wants to may ask again.
fn hung_up(settings: &Settings) {
    let error = segue_kafka::partitions(settings, "t").unwrap_err();
    says(&error, &["kafka.security.protocol"]);
}

#[test]
fn the_right_password_reads_writes_and_commits() {
    let broker = broker();
    for (mechanism, topic) in [
        (Mechanism::ScramSha512, "scram-512"),
        (Mechanism::ScramSha256, "scram-256"),
        (Mechanism::Plain, "plain"),
    ] {
        works(&known(&broker, mechanism, PASSWORD), topic);
    }
}

#[test]
fn a_certificate_of_ours_is_enough_where_it_is_asked_for() {
    let broker = broker();
    let mut settings = encrypted(&broker, broker.mutual());
    settings.security.certificate_file = Some(certificates(&broker).client.clone());
    settings.security.key_file = Some(certificates(&broker).client_key.clone());
    settings.security.key_password = Some(kept(PASSWORD));
    works(&settings, "mutual");

    settings.security.key_password = Some(kept(WRONG));
    refused(&settings, &["kafka.security: key_file, key_password"]);
    settings.security = encrypted(&broker, String::new()).security;
    settings.connect_within = Duration::from_secs(5);
    refused(&settings, &["kafka.security", "certificate_file"]);
}

#[test]
fn a_wrong_identity_is_refused_by_setting() {
    let broker = broker();
    for mechanism in [
        Mechanism::ScramSha512,
        Mechanism::ScramSha256,
        Mechanism::Plain,
    ] {
        let wrong = known(&broker, mechanism, WRONG);
        refused(&wrong, &["kafka.security", "password"]);
    }
    let mut nobody = known(&broker, Mechanism::ScramSha512, PASSWORD);
    nobody.security.username = Some("nobody".to_owned());
    refused(&nobody, &["kafka.security", "username"]);
    let mut elsewise = known(&broker, Mechanism::ScramSha512, PASSWORD);
    elsewise.brokers = broker.authenticated();
    elsewise.security.protocol = Protocol::SaslPlaintext;
    elsewise.security.ca_file = None;
    refused(&elsewise, &["kafka.security", "mechanism", "PLAIN"]);
}

#[test]
fn a_broker_that_cannot_be_verified_is_not_spoken_to() {
    let broker = broker();
    let mut settings = known(&broker, Mechanism::Plain, PASSWORD);
    // Where the refusal is not certain it is waited for, each time anew.
    settings.connect_within = Duration::from_secs(10);
    settings.security.ca_file = Some(certificates(&broker).stranger.clone());
    refused(&settings, &["kafka.security.ca_file"]);
    // The system's authorities do not know it either.
    settings.security.ca_file = None;
    refused(&settings, &["kafka.security.ca_file"]);
    let mut elsewhere = encrypted(&broker, broker.elsewhere());
    elsewhere.connect_within = settings.connect_within;
    refused(&elsewhere, &["kafka.security.ca_file", "kafka.brokers"]);
    // A file that is no certificate.
    settings.security.ca_file = Some(std::env::current_exe().unwrap());
    refused(&settings, &["kafka.security: ca_file"]);
}

#[test]
fn a_listener_that_speaks_another_protocol_is_named_in_time() {
    let broker = broker();
    let soon = |address: String| Settings {
        connect_within: Duration::from_secs(3),
        ..encrypted(&broker, address)
    };
    // Encrypted to one that is not.
    hung_up(&soon(broker.address()));
    // In the clear to one that is encrypted.
    let mut clear = soon(broker.encrypted());
    clear.security = segue_kafka::Security::default();
    hung_up(&clear);
    clear.brokers = broker.encrypted_authenticated();
    hung_up(&clear);
    // As nobody to one that wants to know who we are.
    clear.brokers = broker.authenticated();
    hung_up(&clear);
    hung_up(&soon(broker.encrypted_authenticated()));
}

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_most_talkative_log_keeps_the_secret() {
    let broker = broker();
    let logged = Logged::default();
    let writer = logged.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        for (mechanism, password) in [
            (Mechanism::Plain, PASSWORD),
            (Mechanism::ScramSha512, PASSWORD),
            (Mechanism::ScramSha512, WRONG),
        ] {
            let mut settings = known(&broker, mechanism, password);
            settings.client.insert("debug".into(), "all".into());
            let secret = kept("a-keystore-password");
            let option = "ssl.keystore.password".to_owned();
            settings.client_secrets.insert(option, secret);
            assert!(segue_kafka::partitions(&settings, "not-there").is_err());
        }
    });
    let logged = String::from_utf8_lossy(&logged.0.lock().unwrap()).into_owned();
    assert!(logged.contains("sasl.mechanism"), "it does talk: {logged}");
    for secret in [PASSWORD, WRONG, "a-keystore-password"] {
        let shown = logged.lines().find(|line| line.contains(secret));
        assert_eq!(shown, None);
    }
}
