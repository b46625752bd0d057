//! BERT (Devlin et al., 2018) as an encoder of token ids: MiniLM and its relatives.
//!
//! Fields are named as the checkpoint names its tensors (`encoder.layer.3.attention.self.query`).

use std::path::Path;

use segue_nn::attention::attend;
use segue_nn::inventory::Needed;
use segue_nn::linear::{Bias, Linear};
use segue_nn::lora::Mode;
use segue_nn::norm::LayerNorm;
use segue_nn::tch::{Device, Kind, Tensor};
use segue_nn::weights::Weights;
use serde::Deserialize;

use crate::EncodeError;
use segue_nn::NnError;

/// The parts of a BERT's own `config.json` that decide its shape.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct BertConfig {
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
    /// The longest text, in tokens.
    pub max_position_embeddings: i64,
    /// Kinds of segments; only the first is used.
    pub type_vocab_size: i64,
    /// Only `absolute` is known.
    #[serde(default = "absolute")]
    pub position_embedding_type: String,
}

fn absolute() -> String {
    "absolute".into()
}

impl BertConfig {
    /// Reads the `config.json` of a folder.
    pub fn of_folder(folder: &Path) -> Result<Self, EncodeError> {
        let path = folder.join("config.json");
        let wrong = |problem: String| EncodeError::File {
            path: path.clone(),
            problem,
        };
        let text = std::fs::read(&path).map_err(|error| wrong(error.to_string()))?;
        let config: Self = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
        config.validate()?;
        Ok(config)
    }

    /// The tensors that a checkpoint of this shape has to hold, as it names them.
    pub fn tensors(&self, weights: &Weights) -> Vec<Needed> {
        let (hidden, wide, prefix) = (self.hidden_size, self.intermediate_size, prefix(weights));
        let mut tensors = Vec::new();
        let mut put = |name: String, shape: &[i64]| {
            tensors.push((format!("{prefix}{name}"), shape.to_vec()));
        };
        let tables = [
            ("word", self.vocab_size),
            ("position", self.max_position_embeddings),
            ("token_type", self.type_vocab_size),
        ];
        for (table, rows) in tables {
            put(
                format!("embeddings.{table}_embeddings.weight"),
                &[rows, hidden],
            );
        }
        let mut norms = vec!["embeddings".to_owned()];
        for layer in 0..self.num_hidden_layers {
            let at = |part: &str| format!("encoder.layer.{layer}.{part}");
            let dense = [
                ("attention.self.query", hidden, hidden),
                ("attention.self.key", hidden, hidden),
                ("attention.self.value", hidden, hidden),
                ("attention.output.dense", hidden, hidden),
                ("intermediate.dense", wide, hidden),
                ("output.dense", hidden, wide),
            ];
            for (name, output, input) in dense {
                put(at(&format!("{name}.weight")), &[output, input]);
                put(at(&format!("{name}.bias")), &[output]);
            }
            norms.extend([at("attention.output"), at("output")]);
        }
        for norm in norms {
            put(format!("{norm}.LayerNorm.weight"), &[hidden]);
            put(format!("{norm}.LayerNorm.bias"), &[hidden]);
        }
        tensors
    }

    /// Refuses what no BERT can be built from, and what this one does not do.
    pub fn validate(&self) -> Result<(), EncodeError> {
        let wrong = |what: String| Err(EncodeError::Model(NnError::Config(what)));
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            (
                "num_hidden_layers",
                i64::try_from(self.num_hidden_layers).unwrap_or(-1),
            ),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ];
        for (name, size) in sizes {
            if !(1..=1 << 30).contains(&size) {
                return wrong(format!("{name} is {size}"));
            }
        }
        if self.hidden_size % self.num_attention_heads != 0 {
            return wrong("hidden_size is not a multiple of num_attention_heads".into());
        }
        if self.hidden_act != "gelu" {
            return wrong(format!(
                "hidden_act `{}`; only gelu is supported",
                self.hidden_act
            ));
        }
        if self.position_embedding_type != "absolute" {
            return wrong(format!(
                "position_embedding_type `{}`; only absolute is supported",
                self.position_embedding_type
            ));
        }
        Ok(())
    }
}

/// What stands before all names, in some checkpoints.
fn prefix(weights: &Weights) -> &'static str {
    match weights.contains("bert.embeddings.word_embeddings.weight") {
        true => "bert.",
        false => "",
    }
}

/// A loaded BERT, without its pooler.
#[derive(Debug)]
pub struct Bert {
    config: BertConfig,
    embeddings: Embeddings,
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Embeddings {
    word_embeddings: Tensor,
    /// With the embedding of the first segment kind added: there is only one segment.
    position_embeddings: Tensor,
    layer_norm: LayerNorm,
}

#[derive(Debug)]
struct Layer {
    /// `attention.self.{query,key,value}` as one product.
    query_key_value: Linear,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
    heads: i64,
}

impl Bert {
    /// Builds the BERT that `config` describes. Names may carry the prefix `bert.`.
    pub fn load(
        weights: &Weights,
        config: &BertConfig,
        place: (Kind, Device),
    ) -> Result<Self, EncodeError> {
        config.validate()?;
        let prefix = prefix(weights);
        let layers = (0..config.num_hidden_layers)
            .map(|number| {
                Layer::load(
                    weights,
                    &format!("{prefix}encoder.layer.{number}"),
                    config,
                    place,
                )
            })
            .collect::<Result<_, _>>()?;
        let embeddings = Embeddings::load(weights, &format!("{prefix}embeddings"), config, place)?;
        Ok(Self {
            config: config.clone(),
            embeddings,
            layers,
        })
    }

    /// Token ids, `[batch, length]`, to hidden states, `[batch, length, hidden]`.
    ///
    /// `mask` is added to the scores, `[batch, 1, 1, length]`; none if no row is padded. Ids must
    /// be below `vocab_size` and `length` within `max_position_embeddings`.
    pub fn forward(&self, ids: &Tensor, mask: Option<&Tensor>) -> Result<Tensor, EncodeError> {
        let mut x = self.embeddings.forward(ids)?;
        for layer in &self.layers {
            x = layer.forward(&x, mask)?;
        }
        Ok(x)
    }

    /// What it was built from.
    pub fn config(&self) -> &BertConfig {
        &self.config
    }
}

impl Embeddings {
    fn load(
        weights: &Weights,
        name: &str,
        config: &BertConfig,
        (kind, device): (Kind, Device),
    ) -> Result<Self, EncodeError> {
        let table = |part: &str, rows: i64| {
            weights.get_shaped(
                &format!("{name}.{part}.weight"),
                &[rows, config.hidden_size],
            )
        };
        let words = table("word_embeddings", config.vocab_size)?;
        let positions = table("position_embeddings", config.max_position_embeddings)?;
        let segments = table("token_type_embeddings", config.type_vocab_size)?;
        let positions = positions.f_add(&segments.f_narrow(0, 0, 1)?)?;
        Ok(Self {
            word_embeddings: words.f_to_device(device)?.f_to_kind(kind)?,
            position_embeddings: positions.f_to_device(device)?.f_to_kind(kind)?,
            layer_norm: LayerNorm::load(
                weights,
                &format!("{name}.LayerNorm"),
                config.hidden_size,
                config.layer_norm_eps,
                (kind, device),
            )?,
        })
    }

    fn forward(&self, ids: &Tensor) -> Result<Tensor, EncodeError> {
        let (_, length) = ids.size2()?;
        let words = Tensor::f_embedding(&self.word_embeddings, ids, -1, false, false)?;
        let sum = words.f_add(&self.position_embeddings.f_narrow(0, 0, length)?)?;
        Ok(self.layer_norm.forward(&sum)?)
    }
}

impl Layer {
    fn load(
        weights: &Weights,
        name: &str,
        config: &BertConfig,
        place: (Kind, Device),
    ) -> Result<Self, EncodeError> {
        let (hidden, wide) = (config.hidden_size, config.intermediate_size);
        let dense = |part: &str, sizes| {
            Linear::load(
                weights,
                &format!("{name}.{part}"),
                sizes,
                Bias::Present,
                place,
            )
        };
        let norm = |part: &str| {
            LayerNorm::load(
                weights,
                &format!("{name}.{part}.LayerNorm"),
                hidden,
                config.layer_norm_eps,
                place,
            )
        };
        let stacked = |part: &str, shape: &[i64]| -> Result<Tensor, EncodeError> {
            let parts = ["query", "key", "value"]
                .map(|which| format!("{name}.attention.self.{which}.{part}"));
            let [q, k, v] = &parts;
            let tensors = [
                weights.get_shaped(q, shape)?,
                weights.get_shaped(k, shape)?,
                weights.get_shaped(v, shape)?,
            ];
            Ok(Tensor::f_cat(&tensors, 0)?
                .f_to_device(place.1)?
                .f_to_kind(place.0)?)
        };
        Ok(Self {
            query_key_value: Linear::new(
                stacked("weight", &[hidden, hidden])?,
                Some(stacked("bias", &[hidden])?),
            ),
            attention_output: dense("attention.output.dense", (hidden, hidden))?,
            attention_norm: norm("attention.output")?,
            intermediate: dense("intermediate.dense", (wide, hidden))?,
            output: dense("output.dense", (hidden, wide))?,
            output_norm: norm("output")?,
            heads: config.num_attention_heads,
        })
    }

    /// `[batch, length, hidden]` to the same.
    fn forward(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor, EncodeError> {
        let (batch, length, hidden) = x.size3()?;
        let head_dim = hidden / self.heads;
        let all = self
            .query_key_value
            .forward(x, Mode::Infer)?
            .f_reshape([batch, length, 3, self.heads, head_dim])?
            .f_permute([2, 0, 3, 1, 4])?; // [3, batch, heads, length, head_dim]
        let mixed = attend(
            &all.f_select(0, 0)?,
            &all.f_select(0, 1)?,
            &all.f_select(0, 2)?,
            mask,
        )?
        .f_transpose(1, 2)?
        .f_reshape([batch, length, hidden])?;
        let mixed = self.attention_output.forward(&mixed, Mode::Infer)?;
        let x = self.attention_norm.forward(&mixed.f_add(x)?)?;
        let wide = self.intermediate.forward(&x, Mode::Infer)?.f_gelu("none")?;
        let narrow = self.output.forward(&wide, Mode::Infer)?;
        Ok(self.output_norm.forward(&narrow.f_add(&x)?)?)
    }
}
