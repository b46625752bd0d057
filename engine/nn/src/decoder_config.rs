//! The shape of a decoder: the model's own `config.json`, or the same facts out of a GGUF file.

use std::collections::HashMap;
use std::path::Path;

use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use serde_json::Value;
use tch::Tensor;

use crate::NnError;
use crate::decoder::Projection;
use crate::lora::normal;
use crate::rotary::RopeScaling;
use crate::weights::gguf::Gguf;
use crate::weights::{Weights, WeightsError};

/// A published decoder's configuration; the names are those of its `config.json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct DecoderConfig {
    /// `llama` (LLaMA 2 and 3, SmolLM2) or `qwen2` (Qwen2 and 2.5).
    pub model_type: ModelType,
    /// Tokens.
    pub vocab_size: i64,
    /// Width of the residual stream.
    pub hidden_size: i64,
    /// Width between the two halves of the MLP.
    pub intermediate_size: i64,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads of queries.
    pub num_attention_heads: i64,
    /// Heads of keys and values; as many as queries if absent.
    pub num_key_value_heads: Option<i64>,
    /// Width of a head; `hidden_size / num_attention_heads` if absent.
    pub head_dim: Option<i64>,
    /// What the RMS norm adds under its root.
    pub rms_norm_eps: f64,
    /// Base of the rotary velocities.
    #[serde(default = "rope_theta")]
    pub rope_theta: f64,
    /// How positions are stretched.
    pub rope_scaling: Option<RopeScaling>,
    /// The longest context the model knows.
    pub max_position_embeddings: i64,
    /// Whether the output layer is the embedding.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Whether all four projections of the attention have biases; qwen2 always has them on the
    /// first three.
    #[serde(default)]
    pub attention_bias: bool,
    /// Whether the MLP has biases.
    #[serde(default)]
    pub mlp_bias: bool,
    /// Only `silu` is known.
    #[serde(default = "silu")]
    pub hidden_act: String,
    /// Attention that forgets; not supported.
    #[serde(default)]
    pub use_sliding_window: bool,
}

/// The families that this decoder can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelType {
    /// LLaMA and what is built like it.
    Llama,
    /// Qwen2 and Qwen2.5: biases on queries, keys and values.
    Qwen2,
}

fn rope_theta() -> f64 {
    10_000.0
}

fn silu() -> String {
    "silu".into()
}

impl DecoderConfig {
    /// The configuration that belongs to a checkpoint: inside a GGUF file, else the `config.json`
    /// beside it.
    pub fn of(weights: &Weights) -> Result<Self, NnError> {
        match weights.gguf() {
            Some(gguf) => Self::from_gguf(gguf),
            None => Self::from_json(&weights.path().with_file_name("config.json")),
        }
    }

    /// Reads a `config.json`.
    pub fn from_json(path: &Path) -> Result<Self, NnError> {
        let text = std::fs::read(path).map_err(|error| WeightsError::Open {
            path: path.to_path_buf(),
            error,
        })?;
        let config: Self = serde_json::from_slice(&text)
            .and_then(|published| serde_json::from_value(with_plain_rope(published)))
            .map_err(|e| NnError::Config(format!("{}: {e}", path.display())))?;
        config.validate()?;
        Ok(config)
    }

    /// The same facts from the metadata of a GGUF file.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, NnError> {
        let architecture = gguf.text("general.architecture")?;
        let model_type = match architecture {
            "llama" => ModelType::Llama,
            "qwen2" => ModelType::Qwen2,
            other => {
                return Err(NnError::Config(format!(
                    "architecture `{other}`; llama and qwen2 are supported"
                )));
            }
        };
        let integer = |key: &str| gguf.integer(&format!("{architecture}.{key}"));
        let heads = integer("attention.head_count")?;
        let embedding = gguf.shape("model.embed_tokens.weight").unwrap_or(&[]);
        let config = Self {
            model_type,
            vocab_size: embedding.first().copied().unwrap_or(0),
            hidden_size: integer("embedding_length")?,
            intermediate_size: integer("feed_forward_length")?,
            num_hidden_layers: usize::try_from(integer("block_count")?).unwrap_or(0),
            num_attention_heads: heads,
            num_key_value_heads: Some(integer("attention.head_count_kv").unwrap_or(heads)),
            head_dim: integer("attention.key_length").ok(),
            rms_norm_eps: gguf
                .float(&format!("{architecture}.attention.layer_norm_rms_epsilon"))?,
            rope_theta: gguf
                .float(&format!("{architecture}.rope.freq_base"))
                .unwrap_or_else(|_| rope_theta()),
            rope_scaling: None,
            max_position_embeddings: integer("context_length")?,
            tie_word_embeddings: !gguf.contains("lm_head.weight"),
            attention_bias: false,
            mlp_bias: false,
            hidden_act: silu(),
            use_sliding_window: false,
        };
        config.validate()?;
        Ok(config)
    }

    /// Refuses what no decoder can be built from, and what this one does not do.
    pub fn validate(&self) -> Result<(), NnError> {
        let wrong = |what: String| Err(NnError::Config(what));
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            (
                "num_hidden_layers",
                i64::try_from(self.num_hidden_layers).unwrap_or(-1),
            ),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.kv_heads()),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        for (name, size) in sizes {
            // Far above any model, far below where products of two would overflow.
            if !(1..=1 << 30).contains(&size) {
                return wrong(format!("{name} is {size}"));
            }
        }
        if self.num_attention_heads % self.kv_heads() != 0 {
            return wrong(format!(
                "{} query heads do not share {} key heads evenly",
                self.num_attention_heads,
                self.kv_heads()
            ));
        }
        if self.head_dim.is_none() && self.hidden_size % self.num_attention_heads != 0 {
            return wrong("hidden_size is not a multiple of num_attention_heads".into());
        }
        if self.head_dim() < 2 || self.head_dim() % 2 != 0 || self.head_dim() > 1 << 16 {
            return wrong(format!(
                "head_dim is {}; rotary needs it even",
                self.head_dim()
            ));
        }
        if self.hidden_act != "silu" {
            return wrong(format!(
                "hidden_act `{}`; only silu is supported",
                self.hidden_act
            ));
        }
        if self.use_sliding_window {
            return wrong("use_sliding_window is not supported".into());
        }
        if !(self.rms_norm_eps > 0.0 && self.rope_theta > 1.0 && self.rope_theta.is_finite()) {
            return wrong(format!(
                "rms_norm_eps {}, theta {}",
                self.rms_norm_eps, self.rope_theta
            ));
        }
        Ok(())
    }

    /// Heads of keys and values.
    pub fn kv_heads(&self) -> i64 {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Width of a head.
    pub fn head_dim(&self) -> i64 {
        self.head_dim
            .unwrap_or_else(|| self.hidden_size / self.num_attention_heads.max(1))
    }

    /// Whether queries, keys and values have biases.
    pub fn qkv_bias(&self) -> bool {
        self.attention_bias || self.model_type == ModelType::Qwen2
    }

    /// Output and input sizes of a dense layer, and whether it has a bias.
    pub fn dense(&self, projection: Projection) -> ((i64, i64), bool) {
        let (hidden, wide) = (self.hidden_size, self.intermediate_size);
        let q = self.num_attention_heads * self.head_dim();
        let kv = self.kv_heads() * self.head_dim();
        match projection {
            Projection::QProj => ((q, hidden), self.qkv_bias()),
            Projection::KProj | Projection::VProj => ((kv, hidden), self.qkv_bias()),
            Projection::OProj => ((hidden, q), self.attention_bias),
            Projection::GateProj | Projection::UpProj => ((wide, hidden), self.mlp_bias),
            Projection::DownProj => ((hidden, wide), self.mlp_bias),
        }
    }

    /// How many layers a decoder cut to `depth` uses.
    ///
    /// # Errors
    /// None, or more than there are.
    pub fn depth(&self, depth: Option<usize>) -> Result<usize, NnError> {
        match depth.unwrap_or(self.num_hidden_layers) {
            depth if (1..=self.num_hidden_layers).contains(&depth) => Ok(depth),
            depth => Err(NnError::Config(format!(
                "depth {depth} of a model of {} layers",
                self.num_hidden_layers
            ))),
        }
    }

    /// A checkpoint of this shape drawn from chance (normal, deviation 0.02; norms 1, biases 0):
    /// for tests and for backbones that start from nothing.
    pub fn random_weights(&self, rng: &mut ChaCha8Rng) -> Result<Weights, NnError> {
        self.validate()?;
        let mut tensors = HashMap::new();
        for (name, shape) in self.tensors(self.num_hidden_layers) {
            let count = usize::try_from(shape.iter().product::<i64>()).unwrap_or(0);
            let values: Vec<f32> = if name.ends_with("norm.weight") {
                vec![1.0; count]
            } else if name.ends_with(".bias") {
                vec![0.0; count]
            } else {
                (0..count).map(|_| 0.02 * normal(rng)).collect()
            };
            tensors.insert(name, Tensor::f_from_slice(&values)?.f_reshape(&shape[..])?);
        }
        Ok(Weights::from_memory("random", tensors))
    }
}

/// Brings what a `config.json` says about positions into one form. Since transformers 5 all of it,
/// the base included, is under `rope_parameters`; long ago `rope_type` was called `type`.
fn with_plain_rope(mut config: Value) -> Value {
    if let Some(fields) = config.as_object_mut() {
        if let Some(Value::Object(mut rope)) = fields.remove("rope_parameters") {
            if let Some(theta) = rope.remove("rope_theta") {
                fields.insert("rope_theta".into(), theta);
            }
            fields.insert("rope_scaling".into(), rope.into());
        }
        if let Some(Value::Object(rope)) = fields.get_mut("rope_scaling")
            && !rope.contains_key("rope_type")
            && let Some(kind) = rope.remove("type")
        {
            rope.insert("rope_type".into(), kind);
        }
    }
    config
}
