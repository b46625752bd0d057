//! Who encodes tracks: their names at once, and what a library knows of them beside, lyrics, audio and ratings,
//! on a thread that takes its time.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use segue_catalog::current_library::CurrentLibrary;
use segue_catalog::encoder::Encoder;
use segue_catalog::library::Library;
use segue_catalog::modality::ModalityKind;
use segue_catalog::newcomers::Encoders;
use segue_encode::audio::crop::Crop;
use segue_encode::multimodal::{MultimodalEncoder, Part, cache_in};
use segue_encode::ratings::RatingsEncoder;
use segue_encode::text::{TextEncoder, TextOf};
use segue_encode::vector_cache::{VectorCache, file_print};
use segue_flow::clock::WallClock;

use super::library_watch::LibraryWatch;
use super::sound::{Sound, Wording};
use super::{ModelSettings, Models, Ratings};
use crate::config::Config;

const SETTINGS: Wording = Wording {
    model: "models.audio_encoder = ",
    layers: "models.audio_layers = ",
};

impl ModelSettings {
    /// Refuses what cannot be meant of the library.
    ///
    /// # Errors
    /// The key that is out of range, or another one that it needs.
    pub fn check(&self) -> Result<()> {
        let sound = self.sound();
        sound
            .crop
            .check()
            .map_err(|problem| anyhow::anyhow!("models.audio_{problem}"))?;
        sound.layers()?;
        let without = self.library.as_os_str().is_empty();
        if without && (self.lyrics || self.listens()) {
            bail!(
                "models.lyrics and models.audio_encoder are of the tracks in models.library, which is empty: \
                 name a file there"
            );
        }
        if self.encode_ratings && self.ratings.as_os_str().is_empty() {
            bail!("models.encode_ratings is of models.ratings, which is empty: name a file there");
        }
        Ok(())
    }

    fn listens(&self) -> bool {
        !self.audio_encoder.is_empty()
    }

    fn sound(&self) -> Sound<'_> {
        Sound {
            model: &self.audio_encoder,
            layers: &self.audio_layers,
            crop: Crop {
                seconds: self.audio_seconds,
                count: self.audio_count,
            },
            wording: SETTINGS,
        }
    }

    /// The library, empty where none is set, with ratings where they are a part of vectors.
    ///
    /// # Errors
    /// It cannot be read, by its first bad line.
    fn read_library(&self) -> Result<Library> {
        let mut library = Library::default();
        if !self.library.as_os_str().is_empty() {
            library = Library::read(&self.library).context("models.library cannot be read")?;
            tracing::info!(
                tracks = library.described(),
                "library {}",
                self.library.display()
            );
        }
        if self.encode_ratings {
            let ratings = Ratings::read(&self.ratings)?.encoded()?;
            let tracks = ratings.tracks().len();
            tracing::info!(tracks, "ratings {}", self.ratings.display());
            library = library.with_ratings(ratings);
        }
        Ok(library)
    }

    /// The files that it is read from.
    fn library_files(&self) -> Vec<PathBuf> {
        let ratings = Some(&self.ratings).filter(|_| self.encode_ratings);
        let files = std::iter::once(&self.library).chain(ratings);
        let named = files.filter(|file| !file.as_os_str().is_empty());
        named.cloned().collect()
    }

    /// Vectors of a kind that were made before, if they are kept.
    fn cache(&self, of: ModalityKind, made_by: &str, dimensions: usize) -> Option<VectorCache> {
        let folder = &self.vector_cache;
        let longest = self.vector_cache_mib << 20;
        match folder.as_os_str().is_empty() {
            true => None,
            false => cache_in(folder, of, made_by, dimensions, longest),
        }
    }
}

/// What tells the vectors of texts from others.
///
/// # Errors
/// The weights cannot be read.
pub fn text_made_by(encoder: &TextEncoder, of: TextOf, folder: &Path) -> Result<String> {
    let weights = folder.join("model.safetensors");
    let print = file_print(&weights);
    let print = print.with_context(|| format!("{} cannot be read", weights.display()))?;
    Ok(format!("text {of:?} {print} {}", encoder.arithmetic()))
}

impl Models {
    /// Who encodes tracks, and how many at once.
    ///
    /// # Errors
    /// Weights that are missing or torn, by file; a library that cannot be read.
    pub fn encoders(&self, config: &Config) -> Result<Encoders> {
        let settings = &config.models;
        let library = CurrentLibrary::from(settings.read_library()?);
        self.encoders_of(settings, library)
    }

    /// The same for a run: where the library changes meanwhile, it is read anew.
    ///
    /// # Errors
    /// As [`Self::encoders`].
    pub fn live_encoders(&self, config: &Config, clock: Arc<dyn WallClock>) -> Result<Encoders> {
        let settings = &config.models;
        let (files, every) = (settings.library_files(), settings.library_every);
        if config.recommend.exact || files.is_empty() || every.is_zero() {
            return self.encoders(config);
        }
        let again = settings.clone();
        let (watch, library) = LibraryWatch::over(files, move || again.read_library())?;
        watch.keep(library.clone(), every, clock)?;
        self.encoders_of(settings, library)
    }

    fn encoders_of(&self, settings: &ModelSettings, library: CurrentLibrary) -> Result<Encoders> {
        let albums = match settings.albums {
            true => library.clone(),
            false => CurrentLibrary::default(),
        };
        let quick = self.text(settings)?.with_library(albums, TextOf::Names);
        let mut parts = Vec::new();
        if settings.lyrics {
            let of = TextOf::Lyrics;
            let encoder = self.text(settings)?.with_library(library.clone(), of);
            let made_by = text_made_by(&encoder, of, &self.folder.join("minilm"))?;
            parts.push(Part {
                kind: ModalityKind::Lyrics,
                cache: settings.cache(ModalityKind::Lyrics, &made_by, encoder.dimensions()),
                encoder: Box::new(encoder),
            });
        }
        if settings.listens() {
            let (encoder, made_by) = settings.sound().load(
                library.clone(),
                &self.folder,
                self.choice.device,
                settings.precision,
            )?;
            parts.push(Part {
                kind: ModalityKind::Audio,
                cache: settings.cache(ModalityKind::Audio, &made_by, encoder.dimensions()),
                encoder: Box::new(encoder),
            });
        }
        if settings.encode_ratings {
            parts.push(Part {
                kind: ModalityKind::Ratings,
                cache: None,
                encoder: Box::new(RatingsEncoder::new(library.clone())),
            });
        }
        let thorough = (!parts.is_empty())
            .then(|| Box::new(MultimodalEncoder::new(parts, library.clone())) as Box<dyn Encoder>);
        Ok(Encoders {
            quick: Box::new(quick),
            batch: settings.encoder_batch,
            thorough,
            library,
        })
    }

    fn text(&self, settings: &ModelSettings) -> Result<TextEncoder> {
        let folder = self.folder.join("minilm");
        let encoder = TextEncoder::load(&folder, self.choice.device, settings.precision);
        encoder.context(
            "the text encoder cannot be loaded; run `make setup`, or `segue models pull minilm`",
        )
    }
}
