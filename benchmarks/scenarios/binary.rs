//! The binary that a user runs, for the scenarios that run it as one.

use std::path::{Path, PathBuf};

use anyhow::ensure;

/// Its path: `SEGUE_BIN`, else the one that was built beside this program.
pub fn binary() -> anyhow::Result<PathBuf> {
    let path = match std::env::var_os("SEGUE_BIN") {
        Some(path) => PathBuf::from(path),
        None => std::env::current_exe()?.with_file_name("segue"),
    };
    ensure!(
        path.is_file(),
        "no binary {}: build it (cargo build --release -p segue) or name it in SEGUE_BIN",
        path.display()
    );
    Ok(path.canonicalize()?)
}

/// The checkout that this program was built from.
pub fn checkout() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}
