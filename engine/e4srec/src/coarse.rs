//! Vectors in eight bits, and how far their products can be from the exact ones.
//!
//! A vector is kept as whole numbers times a step of its own, with its length and the length of what the
//! rounding took from it. Products of whole numbers are exact, so the distance between the coarse product
//! and the exact one follows from these lengths by Cauchy and Schwarz, whatever the vectors are: with
//! `v = v̂ + r` and `q = q̂ + s`, `|q·v − q̂·v̂| = |q̂·r + s·v| ≤ |q̂||r| + |s||v|`.

use segue_nn::threads;
use tch::{Device, Kind, Tensor};

use crate::error::ModelError;

/// The largest whole number that is used: the scale is symmetric.
const LARGEST: f32 = 127.0;
/// A step for a vector of zeros.
const LEAST_STEP: f32 = 1e-30;
/// What `f32` may add in computing a product, the lengths and the bound, as a share of the lengths: far
/// more than the roundings of some hundred terms.
const SLACK: f32 = 1e-5;
/// Added to a number below 2²² it leaves no room behind the point: rounding without asking the processor for
/// it, half to even.
const WHOLE: f32 = 12_582_912.0;
/// Running sums of a row, so that several are added to in one instruction.
const LANES: usize = 16;
/// Rows that a thread narrows at a time.
const STRETCH: usize = 1_024;

/// Vectors in eight bits, one a row.
#[derive(Debug)]
pub(crate) struct Coarse {
    /// `[rows, d]`, whole numbers.
    values: Tensor,
    /// A row's each. They change with the vectors alone, and each batch of questions looks at all of them.
    facts: Vec<Facts>,
}

/// What a row's whole numbers stand for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub step: f32,
    pub length: f32,
    pub error: f32,
}

impl Coarse {
    /// Of vectors `[rows, d]`.
    pub fn of(vectors: &Tensor) -> Result<Self, ModelError> {
        let (rows, d) = vectors.size2()?;
        let mut coarse = Self {
            values: Tensor::f_zeros([rows, d], (Kind::Int8, vectors.device()))?,
            facts: Vec::new(),
        };
        coarse.facts.resize(rows as usize, Facts::NONE);
        coarse.set_from(0, vectors)?;
        Ok(coarse)
    }

    /// The whole numbers, on the same memory, for another thread.
    pub fn values(&self) -> Tensor {
        self.values.shallow_clone()
    }

    /// Takes over the vectors `[len(rows), d]` of some rows.
    pub fn set(&mut self, rows: &Tensor, vectors: &Tensor) -> Result<(), ModelError> {
        let other = Self::of(vectors)?;
        let _ = self.values.f_index_copy_(0, rows, &other.values)?;
        let rows: Vec<i64> = Vec::try_from(rows.f_to_device(Device::Cpu)?)?;
        for (row, facts) in rows.into_iter().zip(other.facts) {
            if let Some(place) = usize::try_from(row)
                .ok()
                .and_then(|row| self.facts.get_mut(row))
            {
                *place = facts;
            }
        }
        Ok(())
    }

    /// Takes over the vectors `[n, d]` of the rows from `first` on.
    pub fn set_from(&mut self, first: i64, vectors: &Tensor) -> Result<(), ModelError> {
        let (rows, d) = vectors.size2()?;
        let range = first as usize..(first + rows) as usize;
        let mut rest = self.facts.get_mut(range).unwrap_or_default();
        let mut stretches = Vec::new();
        let mut from = 0;
        while !rest.is_empty() {
            let (facts, later) = rest.split_at_mut(STRETCH.min(rest.len()));
            let count = facts.len() as i64;
            stretches.push(Stretch {
                vectors: vectors.f_narrow(0, from, count)?,
                values: self.values.f_narrow(0, first + from, count)?,
                facts,
            });
            (from, rest) = (from + count, later);
        }
        let narrow = |stretch: Stretch<'_>| stretch.narrow(d as usize);
        match stretches.len() {
            // The queries of a batch: not worth another thread.
            0 | 1 => stretches.into_iter().try_for_each(narrow),
            _ => threads::on_each(stretches, narrow).map(drop),
        }
    }

    /// What the first `rows` rows stand for.
    pub fn facts(&self, rows: usize) -> &[Facts] {
        self.facts.get(..rows).unwrap_or(&self.facts)
    }
}

impl Facts {
    /// Of a vector that is none.
    const NONE: Self = Self {
        step: LEAST_STEP,
        length: f32::NAN,
        error: f32::NAN,
    };
}

/// Rows that one thread narrows; shares its memory with the whole.
struct Stretch<'a> {
    /// `[n, d]`
    vectors: Tensor,
    /// `[n, d]`
    values: Tensor,
    facts: &'a mut [Facts],
}

impl Stretch<'_> {
    fn narrow(mut self, d: usize) -> Result<(), ModelError> {
        let count = self.facts.len() * d;
        let mut exact = vec![0f32; count];
        let vectors = self.vectors.f_to_device(Device::Cpu)?;
        let vectors = vectors.f_to_kind(Kind::Float)?.f_contiguous()?;
        vectors.f_copy_data(&mut exact, count)?;
        let mut whole = vec![0i8; count];
        let rows = exact
            .chunks_exact(d.max(1))
            .zip(whole.chunks_exact_mut(d.max(1)));
        for ((exact, whole), facts) in rows.zip(&mut *self.facts) {
            *facts = narrowed(exact, whole);
        }
        let whole = Tensor::f_from_slice(&whole)?.f_reshape(self.values.size())?;
        self.values.f_copy_(&whole)?;
        Ok(())
    }
}

/// A row in eight bits. What is not a number is none in eight bits; its length says so.
fn narrowed(exact: &[f32], whole: &mut [i8]) -> Facts {
    let length = squares(exact, |x| x).sqrt();
    if !length.is_finite() {
        whole.fill(0);
        return Facts::NONE;
    }
    let largest = exact.iter().fold(0f32, |most, x| most.max(x.abs()));
    let step = (largest / LARGEST).max(LEAST_STEP);
    let rounded = |x: f32| x / step + WHOLE;
    for (whole, &x) in whole.iter_mut().zip(exact) {
        *whole = rounded(x).to_bits().wrapping_sub(WHOLE.to_bits()) as i8;
    }
    let error = squares(exact, |x| x - (rounded(x) - WHOLE) * step).sqrt();
    Facts {
        step,
        length,
        error: error + length * SLACK,
    }
}

/// The sum of the squares of what becomes of a row's numbers.
fn squares(row: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let (blocks, rest) = row.as_chunks::<LANES>();
    let mut sums = [0f32; LANES];
    for block in blocks {
        for (sum, &x) in sums.iter_mut().zip(block) {
            let x = of(x);
            *sum += x * x;
        }
    }
    let rest = rest.iter().map(|&x| of(x) * of(x));
    sums.iter().sum::<f32>() + rest.sum::<f32>()
}

/// Products of so many rows of [`Coarse::values`] from the `first` on with all rows of another's, in units of
/// their steps: `products` becomes `[rows, queries]`.
pub(crate) fn products(
    (table, first, rows): (&Tensor, i64, i64),
    queries: &Tensor,
    products: &mut [i32],
) -> Result<(), ModelError> {
    let part = table.f_narrow(0, first, rows)?;
    let found = part.f_internal_int_mm(&queries.f_tr()?)?;
    found.f_copy_data(products, found.numel())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn the_exact_product_is_within_the_doubt() {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let (rows, queries, d) = (300usize, 40usize, 32usize);
        let mut draw = |count: usize, spread: f32| -> Vec<f32> {
            let mut scale = 0.0;
            (0..count * d)
                .map(|at| {
                    if at % d == 0 {
                        scale = spread.powf(rng.random_range(-1.0..1.0));
                    }
                    scale * rng.random_range(-1.0f32..1.0).powi(3)
                })
                .collect()
        };
        let vectors = Tensor::from_slice(&draw(rows, 30.0)).reshape([rows as i64, d as i64]);
        let asked = Tensor::from_slice(&draw(queries, 5.0)).reshape([queries as i64, d as i64]);
        let exact: Vec<f64> = Vec::try_from(
            vectors
                .to_kind(Kind::Double)
                .matmul(&asked.to_kind(Kind::Double).tr())
                .reshape([-1]),
        )
        .unwrap();
        let mut coarse = Coarse::of(&vectors.zeros_like()).unwrap();
        let all = Tensor::arange(rows as i64, (Kind::Int64, Device::Cpu));
        coarse.set(&all, &vectors).unwrap();
        let asked = Coarse::of(&asked).unwrap();
        let (of_rows, of_asked) = (coarse.facts(rows), asked.facts(queries));
        let mut products = vec![0i32; rows * queries];
        for (first, count) in [(0, 100), (100, 200)] {
            let range = first * queries..(first + count) * queries;
            let rows = (&coarse.values(), first as i64, count as i64);
            super::products(rows, &asked.values(), &mut products[range]).unwrap();
        }
        let mut largest = 0.0f64;
        for (row, facts) in of_rows.iter().enumerate() {
            for (query, asked) in of_asked.iter().enumerate() {
                let at = row * queries + query;
                let coarse = f64::from(products[at]) * f64::from(facts.step * asked.step);
                let doubt = (asked.length + asked.error) * facts.error + asked.error * facts.length;
                let off = (coarse - exact[at]).abs() / f64::from(doubt);
                largest = largest.max(off);
            }
        }
        assert!(largest <= 1.0, "{largest}");
        // The bound says something.
        assert!(largest > 0.05, "{largest}");
        let tightness = of_rows.iter().map(|facts| facts.error / facts.length);
        assert!(tightness.fold(0.0, f32::max) < 0.03);
    }

    #[test]
    fn what_is_not_a_number_has_no_length() {
        let vectors = Tensor::from_slice(&[1.0f32, f32::NAN, 2.0, 3.0]).reshape([2, 2]);
        let coarse = Coarse::of(&vectors).unwrap();
        let facts = coarse.facts(2);
        assert!(facts[0].length.is_nan() && facts[1].length.is_finite());
    }
}
