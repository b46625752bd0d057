//! What to play next, without tensors.
//!
//! 1. [`recommender`]: the contract between the stream and anything that can rank tracks.
//! 2. [`training`]: the first part of a log, as models are trained on it.
//!
//! This room does not know tch, Kafka or HTTP.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod recommender;
pub mod training;
