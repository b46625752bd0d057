//! 63 numbers of a track that need no learning: timbre, brightness, loudness, noisiness and tempo.
//!
//! As librosa computes them with its defaults. The mean over time, then the deviation, of
//!
//! | numbers | of |
//! | --- | --- |
//! | 20 + 20 | mel-frequency cepstral coefficients |
//! | 1 + 1 | spectral centroid, Hz |
//! | 7 + 7 | spectral contrast, dB, of the octaves above 200 Hz and of what is below |
//! | 1 + 1 | spectral rolloff (85 % of the magnitudes lie below), Hz |
//! | 1 + 1 | root mean square |
//! | 1 + 1 | share of zero crossings |
//! | 1 | tempo, beats a minute; 0 where nothing begins |
//!
//! The numbers are of very different size: what learns from them has to scale them.

use super::decode::Samples;
use super::error::Problem;
use super::mel::MelBands;
use super::model::AudioModel;
use super::spectrum::{Edge, Spectrum};
use super::tempo::tempo;
use crate::EncodeError;

/// How many numbers there are.
pub const NUMBERS: usize = 63;
/// The rate at which they are taken, in samples a second.
pub const RATE: u32 = 22_050;

const FRAME: usize = 2048;
/// Samples from one frame to the next.
pub(super) const HOP: usize = 512;
const BANDS: usize = 128;
const COEFFICIENTS: usize = 20;
/// Bands of the contrast: what is below 200 Hz, and six octaves.
const OCTAVES: usize = 7;
const LOWEST_OCTAVE: f64 = 200.0;
/// The share of an octave's bins that counts as its peak, and as its valley.
const EXTREME: f64 = 0.02;
const ROLLOFF: f64 = 0.85;
/// Decibels below the loudest at which a spectrum is cut.
const RANGE: f32 = 80.0;

/// The numbers of mono samples.
pub fn handcrafted(samples: &Samples) -> Result<Vec<f32>, Problem> {
    let nothing = Vec::new();
    let sound = samples.channels.first().unwrap_or(&nothing);
    let spectrum = Spectrum::new(FRAME, HOP, Edge::Silence);
    let bands = MelBands::new(samples.rate, FRAME, BANDS);
    let octaves = octaves(samples.rate, spectrum.bins());
    let hertz = f64::from(samples.rate) / FRAME as f64;

    let (mut mel, mut centroid, mut rolloff) = (Vec::new(), Vec::new(), Vec::new());
    let (mut peaks, mut valleys) = (Vec::new(), Vec::new());
    let mut magnitudes = Vec::new();
    spectrum.powers(sound, |power| {
        mel.extend(bands.of(power));
        magnitudes.clear();
        magnitudes.extend(power.iter().map(|power| power.sqrt()));
        centroid.push(centre(&magnitudes) * hertz);
        rolloff.push(rolled_off(&magnitudes) * hertz);
        for octave in &octaves {
            let (valley, peak) = octave.extremes(&magnitudes);
            valleys.push(valley);
            peaks.push(peak);
        }
    })?;
    decibels(&mut mel);
    decibels(&mut peaks);
    decibels(&mut valleys);
    let contrast: Vec<f32> = peaks.iter().zip(&valleys).map(|(p, v)| p - v).collect();
    let cepstrum: Vec<f32> = mel.chunks_exact(BANDS).flat_map(cosines).collect();

    let mut numbers = Vec::with_capacity(NUMBERS);
    numbers.extend(moments(&cepstrum, COEFFICIENTS));
    numbers.extend(moments_of(&centroid));
    numbers.extend(moments(&contrast, OCTAVES));
    numbers.extend(moments_of(&rolloff));
    numbers.extend(moments_of(&loudness(sound)));
    numbers.extend(moments_of(&crossings(sound)));
    numbers.push(tempo(&mel, BANDS, samples.rate)?);
    Ok(numbers)
}

/// The numbers as a model; it has nothing to load.
#[derive(Debug, Clone, Copy, Default)]
pub struct Handcrafted;

impl AudioModel for Handcrafted {
    fn name(&self) -> &'static str {
        "handcrafted"
    }

    fn rate(&self) -> u32 {
        RATE
    }

    fn dimensions(&self) -> usize {
        NUMBERS
    }

    fn embed(&mut self, samples: &Samples) -> Result<Vec<f32>, EncodeError> {
        Ok(handcrafted(samples)?)
    }
}

/// The mean magnitude-weighted bin.
fn centre(magnitudes: &[f32]) -> f64 {
    let all: f64 = magnitudes.iter().map(|&m| f64::from(m)).sum();
    let weighted = magnitudes.iter().enumerate();
    let weighted: f64 = weighted.map(|(bin, &m)| bin as f64 * f64::from(m)).sum();
    match all < f64::from(f32::MIN_POSITIVE) {
        true => weighted,
        false => weighted / all,
    }
}

/// The first bin up to which there is most of the magnitudes.
fn rolled_off(magnitudes: &[f32]) -> f64 {
    // In the precision of librosa, so that the same bin is the first.
    let mut sum = 0f32;
    let sums: Vec<f32> = magnitudes
        .iter()
        .map(|magnitude| {
            sum += magnitude;
            sum
        })
        .collect();
    let enough = (ROLLOFF * f64::from(sum)) as f32;
    let first = sums.iter().position(|&sum| sum >= enough);
    first.unwrap_or(0) as f64
}

/// The bins of one octave.
struct Octave {
    first: usize,
    /// One past the last.
    end: usize,
    /// How many bins are its peak, and its valley.
    extreme: usize,
}

impl Octave {
    /// The mean of the quietest and of the loudest bins.
    fn extremes(&self, magnitudes: &[f32]) -> (f32, f32) {
        let inside = magnitudes.get(self.first..self.end).unwrap_or_default();
        let mut sorted = inside.to_vec();
        sorted.sort_unstable_by(f32::total_cmp);
        let count = self.extreme.min(sorted.len());
        let mean = |some: &[f32]| some.iter().sum::<f32>() / count.max(1) as f32;
        let (low, high) = (sorted.get(..count), sorted.get(sorted.len() - count..));
        (
            mean(low.unwrap_or_default()),
            mean(high.unwrap_or_default()),
        )
    }
}

/// The octaves as librosa cuts them: each has the bin before its first too, and all but the last
/// lose their last bin.
fn octaves(rate: u32, bins: usize) -> Vec<Octave> {
    let hertz = |bin: usize| bin as f64 * f64::from(rate) / FRAME as f64;
    let edge = |octave: usize| LOWEST_OCTAVE * f64::from(1u32 << octave);
    let octave = |number: usize| {
        let low = number.checked_sub(1).map_or(0.0, edge);
        let inside = |bin: &usize| (low..=edge(number)).contains(&hertz(*bin));
        let mut first = (0..bins).find(inside).unwrap_or(bins);
        let mut end = (0..bins).rfind(inside).map_or(bins, |last| last + 1);
        if number > 0 {
            first = first.saturating_sub(1);
        }
        let highest = number + 1 == OCTAVES;
        if highest {
            end = bins;
        }
        let extreme = (EXTREME * end.saturating_sub(first) as f64).round_ties_even();
        Octave {
            first,
            end: if highest { end } else { end.saturating_sub(1) },
            extreme: (extreme as usize).max(1),
        }
    };
    (0..OCTAVES).map(octave).collect()
}

/// Power in decibels, cut so far below the loudest of all.
fn decibels(values: &mut [f32]) {
    for value in values.iter_mut() {
        *value = 10.0 * value.max(1e-10).log10();
    }
    let loudest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for value in values.iter_mut() {
        *value = value.max(loudest - RANGE);
    }
}

/// The first coefficients of the orthonormal cosine transform (II) of one frame.
fn cosines(frame: &[f32]) -> Vec<f32> {
    let count = frame.len() as f64;
    let coefficient = |number: usize| {
        let step = std::f64::consts::PI * number as f64 / (2.0 * count);
        let terms = frame.iter().enumerate();
        let sum: f64 = terms
            .map(|(place, &value)| f64::from(value) * (step * (2 * place + 1) as f64).cos())
            .sum();
        let scale = if number == 0 { 1.0 } else { 2.0 };
        (sum * (scale / count).sqrt()) as f32
    };
    (0..COEFFICIENTS).map(coefficient).collect()
}

/// The root mean square of each frame.
fn loudness(sound: &[f32]) -> Vec<f64> {
    let padded = Edge::Silence.padded(sound, FRAME);
    let frames = padded.windows(FRAME).step_by(HOP);
    let power = |frame: &[f32]| frame.iter().map(|&s| f64::from(s * s)).sum::<f64>();
    frames
        .map(|frame| (power(frame) / FRAME as f64).sqrt())
        .collect()
}

/// The share of each frame's samples whose sign is not that of the one before.
fn crossings(sound: &[f32]) -> Vec<f64> {
    let padded = Edge::Held.padded(sound, FRAME);
    // What is next to zero counts as positive.
    let negative = |sample: f32| sample < -1e-10;
    let frames = padded.windows(FRAME).step_by(HOP);
    let count = |frame: &[f32]| {
        let pairs = frame.windows(2);
        pairs
            .filter(|pair| matches!(pair, [a, b] if negative(*a) != negative(*b)))
            .count()
    };
    frames
        .map(|frame| count(frame) as f64 / FRAME as f64)
        .collect()
}

/// Means, then deviations, of columns; `[frames, width]`.
fn moments(values: &[f32], width: usize) -> Vec<f32> {
    let column = |number: usize| -> Vec<f64> {
        let rows = values.chunks_exact(width);
        rows.filter_map(|row| row.get(number).map(|&value| f64::from(value)))
            .collect()
    };
    let each: Vec<[f32; 2]> = (0..width)
        .map(|number| moments_of(&column(number)))
        .collect();
    let part = |which: usize| each.iter().filter_map(move |pair| pair.get(which).copied());
    part(0).chain(part(1)).collect()
}

/// Mean and deviation.
fn moments_of(values: &[f64]) -> [f32; 2] {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let spread = values
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f64>()
        / count;
    [mean as f32, spread.sqrt() as f32]
}
