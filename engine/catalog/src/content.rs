//! What is known of a track.

use segue_listen::{TrackId, TrackKey};
use serde::{Deserialize, Serialize};

/// A track's content, as far as it is known. Owns its text: it is made once per new track, off the
/// hot path from then on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TrackContent {
    /// Its address in this run.
    pub track: TrackId,
    /// Its identity.
    pub key: TrackKey,
    /// The artist's name as first written in the log; may be empty.
    pub artist: Box<str>,
    /// The title as first written in the log; may be empty.
    pub title: Box<str>,
}
