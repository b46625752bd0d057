//! The inner loops: dot product and squared distance of two rows.
//!
//! Sixteen running sums, added up in one fixed order, without fused multiply-add: the wide and the
//! plain build of a loop give the same bits, so scores do not depend on the machine.

const LANES: usize = 16;

/// Σ aᵢ·bᵢ over the shorter of the two.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    folded(a, b, Fold::Product)
}

/// Σ (aᵢ − bᵢ)² over the shorter of the two. Never negative, never NaN for finite rows.
pub fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    folded(a, b, Fold::SquaredDifference)
}

#[derive(Clone, Copy)]
enum Fold {
    Product,
    SquaredDifference,
}

fn folded(a: &[f32], b: &[f32], fold: Fold) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the function is plain safe code; it only needs a processor with AVX2, which was
        // asked for on the line above.
        #[allow(unsafe_code)]
        return unsafe { folded_wide(a, b, fold) };
    }
    folded_plain(a, b, fold)
}

/// The same loop, compiled for 256-bit registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn folded_wide(a: &[f32], b: &[f32], fold: Fold) -> f32 {
    folded_plain(a, b, fold)
}

#[inline(always)]
fn folded_plain(a: &[f32], b: &[f32], fold: Fold) -> f32 {
    match fold {
        Fold::Product => sum(a, b, |x, y| x * y),
        Fold::SquaredDifference => sum(a, b, |x, y| (x - y) * (x - y)),
    }
}

#[inline(always)]
fn sum(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let (a_lanes, a_rest) = a.as_chunks::<LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0f32; LANES];
    for (x, y) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..LANES {
            sums[lane] += term(x[lane], y[lane]);
        }
    }
    // Halves onto halves: log₂ 16 steps, the same on every machine.
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    a_rest
        .iter()
        .zip(b_rest)
        .fold(sums[0], |total, (&x, &y)| total + term(x, y))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_f64_and_between_builds_for_every_length() {
        for length in 0..100usize {
            let a: Vec<f32> = (0..length)
                .map(|i| ((i * 37 % 19) as f32 - 9.0) / 7.0)
                .collect();
            let b: Vec<f32> = (0..length)
                .map(|i| ((i * 53 % 23) as f32 - 11.0) / 5.0)
                .collect();
            let pairs = || {
                a.iter()
                    .zip(&b)
                    .map(|(&x, &y)| (f64::from(x), f64::from(y)))
            };
            let product: f64 = pairs().map(|(x, y)| x * y).sum();
            let difference: f64 = pairs().map(|(x, y)| (x - y) * (x - y)).sum();
            assert!(
                (f64::from(dot(&a, &b)) - product).abs() < 1e-3,
                "length {length}"
            );
            assert!((f64::from(squared_distance(&a, &b)) - difference).abs() < 1e-3);
            let plain = folded_plain(&a, &b, Fold::Product);
            assert_eq!(dot(&a, &b).to_bits(), plain.to_bits(), "length {length}");
        }
    }
}
