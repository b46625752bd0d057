/*
[dependencies]
segue-listen = { path = "{{ SEGUE_HOME }}/engine/listen" }
*/
//! `track_half` as an Arroyo function: a track's 128-bit key as two BIGINTs.
//!
//! An aggregate function takes columns of numbers only (text columns do not compile with
//! arroyo-udf-plugin 0.2.0), so a key reaches `listening_sessions` in halves. What the key is, is
//! `segue_listen::track`'s to say.

// `#[udf]` adds a public `__run` without a doc.
#![allow(missing_docs)]

use arroyo_udf_plugin::udf;
use segue_listen::TrackKey;

/// The upper (`half` = 1) or lower (`half` = 0) 64 bits of the track's key: its MusicBrainz id where
/// `mbid` is one, else a hash of the normalised names.
///
/// NULL where nothing names the track, as for any other `half`. Defined for every input.
#[udf]
pub fn track_half(
    mbid: Option<&str>,
    artist: Option<&str>,
    title: Option<&str>,
    half: i64,
) -> Option<i64> {
    let artist = artist.unwrap_or_default();
    let title = title.unwrap_or_default();
    let key = match mbid.and_then(TrackKey::from_mbid) {
        Some(key) => key,
        None if artist.is_empty() && title.is_empty() => return None,
        None => TrackKey::from_names(artist, title),
    };
    match half {
        1 => Some((key.0 >> 64) as u64 as i64),
        0 => Some(key.0 as u64 as i64),
        _ => None,
    }
}
