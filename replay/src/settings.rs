//! What a replay may be told, with defaults; read from a configuration file by serde.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::ReplayError;

/// How logs are read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReadSettings {
    /// Longer rows are rejected without being held in memory. Bytes; default 1 MiB.
    pub max_row_bytes: usize,
    /// Where rejected rows are kept, with place and reason. Default: they are only counted.
    pub rejects: Option<PathBuf>,
    /// Who listened, in exports that are one person's and do not say so (ListenBrainz user exports,
    /// newer Spotify histories). Default "listener".
    pub user_if_absent: String,
}

impl Default for ReadSettings {
    fn default() -> Self {
        Self {
            max_row_bytes: 1024 * 1024,
            rejects: None,
            user_if_absent: "listener".to_owned(),
        }
    }
}

/// How the log is brought into one time order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MergeSettings {
    /// What is sorted in memory at a time, in bytes; the rest waits in temporary files. Between
    /// 64 KiB and 2 GiB; default 128 MiB. The whole sort takes this and about a fifth more.
    pub run_bytes: usize,
    /// How many temporary files are merged at a time, 2 to 512. Default 64, each with about 1 MiB of
    /// buffers.
    pub fan_in: usize,
    /// Where the temporary files go. They have no name, so nothing is left behind however the
    /// process ends. Default: the system's folder for temporary files.
    pub temp_dir: Option<PathBuf>,
}

impl Default for MergeSettings {
    fn default() -> Self {
        Self {
            run_bytes: 128 * 1024 * 1024,
            fan_in: 64,
            temp_dir: None,
        }
    }
}

impl MergeSettings {
    /// Whether the figures make sense.
    ///
    /// # Errors
    /// [`ReplayError::Setting`].
    pub fn check(&self) -> Result<(), ReplayError> {
        if !(64 * 1024..=2 * 1024 * 1024 * 1024).contains(&self.run_bytes) {
            return Err(ReplayError::Setting {
                key: "run_bytes",
                detail: format!("{} is not between 65536 and 2147483648", self.run_bytes),
            });
        }
        if !(2..=512).contains(&self.fan_in) {
            return Err(ReplayError::Setting {
                key: "fan_in",
                detail: format!("{} is not between 2 and 512", self.fan_in),
            });
        }
        Ok(())
    }

    /// The folder for temporary files.
    pub fn folder(&self) -> PathBuf {
        self.temp_dir.clone().unwrap_or_else(std::env::temp_dir)
    }
}
