//! The inner loops: inner products of a query with rows, and the squared distance of two.
//!
//! Thirty-two running sums, added up in one fixed order, without fused multiply-add: the wide and the
//! plain build of a loop give the same bits, so scores do not depend on the machine. The processor is
//! asked once per batch of rows, not once per row.

use crate::halves::Half;

const LANES: usize = 32;
/// What is left of a row is taken in steps of so many.
const STEP: usize = 8;
/// Bytes that a processor fetches at once.
const LINE: usize = 64;

/// A component as it is stored.
pub trait Component: Copy + Send + Sync + PartialEq + 'static {
    /// The number it stands for.
    fn wide(self) -> f32;
}

impl Component for f32 {
    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }
}

impl Component for Half {
    #[inline(always)]
    fn wide(self) -> f32 {
        self.to_f32()
    }
}

/// Σ aᵢ·bᵢ over the shorter of the two.
pub fn dot<C: Component>(a: &[f32], b: &[C]) -> f32 {
    widest(Product { a, b })
}

/// Σ (aᵢ − bᵢ)² over the shorter of the two. Never negative, never NaN for finite rows.
pub fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    widest(SquaredDifference { a, b })
}

/// Appends ⟨query, row⟩ for each row that `rows` gives to `products`.
pub fn dots<'a, C: Component>(
    query: &[f32],
    rows: impl Iterator<Item = &'a [C]>,
    products: &mut Vec<f32>,
) {
    widest(Products {
        query,
        rows,
        products,
    });
}

/// Asks the processor to bring a row into its cache; nothing is waited for.
#[inline(always)]
pub fn prefetch<T>(row: &[T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let bytes = size_of_val(row);
        let start = row.as_ptr().cast::<i8>();
        for offset in (0..bytes).step_by(LINE) {
            // SAFETY: a hint about an address that lies in the row; it reads nothing and cannot fault.
            #[allow(unsafe_code)]
            unsafe {
                _mm_prefetch(start.wrapping_add(offset), _MM_HINT_T0);
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (row, LINE);
}

/// A loop that is worth compiling for wide registers.
trait Work {
    type Out;
    fn run(self) -> Self::Out;
}

fn widest<W: Work>(work: W) -> W::Out {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the function is plain safe code; it only needs a processor with AVX-512F, which
            // was asked for on the line above.
            #[allow(unsafe_code)]
            return unsafe { in_512_bits(work) };
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: as above, with AVX2.
            #[allow(unsafe_code)]
            return unsafe { in_256_bits(work) };
        }
    }
    work.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2")]
fn in_512_bits<W: Work>(work: W) -> W::Out {
    work.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn in_256_bits<W: Work>(work: W) -> W::Out {
    work.run()
}

struct Product<'a, C> {
    a: &'a [f32],
    b: &'a [C],
}

impl<C: Component> Work for Product<'_, C> {
    type Out = f32;

    #[inline(always)]
    fn run(self) -> f32 {
        sum(self.a, self.b, |x, y| x * y)
    }
}

struct SquaredDifference<'a> {
    a: &'a [f32],
    b: &'a [f32],
}

impl Work for SquaredDifference<'_> {
    type Out = f32;

    #[inline(always)]
    fn run(self) -> f32 {
        sum(self.a, self.b, |x, y| (x - y) * (x - y))
    }
}

struct Products<'a, 'p, I> {
    query: &'a [f32],
    rows: I,
    products: &'p mut Vec<f32>,
}

impl<'r, C: Component, I: Iterator<Item = &'r [C]>> Work for Products<'_, '_, I> {
    type Out = ();

    #[inline(always)]
    fn run(self) {
        for row in self.rows {
            self.products.push(sum(self.query, row, |x, y| x * y));
        }
    }
}

#[inline(always)]
fn sum<C: Component>(a: &[f32], b: &[C], term: impl Fn(f32, f32) -> f32) -> f32 {
    let length = a.len().min(b.len());
    let (a, b) = (&a[..length], &b[..length]);
    let (a_lanes, a_rest) = a.as_chunks::<LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0f32; LANES];
    for (x, y) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..LANES {
            sums[lane] += term(x[lane], y[lane].wide());
        }
    }
    let (a_steps, a_rest) = a_rest.as_chunks::<STEP>();
    let (b_steps, b_rest) = b_rest.as_chunks::<STEP>();
    for (x, y) in a_steps.iter().zip(b_steps) {
        for lane in 0..STEP {
            sums[lane] += term(x[lane], y[lane].wide());
        }
    }
    // Halves onto halves: log₂ 32 steps, the same on every machine.
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    let rest = a_rest.iter().zip(b_rest);
    rest.fold(sums[0], |total, (&x, &y)| total + term(x, y.wide()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_f64_and_between_builds_for_every_length() {
        for length in 0..150usize {
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
            let plain = Product { a: &a, b: &b }.run();
            assert_eq!(dot(&a, &b).to_bits(), plain.to_bits(), "length {length}");
            let mut many = Vec::new();
            dots(&a, [&b[..], &a[..]].into_iter(), &mut many);
            assert_eq!(many[0].to_bits(), plain.to_bits(), "length {length}");
            let halves: Vec<Half> = b.iter().map(|&x| Half::nearest(x)).collect();
            let wide: Vec<f32> = halves.iter().map(|half| half.to_f32()).collect();
            prefetch(&halves);
            assert_eq!(dot(&a, &halves).to_bits(), dot(&a, &wide).to_bits());
        }
    }
}
