//! Checkpoints: named parts and a manifest that says what they are the state of.
//!
//! ```text
//! <url>/writer.lock                       held by the one writer (local disk only)
//! <url>/checkpoint-0000000007/lane-0      a part: bytes that this module does not look into
//! <url>/checkpoint-0000000007/directory   another
//! <url>/checkpoint-0000000007/manifest.json    written last; without it nothing above counts
//! ```
//!
//! A checkpoint has a number of its own, because an epoch may be run again: after a restart from an
//! older one, the new checkpoint of epoch 42 must not touch the files of the old one. Every object
//! is created once, whole, and never written again, so at any instant what was sealed before is as it
//! was. What a crash leaves unsealed is removed when the next draft begins.
//!
//! In reading order:
//!
//! 1. [`CheckpointSettings`]: where, how often, how many.
//! 2. [`Manifest`]: what a checkpoint says of itself; its versions and their upgrades.
//! 3. [`CheckpointStore`], [`Draft`]: taking, listing, loading, pruning.
//! 4. [`CheckpointWriter`]: the store on a thread of its own.
//! 5. [`encoding`]: a room's state as the bytes of a part.
//!
//! Callers are threads: each call of a store blocks until the disk or the object store has answered. Not to be
//! called from within an asynchronous task.

mod age;
pub mod encoding;
mod error;
mod manifest;
mod objects;
#[cfg(feature = "s3")]
mod s3;
mod settings;
mod store;
mod writer;

pub use age::CheckpointAge;
pub(crate) use encoding::encode_in;
pub use encoding::{Encoded, EncodingError, decode, encode};
pub use error::CheckpointError;
pub use manifest::{Manifest, ManifestBody, PartEntry, Position};
pub use settings::{CheckpointSettings, S3Settings};
pub use store::{CheckpointStore, Draft, Listed};
pub use writer::{CheckpointWriter, Memory, Whole};
