//! What a run shows while it goes, and what it remembers of its pace.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use segue_flow::clock::WallClock;
use segue_listen::EventTime;
use segue_recommend::stage::Watcher;

/// Plays between two looks at the clock.
const LOOK_EVERY: u64 = 512;
/// Latencies are kept from 1 µs to one hour with three significant digits.
const LONGEST_MICROS: u64 = 3_600_000_000;
/// Points of the throughput curve at most one per so long; of a run that takes longer than so many of
/// them, every other is dropped, and the next ones come half as often.
const POINT_EVERY: Duration = Duration::from_millis(250);
const MOST_POINTS: usize = 4_096;

/// What was seen, shared with whoever writes the report.
#[derive(Debug)]
pub struct Seen {
    /// From reading a play to its answer, in µs.
    pub latency: Histogram<u64>,
    /// From a new track's first play to the first prediction that could contain it, in µs.
    pub freshness: Histogram<u64>,
    /// (seconds since the run began, plays taken in so far).
    pub throughput: Vec<(f64, u64)>,
    /// When teaching began and ended, in seconds since the run began.
    pub teaching: Option<(f64, f64)>,
    /// Plays taken in.
    pub plays: u64,
}

/// Draws the bar and fills the histogram.
pub struct RunWatcher {
    bar: ProgressBar,
    clock: Arc<dyn WallClock>,
    seen: Arc<Mutex<Seen>>,
    since_look: u64,
    last_point: Duration,
    point_every: Duration,
}

/// A bar over `total` of something, with rate and time left; hidden where nobody looks (no terminal).
pub fn bar(total: u64, what: &'static str) -> ProgressBar {
    let figures = "{human_pos}/{human_len} {per_sec}";
    styled(ProgressBar::new(total), figures, what)
}

/// A bar over bytes, how many is told later; hidden where nobody looks.
pub fn byte_bar(what: &'static str) -> ProgressBar {
    let figures = "{bytes}/{total_bytes} {bytes_per_sec}";
    styled(ProgressBar::new(0), figures, what)
}

fn styled(bar: ProgressBar, figures: &str, what: &'static str) -> ProgressBar {
    let template =
        format!("{{prefix:>12}} [{{elapsed_precise}}] {{bar:32}} {figures} left {{eta}} {{msg}}");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    bar.set_prefix(what);
    bar
}

impl RunWatcher {
    /// A watcher of a run of `total` plays (0: unknown).
    ///
    /// # Errors
    /// None in practice: the histogram's bounds are constants.
    pub fn new(total: u64, clock: Arc<dyn WallClock>) -> anyhow::Result<(Self, Arc<Mutex<Seen>>)> {
        let seen = Arc::new(Mutex::new(Seen {
            latency: Histogram::new_with_bounds(1, LONGEST_MICROS, 3)?,
            freshness: Histogram::new_with_bounds(1, LONGEST_MICROS, 3)?,
            throughput: vec![(0.0, 0)],
            teaching: None,
            plays: 0,
        }));
        let watcher = Self {
            bar: bar(total, "stream"),
            clock,
            seen: seen.clone(),
            since_look: 0,
            last_point: Duration::ZERO,
            point_every: POINT_EVERY,
        };
        Ok((watcher, seen))
    }

    fn look(&mut self, at: EventTime) {
        let now = self.clock.now();
        self.bar.inc(self.since_look);
        self.bar.set_message(at.to_rfc3339());
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.plays += self.since_look;
        if now.saturating_sub(self.last_point) >= self.point_every {
            self.last_point = now;
            let point = (now.as_secs_f64(), seen.plays);
            seen.throughput.push(point);
            if seen.throughput.len() >= MOST_POINTS {
                let mut keep = false;
                seen.throughput.retain(|_| {
                    keep = !keep;
                    keep
                });
                self.point_every *= 2;
            }
        }
        self.since_look = 0;
    }
}

impl Watcher for RunWatcher {
    fn progressed(&mut self, plays: u64, at: EventTime) {
        self.since_look += plays;
        if self.since_look >= LOOK_EVERY {
            self.look(at);
        }
    }

    fn answered(&mut self, latency: Duration, plays: u64) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.latency.saturating_record_n(micros(latency), plays);
    }

    fn fresh(&mut self, after: Duration) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.freshness.saturating_record(micros(after));
    }

    fn teaching(&mut self, begins: bool) {
        let now = self.clock.now().as_secs_f64();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if begins {
            seen.teaching = Some((now, now));
            self.bar.println(format!(
                "{:>12} {} plays gathered, models are trained on them",
                "stream",
                HumanCount(seen.plays + self.since_look)
            ));
        } else if let Some((_, end)) = &mut seen.teaching {
            *end = now;
        }
    }
}

/// At least one, as the histograms begin.
fn micros(of: Duration) -> u64 {
    u64::try_from(of.as_micros()).unwrap_or(u64::MAX).max(1)
}

impl Drop for RunWatcher {
    fn drop(&mut self) {
        self.bar.finish();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// A clock that moves a second at each look.
    #[derive(Debug, Default)]
    struct Ticking(AtomicU64);

    impl WallClock for Ticking {
        fn now(&self) -> Duration {
            Duration::from_secs(self.0.fetch_add(1, Ordering::Relaxed))
        }
        fn sleep(&self, _: Duration) {}
    }

    #[test]
    fn a_long_run_has_as_many_points_as_a_curve_needs() {
        let (mut watcher, seen) = RunWatcher::new(0, Arc::new(Ticking::default())).unwrap();
        let looks = 100_000;
        for _ in 0..looks {
            watcher.progressed(LOOK_EVERY, EventTime::from_millis(0));
        }
        let seen = seen.lock().unwrap();
        assert_eq!(seen.plays, looks * LOOK_EVERY);
        assert!((MOST_POINTS / 4..MOST_POINTS).contains(&seen.throughput.len()));
        assert_eq!(seen.throughput[0], (0.0, 0));
        let rates = seen.throughput.windows(2);
        let rates = rates.map(|pair| (pair[1].1 - pair[0].1) as f64 / (pair[1].0 - pair[0].0));
        assert!(
            rates
                .skip(1)
                .all(|rate| (rate - LOOK_EVERY as f64).abs() < 1.0)
        );
    }
}
