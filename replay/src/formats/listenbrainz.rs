//! ListenBrainz: one JSON object per line, as in its dumps and its users' exports
//! (<https://listenbrainz.readthedocs.io/en/latest/users/json.html>).

use std::io::Read;
use std::ops::ControlFlow;

use segue_listen::{EventTime, ListenRef, Span, TrackKey};
use serde::Deserialize;

use super::json::Lenient;
use super::{Reading, Visit};
use crate::error::ReplayError;
use crate::keys;
use crate::lines::{Line, Lines};
use crate::open::input_error;
use crate::rejects::Reason;

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow, default)]
    user_name: Lenient<'a>,
    #[serde(borrow, default)]
    user_id: Lenient<'a>,
    #[serde(borrow, default)]
    listened_at: Lenient<'a>,
    /// The dumps' name for `listened_at`.
    #[serde(borrow, default)]
    timestamp: Lenient<'a>,
    #[serde(borrow)]
    track_metadata: Track<'a>,
}

#[derive(Deserialize)]
struct Track<'a> {
    #[serde(borrow, default)]
    artist_name: Lenient<'a>,
    #[serde(borrow, default)]
    track_name: Lenient<'a>,
    #[serde(borrow, default)]
    additional_info: Option<Info<'a>>,
    #[serde(borrow, default)]
    mbid_mapping: Option<Mapping<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Info<'a> {
    #[serde(borrow)]
    duration_ms: Lenient<'a>,
    /// Seconds.
    #[serde(borrow)]
    duration: Lenient<'a>,
    /// Seconds.
    #[serde(borrow)]
    duration_played: Lenient<'a>,
    #[serde(borrow)]
    recording_mbid: Lenient<'a>,
    /// What Last.fm calls a track's id is a recording's.
    #[serde(borrow)]
    lastfm_track_mbid: Lenient<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Mapping<'a> {
    #[serde(borrow)]
    recording_mbid: Lenient<'a>,
}

/// Visits the listens of `input` in its own order.
///
/// # Errors
/// What the input or the visitor says. Bad rows go to the rejects.
pub fn read<R: Read>(
    input: R,
    reading: &mut Reading<'_>,
    mut visit: impl Visit,
) -> Result<ControlFlow<()>, ReplayError> {
    let mut lines = Lines::new(input, reading.settings.max_row_bytes);
    loop {
        let line = lines
            .next_line()
            .map_err(|e| input_error(reading.path, e))?;
        let (reason, row) = match line {
            None => return Ok(ControlFlow::Continue(())),
            Some(Line::TooLong { head, .. }) => (Reason::TooLong, head),
            Some(Line::Whole(row)) => {
                match parse(row, &reading.settings.user_if_absent, &mut visit) {
                    Ok(flow) => match flow? {
                        ControlFlow::Continue(()) => continue,
                        ControlFlow::Break(()) => return Ok(ControlFlow::Break(())),
                    },
                    Err(reason) => (reason, row),
                }
            }
        };
        let row = row.to_vec();
        reading.reject(lines.number(), reason, &row)?;
    }
}

/// Reads one row and visits it; the reason if it is no listen.
fn parse(
    row: &[u8],
    user_if_absent: &str,
    visit: &mut impl Visit,
) -> Result<Result<ControlFlow<()>, ReplayError>, Reason> {
    let text = std::str::from_utf8(row).map_err(|_| Reason::InvalidUtf8)?;
    let row: Row<'_> = serde_json::from_str(text).map_err(|_| Reason::BadJson)?;
    let id;
    let user = match (&row.user_name, &row.user_id) {
        (Lenient::Absent, Lenient::Absent) => user_if_absent,
        (Lenient::Text(name), _) => name,
        (_, Lenient::Text(name)) => name,
        (_, Lenient::Number(number)) => {
            id = number.to_string();
            &id
        }
        _ => "",
    };
    if user.is_empty() {
        return Err(Reason::NoUser);
    }
    let seconds = row.listened_at.number().or(row.timestamp.number());
    let seconds = seconds.ok_or(Reason::BadTime)?;
    let at =
        EventTime::plausible((seconds * 1_000.0) as i64).map_err(|_| Reason::ImplausibleTime)?;
    let track = row.track_metadata;
    let info = track.additional_info.unwrap_or_default();
    let mapping = track.mbid_mapping.unwrap_or_default();
    let (artist, title) = (track.artist_name.text(), track.track_name.text());
    let key = [
        &mapping.recording_mbid,
        &info.recording_mbid,
        &info.lastfm_track_mbid,
    ]
    .iter()
    .find_map(|mbid| TrackKey::from_mbid(mbid.text()));
    let track = match key {
        Some(key) => key,
        None => keys::of("", artist, title).ok_or(Reason::NoTrack)?,
    };
    let length = info.duration_ms.span(1.0).or(info.duration.span(1_000.0));
    Ok(visit(ListenRef {
        user,
        track,
        artist,
        title,
        at,
        duration: length.filter(|length| *length > Span::ZERO),
        played: info.duration_played.span(1_000.0),
    }))
}
