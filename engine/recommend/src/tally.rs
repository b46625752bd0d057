//! Sums per listener, recommender and kind of play: all that means, intervals and paired
//! differences are made of.

use hashbrown::HashMap;
use segue_listen::UserId;
use serde::{Deserialize, Serialize};

use crate::interval::Estimate;
use crate::listeners::Facts;
use crate::ranking::Measures;
use crate::recommender::CONTEXT_BLOCK;

type Values = [f64; Measures::COUNT];

/// A kind of play is three bits: first play of the track by this listener; track cold; listener cold.
const KINDS: usize = 8;
const FIRST: usize = 1;
const COLD_TRACK: usize = 2;
const COLD_USER: usize = 4;

fn kind(facts: &Facts) -> usize {
    usize::from(facts.first_play) * FIRST
        + usize::from(facts.cold_track) * COLD_TRACK
        + usize::from(facts.plays < CONTEXT_BLOCK) * COLD_USER
}

/// Which plays a figure is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    All,
    Repeats,
    FirstPlays,
    ColdTracks,
    WarmTracks,
    ColdUsers,
    WarmUsers,
}

impl Part {
    fn has(self, kind: usize) -> bool {
        match self {
            Part::All => true,
            Part::Repeats => kind & FIRST == 0,
            Part::FirstPlays => kind & FIRST != 0,
            Part::ColdTracks => kind & COLD_TRACK != 0,
            Part::WarmTracks => kind & COLD_TRACK == 0,
            Part::ColdUsers => kind & COLD_USER != 0,
            Part::WarmUsers => kind & COLD_USER == 0,
        }
    }
}

/// Whose figure: a recommender's, or by how much the first is ahead of the second on the same plays.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Column {
    Of(usize),
    Difference(usize, usize),
}

/// The metrics with their intervals.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Metrics {
    /// Recall at 10 (hit rate: there is one relevant track).
    pub recall_10: Estimate,
    /// Recall at 20.
    pub recall_20: Estimate,
    /// NDCG at 10.
    pub ndcg_10: Estimate,
    /// NDCG at 20.
    pub ndcg_20: Estimate,
    /// Mean reciprocal rank, not cut.
    pub mrr: Estimate,
}

impl Metrics {
    fn of(estimate: impl Fn(usize) -> Estimate) -> Self {
        Self {
            recall_10: estimate(0),
            recall_20: estimate(1),
            ndcg_10: estimate(2),
            ndcg_20: estimate(3),
            mrr: estimate(4),
        }
    }
}

/// The sums of some plays.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Tally {
    recommenders: usize,
    rows: HashMap<UserId, usize>,
    /// Per listener.
    events: Vec<[u32; KINDS]>,
    /// Per listener, recommender and kind, in this order.
    sums: Vec<Values>,
}

impl Tally {
    pub(crate) fn new(recommenders: usize) -> Self {
        Self {
            recommenders,
            rows: HashMap::new(),
            events: Vec::new(),
            sums: Vec::new(),
        }
    }

    /// Empties it and keeps its memory.
    pub(crate) fn clear(&mut self) {
        self.rows.clear();
        self.events.clear();
        self.sums.clear();
    }

    /// Adds one play: what each recommender's rank was worth.
    pub(crate) fn add(&mut self, facts: &Facts, values: impl Iterator<Item = Measures>) {
        let kind = kind(facts);
        let row = *self.rows.entry(facts.user).or_insert(self.events.len());
        if row == self.events.len() {
            self.events.push([0; KINDS]);
            let sums = self.events.len() * self.recommenders * KINDS;
            self.sums.resize(sums, Values::default());
        }
        if let Some(events) = self.events.get_mut(row) {
            events[kind] = events[kind].saturating_add(1);
        }
        for (recommender, measures) in values.enumerate().take(self.recommenders) {
            let cell = (row * self.recommenders + recommender) * KINDS + kind;
            if let Some(sums) = self.sums.get_mut(cell) {
                for (sum, value) in sums.iter_mut().zip(measures.to_array()) {
                    *sum += value;
                }
            }
        }
    }

    /// How many events and listeners a part has.
    pub(crate) fn size(&self, part: Part) -> (u64, u64) {
        (0..self.events.len())
            .map(|row| self.events_of(row, part))
            .filter(|&events| events > 0)
            .fold((0, 0), |(events, users), more| (events + more, users + 1))
    }

    /// The means per event.
    pub(crate) fn per_event(&self, column: Column, part: Part) -> Metrics {
        Metrics::of(|metric| {
            bounded(
                column,
                Estimate::per_event(self.cells(column, part, metric)),
            )
        })
    }

    /// The means over listeners.
    pub(crate) fn per_user(&self, column: Column, part: Part) -> Metrics {
        Metrics::of(|metric| bounded(column, Estimate::per_user(self.cells(column, part, metric))))
    }

    /// Each listener's number of events and sum of one metric.
    fn cells(
        &self,
        column: Column,
        part: Part,
        metric: usize,
    ) -> impl Iterator<Item = (f64, f64)> + Clone {
        (0..self.events.len()).map(move |row| {
            let sum = match column {
                Column::Of(recommender) => self.sum(row, recommender, part, metric),
                Column::Difference(ahead, behind) => {
                    self.sum(row, ahead, part, metric) - self.sum(row, behind, part, metric)
                }
            };
            (self.events_of(row, part) as f64, sum)
        })
    }

    fn events_of(&self, row: usize, part: Part) -> u64 {
        self.events.get(row).map_or(0, |events| {
            (0..KINDS)
                .filter(|&kind| part.has(kind))
                .map(|kind| u64::from(events[kind]))
                .sum()
        })
    }

    fn sum(&self, row: usize, recommender: usize, part: Part, metric: usize) -> f64 {
        let from = (row * self.recommenders + recommender) * KINDS;
        let kinds = self.sums.get(from..from + KINDS).unwrap_or(&[]);
        kinds
            .iter()
            .enumerate()
            .filter(|(kind, _)| part.has(*kind))
            .filter_map(|(_, values)| values.get(metric))
            .sum()
    }
}

fn bounded(column: Column, estimate: Estimate) -> Estimate {
    match column {
        Column::Of(_) => estimate.within_unit(),
        Column::Difference(..) => estimate,
    }
}
