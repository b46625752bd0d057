//! The embedded log: topics, partitions and offsets as in Kafka, in one directory, with no broker.
//!
//! A [`Log`] is opened on a directory; [`Log::source`] reads one partition, [`Log::sink`] writes
//! epochs over any number of topics. An epoch's records, in all their partitions, become visible
//! together when it is committed; what a crash leaves half-written is never read and is cut off by
//! the next writer. Readers may be in the same process, where a commit wakes them, or in another.
//!
//! In reading order: `frame` (a record's bytes), `segment` (files of records), `commits` (what is
//! visible), `log` (the directory), `source`, `sink`.
//!
//! This room knows bytes, keys and offsets. It does not decode records, and knows no clock.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod commits;
mod error;
mod frame;
mod log;
mod segment;
mod settings;
mod sink;
mod source;

pub use commits::{Commit, End, TopicEnd};
pub use error::LogError;
pub use log::Log;
pub use settings::Settings;
pub use sink::LogSink;
pub use source::{LogSource, Until};
