//! How fast listens go out: at a rate, at a multiple of the speed at which they happened, or freely.
//!
//! Nothing here is asked per listen more than a comparison: a rate is charged per batch.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use segue_flow::clock::{Governed, WallClock};
use segue_listen::EventTime;
use serde::{Deserialize, Serialize};

use crate::error::ReplayError;

/// A rate is kept in batches of a tenth of a second.
const BATCHES_PER_SECOND: u32 = 10;

/// In real time, what is due within so long goes out together.
const SLOT: Duration = Duration::from_millis(50);

/// How fast listens go out.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Pace {
    /// As fast as the sink takes them.
    #[default]
    Unlimited,
    /// So many listens per second.
    EventsPerSecond(NonZeroU32),
    /// So many seconds of event time per second: 1 is as it happened, 3600 an hour per second.
    RealTime(f64),
}

/// Keeps a [`Pace`] by a clock.
pub struct Pacer {
    kind: Kind,
    clock: Arc<dyn WallClock>,
    begun: Duration,
    released: u64,
}

enum Kind {
    Unlimited,
    Rate {
        limiter: RateLimiter<NotKeyed, InMemoryState, Governed, NoOpMiddleware<Duration>>,
        per_second: NonZeroU32,
        batch: NonZeroU32,
    },
    RealTime {
        speed: f64,
        first: Option<EventTime>,
        /// The clock when it was last looked at; most listens are due before it.
        seen: Duration,
    },
}

impl Pacer {
    /// Keeps `pace` from now on.
    ///
    /// # Errors
    /// [`ReplayError::Setting`] for a speed that is not positive.
    pub fn new(pace: Pace, clock: Arc<dyn WallClock>) -> Result<Self, ReplayError> {
        let kind = match pace {
            Pace::Unlimited => Kind::Unlimited,
            Pace::EventsPerSecond(per_second) => {
                let batch = per_second.get() / BATCHES_PER_SECOND;
                let batch = NonZeroU32::new(batch).unwrap_or(NonZeroU32::MIN);
                let quota = Quota::per_second(per_second).allow_burst(batch);
                Kind::Rate {
                    limiter: RateLimiter::direct_with_clock(quota, Governed(clock.clone())),
                    per_second,
                    batch,
                }
            }
            Pace::RealTime(speed) if speed.is_finite() && speed > 0.0 => Kind::RealTime {
                speed,
                first: None,
                seen: Duration::ZERO,
            },
            Pace::RealTime(speed) => {
                return Err(ReplayError::Setting {
                    key: "pace.real_time",
                    detail: format!("{speed} is not a positive number"),
                });
            }
        };
        Ok(Self {
            kind,
            begun: clock.now(),
            clock,
            released: 0,
        })
    }

    /// The most listens a batch may hold, given what the sink likes.
    pub fn batch_limit(&self, liked: u32) -> u32 {
        match &self.kind {
            Kind::Rate { batch, .. } => liked.min(batch.get()),
            _ => liked,
        }
        .max(1)
    }

    /// How long until a listen of that time is due. Zero except in real time.
    pub fn until_due(&mut self, at: EventTime) -> Duration {
        let Kind::RealTime { speed, first, seen } = &mut self.kind else {
            return Duration::ZERO;
        };
        let due = match first {
            Some(first) => due(self.begun, *first, at, *speed),
            None => {
                *first = Some(at);
                self.begun = self.clock.now();
                self.begun
            }
        };
        let slots = due
            .saturating_sub(self.begun)
            .as_nanos()
            .div_ceil(SLOT.as_nanos());
        let slots = u32::try_from(slots).unwrap_or(u32::MAX);
        let due = self.begun.saturating_add(SLOT.saturating_mul(slots));
        if due > *seen {
            *seen = self.clock.now();
        }
        due.saturating_sub(*seen)
    }

    /// Asks to release a batch of so many listens (at most [`Pacer::batch_limit`]). Zero: it may go,
    /// and is counted. Else: ask again after so long.
    pub fn until_released(&mut self, listens: u32) -> Duration {
        if let (Kind::Rate { limiter, .. }, Some(n)) = (&self.kind, NonZeroU32::new(listens))
            && let Ok(Err(early)) = limiter.check_n(n)
        {
            let wait = early.wait_time_from(self.clock.now());
            // Time may have passed since the check; a wait of zero would mean "released".
            return wait.max(Duration::from_nanos(1));
        }
        self.released += u64::from(listens);
        Duration::ZERO
    }

    /// How far the replay is behind its pace, having come to `at`. `None` without a pace.
    pub fn lag(&self, at: EventTime) -> Option<Duration> {
        let now = self.clock.now();
        match &self.kind {
            Kind::Unlimited => None,
            Kind::Rate { per_second, .. } => {
                let scheduled = self.released as f64 / f64::from(per_second.get());
                let elapsed = now.saturating_sub(self.begun);
                Some(elapsed.saturating_sub(seconds(scheduled)))
            }
            Kind::RealTime { first: None, .. } => Some(Duration::ZERO),
            Kind::RealTime {
                first: Some(first),
                speed,
                ..
            } => Some(now.saturating_sub(due(self.begun, *first, at, *speed))),
        }
    }

    /// How long `listens` more take, up to `end`, where the pace decides that.
    pub fn left(
        &self,
        at: EventTime,
        end: Option<EventTime>,
        listens: Option<u64>,
    ) -> Option<Duration> {
        match &self.kind {
            Kind::Unlimited => None,
            Kind::Rate { per_second, .. } => {
                Some(seconds(listens? as f64 / f64::from(per_second.get())))
            }
            Kind::RealTime { speed, .. } => Some(seconds(end?.since(at).seconds() / speed)),
        }
    }
}

fn due(begun: Duration, first: EventTime, at: EventTime, speed: f64) -> Duration {
    begun.saturating_add(seconds(at.since(first).seconds() / speed))
}

/// A duration; negative ones are zero, endless ones very long.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

#[cfg(test)]
pub(crate) mod fake {
    use std::sync::Mutex;

    use super::*;

    /// A clock that moves only when someone sleeps on it.
    #[derive(Default)]
    pub(crate) struct FakeClock(pub(crate) Mutex<Duration>);

    impl WallClock for FakeClock {
        fn now(&self) -> Duration {
            *self.0.lock().unwrap()
        }

        fn sleep(&self, duration: Duration) {
            *self.0.lock().unwrap() += duration;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fake::FakeClock;
    use super::*;

    fn at(seconds: i64) -> EventTime {
        EventTime::from_millis(seconds * 1_000)
    }

    #[test]
    fn a_rate_is_kept_over_the_whole() {
        for rate in [1, 7, 1_000, 150_000] {
            let clock = Arc::new(FakeClock::default());
            let pace = Pace::EventsPerSecond(NonZeroU32::new(rate).unwrap());
            let mut pacer = Pacer::new(pace, clock.clone()).unwrap();
            let batch = pacer.batch_limit(u32::MAX);
            let mut sent = 0;
            while clock.now() < Duration::from_secs(20) {
                match pacer.until_released(batch) {
                    Duration::ZERO => sent += batch,
                    wait => clock.sleep(wait),
                }
            }
            let (low, high) = (20 * rate, 20 * rate + 2 * batch);
            // A rate is rounded to whole nanoseconds per event.
            let slack = rate / 500;
            assert!(
                (low - slack..=high + slack).contains(&sent),
                "{rate}: {sent}"
            );
        }
    }

    #[test]
    fn real_time_is_stretched_by_its_factor() {
        let clock = Arc::new(FakeClock::default());
        clock.sleep(Duration::from_secs(5));
        let mut pacer = Pacer::new(Pace::RealTime(60.0), clock.clone()).unwrap();
        assert_eq!(
            pacer.until_due(at(1_000)),
            Duration::ZERO,
            "the first is due at once"
        );
        assert_eq!(pacer.until_due(at(1_120)), Duration::from_secs(2));
        assert_eq!(
            pacer.until_due(at(1_119)),
            Duration::from_secs(2),
            "the same slot"
        );
        clock.sleep(Duration::from_secs(3));
        assert_eq!(pacer.until_due(at(1_120)), Duration::ZERO);
        assert_eq!(pacer.lag(at(1_120)), Some(Duration::from_secs(1)));
        assert_eq!(
            pacer.left(at(1_120), Some(at(1_720)), None),
            Some(Duration::from_secs(10))
        );
    }

    #[test]
    fn nothing_waits_without_a_pace() {
        let mut pacer = Pacer::new(Pace::Unlimited, Arc::new(FakeClock::default())).unwrap();
        assert_eq!(pacer.until_due(at(i64::MAX / 1_000)), Duration::ZERO);
        assert_eq!(pacer.until_released(u32::MAX), Duration::ZERO);
        assert_eq!(pacer.lag(at(0)), None);
    }

    #[test]
    fn a_speed_must_be_one() {
        for speed in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let pacer = Pacer::new(Pace::RealTime(speed), Arc::new(FakeClock::default()));
            assert!(pacer.err().unwrap().to_string().contains("pace.real_time"));
        }
    }
}
