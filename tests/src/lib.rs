//! What tests of the whole house share: where the checkout is, where real listening logs are, and
//! what is fuzzed.
//!
//! This room may know every other; none may know it.

pub mod fuzz;

use std::path::{Path, PathBuf};

/// The root of the checkout.
pub fn checkout() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// The folder of real listening logs: `SEGUE_DATA`, else `shared/data` beside the checkout. `None`,
/// with a line that says so, where there is none: a test that needs it then has nothing to do.
pub fn real_logs() -> Option<PathBuf> {
    let folder = std::env::var_os("SEGUE_DATA")
        .map_or_else(|| checkout().join("../shared/data"), PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    println!(
        "skipped: no folder {}; set SEGUE_DATA to one with listening logs",
        folder.display()
    );
    None
}
