//! Tracks as vectors of their ratings by the attributes of MGPHot.

use segue_catalog::content::TrackContent;
use segue_catalog::current_library::CurrentLibrary;
use segue_catalog::encoder::{ContentError, Encoder, EncoderError};
use segue_catalog::ratings::schema::COUNT;
use segue_catalog::ratings::segment::segment;

/// Finds a track's ratings in a library: 58 numbers from −1 to 1, 0 where something is not rated
/// ([`segue_catalog::ratings::segment`]).
#[derive(Debug)]
pub struct RatingsEncoder {
    library: CurrentLibrary,
}

impl RatingsEncoder {
    /// Of what `library` knows.
    pub fn new(library: impl Into<CurrentLibrary>) -> Self {
        Self {
            library: library.into(),
        }
    }
}

impl Encoder for RatingsEncoder {
    fn name(&self) -> &'static str {
        "ratings"
    }

    fn dimensions(&self) -> usize {
        COUNT
    }

    fn encode(
        &mut self,
        tracks: &[TrackContent],
        rows: &mut Vec<f32>,
    ) -> Result<Vec<Result<(), ContentError>>, EncoderError> {
        let library = self.library.now();
        let outcomes = tracks.iter().map(|track| {
            let rated = library.ratings(track);
            match rated.as_ref().and_then(segment) {
                Some(numbers) => {
                    rows.extend(numbers);
                    Ok(())
                }
                None => {
                    rows.resize(rows.len() + COUNT, 0.0);
                    Err(ContentError {
                        track: track.key.to_string(),
                        detail: "the library has no ratings of it that say anything".to_owned(),
                    })
                }
            }
        });
        Ok(outcomes.collect())
    }
}
