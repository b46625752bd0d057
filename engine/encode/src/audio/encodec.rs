//! EnCodec (Défossez et al., 2022): the encoder of a neural codec.
//!
//! Convolutions that halve and quarter the rate, with residual blocks between them, and an LSTM. Its
//! output is what the codec would quantise: 75 or 150 frames a second. The vector of a stretch is
//! their mean over time, before quantisation: the codebooks only round it, each at the price of a
//! search. Layers are numbered as in transformers' `EncodecModel`.

mod config;

use std::path::Path;

use segue_nn::linear::Bias;
use segue_nn::tch::{Device, Kind, Tensor, no_grad};
use segue_nn::weights::Weights;

pub use self::config::EncodecConfig;
use super::convolution::{Convolution, Shape, Steps};
use super::decode::Samples;
use super::model::AudioModel;
use crate::EncodeError;
use crate::text_model::json;

/// Chunks that go through at once, where a model hears a second at a time.
const BATCH: usize = 16;
const GROUP_NORM_EPS: f64 = 1e-5;

/// The encoder of a loaded model.
#[derive(Debug)]
pub struct Encodec {
    config: EncodecConfig,
    layers: Vec<Layer>,
    device: Device,
}

#[derive(Debug)]
enum Layer {
    Convolution(PaddedConvolution),
    Residual(Box<Residual>),
    /// The exponential linear unit.
    Elu,
    Lstm(Lstm),
}

impl Encodec {
    /// Loads `model.safetensors` and `config.json` of a folder. It computes in `f32`.
    pub fn load(folder: &Path, device: Device) -> Result<Self, EncodeError> {
        let config: EncodecConfig = json(&folder.join("config.json"))?;
        config.validate()?;
        let weights = Weights::open(folder)?;
        let builder = Builder {
            weights: &weights,
            config: &config,
            device,
        };
        let layers = builder.layers()?;
        Ok(Self {
            layers,
            config,
            device,
        })
    }

    /// Samples, `[batch, channels, samples]`, to frames, `[batch, hidden, frames]`.
    pub fn forward(&self, samples: &Tensor) -> Result<Tensor, EncodeError> {
        let mut x = samples.shallow_clone();
        for layer in &self.layers {
            x = match layer {
                Layer::Convolution(convolution) => convolution.forward(&x)?,
                Layer::Residual(block) => block.forward(&x)?,
                Layer::Elu => x.f_elu()?,
                Layer::Lstm(lstm) => lstm.forward(&x)?,
            };
        }
        Ok(x)
    }

    /// The sum of the frames of a batch, and how many they are.
    fn sum(&self, batch: &Tensor) -> Result<(Vec<f32>, i64), EncodeError> {
        let mut batch = batch.f_to_device(self.device)?;
        if self.config.normalize {
            let mono = batch.f_mean_dim([1i64].as_slice(), true, Kind::Float)?;
            let power = mono
                .f_square()?
                .f_mean_dim([2i64].as_slice(), true, Kind::Float)?;
            batch = batch.f_div(&power.f_sqrt()?.f_add_scalar(1e-8)?)?;
        }
        let frames = no_grad(|| self.forward(&batch))?; // [batch, hidden, frames]
        let (chunks, _, count) = frames.size3()?;
        let sum = frames.f_sum_dim_intlist([0i64, 2].as_slice(), false, Kind::Float)?;
        let sum = sum.f_to_device(Device::Cpu)?.f_contiguous()?;
        let mut values = vec![0f32; sum.numel()];
        sum.f_copy_data(&mut values, sum.numel())?;
        Ok((values, chunks * count))
    }
}

impl AudioModel for Encodec {
    fn name(&self) -> &'static str {
        "encodec"
    }

    fn rate(&self) -> u32 {
        self.config.sampling_rate
    }

    fn channels(&self) -> usize {
        if self.config.audio_channels == 2 {
            2
        } else {
            1
        }
    }

    fn dimensions(&self) -> usize {
        usize::try_from(self.config.hidden_size).unwrap_or(0)
    }

    fn embed(&mut self, samples: &Samples) -> Result<Vec<f32>, EncodeError> {
        let frames = samples.frames();
        let (length, stride) = self.config.chunks().unwrap_or((frames, frames.max(1)));
        // Chunks of one length go through together; the last may be shorter.
        let starts: Vec<usize> = (0..frames).step_by(stride).collect();
        let (whole, short): (Vec<usize>, Vec<usize>) =
            starts.iter().partition(|&&start| start + length <= frames);
        let shorter = short.iter().map(std::slice::from_ref);
        let mut sums = vec![0f64; self.dimensions()];
        let mut count = 0;
        for starts in whole.chunks(BATCH).chain(shorter) {
            let mut values = Vec::new();
            for &start in starts {
                for row in &samples.channels {
                    values.extend_from_slice(
                        row.get(start..frames.min(start + length))
                            .unwrap_or_default(),
                    );
                }
            }
            let shape = [starts.len() as i64, samples.channels.len() as i64, -1];
            let batch = Tensor::f_from_slice(&values)?.f_reshape(shape)?;
            let (sum, frames) = self.sum(&batch)?;
            for (all, now) in sums.iter_mut().zip(sum) {
                *all += f64::from(now);
            }
            count += frames;
        }
        let count = count.max(1) as f64;
        Ok(sums.iter().map(|sum| (sum / count) as f32).collect())
    }
}

/// Puts the encoder together.
struct Builder<'a> {
    weights: &'a Weights,
    config: &'a EncodecConfig,
    device: Device,
}

impl Builder<'_> {
    /// In the order of the checkpoint, whose numbers count every layer.
    fn layers(&self) -> Result<Vec<Layer>, EncodeError> {
        let config = self.config;
        let mut layers = Vec::new();
        let name = |layers: &Vec<Layer>| format!("encoder.layers.{}", layers.len());
        let first = Shape::whole(
            config.audio_channels,
            config.num_filters,
            config.kernel_size,
        );
        layers.push(Layer::Convolution(self.convolution(
            &name(&layers),
            first,
            Steps::by(1),
        )?));
        let mut width = config.num_filters;
        for &ratio in config.upsampling_ratios.iter().rev() {
            for number in 0..config.num_residual_layers {
                let dilation = config.dilation_growth_rate.pow(number);
                let block = self.residual(&name(&layers), width, dilation)?;
                layers.push(Layer::Residual(Box::new(block)));
            }
            layers.push(Layer::Elu);
            let down = Shape::whole(width, 2 * width, 2 * ratio);
            layers.push(Layer::Convolution(self.convolution(
                &name(&layers),
                down,
                Steps::by(ratio),
            )?));
            width *= 2;
        }
        layers.push(Layer::Lstm(self.lstm(&name(&layers), width)?));
        layers.push(Layer::Elu);
        let last = Shape::whole(width, config.hidden_size, config.last_kernel_size);
        layers.push(Layer::Convolution(self.convolution(
            &name(&layers),
            last,
            Steps::by(1),
        )?));
        Ok(layers)
    }

    fn convolution(
        &self,
        name: &str,
        shape: Shape,
        steps: Steps,
    ) -> Result<PaddedConvolution, EncodeError> {
        let place = (Kind::Float, self.device);
        let grouped = self.config.norm_type == "time_group_norm";
        let over = (!grouped).then_some(0);
        let conv = format!("{name}.conv");
        let part = |part: &str| -> Result<Tensor, EncodeError> {
            let tensor = self
                .weights
                .get_shaped(&format!("{name}.norm.{part}"), &[shape.output])?;
            Ok(tensor.f_to_device(self.device)?)
        };
        let norm = match grouped {
            true => Some((part("weight")?, part("bias")?)),
            false => None,
        };
        Ok(PaddedConvolution {
            conv: Convolution::load(
                self.weights,
                &conv,
                shape,
                steps,
                Bias::Present,
                over,
                place,
            )?,
            norm,
            reach: (shape.length - 1) * steps.dilation + 1,
            stride: steps.stride,
            causal: self.config.use_causal_conv,
        })
    }

    fn residual(&self, name: &str, width: i64, dilation: i64) -> Result<Residual, EncodeError> {
        let inside = width / self.config.compress;
        let far = Steps {
            dilation,
            ..Steps::by(1)
        };
        let length = self.config.residual_kernel_size;
        let narrow = Shape::whole(width, inside, length);
        let one = |name: &str, shape| self.convolution(name, shape, Steps::by(1));
        Ok(Residual {
            // Numbers 0 and 2 are activations.
            block: [
                self.convolution(&format!("{name}.block.1"), narrow, far)?,
                one(&format!("{name}.block.3"), Shape::whole(inside, width, 1))?,
            ],
            shortcut: match self.config.use_conv_shortcut {
                true => Some(one(
                    &format!("{name}.shortcut"),
                    Shape::whole(width, width, 1),
                )?),
                false => None,
            },
        })
    }

    fn lstm(&self, name: &str, width: i64) -> Result<Lstm, EncodeError> {
        let mut parameters = Vec::new();
        for layer in 0..self.config.num_lstm_layers {
            let all: [(&str, &[i64]); 4] = [
                ("weight_ih", &[4 * width, width]),
                ("weight_hh", &[4 * width, width]),
                ("bias_ih", &[4 * width]),
                ("bias_hh", &[4 * width]),
            ];
            for (part, shape) in all {
                let name = format!("{name}.lstm.{part}_l{layer}");
                parameters.push(
                    self.weights
                        .get_shaped(&name, shape)?
                        .f_to_device(self.device)?,
                );
            }
        }
        Ok(Lstm {
            parameters,
            layers: self.config.num_lstm_layers,
            width,
        })
    }
}

/// A convolution whose output has a frame for each stride that its input begins.
#[derive(Debug)]
struct PaddedConvolution {
    conv: Convolution,
    /// Weight and bias of a norm over all of a stretch.
    norm: Option<(Tensor, Tensor)>,
    /// Frames that one output sees.
    reach: i64,
    stride: i64,
    causal: bool,
}

impl PaddedConvolution {
    fn forward(&self, x: &Tensor) -> Result<Tensor, EncodeError> {
        let (_, _, length) = x.size3()?;
        let all = (self.reach - self.stride).max(0);
        let extra = (self.stride - length % self.stride) % self.stride;
        let padding = match self.causal {
            true => (all, extra),
            false => (all - all / 2, all / 2 + extra),
        };
        let x = self.conv.forward(&mirrored(x, padding)?)?;
        Ok(match &self.norm {
            Some((weight, bias)) => {
                x.f_group_norm(1, Some(weight), Some(bias), GROUP_NORM_EPS, true)?
            }
            None => x,
        })
    }
}

/// The ends mirrored; what is too short for that is first made longer with silence.
fn mirrored(x: &Tensor, (before, after): (i64, i64)) -> Result<Tensor, EncodeError> {
    let (_, _, length) = x.size3()?;
    let missing = (before.max(after) - length + 1).max(0);
    let longer = match missing {
        0 => x.shallow_clone(),
        missing => x.f_constant_pad_nd([0, missing])?,
    };
    let padded = longer.f_reflection_pad1d([before, after])?;
    Ok(padded.f_narrow(2, 0, before + length + after)?)
}

#[derive(Debug)]
struct Residual {
    block: [PaddedConvolution; 2],
    shortcut: Option<PaddedConvolution>,
}

impl Residual {
    fn forward(&self, x: &Tensor) -> Result<Tensor, EncodeError> {
        let mut inside = x.shallow_clone();
        for convolution in &self.block {
            inside = convolution.forward(&inside.f_elu()?)?;
        }
        let around = match &self.shortcut {
            Some(shortcut) => shortcut.forward(x)?,
            None => x.shallow_clone(),
        };
        Ok(around.f_add(&inside)?)
    }
}

/// An LSTM whose input is added to its output.
#[derive(Debug)]
struct Lstm {
    parameters: Vec<Tensor>,
    layers: i64,
    width: i64,
}

impl Lstm {
    /// `[batch, width, frames]` to the same.
    fn forward(&self, x: &Tensor) -> Result<Tensor, EncodeError> {
        let (batch, _, _) = x.size3()?;
        let steps = x.f_permute([2, 0, 1])?.f_contiguous()?; // [frames, batch, width]
        let rest = Tensor::f_zeros([self.layers, batch, self.width], (Kind::Float, x.device()))?;
        let state = [rest.shallow_clone(), rest];
        let parameters = &self.parameters;
        let (out, _, _) = steps.f_lstm(
            &state,
            parameters,
            true,
            self.layers,
            0.0,
            false,
            false,
            false,
        )?;
        Ok(out.f_add(&steps)?.f_permute([1, 2, 0])?)
    }
}
