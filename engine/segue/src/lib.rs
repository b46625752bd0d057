//! The binary's rooms, as a library so that tests run the same wiring.
//!
//! 1. [`config`]: one typed configuration, composed from the rooms' own settings.
//! 2. [`pipeline`]: the wiring.
//! 3. [`recovery`]: the checkpoint that a run goes on from.
//! 4. [`input`]: logs (or a simulated one) → the engine, in this process.
//! 5. [`models`] (feature `torch`): device, encoder, and what is taught on the first part of a log.
//! 6. [`watch`]: progress bars and the latency histogram.
//! 7. [`report`]: what a run did, for people and for programs.
//! 8. [`http`]: health, readiness, metrics.
//! 9. [`shutdown`]: SIGINT and SIGTERM.
//! 10. [`commands`]: what people type.
//!
//! This room does not know the inside of any other.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod commands;
pub mod config;
pub mod http;
pub mod input;
#[cfg(feature = "torch")]
pub mod models;
pub mod pipeline;
pub mod recovery;
pub mod report;
pub mod shutdown;
pub mod watch;
