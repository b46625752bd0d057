//! Vectors in eight bits, and how far their products can be from the exact ones.
//!
//! A vector is kept as whole numbers times a step of its own, with its length and the length of what the
//! rounding took from it. Products of whole numbers are exact, so the distance between the coarse product
//! and the exact one follows from these lengths by Cauchy and Schwarz, whatever the vectors are: with
//! `v = v̂ + r` and `q = q̂ + s`, `|q·v − q̂·v̂| = |q̂·r + s·v| ≤ |q̂||r| + |s||v|`.

use tch::{Device, Kind, Tensor};

use crate::error::ModelError;

/// The largest whole number that is used: the scale is symmetric.
const LARGEST: f64 = 127.0;
/// A step for a vector of zeros.
const LEAST_STEP: f64 = 1e-30;
/// What `f32` may add in computing a product, the lengths and the bound, as a share of the lengths: far
/// more than the roundings of some hundred terms.
const SLACK: f64 = 1e-5;

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
        let vectors = vectors.f_to_kind(Kind::Float)?;
        let step = vectors
            .f_abs()?
            .f_amax([1i64].as_slice(), true)?
            .f_div_scalar(LARGEST)?
            .f_clamp_min(LEAST_STEP)?;
        let whole = vectors
            .f_div(&step)?
            .f_round()?
            .f_clamp(-LARGEST, LARGEST)?;
        let length = |of: &Tensor| of.f_norm_scalaropt_dim(2.0, [1i64].as_slice(), true);
        let lengths = length(&vectors)?;
        let errors = length(&vectors.f_sub(&whole.f_mul(&step)?)?)?;
        let errors = errors.f_add(&lengths.f_mul_scalar(SLACK)?)?;
        Ok(Self {
            // What is not a number is none in eight bits; its length says so.
            values: whole.f_nan_to_num(0.0, None, None)?.f_to_kind(Kind::Int8)?,
            facts: facts(&Tensor::f_cat(&[step, lengths, errors], 1)?)?,
        })
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

    /// What the first `rows` rows stand for.
    pub fn facts(&self, rows: usize) -> &[Facts] {
        self.facts.get(..rows).unwrap_or(&self.facts)
    }
}

/// Of a table `[rows, 3]`: the step, the length of the exact vector, the length of what rounding took from it.
fn facts(table: &Tensor) -> Result<Vec<Facts>, ModelError> {
    let values: Vec<f32> = Vec::try_from(table.f_to_device(Device::Cpu)?.f_reshape([-1])?)?;
    let (rows, _) = values.as_chunks();
    let facts = rows.iter().map(|&[step, length, error]| Facts {
        step,
        length,
        error,
    });
    Ok(facts.collect())
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
