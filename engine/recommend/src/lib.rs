//! What to play next, without tensors.
//!
//! 1. [`recommender`]: the contract between the stream and anything that can rank tracks, and
//!    [`contract`], the same as a test that every implementation calls.
//! 2. [`training`]: the first part of a log, as models are trained on it.
//! 3. [`listeners`]: what each listener has played, and the questions that follow from it.
//! 4. [`catalogue`]: which tracks may be ranked, and the order of equals.
//! 5. [`popularity`], [`rules`], [`centroid`]: the recommenders that need no model.
//! 6. [`ladder`]: the best recommender that fits the time there is.
//! 7. [`ranking`], [`interval`], [`tally`], [`prequential`]: where the actual play stood, what that is
//!    worth on the mean, how sure that is, and how it went over time.
//! 8. [`reservoir`]: what online learning draws from.
//! 9. [`stage`]: what the lanes say → measured, learnt from, answered, written.
//!
//! This room does not know tch, Kafka or HTTP, reads no clock, and starts no thread.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod catalogue;
pub mod centroid;
pub mod contract;
mod counts;
pub mod interval;
mod kept;
pub mod ladder;
pub mod listeners;
pub mod popularity;
pub mod prequential;
pub mod ranking;
pub mod recommender;
pub mod reservoir;
pub mod rules;
pub mod stage;
pub mod tally;
pub mod training;

pub use recommender::{Ask, ContextPlay, Example, Recommender};
