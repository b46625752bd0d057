//! MusiCNN (Pons and Serra, 2019): a convolutional network that was taught to tag music.
//!
//! Filters as tall as an instrument's timbre and as long as a rhythm on a log-mel spectrogram, three
//! dense layers of convolutions, and pooling over time. Its last hidden layer is the vector of a
//! patch of three seconds; that of a track is their mean. Names and numbers of layers are those of
//! the published checkpoints, whose tensors stand `[time, frequency, input, output]`.

use std::path::Path;

use segue_nn::tch::{Device, Kind, Tensor, no_grad};
use segue_nn::weights::Weights;

use super::decode::Samples;
use super::mel::MelBands;
use super::model::AudioModel;
use super::spectrum::{Edge, Spectrum};
use super::tensor_bundle;
use crate::EncodeError;

/// Samples a second.
const RATE: u32 = 16_000;
const FRAME: usize = 512;
const HOP: usize = 256;
const BANDS: usize = 96;
/// Frames of a patch: three seconds, and one.
const PATCH: usize = 187;
/// Samples that give a whole patch.
const PATCH_SAMPLES: usize = (PATCH - 1) * HOP;
/// Patches that go through at once: the first layer holds 9 MB for each.
const BATCH: usize = 8;
/// Length of the vector.
const WIDTH: i64 = 200;
/// What batch normalisation adds under its root.
const EPSILON: f64 = 1e-3;

/// What the published network was taught.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Taught {
    /// The 50 tags of MagnaTagATune.
    Mtt,
    /// The 50 tags of the Million Song Dataset, from Last.fm.
    Msd,
}

/// The published network on one device.
#[derive(Debug)]
pub struct Musicnn {
    input: BatchNorm,
    /// Tall filters: 38 and 67 bands by 7 frames.
    timbral: [Convolution; 2],
    /// Long ones: 128, 64 and 32 frames.
    temporal: [Convolution; 3],
    middle: [Convolution; 3],
    pooled: BatchNorm,
    /// `[1506, 200]` and `[200]`.
    dense: (Tensor, Tensor),
    output: BatchNorm,
    /// `[200, 50]` and `[50]`.
    tags: (Tensor, Tensor),
    bands: MelBands,
    device: Device,
}

impl Musicnn {
    /// Loads one of the published checkpoints of a folder: `MTT_musicnn` or `MSD_musicnn`, with
    /// `.index` and `.data-00000-of-00001` behind it.
    pub fn load(folder: &Path, taught: Taught, device: Device) -> Result<Self, EncodeError> {
        let name = match taught {
            Taught::Mtt => "MTT_musicnn",
            Taught::Msd => "MSD_musicnn",
        };
        let weights = tensor_bundle::read(&folder.join(name))?;
        Self::of(&weights, device)
    }

    fn of(weights: &Weights, device: Device) -> Result<Self, EncodeError> {
        let convolution =
            |number, shape| Convolution::load(weights, number, number + 1, shape, device);
        let dense = |name: &str, shape: [i64; 2]| -> Result<_, EncodeError> {
            let kernel = weights.get_shaped(&format!("{name}/kernel"), &shape)?;
            let bias = weights.get_shaped(&format!("{name}/bias"), &shape[1..])?;
            Ok((kernel.f_to_device(device)?, bias.f_to_device(device)?))
        };
        Ok(Self {
            input: BatchNorm::load(weights, 0, 1, device)?,
            timbral: [
                convolution(0, [7, 38, 1, 204])?,
                convolution(1, [7, 67, 1, 204])?,
            ],
            temporal: [
                convolution(2, [128, 1, 1, 51])?,
                convolution(3, [64, 1, 1, 51])?,
                convolution(4, [32, 1, 1, 51])?,
            ],
            middle: [
                convolution(5, [7, 561, 1, 64])?,
                convolution(6, [7, 64, 1, 64])?,
                convolution(7, [7, 64, 1, 64])?,
            ],
            pooled: BatchNorm::load(weights, 9, 1506, device)?,
            dense: dense("dense", [1506, WIDTH])?,
            output: BatchNorm::load(weights, 10, WIDTH, device)?,
            tags: dense("dense_1", [WIDTH, 50])?,
            bands: MelBands::new(RATE, FRAME, BANDS),
            device,
        })
    }

    /// The log-mel spectrogram of samples at 16 kHz, `[frames, 96]`.
    pub fn spectrogram(&self, samples: &[f32]) -> Result<Vec<f32>, EncodeError> {
        let mut frames = Vec::new();
        Spectrum::new(FRAME, HOP, Edge::Mirror).powers(samples, |power| {
            let bands = self.bands.of(power);
            frames.extend(bands.map(|band| (10_000.0 * band + 1.0).log10()));
        })?;
        Ok(frames)
    }

    /// Vectors `[patches, 200]` and tag logits `[patches, 50]` of patches, `[patches, 187, 96]`.
    pub fn forward(&self, patches: &Tensor) -> Result<(Tensor, Tensor), EncodeError> {
        let x = self.input.forward(&patches.f_unsqueeze(1)?)?; // [patches, 1, 187, 96]
        let mut front = Vec::with_capacity(5);
        for filter in &self.timbral {
            front.push(filter.forward(&x, (3, 3))?);
        }
        for filter in &self.temporal {
            let more = filter.length - 1;
            front.push(filter.forward(&x, (more / 2, more - more / 2))?);
        }
        let front = Tensor::f_cat(&front, 1)?; // [patches, 561, 187]
        let mut layers = vec![front];
        for (number, filter) in self.middle.iter().enumerate() {
            let Some(last) = layers.last() else { continue };
            let as_bands = last.f_transpose(1, 2)?.f_unsqueeze(1)?; // [patches, 1, 187, channels]
            let made = filter.forward(&as_bands, (3, 3))?; // [patches, 64, 187]
            layers.push(if number == 0 { made } else { made.f_add(last)? });
        }
        let all = Tensor::f_cat(&layers, 1)?; // [patches, 753, 187]
        let highest = all.f_amax([2i64].as_slice(), false)?;
        let mean = all.f_mean_dim([2i64].as_slice(), false, Kind::Float)?;
        // The two stand side by side for each channel.
        let pooled = Tensor::f_stack(&[highest, mean], 2)?.f_flatten(1, 2)?; // [patches, 1506]
        let hidden = self.pooled.forward(&pooled)?;
        let hidden = hidden
            .f_matmul(&self.dense.0)?
            .f_add(&self.dense.1)?
            .f_relu()?;
        let vectors = self.output.forward(&hidden)?;
        let logits = vectors.f_matmul(&self.tags.0)?.f_add(&self.tags.1)?;
        Ok((vectors, logits))
    }
}

impl AudioModel for Musicnn {
    fn name(&self) -> &'static str {
        "musicnn"
    }

    fn rate(&self) -> u32 {
        RATE
    }

    fn dimensions(&self) -> usize {
        WIDTH as usize
    }

    fn embed(&mut self, samples: &Samples) -> Result<Vec<f32>, EncodeError> {
        let nothing = Vec::new();
        let sound = samples.channels.first().unwrap_or(&nothing);
        // What is shorter than a patch is heard again until it is one, as in training.
        let repeated: Vec<f32>;
        let sound = match sound.len() < PATCH_SAMPLES {
            true => {
                repeated = sound.iter().copied().cycle().take(PATCH_SAMPLES).collect();
                &repeated
            }
            false => sound,
        };
        let frames = self.spectrogram(sound)?;
        let patches: Vec<&[f32]> = frames.chunks_exact(PATCH * BANDS).collect();
        let mut sum = vec![0f64; WIDTH as usize];
        for some in patches.chunks(BATCH) {
            let shape = [some.len() as i64, PATCH as i64, BANDS as i64];
            let batch = Tensor::f_from_slice(&some.concat())?
                .f_reshape(shape)?
                .f_to_device(self.device)?;
            let (vectors, _) = no_grad(|| self.forward(&batch))?;
            let vectors = vectors.f_to_device(Device::Cpu)?.f_contiguous()?;
            let mut values = vec![0f32; vectors.numel()];
            vectors.f_copy_data(&mut values, vectors.numel())?;
            for vector in values.chunks_exact(WIDTH as usize) {
                for (sum, value) in sum.iter_mut().zip(vector) {
                    *sum += f64::from(*value);
                }
            }
        }
        let count = patches.len().max(1) as f64;
        Ok(sum.iter().map(|sum| (sum / count) as f32).collect())
    }
}

/// A convolution, the positive part of it, its normalisation, and the highest over all bands that are
/// left.
#[derive(Debug)]
struct Convolution {
    /// `[output, 1, time, frequency]`.
    weight: Tensor,
    bias: Tensor,
    norm: BatchNorm,
    /// Frames of the filter.
    length: i64,
}

impl Convolution {
    fn load(
        weights: &Weights,
        number: usize,
        norm: usize,
        shape: [i64; 4],
        device: Device,
    ) -> Result<Self, EncodeError> {
        let name = numbered("conv2d", number);
        let [length, _, _, output] = shape;
        let weight = weights.get_shaped(&format!("{name}/kernel"), &shape)?;
        let bias = weights.get_shaped(&format!("{name}/bias"), &[output])?;
        Ok(Self {
            weight: weight
                .f_permute([3, 2, 0, 1])?
                .f_contiguous()?
                .f_to_device(device)?,
            bias: bias.f_to_device(device)?,
            norm: BatchNorm::load(weights, norm, output, device)?,
            length,
        })
    }

    /// `[patches, 1, frames, bands]` to `[patches, output, frames]`, with so many silent frames
    /// before and after.
    fn forward(&self, x: &Tensor, (before, after): (i64, i64)) -> Result<Tensor, EncodeError> {
        let padded = x.f_constant_pad_nd([0, 0, before, after])?;
        let bias = Some(&self.bias);
        let made = padded.f_conv2d(
            &self.weight,
            bias,
            [1i64, 1].as_slice(),
            [0i64, 0].as_slice(),
            [1i64, 1].as_slice(),
            1,
        )?;
        let normed = self.norm.forward(&made.f_relu()?)?;
        Ok(normed.f_amax([3i64].as_slice(), false)?)
    }
}

/// Batch normalisation as it is after training: a factor and a shift per channel.
#[derive(Debug)]
struct BatchNorm {
    factor: Tensor,
    shift: Tensor,
}

impl BatchNorm {
    fn load(
        weights: &Weights,
        number: usize,
        size: i64,
        device: Device,
    ) -> Result<Self, EncodeError> {
        let name = numbered("batch_normalization", number);
        let part = |part: &str| weights.get_shaped(&format!("{name}/{part}"), &[size]);
        let spread = part("moving_variance")?.f_add_scalar(EPSILON)?.f_sqrt()?;
        let factor = part("gamma")?.f_div(&spread)?;
        let shift = part("beta")?.f_sub(&part("moving_mean")?.f_mul(&factor)?)?;
        Ok(Self {
            factor: factor.f_to_device(device)?,
            shift: shift.f_to_device(device)?,
        })
    }

    /// `[patches, size, …]` to the same.
    fn forward(&self, x: &Tensor) -> Result<Tensor, EncodeError> {
        let mut shape = vec![1i64; x.dim()];
        if let Some(channels) = shape.get_mut(1) {
            *channels = -1;
        }
        let factor = self.factor.f_reshape(shape.as_slice())?;
        Ok(x.f_mul(&factor)?
            .f_add(&self.shift.f_reshape(shape.as_slice())?)?)
    }
}

/// TensorFlow's names of layers: the first has no number.
fn numbered(name: &str, number: usize) -> String {
    match number {
        0 => name.to_owned(),
        number => format!("{name}_{number}"),
    }
}
