//! Device, encoder, and what is taught on a log or its first part: the far side of the wall, as the
//! binary puts it together.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use segue_catalog::encoder::Encoder;
use segue_e4srec::item_encoders::sasrec::SasRec;
use segue_e4srec::settings::{E4SRecSettings, SasRecSettings};
use segue_e4srec::{E4SRec, Foundation, Keeper, ModelError};
use segue_encode::text::TextEncoder;
use segue_flow::Remedy;
use segue_flow::clock::WallClock;
use segue_listen::TrackKey;
use segue_nn::device::{self, DeviceChoice, DevicePreference, Precision};
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
    /// is trained here, SASRec among it, is `f32` in any case.
    pub precision: Precision,
    /// The folder of pretrained weights; empty: $SEGUE_MODELS, else `.models`.
    pub folder: PathBuf,
    /// Tracks that are encoded at once.
    pub encoder_batch: usize,
    /// A folder that `segue train` has filled: its models answer from the first round on, and nothing
    /// is trained first. Empty: none.
    pub trained: PathBuf,
    /// The item encoder.
    pub sasrec: SasRecSettings,
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
            encoder_batch: 128,
            trained: PathBuf::new(),
            sasrec: SasRecSettings::default(),
            e4srec: E4SRecSettings::default(),
        }
    }
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
        let folder = match config.models.folder.as_os_str().is_empty() {
            false => config.models.folder.clone(),
            true => {
                std::env::var_os("SEGUE_MODELS").map_or_else(|| ".models".into(), PathBuf::from)
            }
        };
        if !folder.is_dir() {
            anyhow::bail!(
                "{}: no pretrained weights there; run `make setup`",
                folder.display()
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
            .context("the text encoder cannot be loaded; run `make setup`")?;
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
        let mut sasrec = config.models.sasrec.clone();
        sasrec.seed = config.seed;
        sasrec.check()?;
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
        let folder = self.folder.join("smollm2-135m");
        let foundation = Foundation::load(&folder, &e4srec.backbone, self.choice.device)
            .context("the language model cannot be loaded; run `make setup`")?;
        Ok(Lessons {
            models: self,
            sasrec,
            e4srec,
            foundation,
            recall: config.recall.clone(),
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
pub fn comparisons() -> Vec<(String, String)> {
    [
        (ONLINE, "e4srec-frozen"),
        (ONLINE, "e4srec-state"),
        (ONLINE, "sasrec"),
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
    sasrec: SasRecSettings,
    e4srec: E4SRecSettings,
    foundation: Foundation,
    recall: segue_recall::Settings,
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
        let e4srec = self.language_model(log, &tracks, &item_encoder, None)?;
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
    ) -> Result<SasRec, RecommendError> {
        let keys: Vec<TrackKey> = tracks.iter().map(|track| track.key).collect();
        let device = self.models.choice.device;
        self.lesson("sasrec", |bar| {
            let (model, report) = SasRec::fit(log, &keys, &self.sasrec, device, bar)
                .map_err(|error| failed("sasrec", &error))?;
            let examples = (log.plays.len() * report.epochs) as u64;
            self.curve("sasrec", "training loss", report.training);
            self.curve("sasrec", "validation loss", report.validation);
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
        item_encoder: &SasRec,
        keeper: Option<&mut dyn Keeper>,
    ) -> Result<E4SRec, RecommendError> {
        self.note(|taught| taught.tracks = tracks.len() as u64);
        self.lesson("e4srec", |bar| {
            let vectors = item_encoder
                .item_vectors()
                .map_err(|error| failed("sasrec", &error))?;
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
    pub fn untaught_item_encoder(&self) -> Result<SasRec, RecommendError> {
        SasRec::untaught(&self.sasrec, self.models.choice.device)
            .map_err(|error| failed("sasrec", &error))
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
        sasrec: SasRec,
        (rules, favourites): (SequentialRules, PersonalMostPop),
        dimensions: usize,
    ) -> Result<Vec<Box<dyn Recommender>>, RecommendError> {
        let of_e4srec = |error| failed("e4srec", &error);
        let online = e4srec.online().map_err(of_e4srec)?;
        let frozen = e4srec.frozen().map_err(of_e4srec)?;
        let state = frozen.following().map_err(of_e4srec)?;
        self.note(|taught| taught.journal = Some((ONLINE, online.journal())));
        // The dearest first: who answers is the first that can.
        let mut ladder: Vec<Box<dyn Recommender>> = vec![
            Box::new(online),
            Box::new(state),
            Box::new(frozen),
            Box::new(sasrec),
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
