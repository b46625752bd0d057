//! Fetching a published log: from its own address or a mirror, after its licence was accepted, going
//! on where an earlier attempt stopped, checked before it is used.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use md5::{Digest, Md5};
use ureq::Agent;

/// How often a broken connection to one address is taken up again.
const ATTEMPTS: u32 = 4;

const CONNECT_WITHIN: Duration = Duration::from_secs(30);
/// A server that is silent for so long is given up.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

const BLOCK_BYTES: usize = 256 * 1024;

/// A log that is published.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dataset {
    /// What it is called on the command line.
    pub name: String,
    /// What its file is called.
    pub file_name: String,
    /// Where it is to be had, the first that answers is taken.
    pub addresses: Vec<String>,
    /// The file's MD5, as published with it, in hexadecimal.
    pub md5: String,
    /// Its licence and whom to cite; shown before anything is fetched.
    pub notice: String,
}

impl Dataset {
    /// The data set of that name; `None` if it is not known.
    pub fn named(name: &str) -> Option<Self> {
        (name == "lastfm-1k").then(Self::lastfm_1k)
    }

    /// LastFM-1K: 19,150,868 plays of 992 listeners, 2005 to 2009, in a .tar.gz of 673 MB that is
    /// read as it is.
    pub fn lastfm_1k() -> Self {
        Self {
            name: "lastfm-1k".to_owned(),
            file_name: "lastfm-dataset-1K.tar.gz".to_owned(),
            addresses: vec![
                "http://mtg.upf.edu/static/datasets/last.fm/lastfm-dataset-1K.tar.gz".to_owned(),
                "https://zenodo.org/records/6090214/files/lastfm-dataset-1K.tar.gz?download=1"
                    .to_owned(),
            ],
            md5: "a79a6808f54f73354789a9fb02cb1e41".to_owned(),
            notice: "LastFM-1K (http://ocelma.net/MusicRecommendationDataset/lastfm-1K.html) is \
                     distributed with permission of Last.fm and available for non-commercial use \
                     only; for commercial use ask partners [at] last [dot] fm. Cite: O. Celma, \
                     Music Recommendation and Discovery in the Long Tail, Springer 2010."
                .to_owned(),
        }
    }
}

/// Whether the reader of the notice agrees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Consent {
    /// The licence was accepted.
    Given,
    /// It was not.
    Missing,
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
    /// The licence was not accepted.
    #[error("{notice} To fetch it, accept this by --accept-licence")]
    LicenceNotAccepted {
        /// The notice.
        notice: String,
    },
    /// No address gave the whole file. What came is kept, and a new attempt goes on there.
    #[error(
        "{name} could not be fetched ({failures}); check the network or the proxy and try again: {bytes} bytes are kept in {part}. Or fetch it by hand and name the file"
    )]
    Unreachable {
        /// The data set.
        name: String,
        /// Each address with what went wrong.
        failures: String,
        /// Where the beginning is kept.
        part: PathBuf,
        /// How much of it there is.
        bytes: u64,
    },
    /// What came is not what was published.
    #[error(
        "{name} has MD5 {found} instead of {published}; it is kept as {kept}. Remove it and try again; if it stays so, the published file has changed"
    )]
    WrongChecksum {
        /// The data set.
        name: String,
        /// The checksum of what came.
        found: String,
        /// The checksum as published.
        published: String,
        /// Where it is kept.
        kept: PathBuf,
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
}

/// Fetches `dataset` into `folder` and gives the file's path; if it is there already, only checks it.
///
/// # Errors
/// See [`DownloadError`].
pub fn download(
    dataset: &Dataset,
    folder: &Path,
    consent: Consent,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(DownloadProgress),
) -> Result<PathBuf, DownloadError> {
    let agent = agent(ureq::Proxy::try_from_env());
    download_by(&agent, dataset, folder, consent, stop, watch)
}

fn agent(proxy: Option<ureq::Proxy>) -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(CONNECT_WITHIN))
        .timeout_recv_response(Some(ANSWER_WITHIN))
        .timeout_per_read(Some(ANSWER_WITHIN))
        .user_agent(concat!("segue/", env!("CARGO_PKG_VERSION")))
        .proxy(proxy)
        .build()
        .new_agent()
}

fn download_by(
    agent: &Agent,
    dataset: &Dataset,
    folder: &Path,
    consent: Consent,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(DownloadProgress),
) -> Result<PathBuf, DownloadError> {
    if consent == Consent::Missing {
        return Err(DownloadError::LicenceNotAccepted {
            notice: dataset.notice.clone(),
        });
    }
    let whole = folder.join(&dataset.file_name);
    if whole.exists() {
        return checked(dataset, &whole, &whole);
    }
    std::fs::create_dir_all(folder).map_err(|source| DownloadError::Write {
        path: folder.to_owned(),
        source,
    })?;
    let mut part = Part::open(folder.join(format!("{}.part", dataset.file_name)))?;
    let mut failures = Vec::new();
    for address in &dataset.addresses {
        for _ in 0..ATTEMPTS {
            match part.fetch(agent, address, stop, watch) {
                Ok(()) => return checked(dataset, &part.path, &whole),
                Err(Failure::Broken(detail)) => failures.push(format!("{address}: {detail}")),
                Err(Failure::Hopeless(detail)) => {
                    failures.push(format!("{address}: {detail}"));
                    break;
                }
                Err(Failure::Final(error)) => return Err(error),
            }
        }
    }
    failures.dedup();
    Err(DownloadError::Unreachable {
        name: dataset.name.clone(),
        failures: failures.join("; "),
        bytes: part.bytes,
        part: part.path,
    })
}

/// Gives the file its name if it is what was published, else another one.
fn checked(dataset: &Dataset, path: &Path, whole: &Path) -> Result<PathBuf, DownloadError> {
    let fail = |source| DownloadError::Write {
        path: path.to_owned(),
        source,
    };
    let found = md5_of(path).map_err(fail)?;
    if found == dataset.md5 {
        std::fs::rename(path, whole).map_err(fail)?;
        return Ok(whole.to_owned());
    }
    let kept = whole.with_file_name(format!("{}.wrong-checksum", dataset.file_name));
    std::fs::rename(path, &kept).map_err(fail)?;
    Err(DownloadError::WrongChecksum {
        name: dataset.name.clone(),
        found,
        published: dataset.md5.clone(),
        kept,
    })
}

fn md5_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Md5::new();
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        match file.read(&mut block)? {
            0 => break,
            read => hash.update(block.get(..read).unwrap_or(&[])),
        }
    }
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

enum Failure {
    /// The connection broke: worth another attempt.
    Broken(String),
    /// This address will not give it.
    Hopeless(String),
    /// Nothing will.
    Final(DownloadError),
}

/// The beginning of the file.
struct Part {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Part {
    fn open(path: PathBuf) -> Result<Self, DownloadError> {
        let open = || -> io::Result<(File, u64)> {
            let mut options = File::options();
            let mut file = options
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            let bytes = file.seek(SeekFrom::End(0))?;
            Ok((file, bytes))
        };
        match open() {
            Ok((file, bytes)) => Ok(Self { path, file, bytes }),
            Err(source) => Err(DownloadError::Write { path, source }),
        }
    }

    /// Fetches what is missing.
    fn fetch(
        &mut self,
        agent: &Agent,
        address: &str,
        stop: &AtomicBool,
        watch: &mut dyn FnMut(DownloadProgress),
    ) -> Result<(), Failure> {
        let mut request = agent.get(address);
        if self.bytes > 0 {
            request = request.header("range", format!("bytes={}-", self.bytes));
        }
        let response = request.call().map_err(|e| Failure::Broken(e.to_string()))?;
        let header = |name: &str| {
            let value = response.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let total = match response.status().as_u16() {
            200 => {
                // The whole from the beginning, whatever was asked for.
                self.restart()?;
                header("content-length").and_then(|length| length.parse().ok())
            }
            206 => {
                let range = header("content-range").unwrap_or_default();
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
            status @ (408 | 429 | 500..=599) => {
                return Err(Failure::Broken(format!("answered with status {status}")));
            }
            status => return Err(Failure::Hopeless(format!("answered with status {status}"))),
        };
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
            self.file.write_all(block).map_err(|e| self.failed(e))?;
            self.bytes += read as u64;
        }
    }

    fn restart(&mut self) -> Result<(), Failure> {
        self.file.set_len(0).map_err(|e| self.failed(e))?;
        self.file.rewind().map_err(|e| self.failed(e))?;
        self.bytes = 0;
        Ok(())
    }

    fn failed(&self, source: io::Error) -> Failure {
        Failure::Final(DownloadError::Write {
            path: self.path.clone(),
            source,
        })
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
