//! Distributions that a run fills in as it goes: session lengths, completion ratios, latencies.
//! Recording allocates nothing once the largest bucket has been seen.

use hdrhistogram::Histogram;
use segue_recommend::stage::RatioCounts;
use serde::Serialize;

/// How many of a range of values there were.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Bucket {
    /// The least value in it.
    pub from: u64,
    /// The greatest value in it.
    pub to: u64,
    /// How many.
    pub count: u64,
}

/// From reading an event to its prediction, in microseconds of wall time.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Latency {
    /// Predictions measured.
    pub count: u64,
    /// Median.
    pub p50: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p99_9: u64,
    /// The slowest.
    pub max: u64,
    /// The distribution, ten buckets to a factor of ten.
    pub buckets: Vec<Bucket>,
}

impl Latency {
    const PER_DECADE: f64 = 10.0;

    /// The summary of a histogram in microseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let mut buckets: Vec<Bucket> = Vec::new();
        for value in histogram.iter_recorded() {
            let micros = value.value_iterated_to();
            let (from, to) = Self::around(micros);
            let count = value.count_at_value();
            match buckets.last_mut() {
                Some(last) if last.from == from => last.count += count,
                _ => buckets.push(Bucket { from, to, count }),
            }
        }
        Self {
            count: histogram.len(),
            p50: histogram.value_at_quantile(0.5),
            p99: histogram.value_at_quantile(0.99),
            p99_9: histogram.value_at_quantile(0.999),
            max: histogram.max(),
            buckets,
        }
    }

    /// The bucket of a value. The lowest ones are as narrow as whole microseconds allow.
    fn around(micros: u64) -> (u64, u64) {
        let edge = |step: f64| 10f64.powf(step / Self::PER_DECADE).ceil() as u64;
        let mut step = ((micros.max(1) as f64).log10() * Self::PER_DECADE).floor();
        // Rounding of the logarithm may put a value beside its bucket.
        if edge(step) > micros.max(1) {
            step -= 1.0;
        }
        let from = edge(step);
        let to = edge(step + 1.0).max(from + 1) - 1;
        (from, to)
    }
}

/// How many plays sessions had.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SessionLengths {
    /// Sessions.
    pub count: u64,
    /// Their plays.
    pub plays: u64,
    /// The longest one's plays.
    pub longest: u64,
    /// By number of plays: 1, 2, 3–4, 5–8, …, each bucket twice as wide as the one before.
    pub buckets: Vec<Bucket>,
}

impl SessionLengths {
    /// Counts a closed session of so many plays; one without plays is none.
    pub fn record(&mut self, plays: u64) {
        if plays == 0 {
            return;
        }
        self.count += 1;
        self.plays = self.plays.saturating_add(plays);
        self.longest = self.longest.max(plays);
        let place = (u64::BITS - (plays - 1).leading_zeros()) as usize;
        while self.buckets.len() <= place {
            let from = self.buckets.last().map_or(1, |last| last.to + 1);
            let to = 1u64
                .checked_shl(self.buckets.len() as u32)
                .unwrap_or(u64::MAX);
            self.buckets.push(Bucket { from, to, count: 0 });
        }
        if let Some(bucket) = self.buckets.get_mut(place) {
            bucket.count += 1;
        }
    }

    /// Adds what another lane counted.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.plays = self.plays.saturating_add(other.plays);
        self.longest = self.longest.max(other.longest);
        for (place, bucket) in other.buckets.iter().enumerate() {
            match self.buckets.get_mut(place) {
                Some(mine) => mine.count += bucket.count,
                None => self.buckets.push(*bucket),
            }
        }
    }

    /// Plays per session; `None` without sessions.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.plays as f64 / self.count as f64)
    }
}

/// How much of the tracks was heard.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Completion {
    /// Ratios, in bins of a twentieth: `[0, 0.05)`, …, `[0.95, 1]`.
    pub bins: [u64; Completion::BINS],
    /// Sum of the ratios.
    pub sum: f64,
    /// Ratios that rest on the player's own figure.
    pub players: u64,
    /// Ratios of the gap to the next play over a length that the event stated.
    pub stated: u64,
    /// Ratios of the gap to the next play over an estimated length.
    pub estimated: u64,
    /// Plays without a ratio: the last of a session, or of a track of unknown length.
    pub absent: u64,
}

impl Completion {
    /// How many bins there are.
    pub const BINS: usize = segue_recommend::stage::RATIO_BINS;

    /// Of so many plays, what the stream counted.
    pub fn of(ratios: &RatioCounts, plays: u64) -> Self {
        Self {
            bins: ratios.bins,
            sum: ratios.sum,
            players: ratios.by_player,
            stated: ratios.by_stated_length,
            estimated: ratios.by_estimated_length,
            absent: plays.saturating_sub(ratios.bins.iter().sum()),
        }
    }

    /// How many ratios there are.
    pub fn count(&self) -> u64 {
        self.bins.iter().sum()
    }

    /// The mean ratio; `None` without ratios.
    pub fn mean(&self) -> Option<f64> {
        let count = self.count();
        (count > 0).then(|| self.sum / count as f64)
    }
}
