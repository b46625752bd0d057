//! Models that give items their vectors from sequences of plays alone.
//!
//! - [`ItemEncoder`]: what each of them offers, over what a recommender does;
//! - [`ItemEncoderSettings`]: which one, to be trained or to take up a state;
//! - [`SequenceEncoder`]: what all of them are around their network: rows by key, the tracks that can
//!   be ranked, training, checkpoints;
//! - [`SasRec`], [`Bert4Rec`], [`Gru4Rec`]: the networks.
//!
//! None of them learns online, and a track that was not in the training log has no rank.

mod bert4rec;
mod choice;
mod encoder;
mod gru4rec;
mod network;
mod sasrec;
mod state;
mod training;
mod transformer;

pub use self::choice::{ItemEncoder, ItemEncoderSettings};
pub use self::encoder::SequenceEncoder;
pub(crate) use self::network::{Course, ItemTable, Reading, SequenceNetwork, Windows};
pub use self::training::ItemEncoderReport;
pub(crate) use self::transformer::{Leaves, Norm};

/// SASRec: causal self-attention.
pub type SasRec = SequenceEncoder<sasrec::Network>;
/// BERT4Rec: self-attention in both directions, taught to fill in hidden plays.
pub type Bert4Rec = SequenceEncoder<bert4rec::Network>;
/// GRU4Rec: gated recurrent units.
pub type Gru4Rec = SequenceEncoder<gru4rec::Network>;

#[cfg(test)]
mod tests;
