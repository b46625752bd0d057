//! Repeats of one measurement, and what to say of them.

use std::time::Duration;

use segue_flow::clock::{MachineClock, WallClock};
use serde::Serialize;

/// The spread of a figure over repeats. With few repeats the extremes are all there is to say; the
/// median stands for the figure, since a busy machine only ever makes a run slower.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Interval {
    /// The least.
    pub min: f64,
    /// The middle one (the mean of the two middle ones).
    pub median: f64,
    /// The greatest.
    pub max: f64,
}

impl Interval {
    /// Of some figures; `None` of none.
    pub fn of(figures: &[f64]) -> Option<Self> {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let low = *sorted.get((sorted.len() - 1) / 2)?;
        let high = *sorted.get(sorted.len() / 2)?;
        Some(Self {
            min,
            median: low.midpoint(high),
            max,
        })
    }
}

/// How long `work` takes, and what it gives.
pub fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let clock = MachineClock::start();
    let outcome = work();
    (clock.now(), outcome)
}

/// How long `work` keeps this thread on a core, and what it gives: what a rate "on one core" is
/// divided by, whatever else the machine does meanwhile. The time that passes, where the system does
/// not tell. Good to one tick of the scheduler (some milliseconds).
pub fn on_core<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let before = core_time();
    let (passed, outcome) = timed(work);
    let spent = core_time()
        .zip(before)
        .map(|(after, before)| after.saturating_sub(before));
    (
        spent.filter(|spent| !spent.is_zero()).unwrap_or(passed),
        outcome,
    )
}

/// How long this thread has run (Linux, `Documentation/scheduler/sched-stats.rst`: the first figure,
/// nanoseconds).
fn core_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ')
        .next()?
        .parse()
        .ok()
        .map(Duration::from_nanos)
}

/// How many of `count` things a second.
pub fn rate(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64().max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Interval::of(&[]), None);
        let odd = Interval::of(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!((odd.min, odd.median, odd.max), (1.0, 2.0, 3.0));
        assert_eq!(Interval::of(&[4.0, 1.0]).unwrap().median, 2.5);
        assert_eq!(rate(10, Duration::from_millis(500)), 20.0);
    }
}
