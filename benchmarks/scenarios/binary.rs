//! What the scenarios run as processes of their own: what was built beside this program, and a Python
//! with the peers.

use std::path::{Path, PathBuf};

use anyhow::ensure;

/// The binary that a user runs: `SEGUE_BIN`, else the one that was built beside this program.
pub fn binary() -> anyhow::Result<PathBuf> {
    built("SEGUE_BIN", "segue", "cargo build --release -p segue")
}

/// What `variable` names, else what lies at `place` beside this program and `build` makes.
pub fn built(variable: &str, place: &str, build: &str) -> anyhow::Result<PathBuf> {
    let path = match std::env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None => std::env::current_exe()?.with_file_name(place),
    };
    ensure!(
        path.is_file(),
        "no binary {}: build it ({build}) or name it in {variable}",
        path.display()
    );
    Ok(path.canonicalize()?)
}

/// The checkout that this program was built from.
pub fn checkout() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// A Python that has what peers need: `SEGUE_PEERS_PYTHON`, else that of `make setup-peers`.
pub fn peers_python(needs: &str) -> anyhow::Result<PathBuf> {
    let path = match std::env::var_os("SEGUE_PEERS_PYTHON") {
        Some(path) => PathBuf::from(path),
        None => checkout().join(".venv/bin/python"),
    };
    ensure!(
        path.is_file(),
        "no {}: run `make setup-peers`, or name a Python that has {needs} in SEGUE_PEERS_PYTHON",
        path.display()
    );
    Ok(path)
}
