//! What to play next, by models that learn.
//!
//! - [`settings`]: everything that can be tuned;
//! - [`loss`]: the losses, as functions with tests;
//! - [`item_encoders`]: SASRec, BERT4Rec and GRU4Rec, which give items their vectors and are
//!   recommenders of their own;
//! - [`Footprint`]: what all of it takes of memory, before it is loaded;
//! - [`Foundation`], [`E4SRec`]: the language model that reads plays, [`E4SRec::fit`] to train it
//!   ([`E4SRec::fit_kept`], if it may have to stop and go on), [`E4SRec::online`] for a copy that learns, [`E4SRec::frozen`] for one that does not, and
//!   [`E4SRec::following`] for one that only counts and remembers.
//! - [`ClosedE4SRec`]: the same with the head it was published with, as a baseline.
//! - [`ZeroShot`]: what the language model recommends of itself, as another.
//!
//! Everything here runs on the thread that owns the model and on the device it is given. Results
//! depend on the seed, the log and the tracks' keys; never on dense ids or the clock.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod adapter;
mod backbone;
mod chance;
mod closed;
mod coarse;
mod error;
mod footprint;
mod fusion;
mod guard;
mod head;
mod hidden;
mod history;
mod infer;
mod inputs;
pub mod item_encoders;
mod item_tower;
mod kept;
mod learner;
mod lines;
mod listener_cache;
pub mod loss;
mod memory;
mod model;
mod objective;
mod offline;
mod optimise;
mod personal;
mod popularity;
mod prompt;
mod scoring;
pub mod settings;
mod shortlist;
mod state;
mod windows;
mod zero_shot;

pub use adapter::{Journal, Publication};
pub use backbone::Foundation;
pub use closed::{ClosedE4SRec, ClosedSettings};
pub use error::ModelError;
pub use footprint::{ANSWERING, Footprint};
pub use history::{AdapterHistory, HistoryError, LayerDifference};
pub use lines::TrackFeatures;
pub use model::E4SRec;
pub use offline::{FitReport, Keeper};
pub use zero_shot::ZeroShot;

#[cfg(test)]
mod tests;
