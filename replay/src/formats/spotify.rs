//! Spotify's extended streaming history (and its short form): a JSON array of plays, read element by
//! element. Its time is the *end* of the play; `ms_played` is the true time played.

use std::io::Read;
use std::ops::ControlFlow;

use segue_listen::{EventTime, ListenRef, Span};
use serde::Deserialize;

use super::json::Lenient;
use super::{Reading, Visit};
use crate::elements::{Element, Elements};
use crate::error::ReplayError;
use crate::iso::{self, BadTime};
use crate::keys;
use crate::open::input_error;
use crate::rejects::Reason;

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow, alias = "endTime", default)]
    ts: Lenient<'a>,
    #[serde(borrow, default)]
    username: Lenient<'a>,
    #[serde(borrow, alias = "msPlayed", default)]
    ms_played: Lenient<'a>,
    #[serde(borrow, alias = "trackName", default)]
    master_metadata_track_name: Lenient<'a>,
    #[serde(borrow, alias = "artistName", default)]
    master_metadata_album_artist_name: Lenient<'a>,
}

/// Visits the listens of `input` in its own order.
///
/// # Errors
/// What the input or the visitor says, and an array that does not end. Bad elements go to the
/// rejects; podcasts, audiobooks and videos are counted there.
pub fn read<R: Read>(
    input: R,
    reading: &mut Reading<'_>,
    mut visit: impl Visit,
) -> Result<ControlFlow<()>, ReplayError> {
    let mut elements = Elements::new(input, reading.settings.max_row_bytes);
    loop {
        let element = elements
            .next_element()
            .map_err(|e| input_error(reading.path, e))?;
        let (line, reason, row) = match element {
            None => return Ok(ControlFlow::Continue(())),
            Some((line, Element::TooLong { head })) => (line, Reason::TooLong, head),
            Some((line, Element::Whole(row))) => {
                match parse(row, &reading.settings.user_if_absent, &mut visit) {
                    Ok(flow) => match flow? {
                        ControlFlow::Continue(()) => continue,
                        ControlFlow::Break(()) => return Ok(ControlFlow::Break(())),
                    },
                    Err(reason) => (line, reason, row),
                }
            }
        };
        reading.reject(line, reason, row)?;
    }
}

/// Reads one element and visits it; the reason if it is no listen.
fn parse(
    row: &[u8],
    user_if_absent: &str,
    visit: &mut impl Visit,
) -> Result<Result<ControlFlow<()>, ReplayError>, Reason> {
    let text = std::str::from_utf8(row).map_err(|_| Reason::InvalidUtf8)?;
    let row: Row<'_> = serde_json::from_str(text).map_err(|_| Reason::BadJson)?;
    let user = match &row.username {
        Lenient::Absent => user_if_absent,
        name => name.text(),
    };
    if user.is_empty() {
        return Err(Reason::NoUser);
    }
    let end = iso::parse(row.ts.text()).map_err(|bad| match bad {
        BadTime::Unreadable => Reason::BadTime,
        BadTime::Implausible => Reason::ImplausibleTime,
    })?;
    let title = match &row.master_metadata_track_name {
        Lenient::Absent => return Err(Reason::NotMusic),
        title => title.text(),
    };
    let artist = row.master_metadata_album_artist_name.text();
    let track = keys::of("", artist, title).ok_or(Reason::NoTrack)?;
    let played = row.ms_played.span(1.0);
    let start = end.minus(played.unwrap_or(Span::ZERO)).millis();
    let at = EventTime::plausible(start).map_err(|_| Reason::ImplausibleTime)?;
    Ok(visit(ListenRef {
        user,
        track,
        artist,
        title,
        at,
        duration: None,
        played,
    }))
}
