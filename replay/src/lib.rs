//! Listening logs as time-ordered, keyed, paced listens and heartbeats.
//!
//! In reading order:
//!
//! 1. [`inputs`]: which logs the named files and folders hold.
//! 2. [`open`], [`lines`], [`elements`], [`iso`]: bytes, unpacked on the way, as rows.
//! 3. [`formats`]: rows as listens ([`keys`]: which track); [`rejects`]: rows that are none.
//! 4. [`merge`], [`ordered`]: one time order, in memory that does not grow with the log.
//! 5. [`stream`], [`pace`], [`deliver`]: listens into a sink, keyed by user, in epochs, with
//!    heartbeats; [`progress`]: how far it has come.
//! 6. [`run`], [`state`]: all of it, from where it last stood.
//! 7. [`file_sink`]: a file as the sink. [`mod@download`]: the published log. [`simulate`]: a log where
//!    there is none.
//!
//! This room does not know Kafka (it is given a [`segue_flow::Sink`]), sessions or models. It drops
//! nothing that is a listen: duplicates and disorder are the engine's to judge.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod batch;
pub mod deliver;
pub mod download;
pub mod elements;
pub mod error;
pub mod file_sink;
pub mod formats;
pub mod inputs;
pub mod iso;
pub mod keys;
pub mod lines;
pub mod merge;
pub mod open;
pub mod ordered;
pub mod pace;
pub mod progress;
pub mod rejects;
pub mod run;
pub mod settings;
pub mod simulate;
pub mod state;
pub mod stream;
mod torn;

pub use deliver::{Delivered, Delivery, DeliverySettings, Outcome};
pub use download::{Dataset, DatasetError, download};
pub use error::ReplayError;
pub use file_sink::FileSink;
pub use inputs::Inputs;
pub use ordered::{OrderedListens, ReadProgress, ReadReport};
pub use pace::Pace;
pub use progress::{Bar, Progress, SendProgress};
pub use rejects::{Reason, RejectCounts, Rejects};
pub use run::{Replay, ReplayReport, ReplaySettings};
pub use settings::{MergeSettings, ReadSettings};
pub use simulate::{Lengths, Simulator, SimulatorSettings};
pub use state::{Standing, StateFile};
pub use stream::{InOrder, ListenStream};
