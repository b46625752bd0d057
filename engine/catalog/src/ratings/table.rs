//! A file of ratings: a table with tabs.
//!
//! ```text
//! artist          title           Tempo   Danceability
//! Miles Davis     Blue in Green   1       0.5
//! ```
//!
//! From the third column on columns are named as what is rated, and each rating is a number from 0 to 5,
//! or empty where there is none. The file that MGPHot itself publishes (`mgphot_gene_values.tsv`, Zenodo
//! record 15372063, for non-commercial use) is read too: of its columns `artist`, `title` and
//! `gene_values`, a list of 58 numbers from 0 to 1 in the order of the schema, which are a fifth of the
//! ratings here.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use segue_listen::TrackKey;

use super::MOST;
use super::schema::{ATTRIBUTES, COUNT, place_of};

/// The column in which MGPHot publishes its lists.
const GENE_VALUES: &str = "gene_values";

/// A track and its ratings.
#[derive(Clone, PartialEq, Debug)]
pub struct RatedTrack {
    /// As the file writes it.
    pub artist: Box<str>,
    /// As the file writes it.
    pub title: Box<str>,
    /// In the order of the table's columns, each from 0 to 5; one that is no number is not there.
    pub ratings: Vec<f32>,
}

impl RatedTrack {
    /// By its names: such a file knows no other identity.
    pub fn key(&self) -> TrackKey {
        TrackKey::from_names(&self.artist, &self.title)
    }
}

/// Ratings by track, in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct RatingTable {
    columns: Vec<String>,
    tracks: Vec<RatedTrack>,
    places: HashMap<TrackKey, usize>,
}

/// A file that is no table of ratings. Nothing of it is used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// It is not there or may not be read.
    #[error("{path}: {error}; name a file that can be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A line of it is not what it should be.
    #[error("{path}, line {line} {problem}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
}

impl RatingTable {
    /// Without tracks.
    pub fn new(columns: Vec<String>) -> Self {
        Self {
            columns,
            ..Self::default()
        }
    }

    /// With a column for each attribute of the schema.
    pub fn of_schema() -> Self {
        let columns = ATTRIBUTES.iter().map(|attribute| attribute.name.to_owned());
        Self::new(columns.collect())
    }

    /// Reads a file. Of several rows for one track the last counts.
    ///
    /// # Errors
    /// It cannot be read; a row with another number of columns than the first, or with a rating that is
    /// none: named with its line.
    pub fn read(path: &Path) -> Result<Self, TableError> {
        let text = std::fs::read_to_string(path).map_err(|error| TableError::Read {
            path: path.to_owned(),
            error,
        })?;
        Self::parse(&text).map_err(|(line, problem)| TableError::Line {
            path: path.to_owned(),
            line,
            problem,
        })
    }

    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut lines = (1..).zip(text.lines());
        let head: Vec<&str> = match lines.next() {
            Some((_, line)) => line.split('\t').map(str::trim).collect(),
            None => Vec::new(),
        };
        let found = |name: &str| head.iter().position(|c| c.eq_ignore_ascii_case(name));
        let published = match (found("artist"), found("title"), found(GENE_VALUES)) {
            (Some(artist), Some(title), Some(values)) => Some((artist, title, values)),
            _ => None,
        };
        let mut table = match (published, head.as_slice()) {
            (Some(_), _) => Self::of_schema(),
            (None, ["artist", "title", names @ ..]) if !names.is_empty() => {
                Self::new(names.iter().map(|&name| name.to_owned()).collect())
            }
            _ => {
                let problem = "has to name the columns: artist, title, and what is rated";
                return Err((1, problem.to_owned()));
            }
        };
        for (number, line) in lines.filter(|(_, line)| !line.is_empty()) {
            let columns: Vec<&str> = line.split('\t').collect();
            let track = match published {
                Some(places) => published_row(&columns, places),
                None => row(&columns, table.columns.len()),
            };
            table.insert(track.map_err(|problem| (number, problem))?);
        }
        Ok(table)
    }

    /// Adds a track, in place of what was known of it.
    pub fn insert(&mut self, track: RatedTrack) {
        let (key, place) = (track.key(), self.tracks.len());
        let place = *self.places.entry(key).or_insert(place);
        match self.tracks.get_mut(place) {
            Some(before) => *before = track,
            None => self.tracks.push(track),
        }
    }

    /// What is rated.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// All tracks, in the order of the file.
    pub fn tracks(&self) -> &[RatedTrack] {
        &self.tracks
    }

    /// A track's ratings, in the order of the columns.
    pub fn of(&self, track: TrackKey) -> Option<&[f32]> {
        let track = self.tracks.get(*self.places.get(&track)?)?;
        Some(&track.ratings)
    }

    /// Columns that are no attribute of the schema.
    pub fn strangers(&self) -> Vec<&str> {
        let columns = self.columns.iter().map(String::as_str);
        columns.filter(|name| place_of(name).is_none()).collect()
    }

    /// Ratings of a row by the schema, `[COUNT]`; what has no column is no number.
    pub fn by_schema(&self, ratings: &[f32]) -> [f32; COUNT] {
        let mut all = [f32::NAN; COUNT];
        for (name, &rating) in self.columns.iter().zip(ratings) {
            if let Some(place) = place_of(name).and_then(|place| all.get_mut(place)) {
                *place = rating;
            }
        }
        all
    }

    /// As the text of a file that [`RatingTable::read`] reads; ratings with three decimals.
    pub fn to_text(&self) -> String {
        let mut text = format!("artist\ttitle\t{}\n", self.columns.join("\t"));
        for track in &self.tracks {
            text.push_str(&in_a_column(&track.artist));
            text.push('\t');
            text.push_str(&in_a_column(&track.title));
            for rating in &track.ratings {
                text.push('\t');
                if rating.is_finite() {
                    // Writing to a string cannot fail.
                    let _ = write!(text, "{rating:.3}");
                }
            }
            text.push('\n');
        }
        text
    }
}

/// A name without what would end its column or line; the track's key does not tell them apart.
fn in_a_column(name: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    name.chars().map(plain).collect()
}

fn row(columns: &[&str], rated: usize) -> Result<RatedTrack, String> {
    let [artist, title, values @ ..] = columns else {
        return Err("has no artist and title".to_owned());
    };
    if values.len() != rated {
        let has = values.len();
        return Err(format!("has {has} ratings, line 1 names {rated}"));
    }
    let ratings = values.iter().map(|value| match value.trim() {
        "" => Ok(f32::NAN),
        value => match value.parse() {
            Ok(rating) if (0.0..=MOST).contains(&rating) => Ok(rating),
            _ => Err(format!("says `{value}`, which is no rating from 0 to 5")),
        },
    });
    Ok(RatedTrack {
        artist: (*artist).into(),
        title: (*title).into(),
        ratings: ratings.collect::<Result<_, _>>()?,
    })
}

fn published_row(columns: &[&str], places: (usize, usize, usize)) -> Result<RatedTrack, String> {
    let column = |place: usize| {
        let found = columns.get(place).copied();
        found.ok_or_else(|| format!("has {} columns", columns.len()))
    };
    let (artist, title, values) = (column(places.0)?, column(places.1)?, column(places.2)?);
    let values: Vec<f32> =
        serde_json::from_str(values).map_err(|error| format!("has no {GENE_VALUES}: {error}"))?;
    if values.len() != COUNT {
        return Err(format!("has {} {GENE_VALUES}, not {COUNT}", values.len()));
    }
    if let Some(wrong) = values.iter().find(|value| !(0.0..=1.0).contains(*value)) {
        return Err(format!(
            "has {wrong} among its {GENE_VALUES}: not from 0 to 1"
        ));
    }
    Ok(RatedTrack {
        artist: artist.trim().into(),
        title: title.trim().into(),
        ratings: values.into_iter().map(|value| value * MOST).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RatingTable, String> {
        RatingTable::parse(text).map_err(|(line, problem)| format!("line {line} {problem}"))
    }

    fn of<'a>(table: &'a RatingTable, artist: &str, title: &str) -> Option<&'a [f32]> {
        table.of(TrackKey::from_names(artist, title))
    }

    #[test]
    fn rows_are_found_by_names_and_mistakes_by_line() {
        let text =
            "artist\ttitle\tTempo\tSad Lyrics\nAir\tLa Femme d'Argent\t2.5\t\n\nA\tB\t0\t5\n";
        let table = parse(text).unwrap();
        assert_eq!(table.columns(), ["Tempo", "Sad Lyrics"]);
        assert_eq!(of(&table, "a", "b"), Some(&[0.0, 5.0][..]));
        let air = of(&table, "Air", "La Femme d'Argent").unwrap();
        assert!(air[0] == 2.5 && air[1].is_nan());
        assert_eq!(of(&table, "A", "C"), None);
        let schema = table.by_schema(&[0.0, 5.0]);
        assert_eq!((schema[9], schema[36]), (0.0, 5.0));
        assert_eq!(schema.iter().filter(|rating| rating.is_nan()).count(), 56);
        for (text, words) in [
            ("", "line 1 has to name"),
            ("title\tartist\tTempo\n", "line 1"),
            ("artist\ttitle\n", "line 1"),
            ("artist\ttitle\tTempo\nA\n", "line 2 has no artist"),
            (
                "artist\ttitle\tTempo\nA\tB\n",
                "line 2 has 0 ratings, line 1 names 1",
            ),
            ("artist\ttitle\tTempo\nA\tB\t5.1\n", "line 2 says `5.1`"),
            ("artist\ttitle\tTempo\nA\tB\tNaN\n", "line 2 says `NaN`"),
            ("artist\ttitle\tTempo\nA\tB\tloud\n", "line 2 says `loud`"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        let error = RatingTable::read(Path::new("/nowhere.tsv")).unwrap_err();
        assert!(error.to_string().contains("/nowhere.tsv"));
    }

    #[test]
    fn of_two_rows_for_a_track_the_last_counts() {
        let table = parse("artist\ttitle\tTempo\nA\tB\t1\nC\tD\t2\na\tb!\t3\n").unwrap();
        assert_eq!(table.tracks().len(), 2);
        assert_eq!(of(&table, "A", "B"), Some(&[3.0][..]));
        assert_eq!(of(&table, "C", "D"), Some(&[2.0][..]));
    }

    #[test]
    fn what_is_written_is_read_again_whatever_names_hold() {
        let mut table = RatingTable::new(vec!["Tempo".to_owned(), "Loudness".to_owned()]);
        table.insert(RatedTrack {
            artist: "A\tB".into(),
            title: "C\nD".into(),
            ratings: vec![1.25, f32::NAN],
        });
        let again = parse(&table.to_text()).unwrap();
        let ratings = of(&again, "A\tB", "C\nD").unwrap();
        assert!(ratings[0] == 1.25 && ratings[1].is_nan());
        assert_eq!(again.strangers(), ["Loudness"]);
    }

    #[test]
    fn the_published_file_is_read_as_it_is() {
        let row = |values: &str| {
            format!("mgphot_track_id\tartist\ttitle\tgene_values\n7\tA\tB\t{values}\n")
        };
        let list = |last: &str| format!("[{}{last}]", "0.4, ".repeat(57));
        let table = parse(&row(&list("1.0"))).unwrap();
        assert!(table.strangers().is_empty());
        let ratings = of(&table, "A", "B").unwrap();
        assert_eq!((ratings.len(), ratings[0], ratings[57]), (58, 2.0, 5.0));
        for (values, words) in [
            (list("1.5"), "line 2 has 1.5 among"),
            ("[0.4]".to_owned(), "line 2 has 1 gene_values"),
            ("nothing".to_owned(), "line 2 has no gene_values"),
        ] {
            let error = parse(&row(&values)).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
