//! The block formats of GGUF, as `f32`.
//!
//! A block is 32 values that share a scale `d` (and, in the `_1` formats, a minimum `m`), both
//! `f16`, little endian. The `_K` formats have blocks of 256 in which groups of 32 or 16 have scales
//! (and minima) of a few bits, multiplied by the block's own. Layouts after ggml's `block_q4_0` and
//! its siblings in `ggml-common.h`.

use half::{bf16, f16};

use super::blocks::{BLOCK, Blocks, paired};

/// Values in one block of the `_K` formats.
const LARGE: usize = 256;

/// How the values of a tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

impl Format {
    /// The format of a `ggml_type` number, if it is supported.
    pub(super) fn of(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            30 => Self::Bf16,
            _ => return None,
        })
    }

    /// Values and bytes of one block.
    fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q4_0 => (BLOCK, 2 + 16),
            Self::Q4_1 => (BLOCK, 4 + 16),
            Self::Q5_0 => (BLOCK, 2 + 4 + 16),
            Self::Q5_1 => (BLOCK, 4 + 4 + 16),
            Self::Q8_0 => (BLOCK, 2 + 32),
            Self::Q4K => (LARGE, 4 + 12 + 128),
            Self::Q5K => (LARGE, 4 + 12 + 32 + 128),
            Self::Q6K => (LARGE, 128 + 64 + 16 + 2),
        }
    }

    /// The bytes of a tensor, if its rows are whole blocks and the count is one a machine can hold.
    pub(super) fn size(self, row: usize, values: usize) -> Option<usize> {
        let (per_block, bytes) = self.block();
        if !row.is_multiple_of(per_block) || !values.is_multiple_of(per_block) {
            return None;
        }
        (values / per_block).checked_mul(bytes)
    }

    /// All values of a tensor. `data` is whole blocks, as [`Format::size`] said.
    pub(super) fn values(self, data: &[u8]) -> Vec<f32> {
        let (per_block, bytes) = self.block();
        let mut out = Vec::with_capacity(data.len() / bytes * per_block);
        for block in data.chunks_exact(bytes) {
            match self {
                Self::F32 => out.push(f32::from_le_bytes(take(block, 0))),
                Self::F16 => out.push(half_at(block, 0)),
                Self::Bf16 => out.push(bf16::from_le_bytes(take(block, 0)).to_f32()),
                Self::Q4_0 => {
                    let d = half_at(block, 0);
                    nibbles(&block[2..], &mut out, |q, _| d * (f32::from(q) - 8.0));
                }
                Self::Q4_1 => {
                    let (d, m) = (half_at(block, 0), half_at(block, 2));
                    nibbles(&block[4..], &mut out, |q, _| d * f32::from(q) + m);
                }
                Self::Q5_0 => {
                    let d = half_at(block, 0);
                    let high = u32::from_le_bytes(take(block, 2));
                    nibbles(&block[6..], &mut out, |q, j| {
                        d * (five_bits(q, high, j) - 16.0)
                    });
                }
                Self::Q5_1 => {
                    let (d, m) = (half_at(block, 0), half_at(block, 2));
                    let high = u32::from_le_bytes(take(block, 4));
                    nibbles(&block[8..], &mut out, |q, j| d * five_bits(q, high, j) + m);
                }
                Self::Q8_0 => {
                    let d = half_at(block, 0);
                    out.extend(block[2..].iter().map(|&q| d * f32::from(q.cast_signed())));
                }
                Self::Q4K => {
                    for (group, (d, m)) in grouped_lines(block).into_iter().enumerate() {
                        out.extend(group_of(&block[16..], group).map(|q| d * f32::from(q) - m));
                    }
                }
                Self::Q5K => {
                    let (high, low) = block[16..].split_at(BLOCK);
                    for (group, (d, m)) in grouped_lines(block).into_iter().enumerate() {
                        let values = group_of(low, group).zip(high).map(|(q, &high)| {
                            let fifth = (high >> group & 1) << 4;
                            d * f32::from(q | fifth) - m
                        });
                        out.extend(values);
                    }
                }
                Self::Q6K => six_bits(block, &mut out),
            }
        }
        out
    }

    /// The tensor's own blocks of four bits, if it has such; those of `Q4_K` with each group's scale
    /// and minimum rounded to `f16`.
    pub(super) fn packed(self, data: &[u8]) -> Option<Blocks> {
        let mut blocks = Blocks {
            nibbles: Vec::new(),
            scales: Vec::new(),
            minima: (self != Self::Q4_0).then(Vec::new),
        };
        for block in data.chunks_exact(self.block().1) {
            match self {
                Self::Q4_0 => {
                    blocks.scales.push(f16::from_le_bytes(take(block, 0)));
                    blocks.nibbles.extend(&block[2..]);
                }
                Self::Q4_1 => {
                    blocks.scales.push(f16::from_le_bytes(take(block, 0)));
                    let minimum = f16::from_le_bytes(take(block, 2));
                    blocks.minima.as_mut()?.push(minimum);
                    blocks.nibbles.extend(&block[4..]);
                }
                Self::Q4K => {
                    for (group, (d, m)) in grouped_lines(block).into_iter().enumerate() {
                        let mut steps = [0; BLOCK];
                        for (step, q) in steps.iter_mut().zip(group_of(&block[16..], group)) {
                            *step = q;
                        }
                        blocks.nibbles.extend(paired(&steps));
                        blocks.scales.push(f16::from_f32(d));
                        blocks.minima.as_mut()?.push(f16::from_f32(-m));
                    }
                }
                _ => return None,
            }
        }
        Some(blocks)
    }
}

/// Scale and minimum of the eight groups of a `Q4_K` or `Q5_K` block: its two halves times six bits
/// each, which lie in twelve bytes. Values are `scale · q - minimum`.
fn grouped_lines(block: &[u8]) -> [(f32, f32); 8] {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    let bits = &block[4..16];
    std::array::from_fn(|group| {
        let (scale, minimum) = if group < 4 {
            (bits[group] & 63, bits[group + 4] & 63)
        } else {
            let low = bits[group + 4];
            let (scale_top, minimum_top) = (bits[group - 4] >> 6, bits[group] >> 6);
            (low & 15 | scale_top << 4, low >> 4 | minimum_top << 4)
        };
        (d * f32::from(scale), m * f32::from(minimum))
    })
}

/// The nibbles of one group of 32: two groups lie in the low and the high halves of the same bytes.
fn group_of(nibbles: &[u8], group: usize) -> impl Iterator<Item = u8> {
    let bytes = &nibbles[group / 2 * BLOCK..][..BLOCK];
    let shift = group % 2 * 4;
    bytes.iter().map(move |byte| byte >> shift & 15)
}

/// A `Q6_K` block: 128 bytes of low bits, 64 of the two high bits, 16 signed scales, the block's own.
fn six_bits(block: &[u8], out: &mut Vec<f32>) {
    let d = half_at(block, 208);
    for half in 0..2 {
        let low = &block[half * 64..][..64];
        let high = &block[128 + half * 32..][..32];
        let scales = &block[192 + half * 8..][..8];
        for quarter in 0..4 {
            for at in 0..BLOCK {
                let four = low[quarter % 2 * BLOCK + at] >> (quarter / 2 * 4) & 15;
                let two = high[at] >> (quarter * 2) & 3;
                let scale = scales[quarter * 2 + at / 16].cast_signed();
                let q = f32::from(four | two << 4) - 32.0;
                out.push(d * f32::from(scale) * q);
            }
        }
    }
}

/// Sixteen bytes hold the low halves of values 0..16 and the high halves of values 16..32.
fn nibbles(bytes: &[u8], out: &mut Vec<f32>, value: impl Fn(u8, usize) -> f32) {
    out.extend(
        bytes
            .iter()
            .enumerate()
            .map(|(j, &byte)| value(byte & 15, j)),
    );
    out.extend(
        bytes
            .iter()
            .enumerate()
            .map(|(j, &byte)| value(byte >> 4, j + BLOCK / 2)),
    );
}

/// A nibble with its fifth bit, which lies at position `j` of `high`.
fn five_bits(low: u8, high: u32, j: usize) -> f32 {
    let fifth = if high >> j & 1 == 1 { 16 } else { 0 };
    f32::from(low | fifth)
}

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes(take(block, at)).to_f32()
}

/// `N` bytes of a block; blocks come from `chunks_exact`, so they are always there.
fn take<const N: usize>(block: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&block[at..at + N]);
    bytes
}
