//! Recall: the vectors of the tracks, and which of them are nearest to a query.
//!
//! In reading order:
//! - [`vectors`]: a vector that has been checked, and the table of them, a row per track.
//! - [`index`]: the contracts. A reader holds an [`Index`], an immutable snapshot; the one
//!   [`IndexWriter`] changes vectors and publishes the next snapshot at an epoch.
//! - [`exact`]: every row is looked at. The oracle, and the answer where a graph cannot help.
//! - [`graph`]: an HNSW graph, linked by Segue (`growing`) or by hnsw_rs (fenced in `foreign`) and served
//!   flat (`replica`), with an exact tail of what it lacks.
//! - [`explain`]: how a search came to its answer. [`store`]: an index as one file.
//! - [`published`]: the place where readers find the current snapshot.
//! - [`settings`]: what a user may tune.
//!
//! This room does not know Kafka, models, sessions or epochs' meaning, starts no thread, and reads no
//! clock. It never sees a track's name: ties are broken by dense id, see [`index::Hit`].

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod beam;
mod best;
mod builder;
pub mod exact;
pub mod explain;
mod foreign;
pub mod graph;
mod growing;
mod halves;
mod hnsw;
pub mod index;
mod lanes;
mod links;
mod mesh;
mod met;
mod pages;
pub mod published;
mod replica;
mod restore;
mod rows;
pub mod settings;
mod slots;
pub mod store;
mod sweep;
pub mod vectors;

pub use exact::ExactWriter;
pub use explain::Explanation;
pub use graph::{GraphHealth, GraphWriter};
pub use index::{Hit, Index, IndexVersion, IndexWriter, RecallError};
pub use published::Published;
pub use settings::{Builder, Metric, Settings, SettingsError, Storage};
pub use store::StoreError;
pub use vectors::{Vector, VectorError, VectorTable};
