//! Tracks we know.
//!
//! 1. [`directory`]: track key → dense id; one owner, any reader.
//! 2. [`content`]: what is known of a track by its listens: its names.
//! 3. [`library`]: what files know of tracks beside that: audio, albums, lyrics, ratings.
//!    [`current_library`]: the same while it changes.
//! 4. [`modality`]: what a content vector is made of.
//! 5. [`durations`]: lengths of tracks, estimated from everybody's gaps.
//! 6. [`encoder`]: the contract of anything that turns content into a vector.
//! 7. [`newcomers`]: unseen tracks, encoded in micro-batches off the hot path.
//! 8. [`ratings`]: tracks rated by the attributes of MGPHot: schema, files, prompts, answers, agreement,
//!    the part of a content vector.
//!
//! This room does not know sessions or models.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod content;
pub mod current_library;
pub mod directory;
pub mod durations;
pub mod encoder;
pub mod library;
pub mod modality;
pub mod newcomers;
pub mod ratings;
