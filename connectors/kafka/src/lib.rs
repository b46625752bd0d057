//! Kafka: a partition as a [`Source`](segue_flow::Source), topics as a [`Sink`](segue_flow::Sink).
//!
//! In reading order: [`settings`] (what can be set), `security` and `client` (the settings as
//! librdkafka wants them), `complaints` (what it says meanwhile), [`topics`] (made, counted, looked
//! at), [`member`] (which partitions are ours), `partition_queue` (messages by the run), [`source`],
//! [`sink`], [`error`]; with the feature `test-broker`, `broker`: a real one for tests.
//!
//! Absent here: records are bytes, and nobody decodes them; a partition is a number, and whoever reads
//! it keeps its state; and no topic is ever made by writing to it.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

#[cfg(feature = "test-broker")]
pub mod broker;
mod client;
mod complaints;
mod delivery;
pub mod error;
pub mod member;
mod partition_queue;
mod security;
pub mod settings;
pub mod sink;
pub mod source;
pub mod topics;

pub use error::KafkaError;
pub use member::{Fence, Holding, Joining, Member};
pub use settings::{Mechanism, Protocol, Security, Settings};
pub use sink::{Guarantee, KafkaSink};
pub use source::{KafkaSource, Until};
pub use topics::{PartitionState, committed, ensure_topic, inspect, partitions};
