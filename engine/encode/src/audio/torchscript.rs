//! Any model of sound that was exported as TorchScript: CLAP, MusicFM, EncodecMAE and what comes
//! next.
//!
//! A small TOML file beside the module says what it is given and where its vector is:
//!
//! ```toml
//! module = "clap.pt"      # the module, relative to this file
//! rate = 48000            # samples a second
//! seconds = 10.0          # length of its input; without it, any length
//! channels = 1            # 1 or 2
//! layout = "samples"      # its input: "samples" [batch, samples] or "channels" [batch, channels, samples]
//! scale = "amplitude"     # "amplitude" as decoded, or "deviation": mean 0 and deviation 1
//! output = 0              # which of several outputs: a number in a tuple or list, a key of a dict
//! features = -1           # the axis of the output that is the vector
//! pooling = "mean"        # over all other axes: "mean" or "max"
//! ```
//!
//! A module is a program: it is run as it is. Use only those that you trust.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use segue_nn::NnError;
use segue_nn::tch::{CModule, Device, IValue, Kind, Tensor, no_grad};

use super::decode::Samples;
use super::model::AudioModel;
use crate::EncodeError;

/// Seconds that a module of any length is tried with when it is loaded.
const TRIAL: f64 = 2.0;

/// What is said of a module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// The module's file, relative to the description.
    pub module: PathBuf,
    /// Samples a second.
    pub rate: u32,
    /// Length of its input in seconds. What is longer is heard in pieces whose vectors are averaged;
    /// what is shorter is repeated. Absent: it takes any length.
    #[serde(default)]
    pub seconds: Option<f64>,
    /// Channels of its input.
    #[serde(default = "one")]
    pub channels: usize,
    /// The axes of its input.
    #[serde(default)]
    pub layout: Layout,
    /// What is done with samples first.
    #[serde(default)]
    pub scale: Scale,
    /// Where the vector is among several outputs.
    #[serde(default)]
    pub output: Output,
    /// The axis of the output that is the vector; -1 is the last.
    #[serde(default = "last")]
    pub features: i64,
    /// How all other axes are summed up.
    #[serde(default)]
    pub pooling: Pooling,
}

/// The axes of a module's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// `[batch, samples]`, of one channel.
    #[default]
    Samples,
    /// `[batch, channels, samples]`.
    Channels,
}

/// What is done with samples first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// Nothing: they are between -1 and 1.
    #[default]
    Amplitude,
    /// They are brought to mean 0 and deviation 1.
    Deviation,
}

/// Where the vector is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Output {
    /// In a tuple or list; a single tensor is number 0.
    Number(usize),
    /// In a dict.
    Key(String),
}

impl Default for Output {
    fn default() -> Self {
        Self::Number(0)
    }
}

/// How axes are summed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// By their mean.
    #[default]
    Mean,
    /// By the largest.
    Max,
}

fn one() -> usize {
    1
}

fn last() -> i64 {
    -1
}

impl Description {
    /// Reads a TOML file.
    pub fn of_file(path: &Path) -> Result<Self, EncodeError> {
        let wrong = |problem: String| EncodeError::File {
            path: path.to_path_buf(),
            problem,
        };
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let read: Self = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        read.check().map_err(wrong)?;
        Ok(read)
    }

    /// What is out of range, by its key.
    pub fn check(&self) -> Result<(), String> {
        if !(1_000..=192_000).contains(&self.rate) {
            return Err(format!("rate is {}, of 1000 to 192000", self.rate));
        }
        if self
            .seconds
            .is_some_and(|seconds| !(0.1..=600.0).contains(&seconds))
        {
            return Err("seconds is not of 0.1 to 600".into());
        }
        if !(1..=2).contains(&self.channels) {
            return Err(format!("channels is {}, of 1 or 2", self.channels));
        }
        if self.layout == Layout::Samples && self.channels != 1 {
            return Err("layout `samples` has room for one channel; use `channels`".into());
        }
        if !(-4..4).contains(&self.features) {
            return Err(format!("features is {}, of -4 to 3", self.features));
        }
        Ok(())
    }

    /// Samples of its input, if they are fixed.
    fn length(&self) -> Option<usize> {
        let seconds = self.seconds?;
        Some((seconds * f64::from(self.rate)).round() as usize)
    }
}

/// A loaded module.
#[derive(Debug)]
pub struct TorchScript {
    description: Description,
    module: CModule,
    dimensions: usize,
    device: Device,
}

impl TorchScript {
    /// Loads the module that a TOML file describes, and runs it once to see the length of its vectors.
    pub fn load(description: &Path, device: Device) -> Result<Self, EncodeError> {
        let about = Description::of_file(description)?;
        let path = description.with_file_name(&about.module);
        let module = CModule::load_on_device(&path, device);
        let mut module = module.map_err(|error| EncodeError::File {
            path: path.clone(),
            problem: format!("not a TorchScript module: {error}"),
        })?;
        module.f_set_eval()?;
        let mut loaded = Self {
            module,
            dimensions: 0,
            device,
            description: about,
        };
        let length = (TRIAL * f64::from(loaded.description.rate)) as usize;
        let length = loaded.description.length().unwrap_or(length);
        // Any sound will do that is not the same all the time.
        let sound: Vec<f32> = (0..length)
            .map(|n| (n % 100) as f32 / 100.0 - 0.5)
            .collect();
        let channels = vec![sound; loaded.description.channels];
        loaded.dimensions = loaded.vector(&channels)?.len();
        Ok(loaded)
    }

    /// The vector of samples of the right length.
    fn vector(&self, channels: &[Vec<f32>]) -> Result<Vec<f32>, EncodeError> {
        let mut samples = channels.concat();
        if self.description.scale == Scale::Deviation {
            super::wav2vec2::normalise(&mut samples);
        }
        let shape: &[i64] = match self.description.layout {
            Layout::Samples => &[1, -1],
            Layout::Channels => &[1, channels.len() as i64, -1],
        };
        let input = Tensor::f_from_slice(&samples)?
            .f_reshape(shape)?
            .f_to_device(self.device)?;
        let output = no_grad(|| self.module.forward_is(&[IValue::Tensor(input)]))?;
        let output = self.chosen(output)?.f_to_kind(Kind::Float)?;
        let axes = output.dim() as i64;
        let features = self.description.features.rem_euclid(axes.max(1));
        let others: Vec<i64> = (0..axes).filter(|&axis| axis != features).collect();
        let pooled = match (others.is_empty(), self.description.pooling) {
            (true, _) => output,
            (false, Pooling::Mean) => output.f_mean_dim(others.as_slice(), false, Kind::Float)?,
            (false, Pooling::Max) => output.f_amax(others.as_slice(), false)?,
        };
        let pooled = pooled.f_to_device(Device::Cpu)?.f_contiguous()?;
        let mut values = vec![0f32; pooled.numel()];
        pooled.f_copy_data(&mut values, pooled.numel())?;
        Ok(values)
    }

    /// The tensor that the description means.
    fn chosen(&self, output: IValue) -> Result<Tensor, EncodeError> {
        let wanted = &self.description.output;
        let missing = || {
            let what = format!("the module has no output {wanted:?} that is a tensor");
            EncodeError::Model(NnError::Input(what))
        };
        let one = |values: Vec<IValue>, at: usize| values.into_iter().nth(at);
        let found = match (output, wanted) {
            (IValue::Tensor(tensor), Output::Number(0)) => return Ok(tensor),
            (IValue::TensorList(list), Output::Number(at)) => {
                return list.into_iter().nth(*at).ok_or_else(missing);
            }
            (IValue::Tuple(values) | IValue::GenericList(values), Output::Number(at)) => {
                one(values, *at)
            }
            (IValue::GenericDict(pairs), Output::Key(key)) => {
                let named = |name: &IValue| matches!(name, IValue::String(name) if name == key);
                let pair = pairs.into_iter().find(|(name, _)| named(name));
                pair.map(|(_, value)| value)
            }
            _ => None,
        };
        match found {
            Some(IValue::Tensor(tensor)) => Ok(tensor),
            _ => Err(missing()),
        }
    }
}

impl AudioModel for TorchScript {
    fn name(&self) -> &'static str {
        "torchscript"
    }

    fn rate(&self) -> u32 {
        self.description.rate
    }

    fn channels(&self) -> usize {
        self.description.channels
    }

    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn embed(&mut self, samples: &Samples) -> Result<Vec<f32>, EncodeError> {
        let frames = samples.frames();
        let length = self.description.length().unwrap_or(frames).max(1);
        let pieces = (frames / length).max(1);
        let mut sum = vec![0f64; self.dimensions];
        for piece in 0..pieces {
            let rows = samples.channels.iter().map(|row| {
                let rest = row.get(piece * length..).unwrap_or_default();
                rest.iter().copied().cycle().take(length).collect()
            });
            let rows: Vec<Vec<f32>> = rows.collect();
            let vector = self.vector(&rows)?;
            if vector.len() != self.dimensions {
                let what = format!("{} numbers, and {} before", vector.len(), self.dimensions);
                let what = format!("the module's vector has {what}: pool over its time axis");
                return Err(EncodeError::Model(NnError::Input(what)));
            }
            for (sum, value) in sum.iter_mut().zip(vector) {
                *sum += f64::from(value) / pieces as f64;
            }
        }
        Ok(sum.iter().map(|&sum| sum as f32).collect())
    }
}
