//! Where a replay stands, in a small file, so that it goes on there after a stop or a crash.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::ReplayError;

/// The version of the file's form.
const VERSION: u32 = 1;

/// Where a replay stands after an epoch was committed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    version: u32,
    /// What is replayed ([`crate::Inputs::fingerprint`]).
    pub input: String,
    /// The topic it is written to.
    pub topic: String,
    /// The number of partitions it is spread over.
    pub partitions: u32,
    /// How many listens of the time order were written.
    pub position: u64,
    /// The next epoch.
    pub epoch: u64,
    /// The time of the last listen written, in ms since 1970.
    pub last_at_ms: Option<i64>,
    /// Whether the last listen and the closing heartbeats were written.
    pub finished: bool,
}

impl Standing {
    /// Before the first listen.
    pub fn start(input: &str, topic: &str, partitions: u32) -> Self {
        Self {
            version: VERSION,
            input: input.to_owned(),
            topic: topic.to_owned(),
            partitions,
            position: 0,
            epoch: 0,
            last_at_ms: None,
            finished: false,
        }
    }
}

/// The file.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
}

impl StateFile {
    /// The file at `path`, and where it says the replay of `start` stands: `start` itself if there
    /// is no such file.
    ///
    /// # Errors
    /// [`ReplayError::State`]: the file cannot be read, or belongs to another replay.
    pub fn open(path: &Path, start: Standing) -> Result<(Self, Standing), ReplayError> {
        let refuse = |detail: String| {
            Err(ReplayError::State {
                path: path.to_owned(),
                detail,
            })
        };
        let file = Self {
            path: path.to_owned(),
        };
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((file, start)),
            Err(error) => return refuse(format!("cannot be read: {error}")),
        };
        let standing: Standing = match serde_json::from_slice(&text) {
            Ok(standing) => standing,
            Err(error) => {
                return refuse(format!(
                    "is no replay state ({error}); name another file, or delete it to start over"
                ));
            }
        };
        let start_over = "name another state file, or delete this one to start over";
        if standing.version != VERSION {
            let found = standing.version;
            return refuse(format!(
                "has version {found}, this program knows {VERSION}; {start_over}"
            ));
        }
        if standing.input != start.input {
            return refuse(format!(
                "belongs to the replay of another input, which stands at listen {}; {start_over}",
                standing.position
            ));
        }
        if (&standing.topic, standing.partitions) != (&start.topic, start.partitions) {
            return refuse(format!(
                "belongs to a replay into topic {} with {} partitions, not {} with {}; {start_over}",
                standing.topic, standing.partitions, start.topic, start.partitions
            ));
        }
        Ok((file, standing))
    }

    /// Replaces the file's content in one step: a crash leaves the old or the new.
    ///
    /// # Errors
    /// [`ReplayError::Write`].
    pub fn save(&self, standing: &Standing) -> Result<(), ReplayError> {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let save = || -> std::io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            serde_json::to_writer_pretty(&mut file, standing)?;
            file.write_all(b"\n")?;
            file.as_file().sync_data()?;
            file.persist(&self.path).map_err(|failed| failed.error)?;
            Ok(())
        };
        save().map_err(|error| ReplayError::write(&self.path, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_found_and_only_by_the_same_replay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let start = Standing::start("abc", "listens", 4);
        let (file, found) = StateFile::open(&path, start.clone()).unwrap();
        assert_eq!(found, start, "no file: from the start");
        let later = Standing {
            position: 7,
            epoch: 2,
            last_at_ms: Some(5),
            ..start.clone()
        };
        file.save(&later).unwrap();
        assert_eq!(StateFile::open(&path, start).unwrap().1, later);
        for (other, says) in [
            (Standing::start("abd", "listens", 4), "another input"),
            (Standing::start("abc", "plays", 4), "topic listens"),
            (Standing::start("abc", "listens", 5), "with 4 partitions"),
        ] {
            let error = StateFile::open(&path, other).unwrap_err().to_string();
            assert!(
                error.contains(says) && error.contains("state.json"),
                "{error}"
            );
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_of_another_kind_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        for text in ["", "{}", "user\ttime", "{\"version\":1,\"colour\":2}"] {
            std::fs::write(&path, text).unwrap();
            let error = StateFile::open(&path, Standing::start("a", "b", 1)).unwrap_err();
            assert!(error.to_string().contains("is no replay state"), "{error}");
        }
    }
}
