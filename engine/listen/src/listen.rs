//! One play, as a player or a log reported it.

use crate::time::{EventTime, Span};
use crate::track::TrackKey;

/// A play that borrows its text from the record it was read from: the form the hot path sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListenRef<'a> {
    /// Who listened: the log's own name for the listener.
    pub user: &'a str,
    /// Which track.
    pub track: TrackKey,
    /// The artist's name as written in the log; may be empty.
    pub artist: &'a str,
    /// The track's title as written in the log; may be empty.
    pub title: &'a str,
    /// When the play started.
    pub at: EventTime,
    /// How long the track is, if the event says so.
    pub duration: Option<Span>,
    /// How long it was played, if the player says so.
    pub played: Option<Span>,
}

/// A play that owns its text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listen {
    /// See [`ListenRef::user`].
    pub user: String,
    /// See [`ListenRef::track`].
    pub track: TrackKey,
    /// See [`ListenRef::artist`].
    pub artist: String,
    /// See [`ListenRef::title`].
    pub title: String,
    /// See [`ListenRef::at`].
    pub at: EventTime,
    /// See [`ListenRef::duration`].
    pub duration: Option<Span>,
    /// See [`ListenRef::played`].
    pub played: Option<Span>,
}

impl Listen {
    /// The same play, borrowed.
    pub fn borrowed(&self) -> ListenRef<'_> {
        ListenRef {
            user: &self.user,
            track: self.track,
            artist: &self.artist,
            title: &self.title,
            at: self.at,
            duration: self.duration,
            played: self.played,
        }
    }
}

impl ListenRef<'_> {
    /// The same play, owned.
    pub fn to_owned(&self) -> Listen {
        Listen {
            user: self.user.to_owned(),
            track: self.track,
            artist: self.artist.to_owned(),
            title: self.title.to_owned(),
            at: self.at,
            duration: self.duration,
            played: self.played,
        }
    }
}
