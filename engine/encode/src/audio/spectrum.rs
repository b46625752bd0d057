//! Short-time spectra: what all front ends begin with.

use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};

use super::error::Problem;

/// What stands before the first sample and after the last, so that the first frame is centred on the
/// first sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// Silence (librosa since 0.10).
    Silence,
    /// The samples themselves, mirrored without the outermost (librosa before that).
    Mirror,
    /// The outermost sample, again and again.
    Held,
}

impl Edge {
    /// The samples with `size / 2` more on both sides.
    pub fn padded(self, samples: &[f32], size: usize) -> Vec<f32> {
        let half = size / 2;
        let last = samples.len().saturating_sub(1);
        let at = |place: i64| -> f32 {
            let inside = match self {
                Self::Silence if place < 0 || place > last as i64 => None,
                Self::Silence => usize::try_from(place).ok(),
                Self::Held => Some(place.clamp(0, last as i64) as usize),
                Self::Mirror if last == 0 => Some(0),
                Self::Mirror => {
                    // There and back again, as often as it takes.
                    let round = place.rem_euclid(2 * last as i64);
                    Some(round.min(2 * last as i64 - round) as usize)
                }
            };
            let sample = inside.and_then(|inside| samples.get(inside));
            sample.copied().unwrap_or(0.0)
        };
        let (half, length) = (half as i64, samples.len() as i64);
        (-half..length + half).map(at).collect()
    }
}

/// The transform of overlapping frames under a periodic Hann window.
pub struct Spectrum {
    transform: Arc<dyn RealToComplex<f32>>,
    window: Vec<f32>,
    hop: usize,
    edge: Edge,
}

impl Spectrum {
    /// Frames of `size` samples, `hop` apart; `size` is even.
    pub fn new(size: usize, hop: usize, edge: Edge) -> Self {
        Self {
            transform: RealFftPlanner::new().plan_fft_forward(size),
            window: hann(size).map(|value| value as f32).collect(),
            hop,
            edge,
        }
    }

    /// Numbers of one frame: `size / 2 + 1`.
    pub fn bins(&self) -> usize {
        self.window.len() / 2 + 1
    }

    /// Calls `visit` with the power `|X|²` of each frame, `[bins]`. There are
    /// `1 + samples / hop` of them.
    pub fn powers(&self, samples: &[f32], mut visit: impl FnMut(&[f32])) -> Result<(), Problem> {
        let size = self.window.len();
        let padded = self.edge.padded(samples, size);
        let mut frame = self.transform.make_input_vec();
        let mut spectrum = self.transform.make_output_vec();
        let mut scratch = self.transform.make_scratch_vec();
        let mut power = vec![0f32; self.bins()];
        for now in padded.windows(size).step_by(self.hop.max(1)) {
            for (place, (sample, weight)) in frame.iter_mut().zip(now.iter().zip(&self.window)) {
                *place = sample * weight;
            }
            self.transform
                .process_with_scratch(&mut frame, &mut spectrum, &mut scratch)
                .map_err(|error| Problem::Broken(format!("fourier transform: {error}")))?;
            for (place, value) in power.iter_mut().zip(&spectrum) {
                *place = value.norm_sqr();
            }
            visit(&power);
        }
        Ok(())
    }
}

/// A periodic Hann window.
pub fn hann(size: usize) -> impl Iterator<Item = f64> {
    let step = std::f64::consts::TAU / size as f64;
    (0..size).map(move |place| 0.5 - 0.5 * (step * place as f64).cos())
}
