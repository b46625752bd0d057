//! A listening log as a data set that others can work with: Parquet for plays, sessions and tracks,
//! safetensors for what tracks sound like and what is written of them, and a card that says what is
//! what. pandas and Hugging Face `datasets` read the folder as it is.
//!
//! 1. [`dataset`]: the folder: opened, fed with what a lane says, finished whole or not at all.
//! 2. [`split`]: where training, validation and test begin: at instants, the same for everybody.
//! 3. [`features`]: vectors of tracks, made here or read from a file of `segue encode`.
//! 4. [`card`]: `README.md`, with the head that Hugging Face reads.
//! 5. `listeners`: the plays of sessions that are still open: all of the log that is in memory.
//! 6. `tracks`: what is told of each track at the end.
//! 7. `table`: Parquet, a group of rows at a time.
//!
//! What comes in are the updates of the listening stage, so sessions, ratios and duplicates are what
//! they are everywhere in Segue. The same log gives the same bytes. This room links Parquet and knows
//! no files of logs, no models and no threads.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod card;
pub mod dataset;
mod error;
pub mod features;
mod listeners;
pub mod split;
mod table;
mod tracks;

pub use card::About;
pub use dataset::{Contents, Dataset};
pub use error::ExportError;
pub use split::{Shares, Split};
