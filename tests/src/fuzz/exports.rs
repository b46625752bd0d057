//! Listening logs of other houses.

use std::io::Read;
use std::path::Path;

use segue_listen::{Listen, TrackKey};
use segue_replay::formats::{self, Reading};
use segue_replay::{ReadSettings, RejectCounts, Rejects};

use super::{wire, within};

/// A limit that small inputs come over too.
const LONGEST_ROW: usize = 2048;

/// The readers' buffers, whatever the file.
const BUFFERS: usize = 2 << 20;

/// What a file was read as.
#[derive(PartialEq, Debug)]
struct Found {
    listens: Vec<Listen>,
    rejected: RejectCounts,
    /// Why reading ended early.
    error: Option<String>,
}

impl Found {
    fn rows(&self) -> u64 {
        let rejected: u64 = self.rejected.iter().map(|(_, count)| count).sum();
        self.listens.len() as u64 + rejected
    }
}

/// Gives a few bytes at a time, as an unpacker does.
struct Dribble<'a> {
    left: &'a [u8],
    step: usize,
}

impl Read for Dribble<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let (given, left) = self
            .left
            .split_at(self.step.min(self.left.len()).min(into.len()));
        into[..given.len()].copy_from_slice(given);
        self.left = left;
        Ok(given.len())
    }
}

fn found(format: formats::Format, input: impl Read) -> Found {
    let settings = ReadSettings {
        max_row_bytes: LONGEST_ROW,
        ..ReadSettings::default()
    };
    let mut rejects = Rejects::counted();
    let mut reading = Reading {
        path: Path::new("export"),
        settings: &settings,
        rejects: &mut rejects,
    };
    let mut listens = Vec::new();
    let visit = |listen: segue_listen::ListenRef<'_>| {
        listens.push(listen.to_owned());
        Ok(std::ops::ControlFlow::Continue(()))
    };
    let read = match format {
        formats::Format::LastFm => formats::lastfm::read(input, &mut reading, visit),
        formats::Format::ListenBrainz => formats::listenbrainz::read(input, &mut reading, visit),
        formats::Format::Spotify => formats::spotify::read(input, &mut reading, visit),
        formats::Format::Segue => formats::segue::read(input, &mut reading, visit),
    };
    Found {
        listens,
        rejected: *rejects.counts(),
        error: read.err().map(|error| error.to_string()),
    }
}

/// Reads the file whole and in drops, which have to agree; each play can be sent on.
fn export(format: formats::Format, bytes: &[u8]) -> Found {
    let whole = within(BUFFERS + 64 * bytes.len(), || found(format, bytes));
    let step = 1 + bytes.len() % 7;
    assert_eq!(whole, found(format, Dribble { left: bytes, step }));
    whole.listens.iter().for_each(wire::travels);
    whole
}

/// Every line is a play or is rejected.
fn lines(format: formats::Format, bytes: &[u8]) -> Found {
    let found = export(format, bytes);
    let ended = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let lines = match bytes {
        [] => 0,
        _ => ended.iter().filter(|byte| **byte == b'\n').count() + 1,
    };
    assert_eq!((found.rows(), &found.error), (lines as u64, &None));
    found
}

/// LastFM-1K's rows.
pub fn lastfm(bytes: &[u8]) -> bool {
    let found = lines(formats::Format::LastFm, bytes);
    for listen in &found.listens {
        let Listen {
            user,
            artist,
            title,
            ..
        } = listen;
        let mbid = match TrackKey::from_names(artist, title) == listen.track {
            true => String::new(),
            false => listen.track.to_string(),
        };
        let at = listen.at.to_rfc3339();
        let row = format!("{user}\t{at}\t\t{artist}\t{mbid}\t{title}");
        let again = formats::lastfm::parse(row.as_bytes()).unwrap();
        assert_eq!(&again.to_owned(), listen);
    }
    !found.listens.is_empty()
}

/// Spotify's streaming history.
pub fn spotify(bytes: &[u8]) -> bool {
    !export(formats::Format::Spotify, bytes).listens.is_empty()
}

/// ListenBrainz' JSON lines.
pub fn listenbrainz(bytes: &[u8]) -> bool {
    !lines(formats::Format::ListenBrainz, bytes)
        .listens
        .is_empty()
}
