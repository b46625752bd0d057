//! What is fuzzed: for each decoder a function from arbitrary bytes to whether they were read.
//!
//! The same functions run under libFuzzer (`tests/fuzz`, `make fuzz`) and, over the committed corpora
//! and seeded mutations of them, in every `make test` (`tests/corpora.rs`). Each asserts more than
//! that nothing panics: what is read can be written and read again as the same, and memory is bounded
//! by what is there and not by what a length claims.

// A finding is a panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod checkpoints;
mod exports;
mod log;
mod wire;

pub use checkpoints::{in_envelope, manifest, part, part_of};
pub use exports::{lastfm, listenbrainz, spotify};
pub use log::{commit, framed, frames};
pub use wire::{wire_json, wire_msgpack};

/// Reads arbitrary bytes; whether anything was found in them. Panics if the decoder breaks its word.
pub type Body = fn(&[u8]) -> bool;

/// A decoder under test.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: of the libFuzzer binary and of the corpus' folder.
    pub name: &'static str,
    /// The decoder and what it promises.
    pub body: Body,
    /// How many mutations a test runs: fewer where a decoder is reached through files.
    pub mutations: usize,
}

const fn target(name: &'static str, body: Body, mutations: usize) -> Target {
    Target {
        name,
        body,
        mutations,
    }
}

/// All of them.
pub const TARGETS: [Target; 9] = [
    target("wire_msgpack", wire_msgpack, 20_000),
    target("wire_json", wire_json, 20_000),
    target("lastfm", lastfm, 20_000),
    target("spotify", spotify, 20_000),
    target("listenbrainz", listenbrainz, 20_000),
    target("part", part, 20_000),
    target("manifest", manifest, 10_000),
    target("frames", frames, 5_000),
    target("commit", commit, 5_000),
];

/// Does `work` and holds it to `bytes` of memory at any one time.
pub fn within<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let mut done = None;
    let used = allocation_counter::measure(|| done = Some(work())).bytes_max;
    assert!(
        used <= bytes as u64,
        "{used} bytes of memory, where {bytes} have to do"
    );
    done.expect("the work was done")
}
