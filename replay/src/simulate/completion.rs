//! How much of a track is heard, as real listeners do it.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Plays by completion ratio, in bins of 0.05: 123,937 plays of eight listeners' Spotify extended
/// streaming histories, pooled (58.8 % at least 0.95, 27.7 % below 0.10). A count, not the data.
pub const REAL_COMPLETION: [u32; 20] = [
    30_831, 3_537, 1_867, 1_333, 1_154, 1_063, 996, 934, 891, 869, 847, 884, 857, 786, 814, 776,
    819, 851, 946, 72_882,
];

/// The share of the last bin that is heard to the very end.
const TO_THE_END: f64 = 0.95;

/// A completion ratio in `[0, 1]`. Of a track that is `liked` it is drawn from the upper side of the
/// real distribution, else from the lower: the greater or the smaller of two quantiles. If half of
/// all plays are of liked tracks, all plays together have exactly the real distribution.
pub(super) fn ratio(liked: bool, rng: &mut ChaCha8Rng) -> f64 {
    let (a, b): (f64, f64) = (rng.random(), rng.random());
    let quantile = if liked { a.max(b) } else { a.min(b) };
    let total: u32 = REAL_COMPLETION.iter().sum();
    let mut left = quantile * f64::from(total);
    for (bin, &count) in REAL_COMPLETION.iter().enumerate() {
        let count = f64::from(count);
        if left < count {
            let within = left / count;
            if bin + 1 == REAL_COMPLETION.len() && within > 1.0 - TO_THE_END {
                return 1.0;
            }
            return (bin as f64 + within) / REAL_COMPLETION.len() as f64;
        }
        left -= count;
    }
    1.0
}
