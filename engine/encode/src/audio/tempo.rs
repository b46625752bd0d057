//! Beats a minute: how far apart what begins in the music repeats (Ellis, 2007; librosa's estimate).

use realfft::RealFftPlanner;

use super::error::Problem;
use super::handcrafted::HOP;
use super::spectrum::hann;

/// Seconds in which repetitions are looked for.
const STRETCH: f64 = 8.0;
/// The most likely tempo; one of half or twice as much is as likely as a deviation.
const LIKELY: f64 = 120.0;
/// Nothing is faster.
const FASTEST: f64 = 320.0;
/// Frames before the first onset: one for the difference, two since frames are centred.
const LEAD: usize = 3;

/// The tempo of a mel spectrogram in decibels, `[frames, bands]`. 0 if nothing begins in it.
pub fn tempo(mel: &[f32], bands: usize, rate: u32) -> Result<f32, Problem> {
    let onsets = onsets(mel, bands);
    if onsets.iter().all(|&onset| onset == 0.0) {
        return Ok(0.0);
    }
    let per_second = f64::from(rate) / HOP as f64;
    let stretch = (STRETCH * per_second).floor() as usize;
    let repeats = repetitions(&onsets, stretch)?;
    let mut best = (0.0, f64::NEG_INFINITY);
    for (lag, repeats) in repeats.iter().enumerate().skip(1) {
        let tempo = 60.0 * per_second / lag as f64;
        if tempo >= FASTEST {
            continue;
        }
        let prior = -0.5 * (tempo / LIKELY).log2().powi(2);
        let score = (1e6 * repeats).ln_1p() + prior;
        if score > best.1 {
            best = (tempo, score);
        }
    }
    Ok(best.0 as f32)
}

/// How much louder each frame is than the one before, in the median of the bands.
fn onsets(mel: &[f32], bands: usize) -> Vec<f64> {
    let frames: Vec<&[f32]> = mel.chunks_exact(bands).collect();
    let risen = frames.windows(2).map(|pair| {
        let &[before, now] = pair else { return 0.0 };
        let rises = now.iter().zip(before);
        let mut rises: Vec<f32> = rises.map(|(now, before)| (now - before).max(0.0)).collect();
        median(&mut rises)
    });
    let lead = std::iter::repeat_n(0.0, LEAD);
    lead.chain(risen).take(frames.len()).collect()
}

fn median(values: &mut [f32]) -> f64 {
    values.sort_unstable_by(f32::total_cmp);
    let (half, count) = (values.len() / 2, values.len());
    let upper = values.get(half).copied().unwrap_or(0.0);
    let lower = values.get(half.saturating_sub(1)).copied().unwrap_or(upper);
    match count % 2 {
        0 => f64::from((lower + upper) / 2.0),
        _ => f64::from(upper),
    }
}

/// For each lag in frames, how alike the onsets are to those so much earlier: the autocorrelation of
/// the stretch around each frame, its largest value 1, in the mean of all frames.
fn repetitions(onsets: &[f64], stretch: usize) -> Result<Vec<f64>, Problem> {
    let broken = |error: realfft::FftError| Problem::Broken(format!("fourier transform: {error}"));
    let half = stretch / 2;
    let ramp = |edge: f64| (0..half).map(move |place| edge * place as f64 / half as f64);
    let (first, last) = (onsets.first(), onsets.last());
    let mut padded: Vec<f64> = ramp(first.copied().unwrap_or(0.0)).collect();
    padded.extend_from_slice(onsets);
    padded.extend(
        ramp(last.copied().unwrap_or(0.0))
            .collect::<Vec<_>>()
            .iter()
            .rev(),
    );

    let window: Vec<f64> = hann(stretch).collect();
    // Long enough that the end does not meet the beginning.
    let size = (2 * stretch).next_power_of_two();
    let mut planner = RealFftPlanner::<f64>::new();
    let (forward, back) = (
        planner.plan_fft_forward(size),
        planner.plan_fft_inverse(size),
    );
    let mut signal = forward.make_input_vec();
    let mut spectrum = forward.make_output_vec();
    let mut mean = vec![0f64; stretch];
    for now in padded.windows(stretch).take(onsets.len()) {
        signal.fill(0.0);
        for (place, (onset, weight)) in signal.iter_mut().zip(now.iter().zip(&window)) {
            *place = onset * weight;
        }
        forward
            .process(&mut signal, &mut spectrum)
            .map_err(broken)?;
        for value in &mut spectrum {
            *value = realfft::num_complex::Complex::new(value.norm_sqr(), 0.0);
        }
        back.process(&mut spectrum, &mut signal).map_err(broken)?;
        let likeness = signal.get(..stretch).unwrap_or_default();
        let largest = likeness
            .iter()
            .fold(0f64, |most, value| value.abs().max(most));
        let scale = if largest < f64::MIN_POSITIVE {
            1.0
        } else {
            1.0 / largest
        };
        for (sum, value) in mean.iter_mut().zip(likeness) {
            *sum += value * scale / onsets.len() as f64;
        }
    }
    Ok(mean)
}
