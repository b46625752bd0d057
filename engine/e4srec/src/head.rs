//! From a hidden state to a query vector, and from that to logits: all that is learnt fast.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use crate::chance::normals;
use crate::error::ModelError;
use crate::personal::{FEATURES, INITIAL};

/// Leaves that require gradients.
#[derive(Debug)]
pub(crate) struct Head {
    /// `[d, hidden]`, on the hidden state at unit mean square.
    weight: Tensor,
    bias: Tensor,
    /// `[d, d]`, on the vector of the newest play: what the cut backbone would have to carry
    /// through its layers otherwise.
    newest: Tensor,
    /// `[d, d]`, on the fading mean of the newest plays.
    lately: Tensor,
    /// `[FEATURES]`, the weights of the personal logit.
    personal: Tensor,
    /// `[1]`, the weight of popularity.
    popularity: Tensor,
}

/// What a query is made of; `[n, …]` each.
#[derive(Debug)]
pub(crate) struct QueryInputs {
    pub hidden: Tensor,
    pub newest: Tensor,
    pub lately: Tensor,
}

impl Head {
    pub fn new(hidden: i64, d: i64, seed: u64, device: Device) -> Result<Self, ModelError> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(2);
        let leaf = |tensor: Tensor| tensor.f_set_requires_grad(true);
        let place = (Kind::Float, device);
        let deviation = 0.2 / (hidden as f32).sqrt();
        Ok(Self {
            weight: leaf(normals(&[d, hidden], deviation, &mut rng, device)?)?,
            bias: leaf(Tensor::f_zeros([d], place)?)?,
            newest: leaf(Tensor::f_eye(d, place)?.f_mul_scalar(0.5)?)?,
            lately: leaf(Tensor::f_eye(d, place)?.f_mul_scalar(0.5)?)?,
            personal: leaf(Tensor::f_from_slice(&INITIAL)?.f_to_device(device)?)?,
            popularity: leaf(Tensor::f_full([1], 0.3, place)?)?,
        })
    }

    /// What makes queries.
    pub fn matrices(&self) -> Vec<Tensor> {
        [&self.weight, &self.bias, &self.newest, &self.lately]
            .map(Tensor::shallow_clone)
            .into()
    }

    /// The few weights of the terms beside the query; they may move faster than the matrices.
    pub fn terms(&self) -> Vec<Tensor> {
        [&self.personal, &self.popularity]
            .map(Tensor::shallow_clone)
            .into()
    }

    pub fn parameters(&self) -> Vec<Tensor> {
        let mut all = self.matrices();
        all.extend(self.terms());
        all
    }

    /// `[n, d]`
    pub fn query(&self, inputs: &QueryInputs) -> Result<Tensor, ModelError> {
        Ok(inputs
            .hidden
            .f_linear(&self.weight, Some(&self.bias))?
            .f_add(&inputs.newest.f_linear(&self.newest, None::<&Tensor>)?)?
            .f_add(&inputs.lately.f_linear(&self.lately, None::<&Tensor>)?)?)
    }

    /// The personal logits of `[m, FEATURES]` features, `[m]`.
    pub fn personal(&self, features: &[f32]) -> Result<Tensor, ModelError> {
        Ok(Tensor::f_from_slice(features)?
            .f_reshape([-1, FEATURES as i64])?
            .f_to_device(self.personal.device())?
            .f_matmul(&self.personal)?)
    }

    /// What the personal logits weigh features with, `[FEATURES]`, and levels of popularity.
    pub fn weights_of_terms(&self) -> Result<(Vec<f32>, f32), ModelError> {
        let popularity = numbers(&self.popularity)?;
        Ok((
            numbers(&self.personal)?,
            popularity.first().copied().unwrap_or(0.0),
        ))
    }

    /// The popularity logits of `ln(1 + plays)`, any shape.
    pub fn popularity(&self, levels: &Tensor) -> Result<Tensor, ModelError> {
        Ok(levels.f_mul(&self.popularity)?)
    }

    /// The same on memory of its own.
    pub fn copy(&self) -> Result<Self, ModelError> {
        let (d, hidden) = self.weight.size2()?;
        let copy = Self::new(hidden, d, 0, self.weight.device())?;
        crate::item_tower::copy_into(&copy.parameters(), &self.parameters())?;
        Ok(copy)
    }
}

/// What a tensor of one dimension holds.
pub(crate) fn numbers(tensor: &Tensor) -> Result<Vec<f32>, ModelError> {
    Ok(Vec::try_from(tensor.f_detach()?.f_to_device(Device::Cpu)?)?)
}

/// Hidden states at unit mean square, in `f32`, `[n, hidden]`.
pub(crate) fn levelled(hidden: &Tensor) -> Result<Tensor, ModelError> {
    let hidden = hidden.f_to_kind(Kind::Float)?;
    let square = hidden
        .f_square()?
        .f_mean_dim(&[-1i64][..], true, Kind::Float)?;
    Ok(hidden.f_div(&square.f_add_scalar(1e-6)?.f_sqrt()?)?)
}
