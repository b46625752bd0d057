//! Low-rank adapters (LoRA; Hu et al., 2021): the only part of a backbone that learns.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::NnError;

/// Whether a pass is for learning (dropout on) or for an answer (dropout off).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Dropout on. Its draws come from libtorch's generator: seed with `tch::manual_seed`.
    Train,
    /// Dropout off; the same input gives the same output.
    Infer,
}

/// The shape of an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    /// Width of the bottleneck; at least 1.
    pub rank: i64,
    /// The adapter's share is scaled by `alpha / rank`.
    pub alpha: f64,
    /// By `alpha / sqrt(rank)` instead (rsLoRA; Kalajdzievski, 2023).
    #[serde(default)]
    pub rank_stabilised: bool,
    /// Share of inputs dropped while learning, 0 up to but not including 1.
    pub dropout: f64,
    /// What `A` starts from.
    pub init: LoraInit,
}

/// What `A` starts from; `B` starts at zero in any case, so that a fresh adapter changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoraInit {
    /// Uniform within `± 1 / sqrt(input)`: PEFT's default (`kaiming_uniform_` with `a = sqrt(5)`).
    Kaiming,
    /// Normal with deviation `1 / rank`: PEFT's `gaussian`.
    Gaussian,
}

impl LoraConfig {
    /// What the adapter's share is multiplied by.
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        match self.rank_stabilised {
            true => self.alpha / rank.sqrt(),
            false => self.alpha / rank,
        }
    }

    /// Refuses what would divide by zero or drop everything.
    pub fn validate(&self) -> Result<(), NnError> {
        if self.rank < 1 {
            return Err(NnError::Config(format!(
                "lora rank {} is below 1",
                self.rank
            )));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(NnError::Config(format!(
                "lora dropout {} is not in [0, 1)",
                self.dropout
            )));
        }
        if !self.alpha.is_finite() {
            return Err(NnError::Config(format!(
                "lora alpha {} is not a number",
                self.alpha
            )));
        }
        Ok(())
    }
}

/// An adapter of one dense layer: `y += scale · (x Aᵀ) Bᵀ`, see [`LoraConfig::scale`].
///
/// Both matrices are `f32` leaves that require gradients, whatever the layer computes in: the steps
/// of an optimiser are too small for `bf16`.
#[derive(Debug)]
pub struct Lora {
    /// `[rank, input]`
    a: Tensor,
    /// `[output, rank]`
    b: Tensor,
    config: LoraConfig,
}

impl Lora {
    /// A fresh adapter for a layer of `(output, input)`.
    pub fn new(
        config: &LoraConfig,
        (output, input): (i64, i64),
        rng: &mut ChaCha8Rng,
        device: Device,
    ) -> Result<Self, NnError> {
        config.validate()?;
        let count = usize::try_from(config.rank * input).unwrap_or(0);
        let values: Vec<f32> = match config.init {
            LoraInit::Kaiming => {
                let bound = 1.0 / (input as f32).sqrt();
                (0..count)
                    .map(|_| (2.0 * unit(rng) - 1.0) * bound)
                    .collect()
            }
            LoraInit::Gaussian => (0..count)
                .map(|_| normal(rng) / config.rank as f32)
                .collect(),
        };
        let a = Tensor::f_from_slice(&values)?.f_reshape([config.rank, input])?;
        let b = Tensor::f_zeros([output, config.rank], (Kind::Float, Device::Cpu))?;
        Self::of_tensors(config, &a, &b, device)
    }

    /// The same adapter on the same memory.
    pub(crate) fn view(&self) -> Self {
        Self {
            a: self.a.shallow_clone(),
            b: self.b.shallow_clone(),
            config: self.config,
        }
    }

    /// An adapter of given matrices, `[rank, input]` and `[output, rank]`.
    pub fn of_tensors(
        config: &LoraConfig,
        a: &Tensor,
        b: &Tensor,
        device: Device,
    ) -> Result<Self, NnError> {
        config.validate()?;
        let rank = config.rank;
        if a.dim() != 2 || b.dim() != 2 || a.size()[0] != rank || b.size()[1] != rank {
            return Err(NnError::Input(format!(
                "lora_A {:?} and lora_B {:?} of an adapter of rank {rank}",
                a.size(),
                b.size()
            )));
        }
        let leaf = |tensor: &Tensor| {
            let tensor = tensor.f_detach()?.f_to_kind(Kind::Float)?;
            tensor.f_to_device(device)?.f_set_requires_grad(true)
        };
        Ok(Self {
            a: leaf(a)?,
            b: leaf(b)?,
            config: *config,
        })
    }

    /// What it was made with.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// The adapter's share, `[…, input]` to `[…, output]`, in the kind of `x`.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor, NnError> {
        let kind = x.kind();
        let dropped = match mode {
            Mode::Train if self.config.dropout > 0.0 => Some(dropped(x, self.config.dropout)?),
            _ => None,
        };
        let narrow = dropped
            .as_ref()
            .unwrap_or(x)
            .f_linear(&self.a.f_to_kind(kind)?, None::<&Tensor>)?;
        let wide = narrow.f_linear(&self.b.f_to_kind(kind)?, None::<&Tensor>)?;
        Ok(wide.f_mul_scalar(self.config.scale())?)
    }

    /// What folding the adapter in adds to the weight: `[output, input]`, `f32`.
    pub fn delta(&self) -> Result<Tensor, NnError> {
        Ok(self
            .b
            .f_matmul(&self.a)?
            .f_mul_scalar(self.config.scale())?)
    }

    /// `A` and `B`: leaves for an optimiser, sharing their memory with the adapter.
    pub fn tensors(&self) -> [(&'static str, Tensor); 2] {
        [
            ("lora_A.weight", self.a.shallow_clone()),
            ("lora_B.weight", self.b.shallow_clone()),
        ]
    }

    /// Overwrites `A` and `B` in place; shapes must agree.
    pub fn copy_from(&mut self, a: &Tensor, b: &Tensor) -> Result<(), NnError> {
        for (what, old, new) in [("lora_A", &self.a, a), ("lora_B", &self.b, b)] {
            if old.size() != new.size() {
                return Err(NnError::Input(format!(
                    "{what} is {:?}, the adapter's is {:?}",
                    new.size(),
                    old.size()
                )));
            }
        }
        tch::no_grad(|| {
            self.a.f_copy_(a)?;
            self.b.f_copy_(b)
        })?;
        Ok(())
    }
}

/// `x` without a share of its numbers and the others scaled up for it, from libtorch's own generator.
///
/// On a CPU fifteen random bits decide each number: libtorch's dropout draws a `double` for each, one
/// after the other, which is most of what an adapter takes in a step of training.
fn dropped(x: &Tensor, share: f64) -> Result<Tensor, NnError> {
    /// Values of fifteen bits.
    const VALUES: f64 = 32_768.0;
    if x.device() != Device::Cpu {
        return Ok(x.f_dropout(share, true)?);
    }
    let below = (share * VALUES).round().min(VALUES - 1.0);
    let count = x.numel();
    let four = [count.div_ceil(4) as i64];
    let bits = Tensor::f_empty(four, (Kind::Int64, Device::Cpu))?.f_random_()?;
    let gone = bits
        .f_view_dtype(Kind::Int16)?
        .f_narrow(0, 0, count as i64)?
        .f_bitwise_and(VALUES as i64 - 1)?
        .f_lt(below)?
        .f_view(x.size().as_slice())?;
    let kept = x.f_masked_fill(&gone, 0.0)?;
    Ok(kept.f_mul_scalar(1.0 / (1.0 - below / VALUES))?)
}

/// Uniform in [0, 1), from 24 random bits: every value is exact in `f32`.
pub(crate) fn unit(rng: &mut ChaCha8Rng) -> f32 {
    (rng.next_u32() >> 8) as f32 / (1u32 << 24) as f32
}

/// Standard normal, by Box and Muller.
pub(crate) fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let radius = (-2.0 * (1.0 - unit(rng)).ln()).sqrt();
    radius * (std::f32::consts::TAU * unit(rng)).cos()
}
