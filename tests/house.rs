//! The table of rooms holds, and so do the rules that every file keeps.
//!
//! 1. [`rooms`]: the arrows between rooms, and what a plain `cargo test` may not link.
//! 2. [`files`]: length, names, module docs, metrics, `unsafe`.
//!
//! Each check is a function from what was found to a list of faults, and is itself tested on
//! something faulty.

mod files;
mod metadata;
mod rooms;

/// Fails with all faults at once, one per line.
#[track_caller]
fn none_of(faults: &[String], rule: &str) {
    assert!(faults.is_empty(), "{rule}\n  {}\n", faults.join("\n  "));
}
