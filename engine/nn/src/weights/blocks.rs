//! Four-bit blocks on the host: taken out of a file as they are, or made from plain values.

use half::f16;

/// Values in one block.
pub(crate) const BLOCK: usize = 32;
/// The largest value of four bits.
const TOP: f32 = 15.0;
/// How often scale and minimum are fitted again to the steps that the values fell on. On normal
/// weights the error goes from 7.9 % (none) over 7.6, 7.4 and 7.36 % (three) to 7.3 % (five);
/// without a minimum it is 8.7 %.
const FITS: usize = 3;

/// Blocks of 32 values, each value one of sixteen steps: `scale · step + minimum`, or
/// `scale · (step - 8)` where there are no minima.
#[derive(Debug)]
pub(crate) struct Blocks {
    /// Sixteen bytes a block: the low halves are values 0..16, the high halves values 16..32.
    pub(crate) nibbles: Vec<u8>,
    pub(crate) scales: Vec<f16>,
    pub(crate) minima: Option<Vec<f16>>,
}

impl Blocks {
    /// The nearest that blocks with minima come to `values`, whose count is whole blocks. Nothing,
    /// if a value is not finite or too large for the halves that scales are kept in.
    pub(crate) fn nearest(values: &[f32]) -> Option<Self> {
        let count = values.len() / BLOCK;
        let mut nibbles = Vec::with_capacity(count * BLOCK / 2);
        let mut scales = Vec::with_capacity(count);
        let mut minima = Vec::with_capacity(count);
        for block in values.chunks_exact(BLOCK) {
            let (line, steps) = nearest(block)?;
            nibbles.extend(paired(&steps));
            scales.push(line.scale);
            minima.push(line.minimum);
        }
        Some(Self {
            nibbles,
            scales,
            minima: Some(minima),
        })
    }
}

/// Two steps in a byte, as the blocks have them.
pub(super) fn paired(steps: &[u8; BLOCK]) -> [u8; BLOCK / 2] {
    std::array::from_fn(|at| steps[at] | steps[at + BLOCK / 2] << 4)
}

/// What turns steps into values.
#[derive(Clone, Copy)]
struct Line {
    scale: f16,
    minimum: f16,
}

impl Line {
    fn of(scale: f32, minimum: f32) -> Option<Self> {
        let (scale, minimum) = (f16::from_f32(scale), f16::from_f32(minimum));
        (scale.is_finite() && minimum.is_finite()).then_some(Self { scale, minimum })
    }

    /// The nearest step of each value, and the sum of the squared errors.
    fn steps(self, block: &[f32]) -> ([u8; BLOCK], f32) {
        let (scale, minimum) = (self.scale.to_f32(), self.minimum.to_f32());
        let per_step = if scale == 0.0 { 0.0 } else { scale.recip() };
        let mut steps = [0; BLOCK];
        let mut error = 0.0;
        for (step, &value) in steps.iter_mut().zip(block) {
            let near = ((value - minimum) * per_step).round().clamp(0.0, TOP);
            *step = near as u8;
            error += (scale * near + minimum - value).powi(2);
        }
        (steps, error)
    }
}

/// From the least to the greatest value first, then through the steps by least squares.
fn nearest(block: &[f32]) -> Option<(Line, [u8; BLOCK])> {
    let least = block.iter().copied().fold(f32::INFINITY, f32::min);
    let most = block.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !block.iter().all(|value| value.is_finite()) {
        return None;
    }
    let mut best = Line::of((most - least) / TOP, least)?;
    let (mut steps, mut error) = best.steps(block);
    let mut fitted = steps;
    for _ in 0..FITS {
        let Some(line) = through(&fitted, block) else {
            break;
        };
        let (next, squares) = line.steps(block);
        fitted = next;
        if squares < error {
            (best, steps, error) = (line, next, squares);
        }
    }
    Some((best, steps))
}

/// The line of least squares through steps and values; none if all steps are one.
fn through(steps: &[u8; BLOCK], block: &[f32]) -> Option<Line> {
    let count = BLOCK as f32;
    let (mut x, mut xx, mut y, mut xy) = (0.0, 0.0, 0.0, 0.0);
    for (&step, &value) in steps.iter().zip(block) {
        let step = f32::from(step);
        x += step;
        xx += step * step;
        y += value;
        xy += step * value;
    }
    let spread = count * xx - x * x;
    if spread <= 0.0 {
        return None;
    }
    let scale = (count * xy - x * y) / spread;
    Line::of(scale, (y - scale * x) / count)
}
