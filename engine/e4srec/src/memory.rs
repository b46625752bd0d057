//! What each listener has played beyond the context: the longer memory of a learner.
//!
//! Most of what people play they have played before, and more than half of that lies further back
//! than any context. Like everything that is learnt it changes at barriers only.

use std::collections::BTreeMap;

use segue_listen::{TrackId, UserId};
use segue_recommend::Example;
use serde::{Deserialize, Serialize};

/// A track that a listener has played.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Remembered {
    pub track: TrackId,
    pub plays: u32,
    /// How many plays the listener had behind them at its newest play.
    pub newest: u64,
}

/// What is remembered of one listener.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Listener {
    /// In the order of their addresses.
    tracks: Vec<Remembered>,
    /// How many of the listener's plays it knows of, those before its beginning included.
    until: u64,
}

/// What is remembered when a question is asked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Recalled<'a> {
    pub tracks: &'a [Remembered],
    /// Plays of the context from here on are newer than the memory and count on top of it.
    pub until: u64,
}

/// All listeners' memories; one owner.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Memory {
    listeners: BTreeMap<UserId, Listener>,
    capacity: usize,
}

impl Memory {
    /// Up to twice `capacity` tracks a listener, and never fewer than the best `capacity`.
    pub fn new(capacity: usize) -> Self {
        Self {
            listeners: BTreeMap::new(),
            capacity,
        }
    }

    /// What is remembered of a listener, as of the last barrier.
    pub fn of(&self, user: UserId) -> Recalled<'_> {
        let listener = self.listeners.get(&user);
        Recalled {
            tracks: listener.map_or(&[], |listener| &listener.tracks),
            until: listener.map_or(0, |listener| listener.until),
        }
    }

    /// Takes an example in; a listener's first brings its context.
    pub fn learn(&mut self, example: &Example<'_>) {
        if self.capacity == 0 {
            return;
        }
        let ask = &example.ask;
        let listener = self.listeners.entry(ask.user).or_default();
        let known = &mut listener.tracks;
        if known.is_empty() {
            let begin = ask.plays.saturating_sub(ask.context.len() as u64);
            for (at, play) in (begin..).zip(ask.context) {
                played(known, play.track, at);
            }
        }
        played(known, example.actual, ask.plays);
        listener.until = listener.until.max(ask.plays + 1);
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
fn age(remembered: &Remembered, now: u64) -> f32 {
    plays_since(remembered.newest, now)
}

/// Plays since the one that had `newest` before it, at least 1.
pub(crate) fn plays_since(newest: u64, now: u64) -> f32 {
    now.saturating_sub(newest).max(1) as f32
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
                    .tracks
                    .iter()
                    .map(|r| (r.track.0, r.plays))
                    .collect();
                assert_eq!(tracks, [(1, 1), (2, 1), (4, 3)]);
            }
        }
        let tracks: Vec<u32> = memory
            .of(UserId(1))
            .tracks
            .iter()
            .map(|r| r.track.0)
            .collect();
        assert_eq!(tracks, [4, 6, 7]);
        assert_eq!(memory.of(UserId(1)).until, 9);
        let nobody = memory.of(UserId(2));
        assert!(nobody.tracks.is_empty() && nobody.until == 0);
    }
}
