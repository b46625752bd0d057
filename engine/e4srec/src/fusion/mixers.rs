//! What the modalities of a track make of its own vector, in four ways. All of them are exact where a
//! modality is missing: the row is that of a model that never knew of it.

use rand_chacha::ChaCha8Rng;
use segue_nn::attention::{additive, attend};
use tch::{Device, Kind, Tensor};

use super::perceptron::Perceptron;
use super::unit;
use crate::error::ModelError;
use crate::item_encoders::{Leaves, Norm};
use crate::settings::Fusion;

/// Heads of cross-attention, as in the paper, where the components divide by it.
const HEADS: i64 = 4;
/// Added to the variance that the norms divide by. Vectors of tracks begin at zero, and with a usual
/// one their first steps would be blown up a hundredfold.
const EPSILON: f64 = 1e-2;

/// What is known of `n` tracks.
pub(super) struct Known<'a> {
    /// `[n, parts, d]`, zero where a part is missing.
    pub tokens: &'a Tensor,
    /// `[n, parts]`, 1 or 0.
    pub present: &'a Tensor,
    /// Their own vectors, gated, `[n, d]`.
    pub own: &'a Tensor,
}

impl Known<'_> {
    /// The tokens side by side, `[n, parts · d]`.
    fn side_by_side(&self) -> Result<Tensor, ModelError> {
        Ok(self.tokens.f_flatten(1, 2)?)
    }

    /// What hides the parts that are missing from a softmax, `[n, parts]`.
    fn mask(&self) -> Result<Tensor, ModelError> {
        Ok(additive(&self.present.f_gt(0.5)?, Kind::Float)?)
    }
}

/// One of the four ways. What it gives is added to the items' own vectors.
#[derive(Debug)]
pub(super) enum Mixer {
    Concat(Perceptron),
    WeightedSum(WeightedSum),
    CrossAttention(CrossAttention),
    Film(Film),
}

impl Mixer {
    /// Of `parts` parts, `(d, hidden, parts)`; `None` where nothing is mixed.
    pub fn new(
        fusion: Fusion,
        (d, hidden, parts): (i64, i64, i64),
        rng: &mut ChaCha8Rng,
        device: Device,
    ) -> Result<Option<Self>, ModelError> {
        let zeros = |shape: &[i64]| Tensor::f_zeros(shape, (Kind::Float, device));
        let leaf = |tensor: Tensor| tensor.f_set_requires_grad(true);
        let identity = || Tensor::f_eye(d, (Kind::Float, device));
        // The sum of all parts.
        let sum = || identity()?.f_repeat([1, parts]);
        Ok(Some(match fusion {
            Fusion::Projection => return Ok(None),
            Fusion::Concat => {
                let linear = Tensor::f_cat(&[zeros(&[d, d])?, sum()?], 1)?;
                Self::Concat(Perceptron::with(linear, hidden, rng)?)
            }
            Fusion::WeightedSum => Self::WeightedSum(WeightedSum {
                weights: leaf(zeros(&[parts])?)?,
                gain: leaf(Tensor::f_ones([1], (Kind::Float, device))?)?,
            }),
            Fusion::CrossAttention => {
                let init = (d as f32).powf(-0.5);
                let mut leaves = Leaves { init, rng, device };
                Self::CrossAttention(CrossAttention {
                    query_norm: leaves.norm(d, EPSILON)?,
                    key_norm: leaves.norm(d, EPSILON)?,
                    query: leaves.normal(&[d, d])?,
                    key: leaves.normal(&[d, d])?,
                    value: leaf(identity()?)?,
                    out: leaf(identity()?)?,
                })
            }
            Fusion::Film => Self::Film(Film {
                scale: leaf(zeros(&[d, parts * d])?)?,
                shift: leaf(sum()?)?,
            }),
        }))
    }

    /// The same parameters, for another thread.
    pub fn share(&self) -> Self {
        match self {
            Self::Concat(perceptron) => Self::Concat(perceptron.share()),
            Self::WeightedSum(sum) => Self::WeightedSum(WeightedSum {
                weights: sum.weights.shallow_clone(),
                gain: sum.gain.shallow_clone(),
            }),
            Self::CrossAttention(attention) => Self::CrossAttention(CrossAttention {
                query_norm: attention.query_norm.share(),
                key_norm: attention.key_norm.share(),
                query: attention.query.shallow_clone(),
                key: attention.key.shallow_clone(),
                value: attention.value.shallow_clone(),
                out: attention.out.shallow_clone(),
            }),
            Self::Film(film) => Self::Film(Film {
                scale: film.scale.shallow_clone(),
                shift: film.shift.shallow_clone(),
            }),
        }
    }

    /// `[n, d]`; what it is where every part is missing counts for nothing.
    pub fn apply(&self, known: &Known<'_>) -> Result<Tensor, ModelError> {
        match self {
            Self::Concat(perceptron) => {
                let all = Tensor::f_cat(&[known.own, &known.side_by_side()?], 1)?;
                perceptron.apply(&all)
            }
            Self::WeightedSum(sum) => sum.apply(known),
            Self::CrossAttention(attention) => attention.apply(known),
            Self::Film(film) => film.apply(known),
        }
    }

    pub fn parameters(&self) -> Vec<&Tensor> {
        match self {
            Self::Concat(perceptron) => perceptron.parameters().into(),
            Self::WeightedSum(sum) => vec![&sum.weights, &sum.gain],
            Self::CrossAttention(attention) => {
                let norms = attention.query_norm.parameters();
                let norms = norms.chain(attention.key_norm.parameters());
                let CrossAttention {
                    query,
                    key,
                    value,
                    out,
                    ..
                } = attention;
                norms.chain([query, key, value, out]).collect()
            }
            Self::Film(film) => vec![&film.scale, &film.shift],
        }
    }
}

#[derive(Debug)]
pub(super) struct WeightedSum {
    /// `[parts]`, before the softmax.
    weights: Tensor,
    /// `[1]`, the length of the sum where all agree.
    gain: Tensor,
}

impl WeightedSum {
    fn apply(&self, known: &Known<'_>) -> Result<Tensor, ModelError> {
        let weights = known
            .mask()?
            .f_add(&self.weights)?
            .f_softmax(1, Kind::Float)?;
        let sum = weights
            .f_unsqueeze(1)?
            .f_bmm(&unit(known.tokens)?)?
            .f_squeeze_dim(1)?;
        Ok(sum.f_mul(&self.gain)?)
    }
}

#[derive(Debug)]
pub(super) struct CrossAttention {
    query_norm: Norm,
    key_norm: Norm,
    /// `[d, d]` each.
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
}

impl CrossAttention {
    fn apply(&self, known: &Known<'_>) -> Result<Tensor, ModelError> {
        let (n, parts, d) = known.tokens.size3()?;
        let heads = if d % HEADS == 0 { HEADS } else { 2 };
        // `[n, length, d]` to `[n, heads, length, d / heads]`.
        let headed = |rows: Tensor, length: i64| -> Result<Tensor, ModelError> {
            Ok(rows
                .f_reshape([n, length, heads, d / heads])?
                .f_transpose(1, 2)?)
        };
        let none = None::<&Tensor>;
        let asking = self.query_norm.apply(known.own)?;
        let answering = self.key_norm.apply(known.tokens)?;
        let query = headed(asking.f_linear(&self.query, none)?, 1)?;
        let key = headed(answering.f_linear(&self.key, none)?, parts)?;
        let value = headed(known.tokens.f_linear(&self.value, none)?, parts)?;
        let mask = known.mask()?.f_reshape([n, 1, 1, parts])?;
        let mixed = attend(&query, &key, &value, Some(&mask))?;
        Ok(mixed.f_reshape([n, d])?.f_linear(&self.out, none)?)
    }
}

#[derive(Debug)]
pub(super) struct Film {
    /// `[d, parts · d]` each; no bias, which a missing part would still add.
    scale: Tensor,
    shift: Tensor,
}

impl Film {
    fn apply(&self, known: &Known<'_>) -> Result<Tensor, ModelError> {
        let tokens = known.side_by_side()?;
        let scale = tokens.f_linear(&self.scale, None::<&Tensor>)?;
        let shift = tokens.f_linear(&self.shift, None::<&Tensor>)?;
        Ok(known.own.f_mul(&scale)?.f_add(&shift)?)
    }
}
