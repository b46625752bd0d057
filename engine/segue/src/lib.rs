//! The binary's rooms, as a library so that tests run the same wiring.
//!
//! 1. [`config`]: one typed configuration, composed from the rooms' own settings.
//! 2. [`pipeline`]: the wiring.
//! 3. [`keying`]: whether a topic is keyed the way lanes need it.
//! 4. [`recovery`]: the checkpoint that a run goes on from.
//! 5. [`shares`]: the same for one of several instances: lanes go on from wherever they were.
//! 6. [`input`]: logs (or a simulated one) → the engine, in this process.
//! 7. [`models`] (feature `torch`): device, encoder, and what is taught on the first part of a log.
//! 8. [`trained`] (feature `torch`): the folder of models that were trained before.
//! 9. [`watch`]: progress bars and the latency histogram.
//! 10. [`report`]: what a run did, for people and for programs.
//! 11. [`http`]: health, readiness, metrics.
//! 12. [`shutdown`]: SIGINT and SIGTERM.
//! 13. [`commands`]: what people type.
//!
//! This room does not know the inside of any other.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod answering;
pub mod commands;
pub mod config;
pub mod http;
pub mod input;
pub mod keying;
#[cfg(feature = "torch")]
pub mod models;
pub mod pipeline;
pub mod queues;
pub mod recovery;
pub mod report;
pub mod shares;
pub mod shutdown;
pub mod stuck;
#[cfg(feature = "torch")]
pub mod trained;
pub mod watch;
