//! Frequency as it is heard: Slaney's mel scale, as in Auditory Toolbox and librosa.

/// The scale is linear up to here, in Hz, and logarithmic above.
const BREAK: f64 = 1000.0;
/// Hz of one mel below the break.
const LINEAR: f64 = 200.0 / 3.0;
/// Mels above the break in which the frequency grows by a factor of 6.4.
const LOGARITHMIC: f64 = 27.0;

/// Overlapping triangles over the bins of a spectrum, each of the same area.
#[derive(Debug)]
pub struct MelBands {
    /// Per band: its first bin, and the weights from there on.
    bands: Vec<(usize, Vec<f32>)>,
}

impl MelBands {
    /// `count` bands from 0 Hz to half the rate, over the `size / 2 + 1` bins of frames of `size`
    /// samples.
    pub fn new(rate: u32, size: usize, count: usize) -> Self {
        let highest = f64::from(rate) / 2.0;
        let corners: Vec<f64> = (0..count + 2)
            .map(|number| hertz(mels(highest) * number as f64 / (count + 1) as f64))
            .collect();
        let bin = |number: usize| number as f64 * f64::from(rate) / size as f64;
        let bands = corners.windows(3).map(|corners| {
            let &[low, middle, high] = corners else {
                return (0, Vec::new());
            };
            let weight = |at: f64| {
                let slope = ((at - low) / (middle - low)).min((high - at) / (high - middle));
                (slope.max(0.0) * 2.0 / (high - low)) as f32
            };
            let inside: Vec<usize> = (0..=size / 2)
                .filter(|&number| weight(bin(number)) > 0.0)
                .collect();
            let weights = inside.iter().map(|&number| weight(bin(number)));
            (inside.first().copied().unwrap_or(0), weights.collect())
        });
        Self {
            bands: bands.collect(),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.bands.len()
    }

    /// What each band holds of a power spectrum.
    pub fn of<'a>(&'a self, power: &'a [f32]) -> impl Iterator<Item = f32> + 'a {
        self.bands.iter().map(|(first, weights)| {
            let bins = power.iter().skip(*first);
            bins.zip(weights).map(|(bin, weight)| bin * weight).sum()
        })
    }
}

fn mels(hertz: f64) -> f64 {
    match hertz < BREAK {
        true => hertz / LINEAR,
        false => BREAK / LINEAR + LOGARITHMIC * (hertz / BREAK).ln() / 6.4f64.ln(),
    }
}

fn hertz(mels: f64) -> f64 {
    let above = mels - BREAK / LINEAR;
    match above < 0.0 {
        true => mels * LINEAR,
        false => BREAK * (6.4f64.ln() * above / LOGARITHMIC).exp(),
    }
}
