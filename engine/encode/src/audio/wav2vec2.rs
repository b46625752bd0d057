//! The wav2vec 2.0 family (Baevski et al., 2020): MERT, Music2Vec, HuBERT and wav2vec 2.0 itself.
//!
//! Convolutions turn samples into some fifty frames a second, a transformer looks at all of them.
//! The vector of a stretch is the mean over time of the hidden states of a layer, or of all. Fields
//! are named as the checkpoint names its tensors (`encoder.layers.3.attention.q_proj`).

mod config;

use std::path::Path;

use serde::{Deserialize, Serialize};

use segue_nn::NnError;
use segue_nn::device::Precision;
use segue_nn::linear::{Bias, Linear};
use segue_nn::lora::Mode;
use segue_nn::norm::LayerNorm;
use segue_nn::tch::{Device, Kind, Tensor, no_grad};
use segue_nn::weights::Weights;

pub use self::config::{Preprocessing, Relative, Wav2Vec2Config};
use super::convolution::{Convolution, Shape, Steps};
use super::decode::Samples;
use super::model::AudioModel;
use crate::EncodeError;
use crate::encoder_layer::{EncoderLayer, Names, Sizes};

/// As `Wav2Vec2Model` names its layers.
const NAMES: Names = Names {
    attention: [
        "attention.q_proj",
        "attention.k_proj",
        "attention.v_proj",
        "attention.out_proj",
    ],
    attention_norm: "layer_norm",
    feed_forward: [
        "feed_forward.intermediate_dense",
        "feed_forward.output_dense",
    ],
    feed_forward_norm: "final_layer_norm",
};

/// What a layer norm between convolutions adds under its root, whatever the configuration says.
const CONVOLUTION_EPS: f64 = 1e-5;
/// What is added to the variance of samples before they are scaled.
const LOUDNESS_EPS: f64 = 1e-7;

/// Which hidden states are the vector: early layers know of pitch and timbre, late ones of what was
/// asked in training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layers {
    /// The mean of all: what goes into the first layer, and what comes out of each.
    #[default]
    Mean,
    /// Those of the last.
    Last,
    /// Those of one: 0 is what goes into the first.
    One(usize),
}

/// A loaded model of the family.
#[derive(Debug)]
pub struct Wav2Vec2 {
    config: Wav2Vec2Config,
    preprocessing: Preprocessing,
    feature_extractor: Vec<ConvolutionLayer>,
    feature_projection: (Option<LayerNorm>, Linear),
    positions: Positions,
    layer_norm: LayerNorm,
    layers: Vec<EncoderLayer>,
    /// Which hidden states are the vector.
    vector: Layers,
    kind: Kind,
    device: Device,
}

impl Wav2Vec2 {
    /// Loads `model.safetensors`, `config.json` and, if it is there, `preprocessor_config.json` of a
    /// folder. A checkpoint that is published as a pickle is brought there by transformers'
    /// `save_pretrained`.
    pub fn load(
        folder: &Path,
        vector: Layers,
        device: Device,
        precision: Precision,
    ) -> Result<Self, EncodeError> {
        let config = Wav2Vec2Config::of_folder(folder)?;
        let preprocessing = Preprocessing::of_folder(folder)?;
        if let Layers::One(number) = vector
            && number > config.num_hidden_layers
        {
            let what = format!("layer {number} of {}", config.num_hidden_layers);
            return Err(EncodeError::Model(NnError::Config(what)));
        }
        let weights = Weights::open(folder)?;
        let kind = precision.kind(device);
        let place = (kind, device);
        let prefix = ["", "wav2vec2.", "hubert.", "data2vec_audio."]
            .into_iter()
            .find(|prefix| weights.contains(&format!("{prefix}encoder.layer_norm.weight")))
            .unwrap_or("");
        let (hidden, eps) = (config.hidden_size, config.layer_norm_eps);
        let convolutions = config.conv_dim.len();
        let features = config.conv_dim.last().copied().unwrap_or(0);
        let projection = format!("{prefix}feature_projection");
        let norm = match config.feat_proj_layer_norm {
            true => {
                let name = format!("{projection}.layer_norm");
                Some(LayerNorm::load(&weights, &name, features, eps, place)?)
            }
            false => None,
        };
        let dense = format!("{projection}.projection");
        let sizes = Sizes {
            hidden,
            wide: config.intermediate_size,
            heads: config.num_attention_heads,
            eps,
            before: config.do_stable_layer_norm,
        };
        let layer = |number| {
            let name = format!("{prefix}encoder.layers.{number}");
            EncoderLayer::load(&weights, &name, &NAMES, sizes, place)
        };
        Ok(Self {
            feature_extractor: (0..convolutions)
                .map(|number| {
                    let name = format!("{prefix}feature_extractor.conv_layers.{number}");
                    ConvolutionLayer::load(&weights, &name, number, &config, place)
                })
                .collect::<Result<_, _>>()?,
            feature_projection: (
                norm,
                Linear::load(&weights, &dense, (hidden, features), Bias::Present, place)?,
            ),
            positions: Positions::load(&weights, &format!("{prefix}encoder"), &config, place)?,
            layer_norm: LayerNorm::load(
                &weights,
                &format!("{prefix}encoder.layer_norm"),
                hidden,
                eps,
                place,
            )?,
            layers: (0..config.num_hidden_layers)
                .map(layer)
                .collect::<Result<_, _>>()?,
            preprocessing,
            config,
            vector,
            kind,
            device,
        })
    }

    /// Samples, `[batch, samples]`, to what goes into the first layer and what comes out of each,
    /// `[batch, frames, hidden]`. Samples are taken as they are.
    pub fn forward(&self, samples: &Tensor) -> Result<Vec<Tensor>, EncodeError> {
        let mut x = samples.f_to_kind(self.kind)?.f_unsqueeze(1)?; // [batch, 1, samples]
        for convolution in &self.feature_extractor {
            x = convolution.forward(&x)?;
        }
        let mut x = x.f_transpose(1, 2)?; // [batch, frames, features]
        let (norm, dense) = &self.feature_projection;
        if let Some(norm) = norm {
            x = norm.forward(&x)?;
        }
        let x = dense.forward(&x, Mode::Infer)?;
        let mut x = x.f_add(&self.positions.forward(&x)?)?;
        let before = self.config.do_stable_layer_norm;
        if !before {
            x = self.layer_norm.forward(&x)?;
        }
        let mut states = Vec::with_capacity(self.layers.len() + 1);
        for layer in &self.layers {
            let next = layer.forward(&x, None)?;
            states.push(std::mem::replace(&mut x, next));
        }
        states.push(if before {
            self.layer_norm.forward(&x)?
        } else {
            x
        });
        Ok(states)
    }

    /// What it was built from.
    pub fn config(&self) -> &Wav2Vec2Config {
        &self.config
    }
}

impl AudioModel for Wav2Vec2 {
    fn name(&self) -> &'static str {
        match self.config.model_type {
            Relative::Wav2Vec2 => "wav2vec2",
            Relative::Hubert => "hubert",
            Relative::Mert => "mert",
            Relative::Data2VecAudio => "data2vec",
        }
    }

    fn rate(&self) -> u32 {
        self.preprocessing.sampling_rate
    }

    fn dimensions(&self) -> usize {
        usize::try_from(self.config.hidden_size).unwrap_or(0)
    }

    fn embed(&mut self, samples: &Samples) -> Result<Vec<f32>, EncodeError> {
        let mut sound = samples.channels.first().cloned().unwrap_or_default();
        // What is too short for one frame goes on silently.
        let needed = usize::try_from(self.config.reach().1).unwrap_or(0);
        sound.resize(sound.len().max(needed), 0.0);
        if self.preprocessing.do_normalize {
            normalise(&mut sound);
        }
        let samples = Tensor::f_from_slice(&sound)?
            .f_unsqueeze(0)?
            .f_to_device(self.device)?;
        let vector = no_grad(|| -> Result<Tensor, EncodeError> {
            let states = self.forward(&samples)?;
            let chosen = match self.vector {
                Layers::Mean => states.as_slice(),
                Layers::Last => states.get(states.len() - 1..).unwrap_or_default(),
                Layers::One(number) => states.get(number..=number).unwrap_or_default(),
            };
            let chosen = Tensor::f_stack(chosen, 0)?; // [layers, 1, frames, hidden]
            Ok(chosen.f_mean_dim([0i64, 1, 2].as_slice(), false, Kind::Float)?)
        })?;
        let mut values = vec![0f32; vector.numel()];
        let vector = vector.f_to_device(Device::Cpu)?.f_contiguous()?;
        vector.f_copy_data(&mut values, vector.numel())?;
        Ok(values)
    }
}

/// Mean 0 and deviation 1.
pub(super) fn normalise(sound: &mut [f32]) {
    let count = sound.len().max(1) as f64;
    let mean = sound.iter().map(|&s| f64::from(s)).sum::<f64>() / count;
    let variance = sound
        .iter()
        .map(|&s| (f64::from(s) - mean).powi(2))
        .sum::<f64>()
        / count;
    let scale = 1.0 / (variance + LOUDNESS_EPS).sqrt();
    for sample in sound {
        *sample = ((f64::from(*sample) - mean) * scale) as f32;
    }
}

/// One convolution of the feature extractor.
#[derive(Debug)]
struct ConvolutionLayer {
    conv: Convolution,
    norm: ConvolutionNorm,
}

#[derive(Debug)]
enum ConvolutionNorm {
    None,
    /// Over time, for each channel: weight and bias, `[channels]`.
    Channels(Tensor, Tensor),
    /// Over channels, at each time.
    Layer(LayerNorm),
}

impl ConvolutionLayer {
    fn load(
        weights: &Weights,
        name: &str,
        number: usize,
        config: &Wav2Vec2Config,
        place: (Kind, Device),
    ) -> Result<Self, EncodeError> {
        let of = |list: &[i64], at: Option<usize>| at.and_then(|at| list.get(at)).copied();
        let output = of(&config.conv_dim, Some(number)).unwrap_or(0);
        let shape = Shape::whole(
            of(&config.conv_dim, number.checked_sub(1)).unwrap_or(1),
            output,
            of(&config.conv_kernel, Some(number)).unwrap_or(0),
        );
        let steps = Steps::by(of(&config.conv_stride, Some(number)).unwrap_or(1));
        let bias = match config.conv_bias {
            true => Bias::Present,
            false => Bias::Absent,
        };
        let norm = format!("{name}.layer_norm");
        let norm = if config.feat_extract_norm == "layer" {
            ConvolutionNorm::Layer(LayerNorm::load(
                weights,
                &norm,
                output,
                CONVOLUTION_EPS,
                place,
            )?)
        } else if number == 0 {
            let part = |part: &str| -> Result<Tensor, EncodeError> {
                let tensor = weights.get_shaped(&format!("{norm}.{part}"), &[output])?;
                Ok(tensor.f_to_device(place.1)?.f_to_kind(place.0)?)
            };
            ConvolutionNorm::Channels(part("weight")?, part("bias")?)
        } else {
            ConvolutionNorm::None
        };
        let name = format!("{name}.conv");
        Ok(Self {
            conv: Convolution::load(weights, &name, shape, steps, bias, None, place)?,
            norm,
        })
    }

    /// `[batch, input, time]` to `[batch, output, time / stride]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor, EncodeError> {
        let x = self.conv.forward(x)?;
        let x = match &self.norm {
            ConvolutionNorm::None => x,
            ConvolutionNorm::Channels(weight, bias) => {
                let groups = x.size3()?.1;
                x.f_group_norm(groups, Some(weight), Some(bias), CONVOLUTION_EPS, true)?
            }
            ConvolutionNorm::Layer(norm) => {
                norm.forward(&x.f_transpose(1, 2)?)?.f_transpose(1, 2)?
            }
        };
        Ok(x.f_gelu("none")?)
    }
}

/// What tells one frame from another: convolutions long enough to see where a frame stands.
#[derive(Debug)]
struct Positions {
    layers: Vec<Convolution>,
    /// Padding on both sides makes a convolution of even length one longer than its input.
    too_long: bool,
    /// data2vec normalises each, without weights.
    normed: bool,
}

impl Positions {
    fn load(
        weights: &Weights,
        name: &str,
        config: &Wav2Vec2Config,
        place: (Kind, Device),
    ) -> Result<Self, EncodeError> {
        let several = config.model_type == Relative::Data2VecAudio;
        let length = match several {
            true => config.conv_pos_kernel_size,
            false => config.num_conv_pos_embeddings,
        };
        let shape = Shape {
            input: config.hidden_size,
            output: config.hidden_size,
            length,
            groups: config.num_conv_pos_embedding_groups,
        };
        let steps = Steps {
            padding: length / 2,
            ..Steps::by(1)
        };
        let one = |name: &str, norm| {
            Convolution::load(weights, name, shape, steps, Bias::Present, norm, place)
        };
        let layers = match several {
            true => (0..config.num_conv_pos_embeddings)
                .map(|number| one(&format!("{name}.pos_conv_embed.layers.{number}.conv"), None))
                .collect::<Result<_, _>>()?,
            false => vec![one(&format!("{name}.pos_conv_embed.conv"), Some(2))?],
        };
        Ok(Self {
            layers,
            too_long: length % 2 == 0,
            normed: several,
        })
    }

    /// `[batch, frames, hidden]` to the same.
    fn forward(&self, x: &Tensor) -> Result<Tensor, EncodeError> {
        let (_, frames, hidden) = x.size3()?;
        let mut x = x.f_transpose(1, 2)?;
        for layer in &self.layers {
            x = layer.forward(&x)?;
            if self.too_long {
                x = x.f_narrow(2, 0, frames)?;
            }
            if self.normed {
                let last = x.f_transpose(1, 2)?;
                let none = None::<Tensor>;
                let size = [hidden];
                x = last
                    .f_layer_norm(size.as_slice(), none.as_ref(), none.as_ref(), 1e-5, true)?
                    .f_transpose(1, 2)?;
            }
            x = x.f_gelu("none")?;
        }
        Ok(x.f_transpose(1, 2)?)
    }
}
