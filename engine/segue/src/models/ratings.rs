//! Ratings of tracks from a file, which the language model is told in words (the history prompt).

use std::path::Path;

use anyhow::{Context, Result};
use segue_catalog::ratings::table::RatingTable;
use segue_e4srec::TrackFeatures;
use segue_listen::TrackKey;
use segue_recommend::recommender::TrackNames;

/// Ratings by track.
#[derive(Debug, Default)]
pub struct Ratings(RatingTable);

impl Ratings {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or is no table of ratings.
    pub fn read(path: &Path) -> Result<Self> {
        let table = RatingTable::read(path).context("models.ratings")?;
        Ok(Self(table))
    }
}

impl TrackFeatures for Ratings {
    fn names(&self) -> &[String] {
        self.0.columns()
    }

    // By names: the file knows no other identity.
    fn ratings(&self, _: TrackKey, names: TrackNames<'_>) -> Option<&[f32]> {
        self.0.of(TrackKey::from_names(names.artist, names.title))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_track_is_found_by_its_names_whatever_its_key() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "artist\ttitle\tTempo\tSad\nA\tB\t0\t5\n").unwrap();
        let ratings = Ratings::read(file.path()).unwrap();
        assert_eq!(ratings.names(), ["Tempo", "Sad"]);
        let of = |artist, title| ratings.ratings(TrackKey(1), TrackNames { artist, title });
        assert_eq!(of("a", "b"), Some(&[0.0, 5.0][..]));
        assert_eq!(of("A", "C"), None);
        let error = Ratings::read(Path::new("/nowhere.tsv")).unwrap_err();
        assert!(format!("{error:#}").starts_with("models.ratings: /nowhere.tsv"));
    }
}
