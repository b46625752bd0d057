//! Means with intervals, where events come in clusters of unequal size: a listener's plays resemble
//! each other, so it is listeners, not plays, that are counted as independent.
//!
//! The mean per event is a ratio of two sums over listeners, Σ s / Σ n. Its variance is taken from
//! the linearised ratio (Cochran, *Sampling Techniques*, 3rd ed. 1977, section 6; Deng, Knoblich and
//! Lu, KDD 2018, arXiv 1803.06336): `U/(U−1) · Σ (s − m·n)² / (Σ n)²` over `U` listeners. It agrees
//! with a bootstrap over listeners to second order, needs no generator, and does not depend on the
//! order of the listeners, whose dense ids differ from run to run.
//!
//! Where a few listeners have most of the plays, the variance rests on those few: Student's t takes
//! the degrees of freedom of Kish's effective number of clusters, `(Σ n)² / Σ n² − 1` (*Survey
//! Sampling*, 1965, section 11.2), and not those of the number of listeners.

use serde::Serialize;

/// A mean and its 95 % confidence interval. Where all listeners agree (no hit at all, say) the
/// interval is a point: it speaks of listeners drawn, not of events unseen.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Estimate {
    /// The mean; `None` without events.
    pub mean: Option<f64>,
    /// The lower bound; `None` with fewer than two listeners, or where one has so many of the events
    /// that there are effectively fewer than two.
    pub low: Option<f64>,
    /// The upper bound; likewise.
    pub high: Option<f64>,
}

impl Estimate {
    /// The mean per event, from each listener's number of events and sum of values.
    pub fn per_event(listeners: impl Iterator<Item = (f64, f64)> + Clone) -> Self {
        let (mut users, mut events, mut sum, mut spread) = (0.0, 0.0, 0.0, 0.0);
        for (n, s) in listeners.clone().filter(|(n, _)| *n > 0.0) {
            users += 1.0;
            events += n;
            spread += n * n;
            sum += s;
        }
        if users == 0.0 {
            return Self::default();
        }
        let mean = sum / events;
        let squares: f64 = listeners
            .filter(|(n, _)| *n > 0.0)
            .map(|(n, s)| (s - mean * n).powi(2))
            .sum();
        Self::around(
            mean,
            events * events / spread,
            (users / (users - 1.0) * squares).sqrt() / events,
        )
    }

    /// The mean over listeners of each one's own mean.
    pub fn per_user(listeners: impl Iterator<Item = (f64, f64)> + Clone) -> Self {
        let ones = listeners
            .filter(|(n, _)| *n > 0.0)
            .map(|(n, s)| (1.0, s / n));
        Self::per_event(ones)
    }

    /// Cuts the interval to `[0, 1]`, where no value can lie outside.
    pub fn within_unit(self) -> Self {
        Self {
            mean: self.mean,
            low: self.low.map(|low| low.clamp(0.0, 1.0)),
            high: self.high.map(|high| high.clamp(0.0, 1.0)),
        }
    }

    fn around(mean: f64, effective: f64, error: f64) -> Self {
        // Of equals the quotient may miss a whole number by its last bits.
        let freedom = effective - 1.0;
        let reach = (freedom > 1.0 - 1e-9).then(|| error * student_975(freedom));
        Self {
            mean: Some(mean),
            low: reach.map(|reach| mean - reach),
            high: reach.map(|reach| mean + reach),
        }
    }
}

/// Student's t, 97.5 % quantile, for at least one degree of freedom: tabled up to 10, interpolated in
/// the inverse between them, then by Abramowitz and Stegun 26.7.5. Off by less than 0.003 at whole
/// numbers and above 10; between them on the wide side, by up to 18 % below 2 and 2 % below 3.
fn student_975(freedom: f64) -> f64 {
    const TABLE: [f64; 10] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    ];
    const X: f64 = 1.959_964;
    let below = (freedom + 1e-9).floor().max(1.0);
    let pair = TABLE.get(below as usize - 1..).unwrap_or(&[]);
    match *pair {
        [here, next, ..] => {
            let way = (1.0 / below - 1.0 / freedom) / (1.0 / below - 1.0 / (below + 1.0));
            here + (next - here) * way.max(0.0)
        }
        [last] if freedom - below < 1e-6 => last,
        _ => {
            X + (X.powi(3) + X) / (4.0 * freedom)
                + (5.0 * X.powi(5) + 16.0 * X.powi(3) + 3.0 * X) / (96.0 * freedom.powi(2))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn quantiles_are_those_of_the_books() {
        for (freedom, expected) in [
            (1.0, 12.706),
            (3.5, 2.940),
            (4.5, 2.659),
            (10.0, 2.228),
            (10.5, 2.214),
            (11.0, 2.201),
            (30.0, 2.042),
            (1e6, 1.960),
        ] {
            let found = student_975(freedom);
            assert!((found / expected - 1.0).abs() < 0.004, "{freedom}: {found}");
        }
        for (freedom, least) in [(1.5, 6.017), (2.5, 3.575)] {
            let found = student_975(freedom);
            assert!((least..least * 1.19).contains(&found), "{freedom}: {found}");
        }
        let steps: Vec<f64> = (10..400)
            .map(|tenth| student_975(f64::from(tenth) / 10.0))
            .collect();
        assert!(steps.is_sorted_by(|a, b| a >= b));
    }

    #[test]
    fn a_mean_of_nothing_or_of_one_listener_claims_nothing() {
        assert_eq!(Estimate::per_event([].into_iter()), Estimate::default());
        let one = Estimate::per_event([(4.0, 1.0)].into_iter());
        assert_eq!((one.mean, one.low, one.high), (Some(0.25), None, None));
        assert_eq!(Estimate::per_event([(0.0, 0.0)].into_iter()).mean, None);
    }

    #[test]
    fn with_clusters_of_one_it_is_the_usual_interval() {
        let values = [1.0, 2.0, 3.0, 6.0];
        let found = Estimate::per_event(values.into_iter().map(|v| (1.0, v)));
        // mean 3, sample variance 14/3, standard error sqrt(14/12).
        let reach = (14.0f64 / 12.0).sqrt() * 3.182;
        assert!((found.high.unwrap() - (3.0 + reach)).abs() < 1e-12);
        assert!((found.low.unwrap() - (3.0 - reach)).abs() < 1e-12);
        assert!(found.within_unit().low.unwrap() >= 0.0);
    }

    #[test]
    fn a_few_who_play_most_count_as_few() {
        // One with 90 plays and ten with one each: 100² / (90² + 10) − 1 = 0.23 degrees.
        let one = std::iter::once((90.0, 30.0)).chain(std::iter::repeat_n((1.0, 1.0), 10));
        let found = Estimate::per_event(one);
        assert_eq!((found.mean, found.low, found.high), (Some(0.4), None, None));
        // Three with 30 plays and ten with one each: 100² / (3 · 30² + 10) − 1 = 2.69 degrees.
        let hits = [6.0, 15.0, 9.0].map(|hits| (30.0, hits));
        let few = hits.into_iter().chain(std::iter::repeat_n((1.0, 0.0), 10));
        let found = Estimate::per_event(few.clone());
        let mean = 0.3;
        let squares: f64 = few.map(|(n, s): (f64, f64)| (s - mean * n).powi(2)).sum();
        let error = (13.0 / 12.0 * squares).sqrt() / 100.0;
        let quantiles = (found.high.unwrap() - mean) / error;
        assert!((3.2..3.6).contains(&quantiles), "{quantiles}");
    }

    /// The formula against what it stands for: 2,000 draws of listeners with replacement.
    #[test]
    fn it_agrees_with_a_bootstrap_over_listeners() {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let listeners: Vec<(f64, f64)> = (0..200)
            .map(|_| {
                let n = rng.random_range(1..60);
                let taste: f64 = rng.random_range(0.0..0.6);
                let hits = (0..n).filter(|_| rng.random_bool(taste)).count();
                (f64::from(n), hits as f64)
            })
            .collect();
        let mut means: Vec<f64> = (0..2_000)
            .map(|_| {
                let (mut n, mut s) = (0.0, 0.0);
                for _ in 0..listeners.len() {
                    let (events, hits) = listeners[rng.random_range(0..listeners.len())];
                    n += events;
                    s += hits;
                }
                s / n
            })
            .collect();
        means.sort_by(f64::total_cmp);
        let found = Estimate::per_event(listeners.iter().copied());
        let width = found.high.unwrap() - found.low.unwrap();
        assert!((found.low.unwrap() - means[50]).abs() < 0.1 * width);
        assert!((found.high.unwrap() - means[1_949]).abs() < 0.1 * width);
    }
}
