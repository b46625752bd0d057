//! Ratings of tracks from a file: the language model is told them in words (the history prompt), and tracks'
//! vectors have them as numbers.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
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

    /// The table, of which tracks' vectors are made.
    ///
    /// # Errors
    /// It rates by no attribute that vectors have a place for.
    pub fn encoded(self) -> Result<Arc<RatingTable>> {
        let Self(table) = self;
        let strangers = table.strangers();
        if strangers.len() == table.columns().len() {
            bail!(
                "models.ratings rates by no attribute of MGPHot, and models.encode_ratings is of those alone: \
                 name columns as `segue encode mgphot` does, or set it to false"
            );
        }
        if !strangers.is_empty() {
            tracing::warn!(
                columns = strangers.join(", "),
                "models.ratings: what is no attribute of MGPHot is no part of tracks' vectors"
            );
        }
        Ok(Arc::new(table))
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
        assert_eq!(ratings.encoded().unwrap().columns().len(), 2);
        let strange = RatingTable::new(vec!["Loudness".to_owned()]);
        let error = Ratings(strange).encoded().unwrap_err().to_string();
        assert!(error.contains("no attribute of MGPHot"), "{error}");
        let error = Ratings::read(Path::new("/nowhere.tsv")).unwrap_err();
        assert!(format!("{error:#}").starts_with("models.ratings: /nowhere.tsv"));
    }
}
