//! Checkpoints: the manifest and a lane's part.

use std::sync::Arc;

use futures_util::FutureExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use segue_flow::checkpoint::{CheckpointStore, Encoded, Manifest, encode};
use segue_flow::epoch::{Epoch, LaneId, Offset};
use segue_flow::lane::Decode;
use segue_flow::stage::Stage;
use segue_listen::{EventTime, SessionGap, Span, Watermark, WatermarkClock};
use segue_sessions::{Arrival, ListenDecoder, ListeningStage, SessionSettings};
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::within;

/// What serde sets aside for a list of whatever length it claims to have, for each of the lists that
/// a lane's state has inside one another.
const CLAIMED: usize = 4 << 20;

/// The state of a lane, field by field as `segue_flow::lane` writes it.
type LaneState = (
    Offset,
    Option<EventTime>,
    Option<EventTime>,
    Option<i64>,
    Vec<(EventTime, Arrival)>,
    <ListenDecoder as Decode>::Snapshot,
    <ListeningStage as Stage>::Snapshot,
);

const ROOM: &str = "lane";

/// The part of a lane: the header and body as they are, or the bytes as the body of a sound header,
/// which chance alone would not find.
pub fn part(bytes: &[u8]) -> bool {
    let as_it_is = lane_state(bytes);
    lane_state(&part_of(bytes)) || as_it_is
}

/// A part with a sound header around this body.
pub fn part_of(body: &[u8]) -> Vec<u8> {
    let mut part = encode(ROOM, 1, &()).unwrap();
    let header = part.len() - 1;
    part.truncate(header - 8);
    part.extend_from_slice(&(body.len() as u64).to_le_bytes());
    part.extend_from_slice(body);
    part
}

fn lane_state(bytes: &[u8]) -> bool {
    let read = within(CLAIMED + 64 * bytes.len(), || {
        Encoded::open(ROOM, 1, bytes).and_then(|encoded| encoded.read::<LaneState>())
    });
    let Ok(state) = read else { return false };
    let written = encode(ROOM, 1, &state).unwrap();
    let again: LaneState = Encoded::open(ROOM, 1, &written).unwrap().read().unwrap();
    assert_eq!(encode(ROOM, 1, &again).unwrap(), written);
    let (_, _, _, _, _, names, listening) = state;

    // What is taken up and told again is a state that tells itself.
    let mut decoder = ListenDecoder::new(LaneId(0), 1);
    if decoder.restore(names).is_ok() {
        settles(&mut decoder, Decode::snapshot, Decode::restore);
    }
    let mut stage = ListeningStage::new(settings());
    if stage.restore(listening).is_ok() {
        let fresh = |stage: &mut ListeningStage, state| {
            *stage = ListeningStage::new(settings());
            stage.restore(state)
        };
        settles(&mut stage, |stage| stage.snapshot(Epoch(0)), fresh);
        // And one that time can pass in.
        stage.advance(end_of_time(), &mut Vec::new()).unwrap();
    }
    true
}

/// A stage with the usual rules.
fn settings() -> SessionSettings {
    SessionSettings {
        gap: SessionGap::default(),
        lateness: Span::from_minutes(60),
    }
}

fn settles<T, S: Serialize, E: std::fmt::Debug>(
    of: &mut T,
    tell: impl Fn(&T) -> S,
    take_up: impl FnOnce(&mut T, S) -> Result<(), E>,
) {
    let bytes = |state: &S| encode(ROOM, 1, state).unwrap();
    let told = tell(of);
    let first = bytes(&told);
    take_up(of, told).unwrap();
    assert_eq!(bytes(&tell(of)), first);
}

fn end_of_time() -> Watermark {
    let mut clock = WatermarkClock::new(Span::ZERO, Span::ZERO);
    clock.restore(Some(EventTime::from_millis(i64::MAX)));
    clock.watermark().expect("restored")
}

/// The number of the checkpoint that is looked at.
const NUMBER: u64 = 7;

/// The manifest of a checkpoint as it lies there, or the bytes inside a sound envelope.
pub fn manifest(bytes: &[u8]) -> bool {
    let as_it_is = listed(bytes).is_some();
    let inside = std::str::from_utf8(bytes).ok().and_then(|text| {
        let manifest = listed(in_envelope(text).as_bytes())?;
        let text = serde_json::to_string(&manifest).unwrap();
        assert_eq!(listed(in_envelope(&text).as_bytes()), Some(manifest));
        Some(())
    });
    inside.is_some() || as_it_is
}

/// A manifest as it is sealed.
pub fn in_envelope(manifest: &str) -> String {
    let sum = xxh3_128_with_seed(manifest.as_bytes(), 1);
    format!("{{\"v\": 1, \"xxh3\": \"{sum:032x}\", \"manifest\": {manifest}}}\n")
}

/// What a store makes of a checkpoint with this manifest and no parts.
fn listed(text: &[u8]) -> Option<Manifest> {
    let objects = Arc::new(InMemory::new());
    let path = Path::from(format!("checkpoint-{NUMBER:010}/manifest.json"));
    let bytes = text.to_vec();
    let put = objects.put(&path, bytes.into()).now_or_never();
    put.expect("memory does not wait").unwrap();
    let objects: Arc<dyn ObjectStore> = objects;
    let store = CheckpointStore::over(objects, "memory", 2).unwrap();

    // A runtime, and a value tree of what JSON says in a few bytes.
    let mut listed = within((1 << 20) + 256 * text.len(), || store.list()).unwrap();
    assert_eq!(listed.len(), 1, "a sealed checkpoint is never passed over");
    let manifest = listed.pop()?.manifest.ok()?;
    manifest.bytes();
    assert_eq!(manifest.number, NUMBER);
    let whole = store.verify(&manifest).is_ok();
    assert_eq!(whole, manifest.parts.is_empty(), "no part is there");
    Some(manifest)
}
