//! What the stream held, for the report.

use std::collections::BTreeMap;

use segue_flow::lane::Counts;
use segue_flow::names::{self, Name};
use segue_listen::session::Session;
use segue_listen::{EventTime, Ratio};
use serde::{Deserialize, Serialize};

/// Bins of the completion-ratio histogram: 5 % each.
pub const RATIO_BINS: usize = 20;

/// What a completion ratio rests on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Basis {
    /// The player's own figure.
    Player,
    /// The same, counted when it came.
    PlayerAlready,
    /// The gap to the next play, and a length that the event stated.
    StatedLength,
    /// The gap to the next play, and a length estimated from everybody's gaps, if there is one.
    EstimatedLength,
}

/// Counts of completion ratios.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct RatioCounts {
    /// By ratio, in bins of a twentieth over `[0, 1]`.
    pub bins: [u64; RATIO_BINS],
    /// Sum of all ratios.
    pub sum: f64,
    /// From the player's own figure.
    pub by_player: u64,
    /// From a gap and a stated length.
    pub by_stated_length: u64,
    /// From a gap and an estimated length.
    pub by_estimated_length: u64,
    /// It is known how long a track was heard and not how long it is.
    pub unknown_length: u64,
}

/// Counts over a run.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct StreamTally {
    /// Records read.
    pub records: u64,
    /// Plays taken in.
    pub plays: u64,
    /// Exact duplicates that were dropped.
    pub duplicates: u64,
    /// Plays that were late and let in.
    pub late: u64,
    /// Plays beyond the allowed lateness.
    pub too_late: u64,
    /// Records that could not be decoded.
    pub dead_letters: u64,
    /// Heartbeats.
    pub heartbeats: u64,
    /// Ratios that a late play corrected.
    pub corrections: u64,
    /// Sessions closed and not retracted.
    pub sessions: u64,
    /// Finals that were retracted.
    pub retractions: u64,
    /// Sessions by number of plays.
    pub session_plays: BTreeMap<u32, u64>,
    /// Completion ratios.
    pub ratios: RatioCounts,
    /// Event time of the first play seen, ms since 1970.
    pub first_ms: Option<i64>,
    /// The latest event time seen, ms since 1970.
    pub last_ms: Option<i64>,
    /// Plays that the lanes let in, duplicates among them.
    pub items: u64,
    /// Plays that were learnt from and not measured, for want of time.
    #[serde(default)]
    pub not_measured: u64,
    /// Plays whose listener was answered after a newer one, which was already there.
    #[serde(default)]
    pub answered_later: u64,
}

impl StreamTally {
    pub(super) fn count(&mut self, counts: Counts) {
        self.records += counts.read;
        self.items += counts.items;
        self.late += counts.late;
        self.too_late += counts.too_late;
        self.dead_letters += counts.dead;
        self.heartbeats += counts.heartbeats;
        self.answered_later += counts.answered_later;
        names::count(Name::PredictionsCoalesced, counts.answered_later);
        // Plays of this batch are counted after this: until then they look like duplicates.
        self.duplicates = self.items - self.plays.min(self.items);
    }

    pub(super) fn play(&mut self, at: EventTime) {
        self.plays += 1;
        self.duplicates = self.items - self.plays.min(self.items);
        self.first_ms.get_or_insert(at.millis());
        self.last_ms = self.last_ms.max(Some(at.millis()));
    }

    pub(super) fn not_measured(&mut self, plays: usize) {
        self.not_measured += plays as u64;
        names::count(Name::PlaysNotMeasured, plays as u64);
    }

    /// A play is over and so much was heard of it.
    pub(super) fn settled(&mut self, basis: Basis, ratio: Option<Ratio>) {
        let count = match (basis, ratio) {
            (Basis::PlayerAlready, _) => return,
            (_, None) => &mut self.ratios.unknown_length,
            (Basis::Player, _) => &mut self.ratios.by_player,
            (Basis::StatedLength, _) => &mut self.ratios.by_stated_length,
            (Basis::EstimatedLength, _) => &mut self.ratios.by_estimated_length,
        };
        *count += 1;
        if let Some(ratio) = ratio {
            self.bin(ratio.value());
        }
    }

    fn bin(&mut self, ratio: f32) {
        self.ratios.sum += f64::from(ratio);
        let bin = ((ratio * RATIO_BINS as f32) as usize).min(RATIO_BINS - 1);
        if let Some(count) = self.ratios.bins.get_mut(bin) {
            *count += 1;
        }
    }

    pub(super) fn corrected(&mut self) {
        self.corrections += 1;
    }

    pub(super) fn closed(&mut self, session: &Session) {
        self.sessions += 1;
        *self.session_plays.entry(session.plays).or_default() += 1;
    }

    pub(super) fn retracted(&mut self, session: &Session) {
        self.sessions = self.sessions.saturating_sub(1);
        self.retractions += 1;
        if let Some(count) = self.session_plays.get_mut(&session.plays) {
            *count = count.saturating_sub(1);
        }
    }
}
