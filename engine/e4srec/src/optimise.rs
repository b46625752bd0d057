//! The two optimisers: AdamW for dense parameters, row-wise Adagrad for tables.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::error::ModelError;
use crate::item_tower::copy_into;
use crate::kept::{Named, Tensors, numbered};

const BETAS: (f64, f64) = (0.9, 0.999);
const EPSILON: f64 = 1e-8;

/// AdamW (Loshchilov and Hutter 2019) over leaves that share their memory with their models.
#[derive(Debug)]
pub(crate) struct AdamW {
    parameters: Vec<Parameter>,
    decay: f64,
    step: i32,
}

#[derive(Debug)]
struct Parameter {
    value: Tensor,
    mean: Tensor,
    square: Tensor,
    /// Whether it ever had a gradient: from then on none is a gradient of zero, and its momentum
    /// fades.
    moved: bool,
}

/// What of it is not a tensor.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct AdamFacts {
    step: i32,
    moved: Vec<bool>,
}

impl AdamW {
    /// Over `parameters`, with decoupled weight decay.
    pub fn new(parameters: Vec<Tensor>, decay: f64) -> Result<Self, ModelError> {
        let parameters = parameters
            .into_iter()
            .map(|value| {
                Ok(Parameter {
                    mean: value.f_detach()?.f_zeros_like()?,
                    square: value.f_detach()?.f_zeros_like()?,
                    value,
                    moved: false,
                })
            })
            .collect::<Result<_, ModelError>>()?;
        Ok(Self {
            parameters,
            decay,
            step: 0,
        })
    }

    /// What belongs into a checkpoint, but for the parameters themselves.
    pub fn kept(&self, name: &str, named: &mut Named) -> AdamFacts {
        let [means, squares] = self.moments();
        numbered(&format!("{name}.mean"), &means, named);
        numbered(&format!("{name}.square"), &squares, named);
        AdamFacts {
            step: self.step,
            moved: self.parameters.iter().map(|one| one.moved).collect(),
        }
    }

    /// Takes up what was kept under `name`.
    pub fn take_up(
        &mut self,
        name: &str,
        facts: &AdamFacts,
        tensors: &mut Tensors<'_>,
    ) -> Result<(), ModelError> {
        let steps = 0..i32::MAX / 2;
        if facts.moved.len() != self.parameters.len() || !steps.contains(&facts.step) {
            return Err(ModelError::State(format!(
                "optimiser {name} of {} parameters after {} steps",
                facts.moved.len(),
                facts.step
            )));
        }
        let [means, squares] = self.moments();
        copy_into(&means, &tensors.all(&format!("{name}.mean"), &means)?)?;
        copy_into(&squares, &tensors.all(&format!("{name}.square"), &squares)?)?;
        for (parameter, &moved) in self.parameters.iter_mut().zip(&facts.moved) {
            parameter.moved = moved;
        }
        self.step = facts.step;
        Ok(())
    }

    fn moments(&self) -> [Vec<Tensor>; 2] {
        let all = self.parameters.iter();
        [
            all.clone().map(|one| one.mean.shallow_clone()).collect(),
            all.map(|one| one.square.shallow_clone()).collect(),
        ]
    }

    /// One step against the gradients at rate `rate`; gradients are first scaled so that their
    /// common norm is at most `clip`, and forgotten afterwards. A gradient that is not finite
    /// changes nothing; whether it was finite.
    pub fn step(&mut self, rate: f64, clip: f64) -> Result<bool, ModelError> {
        let norm = self.norm()?;
        if norm.is_finite() {
            self.step_along(rate, clip, norm)?;
        }
        self.forget_gradients()?;
        Ok(norm.is_finite())
    }

    /// The common norm of the gradients.
    pub fn norm(&self) -> Result<f64, ModelError> {
        tch::no_grad(|| {
            let mut total = 0.0;
            for parameter in &self.parameters {
                let gradient = parameter.value.f_grad()?;
                if gradient.defined() {
                    total += gradient
                        .f_square()?
                        .f_sum(Kind::Float)?
                        .f_double_value(&[])?;
                }
            }
            Ok(total.sqrt())
        })
    }

    /// The step of [`AdamW::step`], for gradients whose `norm` is known and finite; they stay.
    pub fn step_along(&mut self, rate: f64, clip: f64, norm: f64) -> Result<(), ModelError> {
        self.step += 1;
        let scale = (clip / (norm + 1e-6)).min(1.0);
        tch::no_grad(|| self.apply(rate, scale))
    }

    /// The next step is against none of the gradients until now.
    pub fn forget_gradients(&mut self) -> Result<(), ModelError> {
        tch::no_grad(|| {
            for parameter in &mut self.parameters {
                if parameter.value.f_grad()?.defined() {
                    parameter.value.zero_grad();
                }
            }
            Ok(())
        })
    }

    fn apply(&mut self, rate: f64, scale: f64) -> Result<(), ModelError> {
        let first = 1.0 - BETAS.0.powi(self.step);
        let second = 1.0 - BETAS.1.powi(self.step);
        for parameter in &mut self.parameters {
            let gradient = parameter.value.f_grad()?;
            let gradient = match (gradient.defined(), parameter.moved) {
                (true, _) => gradient.f_mul_scalar(scale)?,
                (false, true) => parameter.mean.f_zeros_like()?,
                (false, false) => continue,
            };
            parameter.moved = true;
            let _ = parameter.mean.f_mul_scalar_(BETAS.0)?;
            let _ = parameter
                .mean
                .f_add_(&gradient.f_mul_scalar(1.0 - BETAS.0)?)?;
            let _ = parameter.square.f_mul_scalar_(BETAS.1)?;
            let _ = parameter
                .square
                .f_add_(&gradient.f_square()?.f_mul_scalar(1.0 - BETAS.1)?)?;
            let root = parameter
                .square
                .f_div_scalar(second)?
                .f_sqrt()?
                .f_add_scalar(EPSILON)?;
            let change = parameter.mean.f_div(&root)?.f_mul_scalar(-rate / first)?;
            let mut value = parameter.value.f_detach()?;
            let _ = value.f_mul_scalar_(1.0 - rate * self.decay)?;
            let _ = value.f_add_(&change)?;
        }
        Ok(())
    }
}

/// What a row's accumulator begins at: about the square of the gradient of a single play. From zero,
/// the faintest gradient of a negative sample would move a new row as far as its first play does.
pub(crate) const ADAGRAD_BEGIN: f64 = 0.02;

/// Row-wise Adagrad: one accumulator per row, of the row gradient's mean square (as in embedding
/// tables of large recommenders). `table` is `[rows, d]`, `squares` `[rows]`, `rows` distinct ids,
/// `gradient` `[len(rows), d]`. A row moves by at most `clip` per step in any component.
pub(crate) fn adagrad_rows(
    table: &mut Tensor,
    squares: &mut Tensor,
    rows: &Tensor,
    gradient: &Tensor,
    rate: f64,
    clip: f64,
) -> Result<(), ModelError> {
    tch::no_grad(|| {
        let mean = gradient
            .f_square()?
            .f_mean_dim(&[-1i64][..], false, Kind::Float)?;
        let _ = squares.f_index_add_(0, rows, &mean)?;
        let root = squares
            .f_index_select(0, rows)?
            .f_sqrt()?
            .f_add_scalar(1e-6)?
            .f_unsqueeze(-1)?;
        let change = gradient
            .f_div(&root)?
            .f_mul_scalar(-rate)?
            .f_clamp(-clip, clip)?;
        let _ = table.f_index_add_(0, rows, &change)?;
        Ok(())
    })
}

/// A rate that rises over the first tenth of `total` steps and then falls along half a cosine.
pub(crate) fn warm_cosine(step: u64, total: u64, rate: f64) -> f64 {
    let total = total.max(1) as f64;
    let warm = (total / 10.0).max(1.0);
    let at = step as f64 + 1.0;
    if at <= warm {
        return rate * at / warm;
    }
    let share = ((at - warm) / (total - warm).max(1.0)).min(1.0);
    rate * 0.5 * (1.0 + (std::f64::consts::PI * share).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adamw_takes_the_published_first_step() {
        let x = Tensor::from_slice(&[1.0f32, -2.0]).set_requires_grad(true);
        let mut adam = AdamW::new(vec![x.shallow_clone()], 0.1).unwrap();
        (&x * Tensor::from_slice(&[3.0f32, -0.5]))
            .sum(Kind::Float)
            .backward();
        assert!(adam.step(0.01, 1e9).unwrap());
        // The first step moves by the rate against each sign, after the decay.
        let expected = [1.0 * (1.0 - 0.001) - 0.01, -2.0 * (1.0 - 0.001) + 0.01];
        for (at, expected) in expected.into_iter().enumerate() {
            assert!((x.double_value(&[at as i64]) - expected).abs() < 1e-6);
        }
        assert_eq!(x.grad().abs().max().double_value(&[]), 0.0);
    }

    #[test]
    fn a_gradient_that_is_not_finite_changes_nothing() {
        let x = Tensor::from_slice(&[1.0f32]).set_requires_grad(true);
        let mut adam = AdamW::new(vec![x.shallow_clone()], 0.1).unwrap();
        (&x * f64::NAN).sum(Kind::Float).backward();
        assert!(!adam.step(0.01, 1.0).unwrap());
        assert_eq!(x.double_value(&[0]), 1.0);
    }

    #[test]
    fn adagrad_touches_its_rows_only() {
        let mut table = Tensor::ones([3, 2], (Kind::Float, tch::Device::Cpu));
        let mut squares = Tensor::zeros([3], (Kind::Float, tch::Device::Cpu));
        let gradient = Tensor::from_slice(&[2.0f32, 2.0]).reshape([1, 2]);
        let rows = Tensor::from_slice(&[1i64]);
        adagrad_rows(&mut table, &mut squares, &rows, &gradient, 0.1, 1.0).unwrap();
        assert!((table.double_value(&[1, 0]) - 0.9).abs() < 1e-5);
        assert_eq!(table.double_value(&[0, 0]), 1.0);
        adagrad_rows(&mut table, &mut squares, &rows, &gradient, 0.1, 1.0).unwrap();
        let second = 0.9 - 0.1 / 2f64.sqrt();
        assert!((table.double_value(&[1, 1]) - second).abs() < 1e-5);
    }

    #[test]
    fn the_rate_rises_and_falls() {
        assert!((warm_cosine(0, 100, 1.0) - 0.1).abs() < 1e-9);
        assert!((warm_cosine(9, 100, 1.0) - 1.0).abs() < 1e-9);
        assert!(warm_cosine(99, 100, 1.0) < 1e-9);
    }
}
