//! Due times in event time, for many keys, re-armed lazily.
//!
//! A key has at most one timer. When its due time moves later (a session was extended), nothing is
//! touched; when the old time comes, the owner is asked and arms the timer anew. So an event costs
//! nothing here, and a timer fires once per session, not once per play.

use std::collections::BTreeMap;

use segue_listen::{EventTime, Span, Watermark};

/// How many keys are told of before the first of them fires.
const AHEAD: usize = 32;

/// What the owner of the keys is told while time moves.
#[derive(Clone, Copy, Debug)]
pub enum Turn<'a> {
    /// These fire next. Nothing is to be done, and what is returned is not looked at; but an owner
    /// whose keys lie far apart in memory may ask for all of it at once.
    Soon(&'a [(EventTime, u32)]),
    /// This key fires: when is it to be asked again, if ever?
    Now(u32),
}

/// Timers of keys that are dense addresses of their owner.
#[derive(Clone, Debug)]
pub struct Timers {
    /// Milliseconds in a bucket.
    width: i64,
    buckets: BTreeMap<i64, Vec<(EventTime, u32)>>,
    spare: Vec<Vec<(EventTime, u32)>>,
    armed: usize,
}

impl Timers {
    /// Timers kept in buckets of `width`: best some tenth of the usual delay. Order of firing does
    /// not depend on it.
    pub fn new(width: Span) -> Self {
        Self {
            width: width.millis().max(1),
            buckets: BTreeMap::new(),
            spare: Vec::new(),
            armed: 0,
        }
    }

    /// Arms a timer of `key`. The caller sees to it that a key is armed once at a time.
    pub fn arm(&mut self, due: EventTime, key: u32) {
        let bucket = due.millis().div_euclid(self.width);
        let spare = &mut self.spare;
        self.buckets
            .entry(bucket)
            .or_insert_with(|| spare.pop().unwrap_or_default())
            .push((due, key));
        self.armed += 1;
    }

    /// Fires what is due at `mark`, in order of (due time, key). `fire` gets the key and returns the
    /// time at which to ask again, if any.
    pub fn advance(&mut self, mark: Watermark, mut fire: impl FnMut(u32) -> Option<EventTime>) {
        self.advance_by_turns(mark, |turn| match turn {
            Turn::Soon(_) => None,
            Turn::Now(key) => fire(key),
        });
    }

    /// As [`Timers::advance`], with a word ahead.
    pub fn advance_by_turns(
        &mut self,
        mark: Watermark,
        mut turn: impl FnMut(Turn<'_>) -> Option<EventTime>,
    ) {
        while let Some(mut first) = self.buckets.first_entry() {
            let bucket = *first.key();
            if bucket.saturating_mul(self.width) > mark.time().millis() {
                return;
            }
            let mut timers = std::mem::take(first.get_mut());
            first.remove();
            timers.sort_unstable();
            let due = timers.partition_point(|(due, _)| *due <= mark.time());
            for group in timers.get(..due).unwrap_or(&[]).chunks(AHEAD) {
                turn(Turn::Soon(group));
                for (_, key) in group {
                    self.armed -= 1;
                    if let Some(again) = turn(Turn::Now(*key)) {
                        self.arm(again, *key);
                    }
                }
            }
            timers.drain(..due);
            let bucket_is_over = timers.is_empty();
            if bucket_is_over {
                self.spare.push(timers);
            } else {
                // What is left is not due. Timers re-armed into this bucket meanwhile join them.
                self.buckets.entry(bucket).or_default().append(&mut timers);
                let more_is_due = self
                    .buckets
                    .get(&bucket)
                    .is_some_and(|timers| timers.iter().any(|(due, _)| *due <= mark.time()));
                if !more_is_due {
                    return;
                }
            }
        }
    }

    /// Every armed timer, in no meaningful order: what a checkpoint keeps and [`Timers::arm`] takes.
    pub fn iter(&self) -> impl Iterator<Item = (EventTime, u32)> + '_ {
        self.buckets.values().flatten().copied()
    }

    /// How many timers are armed.
    pub const fn len(&self) -> usize {
        self.armed
    }

    /// Whether none is.
    pub const fn is_empty(&self) -> bool {
        self.armed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use segue_listen::WatermarkClock;

    fn at(millis: i64) -> EventTime {
        EventTime::from_millis(millis)
    }

    fn mark(millis: i64) -> Watermark {
        let mut clock = WatermarkClock::new(Span::ZERO, Span::ZERO);
        clock.observe(at(millis));
        clock.watermark().unwrap()
    }

    #[test]
    fn a_timer_fires_when_due_and_asks_again_where_told() {
        let mut timers = Timers::new(Span::from_millis(10));
        timers.arm(at(25), 7);
        let mut fired = Vec::new();
        timers.advance(mark(24), |key| {
            fired.push(key);
            None
        });
        assert!(fired.is_empty());
        timers.advance(mark(25), |key| {
            fired.push(key);
            Some(at(28))
        });
        assert_eq!(fired, [7]);
        timers.advance(mark(40), |key| {
            fired.push(key);
            None
        });
        assert_eq!(fired, [7, 7]);
        assert!(timers.is_empty());
    }

    proptest! {
        #[test]
        fn all_that_is_due_and_only_that_in_order(
            due in prop::collection::vec(0i64..1_000, 0..100),
            marks in prop::collection::vec(0i64..1_200, 1..10),
            width in 1i64..300,
        ) {
            let mut timers = Timers::new(Span::from_millis(width));
            for (key, due) in due.iter().enumerate() {
                timers.arm(at(*due), key as u32);
            }
            let mut fired = Vec::new();
            let mut highest = i64::MIN;
            for m in marks {
                let before = fired.len();
                timers.advance(mark(m), |key| { fired.push(key as usize); None });
                let now = &fired[before..];
                prop_assert!(now.iter().all(|key| due[*key] <= m));
                prop_assert!(now.windows(2).all(|w| (due[w[0]], w[0]) < (due[w[1]], w[1])));
                highest = highest.max(m);
            }
            let expected = due.iter().filter(|due| **due <= highest).count();
            prop_assert_eq!(fired.len(), expected);
            prop_assert_eq!(timers.len(), due.len() - expected);
        }
    }
}
