//! What a checkpoint of the family says of itself.

use std::path::Path;

use serde::Deserialize;

use segue_nn::NnError;

use crate::EncodeError;
use crate::text_model::json;

/// The parts of a model's own `config.json` that decide its shape.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Wav2Vec2Config {
    /// Which of the family it is.
    pub model_type: Relative,
    /// Width.
    pub hidden_size: i64,
    /// Layers of the transformer.
    pub num_hidden_layers: usize,
    /// Heads; they share the width evenly.
    pub num_attention_heads: i64,
    /// Width of the feed-forward part.
    pub intermediate_size: i64,
    /// Only `gelu` (the exact one) is known.
    #[serde(default = "gelu")]
    pub hidden_act: String,
    /// The same between convolutions.
    #[serde(default = "gelu")]
    pub feat_extract_activation: String,
    /// What a layer norm adds under its root, but for those between convolutions.
    #[serde(default = "layer_norm_eps")]
    pub layer_norm_eps: f64,
    /// `group`: only the first convolution is normalised, per channel. `layer`: all are.
    #[serde(default = "group")]
    pub feat_extract_norm: String,
    /// Channels of each convolution.
    pub conv_dim: Vec<i64>,
    /// Samples from one of its outputs to the next.
    pub conv_stride: Vec<i64>,
    /// Its length.
    pub conv_kernel: Vec<i64>,
    /// Whether convolutions have a bias.
    #[serde(default)]
    pub conv_bias: bool,
    /// Length of the convolution that tells positions; in data2vec, how many there are.
    pub num_conv_pos_embeddings: i64,
    /// Groups of its channels.
    pub num_conv_pos_embedding_groups: i64,
    /// Length of those of data2vec.
    #[serde(default = "conv_pos_kernel_size")]
    pub conv_pos_kernel_size: i64,
    /// Whether layers are normalised before what they do, and not after.
    #[serde(default)]
    pub do_stable_layer_norm: bool,
    /// Whether features are normalised before they are projected.
    #[serde(default = "yes")]
    pub feat_proj_layer_norm: bool,
    /// Not known here.
    #[serde(default)]
    pub conv_pos_batch_norm: bool,
    /// Not known here: MERT's early releases hear a constant-Q transform too.
    #[serde(default)]
    pub feature_extractor_cqt: bool,
    /// Not known here: a head for speech.
    #[serde(default)]
    pub add_adapter: bool,
}

/// Which of the family a model is. They differ in how they tell positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Relative {
    /// The first.
    #[serde(rename = "wav2vec2")]
    Wav2Vec2,
    /// The same network.
    #[serde(rename = "hubert")]
    Hubert,
    /// HuBERT's network, taught on music.
    #[serde(rename = "mert_model")]
    Mert,
    /// Music2Vec and others.
    #[serde(rename = "data2vec-audio")]
    Data2VecAudio,
}

/// What is done with samples first, by `preprocessor_config.json`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Preprocessing {
    /// Samples a second.
    #[serde(default = "rate")]
    pub sampling_rate: u32,
    /// Whether samples are brought to mean 0 and deviation 1.
    #[serde(default = "yes")]
    pub do_normalize: bool,
}

fn gelu() -> String {
    "gelu".into()
}

fn group() -> String {
    "group".into()
}

fn layer_norm_eps() -> f64 {
    1e-5
}

fn conv_pos_kernel_size() -> i64 {
    19
}

fn rate() -> u32 {
    16_000
}

fn yes() -> bool {
    true
}

impl Wav2Vec2Config {
    /// Reads the `config.json` of a folder.
    pub fn of_folder(folder: &Path) -> Result<Self, EncodeError> {
        let mut config: Self = json(&folder.join("config.json"))?;
        if config.model_type == Relative::Data2VecAudio {
            // What it does, whatever it says.
            config.feat_extract_norm = "layer".into();
            config.do_stable_layer_norm = false;
        }
        config.validate()?;
        Ok(config)
    }

    /// Samples from one frame to the next, and samples that the first one needs.
    pub fn reach(&self) -> (i64, i64) {
        let layers = self.conv_stride.iter().zip(&self.conv_kernel);
        layers.fold((1, 1), |(hop, length), (stride, kernel)| {
            (hop * stride, length + (kernel - 1) * hop)
        })
    }

    /// Refuses what no model can be built from, and what this one does not do.
    pub fn validate(&self) -> Result<(), EncodeError> {
        let wrong = |what: String| Err(EncodeError::Model(NnError::Config(what)));
        let convolutions = self.conv_dim.len();
        if !(1..=16).contains(&convolutions)
            || self.conv_stride.len() != convolutions
            || self.conv_kernel.len() != convolutions
        {
            return wrong("conv_dim, conv_stride and conv_kernel are not of one length".into());
        }
        let lists = [
            ("conv_dim", &self.conv_dim, 1 << 16),
            ("conv_stride", &self.conv_stride, 64),
            ("conv_kernel", &self.conv_kernel, 1024),
        ];
        for (name, values, most) in lists {
            if values.iter().any(|value| !(1..=most).contains(value)) {
                return wrong(format!("{name} is {values:?}"));
            }
        }
        let layers = i64::try_from(self.num_hidden_layers).unwrap_or(-1);
        let sizes = [
            ("hidden_size", self.hidden_size, 1 << 16),
            ("num_hidden_layers", layers, 1000),
            ("num_attention_heads", self.num_attention_heads, 1 << 16),
            ("intermediate_size", self.intermediate_size, 1 << 20),
            (
                "num_conv_pos_embeddings",
                self.num_conv_pos_embeddings,
                1 << 12,
            ),
            (
                "num_conv_pos_embedding_groups",
                self.num_conv_pos_embedding_groups,
                1 << 16,
            ),
            ("conv_pos_kernel_size", self.conv_pos_kernel_size, 1 << 12),
        ];
        for (name, size, most) in sizes {
            if !(1..=most).contains(&size) {
                return wrong(format!("{name} is {size}"));
            }
        }
        let divisors = [
            ("num_attention_heads", self.num_attention_heads),
            (
                "num_conv_pos_embedding_groups",
                self.num_conv_pos_embedding_groups,
            ),
        ];
        for (name, divisor) in divisors {
            if self.hidden_size % divisor != 0 {
                return wrong(format!("hidden_size is not a multiple of {name}"));
            }
        }
        for (name, value, known) in [
            ("hidden_act", &self.hidden_act, &["gelu"][..]),
            (
                "feat_extract_activation",
                &self.feat_extract_activation,
                &["gelu"],
            ),
            (
                "feat_extract_norm",
                &self.feat_extract_norm,
                &["group", "layer"],
            ),
        ] {
            if !known.contains(&value.as_str()) {
                return wrong(format!("{name} `{value}`; known: {}", known.join(", ")));
            }
        }
        let unknown = [
            ("conv_pos_batch_norm", self.conv_pos_batch_norm),
            ("feature_extractor_cqt", self.feature_extractor_cqt),
            ("add_adapter", self.add_adapter),
        ];
        match unknown.iter().find(|(_, is_on)| *is_on) {
            Some((name, _)) => wrong(format!("{name} is on, which is not supported")),
            None => Ok(()),
        }
    }
}

impl Preprocessing {
    /// Reads the `preprocessor_config.json` of a folder; what it does not say is as in wav2vec2.
    pub fn of_folder(folder: &Path) -> Result<Self, EncodeError> {
        let path = folder.join("preprocessor_config.json");
        if !path.is_file() {
            return Ok(Self {
                sampling_rate: rate(),
                do_normalize: true,
            });
        }
        let read: Self = json(&path)?;
        if !(1_000..=192_000).contains(&read.sampling_rate) {
            let what = format!("sampling_rate is {}", read.sampling_rate);
            return Err(EncodeError::Model(NnError::Config(what)));
        }
        Ok(read)
    }
}
