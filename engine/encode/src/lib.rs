//! Encoders: what is known of a track, as a vector.
//!
//! 1. [`audio`]: files as samples, and what is heard in them;
//! 2. [`track_text`]: title, artist and album as the one line of text that is embedded;
//! 3. [`bert`], [`mpnet`]: the networks of texts, from their published weights;
//! 4. [`text`]: texts in, normalised vectors out, in micro-batches of similar length; implements
//!    [`segue_catalog::encoder::Encoder`];
//! 5. [`ratings`]: how a track is rated, as numbers;
//! 6. [`multimodal`]: several of these as segments of one vector;
//! 7. [`vector_cache`]: what was encoded once, on disk by its content;
//! 8. [`rater`]: a language model that rates tracks by the attributes of MGPHot.
//!
//! This room does not know sessions, Kafka or recommenders. An encoder owns its model and is used
//! by one thread; it starts none.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod audio;
pub mod bert;
mod encoder_layer;
mod error;
pub mod mpnet;
pub mod multimodal;
pub mod rater;
pub mod ratings;
pub mod text;
mod text_model;
pub mod track_text;
pub mod vector_cache;

pub use error::EncodeError;

#[cfg(test)]
mod tests;
