//! Prequential evaluation: each play is ranked by every recommender from the state before it, then
//! learnt from (Gama, Sebastião and Rodrigues 2013, "On evaluating stream learning algorithms").
//!
//! Ranks are kept as sums: overall, by kind of play, in windows of a number of events, and faded.
//! All recommenders see the same plays, so differences between two are paired. A rank of `None` (the
//! recommender cannot score the track) counts as a miss.

use serde::{Deserialize, Serialize};

use crate::listeners::Facts;
use crate::ranking::Measures;
use crate::tally::{Column, Part, Tally};

mod old_plays;
mod report;
pub use report::{
    DifferenceReport, OldPlaysChange, OldPlaysReading, OldPlaysRecommender, OldPlaysReport, Parts,
    PrequentialReport, RecommenderReport, Slice, Window, WindowPart,
};

pub(crate) use old_plays::OldPlays;

/// What a user may tune.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PrequentialSettings {
    /// Events in a window, at least 1.
    pub window: u64,
    /// What is left of an event's weight after the next one, in (0, 1).
    pub fading: f64,
    /// Old plays that are ranked again while learning goes on, to see what is forgotten: a sample of
    /// the first `old_among` measured ones, which is never learnt from again. 0: none.
    pub old_plays: usize,
    /// Measured plays that the sample is drawn from, at least 1.
    pub old_among: u64,
    /// Measured plays from one reading of the sample to the next, at least 1.
    pub old_every: u64,
    /// What the sample is drawn by. Taken from the root seed by the binary.
    pub seed: u64,
}

impl Default for PrequentialSettings {
    fn default() -> Self {
        Self {
            window: 10_000,
            fading: 0.9999,
            old_plays: 128,
            old_among: 5_000,
            old_every: 10_000,
            seed: 0,
        }
    }
}

/// Windows that are kept, the newest: a run has no end, and memory has.
const MOST_WINDOWS: usize = 4_096;

/// Why an evaluation could not be set up or go on.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum PrequentialError {
    /// A setting out of its range.
    #[error("prequential.{key} = {value} is out of range: set it {range}")]
    Setting {
        /// The key.
        key: &'static str,
        /// The value given.
        value: String,
        /// What is allowed, in words.
        range: &'static str,
    },
    /// A comparison with a recommender that is not evaluated.
    #[error("`{name}` is compared but not evaluated: name one of {}", known.join(", "))]
    Unknown {
        /// The name.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// Columns of unequal length.
    #[error("{recommender} gave {found} ranks for {expected} plays: one each is needed")]
    Ranks {
        /// Whose column (or how many columns there are, if one is missing).
        recommender: String,
        /// Ranks given.
        found: usize,
        /// Plays.
        expected: usize,
    },
}

/// The running evaluation of several recommenders on the same plays. One owner.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Prequential {
    settings: PrequentialSettings,
    names: Vec<String>,
    /// The recommenders, then the differences.
    columns: Vec<Column>,
    overall: Tally,
    unranked: Vec<u64>,
    faded: Faded,
    open: OpenWindow,
    /// By column. Not in a checkpoint, since they are many: a restarted run begins this list
    /// anew, and its totals go on.
    #[serde(skip)]
    closed: Vec<Vec<Window>>,
    old: Option<OldPlays>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Faded {
    weight: f64,
    sums: Vec<[f64; Measures::COUNT]>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct OpenWindow {
    events: u64,
    from: i64,
    to: i64,
    tally: Tally,
}

impl Prequential {
    /// An evaluation of the recommenders of these names, in this order; `compare` names pairs of
    /// them, of which the difference first − second is reported.
    ///
    /// # Errors
    /// A setting out of range, or a comparison with a name that is not in `names`.
    pub fn new(
        names: &[&str],
        compare: &[(&str, &str)],
        settings: PrequentialSettings,
    ) -> Result<Self, PrequentialError> {
        settings.check()?;
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let place = |name: &str| {
            names
                .iter()
                .position(|known| known == name)
                .ok_or_else(|| PrequentialError::Unknown {
                    name: name.to_owned(),
                    known: names.clone(),
                })
        };
        let mut columns: Vec<Column> = (0..names.len()).map(Column::Of).collect();
        for (ahead, behind) in compare {
            columns.push(Column::Difference(place(ahead)?, place(behind)?));
        }
        let recommenders = names.len();
        Ok(Self {
            settings,
            overall: Tally::new(recommenders),
            unranked: vec![0; recommenders],
            faded: Faded {
                weight: 0.0,
                sums: vec![Default::default(); recommenders],
            },
            open: OpenWindow {
                events: 0,
                from: i64::MAX,
                to: i64::MIN,
                tally: Tally::new(recommenders),
            },
            closed: vec![Vec::new(); columns.len()],
            columns,
            names,
            old: None,
        })
    }

    /// Also sees how well old plays are still ranked by the recommenders of these names, which are among
    /// those that are evaluated.
    #[must_use]
    pub fn with_old_plays(mut self, names: &[&str], compare: &[(&str, &str)]) -> Self {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let any = self.settings.old_plays > 0 && !names.is_empty();
        self.old = any.then(|| OldPlays::new(names, compare, self.settings));
        self
    }

    /// The old plays, if any are kept.
    pub(crate) fn old_plays(&mut self) -> Option<&mut OldPlays> {
        self.old.as_mut()
    }

    /// Goes on from a checkpoint, with the windows that close from now on.
    pub(crate) fn restored(mut self) -> Self {
        self.closed = vec![Vec::new(); self.columns.len()];
        self
    }

    /// Takes in the ranks of a run of plays: `ranks[r][i]` is what recommender `r` gave play `i`.
    ///
    /// # Errors
    /// A column missing, or one that is not as long as `facts`; nothing is taken in then.
    pub fn record(
        &mut self,
        facts: &[Facts],
        ranks: &[&[Option<u32>]],
    ) -> Result<(), PrequentialError> {
        if ranks.len() != self.names.len() {
            return Err(PrequentialError::Ranks {
                recommender: format!("{} of {} recommenders", ranks.len(), self.names.len()),
                found: ranks.iter().map(|column| column.len()).sum(),
                expected: facts.len() * self.names.len(),
            });
        }
        for (column, name) in ranks.iter().zip(&self.names) {
            if column.len() != facts.len() {
                return Err(PrequentialError::Ranks {
                    recommender: name.clone(),
                    found: column.len(),
                    expected: facts.len(),
                });
            }
        }
        for (play, facts) in facts.iter().enumerate() {
            let rank = |column: &&[Option<u32>]| column.get(play).copied().flatten();
            for (unranked, column) in self.unranked.iter_mut().zip(ranks) {
                *unranked += u64::from(rank(column).is_none());
            }
            let values = ranks.iter().map(|column| Measures::of(rank(column)));
            self.overall.add(facts, values.clone());
            self.faded.add(self.settings.fading, values.clone());
            self.open.tally.add(facts, values);
            self.open.events += 1;
            self.open.from = self.open.from.min(facts.at.millis());
            self.open.to = self.open.to.max(facts.at.millis());
            if self.open.events >= self.settings.window {
                self.close_window();
            }
        }
        Ok(())
    }

    /// How many plays were taken in.
    pub fn events(&self) -> u64 {
        self.overall.size(Part::All).0
    }

    /// The faded means of a recommender as they stand: what a dashboard shows.
    pub fn faded(&self, name: &str) -> Option<Measures> {
        let place = self.names.iter().position(|known| known == name)?;
        self.faded.mean(place)
    }

    /// The last whole window of a recommender: what a watch over a learner looks at.
    pub fn last_window(&self, name: &str) -> Option<&Window> {
        let place = self.names.iter().position(|known| known == name)?;
        self.closed.get(place)?.last()
    }

    /// Everything so far, the window that is still open included.
    pub fn report(&self) -> PrequentialReport {
        let mut report = PrequentialReport {
            window: self.settings.window,
            fading: self.settings.fading,
            recommenders: Vec::new(),
            differences: Vec::new(),
            old_plays: self.old.as_ref().and_then(OldPlays::report),
        };
        for (place, &column) in self.columns.iter().enumerate() {
            let mut windows = self.closed.get(place).cloned().unwrap_or_default();
            if self.open.events > 0 {
                windows.push(self.open.report(column, self.faded_of(column), false));
            }
            let slice = |part| self.slice(column, part);
            let parts = Parts {
                overall: slice(Part::All),
                repeats: slice(Part::Repeats),
                first_plays: slice(Part::FirstPlays),
                cold_tracks: slice(Part::ColdTracks),
                warm_tracks: slice(Part::WarmTracks),
                cold_users: slice(Part::ColdUsers),
                warm_users: slice(Part::WarmUsers),
                windows,
            };
            match column {
                Column::Of(at) => report.recommenders.push(RecommenderReport {
                    name: self.name(at),
                    unranked: self.unranked.get(at).copied().unwrap_or(0),
                    parts,
                }),
                Column::Difference(ahead, behind) => report.differences.push(DifferenceReport {
                    name: self.name(ahead),
                    minus: self.name(behind),
                    parts,
                }),
            }
        }
        report
    }

    fn name(&self, at: usize) -> String {
        self.names.get(at).cloned().unwrap_or_default()
    }

    fn slice(&self, column: Column, part: Part) -> Slice {
        let (events, users) = self.overall.size(part);
        Slice {
            events,
            users,
            per_event: self.overall.per_event(column, part),
            per_user: self.overall.per_user(column, part),
        }
    }

    fn faded_of(&self, column: Column) -> Option<Measures> {
        match column {
            Column::Of(at) => self.faded.mean(at),
            Column::Difference(ahead, behind) => {
                let mut values = self.faded.mean(ahead)?.to_array();
                let behind = self.faded.mean(behind)?.to_array();
                values.iter_mut().zip(behind).for_each(|(a, b)| *a -= b);
                Some(Measures::from_array(values))
            }
        }
    }

    fn close_window(&mut self) {
        for (place, &column) in self.columns.iter().enumerate() {
            let window = self.open.report(column, self.faded_of(column), true);
            if let Some(closed) = self.closed.get_mut(place) {
                if closed.len() >= MOST_WINDOWS {
                    closed.remove(0);
                }
                closed.push(window);
            }
        }
        self.open.events = 0;
        self.open.from = i64::MAX;
        self.open.to = i64::MIN;
        self.open.tally.clear();
    }
}

impl PrequentialSettings {
    fn check(&self) -> Result<(), PrequentialError> {
        if self.window == 0 {
            return Err(PrequentialError::Setting {
                key: "window",
                value: self.window.to_string(),
                range: "to at least 1 event",
            });
        }
        for (key, value) in [("old_among", self.old_among), ("old_every", self.old_every)] {
            if value == 0 {
                return Err(PrequentialError::Setting {
                    key,
                    value: value.to_string(),
                    range: "to at least 1 play",
                });
            }
        }
        if !(self.fading > 0.0 && self.fading < 1.0) {
            return Err(PrequentialError::Setting {
                key: "fading",
                value: self.fading.to_string(),
                range: "above 0 and below 1",
            });
        }
        Ok(())
    }
}

impl Faded {
    fn add(&mut self, fading: f64, values: impl Iterator<Item = Measures>) {
        self.weight = self.weight * fading + 1.0;
        for (sums, measures) in self.sums.iter_mut().zip(values) {
            for (sum, value) in sums.iter_mut().zip(measures.to_array()) {
                *sum = *sum * fading + value;
            }
        }
    }

    fn mean(&self, recommender: usize) -> Option<Measures> {
        let sums = self.sums.get(recommender)?;
        (self.weight > 0.0).then(|| Measures::from_array(sums.map(|sum| sum / self.weight)))
    }
}

impl OpenWindow {
    fn report(&self, column: Column, faded: Option<Measures>, whole: bool) -> Window {
        let part = |part| {
            let (events, users) = self.tally.size(part);
            WindowPart {
                events,
                users,
                metrics: self.tally.per_event(column, part),
            }
        };
        Window {
            from: self.from,
            to: self.to,
            whole,
            overall: part(Part::All),
            repeats: part(Part::Repeats),
            first_plays: part(Part::FirstPlays),
            faded: faded.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests;
