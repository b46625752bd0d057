//! A layer of a transformer that reads both ways, as MPNet and the wav2vec 2.0 family have it.

use segue_nn::attention::attend;
use segue_nn::linear::{Bias, Linear};
use segue_nn::lora::Mode;
use segue_nn::norm::LayerNorm;
use segue_nn::tch::{Device, Kind, Tensor};
use segue_nn::weights::Weights;

use crate::EncodeError;

/// How a checkpoint names the parts of a layer.
#[derive(Debug)]
pub struct Names {
    /// Of queries, keys, values, and what mixes the heads.
    pub attention: [&'static str; 4],
    pub attention_norm: &'static str,
    /// Of the feed-forward part: to its width, and back.
    pub feed_forward: [&'static str; 2],
    pub feed_forward_norm: &'static str,
}

/// The sizes of a layer.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub hidden: i64,
    /// Of the feed-forward part.
    pub wide: i64,
    pub heads: i64,
    /// What the norms add to the variance.
    pub eps: f64,
    /// Whether it is normalised before what it does.
    pub before: bool,
}

/// One layer.
#[derive(Debug)]
pub struct EncoderLayer {
    attention: [Linear; 4],
    attention_norm: LayerNorm,
    feed_forward: [Linear; 2],
    feed_forward_norm: LayerNorm,
    sizes: Sizes,
}

impl EncoderLayer {
    /// Loads the layer `name` of a checkpoint.
    pub fn load(
        weights: &Weights,
        name: &str,
        names: &Names,
        sizes: Sizes,
        place: (Kind, Device),
    ) -> Result<Self, EncodeError> {
        let Sizes { hidden, wide, .. } = sizes;
        let dense = |part: &str, sizes| {
            let name = format!("{name}.{part}");
            Linear::load(weights, &name, sizes, Bias::Present, place)
        };
        let norm = |part: &str| {
            let name = format!("{name}.{part}");
            LayerNorm::load(weights, &name, hidden, sizes.eps, place)
        };
        let [q, k, v, o] = names.attention;
        let square = |part: &str| dense(part, (hidden, hidden));
        let [to_wide, back] = names.feed_forward;
        Ok(Self {
            attention: [square(q)?, square(k)?, square(v)?, square(o)?],
            attention_norm: norm(names.attention_norm)?,
            feed_forward: [
                dense(to_wide, (wide, hidden))?,
                dense(back, (hidden, wide))?,
            ],
            feed_forward_norm: norm(names.feed_forward_norm)?,
            sizes,
        })
    }

    /// `[batch, length, hidden]` to the same; `bias` broadcasts to the scores,
    /// `[batch, heads, length, length]`.
    pub fn forward(&self, x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor, EncodeError> {
        if self.sizes.before {
            let seen = self.attention_norm.forward(x)?;
            let x = x.f_add(&self.attention(&seen, bias)?)?;
            let seen = self.feed_forward_norm.forward(&x)?;
            return Ok(x.f_add(&self.feed_forward(&seen)?)?);
        }
        let x = x.f_add(&self.attention(x, bias)?)?;
        let x = self.attention_norm.forward(&x)?;
        let x = x.f_add(&self.feed_forward(&x)?)?;
        Ok(self.feed_forward_norm.forward(&x)?)
    }

    fn attention(&self, x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor, EncodeError> {
        let (batch, length, hidden) = x.size3()?;
        let heads = self.sizes.heads;
        let split = |part: &Linear| -> Result<Tensor, EncodeError> {
            let shape = [batch, length, heads, hidden / heads];
            let split = part.forward(x, Mode::Infer)?.f_reshape(shape)?;
            Ok(split.f_transpose(1, 2)?) // [batch, heads, length, head_dim]
        };
        let [q, k, v, o] = &self.attention;
        // Expanded, since the fast kernels want a mask of the scores' own shape.
        let bias = match bias {
            Some(bias) => Some(bias.f_expand([batch, heads, length, length], false)?),
            None => None,
        };
        let mixed = attend(&split(q)?, &split(k)?, &split(v)?, bias.as_ref())?;
        let mixed = mixed
            .f_transpose(1, 2)?
            .f_reshape([batch, length, hidden])?;
        Ok(o.forward(&mixed, Mode::Infer)?)
    }

    fn feed_forward(&self, x: &Tensor) -> Result<Tensor, EncodeError> {
        let [to_wide, back] = &self.feed_forward;
        let wide = to_wide.forward(x, Mode::Infer)?.f_gelu("none")?;
        Ok(back.forward(&wide, Mode::Infer)?)
    }
}
