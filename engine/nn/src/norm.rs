//! Normalisation layers. Both compute in `f32` whatever they are given.

use tch::{Kind, Tensor};

use crate::NnError;
use crate::weights::Weights;

/// Root-mean-square norm: `x / sqrt(mean(x²) + eps) · weight` (Zhang and Sennrich, 2019).
#[derive(Debug)]
pub struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    /// Loads `<name>.weight`, `[size]`.
    pub fn load(
        weights: &Weights,
        name: &str,
        size: i64,
        eps: f64,
        place: (Kind, tch::Device),
    ) -> Result<Self, NnError> {
        let weight = weights.get_shaped(&format!("{name}.weight"), &[size])?;
        Ok(Self {
            weight: weight.f_to_device(place.1)?.f_to_kind(place.0)?,
            eps,
        })
    }

    /// `[…, size]` to the same shape and kind.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, NnError> {
        let size = self.weight.size();
        Ok(x.f_rms_norm(&size[..], Some(&self.weight), self.eps)?)
    }

    /// Its parameter.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The same layer on the same memory.
    pub fn share(&self) -> Self {
        Self {
            weight: self.weight.shallow_clone(),
            eps: self.eps,
        }
    }
}

/// Layer norm with weight and bias, as in BERT and SASRec.
#[derive(Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// Loads `<name>.weight` and `<name>.bias`, `[size]` each.
    pub fn load(
        weights: &Weights,
        name: &str,
        size: i64,
        eps: f64,
        place: (Kind, tch::Device),
    ) -> Result<Self, NnError> {
        let part = |part: &str| -> Result<Tensor, NnError> {
            let tensor = weights.get_shaped(&format!("{name}.{part}"), &[size])?;
            Ok(tensor.f_to_device(place.1)?.f_to_kind(place.0)?)
        };
        Ok(Self {
            weight: part("weight")?,
            bias: part("bias")?,
            eps,
        })
    }

    /// `[…, size]` to the same shape and kind.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, NnError> {
        let size = self.weight.size();
        Ok(x.f_layer_norm(
            &size[..],
            Some(&self.weight),
            Some(&self.bias),
            self.eps,
            true,
        )?)
    }
}
