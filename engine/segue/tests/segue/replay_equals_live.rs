//! What a log gives by replay at full speed, it gives live: through real Kafka, on 1, 4 and 16
//! partitions, out of order within the lateness, with duplicates, and with the program killed again and
//! again. Final sessions and completion ratios always; in exact mode everything that is said.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use segue::config::Config;
use segue_flow::clock::{MachineClock, WallClock};
use segue_kafka::broker::Broker;
use segue_kafka::{Guarantee, KafkaSink, topics};
use segue_listen::{Listen, Span};

use crate::crash::{finished, killed};
use crate::rig::{self, Record};
use crate::same_answer::deliver;

const PLAYS: usize = 4_000;
const KILLS: usize = 4;
/// Listens that come at once, and the pause after them.
const PORTION: usize = 100;
const PAUSE: Duration = Duration::from_millis(150);
/// The farthest a listen comes behind the newest, below disorder and lateness together.
const BEHIND: Span = Span::from_minutes(60);

/// The log: of some plays the player says how much was heard, of some how long the track is.
fn listens() -> Vec<Listen> {
    let mut listens = rig::listens(PLAYS);
    for (listen, n) in listens.iter_mut().zip(0..) {
        if n % 2 == 0 {
            listen.duration = Some(Span::from_seconds(180 + n % 100));
        }
        if n % 5 == 0 {
            listen.played = Some(Span::from_seconds(20 + n % 150));
        }
    }
    listens
}

/// The same as it comes: each listen up to [`BEHIND`] after its time, every 50th twice.
fn as_it_comes(listens: &[Listen]) -> Vec<Listen> {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut coming = Vec::new();
    for (listen, n) in listens.iter().zip(0..) {
        for _ in 0..1 + usize::from(n % 50 == 0) {
            let behind = rng.random_range(0..BEHIND.millis());
            coming.push((listen.at.millis() + behind, listen.clone()));
        }
    }
    coming.sort_by_key(|(comes, _)| *comes);
    coming.into_iter().map(|(_, listen)| listen).collect()
}

fn config(folder: &Path, exact: bool) -> Config {
    let mut config = rig::config(folder);
    config.recommend.exact = exact;
    config.recommend.topics.completions = "completions".to_owned();
    config.checkpoint.every = Duration::from_millis(150);
    config
}

/// What is said about each listener, in order, by topic.
type Said = BTreeMap<(String, Vec<u8>), Vec<Vec<u8>>>;

fn said(records: Vec<Record>, prefix: &str) -> Said {
    let mut said = Said::new();
    for (topic, key, value) in records {
        let topic = topic.strip_prefix(prefix).unwrap().to_owned();
        said.entry((topic, key)).or_default().push(value);
    }
    said
}

/// What a run says live, killed while listens come, and its own summary.
fn live(broker: &Broker, partitions: u32, exact: bool) -> (Said, serde_json::Value) {
    let folder = tempfile::tempdir().unwrap();
    let name = format!("live-{partitions}-{exact}");
    let mut config = config(folder.path(), exact);
    config.stream.lanes = partitions;
    config.stream.topic = format!("{name}-listens");
    config.kafka.brokers = broker.address();
    config.kafka.group.clone_from(&name);
    rig::name_outputs(&mut config, &name);
    topics::ensure_topic(&config.kafka, &config.stream.topic, partitions).unwrap();
    let file = killed(&config, folder.path(), "kafka", KILLS, || {
        let mut sink = KafkaSink::open(&config.kafka, &Guarantee::Idempotent, None).unwrap();
        let clock = MachineClock::start();
        for portion in as_it_comes(&listens()).chunks(PORTION) {
            deliver(&config, portion.to_vec(), &mut sink);
            clock.sleep(PAUSE);
        }
    });
    let summary = finished(&file, "kafka");
    let stream = &summary["stream"];
    assert_eq!(stream["plays"], PLAYS, "{stream}");
    assert_eq!(stream["duplicates"], PLAYS.div_ceil(50), "{stream}");
    assert_eq!(stream["too_late"], 0, "{stream}");
    let records = rig::committed_on_kafka(&config, partitions);
    (said(records, &format!("{name}-")), summary)
}

fn replayed(exact: bool, listens: Vec<Listen>) -> (Said, serde_json::Value) {
    let folder = tempfile::tempdir().unwrap();
    let (summary, records) = rig::in_process(&config(folder.path(), exact), listens);
    // Numbers as they are read from the text that the program prints.
    let measured = serde_json::to_vec(&summary.prequential).unwrap();
    (
        said(records, ""),
        serde_json::from_slice(&measured).unwrap(),
    )
}

#[track_caller]
fn assert_equal(replayed: &Said, live: &Said, what: &str) {
    let none = Vec::new();
    for (of, expected) in replayed {
        let found = live.get(of).unwrap_or(&none);
        let (topic, key) = (&of.0, of.1.escape_ascii());
        let differs = expected.iter().zip(found).find(|(one, other)| one != other);
        if let Some((one, other)) = differs {
            let (one, other) = (one.escape_ascii(), other.escape_ascii());
            panic!("{what}: in {topic} about {key} {one} is {other}");
        }
        assert_eq!(expected.len(), found.len(), "{what}: {topic} about {key}");
    }
    assert_eq!(replayed.len(), live.len(), "{what}: listeners and topics");
}

#[test]
fn replay_equals_live_in_everything_where_it_is_exact() {
    let broker = Broker::shared().unwrap();
    let (expected, measured) = replayed(true, listens());
    for topic in ["predictions", "sessions", "completions"] {
        let records = expected.iter().filter(|((of, _), _)| of == topic);
        let records: usize = records.map(|(_, values)| values.len()).sum();
        assert!(records > 300, "{records} {topic}");
    }
    // The test of the test: the same again is the same, and one play less is not.
    assert_equal(&expected, &replayed(true, listens()).0, "again");
    assert_ne!(replayed(true, listens().split_off(1)).0, expected);

    for partitions in [1, 4, 16] {
        let (found, summary) = live(&broker, partitions, true);
        assert_equal(&expected, &found, &format!("{partitions} partitions"));
        assert_eq!(summary["prequential"], measured, "each label");
    }
}

/// What stands in the end of sessions and of ratios that rest on no estimate.
fn finals(said: &Said) -> Said {
    let mut finals = Said::new();
    for ((topic, key), values) in said {
        let records = values
            .iter()
            .map(|value| rmp_serde::from_slice::<serde_json::Value>(value).unwrap());
        let mut stands = BTreeMap::new();
        for record in records {
            match &**topic {
                "sessions" => {
                    let session = (
                        record["first_ms"].to_string(),
                        record["last_ms"].to_string(),
                    );
                    match record["retracted"] == true {
                        true => assert!(stands.remove(&session).is_some()),
                        false => assert_eq!(stands.insert(session, record), None),
                    }
                }
                "completions" if record["length"] == "stated" => {
                    let play = (record["at_ms"].to_string(), record["track"].to_string());
                    stands.insert(play, record["ratio"].clone());
                }
                _ => {}
            }
        }
        if !stands.is_empty() {
            let values = stands
                .iter()
                .map(|stands| format!("{stands:?}").into_bytes());
            finals.insert((topic.clone(), key.clone()), values.collect());
        }
    }
    finals
}

#[test]
fn replay_equals_live_in_what_stands_where_answers_are_told_at_once() {
    let broker = Broker::shared().unwrap();
    let expected = finals(&replayed(false, listens()).0);
    let (found, summary) = live(&broker, 4, false);
    let stream = &summary["stream"];
    assert!(stream["retractions"].as_u64() > Some(0), "{stream}");
    assert!(stream["corrections"].as_u64() > Some(0), "{stream}");
    assert_equal(&expected, &finals(&found), "4 partitions");
}
