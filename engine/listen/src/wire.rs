//! Listens and heartbeats on the wire: MessagePack (named fields) by default, JSON where a header or
//! the configuration says so. The schema has a version; unknown fields are passed over, unknown
//! versions are refused so that the record can be kept for a newer reader.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::listen::ListenRef;
use crate::time::{EventTime, ImplausibleTime, Span};
use crate::track::TrackKey;

mod quick;

pub use quick::{Glance, glance};

/// The schema version that is written, and the newest that is read.
pub const VERSION: u16 = 1;

/// No play lasts longer: beyond it a figure is a broken player's.
const LONGEST_PLAY: Span = Span::from_minutes(24 * 60);

/// How a record's value is encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// MessagePack with named fields.
    #[default]
    MessagePack,
    /// JSON.
    Json,
}

impl Format {
    /// The value of the `content-type` header that names this format.
    pub const fn content_type(self) -> &'static str {
        match self {
            Format::MessagePack => "application/msgpack",
            Format::Json => "application/json",
        }
    }

    /// The format that a `content-type` header names.
    pub fn from_content_type(value: &[u8]) -> Option<Self> {
        match value {
            b"application/msgpack" | b"application/x-msgpack" => Some(Format::MessagePack),
            b"application/json" => Some(Format::Json),
            _ => None,
        }
    }

    /// The format that a record is in, whatever anyone says about it: a listen is a JSON object or a
    /// MessagePack map, and those do not begin alike.
    pub fn of(bytes: &[u8]) -> Self {
        match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'{') => Format::Json,
            _ => Format::MessagePack,
        }
    }
}

/// The record as it travels. `heartbeat_ms` alone is a heartbeat.
#[derive(Serialize, Deserialize, Default, Debug, PartialEq)]
struct Fields<'a> {
    v: u16,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    user: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    mbid: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    artist: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    title: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    at_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    duration_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    played_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    heartbeat_ms: Option<i64>,
}

#[derive(Deserialize)]
struct VersionOnly {
    v: u16,
}

/// A decoded record: what a lane acts upon.
#[derive(Debug)]
pub enum Decoded<'a> {
    /// A play.
    Listen(WireListen<'a>),
    /// Event time has come at least so far in this lane.
    Heartbeat(EventTime),
}

/// A play whose text is borrowed from the record wherever the encoding allows it.
#[derive(Debug)]
pub struct WireListen<'a> {
    user: Cow<'a, str>,
    mbid: Option<Cow<'a, str>>,
    artist: Cow<'a, str>,
    title: Cow<'a, str>,
    /// When it started.
    pub at: EventTime,
    /// How long the track is, if the record says so.
    pub duration: Option<Span>,
    /// How long it was played, if the player says so.
    pub played: Option<Span>,
}

impl WireListen<'_> {
    /// The listener.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The play, borrowed. Works out the track's key.
    pub fn listen(&self) -> ListenRef<'_> {
        ListenRef {
            user: &self.user,
            track: TrackKey::of(self.mbid.as_deref(), &self.artist, &self.title),
            artist: &self.artist,
            title: &self.title,
            at: self.at,
            duration: self.duration,
            played: self.played,
        }
    }
}

/// Why a record could not be read. The record goes to the dead-letter topic, the lane goes on.
#[derive(Debug, PartialEq, Eq)]
pub enum WireError {
    /// The bytes are not of the format.
    Malformed {
        /// The format that was expected.
        format: Format,
        /// What the decoder said.
        detail: String,
    },
    /// Written by a newer (or no) Segue.
    UnknownVersion {
        /// The version the record states.
        found: u16,
    },
    /// A field without which a play means nothing.
    Missing {
        /// Its name.
        field: &'static str,
    },
    /// A time stamp outside `[1970, 2100)`.
    Time(ImplausibleTime),
    /// A length of time that is negative or beyond 24 hours.
    Length {
        /// The field.
        field: &'static str,
        /// What it says, in milliseconds.
        millis: i64,
    },
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::Malformed { format, detail } => {
                write!(f, "not a listen in {}: {detail}", format.content_type())
            }
            WireError::UnknownVersion { found } => {
                write!(
                    f,
                    "schema version {found} is unknown, this reader knows {VERSION}"
                )
            }
            WireError::Missing { field } => write!(f, "field {field} is missing or empty"),
            WireError::Time(error) => error.fmt(f),
            WireError::Length { field, millis } => {
                write!(f, "{field} of {millis} ms is not between 0 and 24 h")
            }
        }
    }
}

impl std::error::Error for WireError {}

/// Reads one record.
///
/// # Errors
/// See [`WireError`]; none of them says anything about the next record.
pub fn decode(bytes: &[u8], format: Format) -> Result<Decoded<'_>, WireError> {
    let fields: Fields<'_> = match format {
        Format::MessagePack => match glance(bytes).and_then(|glance| glance.fields()) {
            Some(fields) => Ok(fields),
            None => rmp_serde::from_slice(bytes).map_err(|e| e.to_string()),
        },
        Format::Json => serde_json::from_slice(bytes).map_err(|e| e.to_string()),
    }
    .map_err(|detail| match version_of(bytes, format) {
        Some(found) if found != VERSION => WireError::UnknownVersion { found },
        _ => WireError::Malformed { format, detail },
    })?;
    if fields.v != VERSION {
        return Err(WireError::UnknownVersion { found: fields.v });
    }
    if let Some(millis) = fields.heartbeat_ms {
        return Ok(Decoded::Heartbeat(
            EventTime::plausible(millis).map_err(WireError::Time)?,
        ));
    }
    let user = fields.user.filter(|user| !user.is_empty());
    let user = user.ok_or(WireError::Missing { field: "user" })?;
    let at = fields.at_ms.ok_or(WireError::Missing { field: "at_ms" })?;
    let at = EventTime::plausible(at).map_err(WireError::Time)?;
    let artist = fields.artist.unwrap_or_default();
    let title = fields.title.unwrap_or_default();
    let has_id = || {
        fields
            .mbid
            .as_deref()
            .and_then(TrackKey::from_mbid)
            .is_some()
    };
    if artist.is_empty() && title.is_empty() && !has_id() {
        return Err(WireError::Missing {
            field: "mbid, artist and title",
        });
    }
    Ok(Decoded::Listen(WireListen {
        user,
        mbid: fields.mbid,
        artist,
        title,
        at,
        duration: length("duration_ms", fields.duration_ms)?,
        played: length("played_ms", fields.played_ms)?,
    }))
}

fn version_of(bytes: &[u8], format: Format) -> Option<u16> {
    match format {
        Format::MessagePack => rmp_serde::from_slice::<VersionOnly>(bytes).ok(),
        Format::Json => serde_json::from_slice::<VersionOnly>(bytes).ok(),
    }
    .map(|only| only.v)
}

fn length(field: &'static str, millis: Option<i64>) -> Result<Option<Span>, WireError> {
    match millis {
        Some(millis) if !(0..=LONGEST_PLAY.millis()).contains(&millis) => {
            Err(WireError::Length { field, millis })
        }
        other => Ok(other.map(Span::from_millis)),
    }
}

/// Appends a play to `out`. The track's key travels as `mbid` unless it follows from the names.
///
/// # Errors
/// None in practice (the buffer grows); an encoder's own error is passed on as text.
pub fn encode(listen: ListenRef<'_>, format: Format, out: &mut Vec<u8>) -> Result<(), WireError> {
    let mbid = (TrackKey::from_names(listen.artist, listen.title) != listen.track)
        .then(|| Cow::Owned(listen.track.to_string()));
    write(
        &Fields {
            v: VERSION,
            user: Some(Cow::Borrowed(listen.user)),
            mbid,
            artist: Some(Cow::Borrowed(listen.artist)),
            title: Some(Cow::Borrowed(listen.title)),
            at_ms: Some(listen.at.millis()),
            duration_ms: listen.duration.map(Span::millis),
            played_ms: listen.played.map(Span::millis),
            heartbeat_ms: None,
        },
        format,
        out,
    )
}

/// Appends a heartbeat to `out`.
///
/// # Errors
/// As [`encode`].
pub fn encode_heartbeat(at: EventTime, format: Format, out: &mut Vec<u8>) -> Result<(), WireError> {
    let fields = Fields {
        v: VERSION,
        heartbeat_ms: Some(at.millis()),
        ..Fields::default()
    };
    write(&fields, format, out)
}

fn write(fields: &Fields<'_>, format: Format, out: &mut Vec<u8>) -> Result<(), WireError> {
    match format {
        Format::MessagePack => {
            rmp_serde::encode::write_named(out, fields).map_err(|e| e.to_string())
        }
        Format::Json => serde_json::to_writer(out, fields).map_err(|e| e.to_string()),
    }
    .map_err(|detail| WireError::Malformed { format, detail })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::Listen;
    use proptest::prelude::*;

    const FORMATS: [Format; 2] = [Format::MessagePack, Format::Json];

    fn decoded(bytes: &[u8], format: Format) -> Result<Listen, WireError> {
        match decode(bytes, format)? {
            Decoded::Listen(listen) => Ok(listen.listen().to_owned()),
            Decoded::Heartbeat(_) => panic!("a heartbeat"),
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            user in ".{1,20}", artist in ".{1,20}", title in ".{0,20}",
            at in 0i64..4_102_444_800_000, key in any::<Option<u128>>(),
            duration in prop::option::of(0i64..=86_400_000),
            played in prop::option::of(0i64..=86_400_000),
        ) {
            let track = key.filter(|k| *k != 0).map_or(
                TrackKey::from_names(&artist, &title), TrackKey);
            let listen = Listen {
                user, artist, title, track,
                at: EventTime::from_millis(at),
                duration: duration.map(Span::from_millis),
                played: played.map(Span::from_millis),
            };
            for format in FORMATS {
                let mut bytes = Vec::new();
                encode(listen.borrowed(), format, &mut bytes).unwrap();
                prop_assert_eq!(decoded(&bytes, format).unwrap(), listen.clone());
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for format in FORMATS {
                let _ = decode(&bytes, format);
            }
        }
    }

    #[test]
    fn heartbeats_travel_too() {
        for format in FORMATS {
            let mut bytes = Vec::new();
            encode_heartbeat(EventTime::from_millis(42), format, &mut bytes).unwrap();
            let read = decode(&bytes, format).unwrap();
            assert!(matches!(read, Decoded::Heartbeat(at) if at.millis() == 42));
        }
    }

    #[test]
    fn bad_records_say_what_is_wrong() {
        let table = [
            (r#"{"v":1}"#, "field user is missing"),
            (r#"{"v":1,"user":"","at_ms":1}"#, "field user is missing"),
            (r#"{"v":1,"user":"u"}"#, "field at_ms is missing"),
            (r#"{"v":1,"user":"u","at_ms":1}"#, "mbid, artist and title"),
            (
                r#"{"v":1,"user":"u","at_ms":-5,"title":"t"}"#,
                "-5 ms is before 1970",
            ),
            (
                r#"{"v":1,"user":"u","at_ms":5,"title":"t","played_ms":9e3}"#,
                "not a listen",
            ),
            (
                r#"{"v":1,"user":"u","at_ms":5,"title":"t","played_ms":90000000}"#,
                "24 h",
            ),
            (
                r#"{"v":1,"user":"u","at_ms":5,"title":"t","duration_ms":-1}"#,
                "duration_ms of -1",
            ),
            (r#"{"v":2,"user":7}"#, "schema version 2 is unknown"),
            (r#"{"v":1,"#, "not a listen in application/json"),
            ("", "not a listen"),
        ];
        for (json, expected) in table {
            let error = decoded(json.as_bytes(), Format::Json)
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{json}: {error}");
        }
    }

    #[test]
    fn unknown_fields_do_no_harm() {
        let json = r#"{"v":1,"user":"u","at_ms":1,"title":"t","mood":{"x":[1,2]}}"#;
        assert_eq!(decoded(json.as_bytes(), Format::Json).unwrap().title, "t");
    }
}
