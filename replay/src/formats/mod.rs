//! The logs that can be read. Each format is a function that visits listens in the file's own order.

pub mod detect;
pub mod lastfm;
pub mod listenbrainz;
pub mod profile;
pub mod segue;
pub mod spotify;

mod json;

use std::fmt;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use segue_listen::ListenRef;

use crate::error::ReplayError;
use crate::open::{BytesRead, damage, input_error, open};
use crate::rejects::{Place, Reason, Rejects};
use crate::settings::ReadSettings;

/// What a reader calls for each listen. `Break` ends the reading without an error.
pub trait Visit: FnMut(ListenRef<'_>) -> Result<ControlFlow<()>, ReplayError> {}

impl<F: FnMut(ListenRef<'_>) -> Result<ControlFlow<()>, ReplayError>> Visit for F {}

/// A format of listening logs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// See [`lastfm`].
    LastFm,
    /// See [`listenbrainz`].
    ListenBrainz,
    /// See [`spotify`].
    Spotify,
    /// See [`segue`].
    Segue,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::LastFm => "LastFM-1K",
            Format::ListenBrainz => "ListenBrainz JSON lines",
            Format::Spotify => "Spotify extended streaming history",
            Format::Segue => "Segue JSON lines",
        })
    }
}

/// Whether a log is a file or a member of a tar archive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Container {
    /// The file is the log.
    File,
    /// The file is an archive that holds the log, as LastFM-1K is published.
    Tar,
}

/// A log that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Log {
    /// Its file.
    pub path: PathBuf,
    /// What it is.
    pub format: Format,
    /// What it is in.
    pub container: Container,
    /// The file's size on disk, in bytes.
    pub bytes: u64,
}

/// What a reader needs to know and where it puts bad rows.
#[derive(Debug)]
pub struct Reading<'a> {
    /// The file's name, for messages.
    pub path: &'a Path,
    /// How to read.
    pub settings: &'a ReadSettings,
    /// Where bad rows go.
    pub rejects: &'a mut Rejects,
}

impl Reading<'_> {
    /// Notes a bad row.
    ///
    /// # Errors
    /// [`ReplayError::Write`].
    #[cold]
    pub fn reject(&mut self, line: u64, reason: Reason, row: &[u8]) -> Result<(), ReplayError> {
        let place = Place {
            path: self.path,
            line,
        };
        self.rejects.reject(place, reason, row)
    }
}

impl Log {
    /// Visits the log's listens in its own order.
    ///
    /// # Errors
    /// Those of the file, the visitor and the rejects file; never those of a single row.
    pub fn read(
        &self,
        settings: &ReadSettings,
        rejects: &mut Rejects,
        counter: &BytesRead,
        visit: impl Visit,
    ) -> Result<ControlFlow<()>, ReplayError> {
        let input = open(&self.path, counter)?;
        let mut reading = Reading {
            path: &self.path,
            settings,
            rejects,
        };
        match self.container {
            Container::File => read(self.format, input, &mut reading, visit),
            Container::Tar => with_member(input, &self.path, lastfm::FILE_NAME, |member| {
                read(self.format, member, &mut reading, visit)
            }),
        }
    }
}

fn read(
    format: Format,
    input: impl Read,
    reading: &mut Reading<'_>,
    visit: impl Visit,
) -> Result<ControlFlow<()>, ReplayError> {
    match format {
        Format::LastFm => lastfm::read(input, reading, visit),
        Format::ListenBrainz => listenbrainz::read(input, reading, visit),
        Format::Spotify => spotify::read(input, reading, visit),
        Format::Segue => segue::read(input, reading, visit),
    }
}

/// Gives `then` the archive's member of that file name, as a stream.
///
/// # Errors
/// [`ReplayError::Damaged`] for a broken archive, [`ReplayError::UnknownFormat`] where there is no
/// such member, and those of `then`.
pub(crate) fn with_member<T>(
    input: impl Read,
    path: &Path,
    name: &str,
    then: impl FnOnce(&mut dyn Read) -> Result<T, ReplayError>,
) -> Result<T, ReplayError> {
    let broken = |error: std::io::Error| match input_error(path, error) {
        ReplayError::Read { source, .. } => ReplayError::Damaged {
            path: path.to_owned(),
            form: "tar",
            detail: source.to_string(),
        },
        other => other,
    };
    let mut archive = tar::Archive::new(input);
    for entry in archive.entries().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let found = entry.path().map_err(broken)?;
        if found.file_name().is_some_and(|found| found == name) {
            let left = entry.size();
            return then(&mut Member { entry, left });
        }
    }
    Err(ReplayError::UnknownFormat {
        path: path.to_owned(),
        found: format!("a tar archive without a file {name}"),
    })
}

/// A member that notices when the archive stops before it does.
struct Member<R> {
    entry: R,
    left: u64,
}

impl<R: Read> Read for Member<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.entry.read(into)?;
        if read == 0 && self.left > 0 && !into.is_empty() {
            return Err(damage("tar", "it ends in the middle".to_owned()));
        }
        self.left = self.left.saturating_sub(read as u64);
        Ok(read)
    }
}
