//! The contract of what turns sound into a vector.

use super::decode::Samples;
use crate::EncodeError;

/// A model of sound on one device, for one thread.
pub trait AudioModel: Send {
    /// Its name in logs and metrics.
    fn name(&self) -> &'static str;

    /// Samples a second that it is given.
    fn rate(&self) -> u32;

    /// Channels that it is given: 1 or 2.
    fn channels(&self) -> usize {
        1
    }

    /// The length of its vectors.
    fn dimensions(&self) -> usize;

    /// The vector of one stretch of sound at its rate, of any length from a tenth of a second on. The
    /// same samples give the same vector.
    fn embed(&mut self, samples: &Samples) -> Result<Vec<f32>, EncodeError>;
}
