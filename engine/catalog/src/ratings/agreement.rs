//! How far ratings agree with true ones: Spearman's rank correlation over tracks for each attribute, and
//! its mean over the attributes of each category, as arXiv 2606.00125 reports it.
//!
//! Ranks count, not values: a rater who is always one too high agrees fully. Equal ratings share the mean
//! of their ranks, and the correlation is Pearson's over ranks, which holds with ties (the formula with
//! squared differences does not). An attribute that either side rates the same throughout has no ranks
//! to compare; it is left out of the mean, and counted.
//!
//! The interval is a percentile bootstrap over tracks (Efron and Tibshirani, *An Introduction to the
//! Bootstrap*, 1993, chapter 13): whole tracks are drawn again, since a track's ratings belong together.
//! Resampled means lie a little below what was measured where ties come of drawing a track twice; with
//! few tracks the interval is wide and that does not matter.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::schema::{ATTRIBUTES, COUNT, Category};

/// The shares of resampled values between which the interval lies.
const QUANTILES: (f64, f64) = (0.025, 0.975);

/// A track as two sides rated it, by the schema; what is no number is not compared.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Pair {
    /// By who is judged.
    pub rated: [f32; COUNT],
    /// As it is.
    pub truly: [f32; COUNT],
}

/// How far two sides agree.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Agreement {
    /// Tracks that both rated.
    pub tracks: usize,
    /// Of which intervals are made.
    pub resamples: usize,
    /// By category, those with an attribute that was compared.
    pub categories: Vec<CategoryAgreement>,
    /// Over all attributes.
    pub all: Mean,
    /// By attribute.
    pub attributes: Vec<AttributeAgreement>,
}

/// The mean over the attributes of a category.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct CategoryAgreement {
    /// Which.
    pub category: Category,
    /// The mean.
    #[serde(flatten)]
    pub mean: Mean,
}

/// A mean of rank correlations.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Mean {
    /// The mean; `None` where no attribute can be ranked.
    pub spearman: Option<f64>,
    /// The lower bound of its 95 % interval; `None` where resampling gave no value.
    pub low: Option<f64>,
    /// The upper bound; likewise.
    pub high: Option<f64>,
    /// Attributes in it.
    pub attributes: usize,
    /// Attributes that are left out: one side rates them all the same.
    pub flat: usize,
}

/// One attribute's rank correlation.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct AttributeAgreement {
    /// Its name.
    pub attribute: &'static str,
    /// Its category.
    pub category: Category,
    /// Tracks that both sides rated by it.
    pub tracks: usize,
    /// The correlation; `None` where one side rates all tracks the same.
    pub spearman: Option<f64>,
}

/// Compares two sides; chance follows from `seed`.
pub fn agreement(pairs: &[Pair], resamples: usize, seed: u64) -> Agreement {
    let columns: Vec<Column> = (0..COUNT).map(|place| Column::new(pairs, place)).collect();
    let once = vec![1u32; pairs.len()];
    let measured: Vec<Option<f64>> = columns.iter().map(|c| c.spearman(&once)).collect();
    // Resampled means by category, and over all.
    let mut means: Vec<Vec<f64>> = vec![Vec::with_capacity(resamples); Category::ALL.len() + 1];
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for _ in 0..resamples {
        let mut drawn = vec![0u32; pairs.len()];
        for _ in 0..pairs.len() {
            if let Some(times) = drawn.get_mut(rng.random_range(0..pairs.len())) {
                *times += 1;
            }
        }
        let now: Vec<Option<f64>> = columns.iter().map(|c| c.spearman(&drawn)).collect();
        let groups = Category::ALL.map(Some).into_iter().chain([None]);
        for (group, means) in groups.zip(&mut means) {
            means.extend(mean(of(group, &now)));
        }
    }
    let mut intervals = means.into_iter().map(interval);
    let mut mean_of = |group: Option<Category>| {
        let (low, high) = intervals.next().flatten().unzip();
        let compared = of(group, &measured).zip(of(group, &columns));
        let flat = compared.filter(|(value, column)| value.is_none() && column.tracks() > 0);
        Mean {
            spearman: mean(of(group, &measured)),
            low,
            high,
            attributes: of(group, &measured).flatten().count(),
            flat: flat.count(),
        }
    };
    let categories = Category::ALL.map(|category| CategoryAgreement {
        category,
        mean: mean_of(Some(category)),
    });
    let all = mean_of(None);
    let compared = |c: &CategoryAgreement| c.mean.attributes + c.mean.flat > 0;
    Agreement {
        tracks: pairs.len(),
        resamples,
        categories: categories.into_iter().filter(compared).collect(),
        all,
        attributes: ATTRIBUTES
            .iter()
            .zip(columns.iter().zip(&measured))
            .map(|(attribute, (column, &spearman))| AttributeAgreement {
                attribute: attribute.name,
                category: attribute.category,
                tracks: column.tracks(),
                spearman,
            })
            .collect(),
    }
}

/// What belongs to a category, or all.
fn of<T>(group: Option<Category>, values: &[T]) -> impl Iterator<Item = &T> {
    ATTRIBUTES
        .iter()
        .zip(values)
        .filter(move |(attribute, _)| group.is_none_or(|group| group == attribute.category))
        .map(|(_, value)| value)
}

fn mean<'a>(values: impl Iterator<Item = &'a Option<f64>>) -> Option<f64> {
    let (sum, count) = values
        .flatten()
        .fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    (count > 0.0).then(|| sum / count)
}

fn interval(mut means: Vec<f64>) -> Option<(f64, f64)> {
    means.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = share * means.len().checked_sub(1)? as f64;
        let (below, above) = (place.floor(), place.ceil());
        let (low, high) = (means.get(below as usize)?, means.get(above as usize)?);
        Some(low + (high - low) * (place - below))
    };
    Some((at(QUANTILES.0)?, at(QUANTILES.1)?))
}

/// An attribute's two lists, each in the order of its values once and for all: a resample changes how
/// often a track counts, and not the order.
struct Column {
    rated: Ordered,
    truly: Ordered,
}

/// Tracks in groups of equal values, from the least on.
struct Ordered {
    groups: Vec<Vec<usize>>,
}

impl Column {
    fn new(pairs: &[Pair], place: usize) -> Self {
        let value = |ratings: &[f32; COUNT]| ratings.get(place).copied().unwrap_or(f32::NAN);
        let both: Vec<(usize, f32, f32)> = pairs
            .iter()
            .enumerate()
            .map(|(track, pair)| (track, value(&pair.rated), value(&pair.truly)))
            .filter(|(_, rated, truly)| rated.is_finite() && truly.is_finite())
            .collect();
        Self {
            rated: Ordered::new(
                both.iter()
                    .map(|&(track, rated, _)| (track, rated))
                    .collect(),
            ),
            truly: Ordered::new(
                both.iter()
                    .map(|&(track, _, truly)| (track, truly))
                    .collect(),
            ),
        }
    }

    fn tracks(&self) -> usize {
        self.rated.groups.iter().map(Vec::len).sum()
    }

    /// The correlation where each track counts so many times.
    fn spearman(&self, times: &[u32]) -> Option<f64> {
        let (a, b) = (self.rated.ranks(times), self.truly.ranks(times));
        let often = |track: usize| f64::from(times.get(track).copied().unwrap_or(0));
        let tracks = || self.rated.groups.iter().flatten().copied();
        let count: f64 = tracks().map(often).sum();
        // Ranks with ties keep their sum: the mean is known.
        let centre = (count + 1.0) / 2.0;
        let (mut product, mut first, mut second) = (0.0, 0.0, 0.0);
        for track in tracks() {
            let (Some(x), Some(y)) = (a.get(track), b.get(track)) else {
                continue;
            };
            let (x, y, times) = (x - centre, y - centre, often(track));
            product += times * x * y;
            first += times * x * x;
            second += times * y * y;
        }
        (first > 0.0 && second > 0.0).then(|| product / (first * second).sqrt())
    }
}

impl Ordered {
    fn new(mut values: Vec<(usize, f32)>) -> Self {
        values.sort_by(|a, b| a.1.total_cmp(&b.1));
        let groups = values.chunk_by(|a, b| a.1 == b.1);
        Self {
            groups: groups
                .map(|group| group.iter().map(|&(track, _)| track).collect())
                .collect(),
        }
    }

    /// Each track's rank from 1 on, equal ones sharing their mean; by track.
    fn ranks(&self, times: &[u32]) -> Vec<f64> {
        let mut ranks = vec![0.0; times.len()];
        let mut before = 0.0;
        for group in &self.groups {
            let here: f64 = group
                .iter()
                .filter_map(|&track| times.get(track))
                .map(|&times| f64::from(times))
                .sum();
            for &track in group {
                if let Some(rank) = ranks.get_mut(track) {
                    *rank = before + (here + 1.0) / 2.0;
                }
            }
            before += here;
        }
        ranks
    }
}

#[cfg(test)]
#[path = "agreement_tests.rs"]
mod tests;
