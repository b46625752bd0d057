//! A file as bytes without reading it: the one place that maps memory.

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

use super::WeightsError;

/// Maps a file for reading.
#[allow(unsafe_code)]
pub(super) fn map(path: &Path) -> Result<Mmap, WeightsError> {
    let open = |error| WeightsError::Open {
        path: path.to_path_buf(),
        error,
    };
    let file = File::open(path).map_err(open)?;
    // SAFETY: the map is only sound while nobody shortens or rewrites the file. Checkpoints are
    // moved into place whole and never written in place (`config/setup/wheels.py`,
    // `connectors/fetch`); who overwrites one under a running program breaks that program and
    // nothing else.
    unsafe { Mmap::map(&file) }.map_err(open)
}
