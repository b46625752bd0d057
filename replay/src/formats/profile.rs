//! LastFM-1K's `userid-profile.tsv`: `id, gender, age, country, registered`, with a header.

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;

use chrono::NaiveDate;

use super::{Container, lastfm, with_member};
use crate::error::ReplayError;
use crate::lines::{Line, Lines};
use crate::open::{BytesRead, input_error, open};
use crate::rejects::{Place, Reason, Rejects};

/// The table's name inside the published archive.
pub const FILE_NAME: &str = "userid-profile.tsv";

/// Longer rows are no profiles.
const LONGEST_ROW: usize = 64 * 1024;

/// What a listener told Last.fm about themselves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profile {
    /// The log's name for the listener.
    pub user: String,
    /// `m` or `f`.
    pub gender: Option<char>,
    /// In years. As stated: the published table has ages of 3 and of 103.
    pub age: Option<u16>,
    /// Its English name.
    pub country: Option<String>,
    /// The day of registration.
    pub registered: Option<NaiveDate>,
}

/// Whether a file begins as the table does.
pub(super) fn is_header(head: &[u8]) -> bool {
    head.starts_with(b"#id\tgender\tage\tcountry\tregistered")
}

/// What some tables say, in figures.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Listeners that have a profile.
    pub listeners: usize,
    /// Countries that they name.
    pub countries: usize,
}

impl Summary {
    /// Of these. A listener in two tables counts once.
    pub fn of(profiles: &[Profile]) -> Self {
        let listeners: HashSet<_> = profiles.iter().map(|profile| &profile.user).collect();
        let countries: HashSet<_> = profiles.iter().filter_map(|p| p.country.as_ref()).collect();
        Self {
            listeners: listeners.len(),
            countries: countries.len(),
        }
    }
}

/// Reads the table from a file (plain, .gz, .zst) or from the published archive; an archive without
/// one has no profiles.
///
/// # Errors
/// Those of the file. Rows without five columns or a user go to `rejects`.
pub fn read(
    path: &Path,
    container: Container,
    rejects: &mut Rejects,
) -> Result<Vec<Profile>, ReplayError> {
    let input = open(path, &BytesRead::default())?;
    match container {
        Container::File => rows(input, path, rejects),
        Container::Tar => {
            match with_member(input, path, FILE_NAME, |member| rows(member, path, rejects)) {
                Err(ReplayError::UnknownFormat { .. }) => Ok(Vec::new()),
                other => other,
            }
        }
    }
}

fn rows(input: impl Read, path: &Path, rejects: &mut Rejects) -> Result<Vec<Profile>, ReplayError> {
    let mut profiles = Vec::new();
    let mut lines = Lines::new(input, LONGEST_ROW);
    loop {
        let line = lines.next_line().map_err(|e| input_error(path, e))?;
        let (reason, row) = match line {
            None => return Ok(profiles),
            Some(Line::TooLong { head, .. }) => (Reason::TooLong, head),
            Some(Line::Whole(row)) if is_header(row) => continue,
            Some(Line::Whole(row)) => match profile(row) {
                Ok(profile) => {
                    profiles.push(profile);
                    continue;
                }
                Err(reason) => (reason, row),
            },
        };
        let row = row.to_vec();
        let line = lines.number();
        rejects.reject(Place { path, line }, reason, &row)?;
    }
}

fn profile(row: &[u8]) -> Result<Profile, Reason> {
    let row = std::str::from_utf8(row).map_err(|_| Reason::InvalidUtf8)?;
    let columns: Option<[&str; 5]> = lastfm::columns(row);
    let [user, gender, age, country, registered] = columns.ok_or(Reason::WrongColumns)?;
    if user.is_empty() {
        return Err(Reason::NoUser);
    }
    Ok(Profile {
        user: user.to_owned(),
        gender: gender.chars().next().filter(|_| gender.len() == 1),
        age: age.parse().ok(),
        country: (!country.is_empty()).then(|| country.to_owned()),
        registered: NaiveDate::parse_from_str(registered, "%b %d, %Y").ok(),
    })
}
