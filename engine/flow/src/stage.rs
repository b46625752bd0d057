//! A thread's worth of state.

use segue_listen::Watermark;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::epoch::Epoch;
use crate::remedy::Remedy;

/// Why a stage cannot go on. Bad *data* never gets here: it was dead-lettered at the decoder.
#[derive(Debug, thiserror::Error)]
#[error("{stage}: {detail}")]
pub struct StageError {
    /// The stage's name.
    pub stage: &'static str,
    /// What happened, to which lane, offset or key.
    pub detail: String,
    /// What Segue does about it.
    pub remedy: Remedy,
}

/// What a checkpoint can hold.
pub trait Kept: Serialize + DeserializeOwned {}
impl<T: Serialize + DeserializeOwned> Kept for T {}

/// A result after which somebody may be waiting for an answer.
pub trait Asks {
    /// Who is to be answered after it, in the lane's own numbers.
    fn asks_for(&self) -> Option<u32>;

    /// A later result asks for the same: this one need not be answered any more. What it says still
    /// counts.
    fn answered_later(&mut self);
}

/// State with one owner. Batches go in and come out; time moves only through `advance`.
pub trait Stage: Send {
    /// What it takes.
    type In: Kept + Clone;
    /// What it gives.
    type Out: Asks;
    /// Its state in a checkpoint.
    type Snapshot: Kept;

    /// Is shown what it is going to take soon, so that the memory which that needs is asked for together.
    /// Decides nothing: results are the same without it.
    fn look_ahead(&self, _batch: &[Self::In]) {}

    /// Takes a batch in order, appending results to `out`.
    ///
    /// # Errors
    /// See [`StageError`].
    fn absorb(&mut self, batch: &[Self::In], out: &mut Vec<Self::Out>) -> Result<(), StageError>;

    /// Event time has come to `to`: timers that are due fire here, and only here.
    ///
    /// # Errors
    /// See [`StageError`].
    fn advance(&mut self, to: Watermark, out: &mut Vec<Self::Out>) -> Result<(), StageError>;

    /// Nothing has come for a while by the machine's clock: tells what it would tell if time went on,
    /// though it has not. What comes later may take it back; what finally stands does not change.
    ///
    /// # Errors
    /// See [`StageError`].
    fn idle(&mut self, out: &mut Vec<Self::Out>) -> Result<(), StageError>;

    /// The state as of the barrier that closed `epoch`.
    fn snapshot(&self, epoch: Epoch) -> Self::Snapshot;

    /// Takes up a state.
    ///
    /// # Errors
    /// A snapshot that does not fit: [`Remedy::Restore`].
    fn restore(&mut self, snapshot: Self::Snapshot) -> Result<(), StageError>;
}
