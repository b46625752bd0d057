//! Which seconds of a track are listened to.
//!
//! A crop is a function of the file alone, so the same file has the same vector, today and on
//! another machine. Only what is listened to is decoded: a file of ten hours costs as much as one of
//! three minutes.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::decode::{AudioFile, Samples, fenced};
use super::error::{AudioError, Problem};
use super::resample::resampled;

/// Shorter than this there is nothing to encode: a few frames of any model's front end.
const SHORTEST: f64 = 0.1;
/// Below this amplitude (-80 dB) nobody hears anything, and a vector would be one of dither.
const SILENCE: f32 = 1e-4;
/// Where to listen instead, as shares of the length, when the middle of a track is silent.
const ELSEWHERE: [f64; 2] = [0.25, 0.75];
/// Where of what was promised less than this share is there, the promise was wrong.
const KEPT_PROMISE: f64 = 0.9;

/// What is listened to: one stretch from the middle of the track, or several, evenly spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Crop {
    /// Length of a stretch in seconds. A shorter track is taken whole.
    pub seconds: f64,
    /// Stretches. Of `n`, each is around the middle of its `n`th part of the track; what is encoded
    /// of them is averaged.
    pub count: usize,
}

impl Default for Crop {
    fn default() -> Self {
        Self {
            seconds: 30.0,
            count: 1,
        }
    }
}

impl Crop {
    /// What is out of range, by its key.
    pub fn check(&self) -> Result<(), String> {
        if !(SHORTEST..=600.0).contains(&self.seconds) {
            return Err(format!("seconds is {}, of 0.1 to 600", self.seconds));
        }
        if !(1..=64).contains(&self.count) {
            return Err(format!("count is {}, of 1 to 64", self.count));
        }
        Ok(())
    }

    /// Where each stretch begins in a track of so many seconds. A track that is no longer than a
    /// stretch has one, from its start; nowhere do more than two overlap.
    pub fn starts(&self, length: f64) -> Vec<f64> {
        let free = length - self.seconds;
        if free <= 0.0 {
            return vec![0.0];
        }
        let enough = (length / self.seconds).ceil() as usize;
        let count = self.count.min(enough).max(1);
        let middle = |number: usize| length * (2 * number + 1) as f64 / (2 * count) as f64;
        (0..count)
            .map(|number| (middle(number) - self.seconds / 2.0).clamp(0.0, free))
            .collect()
    }
}

/// What is to be heard of a file, at a model's rate, in its number of channels (1 or 2). At least
/// one stretch; none is silent, none longer than the crop.
pub fn listen(
    path: &Path,
    crop: &Crop,
    rate: u32,
    channels: usize,
) -> Result<Vec<Samples>, AudioError> {
    fenced(path, |path| {
        let listener = Listener {
            path,
            crop,
            rate,
            channels,
        };
        let claimed = AudioFile::open(path)?.claimed_seconds();
        if let Some(length) = claimed
            && let Ok(stretches) = listener.stretches(length)
        {
            let heard: f64 = stretches.iter().map(Samples::seconds).sum();
            let promised = crop.seconds.min(length) * crop.starts(length).len() as f64;
            if heard >= KEPT_PROMISE * promised {
                return listener.audible(stretches, length);
            }
        }
        // The header says nothing, or what is not so: the file itself is asked.
        let length = AudioFile::open(path)?.measured_seconds()?;
        listener.audible(listener.stretches(length)?, length)
    })
}

struct Listener<'a> {
    path: &'a Path,
    crop: &'a Crop,
    rate: u32,
    channels: usize,
}

impl Listener<'_> {
    /// The stretches of a track of so many seconds, at the file's own rate.
    fn stretches(&self, length: f64) -> Result<Vec<Samples>, Problem> {
        let starts = self.crop.starts(length);
        starts.iter().map(|&from| self.stretch(from)).collect()
    }

    fn stretch(&self, from: f64) -> Result<Samples, Problem> {
        // Opened anew: after a seek backwards not every format is where it says.
        AudioFile::open(self.path)?.read(from, self.crop.seconds, self.channels)
    }

    /// Those in which there is something to hear, at the model's rate.
    fn audible(&self, mut stretches: Vec<Samples>, length: f64) -> Result<Vec<Samples>, Problem> {
        let heard: f64 = stretches.iter().map(Samples::seconds).sum();
        if heard < SHORTEST {
            return Err(Problem::Short(heard));
        }
        stretches.retain(|samples| samples.peak() > SILENCE);
        let free = (length - self.crop.seconds).max(0.0);
        for share in ELSEWHERE {
            if stretches.is_empty() && free > 0.0 {
                let other = self.stretch(free * share)?;
                stretches.extend(Some(other).filter(|samples| samples.peak() > SILENCE));
            }
        }
        if stretches.is_empty() {
            return Err(Problem::Silent);
        }
        let longest = (self.crop.seconds * f64::from(self.rate)).round() as usize;
        let at_rate = stretches.into_iter().map(|samples| {
            let mut samples = resampled(samples, self.rate)?;
            for row in &mut samples.channels {
                row.truncate(longest);
            }
            Ok(samples)
        });
        at_rate.collect()
    }
}
