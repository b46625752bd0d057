//! What online learning draws from: a sample that is uniform over all time, so that the old is not
//! forgotten, and the newest plays, so that the new is learnt.
//!
//! Nothing here depends on dense ids: what is kept and drawn follows from the seed and the order of
//! the plays.

use std::collections::VecDeque;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use segue_listen::{TrackId, UserId};
use serde::{Deserialize, Serialize};

use crate::recommender::{Ask, ContextPlay, Example};

/// An example that owns its context: at most 99 plays.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct OwnedExample {
    user: UserId,
    plays: u64,
    context: Vec<ContextPlay>,
    actual: TrackId,
    /// How many were seen before it.
    number: u64,
}

impl OwnedExample {
    /// The same example, borrowed.
    pub fn as_example(&self) -> Example<'_> {
        Example {
            ask: Ask {
                user: self.user,
                plays: self.plays,
                context: &self.context,
            },
            actual: self.actual,
        }
    }

    /// A copy of `example`.
    pub(crate) fn of(example: &Example<'_>) -> Self {
        let mut owned = Self::default();
        owned.become_copy(example, 0);
        owned
    }

    /// Whether it is a copy of `example`: a listener has one play after so many others.
    pub(crate) fn is(&self, example: &Example<'_>) -> bool {
        (self.user, self.plays) == (example.ask.user, example.ask.plays)
    }

    /// Becomes a copy of `example`, in the memory it has.
    fn become_copy(&mut self, example: &Example<'_>, number: u64) {
        self.number = number;
        self.user = example.ask.user;
        self.plays = example.ask.plays;
        self.context.clear();
        self.context.extend_from_slice(example.ask.context);
        self.actual = example.actual;
    }
}

/// The two memories of a learner. One owner; its generators belong to its checkpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reservoir {
    capacity: usize,
    sample: Vec<OwnedExample>,
    seen: u64,
    recent_capacity: usize,
    recent: VecDeque<OwnedExample>,
    /// Decides what is kept; apart from `draws`, so that how often batches are drawn changes nothing
    /// about what is kept.
    keeps: ChaCha8Rng,
    draws: ChaCha8Rng,
}

impl Reservoir {
    /// A reservoir of `capacity` examples of all time, and the last `recent` ones, seeded.
    pub fn new(capacity: usize, recent: usize, seed: u64) -> Self {
        let keeps = ChaCha8Rng::seed_from_u64(seed);
        let mut draws = keeps.clone();
        draws.set_stream(1);
        Self {
            capacity,
            sample: Vec::new(),
            seen: 0,
            recent_capacity: recent,
            recent: VecDeque::new(),
            keeps,
            draws,
        }
    }

    /// How many examples of all time and how many of the newest it has room for.
    pub fn capacities(&self) -> (usize, usize) {
        (self.capacity, self.recent_capacity)
    }

    /// Takes an example in. Each example seen so far is in the sample with the same probability
    /// (Algorithm R, Vitter 1985).
    pub fn push(&mut self, example: &Example<'_>) {
        if self.recent_capacity > 0 {
            let full = self.recent.len() >= self.recent_capacity;
            let mut slot = if full { self.recent.pop_front() } else { None }.unwrap_or_default();
            slot.become_copy(example, self.seen);
            self.recent.push_back(slot);
        }
        let number = self.seen;
        self.seen += 1;
        let held = self.sample.len();
        let Some(place) = place_of(&mut self.keeps, number, held, self.capacity) else {
            return;
        };
        if place >= held {
            self.sample.push(OwnedExample::default());
        }
        if let Some(slot) = self.sample.get_mut(place) {
            slot.become_copy(example, number);
        }
    }

    /// Lets go of the examples that `held_out` names.
    pub fn let_go(&mut self, held_out: impl Fn(&Ask<'_>) -> bool) {
        let stays = |example: &OwnedExample| !held_out(&example.as_example().ask);
        self.sample.retain(stays);
        self.recent.retain(stays);
    }

    /// Forgets the examples that came after the first `seen` ones. Their places are taken by what
    /// comes next, so that until new examples have replaced others as often, what came then is in the
    /// sample more often than its share.
    pub fn forget_since(&mut self, seen: u64) {
        self.sample.retain(|example| example.number < seen);
        self.recent.retain(|example| example.number < seen);
    }

    /// How many examples it has seen.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The examples of all time, in no meaningful order.
    pub fn sample(&self) -> &[OwnedExample] {
        &self.sample
    }

    /// The newest examples, oldest first.
    pub fn recent(&self) -> impl ExactSizeIterator<Item = &OwnedExample> {
        self.recent.iter()
    }

    /// `n` examples, each memory giving half (the newest one more if `n` is odd), drawn without
    /// replacement from each; where one has too few, the other gives more. Those of all time come
    /// first. An example may be in both memories, and so come twice.
    pub fn mixed_batch(&mut self, n: usize) -> Vec<Example<'_>> {
        let wanted = n.min(self.sample.len() + self.recent.len());
        let fresh = wanted.div_ceil(2).min(self.recent.len());
        let old = (wanted - fresh).min(self.sample.len());
        let fresh = (wanted - old).min(self.recent.len());
        let olds = rand::seq::index::sample(&mut self.draws, self.sample.len(), old);
        let news = rand::seq::index::sample(&mut self.draws, self.recent.len(), fresh);
        let olds = olds.into_iter().filter_map(|at| self.sample.get(at));
        let news = news.into_iter().filter_map(|at| self.recent.get(at));
        olds.chain(news).map(OwnedExample::as_example).collect()
    }
}

/// The place of an example in a sample of `capacity`, of which `held` are there, when `seen` came before
/// it: each of all that were seen is then in the sample with the same probability. `None`: it is not.
pub(crate) fn place_of(
    rng: &mut ChaCha8Rng,
    seen: u64,
    held: usize,
    capacity: usize,
) -> Option<usize> {
    if held < capacity {
        return Some(held);
    }
    if capacity == 0 {
        return None;
    }
    let place = usize::try_from(rng.random_range(0..=seen)).ok()?;
    (place < held).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use segue_listen::EventTime;

    fn push(reservoir: &mut Reservoir, tracks: impl IntoIterator<Item = u32>) {
        for track in tracks {
            let context: Vec<ContextPlay> = (0..track as usize % 5)
                .map(|at| ContextPlay {
                    track: TrackId(track),
                    at: EventTime::from_millis(at as i64),
                    ratio: None,
                    opens_session: at == 0,
                })
                .collect();
            reservoir.push(&Example {
                ask: Ask {
                    user: UserId(track),
                    plays: u64::from(track),
                    context: &context,
                },
                actual: TrackId(track),
            });
        }
    }

    fn tracks(batch: &[Example<'_>]) -> Vec<u32> {
        batch.iter().map(|example| example.actual.0).collect()
    }

    #[test]
    fn the_sample_is_uniform_over_time() {
        let mut held = [0u32; 10];
        for seed in 0..400 {
            let mut reservoir = Reservoir::new(20, 5, seed);
            push(&mut reservoir, 0..200);
            assert_eq!((reservoir.sample().len(), reservoir.seen()), (20, 200));
            for example in reservoir.sample() {
                held[example.actual.0 as usize / 20] += 1;
            }
        }
        // 8,000 kept over ten tenths: 800 each, standard deviation about 27.
        for (tenth, count) in held.iter().enumerate() {
            assert!((690..910).contains(count), "tenth {tenth}: {count}");
        }
    }

    #[test]
    fn a_reused_slot_holds_nothing_of_its_past() {
        let mut reservoir = Reservoir::new(3, 3, 1);
        push(&mut reservoir, 0..100);
        let recent: Vec<u32> = reservoir.recent().map(|e| e.actual.0).collect();
        assert_eq!(recent, [97, 98, 99]);
        for owned in reservoir.recent().chain(reservoir.sample()) {
            let example = owned.as_example();
            assert_eq!(example.ask.context.len(), example.actual.0 as usize % 5);
            assert_eq!(example.ask.user.0, example.actual.0);
            assert!(
                example
                    .ask
                    .context
                    .iter()
                    .all(|p| p.track == example.actual)
            );
        }
    }

    #[test]
    fn batches_are_mixed_evenly_and_made_up_where_one_side_is_short() {
        let mut reservoir = Reservoir::new(50, 10, 3);
        assert!(reservoir.mixed_batch(8).is_empty());
        push(&mut reservoir, 0..1_000);
        let batch = tracks(&reservoir.mixed_batch(8));
        assert_eq!(batch.len(), 8);
        assert!(batch[4..].iter().all(|track| *track >= 990), "{batch:?}");
        let mut distinct = batch[4..].to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 4);
        assert_eq!(reservoir.mixed_batch(7).len(), 7);
        assert_eq!(reservoir.mixed_batch(40).len(), 40);
        assert_eq!(reservoir.mixed_batch(usize::MAX).len(), 60);
        let mut only_recent = Reservoir::new(0, 4, 3);
        push(&mut only_recent, 0..9);
        assert_eq!(only_recent.mixed_batch(3).len(), 3);
        let mut only_old = Reservoir::new(4, 0, 3);
        push(&mut only_old, 0..9);
        assert_eq!(only_old.mixed_batch(3).len(), 3);
    }

    #[test]
    fn the_seed_decides_and_drawing_does_not_change_what_is_kept() {
        let run = |seed, draws: usize| {
            let mut reservoir = Reservoir::new(8, 4, seed);
            for track in 0..100 {
                push(&mut reservoir, [track]);
                for _ in 0..draws {
                    reservoir.mixed_batch(4);
                }
            }
            reservoir.sample().to_vec()
        };
        assert_eq!(run(5, 0), run(5, 3));
        assert_ne!(run(5, 0), run(6, 0));
    }
}
