//! What a file is held against.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};

const BLOCK_BYTES: usize = 256 * 1024;

/// A checksum as it was published, in hexadecimal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Checksum {
    /// MD5: what older data sets are published with. Tells damage, not malice.
    Md5(String),
    /// SHA-256.
    Sha256(String),
    /// The name that git gives to a file's content: what the hub knows of its small files.
    GitBlob(String),
}

impl Checksum {
    /// What kind it is, for people.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Md5(_) => "MD5",
            Self::Sha256(_) => "SHA-256",
            Self::GitBlob(_) => "git hash",
        }
    }

    /// The digits.
    pub fn digits(&self) -> &str {
        match self {
            Self::Md5(digits) | Self::Sha256(digits) | Self::GitBlob(digits) => digits,
        }
    }

    /// The digits that a file really has, in this kind.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn of_file(&self, path: &Path) -> io::Result<String> {
        let nobody = &mut |_| {};
        match self {
            Self::Md5(_) => hashed(Md5::new(), path, nobody),
            Self::Sha256(_) => sha256_of(path, nobody),
            Self::GitBlob(_) => {
                let bytes = std::fs::metadata(path)?.len();
                let start = Sha1::new().chain_update(format!("blob {bytes}\0"));
                hashed(start, path, nobody)
            }
        }
    }
}

/// The SHA-256 of a file in hexadecimal; `watch` is told of each block's bytes.
///
/// # Errors
/// The file cannot be read.
pub fn sha256_of(path: &Path, watch: &mut dyn FnMut(u64)) -> io::Result<String> {
    hashed(Sha256::new(), path, watch)
}

fn hashed<D: Digest>(mut hash: D, path: &Path, watch: &mut dyn FnMut(u64)) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        match file.read(&mut block) {
            Ok(0) => break,
            Ok(read) => {
                hash.update(block.get(..read).unwrap_or(&[]));
                watch(read as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_digits_that_everybody_else_finds() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hello\n").unwrap();
        // md5sum, sha256sum, git hash-object
        for (checksum, digits) in [
            (
                Checksum::Md5(String::new()),
                "b1946ac92492d2347c6235b4d2611184",
            ),
            (
                Checksum::Sha256(String::new()),
                "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
            ),
            (
                Checksum::GitBlob(String::new()),
                "ce013625030ba8dba906f756967f9e9ca394464a",
            ),
        ] {
            assert_eq!(checksum.of_file(file.path()).unwrap(), digits);
        }
        let mut seen = 0;
        sha256_of(file.path(), &mut |bytes| seen += bytes).unwrap();
        assert_eq!(seen, 6);
    }
}
