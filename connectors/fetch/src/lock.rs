//! The note in a model's folder of what came from where: a later pull or check holds the files against
//! it, whatever a branch of the hub is by then.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::known::is_plain;

/// What the note is called.
pub const LOCK_FILE: &str = "segue-model.toml";

const ABOUT: &str =
    "# Written by `segue models pull`: where this model came from and what its files are.\n\n";

/// What came from where.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// The model's name.
    pub model: String,
    /// Where it came from.
    pub origin: Origin,
    /// Its files, by name.
    pub files: Vec<LockedFile>,
}

/// Where a model came from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "lowercase", deny_unknown_fields)]
pub enum Origin {
    /// The Hugging Face hub, or a mirror of it.
    Hub {
        /// `owner/name`.
        repository: String,
        /// What was asked for.
        revision: String,
        /// The commit that this was.
        commit: String,
    },
    /// Python packages.
    Packages {
        /// Each as `name==version`.
        packages: Vec<String>,
    },
}

/// A file as it was when it came.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedFile {
    /// Its name in the folder.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
}

/// A note that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// It is no such note.
    #[error("{path}: {detail}; remove it and pull the model again")]
    Damaged {
        /// The note.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The system refuses it.
    #[error("{path}: {source}; check the folder and its free space")]
    System {
        /// The note.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Lock {
    /// The note in a model's folder; `None` if there is none.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn read(folder: &Path) -> Result<Option<Self>, LockError> {
        let path = folder.join(LOCK_FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LockError::System { path, source }),
        };
        let damaged = |detail: String| LockError::Damaged {
            path: path.clone(),
            detail,
        };
        let lock: Self =
            toml::from_str(&text).map_err(|error| damaged(error.message().to_owned()))?;
        match lock.files.iter().find(|file| !is_plain(&file.name)) {
            Some(file) => Err(damaged(format!("`{}` is not a file's name", file.name))),
            None => Ok(Some(lock)),
        }
    }

    /// Writes the note, whole or not at all.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn write(&self, folder: &Path) -> Result<(), LockError> {
        let path = folder.join(LOCK_FILE);
        let part = folder.join(format!("{LOCK_FILE}.part"));
        let text = toml::to_string(self).map_err(|error| LockError::Damaged {
            path: path.clone(),
            detail: error.to_string(),
        })?;
        let write = || {
            let mut file = std::fs::File::create(&part)?;
            file.write_all(ABOUT.as_bytes())?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&part, &path)
        };
        write().map_err(|source| LockError::System { path, source })
    }

    /// The entry of a file.
    pub fn file(&self, name: &str) -> Option<&LockedFile> {
        self.files.iter().find(|file| file.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_what_it_wrote() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Lock::read(folder.path()).unwrap(), None);
        let origins = [
            Origin::Hub {
                repository: "a/b".to_owned(),
                revision: "main".to_owned(),
                commit: "c0ffee".to_owned(),
            },
            Origin::Packages {
                packages: vec!["a==1".to_owned()],
            },
        ];
        for origin in origins {
            let lock = Lock {
                model: "m".to_owned(),
                origin,
                files: vec![LockedFile {
                    name: "config.json".to_owned(),
                    bytes: 6,
                    sha256: "ab".to_owned(),
                }],
            };
            lock.write(folder.path()).unwrap();
            assert_eq!(Lock::read(folder.path()).unwrap(), Some(lock));
        }
    }

    #[test]
    fn what_is_no_note_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let origin = "[origin]\nfrom = \"packages\"\npackages = []\n";
        let outside = "[[files]]\nname = \"../x\"\nbytes = 1\nsha256 = \"ab\"\n";
        for text in [
            "model = 7".to_owned(),
            format!("model = \"m\"\nfiles = []\n{origin}more = 1\n"),
            format!("model = \"m\"\n{origin}{outside}"),
        ] {
            std::fs::write(folder.path().join(LOCK_FILE), text).unwrap();
            let error = Lock::read(folder.path()).unwrap_err().to_string();
            assert!(error.contains(LOCK_FILE), "{error}");
        }
    }
}
