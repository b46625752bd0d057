//! One published file: from its own address or a mirror, going on where an earlier attempt stopped,
//! checked before it gets its name.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::checksum::Checksum;
use crate::client::{self, ATTEMPTS, Address, Client, ClientError, busy, header};

const BLOCK_BYTES: usize = 256 * 1024;

/// A file that is published.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Published {
    /// What it is called where people read of it.
    pub name: String,
    /// What it is called in its folder.
    pub file_name: String,
    /// Where it is to be had, the first that answers is taken.
    pub addresses: Vec<Address>,
    /// The checksum that was published with it, if one was.
    pub checksum: Option<Checksum>,
}

/// How far a download has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DownloadProgress {
    /// Bytes on disk, those of earlier attempts included.
    pub bytes: u64,
    /// Bytes in all, where the server says.
    pub total: Option<u64>,
}

/// Why a download gave no file.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// No address gave the whole file. What came is kept, and a new attempt goes on there.
    #[error(
        "{name} could not be fetched ({failures}); check the network or the proxy and try again: {bytes} bytes are kept in {part}. Or fetch it by hand and name the file"
    )]
    Unreachable {
        /// The file.
        name: String,
        /// Each address with what went wrong.
        failures: String,
        /// Where the beginning is kept.
        part: PathBuf,
        /// How much of it there is.
        bytes: u64,
    },
    /// Whoever asks has to say who they are, or is not let in.
    #[error("{name}: {address} answered with status {status}: it is not for everybody")]
    Denied {
        /// The file.
        name: String,
        /// Who said so.
        address: String,
        /// 401 or 403.
        status: u16,
    },
    /// What came is not what was published.
    #[error(
        "{name} has {kind} {found} instead of {published}; it is kept as {kept}. Remove it and try again; if it stays so, the published file has changed"
    )]
    WrongChecksum {
        /// The file.
        name: String,
        /// What kind of checksum.
        kind: &'static str,
        /// The checksum of what came.
        found: String,
        /// The checksum as published.
        published: String,
        /// Where it is kept.
        kept: PathBuf,
    },
    /// The disk has no room for the rest. What came is kept, and a new attempt goes on there.
    #[error(
        "{missing} bytes of {name} are still to come and {folder} has room for {free}: free some, or choose another folder; what came is kept, and a new attempt goes on there"
    )]
    NoRoom {
        /// The file.
        name: String,
        /// Where it was to go.
        folder: PathBuf,
        /// Bytes that did not come yet, as far as the server says.
        missing: u64,
        /// Bytes that the disk takes.
        free: u64,
    },
    /// Another program fetches the same file into the same folder.
    #[error("{part} is being written by another download: wait for it, or end it")]
    Busy {
        /// What it writes.
        part: PathBuf,
    },
    /// The file cannot be written.
    #[error("cannot write {path}: {source}; check the folder and its free space")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It was asked to stop. A new attempt goes on from there.
    #[error("stopped after {bytes} bytes, which are kept in {part}")]
    Stopped {
        /// Where the beginning is kept.
        part: PathBuf,
        /// How much of it there is.
        bytes: u64,
    },
    /// The request was not sent.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Fetches `published` into `folder` and gives the file's path; if it is there already, only checks it.
///
/// # Errors
/// See [`DownloadError`].
pub fn download(
    client: &Client,
    published: &Published,
    folder: &Path,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(DownloadProgress),
) -> Result<PathBuf, DownloadError> {
    let whole = folder.join(&published.file_name);
    if whole.exists() {
        return checked(published, &whole, &whole);
    }
    std::fs::create_dir_all(folder).map_err(|source| DownloadError::Write {
        path: folder.to_owned(),
        source,
    })?;
    let mut part = Part::open(published, folder)?;
    let mut failures = Vec::new();
    let mut denied = None;
    for address in &published.addresses {
        let (mut in_a_row, mut most) = (0, part.bytes);
        while in_a_row < ATTEMPTS {
            client.pause_before(in_a_row);
            match part.fetch(client, address, stop, watch) {
                Ok(()) => {
                    part.file.sync_all().map_err(|source| part.write(source))?;
                    return checked(published, &part.path, &whole);
                }
                Err(Failure::Broken(detail)) => failures.push(format!("{address}: {detail}")),
                Err(Failure::Refused(status)) => {
                    failures.push(format!("{address}: answered with status {status}"));
                    if matches!(status, 401 | 403) {
                        denied = Some((address.to_string(), status));
                    }
                    break;
                }
                Err(Failure::Final(error)) => return Err(error),
            }
            // A hundred gigabytes may break off a hundred times: what counts is that it goes on.
            in_a_row = if part.bytes > most { 0 } else { in_a_row + 1 };
            most = most.max(part.bytes);
        }
    }
    if let Some((address, status)) = denied {
        return Err(DownloadError::Denied {
            name: published.name.clone(),
            address,
            status,
        });
    }
    failures.dedup();
    Err(DownloadError::Unreachable {
        name: published.name.clone(),
        failures: failures.join("; "),
        bytes: part.bytes,
        part: part.path,
    })
}

/// Gives the file its name if it is what was published, else another one.
fn checked(published: &Published, path: &Path, whole: &Path) -> Result<PathBuf, DownloadError> {
    let fail = |source| DownloadError::Write {
        path: path.to_owned(),
        source,
    };
    if let Some(checksum) = &published.checksum {
        let found = checksum.of_file(path).map_err(fail)?;
        if found != checksum.digits() {
            return Err(DownloadError::WrongChecksum {
                name: published.name.clone(),
                kind: checksum.kind(),
                found,
                published: checksum.digits().to_owned(),
                kept: set_aside(path, whole).map_err(fail)?,
            });
        }
    }
    std::fs::rename(path, whole).map_err(fail)?;
    Ok(whole.to_owned())
}

/// Gives a file that is not what it should be another name than the one it was to have.
pub(crate) fn set_aside(path: &Path, whole: &Path) -> io::Result<PathBuf> {
    let mut name = whole.as_os_str().to_owned();
    name.push(".wrong-checksum");
    let kept = PathBuf::from(name);
    std::fs::rename(path, &kept)?;
    Ok(kept)
}

/// Bytes that the disk of a file or folder still takes, where the system says.
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

enum Failure {
    /// The connection broke: worth another attempt.
    Broken(String),
    /// This address will not give it.
    Refused(u16),
    /// Nothing will.
    Final(DownloadError),
}

/// The beginning of the file.
struct Part {
    name: String,
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Part {
    fn open(published: &Published, folder: &Path) -> Result<Self, DownloadError> {
        let path = folder.join(format!("{}.part", published.file_name));
        let open = || -> io::Result<(File, u64)> {
            let mut options = File::options();
            let mut file = options
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            match file.try_lock() {
                // Not every file system has locks; it is written all the same.
                Ok(()) | Err(TryLockError::Error(_)) => {}
                Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            }
            let bytes = file.seek(SeekFrom::End(0))?;
            Ok((file, bytes))
        };
        match open() {
            Ok((file, bytes)) => Ok(Self {
                name: published.name.clone(),
                path,
                file,
                bytes,
            }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(DownloadError::Busy { part: path })
            }
            Err(source) => Err(DownloadError::Write { path, source }),
        }
    }

    /// Fetches what is missing.
    fn fetch(
        &mut self,
        client: &Client,
        address: &Address,
        stop: &AtomicBool,
        watch: &mut dyn FnMut(DownloadProgress),
    ) -> Result<(), Failure> {
        let response = client.get(address, self.bytes).map_err(|why| match why {
            client::Failure::Broken(detail) => Failure::Broken(detail),
            client::Failure::NotSent(error) => Failure::Final(error.into()),
        })?;
        let total = match response.status().as_u16() {
            200 => {
                // The whole from the beginning, whatever was asked for.
                self.restart()?;
                header(&response, "content-length").and_then(|length| length.parse().ok())
            }
            206 => {
                let range = header(&response, "content-range").unwrap_or_default();
                match range_of(&range) {
                    Some((from, total)) if from == self.bytes => total,
                    _ => {
                        self.restart()?;
                        let detail = format!("answered with another range ({range})");
                        return Err(Failure::Broken(detail));
                    }
                }
            }
            // Nothing is missing, or what is here is longer than the file: the checksum will tell.
            416 => return Ok(()),
            status if busy(status) => {
                return Err(Failure::Broken(format!("answered with status {status}")));
            }
            status => return Err(Failure::Refused(status)),
        };
        self.has_room(total)?;
        let mut body = response.into_body().into_reader();
        let mut block = vec![0; BLOCK_BYTES];
        loop {
            let (bytes, part) = (self.bytes, &self.path);
            watch(DownloadProgress { bytes, total });
            if stop.load(Ordering::Relaxed) {
                let part = part.clone();
                return Err(Failure::Final(DownloadError::Stopped { part, bytes }));
            }
            let read = match body.read(&mut block) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failure::Broken(error.to_string())),
            };
            if read == 0 {
                return match total {
                    Some(total) if self.bytes < total => {
                        let detail = format!("ended after {} of {total} bytes", self.bytes);
                        Err(Failure::Broken(detail))
                    }
                    _ => Ok(()),
                };
            }
            let block = block.get(..read).unwrap_or(&[]);
            match self.file.write_all(block) {
                Ok(()) => self.bytes += read as u64,
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    return Err(Failure::Final(self.no_room(total, 0)));
                }
                Err(error) => return Err(Failure::Final(self.write(error))),
            }
        }
    }

    fn restart(&mut self) -> Result<(), Failure> {
        if self.bytes == 0 {
            return Ok(());
        }
        let mut restart = || {
            self.file.set_len(0)?;
            self.file.rewind()
        };
        restart().map_err(|source| Failure::Final(self.write(source)))?;
        self.bytes = 0;
        Ok(())
    }

    /// Refuses to begin what the disk cannot hold, where both are known.
    fn has_room(&self, total: Option<u64>) -> Result<(), Failure> {
        let missing = total.unwrap_or(0).saturating_sub(self.bytes);
        match free_bytes(&self.path) {
            Some(free) if missing > free => Err(Failure::Final(self.no_room(total, free))),
            _ => Ok(()),
        }
    }

    fn no_room(&self, total: Option<u64>, free: u64) -> DownloadError {
        DownloadError::NoRoom {
            name: self.name.clone(),
            folder: self.path.parent().unwrap_or(Path::new("")).to_owned(),
            missing: total.unwrap_or(0).saturating_sub(self.bytes),
            free,
        }
    }

    fn write(&self, source: io::Error) -> DownloadError {
        DownloadError::Write {
            path: self.path.clone(),
            source,
        }
    }
}

/// First byte and total of a `Content-Range: bytes 5-9/10`.
fn range_of(header: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = header.strip_prefix("bytes ")?.split_once('/')?;
    let (from, _) = range.split_once('-')?;
    Some((from.parse().ok()?, total.parse().ok()))
}

#[cfg(test)]
#[path = "download_tests.rs"]
mod tests;
