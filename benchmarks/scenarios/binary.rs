//! What the scenarios run as processes of their own: what was built beside this program, and a Python
//! with the peers.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde::de::DeserializeOwned;

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

/// Runs a program of Python beside us on one JSON text, and reads the last line of what it says; `needs` are
/// the packages that it imports.
pub fn ask_python<T: DeserializeOwned>(
    (who, needs): (&str, &str),
    program: &str,
    task: &serde_json::Value,
) -> anyhow::Result<T> {
    let python = peers_python(needs)?;
    let mut child = Command::new(&python)
        .args(["-B", "-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| python.display().to_string())?;
    let mut input = child.stdin.take().context("its standard input")?;
    input.write_all(task.to_string().as_bytes())?;
    drop(input);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{who}: {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).with_context(|| format!("{who} said `{last}`"))
}

/// A Python that has what peers need: `SEGUE_PEERS_PYTHON`, else that of `make setup-peers`.
fn peers_python(needs: &str) -> anyhow::Result<PathBuf> {
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
