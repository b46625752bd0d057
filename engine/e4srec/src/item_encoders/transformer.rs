//! The parts of a transformer's block, for the encoders that are made of them.

use rand_chacha::ChaCha8Rng;
use segue_nn::attention::attend;
use segue_nn::lora::Mode;
use tch::{Device, Kind, Tensor};

use super::network::dropped;
use crate::chance::normals;
use crate::error::ModelError;

/// Makes leaves, one after the other.
pub struct Leaves<'r> {
    pub init: f32,
    pub rng: &'r mut ChaCha8Rng,
    pub device: Device,
}

impl Leaves<'_> {
    /// Normal values.
    pub fn normal(&mut self, shape: &[i64]) -> Result<Tensor, ModelError> {
        let values = normals(shape, self.init, self.rng, self.device)?;
        Ok(values.f_set_requires_grad(true)?)
    }

    /// One value everywhere, `[d]`.
    pub fn constant(&self, d: i64, value: f64) -> Result<Tensor, ModelError> {
        let values = Tensor::f_full([d], value, (Kind::Float, self.device))?;
        Ok(values.f_set_requires_grad(true)?)
    }

    /// From `from` components to `to`.
    pub fn linear(&mut self, from: i64, to: i64, bias: Bias) -> Result<Linear, ModelError> {
        Ok(Linear {
            weight: self.normal(&[to, from])?,
            bias: match bias {
                Bias::Zero => Some(self.constant(to, 0.0)?),
                Bias::None => None,
            },
        })
    }

    /// A layer norm that changes no scale yet.
    pub fn norm(&self, d: i64, epsilon: f64) -> Result<Norm, ModelError> {
        Ok(Norm {
            weight: self.constant(d, 1.0)?,
            bias: self.constant(d, 0.0)?,
            epsilon,
        })
    }
}

/// Whether a linear map has a bias.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Bias {
    Zero,
    None,
}

#[derive(Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    pub fn apply(&self, x: &Tensor) -> Result<Tensor, ModelError> {
        Ok(x.f_linear(&self.weight, self.bias.as_ref())?)
    }

    pub fn parameters(&self) -> impl Iterator<Item = &Tensor> {
        std::iter::once(&self.weight).chain(&self.bias)
    }
}

/// Layer norm's scale and shift.
#[derive(Debug)]
pub struct Norm {
    weight: Tensor,
    bias: Tensor,
    epsilon: f64,
}

impl Norm {
    pub fn apply(&self, x: &Tensor) -> Result<Tensor, ModelError> {
        let d = self.weight.numel() as i64;
        Ok(x.f_layer_norm(
            [d],
            Some(&self.weight),
            Some(&self.bias),
            self.epsilon,
            false,
        )?)
    }

    /// The same parameters, for another thread.
    pub fn share(&self) -> Self {
        Self {
            weight: self.weight.shallow_clone(),
            bias: self.bias.shallow_clone(),
            epsilon: self.epsilon,
        }
    }

    pub fn parameters(&self) -> impl Iterator<Item = &Tensor> {
        [&self.weight, &self.bias].into_iter()
    }
}

/// Self-attention of several heads.
#[derive(Debug)]
pub struct Attention {
    /// Queries, keys and values, `[3 d, d]`.
    qkv: Linear,
    out: Linear,
    heads: i64,
}

impl Attention {
    pub fn new(
        leaves: &mut Leaves<'_>,
        d: i64,
        heads: i64,
        bias: Bias,
    ) -> Result<Self, ModelError> {
        Ok(Self {
            qkv: leaves.linear(d, 3 * d, bias)?,
            out: leaves.linear(d, d, bias)?,
            heads,
        })
    }

    /// `[batch, length, d]` to the same; `mask` is added to the scores.
    pub fn apply(&self, x: &Tensor, mask: &Tensor) -> Result<Tensor, ModelError> {
        let (batch, length, d) = x.size3()?;
        let parts = self
            .qkv
            .apply(x)?
            .f_reshape([batch, length, 3, self.heads, d / self.heads])?
            .f_permute([2, 0, 3, 1, 4])?; // [3, batch, heads, length, head]
        let [query, key, value] = [0, 1, 2].map(|part| parts.f_select(0, part));
        let mixed = attend(&query?, &key?, &value?, Some(mask))?
            .f_transpose(1, 2)?
            .f_reshape([batch, length, d])?;
        self.out.apply(&mixed)
    }

    pub fn parameters(&self) -> impl Iterator<Item = &Tensor> {
        self.qkv.parameters().chain(self.out.parameters())
    }
}

/// What a feed-forward bends its inner values by.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Bend {
    Relu,
    Gelu,
}

impl Bend {
    pub fn apply(self, x: &Tensor) -> Result<Tensor, ModelError> {
        Ok(match self {
            Self::Relu => x.f_relu()?,
            Self::Gelu => x.f_gelu("none")?,
        })
    }
}

/// Two linear maps with a bend between them.
#[derive(Debug)]
pub struct FeedForward {
    inner: Linear,
    outer: Linear,
    bend: Bend,
    /// Share of the inner values that is dropped.
    dropout: f64,
}

impl FeedForward {
    pub fn new(
        leaves: &mut Leaves<'_>,
        (d, inner): (i64, i64),
        bend: Bend,
        dropout: f64,
    ) -> Result<Self, ModelError> {
        Ok(Self {
            inner: leaves.linear(d, inner, Bias::Zero)?,
            outer: leaves.linear(inner, d, Bias::Zero)?,
            bend,
            dropout,
        })
    }

    pub fn apply(&self, x: &Tensor, mode: Mode) -> Result<Tensor, ModelError> {
        let inner = self.bend.apply(&self.inner.apply(x)?)?;
        self.outer.apply(&dropped(inner, self.dropout, mode)?)
    }

    pub fn parameters(&self) -> impl Iterator<Item = &Tensor> {
        self.inner.parameters().chain(self.outer.parameters())
    }
}
