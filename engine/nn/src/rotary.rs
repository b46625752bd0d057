//! Rotary position embedding (Su et al., 2021), in the rotate-half layout of published checkpoints.
//!
//! Angles are computed in `f32` for the positions at hand, once per forward pass and for all
//! layers: in `bf16` positions above 256 would fall together, and a table would have to be as long
//! as the longest context.

use std::f64::consts::TAU;

use serde::Deserialize;
use tch::{Device, Kind, Tensor};

use crate::NnError;

/// How a model's positions are stretched past the length that it was first trained on.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "rope_type", rename_all = "lowercase")]
pub enum RopeScaling {
    /// Not at all.
    Default,
    /// All angles divided by `factor`.
    Linear {
        /// Above 1.
        factor: f64,
    },
    /// LLaMA 3.1: slow angles divided by `factor`, fast ones kept, a smooth passage between.
    Llama3 {
        /// Above 1.
        factor: f64,
        /// Wavelengths longer than the old context over this are slow.
        low_freq_factor: f64,
        /// Wavelengths shorter than the old context over this are fast.
        high_freq_factor: f64,
        /// Positions of the first training.
        original_max_position_embeddings: f64,
    },
}

/// The angular velocities of a model's heads.
#[derive(Debug)]
pub struct Rotary {
    /// `[head_dim / 2]`, `f32`.
    velocities: Tensor,
}

/// Cosines and sines of one forward pass, `[batch, 1, length, head_dim]`, or of tokens that stand one behind
/// the other, `[tokens, 1, head_dim]`; `f32`.
#[derive(Debug)]
pub struct Angles {
    cos: Tensor,
    sin: Tensor,
}

impl Rotary {
    /// Velocity of pair *i*: `theta^(-2i / head_dim)`, scaled; `factors`, if the checkpoint has
    /// them (`rope_freqs.weight` of a GGUF file), divide it once more.
    pub fn new(
        head_dim: i64,
        theta: f64,
        scaling: Option<&RopeScaling>,
        factors: Option<&Tensor>,
        device: Device,
    ) -> Result<Self, NnError> {
        let velocities: Vec<f32> = (0..head_dim / 2)
            .map(|pair| {
                let velocity = theta.powf(-2.0 * pair as f64 / head_dim as f64);
                scaled(velocity, scaling) as f32
            })
            .collect();
        let mut velocities = Tensor::f_from_slice(&velocities)?;
        if let Some(factors) = factors {
            if factors.size() != velocities.size() {
                return Err(NnError::Config(format!(
                    "rope_freqs.weight is {:?} for heads of {head_dim}",
                    factors.size()
                )));
            }
            velocities = velocities.f_div(factors)?;
        }
        Ok(Self {
            velocities: velocities.f_to_device(device)?,
        })
    }

    /// The angles of `positions`, `[batch, length]` or `[tokens]`.
    pub fn angles(&self, positions: &Tensor) -> Result<Angles, NnError> {
        let half = positions
            .f_to_kind(Kind::Float)?
            .f_unsqueeze(-1)?
            .f_mul(&self.velocities)?
            .f_unsqueeze(1)?; // [batch, 1, length, head_dim / 2] or [tokens, 1, head_dim / 2]
        let whole = Tensor::f_cat(&[&half, &half], -1)?;
        Ok(Angles {
            cos: whole.f_cos()?,
            sin: whole.f_sin()?,
        })
    }

    /// The same velocities on the same memory.
    pub fn share(&self) -> Self {
        Self {
            velocities: self.velocities.shallow_clone(),
        }
    }
}

impl Angles {
    /// Those of some rows or tokens, on the same memory.
    pub(crate) fn part(&self, from: i64, count: i64) -> Result<Self, NnError> {
        Ok(Self {
            cos: self.cos.f_narrow(0, from, count)?,
            sin: self.sin.f_narrow(0, from, count)?,
        })
    }

    /// Turns queries or keys, `[batch, heads, length, head_dim]` or `[tokens, heads, head_dim]`, and keeps
    /// their kind.
    pub fn rotate(&self, x: &Tensor) -> Result<Tensor, NnError> {
        let half = self.cos.size().last().copied().unwrap_or(0) / 2;
        let first = x.f_narrow(-1, 0, half)?;
        let second = x.f_narrow(-1, half, half)?;
        let turned = Tensor::f_cat(&[&second.f_neg()?, &first], -1)?;
        let rotated = x.f_mul(&self.cos)?.f_add(&turned.f_mul(&self.sin)?)?;
        Ok(rotated.f_to_kind(x.kind())?)
    }
}

/// A velocity after the model's scaling; LLaMA 3's as in `transformers`' `modeling_rope_utils.py`.
fn scaled(velocity: f64, scaling: Option<&RopeScaling>) -> f64 {
    match scaling {
        None | Some(RopeScaling::Default) => velocity,
        Some(RopeScaling::Linear { factor }) => velocity / factor,
        Some(RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings: context,
        }) => {
            let wavelength = TAU / velocity;
            let smooth =
                (context / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
            let smooth = smooth.clamp(0.0, 1.0);
            (1.0 - smooth) * velocity / factor + smooth * velocity
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama3_keeps_fast_angles_and_divides_slow_ones() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192.0,
        };
        // Wavelength 6.28, far below 8192/4.
        assert_eq!(scaled(1.0, Some(&scaling)), 1.0);
        // Wavelength 62832, above 8192/1.
        assert!((scaled(1e-4, Some(&scaling)) - 1e-4 / 8.0).abs() < 1e-12);
        // Wavelength 4096 = 8192/2: a third of the way from slow to fast.
        let middle = TAU / 4096.0;
        let expected = middle / 8.0 * 2.0 / 3.0 + middle / 3.0;
        assert!((scaled(middle, Some(&scaling)) - expected).abs() < 1e-9);
    }

    #[test]
    fn the_angle_between_two_positions_depends_on_their_distance_only() {
        let rotary = Rotary::new(8, 10_000.0, None, None, Device::Cpu).unwrap();
        let x = Tensor::from_slice(&[0.3f32, -1.0, 0.7, 0.2, 1.1, -0.4, 0.9, 0.5])
            .reshape([1, 1, 1, 8]);
        let y = x.flip([-1]);
        let product = |p: i64, q: i64| {
            let at = |n: i64| {
                rotary
                    .angles(&Tensor::from_slice(&[n]).reshape([1, 1]))
                    .unwrap()
            };
            (at(p).rotate(&x).unwrap() * at(q).rotate(&y).unwrap())
                .sum(Kind::Float)
                .double_value(&[])
        };
        assert!((product(3, 1) - product(5003, 5001)).abs() < 1e-3);
        assert!((product(3, 1) - product(4, 1)).abs() > 1e-3);
    }
}
