//! Device, encoder, and what is taught on the first part of a log: the far side of the wall, as the
//! binary puts it together.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use segue_catalog::encoder::Encoder;
use segue_e4srec::item_encoders::sasrec::SasRec;
use segue_e4srec::settings::{E4SRecSettings, SasRecSettings};
use segue_e4srec::{E4SRec, Footprint, Foundation, Journal, ModelError, Publication};
use segue_encode::text::TextEncoder;
use segue_flow::Remedy;
use segue_flow::clock::WallClock;
use segue_listen::TrackKey;
use segue_nn::device::{self, DeviceChoice, DevicePreference, Precision};
use segue_nn::memory;
use segue_recall::GraphWriter;
use segue_recommend::centroid::CentroidRecall;
use segue_recommend::popularity::PersonalMostPop;
use segue_recommend::recommender::{RecommendError, Recommender};
use segue_recommend::rules::SequentialRules;
use segue_recommend::stage::{Content, Curriculum};
use segue_recommend::training::{Progress, TrainingLog};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::report::data::{Adapter, Curve, Headline, Phase};
use crate::watch;

pub mod place;

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
    /// The language model: the name of a folder in `folder`, as `segue models pull NAME` makes it, or
    /// the path of a folder or file elsewhere.
    pub language_model: String,
    /// Tracks that are encoded at once.
    pub encoder_batch: usize,
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
            language_model: "smollm2-135m".to_owned(),
            encoder_batch: 128,
            sasrec: SasRecSettings::default(),
            e4srec: E4SRecSettings::default(),
        }
    }
}

/// What the training leaves for the report.
#[derive(Clone, Debug, Default)]
pub struct Taught {
    /// The device, in words.
    pub device: String,
    /// Why this one.
    pub reason: String,
    /// Threads of the models.
    pub threads: usize,
    /// What was trained and for how long.
    pub phases: Vec<Phase>,
    /// Training curves.
    pub training: Vec<Curve>,
    /// Tracks that were there when the models were trained.
    pub tracks: u64,
    /// Who publishes adapters, and which.
    pub journal: Option<(&'static str, Journal)>,
}

impl Taught {
    /// The adapters that were published, in order.
    pub fn adapters(&self) -> Vec<Adapter> {
        let Some((model, journal)) = &self.journal else {
            return Vec::new();
        };
        let published = journal.publications();
        let newest = published.last().map_or(0, |one| one.version);
        let fate = |one: &Publication| {
            let now = match one.version == newest {
                true => "in use",
                false => "replaced",
            };
            match one.back_to {
                Some(version) => format!("back to {version}, {now}"),
                None => now.to_owned(),
            }
        };
        let adapter = |one: &Publication| Adapter {
            model: (*model).to_owned(),
            version: one.version,
            epoch: one.epoch.0,
            examples: one.examples,
            loss: one.loss,
            fate: fate(one),
        };
        published.iter().map(adapter).collect()
    }

    /// The training curves and those of online learning.
    pub fn curves(&self, online: &[(String, u64, f32)]) -> Vec<Curve> {
        let mut curves = self.training.clone();
        for (model, epoch, loss) in online {
            let point = (*epoch, f64::from(*loss));
            let known = |c: &&mut Curve| c.model == *model && c.name == ONLINE_LOSS;
            match curves.iter_mut().find(known) {
                Some(curve) => curve.points.push(point),
                None => curves.push(Curve {
                    model: model.clone(),
                    name: ONLINE_LOSS.to_owned(),
                    points: vec![point],
                }),
            }
        }
        curves
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
        let recall = config.recall.clone();
        Ok(Box::new(Lessons {
            models: self,
            sasrec,
            e4srec,
            foundation,
            recall,
            clock,
            taught,
        }))
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

struct Lessons {
    models: Models,
    sasrec: SasRecSettings,
    e4srec: E4SRecSettings,
    foundation: Foundation,
    recall: segue_recall::Settings,
    clock: Arc<dyn WallClock>,
    taught: Arc<Mutex<Taught>>,
}

/// A bar over training steps, and the curve of what is said beside it.
struct TrainingBar {
    bar: indicatif::ProgressBar,
}

impl Progress for TrainingBar {
    fn step(&mut self, done: u64, total: u64, note: &str) {
        self.bar.set_length(total);
        self.bar.set_position(done);
        self.bar.set_message(note.to_owned());
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
        let keys: Vec<TrackKey> = tracks.iter().map(|track| track.key).collect();
        let device = self.models.choice.device;
        let sasrec = self.lesson("sasrec", |bar| {
            let (model, report) = SasRec::fit(log, &keys, &self.sasrec, device, bar)
                .map_err(|error| failed("sasrec", &error))?;
            let examples = (log.plays.len() * report.epochs) as u64;
            self.curve("sasrec", "training loss", report.training);
            self.curve("sasrec", "validation loss", report.validation);
            Ok((model, examples))
        })?;
        let e4srec = self.lesson("e4srec", |bar| {
            let vectors = sasrec
                .item_vectors()
                .map_err(|error| failed("sasrec", &error))?;
            let fit = E4SRec::fit(&self.foundation, log, &tracks, &vectors, &self.e4srec, bar);
            let (model, report) = fit.map_err(|error| failed("e4srec", &error))?;
            let losses = (1..).zip(report.losses).collect();
            self.curve("e4srec", "training loss", losses);
            Ok((model, report.tokens))
        })?;
        self.note(|taught| taught.tracks = tracks.len() as u64);
        let mut favourites = PersonalMostPop::new();
        favourites.train(log);
        let mut rules = SequentialRules::default();
        rules.train(log);
        self.ladder(&e4srec, sasrec, (rules, favourites), content)
    }

    fn untaught(
        self: Box<Self>,
        content: &Content,
    ) -> Result<Vec<Box<dyn Recommender>>, RecommendError> {
        let e4srec = E4SRec::untaught(&self.foundation, &self.e4srec)
            .map_err(|error| failed("e4srec", &error))?;
        let sasrec = SasRec::untaught(&self.sasrec, self.models.choice.device)
            .map_err(|error| failed("sasrec", &error))?;
        let counts = (SequentialRules::default(), PersonalMostPop::new());
        self.ladder(&e4srec, sasrec, counts, content)
    }
}

impl Lessons {
    /// All that answer or are compared with, the language model in its three ways.
    fn ladder(
        &self,
        e4srec: &E4SRec,
        sasrec: SasRec,
        (rules, favourites): (SequentialRules, PersonalMostPop),
        content: &Content,
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
        if content.dimensions() > 0 {
            let writer = GraphWriter::new(content.dimensions(), self.recall.clone());
            let writer = writer.map_err(|error| RecommendError {
                recommender: CENTROID,
                detail: error.to_string(),
                remedy: Remedy::Configure,
            })?;
            ladder.push(Box::new(CentroidRecall::new(
                content.dimensions(),
                Box::new(writer),
            )));
        }
        ladder.push(Box::new(favourites));
        Ok(ladder)
    }
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
