//! Tracks as vectors of what they sound like.

use segue_catalog::content::TrackContent;
use segue_catalog::current_library::CurrentLibrary;
use segue_catalog::encoder::{ContentError, Encoder, EncoderError};
use segue_flow::Remedy;

use super::crop::{Crop, listen};
use super::model::AudioModel;
use crate::EncodeError;

/// Finds a track's audio in a library, listens to some of it, and gives that to a model. The vector
/// of a track is the mean of its stretches.
pub struct AudioEncoder {
    model: Box<dyn AudioModel>,
    crop: Crop,
    library: CurrentLibrary,
}

impl AudioEncoder {
    /// A model that listens to what `crop` says of the files that `library` names.
    pub fn new(model: Box<dyn AudioModel>, crop: Crop, library: impl Into<CurrentLibrary>) -> Self {
        Self {
            model,
            crop,
            library: library.into(),
        }
    }

    /// The vector of one file. The outer error is of the model, the inner of the file.
    pub fn of_file(
        &mut self,
        path: &std::path::Path,
    ) -> Result<Result<Vec<f32>, String>, EncodeError> {
        let (rate, channels) = (self.model.rate(), self.model.channels());
        let stretches = match listen(path, &self.crop, rate, channels) {
            Ok(stretches) => stretches,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let mut sum = vec![0f64; self.model.dimensions()];
        for samples in &stretches {
            let vector = match self.model.embed(samples) {
                Ok(vector) => vector,
                Err(EncodeError::Sound(problem)) => return Ok(Err(problem.to_string())),
                Err(error) => return Err(error),
            };
            for (sum, value) in sum.iter_mut().zip(vector) {
                *sum += f64::from(value) / stretches.len() as f64;
            }
        }
        let vector: Vec<f32> = sum.iter().map(|&sum| sum as f32).collect();
        if vector.iter().any(|value| !value.is_finite()) {
            return Ok(Err(format!("{}: its vector is not finite", path.display())));
        }
        Ok(Ok(vector))
    }
}

impl std::fmt::Debug for AudioEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AudioEncoder")
            .field("model", &self.model.name())
            .field("crop", &self.crop)
            .field("library", &self.library.now().described())
            .finish()
    }
}

impl Encoder for AudioEncoder {
    fn name(&self) -> &'static str {
        self.model.name()
    }

    fn dimensions(&self) -> usize {
        self.model.dimensions()
    }

    fn encode(
        &mut self,
        tracks: &[TrackContent],
        rows: &mut Vec<f32>,
    ) -> Result<Vec<Result<(), ContentError>>, EncoderError> {
        let library = self.library.now();
        let width = self.model.dimensions();
        let mut made = Vec::with_capacity(tracks.len() * width);
        let mut outcomes = Vec::with_capacity(tracks.len());
        for track in tracks {
            let audio = library
                .of(track.key, &track.artist, &track.title)
                .and_then(|media| media.audio.as_deref());
            let heard = match audio {
                None => Err("the library names no audio of it".to_owned()),
                Some(path) => self.of_file(path).map_err(|error| EncoderError {
                    encoder: self.model.name(),
                    detail: error.to_string(),
                    remedy: Remedy::Retry,
                })?,
            };
            outcomes.push(match heard {
                Ok(vector) => {
                    made.extend(vector);
                    Ok(())
                }
                Err(detail) => {
                    made.resize(made.len() + width, 0.0);
                    Err(ContentError {
                        track: track.key.to_string(),
                        detail,
                    })
                }
            });
        }
        rows.append(&mut made);
        Ok(outcomes)
    }
}
