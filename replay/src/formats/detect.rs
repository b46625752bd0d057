//! Which format a file has: by what is in it, and by its name only where that leaves it open.

use std::path::Path;

use super::{Container, Format, Log, lastfm, profile};
use crate::error::ReplayError;
use crate::iso;
use crate::lines::read_some;
use crate::open::{BytesRead, input_error, open};

/// How much of a file is looked at.
const HEAD_BYTES: usize = 64 * 1024;

/// Where the magic of a tar archive stands.
const TAR_MAGIC: std::ops::Range<usize> = 257..262;

/// What a file is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Detected {
    /// A listening log.
    Log(Log),
    /// LastFM-1K's table of users: known, but no log.
    Profile,
    /// Something else; in words.
    Unknown(String),
}

/// Looks at the first bytes of `path`.
///
/// # Errors
/// [`ReplayError::Read`], [`ReplayError::Empty`], [`ReplayError::Damaged`] if not one byte can be
/// unpacked.
pub fn detect(path: &Path) -> Result<Detected, ReplayError> {
    let mut input = open(path, &BytesRead::default())?;
    let mut head = vec![0; HEAD_BYTES];
    let mut known = 0;
    while known < head.len() {
        match read_some(&mut input, head.get_mut(known..).unwrap_or(&mut [])) {
            Ok(0) => break,
            Ok(read) => known += read,
            // What can be read tells the format; the damage is reported when it is reached.
            Err(_) if known > 0 => break,
            Err(error) => return Err(input_error(path, error)),
        }
    }
    head.truncate(known);
    if head.is_empty() {
        return Err(ReplayError::Empty {
            path: path.to_owned(),
        });
    }
    let bytes = std::fs::metadata(path)
        .map_err(|e| ReplayError::read(path, e))?
        .len();
    let log = |format, container| {
        Detected::Log(Log {
            path: path.to_owned(),
            format,
            container,
            bytes,
        })
    };
    if head.get(TAR_MAGIC) == Some(b"ustar") {
        return Ok(log(Format::LastFm, Container::Tar));
    }
    Ok(match by_content(&head) {
        Content::Log(format) => log(format, Container::File),
        Content::Profile => Detected::Profile,
        Content::Unknown(found) => Detected::Unknown(found),
    })
}

/// The log that a file is by its name, whatever is in it: a file that was named and in which every
/// row is bad shall say so row by row.
pub fn by_name(path: &Path) -> Option<Format> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let name = [".gz", ".zst"]
        .iter()
        .find_map(|packed| name.strip_suffix(packed))
        .unwrap_or(&name);
    match name.rsplit_once('.')?.1 {
        "tsv" => Some(Format::LastFm),
        "jsonl" | "ndjson" | "listens" => Some(Format::ListenBrainz),
        _ => None,
    }
}

enum Content {
    Log(Format),
    Profile,
    Unknown(String),
}

fn by_content(head: &[u8]) -> Content {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let text = head.trim_ascii_start();
    let has = |needle: &[u8]| memchr::memmem::find(text, needle).is_some();
    match text.first() {
        Some(b'[')
            if has(b"\"ms_played\"")
                || has(b"\"msPlayed\"")
                || text.get(1..).is_some_and(only_an_end) =>
        {
            Content::Log(Format::Spotify)
        }
        Some(b'{') if has(b"\"track_metadata\"") => Content::Log(Format::ListenBrainz),
        Some(b'{') if has(b"\"at_ms\"") || has(b"\"heartbeat_ms\"") => Content::Log(Format::Segue),
        Some(b'[' | b'{') => Content::Unknown("JSON of another kind".to_owned()),
        _ if profile::is_header(head) => Content::Profile,
        _ if head.split(|byte| *byte == b'\n').any(is_lastfm_row) => Content::Log(Format::LastFm),
        _ => Content::Unknown(format!("it begins with `{}`", beginning(text))),
    }
}

/// An empty array: a history without plays.
fn only_an_end(rest: &[u8]) -> bool {
    rest.trim_ascii() == b"]"
}

/// Six columns with a time in the second: what no other table has by chance.
fn is_lastfm_row(row: &[u8]) -> bool {
    let Ok(row) = std::str::from_utf8(row) else {
        return false;
    };
    lastfm::columns(row.trim_end_matches('\r'))
        .is_some_and(|[_, time, ..]: [&str; 6]| iso::parse(time) != Err(iso::BadTime::Unreadable))
}

fn beginning(text: &[u8]) -> String {
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or(&[]);
    let text = String::from_utf8_lossy(line.get(..40).unwrap_or(line));
    text.escape_debug().to_string()
}
