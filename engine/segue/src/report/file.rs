//! Whole files or none: a reader never sees half a report.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

/// Puts a file in place at once: beside it under a temporary name, synced, renamed. Folders that are
/// missing are made.
///
/// # Errors
/// The path has no file name, or the folder cannot be made or written to; what stood there before
/// then still stands.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.file_name().with_context(|| {
        format!(
            "{} names no file: give a path that ends in one",
            path.display()
        )
    })?;
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(temporary);
    let written = write_synced(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path))
        .with_context(|| {
            format!(
                "cannot write {}: check that the folder may be written to and has room",
                path.display()
            )
        });
    if written.is_err() {
        // Whatever this says, the error above is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
