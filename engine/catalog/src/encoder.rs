//! The contract of anything that turns a track's content into a vector.

use segue_flow::Remedy;
use segue_listen::TrackId;

use crate::content::TrackContent;
use crate::modality::{Modality, ModalityKind};

/// Why one track could not be encoded. It spoils its own row only: the track goes on without a
/// vector, is counted, and is kept in the dead letters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("track {track}: {detail}")]
pub struct ContentError {
    /// The track's key.
    pub track: String,
    /// What is wrong with its content.
    pub detail: String,
}

/// Why one segment of a track's vector could not be made. It spoils this segment only, which is zero: the
/// track goes on with the others, and what was wrong is counted and kept in the dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFault {
    /// The track.
    pub track: TrackId,
    /// The segment.
    pub kind: ModalityKind,
    /// What is wrong with its content.
    pub detail: String,
}

/// Why a whole batch could not be encoded.
#[derive(Debug, thiserror::Error)]
#[error("encoder {encoder}: {detail}")]
pub struct EncoderError {
    /// Which encoder.
    pub encoder: &'static str,
    /// What happened.
    pub detail: String,
    /// What Segue does about it.
    pub remedy: Remedy,
}

/// Turns tracks into vectors, a batch at a time, on a thread that owns it.
pub trait Encoder: Send {
    /// Its name in logs and metrics.
    fn name(&self) -> &'static str;

    /// The length of its vectors.
    fn dimensions(&self) -> usize;

    /// What its vectors are made of, in order; the dimensions add up to
    /// [`dimensions`](Encoder::dimensions). Text and nothing else unless it says so.
    fn modalities(&self) -> Vec<Modality> {
        vec![Modality {
            kind: ModalityKind::Text,
            dimensions: self.dimensions(),
        }]
    }

    /// Appends one row of [`dimensions`](Encoder::dimensions) numbers per track to `rows`, in order
    /// (`[tracks, dimensions]`, row-major), and returns one outcome per track. The row of a track
    /// that failed is zeros and must not be used. The same content gives the same row whatever else
    /// is in the batch, within floating-point tolerance.
    ///
    /// # Errors
    /// The encoder itself failed (out of memory, a lost device): no row is appended.
    fn encode(
        &mut self,
        tracks: &[TrackContent],
        rows: &mut Vec<f32>,
    ) -> Result<Vec<Result<(), ContentError>>, EncoderError>;

    /// What was wrong with single segments of the last batch, told once. One that makes one segment
    /// has nothing to tell: there, a track that fails has no row.
    fn take_faults(&mut self) -> Vec<SegmentFault> {
        Vec::new()
    }
}
