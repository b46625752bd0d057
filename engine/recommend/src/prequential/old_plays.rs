//! How well old plays are still ranked: what learning the new costs.
//!
//! A sample of the first measured plays, uniform over them, is kept with the questions as they were
//! asked. Once it stands, none of it is learnt from again ([`Recommender::hold_out`]), and every so many
//! plays it is ranked again by the models as they are then. The catalogue has grown meanwhile, which
//! makes every rank harder, for those that do not learn too: what learning has cost is the difference of
//! the changes of two recommenders, of which one learns and the other does not.
//!
//! Rankings of old plays come from the context of the question alone ([`Recommender::rank_again`]), when
//! the play is new as when it is old: whatever else is remembered of a listener has come to know the
//! answers. A recommender that cannot be asked so does not take part.
//!
//! [`Recommender::hold_out`]: crate::recommender::Recommender::hold_out
//! [`Recommender::rank_again`]: crate::recommender::Recommender::rank_again

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use segue_listen::TrackId;
use serde::{Deserialize, Serialize};

use super::PrequentialSettings;
use super::report::{OldPlaysChange, OldPlaysReading, OldPlaysRecommender, OldPlaysReport};
use crate::listeners::Facts;
use crate::ranking::Measures;
use crate::recommender::{Ask, Example};
use crate::reservoir::{OwnedExample, place_of};
use crate::tally::{Column, Part, Tally};

/// Readings that are kept, the newest.
const MOST_READINGS: usize = 1_024;
/// Old plays that are ranked again in one round, at most: a reading is spread over rounds, so that none
/// takes long.
pub(crate) const PORTION: usize = 32;

/// Ranks of one play, by recommender.
type Ranks = Vec<Option<u32>>;

/// One play of the sample.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct OldPlay {
    example: OwnedExample,
    facts: Facts,
    /// Its ranks when it was new, before anything was learnt from it.
    new: Ranks,
    /// Its ranks in the reading that is going on.
    now: Ranks,
}

/// The sample, and the readings of it. One owner; belongs to the evaluation's checkpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OldPlays {
    settings: PrequentialSettings,
    /// Who takes part.
    names: Vec<String>,
    /// Pairs whose difference is reported, by place in `names`.
    pairs: Vec<(usize, usize)>,
    rng: ChaCha8Rng,
    /// Plays that could have been drawn so far.
    seen: u64,
    plays: Vec<OldPlay>,
    /// Whether the sample stands.
    stands: bool,
    /// Measured plays after which the next reading begins.
    next: u64,
    /// Plays that have been ranked in the reading that is going on.
    read: usize,
    /// Like closed windows not in a checkpoint: a restarted run begins this list anew.
    #[serde(skip)]
    readings: Vec<OldPlaysReading>,
}

impl OldPlays {
    /// Of the recommenders of these names, and the differences of these pairs of them.
    pub(crate) fn new(
        names: Vec<String>,
        compare: &[(&str, &str)],
        settings: PrequentialSettings,
    ) -> Self {
        let place = |name: &str| names.iter().position(|known| known == name);
        let pairs = compare
            .iter()
            .filter_map(|(one, other)| Some((place(one)?, place(other)?)));
        Self {
            pairs: pairs.collect(),
            rng: ChaCha8Rng::seed_from_u64(settings.seed),
            seen: 0,
            plays: Vec::new(),
            stands: false,
            next: settings.old_among,
            read: 0,
            readings: Vec::new(),
            names,
            settings,
        }
    }

    /// Whether a recommender takes part.
    pub(crate) fn takes_part(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }

    /// Draws from plays that have just been measured: those, by place, whose ranks are to be told
    /// ([`OldPlays::tell`]). A play of a track that nobody had played before is a miss when it is new
    /// and may be found later, so it says nothing of forgetting and is not drawn.
    pub(crate) fn draw(&mut self, plays: &[(Example<'_>, Facts)]) -> Vec<usize> {
        let capacity = self.settings.old_plays;
        if self.stands || capacity == 0 || self.names.is_empty() {
            return Vec::new();
        }
        let mut drawn = BTreeMap::new();
        for (at, (example, facts)) in plays.iter().enumerate() {
            if facts.cold_track {
                continue;
            }
            let held = self.plays.len();
            let place = place_of(&mut self.rng, self.seen, held, capacity);
            self.seen += 1;
            let Some(place) = place else { continue };
            let old = OldPlay {
                example: OwnedExample::of(example),
                facts: *facts,
                new: Vec::new(),
                now: Vec::new(),
            };
            match self.plays.get_mut(place) {
                Some(slot) => *slot = old,
                None => self.plays.push(old),
            }
            drawn.insert(place, at);
        }
        drawn.into_values().collect()
    }

    /// The ranks of the plays that were drawn last, by recommender that takes part, in the order of
    /// their places; `plays` are those that they were drawn from.
    pub(crate) fn tell(&mut self, drawn: &[(Example<'_>, Facts)], columns: &[Ranks]) {
        for (at, (example, _)) in drawn.iter().enumerate() {
            let is_it = |old: &&mut OldPlay| old.example.is(example);
            if let Some(old) = self.plays.iter_mut().find(is_it) {
                old.new = row(columns, at);
            }
        }
    }

    /// So many plays have been measured: whether the sample has come to stand by that.
    pub(crate) fn came_to(&mut self, events: u64) -> bool {
        let stands = !self.stands && events >= self.settings.old_among && !self.plays.is_empty();
        self.stands |= stands;
        stands
    }

    /// All questions of the sample, once it stands.
    pub(crate) fn asks(&self) -> Vec<Ask<'_>> {
        let plays = self.plays.iter().filter(|_| self.stands);
        plays.map(|old| old.example.as_example().ask).collect()
    }

    /// What is to be ranked again in this round, after so many measured plays: questions and answers.
    pub(crate) fn due(&self, events: u64) -> (Vec<Ask<'_>>, Vec<TrackId>) {
        if !self.stands || events < self.next {
            return Default::default();
        }
        let portion = self.plays.iter().skip(self.read).take(PORTION);
        portion
            .map(|old| {
                let example = old.example.as_example();
                (example.ask, example.actual)
            })
            .unzip()
    }

    /// The ranks of what was due, by recommender that takes part; with the last of them the reading is
    /// over, and what comes of it is given.
    pub(crate) fn read(&mut self, events: u64, columns: &[Ranks]) -> Option<&OldPlaysReading> {
        let many = columns.first().map_or(0, Vec::len);
        for at in 0..many {
            if let Some(old) = self.plays.get_mut(self.read + at) {
                old.now = row(columns, at);
            }
        }
        self.read += many;
        if many == 0 || self.read < self.plays.len() {
            return None;
        }
        self.read = 0;
        self.next = events + self.settings.old_every;
        if self.readings.len() >= MOST_READINGS {
            self.readings.remove(0);
        }
        let reading = self.reading(events);
        self.readings.push(reading);
        self.readings.last()
    }

    /// What came of it so far; `None` where no play was drawn.
    pub(crate) fn report(&self) -> Option<OldPlaysReport> {
        (!self.plays.is_empty()).then(|| OldPlaysReport {
            plays: self.plays.len() as u64,
            among: self.seen,
            readings: self.readings.clone(),
        })
    }

    fn reading(&self, events: u64) -> OldPlaysReading {
        let count = self.names.len();
        // The ranks when new, those of now, and what has changed.
        let mut tally = Tally::new(3 * count);
        for old in &self.plays {
            let measures = |ranks: &Ranks| -> Vec<Measures> {
                let rank = |at| ranks.get(at).copied().flatten();
                (0..count).map(|at| Measures::of(rank(at))).collect()
            };
            let (new, now) = (measures(&old.new), measures(&old.now));
            let change = now.iter().zip(&new).map(|(now, new)| now.less(new));
            let change: Vec<Measures> = change.collect();
            let all = new.iter().chain(&now).chain(&change).copied();
            tally.add(&old.facts, all);
        }
        let of = |column| tally.per_event(column, Part::All);
        let recommenders = (0..count)
            .zip(&self.names)
            .map(|(at, name)| OldPlaysRecommender {
                name: name.clone(),
                new: of(Column::Of(at)),
                now: of(Column::Of(count + at)),
                change: of(Column::Difference(count + at, at)),
            });
        let name = |at: usize| self.names.get(at).cloned().unwrap_or_default();
        let differences = self.pairs.iter().map(|&(one, other)| OldPlaysChange {
            name: name(one),
            minus: name(other),
            now: of(Column::Difference(count + one, count + other)),
            change: of(Column::Difference(2 * count + one, 2 * count + other)),
        });
        OldPlaysReading {
            after: events,
            recommenders: recommenders.collect(),
            differences: differences.collect(),
        }
    }
}

/// One play's ranks out of columns by recommender.
fn row(columns: &[Ranks], at: usize) -> Ranks {
    let rank = |column: &Ranks| column.get(at).copied().flatten();
    columns.iter().map(rank).collect()
}

#[cfg(test)]
mod tests;
