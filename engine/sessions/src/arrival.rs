//! A play as the stage takes it: addresses instead of names.

use segue_catalog::content::TrackContent;
use segue_listen::{EventTime, Span, TrackId};

/// One play in a lane's batch.
#[derive(Debug)]
pub struct Arrival {
    /// The listener's slot in this lane.
    pub slot: u32,
    /// The track.
    pub track: TrackId,
    /// Low bits of the track key's digest: orders simultaneous plays the same way in every run.
    pub tie: u32,
    /// When it started.
    pub at: EventTime,
    /// How long the track is, if the event says so.
    pub duration: Option<Span>,
    /// How long it was played, if the player says so.
    pub played: Option<Span>,
    /// What is seen for the first time with this play; nearly always nothing.
    pub news: Option<Box<News>>,
}

/// First sights.
#[derive(Debug, Default, Clone)]
pub struct News {
    /// Listeners new to this lane: slot and name.
    pub listeners: Vec<(u32, Box<str>)>,
    /// Tracks that no lane saw before.
    pub tracks: Vec<TrackContent>,
}

impl News {
    /// Takes in other news.
    pub fn merge(&mut self, mut other: News) {
        self.listeners.append(&mut other.listeners);
        self.tracks.append(&mut other.tracks);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.listeners.is_empty() && self.tracks.is_empty()
    }
}
