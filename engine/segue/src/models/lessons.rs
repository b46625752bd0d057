//! What is taught, lesson by lesson, and who answers then.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use segue_e4srec::item_encoders::{ItemEncoder, ItemEncoderSettings};
use segue_e4srec::settings::E4SRecSettings;
use segue_e4srec::{
    AdapterHistory, ClosedE4SRec, ClosedSettings, E4SRec, Foundation, Keeper, ModelError, ZeroShot,
};
use segue_flow::Remedy;
use segue_flow::clock::WallClock;
use segue_listen::TrackKey;
use segue_recall::GraphWriter;
use segue_recommend::centroid::CentroidRecall;
use segue_recommend::popularity::PersonalMostPop;
use segue_recommend::recommender::{Admitted, RecommendError, Recommender, Tier};
use segue_recommend::rules::SequentialRules;
use segue_recommend::stage::{Content, Curriculum};
use segue_recommend::training::{Progress, TrainingLog};

use crate::report::data::{Curve, Phase};
use crate::watch;

use super::{CENTROID, Models, ONLINE, Taught};

/// What is taught, and by whom.
pub struct Lessons {
    pub(super) models: Models,
    pub(super) item_encoder: ItemEncoderSettings,
    pub(super) e4srec: E4SRecSettings,
    pub(super) foundation: Foundation,
    pub(super) recall: segue_recall::Settings,
    pub(super) history: Option<AdapterHistory>,
    pub(super) closed_head: bool,
    pub(super) zero_shot: Option<ZeroShot>,
    pub(super) clock: Arc<dyn WallClock>,
    pub(super) taught: Arc<Mutex<Taught>>,
    pub(super) stop: Arc<AtomicBool>,
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
        mut self: Box<Self>,
        log: &TrainingLog,
        content: &Content,
    ) -> Result<Vec<Box<dyn Recommender>>, RecommendError> {
        let zero_shot = self.zero_shot.take();
        let tracks = content.all();
        let item_encoder = self.item_encoder(log, &tracks)?;
        let e4srec = self.language_model(log, &tracks, &*item_encoder, None)?;
        let closed = match self.closed_head {
            true => Some(self.closed(log, &tracks, &*item_encoder)?),
            false => None,
        };
        let ladder = self.ladder(&e4srec, item_encoder, counts(log), content.dimensions());
        Ok(beside_frozen(ladder?, closed, zero_shot))
    }

    fn untaught(
        mut self: Box<Self>,
        content: &Content,
    ) -> Result<Vec<Box<dyn Recommender>>, RecommendError> {
        let zero_shot = self.zero_shot.take();
        let (e4srec, item_encoder) = (
            self.untaught_language_model()?,
            self.untaught_item_encoder()?,
        );
        let counts = (SequentialRules::default(), PersonalMostPop::new());
        let closed = match self.closed_head {
            true => {
                let settings = self.closed_settings(HashMap::new());
                let untaught = ClosedE4SRec::untaught(&settings, self.models.choice.device);
                Some(untaught.map_err(|error| failed(ClosedE4SRec::NAME, &error))?)
            }
            false => None,
        };
        let ladder = self.ladder(&e4srec, item_encoder, counts, content.dimensions());
        Ok(beside_frozen(ladder?, closed, zero_shot))
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

    /// E4SRec with a closed head over the item encoder's vectors, trained.
    fn closed(
        &self,
        log: &TrainingLog,
        tracks: &[Admitted<'_>],
        item_encoder: &dyn ItemEncoder,
    ) -> Result<ClosedE4SRec, RecommendError> {
        let keys: Vec<TrackKey> = tracks.iter().map(|track| track.key).collect();
        let name = ClosedE4SRec::NAME;
        self.lesson(name, |bar| {
            let vectors = item_encoder.item_vectors();
            let settings = self.closed_settings(vectors.map_err(|error| failed(name, &error))?);
            let device = self.models.choice.device;
            let fit = ClosedE4SRec::fit(log, &keys, &settings, device, bar);
            let (model, report) = fit.map_err(|error| failed(name, &error))?;
            self.curve(name, "training loss", report.training);
            Ok((model, (log.plays.len() * report.epochs) as u64))
        })
    }

    fn closed_settings(&self, vectors: HashMap<TrackKey, Vec<f32>>) -> ClosedSettings {
        ClosedSettings {
            e4srec: self.e4srec.clone(),
            foundation: self.foundation.share(),
            vectors: Arc::new(vectors),
            dimensions: self.item_encoder.dimensions(),
        }
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

/// The place in a ladder of what is only compared with: behind those whose answers it would be instead of.
fn beside_frozen(
    mut ladder: Vec<Box<dyn Recommender>>,
    closed: Option<ClosedE4SRec>,
    zero_shot: Option<ZeroShot>,
) -> Vec<Box<dyn Recommender>> {
    let closed = closed.map(|model| Box::new(model) as Box<dyn Recommender>);
    let zero_shot = zero_shot.map(|model| Box::new(model) as Box<dyn Recommender>);
    for baseline in closed.into_iter().chain(zero_shot) {
        let place = ladder
            .iter()
            .position(|one| one.tier() != Tier::LanguageModel);
        ladder.insert(place.unwrap_or(ladder.len()), baseline);
    }
    ladder
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
