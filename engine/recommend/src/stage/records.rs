//! The records that go out: predictions, sessions, what was put aside.

use segue_catalog::content::TrackContent;
use segue_flow::lane::Aside;
use segue_flow::{Epoch, LaneId, OutRecord, Sink, SinkError};
use segue_listen::completion::Part;
use segue_listen::session::Session;
use segue_listen::wire::Format;
use segue_listen::{EventTime, Ratio, TrackKey};
use segue_sessions::Witness;
use serde::{Deserialize, Serialize};

use super::EngineError;
use super::content::Fault;
use crate::recommender::Tier;

/// Names of the topics that are written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Topics {
    /// Next-track predictions, keyed by user.
    pub predictions: String,
    /// Finals of sessions and their retractions, keyed by user.
    pub sessions: String,
    /// How much was heard of each play, as soon as that is known, keyed by user; empty: not written.
    pub completions: String,
    /// Records beyond the allowed lateness, as they came.
    pub late: String,
    /// Records that could not be decoded, as they came.
    pub dead_letters: String,
}

impl Default for Topics {
    fn default() -> Self {
        Self {
            predictions: "predictions".to_owned(),
            sessions: "sessions".to_owned(),
            completions: String::new(),
            late: "listens.late".to_owned(),
            dead_letters: "listens.dead-letters".to_owned(),
        }
    }
}

/// A predicted track, with its names.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct PredictedTrack<'a> {
    /// Its key: MusicBrainz id or hash of the names.
    pub track: String,
    /// The artist.
    pub artist: &'a str,
    /// The title.
    pub title: &'a str,
    /// The recommender's score; comparable within one prediction only.
    pub score: f32,
}

/// What a listener will play next, and what the answer rests on.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Prediction<'a> {
    v: u16,
    user: &'a str,
    after_track: Option<String>,
    after_ms: i64,
    epoch: u64,
    recommender: &'a str,
    tier: Tier,
    tracks: Vec<PredictedTrack<'a>>,
}

impl<'a> Prediction<'a> {
    /// The answer after a play of `track` at `at`, under the parameters of `epoch`,
    /// by a recommender of a tier.
    pub fn new(
        user: &'a str,
        track: Option<TrackKey>,
        at: EventTime,
        epoch: Epoch,
        (recommender, tier): (&'a str, Tier),
    ) -> Self {
        Self {
            v: 1,
            user,
            after_track: track.map(|key| key.to_string()),
            after_ms: at.millis(),
            epoch: epoch.0,
            recommender,
            tier,
            tracks: Vec::new(),
        }
    }
}

/// A session's final, or the retraction of one.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct SessionRecord<'a> {
    v: u16,
    user: &'a str,
    first_ms: i64,
    last_ms: i64,
    plays: u32,
    retracted: bool,
}

/// How much was heard of a play: known with the listener's next one, or with the play itself where the
/// player says so. The newest record about a play stands; a late play in between brings another.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct CompletionRecord<'a> {
    v: u16,
    user: &'a str,
    track: Option<String>,
    at_ms: i64,
    /// In `[0, 1]`; absent where nobody knows the track's length.
    ratio: Option<f32>,
    heard: &'static str,
    length: Option<&'static str>,
    corrected: bool,
}

/// Content that could not be encoded, among the dead letters; what is wrong with it stands in the headers.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ContentFault<'a> {
    v: u16,
    track: String,
    artist: &'a str,
    title: &'a str,
    modality: &'a str,
    reason: &'a str,
}

/// Encodes and writes; its buffer is used again.
pub(super) struct Writer {
    topics: Topics,
    format: Format,
    buffer: Vec<u8>,
}

impl Writer {
    pub(super) fn new(topics: Topics, format: Format) -> Self {
        Self {
            topics,
            format,
            buffer: Vec::new(),
        }
    }

    pub(super) fn session(
        &mut self,
        sink: &mut dyn Sink,
        user: &str,
        session: &Session,
        retracted: bool,
    ) -> Result<(), EngineError> {
        let record = SessionRecord {
            v: 1,
            user,
            first_ms: session.first.millis(),
            last_ms: session.last.millis(),
            plays: session.plays,
            retracted,
        };
        let topic = self.topics.sessions.clone();
        self.write(sink, &topic, user, session.last, &record)
    }

    /// Whether completions are wanted.
    pub(super) fn tells_completions(&self) -> bool {
        !self.topics.completions.is_empty()
    }

    pub(super) fn completion(
        &mut self,
        sink: &mut dyn Sink,
        user: &str,
        (track, at): (Option<TrackKey>, EventTime),
        (part, witness): (Part, Witness),
        (ratio, corrected): (Option<Ratio>, bool),
    ) -> Result<(), EngineError> {
        let stated = matches!(part, Part::Ratio(_));
        let record = CompletionRecord {
            v: 1,
            user,
            track: track.map(|key| key.to_string()),
            at_ms: at.millis(),
            ratio: ratio.map(Ratio::value),
            heard: match witness {
                Witness::Player => "player",
                Witness::Gap => "gap",
            },
            length: ratio.map(|_| if stated { "stated" } else { "estimated" }),
            corrected,
        };
        let topic = self.topics.completions.clone();
        self.write(sink, &topic, user, at, &record)
    }

    pub(super) fn prediction<'a>(
        &mut self,
        sink: &mut dyn Sink,
        mut prediction: Prediction<'a>,
        tracks: Vec<PredictedTrack<'a>>,
    ) -> Result<(), EngineError> {
        prediction.tracks = tracks;
        let at = EventTime::from_millis(prediction.after_ms);
        let topic = self.topics.predictions.clone();
        self.write(sink, &topic, prediction.user, at, &prediction)
    }

    /// A dead letter about a track: its key, what it is called, which part of it and why.
    pub(super) fn content_fault(
        &mut self,
        sink: &mut dyn Sink,
        content: &TrackContent,
        fault: &Fault,
    ) -> Result<(), EngineError> {
        let track = content.key.to_string();
        let reason = head(fault.why.as_bytes(), LONGEST_REASON);
        let short = |text: &str| {
            let text = head(text.as_bytes(), LONGEST_REASON);
            String::from_utf8_lossy(text).into_owned()
        };
        let record = ContentFault {
            v: 1,
            track: track.clone(),
            artist: &short(&content.artist),
            title: &short(&content.title),
            modality: &fault.modality,
            reason: &short(&fault.why),
        };
        let topic = self.topics.dead_letters.clone();
        self.encode(&topic, &record)?;
        sink.write(OutRecord {
            topic: &topic,
            partition: None,
            key: Some(track.as_bytes()),
            value: Some(&self.buffer),
            headers: &[
                ("reason", reason),
                ("modality", fault.modality.as_bytes()),
                ("content-type", self.format.content_type().as_bytes()),
            ],
            at: None,
        })?;
        Ok(())
    }

    fn write(
        &mut self,
        sink: &mut dyn Sink,
        topic: &str,
        key: &str,
        at: EventTime,
        record: &impl Serialize,
    ) -> Result<(), EngineError> {
        self.encode(topic, record)?;
        sink.write(OutRecord {
            topic,
            partition: None,
            key: Some(key.as_bytes()),
            value: Some(&self.buffer),
            headers: &[("content-type", self.format.content_type().as_bytes())],
            at: Some(at),
        })?;
        Ok(())
    }

    fn encode(&mut self, topic: &str, record: &impl Serialize) -> Result<(), EngineError> {
        self.buffer.clear();
        match self.format {
            Format::MessagePack => {
                rmp_serde::encode::write_named(&mut self.buffer, record).map_err(|e| e.to_string())
            }
            Format::Json => {
                serde_json::to_writer(&mut self.buffer, record).map_err(|e| e.to_string())
            }
        }
        .map_err(|detail| EngineError::Record {
            topic: topic.to_owned(),
            detail,
        })
    }
}

/// The longest reason that goes with a record that was put aside, in bytes: it may quote the record.
const LONGEST_REASON: usize = 1_024;
/// What is kept of a record that is too large for the topic of what was put aside, in bytes.
const HEAD: usize = 64 * 1_024;

/// Writes a record that was put aside: its own bytes, with reason, lane and offset as headers. Of one
/// that is too large for the topic the beginning is kept, and how long it was.
pub(super) fn write_aside(
    sink: &mut dyn Sink,
    topic: &str,
    lane: LaneId,
    aside: &Aside,
) -> Result<(), EngineError> {
    let (lane, offset) = (lane.0.to_string(), aside.offset.0.to_string());
    let reason = head(aside.detail.as_bytes(), LONGEST_REASON);
    let mut headers: Vec<(&str, &[u8])> = vec![
        ("reason", reason),
        ("lane", lane.as_bytes()),
        ("offset", offset.as_bytes()),
    ];
    if let Some(content_type) = &aside.content_type {
        headers.push(("content-type", head(content_type, LONGEST_REASON)));
    }
    let (key, value) = (aside.key.as_deref(), aside.value.as_deref());
    let whole = OutRecord {
        topic,
        partition: None,
        key,
        value,
        headers: &headers,
        at: None,
    };
    match sink.write(whole) {
        Err(SinkError::TooLarge { .. }) => {}
        written => return Ok(written?),
    }
    let length = value.map_or(0, <[u8]>::len).to_string();
    headers.push(("truncated-from", length.as_bytes()));
    sink.write(OutRecord {
        topic,
        partition: None,
        key: key.map(|key| head(key, LONGEST_REASON)),
        value: value.map(|value| head(value, HEAD)),
        headers: &headers,
        at: None,
    })?;
    Ok(())
}

fn head(bytes: &[u8], longest: usize) -> &[u8] {
    bytes.get(..longest).unwrap_or(bytes)
}
