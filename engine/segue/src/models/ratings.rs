//! Ratings of tracks from a file, which the language model is told in words (the history prompt).
//!
//! ```text
//! artist          title           Tempo   Danceability
//! Miles Davis     Blue in Green   1       0.5
//! ```
//!
//! Columns are separated by tabs; from the third on they are named as what is rated, and each rating is a
//! number from 0 to 5 as in MGPHot, or empty where there is none.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use segue_e4srec::TrackFeatures;
use segue_listen::TrackKey;
use segue_recommend::recommender::TrackNames;

/// The most that a rating can be.
const MOST: f32 = 5.0;

/// Ratings by track.
#[derive(Debug, Default)]
pub struct Ratings {
    names: Vec<String>,
    tracks: HashMap<TrackKey, Vec<f32>>,
}

impl Ratings {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read; a row with another number of columns than the first, or with a rating that is
    /// none: named with its line.
    pub fn read(path: &Path) -> Result<Self> {
        let of_file = || format!("models.ratings: {}", path.display());
        let text = std::fs::read_to_string(path).with_context(of_file)?;
        Self::parse(&text).with_context(of_file)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut lines = (1u64..).zip(text.lines());
        let head = lines
            .next()
            .map(|(_, line)| line.split('\t').collect::<Vec<_>>());
        let names = match head.as_deref() {
            Some(["artist", "title", names @ ..]) if !names.is_empty() => names,
            _ => bail!("line 1 has to name the columns: artist, title, and what is rated"),
        };
        let mut ratings = Self {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            tracks: HashMap::new(),
        };
        for (number, line) in lines.filter(|(_, line)| !line.is_empty()) {
            let columns: Vec<&str> = line.split('\t').collect();
            let [artist, title, values @ ..] = columns.as_slice() else {
                bail!("line {number} has no artist and title");
            };
            ensure!(
                values.len() == ratings.names.len(),
                "line {number} has {} ratings, line 1 names {}",
                values.len(),
                ratings.names.len()
            );
            let values = values.iter().map(|value| match value.trim() {
                "" => Ok(f32::NAN),
                value => match value.parse() {
                    Ok(rating) if (0.0..=MOST).contains(&rating) => Ok(rating),
                    _ => bail!("line {number}: `{value}` is no rating from 0 to 5"),
                },
            });
            let key = TrackKey::from_names(artist, title);
            ratings.tracks.insert(key, values.collect::<Result<_>>()?);
        }
        Ok(ratings)
    }
}

impl TrackFeatures for Ratings {
    fn names(&self) -> &[String] {
        &self.names
    }

    // By names: the file knows no other identity.
    fn ratings(&self, _: TrackKey, names: TrackNames<'_>) -> Option<&[f32]> {
        let key = TrackKey::from_names(names.artist, names.title);
        self.tracks.get(&key).map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_by_names_and_mistakes_by_line() {
        let text = "artist\ttitle\tTempo\tSad\nAir\tLa Femme d'Argent\t2.5\t\n\nA\tB\t0\t5\n";
        let ratings = Ratings::parse(text).unwrap();
        assert_eq!(ratings.names(), ["Tempo", "Sad"]);
        let of = |artist, title| ratings.ratings(TrackKey(1), TrackNames { artist, title });
        assert_eq!(of("A", "B"), Some(&[0.0, 5.0][..]));
        let air = of("Air", "La Femme d'Argent").unwrap();
        assert!(air[0] == 2.5 && air[1].is_nan());
        assert_eq!(of("A", "C"), None);
        for (text, words) in [
            ("", "line 1"),
            ("title\tartist\tTempo\n", "line 1"),
            ("artist\ttitle\n", "line 1"),
            ("artist\ttitle\tTempo\nA\n", "line 2 has no artist"),
            (
                "artist\ttitle\tTempo\nA\tB\n",
                "line 2 has 0 ratings, line 1 names 1",
            ),
            ("artist\ttitle\tTempo\nA\tB\t5.1\n", "line 2: `5.1`"),
            ("artist\ttitle\tTempo\nA\tB\tNaN\n", "line 2: `NaN`"),
            ("artist\ttitle\tTempo\nA\tB\tloud\n", "line 2: `loud`"),
        ] {
            let error = format!("{:#}", Ratings::parse(text).unwrap_err());
            assert!(error.contains(words), "{error}");
        }
        let error = Ratings::read(Path::new("/nowhere.tsv")).unwrap_err();
        assert!(format!("{error:#}").contains("models.ratings: /nowhere.tsv"));
    }
}
