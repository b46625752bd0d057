//! The keyed state: who listens, to what, in which session, and how much of it was heard.
//!
//! 1. [`arrival`]: what a lane's records become: dense, copied, free of text.
//! 2. [`decoder`]: bytes → arrivals; interns listeners and tracks (`spellings`
//!    is its memory of how they are written), announces first sights.
//! 3. [`update`]: what the stage tells those downstream.
//! 4. [`stage`]: the state and its rules, one owner per lane.
//!
//! This room does not know recall, models or Kafka.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod arrival;
pub mod decoder;
mod snapshot;
mod spellings;
pub mod stage;
pub mod update;

pub use arrival::Arrival;
pub use decoder::{LONGEST_USER, ListenDecoder};
pub use stage::{ListeningStage, SessionSettings};
pub use update::{PlayUpdate, Settled, Stated, Update, Witness};
