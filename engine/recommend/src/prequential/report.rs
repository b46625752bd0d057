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
    /// How well old plays are still ranked; absent where none were drawn.
    pub old_plays: Option<OldPlaysReport>,
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

/// How well old plays are still ranked.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct OldPlaysReport {
    /// Plays of the sample.
    pub plays: u64,
    /// Plays that it was drawn from: the first ones that were measured, of tracks that somebody had
    /// played before.
    pub among: u64,
    /// Over time; the first one is of the moment from which on none of them is learnt from again.
    pub readings: Vec<OldPlaysReading>,
}

/// The sample, ranked again.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct OldPlaysReading {
    /// Plays that had been measured when its last play was ranked.
    pub after: u64,
    /// Every recommender that can rank old plays again.
    pub recommenders: Vec<OldPlaysRecommender>,
    /// The paired differences that were asked for, as far as both can.
    pub differences: Vec<OldPlaysChange>,
}

/// One recommender on old plays; means per play.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct OldPlaysRecommender {
    /// Its name.
    pub name: String,
    /// When each play was new, before anything was learnt from it.
    pub new: Metrics,
    /// Of the reading.
    pub now: Metrics,
    /// By how much it is better now than it was; below 0, worse.
    pub change: Metrics,
}

/// By how much one recommender is ahead of another on old plays.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct OldPlaysChange {
    /// The first.
    pub name: String,
    /// The second, which is taken away.
    pub minus: String,
    /// How far the first is ahead now.
    pub now: Metrics,
    /// By how much more than the second's the first's rankings have changed: where the second does not
    /// learn, an interval below 0 says that learning has cost what was known.
    pub change: Metrics,
}
