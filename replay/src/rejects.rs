//! Rows that are no listens: counted by reason, and kept in a file with place and reason.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::ReplayError;

/// How much of a row the rejects file keeps.
const KEPT_BYTES: usize = 4096;

/// How many rejects are described for the report.
const EXAMPLES: usize = 10;

/// Why a row is no listen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Reason {
    /// Bytes that are not text.
    InvalidUtf8,
    /// Not the six columns of LastFM-1K.
    WrongColumns,
    /// Not the JSON object that the format has.
    BadJson,
    /// Nobody listened.
    NoUser,
    /// A time that cannot be read.
    BadTime,
    /// A time before 1970 or after 2099.
    ImplausibleTime,
    /// Neither artist, nor title, nor MusicBrainz id.
    NoTrack,
    /// Longer than the limit.
    TooLong,
    /// Larger than the sink takes.
    TooLarge,
    /// A podcast, an audiobook or a video: well formed, but no track. Not written to the file.
    NotMusic,
}

impl Reason {
    /// All of them, in the order of a report.
    pub const ALL: [Reason; 10] = [
        Reason::InvalidUtf8,
        Reason::WrongColumns,
        Reason::BadJson,
        Reason::NoUser,
        Reason::BadTime,
        Reason::ImplausibleTime,
        Reason::NoTrack,
        Reason::TooLong,
        Reason::TooLarge,
        Reason::NotMusic,
    ];

    /// The reason in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::InvalidUtf8 => "invalid UTF-8",
            Reason::WrongColumns => "not 6 columns",
            Reason::BadJson => "not a JSON object of this format",
            Reason::NoUser => "no user",
            Reason::BadTime => "unreadable time stamp",
            Reason::ImplausibleTime => "time stamp before 1970 or after 2099",
            Reason::NoTrack => "neither artist, title nor MusicBrainz id",
            Reason::TooLong => "row too long",
            Reason::TooLarge => "record too large for the sink",
            Reason::NotMusic => "not a track (podcast, audiobook or video)",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a row stands. What a sink refused stands in the topic, by its number in time order.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The file.
    pub path: &'a Path,
    /// Its line, from 1. In a JSON array: the line on which the element begins.
    pub line: u64,
}

/// How many rows were rejected for each reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RejectCounts([u64; Reason::ALL.len()]);

impl RejectCounts {
    /// How many for this reason.
    pub fn of(&self, reason: Reason) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }

    /// How many rows are bad. What is well formed and merely no music is not among them.
    pub fn bad(&self) -> u64 {
        self.0.iter().sum::<u64>() - self.of(Reason::NotMusic)
    }

    /// The reasons that occurred.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        Reason::ALL
            .into_iter()
            .map(|reason| (reason, self.of(reason)))
            .filter(|(_, count)| *count > 0)
    }
}

/// The counter and keeper of bad rows.
#[derive(Debug, Default)]
pub struct Rejects {
    counts: RejectCounts,
    examples: Vec<String>,
    kept: Option<(PathBuf, BufWriter<File>)>,
}

impl Rejects {
    /// Counts only.
    pub fn counted() -> Self {
        Self::default()
    }

    /// Counts, and writes each bad row to `path`: `file:line`, reason and the row's first 4 KiB in
    /// one line, separated by tabs. Folder and file are made; a file that is there is overwritten.
    ///
    /// # Errors
    /// [`ReplayError::Write`].
    pub fn kept_in(path: &Path) -> Result<Self, ReplayError> {
        Self::into_file(
            path,
            File::options().write(true).create(true).truncate(true),
        )
    }

    /// The same, after what the file holds already.
    ///
    /// # Errors
    /// [`ReplayError::Write`].
    pub fn added_to(path: &Path) -> Result<Self, ReplayError> {
        Self::into_file(path, File::options().append(true).create(true))
    }

    fn into_file(path: &Path, options: &OpenOptions) -> Result<Self, ReplayError> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let file = std::fs::create_dir_all(folder)
            .and_then(|()| options.open(path))
            .map_err(|e| ReplayError::write(path, e))?;
        Ok(Self {
            kept: Some((path.to_owned(), BufWriter::new(file))),
            ..Self::default()
        })
    }

    /// Notes a row.
    ///
    /// # Errors
    /// [`ReplayError::Write`].
    #[cold]
    pub fn reject(
        &mut self,
        place: Place<'_>,
        reason: Reason,
        row: &[u8],
    ) -> Result<(), ReplayError> {
        if let Some(count) = self.counts.0.get_mut(reason as usize) {
            *count += 1;
        }
        if reason == Reason::NotMusic {
            return Ok(());
        }
        let (file, line) = (place.path.display(), place.line);
        if self.examples.len() < EXAMPLES {
            self.examples.push(format!("{file}:{line}: {reason}"));
        }
        let Some((path, kept)) = &mut self.kept else {
            return Ok(());
        };
        let mut head = row.get(..KEPT_BYTES).unwrap_or(row).to_vec();
        for byte in head.iter_mut().filter(|byte| byte.is_ascii_control()) {
            if *byte != b'\t' {
                *byte = b' ';
            }
        }
        write!(kept, "{file}:{line}\t{reason}\t")
            .and_then(|()| kept.write_all(&head))
            .and_then(|()| kept.write_all(b"\n"))
            .map_err(|e| ReplayError::write(path, e))
    }

    /// How many, by reason.
    pub const fn counts(&self) -> &RejectCounts {
        &self.counts
    }

    /// Place and reason of the first few.
    pub fn examples(&self) -> &[String] {
        &self.examples
    }

    /// The file, if there is one.
    pub fn path(&self) -> Option<&Path> {
        self.kept.as_ref().map(|(path, _)| path.as_path())
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// [`ReplayError::Write`].
    pub fn flush(&mut self) -> Result<(), ReplayError> {
        match &mut self.kept {
            Some((path, kept)) => kept.flush().map_err(|e| ReplayError::write(path, e)),
            None => Ok(()),
        }
    }
}
