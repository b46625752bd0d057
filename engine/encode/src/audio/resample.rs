//! From a file's rate to a model's.

use rubato::audioadapter_buffers::direct::SequentialSliceOfVecs;
use rubato::{Fft, FixedSync, Resampler, WindowFunction};

use super::decode::Samples;
use super::error::Problem;

/// Samples of one block at the lower of the two rates. The filter is as long: flat up to 0.95 of
/// the highest frequency that both rates can carry, and down by more than 100 dB at it.
const BLOCK: usize = 512;

/// The samples at another rate: band-limited, so that nothing is heard that was not there.
///
/// The vectors of music models move visibly with a bad resampler (a cosine of 0.97 for a linear
/// one); with any two good ones they agree to 0.999.
pub fn resampled(samples: Samples, rate: u32) -> Result<Samples, Problem> {
    if samples.rate == rate || samples.frames() == 0 {
        return Ok(Samples { rate, ..samples });
    }
    let failed = |error: &dyn std::fmt::Display| Problem::Broken(format!("resampler: {error}"));
    let (from, to) = (samples.rate as usize, rate as usize);
    let block = BLOCK * from.max(to) / from.min(to).max(1);
    // Only one of the sides is fixed, in samples of its own rate.
    let (fixed, block) = match from >= to {
        true => (FixedSync::Input, block),
        false => (FixedSync::Output, block),
    };
    let (channels, frames) = (samples.channels.len(), samples.frames());
    let window = WindowFunction::BlackmanHarris2;
    let mut resampler = Fft::<f32>::new_custom(from, to, block, 1, channels, window, fixed)
        .map_err(|error| failed(&error))?;
    let input = SequentialSliceOfVecs::new(&samples.channels, channels, frames)
        .map_err(|error| failed(&error))?;
    let output = resampler
        .process_all(&input, frames, None)
        .map_err(|error| failed(&error))?;
    let interleaved = output.take_data();
    // Whatever rounding adds at the end is no sound.
    let length = (frames as f64 * f64::from(rate) / f64::from(samples.rate)).round() as usize;
    let channel = |number: usize| {
        let all = interleaved.iter().skip(number).step_by(channels);
        all.take(length)
    };
    Ok(Samples {
        channels: (0..channels)
            .map(|number| channel(number).copied().collect())
            .collect(),
        rate,
    })
}
