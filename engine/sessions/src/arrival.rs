//! A play as the stage takes it: addresses instead of names.

use segue_listen::{EventTime, Span, TrackId};
use serde::{Deserialize, Serialize};

/// One play in a lane's batch.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Arrival {
    /// The listener's slot in this lane.
    pub slot: u32,
    /// The track's id in this lane.
    pub track: TrackId,
    /// Low bits of the track key's digest: orders simultaneous plays the same way in every run.
    pub tie: u32,
    /// When it started.
    pub at: EventTime,
    /// How long the track is, if the event says so.
    pub duration: Option<Span>,
    /// How long it was played, if the player says so.
    pub played: Option<Span>,
}
