//! Recall and speed along the breadth of a search, and the speed at a recall.

use serde::Deserialize;

/// Breadths at which every index is asked.
pub const BREADTHS: &[usize] = &[
    10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384,
    512,
];

/// One breadth.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize)]
pub struct Point {
    pub ef: usize,
    pub recall: f64,
    pub queries_per_s: f64,
}

/// Queries a second at a recall: between the two points around it, straight in the logarithms of the
/// misses and of the speed. `hits` is how many were asked for in all: no fewer than half of one is
/// missed, whatever was counted.
pub fn speed_at(curve: &[Point], recall: f64, hits: usize) -> f64 {
    let least = 0.5 / hits as f64;
    let misses = |point: &Point| (1.0 - point.recall).max(least).ln();
    let wanted = (1.0 - recall).max(least).ln();
    let Some(after) = curve.iter().position(|point| misses(point) <= wanted) else {
        return f64::NAN;
    };
    let Some((low, high)) = after
        .checked_sub(1)
        .and_then(|low| curve.get(low).zip(curve.get(after)))
    else {
        // Even the narrowest search is better than that.
        return curve.first().map_or(f64::NAN, |point| point.queries_per_s);
    };
    let share = (misses(low) - wanted) / (misses(low) - misses(high));
    let (slow, fast) = (high.queries_per_s.ln(), low.queries_per_s.ln());
    (fast + share * (slow - fast)).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_read_between_two_points() {
        let point = |ef, recall, queries_per_s| Point {
            ef,
            recall,
            queries_per_s,
        };
        let curve = [
            point(10, 0.9, 400.0),
            point(20, 0.99, 200.0),
            point(40, 1.0, 100.0),
        ];
        assert!((speed_at(&curve, 0.99, 1000) - 200.0).abs() < 1e-6);
        let between = speed_at(&curve, 0.968_377_223, 1000);
        assert!((between - 282.84).abs() < 0.1, "{between}");
        assert_eq!(speed_at(&curve, 0.5, 1000), 400.0);
        assert!(speed_at(&curve[..2], 0.999, 1000).is_nan());
    }
}
