//! The recommending stage: what the lanes say → measured, learnt from, answered, written.
//!
//! One owner of everything that spans lanes: listeners' contexts, the catalogue's content, estimated
//! durations, the recommenders. Plays are gathered into epochs. At the barrier that closes an epoch,
//! in this order:
//!
//! 1. every recommender ranks each play from the state before it (prequential evaluation);
//! 2. every recommender learns from the plays;
//! 3. new tracks and new vectors are admitted, durations published;
//! 4. the listeners of the epoch are answered, and the epoch's records committed with its offsets.
//!
//! Where a curriculum is given, the first part of the log is only gathered; models are trained on it,
//! and what follows is measured. This file drives; the parts below it do the work.

mod content;
mod parts;
mod records;
mod tally;
mod warm_up;

use std::time::Duration;

use segue_catalog::newcomers::Arrivals;
use segue_flow::lane::{AsideReason, Batch};
use segue_flow::names::{self, Name};
use segue_flow::{Epoch, OffsetRange};
use segue_listen::UserId;
use segue_sessions::{PlayUpdate, Update};

use crate::ladder::{Budget, Ladder};
use crate::listeners::{Chunk, Listeners, PlayEvent};
use crate::prequential::Prequential;
use crate::recommender::Recommender;

pub use content::Content;
pub use parts::{Curriculum, EncoderLink, EngineError, Parts, RunSummary, StageSettings, Watcher};
pub use records::{PredictedTrack, Prediction, SessionRecord, Topics};
pub use tally::{RatioCounts, StreamTally};

/// The stage.
pub struct RecommendStage {
    settings: StageSettings,
    parts: Parts,
    listeners: Listeners,
    /// The log's names of listeners, by address.
    user_names: hashbrown::HashMap<UserId, Box<str>>,
    content: Content,
    warm_up: Option<warm_up::WarmUp>,
    /// Without recommenders there is none: nothing is measured, nothing answered.
    ladder: Option<Ladder>,
    chunk: Chunk,
    /// The newest play of each listener of the epoch, in order of their first one in it.
    asked: Vec<(UserId, PlayUpdate)>,
    asked_at: hashbrown::HashMap<UserId, usize>,
    /// When the plays of the epoch were read, and how many at once.
    waiting: Vec<(Duration, u64)>,
    inputs: Vec<OffsetRange>,
    prequential: Option<Prequential>,
    epoch: Epoch,
    records: records::Writer,
    tally: StreamTally,
    predictions: u64,
    losses: Vec<(String, u64, f32)>,
}

impl RecommendStage {
    /// A stage with nothing in it; opens the first epoch at the sink.
    ///
    /// # Errors
    /// A sink that cannot begin, a comparison of recommenders that are not there.
    pub fn new(settings: StageSettings, mut parts: Parts) -> Result<Self, EngineError> {
        let epoch = Epoch(0);
        parts.sink.begin(epoch)?;
        let dimensions = parts
            .encoder
            .as_ref()
            .map_or(0, |encoder| encoder.dimensions);
        let mut stage = Self {
            listeners: Listeners::new(),
            user_names: hashbrown::HashMap::new(),
            content: Content::new(dimensions),
            warm_up: parts.curriculum.take().map(warm_up::WarmUp::new),
            ladder: None,
            chunk: Chunk::new(),
            asked: Vec::new(),
            asked_at: hashbrown::HashMap::new(),
            waiting: Vec::new(),
            inputs: Vec::new(),
            prequential: None,
            epoch,
            records: records::Writer::new(settings.topics.clone(), settings.format),
            tally: StreamTally::default(),
            predictions: 0,
            losses: Vec::new(),
            settings,
            parts,
        };
        if stage.warm_up.is_none() {
            let recommenders = std::mem::take(&mut stage.parts.recommenders);
            stage.set_up_ladder(recommenders)?;
        }
        Ok(stage)
    }

    /// Takes a lane's batch in, closing epochs as they fill.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn take(&mut self, batch: Batch<Update>) -> Result<(), EngineError> {
        self.tally.count(batch.counts);
        for aside in &batch.aside {
            let topic = match aside.reason {
                AsideReason::DeadLetter => &self.settings.topics.dead_letters,
                AsideReason::TooLate => &self.settings.topics.late,
            };
            records::write_aside(&mut *self.parts.sink, topic, batch.covers.lane, aside)?;
        }
        let mut news = Arrivals::default();
        let mut plays = 0;
        for update in batch.outputs {
            match update {
                Update::Listener { user, name } => {
                    self.user_names.insert(user, name);
                }
                Update::Track(track) => {
                    news.0.push((*track).clone());
                    self.content.sighted(*track);
                }
                Update::Play(play) => {
                    plays += 1;
                    self.play(&play);
                    if self.warm_up.is_some() && self.tally.plays >= self.settings.train_plays {
                        // At this very play, wherever the batch was cut.
                        self.announce(std::mem::take(&mut news))?;
                        self.teach()?;
                        plays = 0;
                    }
                    if self.chunk.len() >= self.settings.epoch.max(1) {
                        self.announce(std::mem::take(&mut news))?;
                        self.waiting.push((batch.read_at, plays));
                        self.barrier()?;
                        plays = 0;
                    }
                }
                Update::Correction {
                    user,
                    track,
                    at,
                    ratio,
                } => {
                    self.tally.corrected();
                    match &mut self.warm_up {
                        Some(warm_up) => warm_up.correct(user, track, at, ratio),
                        None => {
                            self.listeners.correct(user, at, track, ratio);
                        }
                    }
                }
                Update::Closed { user, session } => {
                    self.tally.closed(&session);
                    let name = name_of(&self.user_names, user);
                    self.records
                        .session(&mut *self.parts.sink, name, &session, false)?;
                }
                Update::Retracted { user, session } => {
                    self.tally.retracted(&session);
                    let name = name_of(&self.user_names, user);
                    self.records
                        .session(&mut *self.parts.sink, name, &session, true)?;
                }
            }
        }
        self.announce(news)?;
        if plays > 0 {
            self.waiting.push((batch.read_at, plays));
        }
        if !batch.covers.is_empty() {
            self.inputs.push(batch.covers);
        }
        self.collect(false)
    }

    /// Nothing came for a while: unless runs are to be repeatable, what is waiting is answered now.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn idle(&mut self) -> Result<(), EngineError> {
        if self.settings.exact || self.warm_up.is_some() || self.waiting.is_empty() {
            return Ok(());
        }
        self.barrier()
    }

    /// The stream is over: the last epoch is closed, everything is written.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn finish(mut self) -> Result<RunSummary, EngineError> {
        if self.warm_up.is_some() {
            // A log shorter than its training part: what there is is taught, nothing is measured.
            self.teach()?;
        }
        self.barrier()?;
        self.parts.sink.abort(self.epoch)?;
        Ok(RunSummary {
            stream: self.tally,
            epochs: self.epoch.0,
            predictions: self.predictions,
            trained_on: self.settings.train_plays,
            listeners: self.user_names.len() as u64,
            tracks: self.content.len() as u64,
            encoded: self.content.encoded(),
            failed: self.content.failed(),
            durations_estimated: self.parts.durations.published().current().known() as u64,
            prequential: self.prequential.map(|p| p.report()),
            losses: self.losses,
            rungs: self.ladder.map_or_else(Vec::new, |ladder| ladder.report()),
        })
    }

    fn play(&mut self, play: &PlayUpdate) {
        self.tally.play(play);
        self.parts.watcher.progressed(1, play.at);
        if let Some(previous) = &play.previous {
            self.parts.durations.note(previous.track, previous.gap);
        }
        let event = PlayEvent {
            user: play.user,
            track: play.track,
            at: play.at,
            opens_session: play.session.plays == 1,
            ratio_of_previous: play.previous.and_then(|previous| previous.ratio),
        };
        match &mut self.warm_up {
            Some(warm_up) => {
                warm_up.take(&event);
                self.listeners.absorb(&event);
            }
            None => {
                self.chunk.push(&mut self.listeners, &event);
                if play.newest {
                    match self.asked_at.get(&play.user) {
                        Some(&index) => {
                            if let Some(asked) = self.asked.get_mut(index) {
                                asked.1 = *play;
                            }
                        }
                        None => {
                            self.asked_at.insert(play.user, self.asked.len());
                            self.asked.push((play.user, *play));
                        }
                    }
                }
            }
        }
    }

    fn announce(&mut self, news: Arrivals) -> Result<(), EngineError> {
        match &mut self.parts.encoder {
            Some(encoder) if !news.0.is_empty() => {
                self.content.announced(news.0.len());
                encoder
                    .arrivals
                    .send(news)
                    .map_err(|_| EngineError::EncoderGone)
            }
            _ => Ok(()),
        }
    }

    /// Takes in the vectors that are ready; in exact mode, or where `all` is asked for, waits until
    /// none is outstanding.
    fn collect(&mut self, all: bool) -> Result<(), EngineError> {
        let Some(encoder) = &mut self.parts.encoder else {
            return Ok(());
        };
        while let Some(encoded) = encoder.encoded.ready() {
            self.content.take(encoded);
        }
        if all {
            encoder
                .arrivals
                .flush()
                .map_err(|_| EngineError::EncoderGone)?;
            while self.content.outstanding() > 0 {
                let encoded = encoder.encoded.next().ok_or(EngineError::EncoderGone)?;
                self.content.take(encoded);
            }
        }
        Ok(())
    }

    /// Closes the epoch.
    fn barrier(&mut self) -> Result<(), EngineError> {
        self.measure_and_learn()?;
        self.collect(self.settings.exact)?;
        self.admit()?;
        self.parts.durations.publish();
        self.answer()?;
        let inputs = merged(&mut self.inputs);
        self.parts.sink.commit(self.epoch, &inputs)?;
        names::count(Name::Epochs, 1);
        names::gauge(Name::Tracks, self.content.len() as f64);
        names::gauge(Name::Listeners, self.listeners.len() as f64);
        self.epoch = self.epoch.next();
        self.parts.sink.begin(self.epoch)?;
        Ok(())
    }

    fn measure_and_learn(&mut self) -> Result<(), EngineError> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        if let Some(ladder) = &mut self.ladder {
            let examples = self.chunk.examples();
            let asks = self.chunk.asks();
            let mut columns = Vec::new();
            let unmeasured = &self.settings.unmeasured;
            for recommender in ladder
                .recommenders()
                .filter(|r| is_measured(*r, unmeasured))
            {
                let mut ranks = Vec::with_capacity(asks.len());
                recommender.rank_of(&asks, self.chunk.actual(), &mut ranks)?;
                columns.push(ranks);
            }
            if let Some(prequential) = &mut self.prequential {
                let columns: Vec<&[Option<u32>]> = columns.iter().map(Vec::as_slice).collect();
                prequential.record(self.chunk.facts(), &columns)?;
            }
            for (name, report) in ladder.learn(self.epoch, &examples)? {
                if let Some(loss) = report.loss {
                    self.losses.push((name.to_owned(), self.epoch.0, loss));
                }
            }
        }
        self.chunk.clear();
        Ok(())
    }

    fn admit(&mut self) -> Result<(), EngineError> {
        if let Some(ladder) = &mut self.ladder {
            let admitted = self.content.to_admit();
            if !admitted.is_empty() {
                ladder.admit(&admitted)?;
            }
        }
        self.content.admitted();
        Ok(())
    }

    /// Answers every listener of the epoch once, after their newest play.
    fn answer(&mut self) -> Result<(), EngineError> {
        let asked = std::mem::take(&mut self.asked);
        self.asked_at.clear();
        if let Some(ladder) = &mut self.ladder
            && self.settings.top > 0
            && !asked.is_empty()
        {
            let asks: Vec<_> = asked
                .iter()
                .map(|(user, _)| self.listeners.ask(*user))
                .collect();
            let mut answers = Vec::with_capacity(asks.len());
            let clock = &*self.parts.clock;
            let now = || clock.now();
            let budget = match self.settings.answer_within {
                Some(limit) if !self.settings.exact => Budget::Within { limit, now: &now },
                _ => Budget::Unlimited,
            };
            ladder.recommend(&asks, self.settings.top, &budget, &mut answers)?;
            for ((user, play), answer) in asked.iter().zip(&answers) {
                let user = name_of(&self.user_names, *user);
                let tracks = self.content.described(&answer.ranking);
                let key = self.content.key(play.track);
                let by = (answer.recommender, answer.tier);
                let prediction = Prediction::new(user, key, play.at, self.epoch, by);
                self.records
                    .prediction(&mut *self.parts.sink, prediction, tracks)?;
                names::count_for(Name::Predictions, "recommender", answer.recommender, 1);
            }
            self.predictions += answers.len() as u64;
        }
        let now = self.parts.clock.now();
        for (read_at, plays) in self.waiting.drain(..) {
            let latency = now.saturating_sub(read_at);
            names::observe(Name::EventToPrediction, latency);
            self.parts.watcher.answered(latency, plays);
        }
        Ok(())
    }

    fn teach(&mut self) -> Result<(), EngineError> {
        let Some(warm_up) = self.warm_up.take() else {
            return Ok(());
        };
        self.collect(true)?;
        self.parts.watcher.teaching(true);
        self.settings.train_plays = self.tally.plays;
        let (curriculum, log) = warm_up.finish(&self.user_names);
        let recommenders = curriculum.teach(&log, &self.content)?;
        self.parts.watcher.teaching(false);
        self.waiting.clear();
        self.set_up_ladder(recommenders)?;
        // Everything that was seen is in the catalogue from the first measured play on.
        self.barrier()
    }

    fn set_up_ladder(
        &mut self,
        recommenders: Vec<Box<dyn Recommender>>,
    ) -> Result<(), EngineError> {
        if recommenders.is_empty() {
            return Ok(());
        }
        let unmeasured = &self.settings.unmeasured;
        let names: Vec<&str> = recommenders
            .iter()
            .filter(|r| is_measured(&***r, unmeasured))
            .map(|r| r.name())
            .collect();
        let compare: Vec<(&str, &str)> = self
            .settings
            .compare
            .iter()
            .map(|(one, other)| (one.as_str(), other.as_str()))
            .collect();
        let settings = self.settings.prequential;
        self.prequential = Some(Prequential::new(&names, &compare, settings)?);
        self.ladder = Some(Ladder::new(recommenders)?);
        Ok(())
    }
}

fn is_measured(recommender: &dyn Recommender, unmeasured: &[String]) -> bool {
    unmeasured.iter().all(|name| name != recommender.name())
}

/// A listener's name in the log.
fn name_of(names: &hashbrown::HashMap<UserId, Box<str>>, user: UserId) -> &str {
    names.get(&user).map_or("", |name| name)
}

/// One range per lane, from the ranges of the batches, which follow each other.
fn merged(ranges: &mut Vec<OffsetRange>) -> Vec<OffsetRange> {
    let mut merged: Vec<OffsetRange> = Vec::new();
    for range in ranges.drain(..) {
        match merged.iter_mut().find(|held| held.lane == range.lane) {
            Some(held) => held.to = range.to,
            None => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests;
