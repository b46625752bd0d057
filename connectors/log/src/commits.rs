//! What is committed: one small file per writer, replaced as a whole, so that an epoch's records
//! and the input it was made from become visible together, whatever happens in between.
//!
//! A writer first syncs the segments it wrote, then replaces `commits/<writer>.json` by rename.
//! Bytes in a segment past the end named here were never committed: no reader looks at them, and
//! the next writer cuts them off. A topic has one writer at a time; each that takes it over counts
//! its generation up, and the entry of the highest generation is the one that holds.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use segue_flow::epoch::{Epoch, OffsetRange};
use serde::{Deserialize, Serialize};

use crate::error::LogError;

/// Version of the commit files; another one is refused.
const VERSION: u32 = 1;

/// Where a partition's committed records end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The first offset that is not there yet.
    pub offset: u64,
    /// The first offset of the segment in which the next record will lie.
    pub segment: u64,
    /// Committed bytes of that segment.
    pub bytes: u64,
}

/// The committed state of one topic, as its latest writer left it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicEnd {
    /// Counts the writers this topic has had.
    pub generation: u64,
    /// The writer said that nothing will follow.
    pub sealed: bool,
    /// One end per partition.
    pub partitions: Vec<End>,
}

/// A writer's last commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commit {
    version: u32,
    /// The epoch committed last; none before the first.
    pub epoch: Option<Epoch>,
    /// What that epoch was made from.
    pub inputs: Vec<OffsetRange>,
    /// Every topic this writer has written.
    pub topics: BTreeMap<String, TopicEnd>,
}

impl Default for Commit {
    fn default() -> Self {
        Self {
            version: VERSION,
            epoch: None,
            inputs: Vec::new(),
            topics: BTreeMap::new(),
        }
    }
}

impl Commit {
    /// The last commit of a writer; `None` if it has made none.
    pub fn load(path: &Path) -> Result<Option<Self>, LogError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(LogError::io("read", path)(cause)),
        };
        let wrong = |why: String| LogError::Description {
            path: path.to_owned(),
            why,
        };
        let commit: Self = serde_json::from_slice(&bytes)
            .map_err(|error| wrong(format!("not a commit file: {error}")))?;
        if commit.version != VERSION {
            let found = commit.version;
            return Err(wrong(format!(
                "commit format {found}, and this program reads {VERSION}"
            )));
        }
        Ok(Some(commit))
    }

    /// Replaces the file as a whole; when this returns, the commit survives a loss of power if
    /// `sync` is set.
    pub fn store(&self, path: &Path, sync: bool) -> Result<(), LogError> {
        let wrong = |why: String| LogError::Description {
            path: path.to_owned(),
            why,
        };
        let bytes = serde_json::to_vec(self).map_err(|error| wrong(error.to_string()))?;
        replace(path, &bytes, sync)
    }
}

/// Writes `bytes` beside `path` and renames: the file has its old content or its new one.
pub fn replace(path: &Path, bytes: &[u8], sync: bool) -> Result<(), LogError> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside).map_err(LogError::io("create", &beside))?;
    file.write_all(bytes)
        .map_err(LogError::io("write", &beside))?;
    if sync {
        file.sync_all().map_err(LogError::io("sync", &beside))?;
    }
    std::fs::rename(&beside, path).map_err(LogError::io("replace", path))?;
    if sync {
        sync_folder(path.parent().unwrap_or(path))
    } else {
        Ok(())
    }
}

/// Makes new and renamed names in a folder durable.
pub fn sync_folder(folder: &Path) -> Result<(), LogError> {
    File::open(folder)
        .and_then(|held| held.sync_all())
        .map_err(LogError::io("sync", folder))
}

/// Path of a writer's commit file.
pub fn path_of(dir: &Path, writer: &str) -> PathBuf {
    dir.join("commits").join(format!("{writer}.json"))
}

/// What is committed in the whole log: of each topic the entry of the highest generation.
pub fn load_all(dir: &Path) -> Result<BTreeMap<String, TopicEnd>, LogError> {
    let folder = dir.join("commits");
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(cause) => return Err(LogError::io("list", &folder)(cause)),
    };
    let mut topics: BTreeMap<String, TopicEnd> = BTreeMap::new();
    for entry in entries {
        let path = entry.map_err(LogError::io("list", &folder))?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        for (topic, end) in Commit::load(&path)?.unwrap_or_default().topics {
            let known = topics.entry(topic).or_default();
            if end.generation > known.generation {
                *known = end;
            }
        }
    }
    Ok(topics)
}
