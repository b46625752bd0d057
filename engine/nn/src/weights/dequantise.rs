//! The block formats of GGUF, as `f32`.
//!
//! A block is 32 values that share a scale `d` (and, in the `_1` formats, a minimum `m`), both
//! `f16`, little endian. Layouts after ggml's `block_q4_0` and its siblings in `ggml-common.h`.

use half::{bf16, f16};

/// Values in one block of every quantised format here.
const BLOCK: usize = 32;

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
            }
        }
        out
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
