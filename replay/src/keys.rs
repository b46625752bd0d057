//! The key of a row's track, if the row names one at all.

use segue_listen::TrackKey;

/// The key by MusicBrainz id if it is a good one, else by names; `None` if there is neither.
pub fn of(mbid: &str, artist: &str, title: &str) -> Option<TrackKey> {
    match TrackKey::from_mbid(mbid) {
        None if artist.is_empty() && title.is_empty() => None,
        None => Some(TrackKey::from_names(artist, title)),
        key => key,
    }
}
