//! Device, encoder, and what is taught on a log or its first part: the far side of the wall, as the
//! binary puts it together.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use segue_catalog::modality::Modality;
use segue_e4srec::item_encoders::ItemEncoderSettings;
use segue_e4srec::settings::{
    BackboneSettings, Bert4RecSettings, E4SRecSettings, Fusion, Gru4RecSettings, SasRecSettings,
};
use segue_e4srec::{AdapterHistory, ClosedE4SRec, Footprint, Foundation, ZeroShot};
use segue_flow::clock::WallClock;
use segue_nn::device::{self, DeviceChoice, DevicePreference, Precision};
use segue_nn::memory;
use segue_recommend::stage::Curriculum;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::report::data::Headline;

mod hearing;
mod lessons;
mod library_watch;
pub mod place;
mod ratings;
pub mod sound;
mod taught;

pub use hearing::text_made_by;
pub use lessons::{Lessons, counts};
pub use ratings::Ratings;
pub use taught::Taught;

/// `[models]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSettings {
    /// `auto`, `cpu`, `cuda` or `cuda:1`.
    pub device: DevicePreference,
    /// Threads that one CPU operation is spread over; 0: one per core.
    pub threads: usize,
    /// What pretrained weights are multiplied in: `auto` (bf16 where the device does it natively),
    /// `f32`, `bf16`. The language model's own setting, where it is not `auto`, goes over it. What
    /// is trained here, the item encoder among it, is `f32` in any case.
    pub precision: Precision,
    /// The folder of pretrained weights; empty: $SEGUE_MODELS, else `.models`.
    pub folder: PathBuf,
    /// The language model: the name of a folder in `folder`, as `segue models pull NAME` makes it, or
    /// the path of a folder or file elsewhere.
    pub language_model: String,
    /// A file with ratings of tracks, which the language model is told where
    /// `e4srec.backbone.prompt` is `history`: a table with tabs, of artist, title, and columns named as
    /// what is rated, from 0 to 5. Empty: none.
    pub ratings: PathBuf,
    /// Whether these ratings are a part of tracks' vectors, too: those by the 58 attributes of MGPHot, from
    /// −1 to 1. A track without any goes without this part. They are read with the library, and tracks that
    /// are rated otherwise than before get new vectors.
    pub encode_ratings: bool,
    /// Tracks that are encoded at once.
    pub encoder_batch: usize,
    /// What is known of tracks beside their plays, their audio files, albums and lyrics: a file of JSON
    /// lines as `segue encode --help` shows it. It is read at each start and when it has changed, and tracks of
    /// which it says something else than before, or whose audio file is another, get new vectors. Empty: none.
    pub library: PathBuf,
    /// How often a run looks whether the library, or the ratings that are a part of vectors, have changed;
    /// they are read once they are the same at two looks. Not in exact mode, where nothing may depend on when.
    /// 0: only at each start.
    #[serde(with = "humantime_serde")]
    pub library_every: Duration,
    /// Whether the library's albums are a part of tracks' texts.
    pub albums: bool,
    /// Whether the library's lyrics are a part of tracks' vectors.
    pub lyrics: bool,
    /// What listens to the library's audio, whose part of tracks' vectors it makes: as `segue encode audio
    /// --model` has it. Empty: nothing.
    pub audio_encoder: String,
    /// Which hidden states of a wav2vec2 are the vector: `mean`, `last` or the number of a layer.
    pub audio_layers: String,
    /// Seconds of a track that are listened to at a time, 0.1 to 600.
    pub audio_seconds: f64,
    /// How many times, evenly spread over it, 1 to 64.
    pub audio_count: usize,
    /// The folder where vectors of lyrics and audio are kept by what they are made of: what a run or
    /// `segue encode` with this setting has made is not made again. Empty: none is kept.
    pub vector_cache: PathBuf,
    /// Each kind's file there grows no longer than so many MiB.
    pub vector_cache_mib: u64,
    /// The folder where the adapters are kept that the language model publishes while it learns; empty:
    /// none is kept.
    pub adapters: PathBuf,
    /// How many of them, the newest.
    pub adapters_kept: usize,
    /// A folder that `segue train` has filled: its models answer from the first round on, and nothing
    /// is trained first. Empty: none.
    pub trained: PathBuf,
    /// Whether E4SRec is also trained with the closed head that it was published with, a row for each item
    /// of the training log: a baseline, measured beside the others (`e4srec-closed`). Not for models of
    /// `segue train`.
    pub closed_head: bool,
    /// Whether what the language model recommends of itself, untrained and uncut, is measured beside the
    /// others (`e4srec-zero-shot`). It loads all of its layers once more, and reads through all of them.
    /// Not for models of `segue train`.
    pub zero_shot: bool,
    /// Which item encoder is trained: it gives the language model its vectors, and answers where
    /// that one cannot.
    pub item_encoder: ItemEncoderChoice,
    /// The item encoder, where it is `sasrec`.
    pub sasrec: SasRecSettings,
    /// The item encoder, where it is `bert4rec`.
    pub bert4rec: Bert4RecSettings,
    /// The item encoder, where it is `gru4rec`.
    pub gru4rec: Gru4RecSettings,
    /// The language model over its items.
    pub e4srec: E4SRecSettings,
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            device: DevicePreference::Auto,
            threads: 0,
            precision: Precision::Auto,
            folder: PathBuf::new(),
            language_model: "smollm2-135m".to_owned(),
            ratings: PathBuf::new(),
            encode_ratings: false,
            encoder_batch: 128,
            library: PathBuf::new(),
            library_every: Duration::from_secs(10),
            albums: true,
            lyrics: false,
            audio_encoder: String::new(),
            audio_layers: "mean".to_owned(),
            audio_seconds: 30.0,
            audio_count: 1,
            vector_cache: PathBuf::new(),
            vector_cache_mib: 4_096,
            adapters: "out/adapters".into(),
            adapters_kept: 32,
            closed_head: false,
            zero_shot: false,
            item_encoder: ItemEncoderChoice::default(),
            trained: PathBuf::new(),
            sasrec: SasRecSettings::default(),
            bert4rec: Bert4RecSettings::default(),
            gru4rec: Gru4RecSettings::default(),
            e4srec: E4SRecSettings::default(),
        }
    }
}

impl ModelSettings {
    /// The item encoder that was chosen, as the root seed has it.
    fn item_encoder(&self, seed: u64) -> ItemEncoderSettings {
        match self.item_encoder {
            ItemEncoderChoice::SasRec => ItemEncoderSettings::SasRec(SasRecSettings {
                seed,
                ..self.sasrec.clone()
            }),
            ItemEncoderChoice::Bert4Rec => ItemEncoderSettings::Bert4Rec(Bert4RecSettings {
                seed,
                ..self.bert4rec.clone()
            }),
            ItemEncoderChoice::Gru4Rec => ItemEncoderSettings::Gru4Rec(Gru4RecSettings {
                seed,
                ..self.gru4rec.clone()
            }),
        }
    }
}

/// Which item encoder.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ItemEncoderChoice {
    /// Self-attention to what came before.
    #[default]
    SasRec,
    /// Self-attention to all around a hidden play.
    Bert4Rec,
    /// Gated recurrent units.
    Gru4Rec,
}

const ONLINE: &str = "e4srec-online";
const ONLINE_LOSS: &str = "online loss by epoch";

/// The device, chosen, and where weights are.
#[derive(Debug)]
pub struct Models {
    choice: DeviceChoice,
    threads: usize,
    folder: PathBuf,
}

impl Models {
    /// Chooses the device; must come before the first tensor.
    ///
    /// # Errors
    /// The folder of weights is not there.
    pub fn load(config: &Config) -> Result<Self> {
        let choice = device::choose(config.models.device);
        let threads = (config.models.threads > 0).then_some(config.models.threads);
        let threads = device::limit_threads(threads);
        let folder = place::folder(&config.models);
        if !folder.is_dir() {
            anyhow::bail!(
                "{}: no pretrained weights there; run `make setup`, or `segue models pull minilm` and \
                 `segue models pull {}`",
                folder.display(),
                config.models.language_model
            );
        }
        Ok(Self {
            choice,
            threads,
            folder,
        })
    }

    /// The device and why, in one line.
    pub fn reason(&self) -> &str {
        &self.choice.reason
    }

    /// Where the text encoder's weights are.
    pub fn encoder_weights(&self) -> PathBuf {
        self.folder.join("minilm").join("model.safetensors")
    }

    /// What is taught on the first part of the log, over tracks' vectors of these segments.
    ///
    /// # Errors
    /// Weights that are missing or torn, settings that make no sense.
    pub fn curriculum(
        self,
        config: &Config,
        modalities: &[Modality],
        clock: Arc<dyn WallClock>,
        taught: Arc<Mutex<Taught>>,
    ) -> Result<Box<dyn Curriculum>> {
        Ok(Box::new(self.lessons(
            config,
            modalities,
            clock,
            taught,
            Arc::default(),
        )?))
    }

    /// What can be taught, each by itself, until `stop` is raised; over tracks' vectors of these segments.
    ///
    /// # Errors
    /// Weights that are missing or torn, settings that make no sense.
    pub fn lessons(
        self,
        config: &Config,
        modalities: &[Modality],
        clock: Arc<dyn WallClock>,
        taught: Arc<Mutex<Taught>>,
        stop: Arc<AtomicBool>,
    ) -> Result<Lessons> {
        let item_encoder = config.models.item_encoder(config.seed);
        item_encoder.check()?;
        if let Ok(mut taught) = taught.lock() {
            taught.device = format!("{:?}", self.choice.device);
            taught.reason = self.choice.reason.clone();
            taught.threads = self.threads;
        }
        let mut e4srec = config.models.e4srec.clone();
        e4srec.seed = config.seed;
        if e4srec.backbone.precision == Precision::Auto {
            e4srec.backbone.precision = config.models.precision;
        }
        let content = &mut e4srec.tower.content;
        *content = content_of(*content, modalities)?;
        // What exact mode promises holds across restarts.
        e4srec.keep_caches |= config.recommend.exact;
        e4srec.check()?;
        // Before hours of a stream go by: are the weights there, and whole?
        let name = &config.models.language_model;
        let path = place::language_model(name, &self.folder)?;
        let device = self.choice.device;
        let load = || {
            let footprint = Footprint::of(&path, &e4srec, device)?;
            footprint.check(memory::available(device))?;
            tracing::info!("the language model {name} is going to take\n{footprint}");
            Foundation::load(&path, &e4srec.backbone, device)
        };
        let mut foundation = load().with_context(|| {
            format!(
                "models.language_model = \"{name}\" cannot be loaded; `segue models check {name}` says \
                 what is wrong with it"
            )
        })?;
        if e4srec.tower.fusion != Fusion::Projection {
            foundation = foundation.with_content(modalities.to_vec());
            foundation.check(&e4srec)?;
        }
        let ratings = &config.models.ratings;
        if !ratings.as_os_str().is_empty() {
            foundation = foundation.with_features(Arc::new(Ratings::read(ratings)?));
        }
        let zero_shot = match config.models.zero_shot {
            true => Some(self.zero_shot(&path, &e4srec)?),
            false => None,
        };
        let adapters = &config.models.adapters;
        let history = (!adapters.as_os_str().is_empty())
            .then(|| AdapterHistory::new(adapters, config.models.adapters_kept));
        Ok(Lessons {
            models: self,
            item_encoder,
            e4srec,
            foundation,
            recall: config.recall.clone(),
            history,
            closed_head: config.models.closed_head,
            zero_shot,
            clock,
            taught,
            stop,
        })
    }
}

impl Models {
    /// The language model uncut, with words after the plays that ask for the next one.
    fn zero_shot(&self, path: &Path, settings: &E4SRecSettings) -> Result<ZeroShot> {
        let mut backbone = BackboneSettings {
            depth: 0,
            ..settings.backbone.clone()
        };
        if backbone.response.is_empty() {
            backbone.response = ASKS.to_owned();
        }
        let foundation = Foundation::load(path, &backbone, self.choice.device)?;
        let model = ZeroShot::new(foundation, settings.lookback, settings.batch_tokens);
        model.context("models.zero_shot: give models.e4srec.backbone.instruction some words")
    }
}

/// The length of tracks' vectors, which is what was set unless that is 0.
///
/// # Errors
/// Something else was set.
fn content_of(set: usize, modalities: &[Modality]) -> Result<usize> {
    let made = modalities.iter().map(|modality| modality.dimensions).sum();
    if set != 0 && set != made {
        let parts = modalities.iter();
        let parts: Vec<String> = parts
            .map(|modality| format!("{} {}", modality.kind.name(), modality.dimensions))
            .collect();
        anyhow::bail!(
            "models.e4srec.tower.content = {set}, and with models.library, models.lyrics, \
             models.audio_encoder and models.encode_ratings as they are a track's vector has {made} \
             components ({}): set it to 0, which is as many as there are",
            parts.join(", ")
        );
    }
    Ok(made)
}

/// What asks for the next track where no response is set.
const ASKS: &str = "\nNext track:";

/// Recall around the session's centroid answers where nothing before it can; its ranks of a whole
/// catalogue would cost more than all others' together.
const CENTROID: &str = "centroid-recall";

/// Recommenders that answer and are not evaluated.
pub fn unmeasured() -> Vec<String> {
    vec![CENTROID.to_owned()]
}

/// Pairs whose difference is reported.
pub fn comparisons(config: &Config) -> Vec<(String, String)> {
    let others = [
        "e4srec-frozen",
        "e4srec-state",
        config.models.item_encoder(config.seed).name(),
        "personal-most-pop",
        "sequential-rules",
    ];
    let closed = config.models.closed_head.then_some(ClosedE4SRec::NAME);
    let zero_shot = config.models.zero_shot.then_some(ZeroShot::NAME);
    let others = others.into_iter().chain(closed).chain(zero_shot);
    let pair = |other: &str| (ONLINE.to_owned(), other.to_owned());
    others.map(pair).collect()
}

/// The pair that the report leads with.
pub fn headline() -> Option<Headline> {
    Some(Headline {
        online: ONLINE.to_owned(),
        frozen: "e4srec-frozen".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_vector_is_as_made_or_refused_with_what_to_set() {
        use segue_catalog::modality::ModalityKind::{Audio, Text};
        let layout = [(Text, 384), (Audio, 63)];
        let layout = layout.map(|(kind, dimensions)| Modality { kind, dimensions });
        assert_eq!(content_of(0, &layout).unwrap(), 447);
        assert_eq!(content_of(447, &layout).unwrap(), 447);
        assert_eq!(content_of(384, &layout[..1]).unwrap(), 384);
        let error = content_of(384, &layout).unwrap_err().to_string();
        for part in [
            "tower.content = 384",
            "models.audio_encoder",
            "text 384, audio 63",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn what_needs_a_library_is_refused_without_one_and_what_is_out_of_range_by_its_key() {
        let error = |change: &dyn Fn(&mut ModelSettings)| {
            let mut settings = ModelSettings::default();
            assert!(settings.check().is_ok());
            change(&mut settings);
            format!("{:#}", settings.check().unwrap_err())
        };
        assert!(error(&|s| s.lyrics = true).contains("models.library"));
        assert!(error(&|s| s.audio_encoder = "musicnn".into()).contains("models.library"));
        assert!(error(&|s| s.audio_count = 0).contains("models.audio_count is 0"));
        assert!(error(&|s| s.audio_seconds = 0.0).contains("models.audio_seconds is 0"));
        assert!(error(&|s| s.encode_ratings = true).contains("models.ratings, which is empty"));
        let layers = error(&|s| s.audio_layers = "first".into());
        assert!(layers.contains("models.audio_layers = first"), "{layers}");
    }

    #[test]
    fn the_chosen_item_encoder_takes_part_under_its_name() {
        for (choice, name) in [
            (ItemEncoderChoice::SasRec, "sasrec"),
            (ItemEncoderChoice::Bert4Rec, "bert4rec"),
            (ItemEncoderChoice::Gru4Rec, "gru4rec"),
        ] {
            let written = serde_json::to_value(choice).unwrap();
            assert_eq!(written, name);
            let mut config = Config::default();
            config.models.item_encoder = choice;
            let compared = comparisons(&config);
            assert!(compared.contains(&(ONLINE.to_owned(), name.to_owned())));
            assert_eq!(compared.len(), 5);
        }
    }
}
