//! What each listener has played beyond the context: the longer memory of a learner.
//!
//! Most of what people play they have played before, and more than half of that lies further back
//! than any context. Like everything that is learnt it changes at barriers only.

use std::collections::HashMap;

use segue_listen::{TrackId, UserId};
use segue_recommend::Example;

/// A track that a listener has played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Remembered {
    pub track: TrackId,
    pub plays: u32,
    /// How many plays the listener had behind them at its newest play.
    pub newest: u64,
}

/// All listeners' memories; one owner.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    listeners: HashMap<UserId, Vec<Remembered>>,
    capacity: usize,
}

impl Memory {
    /// Up to twice `capacity` tracks a listener, and never fewer than the best `capacity`.
    pub fn new(capacity: usize) -> Self {
        Self {
            listeners: HashMap::new(),
            capacity,
        }
    }

    /// A listener's tracks, in no meaningful order.
    pub fn of(&self, user: UserId) -> &[Remembered] {
        self.listeners.get(&user).map_or(&[], Vec::as_slice)
    }

    /// Takes an example in; a listener's first brings its context.
    pub fn learn(&mut self, example: &Example<'_>) {
        if self.capacity == 0 {
            return;
        }
        let ask = &example.ask;
        let known = self.listeners.entry(ask.user).or_default();
        if known.is_empty() {
            let begin = ask.plays.saturating_sub(ask.context.len() as u64);
            for (at, play) in (begin..).zip(ask.context) {
                played(known, play.track, at);
            }
        }
        played(known, example.actual, ask.plays);
        if known.len() > 2 * self.capacity {
            let now = ask.plays;
            // Often and lately; of equals the newer, and no two have the same newest play.
            known.sort_unstable_by(|a, b| {
                let by_worth = worth(b, now).total_cmp(&worth(a, now));
                by_worth.then(b.newest.cmp(&a.newest))
            });
            known.truncate(self.capacity);
            known.sort_unstable_by_key(|remembered| remembered.track);
        }
    }
}

fn played(known: &mut Vec<Remembered>, track: TrackId, at: u64) {
    match known.binary_search_by_key(&track, |remembered| remembered.track) {
        Ok(place) => {
            if let Some(remembered) = known.get_mut(place) {
                remembered.plays = remembered.plays.saturating_add(1);
                remembered.newest = remembered.newest.max(at);
            }
        }
        Err(place) => known.insert(
            place,
            Remembered {
                track,
                plays: 1,
                newest: at,
            },
        ),
    }
}

/// ACT-R's base level, from the number of plays and the age of the newest.
fn worth(remembered: &Remembered, now: u64) -> f32 {
    (remembered.plays as f32).ln() - 0.5 * age(remembered, now).ln()
}

/// Plays since the newest one of this track, at least 1.
pub(crate) fn age(remembered: &Remembered, now: u64) -> f32 {
    now.saturating_sub(remembered.newest).max(1) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::windows::tests_support::{ask_of, plays_of};

    #[test]
    fn the_first_example_brings_its_context_and_the_worthless_are_forgotten() {
        let mut memory = Memory::new(3);
        let plays = plays_of([4, 4, 1, 2, 4, 3, 5, 6, 7].into_iter());
        for read in 4..9 {
            memory.learn(&Example {
                ask: ask_of(&plays, read),
                actual: plays[read].track,
            });
            if read == 4 {
                let tracks: Vec<(u32, u32)> = memory
                    .of(UserId(1))
                    .iter()
                    .map(|r| (r.track.0, r.plays))
                    .collect();
                assert_eq!(tracks, [(1, 1), (2, 1), (4, 3)]);
            }
        }
        let tracks: Vec<u32> = memory.of(UserId(1)).iter().map(|r| r.track.0).collect();
        assert_eq!(tracks, [4, 6, 7]);
        assert!(memory.of(UserId(2)).is_empty());
    }
}
