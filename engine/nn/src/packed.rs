//! Weights of four bits that stay packed in memory: 0.63 bytes a weight, scales included, where
//! `bf16` takes 2, so that a model of 13 billion fits a card of 24 GB.
//!
//! A weight is unpacked anew for each product, by plain tensor operations on whatever device it
//! lives on, and forgotten after it. Only the projections of the layers are kept like this:
//! embeddings are looked up by row, and norms and biases are small. While gradients are recorded,
//! what was unpacked stays until the backward pass is through. On a CPU unpacking takes several
//! times as long as a short product: packed weights are for room, not for speed.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::NnError;
use crate::weights::blocks::{BLOCK, Blocks};

/// Values that are unpacked at once in `f32`, 64 MB of them: what comes on top of the unpacked
/// weight itself.
const AT_ONCE: i64 = 1 << 24;
/// The step that stands for zero in blocks without a minimum.
const MIDDLE: f64 = 8.0;

/// How the weights of the layers' projections are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightFormat {
    /// In the kind that the model computes in.
    #[default]
    AsComputed,
    /// In blocks of 32 values of four bits with a scale and a minimum. Blocks that a GGUF file has
    /// (`Q4_0`, `Q4_1`) are taken as they are and those of `Q4_K` with their scales rounded to
    /// `f16`; everything else is quantised while it is loaded, with a relative error of about 7 %.
    Packed4,
}

/// A weight, `[output, input]`, in blocks along `input`.
#[derive(Debug)]
pub struct Packed {
    /// `[output, blocks, 16]`, bytes: low halves are values 0..16 of a block, high halves 16..32.
    nibbles: Tensor,
    /// `[output, blocks, 1]`, `f16`.
    scales: Tensor,
    /// The same; without, a step of 8 stands for zero.
    minima: Option<Tensor>,
}

impl Packed {
    /// The tensors of blocks that the host has, `output · input / 32` of them.
    pub(crate) fn of_blocks(blocks: &Blocks, (output, input): (i64, i64)) -> Result<Self, NnError> {
        let count = input / BLOCK as i64;
        let halves = |halves: &[half::f16]| -> Result<Tensor, NnError> {
            let bytes: Vec<u8> = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
            Ok(Tensor::f_from_data_size(
                &bytes,
                &[output, count, 1],
                Kind::Half,
            )?)
        };
        let nibbles = Tensor::f_from_slice(&blocks.nibbles)?;
        Ok(Self {
            nibbles: nibbles.f_reshape([output, count, BLOCK as i64 / 2])?,
            scales: halves(&blocks.scales)?,
            minima: blocks.minima.as_deref().map(halves).transpose()?,
        })
    }

    /// The same on another device.
    pub(crate) fn to_device(&self, device: Device) -> Result<Self, NnError> {
        self.each(|tensor| Ok(tensor.f_to_device(device)?))
    }

    /// The same on the same memory.
    pub(crate) fn share(&self) -> Self {
        Self {
            nibbles: self.nibbles.shallow_clone(),
            scales: self.scales.shallow_clone(),
            minima: self.minima.as_ref().map(Tensor::shallow_clone),
        }
    }

    /// What `change` makes of each part; all have their rows first.
    pub(crate) fn each(
        &self,
        change: impl Fn(&Tensor) -> Result<Tensor, NnError>,
    ) -> Result<Self, NnError> {
        Ok(Self {
            nibbles: change(&self.nibbles)?,
            scales: change(&self.scales)?,
            minima: self.minima.as_ref().map(change).transpose()?,
        })
    }

    /// Output and input sizes.
    pub fn sizes(&self) -> Result<(i64, i64), NnError> {
        let (output, blocks, _) = self.nibbles.size3()?;
        Ok((output, blocks * BLOCK as i64))
    }

    /// Bytes of a weight of `(output, input)` in blocks with minima, without making it.
    pub(crate) fn bytes_with_minima((output, input): (i64, i64)) -> u64 {
        let sizes = [output, input].map(|size| u64::try_from(size).unwrap_or(0));
        let [output, input] = sizes;
        let per_block = BLOCK as u64 / 2 + 2 + 2;
        output
            .saturating_mul(input / BLOCK as u64)
            .saturating_mul(per_block)
    }

    /// The weight in plain numbers, `[output, input]`: computed in `f32` and then brought to
    /// `kind`, as a plain weight is when it is loaded.
    pub fn unpacked(&self, kind: Kind) -> Result<Tensor, NnError> {
        let (_, input) = self.sizes()?;
        self.unpacked_by(kind, (AT_ONCE / input).max(1))
    }

    /// The same, so many rows at once.
    pub(crate) fn unpacked_by(&self, kind: Kind, at_once: i64) -> Result<Tensor, NnError> {
        let (output, input) = self.sizes()?;
        tch::no_grad(|| {
            if output <= at_once {
                return Ok(self.rows(0, output)?.f_to_kind(kind)?);
            }
            let whole = Tensor::f_empty([output, input], (kind, self.nibbles.device()))?;
            for start in (0..output).step_by(usize::try_from(at_once).unwrap_or(1)) {
                let count = at_once.min(output - start);
                let rows = self.rows(start, count)?;
                whole.f_narrow(0, start, count)?.f_copy_(&rows)?;
            }
            Ok(whole)
        })
    }

    /// Some rows, `[count, input]`, `f32`.
    fn rows(&self, start: i64, count: i64) -> Result<Tensor, NnError> {
        let part = |tensor: &Tensor| tensor.f_narrow(0, start, count);
        let nibbles = part(&self.nibbles)?;
        let low = nibbles.f_bitwise_and(15)?;
        let high = nibbles.f_bitwise_right_shift_tensor_scalar(4)?;
        let steps = Tensor::f_cat(&[low, high], -1)?.f_to_kind(Kind::Float)?;
        let scales = part(&self.scales)?.f_to_kind(Kind::Float)?;
        let values = match &self.minima {
            None => steps.f_sub_scalar(MIDDLE)?.f_mul(&scales)?,
            Some(minima) => {
                let minima = part(minima)?.f_to_kind(Kind::Float)?;
                steps.f_mul(&scales)?.f_add(&minima)?
            }
        };
        Ok(values.f_reshape([count, -1])?)
    }

    /// Its parts, in a fixed order.
    pub(crate) fn tensors(&self) -> [Option<&Tensor>; 3] {
        [
            Some(&self.nibbles),
            Some(&self.scales),
            self.minima.as_ref(),
        ]
    }

    /// Where it lives.
    pub fn device(&self) -> Device {
        self.nibbles.device()
    }
}
