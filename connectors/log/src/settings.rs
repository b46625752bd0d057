//! What can be set about the embedded log.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Settings of the embedded log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The directory that holds the log; made if it is not there.
    pub dir: PathBuf,
    /// A segment file is closed and the next one begun before it grows over this many bytes.
    pub segment_bytes: u64,
    /// The largest record, in bytes with key, headers and frame. Readers hold one in memory.
    pub max_record_bytes: usize,
    /// Whether a commit waits until the disk has it (fsync). Without, a loss of power may cost the
    /// last epochs, or leave a log that has to be deleted; an end of the process costs nothing.
    pub sync: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("out/log"),
            segment_bytes: 256 << 20,
            max_record_bytes: 16 << 20,
            sync: true,
        }
    }
}
