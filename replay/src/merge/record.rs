//! A listen as the sort keeps it, in memory and in temporary files: fixed fields, then text.
//!
//! ```text
//! length of the rest u32 | at i64 | key u128 | duration i64 | played i64 | user u32 | artist u32
//! | user text | artist text | title text            (little endian; i64::MIN: absent)
//! ```

use segue_listen::{EventTime, ListenRef, Span, TrackKey};

/// Bytes before the text, without the length.
const FIXED: usize = 8 + 16 + 8 + 8 + 4 + 4;

/// Bytes of the length.
pub(super) const LENGTH: usize = 4;

/// Appends `listen` to `out`.
pub(super) fn write(listen: &ListenRef<'_>, out: &mut Vec<u8>) {
    let text = listen.user.len() + listen.artist.len() + listen.title.len();
    out.extend_from_slice(&((FIXED + text) as u32).to_le_bytes());
    out.extend_from_slice(&listen.at.millis().to_le_bytes());
    out.extend_from_slice(&listen.track.0.to_le_bytes());
    for span in [listen.duration, listen.played] {
        out.extend_from_slice(&span.map_or(i64::MIN, Span::millis).to_le_bytes());
    }
    out.extend_from_slice(&(listen.user.len() as u32).to_le_bytes());
    out.extend_from_slice(&(listen.artist.len() as u32).to_le_bytes());
    out.extend_from_slice(listen.user.as_bytes());
    out.extend_from_slice(listen.artist.as_bytes());
    out.extend_from_slice(listen.title.as_bytes());
}

/// How many bytes [`write`] appends.
pub(super) fn length(listen: &ListenRef<'_>) -> usize {
    LENGTH + FIXED + listen.user.len() + listen.artist.len() + listen.title.len()
}

/// The record at `offset`, without its length; `None` if there is no whole one.
pub(super) fn at(bytes: &[u8], offset: usize) -> Option<&[u8]> {
    let (length, rest) = bytes.get(offset..)?.split_first_chunk::<LENGTH>()?;
    rest.get(..u32::from_le_bytes(*length) as usize)
}

/// The listen that a record (without its length) holds; `None` if it is not what [`write`] wrote.
pub(super) fn read(record: &[u8]) -> Option<ListenRef<'_>> {
    let (at, rest) = record.split_first_chunk::<8>()?;
    let (track, rest) = rest.split_first_chunk::<16>()?;
    let (duration, rest) = rest.split_first_chunk::<8>()?;
    let (played, rest) = rest.split_first_chunk::<8>()?;
    let (user, rest) = rest.split_first_chunk::<4>()?;
    let (artist, text) = rest.split_first_chunk::<4>()?;
    let text = std::str::from_utf8(text).ok()?;
    let (user, text) = text.split_at_checked(u32::from_le_bytes(*user) as usize)?;
    let (artist, title) = text.split_at_checked(u32::from_le_bytes(*artist) as usize)?;
    let span = |bytes: &[u8; 8]| match i64::from_le_bytes(*bytes) {
        i64::MIN => None,
        millis => Some(Span::from_millis(millis)),
    };
    Some(ListenRef {
        user,
        track: TrackKey(u128::from_le_bytes(*track)),
        artist,
        title,
        at: EventTime::from_millis(i64::from_le_bytes(*at)),
        duration: span(duration),
        played: span(played),
    })
}

/// What records are ordered by: the time, then the user's bytes.
pub(super) fn key(record: &[u8]) -> (i64, &[u8]) {
    let time = record
        .first_chunk::<8>()
        .map_or(i64::MIN, |at| i64::from_le_bytes(*at));
    let user = record
        .get(40..)
        .and_then(|rest| rest.split_first_chunk::<4>())
        .and_then(|(length, _)| record.get(FIXED..FIXED + u32::from_le_bytes(*length) as usize));
    (time, user.unwrap_or(&[]))
}
