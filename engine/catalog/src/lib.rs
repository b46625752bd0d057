//! Tracks we know.
//!
//! 1. [`directory`]: track key → dense id; one owner, any reader.
//! 2. [`content`]: what is known of a track: names now, audio and lyrics later.
//! 3. [`durations`]: lengths of tracks, estimated from everybody's gaps.
//! 4. [`encoder`]: the contract of anything that turns content into a vector.
//! 5. [`newcomers`]: unseen tracks, encoded in micro-batches off the hot path.
//!
//! This room does not know sessions or models.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod content;
pub mod directory;
pub mod durations;
pub mod encoder;
pub mod newcomers;
