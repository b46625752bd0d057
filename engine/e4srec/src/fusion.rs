//! Fusion: from what is known of a track, modality by modality, and its own vector to the vector that
//! ranks it.
//!
//! After arXiv 2606.00125, which fuses frozen vectors of ids, lyrics and sound by concatenation, a
//! weighted sum, cross-attention or FiLM, and with what its code lacks: the item's own vector is always
//! added to what the modalities make of it, cross-attention has its norms, FiLM scales by `1 + γ`, and a
//! modality that is missing weighs exactly nothing. With `x = g(n) · e` the item's own vector, gated by
//! its plays, `t_m` the vector that modality *m* is mapped to, and `p_m` 1 where it is there and 0 where
//! it is not:
//!
//! | fusion | vector of a track of which something is known | begins as |
//! |---|---|---|
//! | concat | `x + W [x; p t] + U relu(V [x; p t] + b)` | `x + Σ p_m t_m` |
//! | weighted sum | `x + a Σ α_m t_m / ‖t_m‖`, `α` a softmax of learnt weights over those that are there | `x +` their mean |
//! | cross-attention | `x + O attend(Q norm(x), K norm(t), V t)` of four heads, to those that are there | about `x +` their mean |
//! | FiLM | `x ∘ (1 + Γ [p t]) + B [p t]` | `x + Σ p_m t_m` |
//!
//! `t_m` is a linear map of the segment at unit length, which begins as a random projection, plus a
//! perceptron that begins at zero. Where nothing is known at all the vector is `x` plus a learnt
//! stand-in. A new track has no `x`: its vector is what its modalities say.
//!
//! [`Fusion::Projection`] knows no modalities: `x + f(content)`, with `f` such a map of the content
//! vector as a whole, or the stand-in.
//!
//! How much of a play was heard is no property of a track: it is fused with the play's vector where that
//! enters the language model ([`crate::settings::Completion`]).
//!
//! - [`parts`]: which components of a content vector are which modality;
//! - [`perceptron`]: the map of a segment;
//! - [`mixers`]: the four ways;
//! - [`dropout`]: steps that go without some modalities.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use crate::error::ModelError;
use crate::settings::TowerSettings;

mod dropout;
mod mixers;
mod parts;
mod perceptron;

pub(crate) use self::dropout::ModalityDropout;
use self::mixers::{Known, Mixer};
pub(crate) use self::parts::Parts;
use self::perceptron::Perceptron;

/// What every item shares: the parameters of the maps and of their fusion. Leaves that require gradients.
#[derive(Debug)]
pub(crate) struct Fuser {
    parts: Parts,
    /// One per part.
    maps: Vec<Perceptron>,
    /// `[d]`, for a track without content.
    stand_in: Tensor,
    /// `None`: the content's vector is added as it is.
    mixer: Option<Mixer>,
}

impl Fuser {
    pub fn new(
        settings: &TowerSettings,
        parts: Parts,
        seed: u64,
        device: Device,
    ) -> Result<Self, ModelError> {
        let d = settings.dimensions;
        let sizes = (d, settings.hidden);
        let mut maps = Vec::new();
        for part in parts.all() {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            // A modality begins alike whichever others there are.
            rng.set_stream(part.kind.map_or(0, |kind| 8 + kind as u64));
            maps.push(Perceptron::projecting(
                sizes,
                part.length,
                &mut rng,
                device,
            )?);
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(7);
        let shape = (d, settings.hidden, parts.all().len() as i64);
        Ok(Self {
            mixer: Mixer::new(settings.fusion, shape, &mut rng, device)?,
            stand_in: Tensor::f_zeros([d], (Kind::Float, device))?.f_set_requires_grad(true)?,
            parts,
            maps,
        })
    }

    /// The same parameters, for another thread.
    pub fn share(&self) -> Self {
        Self {
            parts: self.parts.clone(),
            maps: self.maps.iter().map(Perceptron::share).collect(),
            stand_in: self.stand_in.shallow_clone(),
            mixer: self.mixer.as_ref().map(Mixer::share),
        }
    }

    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    pub fn parameters(&self) -> Vec<Tensor> {
        let maps = self.maps.iter().flat_map(Perceptron::parameters);
        let mixer = self.mixer.iter().flat_map(Mixer::parameters);
        maps.chain([&self.stand_in])
            .chain(mixer)
            .map(Tensor::shallow_clone)
            .collect()
    }

    /// `content` `[n, content]`, `present` `[n, parts]` (1 where a part is there, else 0) to a vector
    /// per part, side by side, `[n, parts · d]`; zeros for parts that are not there, but for the content
    /// as a whole, for which the stand-in stands.
    pub fn map(&self, content: &Tensor, present: &Tensor) -> Result<Tensor, ModelError> {
        let mut mapped = Vec::with_capacity(self.maps.len());
        for ((part, map), at) in self.parts.all().iter().zip(&self.maps).zip(0i64..) {
            let there = present.f_narrow(1, at, 1)?;
            if self.mixer.is_none() {
                let mapped = map.apply(content)?.f_mul(&there)?;
                return Ok(mapped.f_add(&self.absent(&there)?)?);
            }
            let segment = unit(&content.f_narrow(1, part.from, part.length)?)?;
            mapped.push(map.apply(&segment)?.f_mul(&there)?);
        }
        Ok(Tensor::f_cat(&mapped, 1)?)
    }

    /// What [`map`](Self::map) made, `[n, parts · d]`, with the items' own vectors `[n, d]`, gated:
    /// `[n, d]`.
    pub fn fuse(
        &self,
        mapped: &Tensor,
        present: &Tensor,
        own: &Tensor,
    ) -> Result<Tensor, ModelError> {
        let Some(mixer) = &self.mixer else {
            return Ok(mapped.f_add(own)?);
        };
        let (n, d) = own.size2()?;
        let tokens = mapped.f_reshape([n, -1, d])?;
        let any = present.f_amax(&[1i64][..], true)?;
        let mixed = mixer.apply(&Known {
            tokens: &tokens,
            present,
            own,
        })?;
        Ok(own.f_add(&mixed.f_mul(&any)?)?.f_add(&self.absent(&any)?)?)
    }

    /// The stand-in where `there` `[n, 1]` is 0.
    fn absent(&self, there: &Tensor) -> Result<Tensor, ModelError> {
        let absent = there.f_neg()?.f_add_scalar(1.0)?;
        Ok(absent.f_mul(&self.stand_in)?)
    }
}

/// Rows at unit length; zero stays zero.
fn unit(rows: &Tensor) -> Result<Tensor, ModelError> {
    let square = rows
        .f_square()?
        .f_sum_dim_intlist(&[-1i64][..], true, Kind::Float)?;
    Ok(rows.f_div(&square.f_add_scalar(1e-12)?.f_sqrt()?)?)
}

#[cfg(test)]
mod tests;
