//! Which logs the files and folders that were named hold.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::ReplayError;
use crate::formats::detect::{Detected, by_name, detect};
use crate::formats::{Container, Log, profile};
use crate::rejects::Rejects;

/// Names of files in a folder that are worth a look.
const ENDINGS: [&str; 14] = [
    ".tsv",
    ".tsv.gz",
    ".tsv.zst",
    ".jsonl",
    ".jsonl.gz",
    ".jsonl.zst",
    ".ndjson",
    ".listens",
    ".json",
    ".json.gz",
    ".json.zst",
    ".tar",
    ".tar.gz",
    ".tgz",
];

/// How much of each end of a file goes into the fingerprint.
const SAMPLE_BYTES: u64 = 256 * 1024;

/// The logs to read, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inputs {
    /// The logs, in the order of the arguments, within a folder by path.
    pub logs: Vec<Log>,
    /// LastFM-1K's tables of listeners among the files.
    pub profiles: Vec<PathBuf>,
    /// Files in folders that looked like logs and are none, with what they are.
    pub passed_over: Vec<(PathBuf, String)>,
    named: String,
}

impl Inputs {
    /// Finds the logs in `paths`. A folder is searched with all folders in it; links to folders are
    /// not followed.
    ///
    /// # Errors
    /// A named file that cannot be read or is no log; no log at all. In a folder, empty files and
    /// files of other kinds are passed over.
    pub fn find<P: AsRef<Path>>(paths: &[P]) -> Result<Self, ReplayError> {
        let names = paths.iter().map(|p| p.as_ref().display().to_string());
        let mut found = Self {
            logs: Vec::new(),
            profiles: Vec::new(),
            passed_over: Vec::new(),
            named: names.collect::<Vec<_>>().join(", "),
        };
        for path in paths {
            let path = path.as_ref();
            let kind = std::fs::metadata(path).map_err(|e| ReplayError::read(path, e))?;
            if kind.is_dir() {
                found.search(path)?;
            } else {
                found.take_named(path)?;
            }
        }
        if found.logs.is_empty() {
            return Err(ReplayError::NoInput {
                inputs: found.named,
            });
        }
        Ok(found)
    }

    fn search(&mut self, folder: &Path) -> Result<(), ReplayError> {
        let fail = |error| ReplayError::read(folder, error);
        let entries = std::fs::read_dir(folder).map_err(fail)?;
        let mut paths = Vec::new();
        for entry in entries {
            let entry = entry.map_err(fail)?;
            paths.push((entry.path(), entry.file_type().map_err(fail)?.is_dir()));
        }
        paths.sort();
        for (path, is_folder) in paths {
            if is_folder {
                self.search(&path)?;
            } else if path.is_file() && has_known_ending(&path) {
                match detect(&path) {
                    Ok(Detected::Log(log)) => self.logs.push(log),
                    Ok(Detected::Profile) => self.profiles.push(path),
                    Ok(Detected::Unknown(found)) => self.passed_over.push((path, found)),
                    Err(ReplayError::Empty { .. }) => {
                        self.passed_over.push((path, "it is empty".to_owned()));
                    }
                    Err(other) => return Err(other),
                }
            }
        }
        Ok(())
    }

    /// Takes in a file that was named: what is neither log nor table is an error that says what it is.
    fn take_named(&mut self, path: &Path) -> Result<(), ReplayError> {
        match detect(path)? {
            Detected::Log(log) => self.logs.push(log),
            Detected::Profile => self.profiles.push(path.to_owned()),
            Detected::Unknown(found) => {
                let format = by_name(path).ok_or_else(|| ReplayError::UnknownFormat {
                    path: path.to_owned(),
                    found,
                })?;
                let on_disk = std::fs::metadata(path).map_err(|e| ReplayError::read(path, e))?;
                self.logs.push(Log {
                    path: path.to_owned(),
                    format,
                    container: Container::File,
                    bytes: on_disk.len(),
                });
            }
        }
        Ok(())
    }

    /// The size of all files on disk, in bytes.
    pub fn bytes(&self) -> u64 {
        self.logs.iter().map(|log| log.bytes).sum()
    }

    /// The arguments, for messages.
    pub fn named(&self) -> &str {
        &self.named
    }

    /// What the tables of listeners say, those in archives too.
    ///
    /// # Errors
    /// Those of the files. Bad rows go to `rejects`.
    pub fn profiles(&self, rejects: &mut Rejects) -> Result<profile::Summary, ReplayError> {
        let mut profiles = Vec::new();
        for path in &self.profiles {
            profiles.extend(profile::read(path, Container::File, rejects)?);
        }
        let archives = self.logs.iter();
        for log in archives.filter(|log| log.container == Container::Tar) {
            profiles.extend(profile::read(&log.path, Container::Tar, rejects)?);
        }
        Ok(profile::Summary::of(&profiles))
    }

    /// What tells these inputs from others: the SHA-256 of each file's name, size, and first and
    /// last 256 KiB, in hexadecimal. Not of all bytes, which would double the reading.
    ///
    /// # Errors
    /// [`ReplayError::Read`].
    pub fn fingerprint(&self) -> Result<String, ReplayError> {
        let mut hash = Sha256::new();
        for log in &self.logs {
            let fail = |error| ReplayError::read(&log.path, error);
            let name = log.path.file_name().unwrap_or_default();
            hash.update(name.as_encoded_bytes());
            hash.update([0]);
            hash.update(log.bytes.to_le_bytes());
            let mut file = std::fs::File::open(&log.path).map_err(fail)?;
            let mut sample = Vec::new();
            Read::by_ref(&mut file)
                .take(SAMPLE_BYTES)
                .read_to_end(&mut sample)
                .map_err(fail)?;
            file.seek(SeekFrom::Start(log.bytes.saturating_sub(SAMPLE_BYTES)))
                .map_err(fail)?;
            file.take(SAMPLE_BYTES)
                .read_to_end(&mut sample)
                .map_err(fail)?;
            hash.update(&sample);
        }
        Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
    }
}

fn has_known_ending(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| {
        let name = name.to_ascii_lowercase();
        ENDINGS.iter().any(|ending| name.ends_with(ending))
    })
}
