//! Listening logs as time-ordered, keyed, paced listens and heartbeats.
//!
//! In reading order:
//!
//! 1. [`inputs`]: which logs the named files and folders hold.
//! 2. [`open`], [`lines`], [`elements`], [`iso`]: bytes, unpacked on the way, as rows.
//! 3. [`formats`]: rows as listens; [`rejects`]: rows that are none.
//! 4. [`merge`], [`ordered`]: one time order, in memory that does not grow with the log.
//!
//! This room does not know Kafka (it is given a [`segue_flow::Sink`]), sessions or models. It drops
//! nothing that is a listen: duplicates and disorder are the engine's to judge.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod elements;
pub mod error;
pub mod formats;
pub mod inputs;
pub mod iso;
pub mod lines;
pub mod merge;
pub mod open;
pub mod ordered;
pub mod rejects;
pub mod settings;

pub use error::ReplayError;
pub use inputs::Inputs;
pub use ordered::{OrderedListens, ReadProgress, ReadReport};
pub use rejects::{Reason, RejectCounts, Rejects};
pub use settings::{MergeSettings, ReadSettings};
