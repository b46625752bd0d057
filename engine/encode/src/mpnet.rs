//! MPNet (Song et al., 2020) as an encoder of token ids: all-mpnet-base-v2 and its relatives.
//!
//! BERT with one thing more: every layer adds the same bias to its scores, by how far apart two
//! tokens stand. Fields are named as the checkpoint names its tensors
//! (`encoder.layer.3.attention.attn.q`).

use segue_nn::NnError;
use segue_nn::norm::LayerNorm;
use segue_nn::tch::{Device, Kind, Tensor};
use segue_nn::weights::Weights;
use serde::Deserialize;

use crate::EncodeError;
use crate::encoder_layer::{EncoderLayer, Names, Sizes};

/// As `MPNetModel` names its layers.
const NAMES: Names = Names {
    attention: [
        "attention.attn.q",
        "attention.attn.k",
        "attention.attn.v",
        "attention.attn.o",
    ],
    attention_norm: "attention.LayerNorm",
    feed_forward: ["intermediate.dense", "output.dense"],
    feed_forward_norm: "output.LayerNorm",
};

/// The id of the padding token. Positions are counted from the number after it.
const PADDING: i64 = 1;
/// Distances from here on share buckets.
const FARTHEST: f64 = 128.0;

/// The parts of an MPNet's own `config.json` that decide its shape.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct MpnetConfig {
    /// Tokens.
    pub vocab_size: i64,
    /// Width.
    pub hidden_size: i64,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads; they share the width evenly.
    pub num_attention_heads: i64,
    /// Width of the feed-forward part.
    pub intermediate_size: i64,
    /// Only `gelu` (the exact one) is known.
    pub hidden_act: String,
    /// What the layer norm adds under its root.
    pub layer_norm_eps: f64,
    /// The longest text in tokens, and two.
    pub max_position_embeddings: i64,
    /// Buckets of distances, half of them for what comes after.
    pub relative_attention_num_buckets: i64,
}

impl MpnetConfig {
    fn sizes(&self) -> Sizes {
        Sizes {
            hidden: self.hidden_size,
            wide: self.intermediate_size,
            heads: self.num_attention_heads,
            eps: self.layer_norm_eps,
            before: false,
        }
    }

    /// Refuses what no MPNet can be built from, and what this one does not do.
    pub fn validate(&self) -> Result<(), EncodeError> {
        let wrong = |what: String| Err(EncodeError::Model(NnError::Config(what)));
        let layers = i64::try_from(self.num_hidden_layers).unwrap_or(-1);
        let sizes = [
            ("vocab_size", self.vocab_size, 2),
            ("hidden_size", self.hidden_size, 1),
            ("num_hidden_layers", layers, 1),
            ("num_attention_heads", self.num_attention_heads, 1),
            ("intermediate_size", self.intermediate_size, 1),
            (
                "max_position_embeddings",
                self.max_position_embeddings,
                PADDING + 4,
            ),
        ];
        for (name, size, least) in sizes {
            if !(least..=1 << 30).contains(&size) {
                return wrong(format!("{name} is {size}"));
            }
        }
        // The published code has the number of its own in one place, whatever is configured.
        if self.relative_attention_num_buckets != 32 {
            let buckets = self.relative_attention_num_buckets;
            return wrong(format!(
                "relative_attention_num_buckets is {buckets}, of 32"
            ));
        }
        if self.hidden_size % self.num_attention_heads != 0 {
            return wrong("hidden_size is not a multiple of num_attention_heads".into());
        }
        if self.hidden_act != "gelu" {
            let known = "only gelu is supported";
            return wrong(format!("hidden_act `{}`; {known}", self.hidden_act));
        }
        Ok(())
    }

    /// The longest text, in tokens.
    pub const fn tokens_at_most(&self) -> i64 {
        self.max_position_embeddings - PADDING - 1
    }
}

/// A loaded MPNet, without its pooler.
#[derive(Debug)]
pub struct Mpnet {
    config: MpnetConfig,
    word_embeddings: Tensor,
    position_embeddings: Tensor,
    layer_norm: LayerNorm,
    /// `[buckets, heads]`.
    relative_attention_bias: Tensor,
    layers: Vec<EncoderLayer>,
}

impl Mpnet {
    /// Builds the MPNet that `config` describes. Names may carry the prefix `mpnet.`.
    pub fn load(
        weights: &Weights,
        config: &MpnetConfig,
        place: (Kind, Device),
    ) -> Result<Self, EncodeError> {
        config.validate()?;
        let (kind, device) = place;
        let prefix = match weights.contains("mpnet.embeddings.word_embeddings.weight") {
            true => "mpnet.",
            false => "",
        };
        let hidden = config.hidden_size;
        let table = |name: &str, shape: [i64; 2]| -> Result<Tensor, EncodeError> {
            let tensor = weights.get_shaped(&format!("{prefix}{name}.weight"), &shape)?;
            Ok(tensor.f_to_device(device)?.f_to_kind(kind)?)
        };
        let embeddings = format!("{prefix}embeddings.LayerNorm");
        Ok(Self {
            word_embeddings: table("embeddings.word_embeddings", [config.vocab_size, hidden])?,
            position_embeddings: table(
                "embeddings.position_embeddings",
                [config.max_position_embeddings, hidden],
            )?,
            layer_norm: LayerNorm::load(
                weights,
                &embeddings,
                hidden,
                config.layer_norm_eps,
                place,
            )?,
            relative_attention_bias: table(
                "encoder.relative_attention_bias",
                [
                    config.relative_attention_num_buckets,
                    config.num_attention_heads,
                ],
            )?,
            layers: (0..config.num_hidden_layers)
                .map(|number| {
                    let sizes = config.sizes();
                    let name = format!("{prefix}encoder.layer.{number}");
                    EncoderLayer::load(weights, &name, &NAMES, sizes, place)
                })
                .collect::<Result<_, _>>()?,
            config: config.clone(),
        })
    }

    /// Token ids, `[batch, length]`, to hidden states, `[batch, length, hidden]`.
    ///
    /// `mask` is added to the scores, `[batch, 1, length, length]`; none if no row is padded. Rows
    /// are padded on the right. Ids must be below `vocab_size` and `length` within
    /// [`MpnetConfig::tokens_at_most`].
    pub fn forward(&self, ids: &Tensor, mask: Option<&Tensor>) -> Result<Tensor, EncodeError> {
        let (_, length) = ids.size2()?;
        let words = Tensor::f_embedding(&self.word_embeddings, ids, -1, false, false)?;
        let positions = self.position_embeddings.f_narrow(0, PADDING + 1, length)?;
        let mut x = self.layer_norm.forward(&words.f_add(&positions)?)?;
        let bias = self.bias(length)?; // [1, heads, length, length]
        let bias = match mask {
            Some(mask) => bias.f_add(mask)?,
            None => bias,
        };
        for layer in &self.layers {
            x = layer.forward(&x, Some(&bias))?;
        }
        Ok(x)
    }

    /// What it was built from.
    pub fn config(&self) -> &MpnetConfig {
        &self.config
    }

    /// What is added to each score, by the distance of the two tokens: near distances have a bucket
    /// each, far ones share them by their logarithm.
    fn bias(&self, length: i64) -> Result<Tensor, EncodeError> {
        let side = self.config.relative_attention_num_buckets / 2;
        let exact = side / 2;
        let device = self.relative_attention_bias.device();
        let place = Tensor::f_arange(length, (Kind::Int64, device))?;
        let behind = place.f_unsqueeze(1)?.f_sub(&place.f_unsqueeze(0)?)?; // [length, length]
        let after = behind.f_lt(0)?.f_to_kind(Kind::Int64)?.f_mul_scalar(side)?;
        let distance = behind.f_abs()?;
        let far = distance
            .f_to_kind(Kind::Float)?
            .f_div_scalar(exact)?
            .f_log()?;
        let scale = (FARTHEST / exact as f64).ln();
        let far = far.f_div_scalar(scale)?.f_mul_scalar(side - exact)?;
        // Distance 0 has no logarithm; it is near, so what it is here does not count.
        let far = far
            .f_clamp_min(0)?
            .f_to_kind(Kind::Int64)?
            .f_add_scalar(exact)?;
        let far = far.f_clamp_max(side - 1)?;
        let bucket = distance
            .f_where_self(&distance.f_lt(exact)?, &far)?
            .f_add(&after)?;
        let table = &self.relative_attention_bias;
        let bias = Tensor::f_embedding(table, &bucket, -1, false, false)?;
        Ok(bias.f_permute([2, 0, 1])?.f_unsqueeze(0)?)
    }
}
