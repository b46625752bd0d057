//! Device, encoder, and what is taught on a log or its first part: the far side of the wall, as the
//! binary puts it together.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use segue_catalog::encoder::Encoder;
use segue_e4srec::item_encoders::{ItemEncoder, ItemEncoderSettings};
use segue_e4srec::settings::{Bert4RecSettings, E4SRecSettings, Gru4RecSettings, SasRecSettings};
use segue_e4srec::{AdapterHistory, E4SRec, Footprint, Foundation, Keeper, ModelError};
use segue_encode::text::TextEncoder;
use segue_flow::Remedy;
use segue_flow::clock::WallClock;
use segue_listen::TrackKey;
use segue_nn::device::{self, DeviceChoice, DevicePreference, Precision};
use segue_nn::memory;
use segue_recall::GraphWriter;
use segue_recommend::centroid::CentroidRecall;
use segue_recommend::popularity::PersonalMostPop;
use segue_recommend::recommender::{Admitted, RecommendError, Recommender};
use segue_recommend::rules::SequentialRules;
use segue_recommend::stage::{Content, Curriculum};
use segue_recommend::training::{Progress, TrainingLog};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::report::data::{Curve, Headline, Phase};
use crate::watch;

pub mod place;
mod taught;

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
    /// Tracks that are encoded at once.
    pub encoder_batch: usize,
    /// The folder where the adapters are kept that the language model publishes while it learns; empty:
    /// none is kept.
    pub adapters: PathBuf,
    /// How many of them, the newest.
    pub adapters_kept: usize,
    /// A folder that `segue train` has filled: its models answer from the first round on, and nothing
    /// is trained first. Empty: none.
    pub trained: PathBuf,
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
            encoder_batch: 128,
            adapters: "out/adapters".into(),
            adapters_kept: 32,
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

    /// The text encoder and how many tracks it is given at once.
    ///
    /// # Errors
    /// Weights that are missing or torn, by file.
    pub fn encoder(&self, config: &Config) -> Result<(Box<dyn Encoder>, usize)> {
        let folder = self.folder.join("minilm");
        let encoder = TextEncoder::load(&folder, self.choice.device, config.models.precision)
            .context(
                "the text encoder cannot be loaded; run `make setup`, or `segue models pull minilm`",
            )?;
        Ok((Box::new(encoder), config.models.encoder_batch))
    }

    /// Where the text encoder's weights are.
    pub fn encoder_weights(&self) -> PathBuf {
        self.folder.join("minilm").join("model.safetensors")
    }

    /// What is taught on the first part of the log.
    ///
    /// # Errors
    /// Weights that are missing or torn, settings that make no sense.
    pub fn curriculum(
        self,
        config: &Config,
        clock: Arc<dyn WallClock>,
        taught: Arc<Mutex<Taught>>,
    ) -> Result<Box<dyn Curriculum>> {
        Ok(Box::new(self.lessons(
            config,
            clock,
            taught,
            Arc::default(),
        )?))
    }

    /// What can be taught, each by itself, until `stop` is raised.
    ///
    /// # Errors
    /// Weights that are missing or torn, settings that make no sense.
    pub fn lessons(
        self,
        config: &Config,
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
        let foundation = load().with_context(|| {
            format!(
                "models.language_model = \"{name}\" cannot be loaded; `segue models check {name}` says \
                 what is wrong with it"
            )
        })?;
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
            clock,
            taught,
            stop,
        })
    }
}

/// Recall around the session's centroid answers where nothing before it can; its ranks of a whole
/// catalogue would cost more than all others' together.
const CENTROID: &str = "centroid-recall";

/// Recommenders that answer and are not evaluated.
pub fn unmeasured() -> Vec<String> {
    vec![CENTROID.to_owned()]
}

/// Pairs whose difference is reported.
pub fn comparisons(config: &Config) -> Vec<(String, String)> {
    [
        (ONLINE, "e4srec-frozen"),
        (ONLINE, "e4srec-state"),
        (ONLINE, config.models.item_encoder(config.seed).name()),
        (ONLINE, "personal-most-pop"),
        (ONLINE, "sequential-rules"),
    ]
    .map(|(one, other)| (one.to_owned(), other.to_owned()))
    .to_vec()
}

/// The pair that the report leads with.
pub fn headline() -> Option<Headline> {
    Some(Headline {
        online: ONLINE.to_owned(),
        frozen: "e4srec-frozen".to_owned(),
    })
}

/// What is taught, and by whom.
pub struct Lessons {
    models: Models,
    item_encoder: ItemEncoderSettings,
    e4srec: E4SRecSettings,
    foundation: Foundation,
    recall: segue_recall::Settings,
    history: Option<AdapterHistory>,
    clock: Arc<dyn WallClock>,
    taught: Arc<Mutex<Taught>>,
    stop: Arc<AtomicBool>,
}

/// A bar over training steps, with what is said beside it.
struct TrainingBar {
    bar: indicatif::ProgressBar,
    stop: Arc<AtomicBool>,
}

impl Progress for TrainingBar {
    fn step(&mut self, done: u64, total: u64, note: &str) {
        self.bar.set_length(total);
        self.bar.set_position(done);
        self.bar.set_message(note.to_owned());
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Lessons {
    /// Times a lesson and notes it for the report.
    fn lesson<T>(
        &self,
        name: &'static str,
        lesson: impl FnOnce(&mut TrainingBar) -> Result<(T, u64), RecommendError>,
    ) -> Result<T, RecommendError> {
        let begun = self.clock.now();
        let mut bar = TrainingBar {
            bar: watch::bar(0, name),
            stop: self.stop.clone(),
        };
        let (outcome, examples) = lesson(&mut bar)?;
        bar.bar.finish();
        let seconds = self.clock.now().saturating_sub(begun).as_secs_f64();
        let phase = Phase {
            name: format!("train {name}"),
            seconds,
            amount: Some((examples, "examples".to_owned())),
        };
        self.note(|taught| taught.phases.push(phase));
        Ok(outcome)
    }

    /// Notes the course of a loss for the report.
    fn curve(&self, model: &str, name: &str, points: Vec<(u64, f64)>) {
        let curve = Curve {
            model: model.to_owned(),
            name: name.to_owned(),
            points,
        };
        self.note(|taught| taught.training.push(curve));
    }

    fn note(&self, note: impl FnOnce(&mut Taught)) {
        note(&mut self.taught.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Curriculum for Lessons {
    fn teach(
        self: Box<Self>,
        log: &TrainingLog,
        content: &Content,
    ) -> Result<Vec<Box<dyn Recommender>>, RecommendError> {
        let tracks = content.all();
        let item_encoder = self.item_encoder(log, &tracks)?;
        let e4srec = self.language_model(log, &tracks, &*item_encoder, None)?;
        self.ladder(&e4srec, item_encoder, counts(log), content.dimensions())
    }

    fn untaught(
        self: Box<Self>,
        content: &Content,
    ) -> Result<Vec<Box<dyn Recommender>>, RecommendError> {
        let (e4srec, item_encoder) = (
            self.untaught_language_model()?,
            self.untaught_item_encoder()?,
        );
        let counts = (SequentialRules::default(), PersonalMostPop::new());
        self.ladder(&e4srec, item_encoder, counts, content.dimensions())
    }
}

impl Lessons {
    /// The item encoder, trained.
    ///
    /// # Errors
    /// See [`RecommendError`]; it was stopped.
    pub fn item_encoder(
        &self,
        log: &TrainingLog,
        tracks: &[Admitted<'_>],
    ) -> Result<Box<dyn ItemEncoder>, RecommendError> {
        let keys: Vec<TrackKey> = tracks.iter().map(|track| track.key).collect();
        let device = self.models.choice.device;
        let name = self.item_encoder.name();
        self.lesson(name, |bar| {
            let fit = self.item_encoder.fit(log, &keys, device, bar);
            let (model, report) = fit.map_err(|error| failed(name, &error))?;
            let examples = (log.plays.len() * report.epochs) as u64;
            self.curve(name, "training loss", report.training);
            self.curve(name, "validation loss", report.validation);
            Ok((model, examples))
        })
    }

    /// E4SRec over the item encoder's vectors, trained; `keeper` is where it goes on from.
    ///
    /// # Errors
    /// See [`RecommendError`]; it was stopped, or `keeper` has another training.
    pub fn language_model(
        &self,
        log: &TrainingLog,
        tracks: &[Admitted<'_>],
        item_encoder: &dyn ItemEncoder,
        keeper: Option<&mut dyn Keeper>,
    ) -> Result<E4SRec, RecommendError> {
        self.note(|taught| taught.tracks = tracks.len() as u64);
        self.lesson("e4srec", |bar| {
            let vectors = item_encoder
                .item_vectors()
                .map_err(|error| failed(item_encoder.name(), &error))?;
            let (on, settings) = (&self.foundation, &self.e4srec);
            let fit = match keeper {
                None => E4SRec::fit(on, log, tracks, &vectors, settings, bar),
                Some(keeper) => E4SRec::fit_kept(on, log, tracks, &vectors, settings, bar, keeper),
            };
            let (model, report) = fit.map_err(|error| failed("e4srec", &error))?;
            tracing::debug!(
                windows = report.windows,
                held_out = report.held_out,
                epochs = report.epochs,
                kept = report.best_epoch,
                skipped = report.skipped,
                "e4srec trained"
            );
            self.curve("e4srec", "training loss", report.training);
            self.curve("e4srec", "validation loss", report.validation);
            Ok((model, report.tokens))
        })
    }

    /// A language model to take up a state.
    ///
    /// # Errors
    /// See [`RecommendError`].
    pub fn untaught_language_model(&self) -> Result<E4SRec, RecommendError> {
        E4SRec::untaught(&self.foundation, &self.e4srec).map_err(|error| failed("e4srec", &error))
    }

    /// An item encoder to take up a state.
    ///
    /// # Errors
    /// See [`RecommendError`].
    pub fn untaught_item_encoder(&self) -> Result<Box<dyn ItemEncoder>, RecommendError> {
        let untaught = self.item_encoder.untaught(self.models.choice.device);
        untaught.map_err(|error| failed(self.item_encoder.name(), &error))
    }

    /// What tells the frozen language model from others, in words.
    ///
    /// # Errors
    /// See [`RecommendError`].
    pub fn foundation(&self) -> Result<String, RecommendError> {
        let described = self.foundation.described();
        described.map_err(|error| failed("e4srec", &error))
    }

    /// Where the text encoder's weights are.
    pub fn encoder_weights(&self) -> PathBuf {
        self.models.encoder_weights()
    }

    /// All that answer or are compared with, the language model in its three ways; `dimensions` are
    /// those of tracks' contents, 0 where nothing encodes them.
    ///
    /// # Errors
    /// See [`RecommendError`].
    pub fn ladder(
        &self,
        e4srec: &E4SRec,
        item_encoder: Box<dyn ItemEncoder>,
        (rules, favourites): (SequentialRules, PersonalMostPop),
        dimensions: usize,
    ) -> Result<Vec<Box<dyn Recommender>>, RecommendError> {
        let of_e4srec = |error| failed("e4srec", &error);
        let mut online = e4srec.online().map_err(of_e4srec)?;
        if let Some(history) = &self.history {
            online.keep_history(history.clone());
        }
        let frozen = e4srec.frozen().map_err(of_e4srec)?;
        let state = frozen.following().map_err(of_e4srec)?;
        self.note(|taught| taught.journal = Some((ONLINE, online.journal())));
        // The dearest first: who answers is the first that can.
        let mut ladder: Vec<Box<dyn Recommender>> = vec![
            Box::new(online),
            Box::new(state),
            Box::new(frozen),
            item_encoder,
            Box::new(rules),
        ];
        if dimensions > 0 {
            let writer = GraphWriter::new(dimensions, self.recall.clone());
            let writer = writer.map_err(|error| RecommendError {
                recommender: CENTROID,
                detail: error.to_string(),
                remedy: Remedy::Configure,
            })?;
            ladder.push(Box::new(CentroidRecall::new(dimensions, Box::new(writer))));
        }
        ladder.push(Box::new(favourites));
        Ok(ladder)
    }
}

/// What is counted on a log: rules, and what everybody plays.
pub fn counts(log: &TrainingLog) -> (SequentialRules, PersonalMostPop) {
    let (mut rules, mut favourites) = (SequentialRules::default(), PersonalMostPop::new());
    rules.train(log);
    favourites.train(log);
    (rules, favourites)
}

/// An error of a lesson, as the stage has it.
fn failed(recommender: &'static str, error: &ModelError) -> RecommendError {
    let detail = error.to_string();
    RecommendError {
        recommender,
        detail,
        remedy: Remedy::Configure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
