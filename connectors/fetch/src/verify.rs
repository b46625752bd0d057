//! Whether the files of a model are still what they were when they came.

use std::path::Path;

use serde::Serialize;

use crate::checksum::sha256_of;
use crate::known::Known;
use crate::lock::{Lock, LockError};

/// What a file of a model is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FileState {
    /// As it was when it came, or as it is known.
    Whole,
    /// There, and nothing says what it should be.
    NothingToCompare,
    /// Not there.
    Missing,
    /// Another one.
    Wrong {
        /// Its SHA-256.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// It cannot be read.
    Unreadable(String),
}

impl FileState {
    /// Whether the model can be used with it.
    pub fn is_fault(&self) -> bool {
        match self {
            Self::Whole | Self::NothingToCompare => false,
            Self::Missing | Self::Wrong { .. } | Self::Unreadable(_) => true,
        }
    }
}

/// How much of a model is in its folder, by a look at names and lengths.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// Nothing.
    Absent,
    /// Some of it: a pull goes on there.
    Partial,
    /// All of it.
    Here,
}

/// How much of a model is in a folder. Whether it is undamaged, [`verify`] tells.
pub fn presence(model: &Known, folder: &Path) -> Presence {
    if !folder.is_dir() {
        return Presence::Absent;
    }
    let length = |name: &str| Some(std::fs::metadata(folder.join(name)).ok()?.len());
    let whole = match Lock::read(folder) {
        Ok(Some(lock)) => {
            let mut files = lock.files.iter();
            files.all(|file| length(&file.name) == Some(file.bytes))
        }
        Ok(None) => {
            let mut needed = model.files.iter().filter(|file| !file.optional);
            // What a star stands for, nobody knows without a note.
            needed.all(|file| !file.name.contains('*') && length(&file.name).is_some())
        }
        Err(_) => false,
    };
    match whole {
        true => Presence::Here,
        false => Presence::Partial,
    }
}

/// Every file that belongs to a model with what it is: by the note in its folder, else by what is known
/// of the model by name. `watch` is told of the bytes that are read of each.
///
/// # Errors
/// The note cannot be read.
pub fn verify(
    model: Option<&Known>,
    folder: &Path,
    watch: &mut dyn FnMut(&str, u64),
) -> Result<Vec<(String, FileState)>, LockError> {
    let expected: Vec<(String, Option<String>)> = match (Lock::read(folder)?, model) {
        (Some(lock), _) => {
            let files = lock.files.into_iter();
            files.map(|file| (file.name, Some(file.sha256))).collect()
        }
        (None, Some(model)) => {
            // Which files a star stands for, only the hub or a note can say.
            let files = model.files.iter();
            files
                .filter(|file| !file.name.contains('*'))
                .filter(|file| !file.optional || folder.join(&file.name).exists())
                .map(|file| (file.name.clone(), file.sha256.clone()))
                .collect()
        }
        (None, None) => Vec::new(),
    };
    let state = |(name, sha256): (String, Option<String>)| {
        let path = folder.join(&name);
        let state = match (path.is_file(), sha256) {
            (false, _) => FileState::Missing,
            (true, None) => FileState::NothingToCompare,
            (true, Some(expected)) => match sha256_of(&path, &mut |bytes| watch(&name, bytes)) {
                Ok(found) if found == expected => FileState::Whole,
                Ok(found) => FileState::Wrong { found, expected },
                Err(error) => FileState::Unreadable(error.to_string()),
            },
        };
        (name, state)
    };
    Ok(expected.into_iter().map(state).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::{LockedFile, Origin};

    const HELLO: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";

    #[test]
    fn each_file_is_held_against_the_note() {
        let folder = tempfile::tempdir().unwrap();
        let locked = |name: &str| LockedFile {
            name: name.to_owned(),
            bytes: 6,
            sha256: HELLO.to_owned(),
        };
        let lock = Lock {
            model: "m".to_owned(),
            origin: Origin::Packages { packages: vec![] },
            files: vec![locked("whole"), locked("wrong"), locked("gone")],
        };
        lock.write(folder.path()).unwrap();
        std::fs::write(folder.path().join("whole"), "hello\n").unwrap();
        std::fs::write(folder.path().join("wrong"), "hullo\n").unwrap();
        let mut read = 0;
        let states = verify(None, folder.path(), &mut |_, bytes| read += bytes).unwrap();
        assert_eq!(read, 12);
        let [(_, whole), (_, wrong), (_, gone)] = &states[..] else {
            panic!("{states:?}")
        };
        assert_eq!((whole, gone), (&FileState::Whole, &FileState::Missing));
        assert!(matches!(wrong, FileState::Wrong { expected, .. } if expected == HELLO));
        let model = Known::named("minilm").unwrap().unwrap();
        assert_eq!(presence(&model, folder.path()), Presence::Partial);
        std::fs::write(folder.path().join("gone"), "hallo\n").unwrap();
        assert_eq!(presence(&model, folder.path()), Presence::Here);
        let faults: Vec<bool> = states.iter().map(|(_, state)| state.is_fault()).collect();
        assert_eq!(faults, [false, true, true]);
    }

    #[test]
    fn without_a_note_what_is_known_of_the_model_counts() {
        let folder = tempfile::tempdir().unwrap();
        let model = Known::named("smollm2-135m").unwrap().unwrap();
        let states = || verify(Some(&model), folder.path(), &mut |_, _| {}).unwrap();
        assert_eq!(
            presence(&model, &folder.path().join("none")),
            Presence::Absent
        );
        assert_eq!(presence(&model, folder.path()), Presence::Partial);
        let gguf = "SmolLM2-135M-Instruct.Q4_1.gguf".to_owned();
        assert_eq!(states(), [(gguf.clone(), FileState::Missing)]);
        std::fs::write(folder.path().join(&gguf), "hello\n").unwrap();
        std::fs::write(folder.path().join("LICENSE"), "…").unwrap();
        let found = states();
        assert!(matches!(&found[0].1, FileState::Wrong { found, .. } if found == HELLO));
        let licence = ("LICENSE".to_owned(), FileState::NothingToCompare);
        assert_eq!(found[1], licence);
        assert_eq!(presence(&model, folder.path()), Presence::Here);
    }
}
