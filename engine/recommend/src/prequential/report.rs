//! The figures of an evaluation, as they are written.

use serde::Serialize;

use crate::ranking::Measures;
use crate::tally::Metrics;

/// The whole evaluation, as figures.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct PrequentialReport {
    /// Events in a window.
    pub window: u64,
    /// The fading factor.
    pub fading: f64,
    /// Every recommender, in the order they were named.
    pub recommenders: Vec<RecommenderReport>,
    /// The paired differences that were asked for.
    pub differences: Vec<DifferenceReport>,
}

/// One recommender.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct RecommenderReport {
    /// Its name.
    pub name: String,
    /// Plays whose track it could not score at all; they count as misses.
    pub unranked: u64,
    /// The figures.
    #[serde(flatten)]
    pub parts: Parts,
}

/// By how much one recommender is ahead of another on the same plays.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct DifferenceReport {
    /// The first.
    pub name: String,
    /// The second, which is taken away.
    pub minus: String,
    /// The differences; an interval above 0 says that the first is better.
    #[serde(flatten)]
    pub parts: Parts,
}

/// Figures by kind of play and over time.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Parts {
    /// All plays.
    pub overall: Slice,
    /// Plays of a track the listener had played before.
    pub repeats: Slice,
    /// A listener's first plays of a track.
    pub first_plays: Slice,
    /// Plays of a track that nobody had played before.
    pub cold_tracks: Slice,
    /// Plays of a track that somebody had played before.
    pub warm_tracks: Slice,
    /// Plays of a listener with fewer than 50 plays behind them.
    pub cold_users: Slice,
    /// Plays of the other listeners.
    pub warm_users: Slice,
    /// Over time; the last one may be unfinished.
    pub windows: Vec<Window>,
}

/// Some plays.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Slice {
    /// How many.
    pub events: u64,
    /// Of how many listeners.
    pub users: u64,
    /// Means per event.
    pub per_event: Metrics,
    /// Means over listeners of each one's mean.
    pub per_user: Metrics,
}

/// A run of consecutive events.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Window {
    /// The earliest event time in it, in milliseconds since 1970.
    pub from: i64,
    /// The latest.
    pub to: i64,
    /// Whether it has all its events; the last window may not.
    pub whole: bool,
    /// All its plays.
    #[serde(flatten)]
    pub overall: WindowPart,
    /// Its repeats.
    pub repeats: WindowPart,
    /// Its first plays.
    pub first_plays: WindowPart,
    /// The faded means at its end.
    pub faded: Measures,
}

/// Some plays of a window.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct WindowPart {
    /// How many.
    pub events: u64,
    /// Of how many listeners.
    pub users: u64,
    /// Means per event.
    #[serde(flatten)]
    pub metrics: Metrics,
}
