//! How far event time has come in one lane, from that lane's records alone.
//!
//! Nothing here looks at another lane or at the machine's clock: the verdict over a record is a
//! function of its partition's log, so a replay of logs from 2005 judges as the live run did.

use crate::time::{EventTime, Span};

/// A promise about one lane: listens that start before it are late. Only a [`WatermarkClock`] makes
/// one, and it never goes back.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Watermark(EventTime);

impl Watermark {
    /// The end of a bounded log: every timer is due, nothing more will come.
    pub const END: Watermark = Watermark(EventTime::from_millis(i64::MAX));

    /// The instant up to which the lane is complete.
    pub const fn time(self) -> EventTime {
        self.0
    }
}

/// Where a record stands against its lane's watermark as it was *before* the record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Punctuality {
    /// Not before the watermark.
    OnTime,
    /// Before the watermark, but within the allowed lateness: counted, and may correct a result.
    Late,
    /// Beyond the allowed lateness: goes to the late topic, changes nothing.
    TooLate,
}

/// Watches one lane. The watermark is the highest event time seen minus the allowed disorder.
#[derive(Clone, Debug)]
pub struct WatermarkClock {
    disorder: Span,
    lateness: Span,
    highest: Option<EventTime>,
}

impl WatermarkClock {
    /// A clock that has seen nothing. `disorder`: how far behind the newest a record may come and
    /// still be on time. `lateness`: how much later still it is let in. Negative spans count as 0.
    pub fn new(disorder: Span, lateness: Span) -> Self {
        Self {
            disorder: disorder.max(Span::ZERO),
            lateness: lateness.max(Span::ZERO),
            highest: None,
        }
    }

    /// Judges a record (or a heartbeat) that starts at `at`, then moves the watermark.
    pub fn observe(&mut self, at: EventTime) -> Punctuality {
        let verdict = match self.watermark() {
            Some(Watermark(mark)) if at < mark.minus(self.lateness) => Punctuality::TooLate,
            Some(Watermark(mark)) if at < mark => Punctuality::Late,
            _ => Punctuality::OnTime,
        };
        if self.highest.is_none_or(|highest| at > highest) {
            self.highest = Some(at);
        }
        verdict
    }

    /// How far the lane has come; `None` before the first record.
    pub fn watermark(&self) -> Option<Watermark> {
        self.highest
            .map(|highest| Watermark(highest.minus(self.disorder)))
    }

    /// The highest event time seen: what a checkpoint keeps.
    pub fn highest(&self) -> Option<EventTime> {
        self.highest
    }

    /// Takes up where a checkpoint left off. Never moves back.
    pub fn restore(&mut self, highest: Option<EventTime>) {
        self.highest = self.highest.max(highest);
    }

    /// How much later than the watermark a record is still let in.
    pub fn lateness(&self) -> Span {
        self.lateness
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: i64) -> EventTime {
        EventTime::from_millis(seconds * 1_000)
    }

    #[test]
    fn verdicts_at_the_exact_bounds() {
        let mut clock = WatermarkClock::new(Span::from_seconds(10), Span::from_seconds(60));
        assert_eq!(clock.watermark(), None);
        assert_eq!(clock.observe(at(1_000)), Punctuality::OnTime);
        assert_eq!(clock.watermark().unwrap().time(), at(990));
        assert_eq!(clock.observe(at(990)), Punctuality::OnTime);
        assert_eq!(clock.observe(at(989)), Punctuality::Late);
        assert_eq!(clock.observe(at(930)), Punctuality::Late);
        assert_eq!(clock.observe(at(929)), Punctuality::TooLate);
        assert_eq!(
            clock.watermark().unwrap().time(),
            at(990),
            "late records do not move it"
        );
    }

    proptest! {
        #[test]
        fn the_watermark_never_goes_back(times in prop::collection::vec(0i64..1_000_000, 1..200)) {
            let mut clock = WatermarkClock::new(Span::from_millis(500), Span::ZERO);
            let mut last = None;
            for time in times {
                clock.observe(EventTime::from_millis(time));
                prop_assert!(clock.watermark() >= last);
                last = clock.watermark();
            }
        }

        #[test]
        fn disorder_within_the_bound_is_never_late(
            mut log in prop::collection::vec((0i64..1_000_000, 0i64..500), 1..200)
        ) {
            // A record delayed by at most the bound: sort by arrival = start + delay.
            log.sort_by_key(|&(start, delay)| start + delay);
            let mut clock = WatermarkClock::new(Span::from_millis(500), Span::ZERO);
            for (start, _) in log {
                prop_assert_eq!(clock.observe(EventTime::from_millis(start)), Punctuality::OnTime);
            }
        }
    }
}
