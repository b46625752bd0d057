//! What to play next, by models that learn.
//!
//! - [`settings`]: everything that can be tuned;
//! - [`loss`]: the losses, as functions with tests;
//! - [`item_encoders`]: SASRec, which gives items their vectors and is a recommender of its own.
//!
//! Everything here runs on the thread that owns the model and on the device it is given. Results
//! depend on the seed, the log and the tracks' keys; never on dense ids or the clock.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod chance;
mod error;
pub mod item_encoders;
pub mod loss;
mod optimise;
mod scoring;
pub mod settings;
mod windows;

pub use error::ModelError;
