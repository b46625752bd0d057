//! Checkpoints, over each kind of place.
//!
//! - `contract`: what every place has to hold, run over memory, a local disk and a real S3 server.
//! - `crash`: the process ends after any object operation, or fails on it.
//! - `local`: what only a disk has: locks, half-written files, a place that cannot be written.
//! - `s3`: the server, and what only it has: credentials, a missing bucket.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod contract;
mod crash;
mod faults;
mod local;
#[cfg(feature = "test-s3")]
mod s3;
