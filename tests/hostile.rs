//! Poison in a lane: each bad record becomes a dead letter that says why, from which lane and offset,
//! with its own bytes; what is good around it is absorbed as if nothing had happened.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use segue_flow::clock::MachineClock;
use segue_flow::epoch::{Epoch, LaneId, Offset};
use segue_flow::lane::{Aside, AsideReason, Batch, Lane, LaneSettings, LaneState};
use segue_flow::memory::{Line, ScriptedSource, memory_topic};
use segue_flow::queue::{QueueSettings, WhenFull, queue};
use segue_flow::{OutRecord, Sink, Source};
use segue_listen::wire::Format;
use segue_listen::{SessionGap, Span};
use segue_sessions::{ListenDecoder, ListeningStage, SessionSettings, Update};
use serde::Serialize;

const LANE: LaneId = LaneId(1);
const LANES: u32 = 2;

/// 2009-02-13T23:31:30Z.
const NOON: i64 = 1_234_567_890_000;

#[derive(Clone, Serialize)]
#[serde(untagged)]
enum Value {
    Text(&'static str),
    Whole(i64),
    Real(f64),
}

/// A record in MessagePack: a good play with one field as given.
fn msgpack(field: &'static str, value: Value) -> Vec<u8> {
    let mut fields = BTreeMap::from([
        ("v", Value::Whole(1)),
        ("user", Value::Text("u")),
        ("title", Value::Text("t")),
        ("at_ms", Value::Whole(NOON)),
    ]);
    fields.insert(field, value);
    rmp_serde::to_vec_named(&fields).unwrap()
}

fn json(field: &str, value: &str) -> Vec<u8> {
    format!(r#"{{"v":1,"user":"u","title":"t","at_ms":{NOON},"{field}":{value}}}"#).into_bytes()
}

/// All that a lane hands over.
fn run(source: impl Source) -> Vec<Batch<Update>> {
    let clock = Arc::new(MachineClock::start());
    let holds = QueueSettings {
        capacity: 10_000,
        when_full: WhenFull::Block,
    };
    let (inlet, outlet) = queue("lane", holds, clock.clone());
    let stage = ListeningStage::new(SessionSettings {
        gap: SessionGap::default(),
        lateness: Span::from_minutes(60),
    });
    let settings = LaneSettings {
        patience: Duration::ZERO,
        ..LaneSettings::default()
    };
    let decoder = ListenDecoder::new(LANE, LANES);
    let mut lane = Lane::new(LANE, source, decoder, stage, inlet, settings);
    assert_eq!(lane.run(&*clock, &|| false).unwrap(), LaneState::Ended);
    drop(lane);
    std::iter::from_fn(|| outlet.next()).collect()
}

fn plays(batches: &[Batch<Update>]) -> usize {
    let updates = batches.iter().flat_map(|batch| &batch.outputs);
    updates.filter(|u| matches!(u, Update::Play(_))).count()
}

#[test]
fn poison_becomes_dead_letters_with_reason_lane_and_offset() {
    use Value::{Real, Text, Whole};
    let (pack, text) = (Format::MessagePack, Format::Json);
    let poison = [
        (
            pack,
            msgpack("at_ms", Whole(4_102_444_800_000)),
            "4102444800000 ms is",
        ),
        (
            pack,
            msgpack("at_ms", Whole(i64::MAX)),
            "9223372036854775807 ms is",
        ),
        (pack, msgpack("at_ms", Whole(-1)), "-1 ms is before 1970"),
        (pack, msgpack("played_ms", Real(f64::NAN)), "not a listen"),
        (
            pack,
            msgpack("played_ms", Real(f64::INFINITY)),
            "not a listen",
        ),
        (pack, msgpack("played_ms", Whole(-1)), "played_ms of -1 ms"),
        (
            pack,
            msgpack("played_ms", Whole(i64::MAX)),
            "played_ms of 9223372036854775807 ms",
        ),
        (pack, msgpack("duration_ms", Real(f64::NAN)), "not a listen"),
        (
            pack,
            msgpack("duration_ms", Whole(-1)),
            "duration_ms of -1 ms",
        ),
        (
            pack,
            msgpack("duration_ms", Whole(86_400_001)),
            "duration_ms of 86400001 ms",
        ),
        (
            pack,
            msgpack("user", Text("")),
            "field user is missing or empty",
        ),
        (
            pack,
            msgpack("title", Text("")),
            "field mbid, artist and title is missing",
        ),
        (pack, msgpack("v", Whole(2)), "schema version 2 is unknown"),
        (pack, msgpack("v", Whole(65_536)), "not a listen"),
        (pack, Vec::new(), "not a listen"),
        (pack, json("v", "1"), "duplicate field `v`"),
        (text, json("played_ms", "NaN"), "not a listen"),
        (text, json("played_ms", "1e400"), "not a listen"),
        (text, json("duration_ms", "-1"), "duration_ms of -1 ms"),
        (
            text,
            br#"{"v":9,"who":"a later Segue"}"#.to_vec(),
            "schema version 9 is unknown",
        ),
        (text, b"{]".to_vec(), "not a listen in application/json"),
    ];
    let good = msgpack("artist", Text("a"));
    let (mut sink, mut sources) = memory_topic("listens", LANES);
    sink.begin(Epoch(0)).unwrap();
    let mut write = |key: Option<&[u8]>, value: Option<&[u8]>, content_type: &str| {
        sink.write(OutRecord {
            topic: "listens",
            partition: Some(LANE.0),
            key,
            value,
            headers: &[("content-type", content_type.as_bytes())],
            at: None,
        })
        .unwrap();
    };
    // Every good play comes between two bad records.
    for ((format, bad, _), n) in poison.iter().zip(0..) {
        let later = msgpack("at_ms", Whole(NOON + n * 1_000));
        write(Some(b"u"), Some(bad), format.content_type());
        write(Some(b"u"), Some(&later), pack.content_type());
    }
    // What the bytes are decides; a header that names something else is told where they are nothing.
    write(Some(b"u"), Some(&good), "text/html");
    write(Some(b"u"), Some(b"<html>"), "text/html");
    // A key says where a record lies and not whose it is; without a value nothing is said.
    write(
        Some(b""),
        Some(&msgpack("title", Text("by an empty key"))),
        pack.content_type(),
    );
    write(
        None,
        Some(&msgpack("title", Text("without a key"))),
        pack.content_type(),
    );
    write(Some(b"u"), None, pack.content_type());
    sink.commit(Epoch(0), &[]).unwrap();
    drop(sink);

    let batches = run(sources.remove(LANE.0 as usize));
    assert!(batches.iter().all(|batch| batch.covers.lane == LANE));
    let dead: Vec<&Aside> = batches.iter().flat_map(|batch| &batch.aside).collect();
    assert_eq!(dead.len(), poison.len() + 1);
    for ((aside, (format, bytes, reason)), n) in dead.iter().zip(&poison).zip(0..) {
        assert_eq!(aside.reason, AsideReason::DeadLetter);
        assert!(
            aside.detail.contains(reason),
            "{} is not {reason}",
            aside.detail
        );
        assert_eq!(aside.offset, Offset(2 * n), "{reason}");
        assert_eq!(aside.key.as_deref(), Some(&b"u"[..]));
        assert_eq!(aside.value.as_ref(), Some(bytes), "as it came");
        let content_type = format.content_type().as_bytes();
        assert_eq!(aside.content_type.as_deref(), Some(content_type));
    }
    let header = dead[poison.len()];
    assert!(header.detail.contains("`text/html`"), "{}", header.detail);
    // Nothing good is lost: a player that lives in 2100 has made nobody late.
    assert_eq!(plays(&batches), poison.len() + 3);

    let covered: u64 = batches.iter().map(|batch| batch.covers.len()).sum();
    assert_eq!(covered, 2 * poison.len() as u64 + 5);
}

#[test]
fn ten_megabytes_are_kept_as_they_came_and_the_lane_goes_on() {
    let mut long = b"\x84\xa1v\x01\xa5title\xa1t\xa5at_ms\x01\xa4user\xdb".to_vec();
    long.extend_from_slice(&(10_u32 << 20).to_be_bytes());
    long.resize(long.len() + (10 << 20), b'u');
    let record = |value: &[u8]| Line::Record(b"u".to_vec(), value.to_vec());
    let good = msgpack("artist", Value::Text("a"));
    let batches = run(ScriptedSource::new(vec![record(&long), record(&good)]));
    let dead: Vec<&Aside> = batches.iter().flat_map(|batch| &batch.aside).collect();
    assert_eq!((dead.len(), dead[0].offset), (1, Offset(0)));
    assert!(dead[0].detail.contains("10485760 bytes exceeds 512"));
    assert!(dead[0].value.as_ref() == Some(&long));
    assert_eq!(plays(&batches), 1);
}
