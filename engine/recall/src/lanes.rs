//! The inner loops: inner products of a query with rows, and the squared distance of two.
//!
//! Thirty-two running sums, added up in one fixed order, without fused multiply-add: the wide and the
//! plain build of a loop give the same bits, so scores do not depend on the machine. The processor is
//! asked once per batch of rows, not once per row.

use crate::halves::Half;
use crate::pages::Pages;

const LANES: usize = 32;
/// What is left of a row is taken in steps of so many.
const STEP: usize = 8;
/// Bytes that a processor fetches at once.
const LINE: usize = 64;
/// Rows that are taken side by side.
const ABREAST: usize = 4;
/// Rows that are asked for before they are taken: at least as many as a point has links, mostly.
const AHEAD: usize = 32;

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

/// Appends ⟨query, row⟩ for each of `slots` to `products`.
pub fn dots<C: Component>(query: &[f32], pages: &Pages<C>, slots: &[u32], products: &mut Vec<f32>) {
    widest(Products {
        query,
        pages,
        slots,
        products,
    });
}

/// Asks the processor to bring a row into its second cache; nothing is waited for. Many rows at once into the
/// first were measured to be slower, likely because it has room for fewer lines on their way.
#[inline(always)]
pub fn prefetch<T>(row: &[T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        let bytes = size_of_val(row);
        let start = row.as_ptr().cast::<i8>();
        for offset in (0..bytes).step_by(LINE) {
            // SAFETY: a hint about an address that lies in the row; it reads nothing and cannot fault.
            #[allow(unsafe_code)]
            unsafe {
                _mm_prefetch(start.wrapping_add(offset), _MM_HINT_T1);
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

struct Products<'a, 'p, C> {
    query: &'a [f32],
    pages: &'a Pages<C>,
    slots: &'a [u32],
    products: &'p mut Vec<f32>,
}

impl<C: Component> Work for Products<'_, '_, C> {
    type Out = ();

    #[inline(always)]
    fn run(self) {
        for &slot in self.slots.iter().take(AHEAD) {
            prefetch(self.pages.row(slot));
        }
        for (at, some) in self.slots.chunks(ABREAST).enumerate() {
            // Others come while these are computed.
            let later = self.slots.get(at * ABREAST + AHEAD..).unwrap_or(&[]);
            for &slot in later.iter().take(ABREAST) {
                prefetch(self.pages.row(slot));
            }
            // Where fewer are left, the last one is taken more than once: no slower than one by one.
            let rows = std::array::from_fn(|row| {
                let slot = some.get(row).or(some.last());
                slot.map_or(&[][..], |&slot| self.pages.row(slot))
            });
            let products = abreast(self.query, rows);
            self.products.extend_from_slice(&products[..some.len()]);
        }
    }
}

/// What [`sum`] gives for each of four rows, in the time of little more than one: their additions do
/// not wait for each other, and all sums stay in registers.
#[inline(always)]
fn abreast<C: Component>(query: &[f32], rows: [&[C]; ABREAST]) -> [f32; ABREAST] {
    let (lanes, rest) = query.as_chunks::<LANES>();
    if !rest.is_empty() || rows.iter().any(|row| row.len() != query.len()) {
        return rows.map(|row| sum(query, row, |x, y| x * y));
    }
    let rows = rows.map(|row| &row.as_chunks::<LANES>().0[..lanes.len()]);
    let mut sums = [[0.0f32; LANES]; ABREAST];
    for (at, x) in lanes.iter().enumerate() {
        let rows: [&[C; LANES]; ABREAST] = std::array::from_fn(|row| &rows[row][at]);
        for lane in 0..LANES {
            for row in 0..ABREAST {
                sums[row][lane] += x[lane] * rows[row][lane].wide();
            }
        }
    }
    all_halved(sums)
}

/// Halves onto halves: log₂ 32 steps, the same on every machine.
#[inline(always)]
fn halved(sums: [f32; LANES]) -> f32 {
    let [sum] = all_halved([sums]);
    sum
}

#[inline(always)]
fn all_halved<const N: usize>(sums: [[f32; LANES]; N]) -> [f32; N] {
    let sums: [[f32; 16]; N] = halves(&sums);
    let sums: [[f32; 8]; N] = halves(&sums);
    let sums: [[f32; 4]; N] = halves(&sums);
    let sums: [[f32; 2]; N] = halves(&sums);
    sums.map(|[a, b]| a + b)
}

/// One step, into an array of its own: written over the first half, it would go through memory.
#[inline(always)]
fn halves<const N: usize, const WHOLE: usize, const HALF: usize>(
    sums: &[[f32; WHOLE]; N],
) -> [[f32; HALF]; N] {
    let mut halves = [[0.0; HALF]; N];
    for lane in 0..HALF {
        for (half, sums) in halves.iter_mut().zip(sums) {
            half[lane] = sums[lane] + sums[lane + HALF];
        }
    }
    halves
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
    let rest = a_rest.iter().zip(b_rest);
    rest.fold(halved(sums), |total, (&x, &y)| total + term(x, y.wide()))
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
            let mut pages = Pages::new(length, 4096, 0.0);
            (0..6).for_each(|slot| pages.row_mut(slot).copy_from_slice(&b));
            let mut many = Vec::new();
            dots(&a, &pages, &[0, 5, 1, 4, 2, 3], &mut many);
            assert_eq!(many.len(), 6);
            assert!(many.iter().all(|one| one.to_bits() == plain.to_bits()));
            let halves: Vec<Half> = b.iter().map(|&x| Half::nearest(x)).collect();
            let wide: Vec<f32> = halves.iter().map(|half| half.to_f32()).collect();
            prefetch(&halves);
            assert_eq!(dot(&a, &halves).to_bits(), dot(&a, &wide).to_bits());
        }
    }
}
