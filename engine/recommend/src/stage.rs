//! The recommending stage: what the lanes say → measured, learnt from, answered, written.
//!
//! One owner of everything that spans lanes: listeners' contexts, the catalogue's content, estimated
//! durations, the recommenders. Plays are gathered into epochs. At the barrier that closes an epoch,
//! in this order:
//!
//! 1. new tracks and new vectors are admitted;
//! 2. every recommender ranks each play from the state before it (prequential evaluation); a play of
//!    a track that nobody had played before is a miss for all of them, though the track is there now;
//! 3. every recommender learns from the plays;
//! 4. durations are published, the listeners of the epoch answered, and the epoch's records committed
//!    with its offsets.
//!
//! Where the stream is not exact and the stage has caught up, listeners need not wait for the barrier:
//! they are answered at once, by the models as the last barrier left them.
//!
//! Where a curriculum is given, the first part of the log is only gathered; models are trained on it,
//! and what follows is measured. This file drives; the parts below it do the work.

mod addresses;
mod checkpoints;
mod content;
mod encoding;
mod freshness;
mod intake;
mod look_back;
mod losses;
mod measuring;
mod merge;
mod parts;
mod records;
mod round;
mod takeover;
mod tally;
mod warm_up;

use std::time::Duration;

use segue_flow::lane::{AsideReason, Batch};
use segue_flow::names::{self, Name};
use segue_flow::{Epoch, LaneId, OffsetRange};
use segue_listen::{EventTime, TrackId, UserId};
use segue_sessions::{PlayUpdate, Update};
use serde::{Deserialize, Serialize};

use crate::ladder::Ladder;
use crate::listeners::{Chunk, Listeners};
use crate::prequential::Prequential;
use crate::recommender::Recommender;

pub use checkpoints::{PART as STAGE_PART, lane_part};
pub use content::Content;
pub use parts::{
    Checkpointing, Curriculum, EncoderLink, EngineError, Moved, Origin, Parts, Restored,
    RunSummary, StageSettings, Watcher,
};
pub use records::{PredictedTrack, Prediction, SessionRecord, Topics};
pub use tally::{RATIO_BINS, RatioCounts, StreamTally};

use addresses::Addresses;
use checkpoints::Checkpoints;
use encoding::Encoding;
use freshness::Freshness;
use losses::Losses;
use measuring::Measuring;
use merge::Merge;

/// The stage.
pub struct RecommendStage {
    settings: StageSettings,
    parts: Parts,
    /// In exact mode: lanes that wait for each other.
    merge: Option<Merge>,
    addresses: Addresses,
    listeners: Listeners,
    content: Content,
    encodings: Vec<Encoding>,
    fresh: Freshness,
    warm_up: Option<warm_up::WarmUp>,
    /// Without recommenders there is none: nothing is measured, nothing answered.
    ladder: Option<Ladder>,
    chunk: Chunk,
    /// The newest play of each listener of the epoch, in order of their first one in it.
    asked: Vec<Asked>,
    asked_at: hashbrown::HashMap<UserId, usize>,
    /// When the plays of the epoch were read, and how many at once.
    waiting: Vec<(Duration, u64)>,
    /// Plays that were read while models were taught waited for that, not for an answer.
    taught_at: Duration,
    inputs: Vec<OffsetRange>,
    prequential: Option<Prequential>,
    measuring: Measuring,
    /// How much of its time a round may take.
    share: f64,
    /// The round of learning that is open: parameters change when it closes.
    round: Epoch,
    /// What the sink commits together: one round, or with checkpoints what lies between two of them.
    epoch: Epoch,
    checkpoints: Option<Checkpoints>,
    records: records::Writer,
    tally: StreamTally,
    predictions: u64,
    losses: Losses,
}

/// What is left of a round's time where the queue before the stage is full: what is cheap is answered
/// and measured all the same.
const LEAST_SHARE: f64 = 1.0 / 16.0;

/// How often a stage for which nothing comes looks whether its checkpoint is written.
const WHILE_WRITING: Duration = Duration::from_millis(5);

/// Whom to answer, after which play.
#[derive(Serialize, Deserialize)]
struct Asked {
    user: UserId,
    track: TrackId,
    at: EventTime,
}

impl RecommendStage {
    /// A stage with nothing in it; opens the first epoch at the sink.
    ///
    /// # Errors
    /// A sink that cannot begin, a comparison of recommenders that are not there.
    pub fn new(settings: StageSettings, mut parts: Parts) -> Result<Self, EngineError> {
        let encodings = Encoding::all(std::mem::take(&mut parts.encoders));
        let mut stage = Self {
            merge: settings.exact.then(|| Merge::new(settings.lanes)),
            addresses: Addresses::new(parts.directory.clone()),
            listeners: Listeners::new(),
            content: Content::new(Self::dimensions(&encodings)),
            encodings,
            fresh: Freshness::default(),
            warm_up: parts.curriculum.take().map(warm_up::WarmUp::new),
            ladder: None,
            chunk: Chunk::new(),
            asked: Vec::new(),
            asked_at: hashbrown::HashMap::new(),
            waiting: Vec::new(),
            taught_at: Duration::ZERO,
            inputs: Vec::new(),
            prequential: None,
            measuring: Measuring::new(settings.measure_within.filter(|_| !settings.exact)),
            share: 1.0,
            round: Epoch(0),
            epoch: Epoch(0),
            checkpoints: (parts.checkpointing.take().map(Checkpoints::new)).transpose()?,
            records: records::Writer::new(settings.topics.clone(), settings.format),
            tally: StreamTally::default(),
            predictions: 0,
            losses: Losses::default(),
            settings,
            parts,
        };
        if stage.warm_up.is_none() {
            let recommenders = std::mem::take(&mut stage.parts.recommenders);
            stage.set_up_ladder(recommenders)?;
        }
        match stage.parts.restored.take() {
            Some(restored) => stage.take_up(restored)?,
            None => {
                stage.know()?;
                if stage.checkpoints.is_some() {
                    stage.check_keepable()?;
                }
            }
        }
        stage.parts.sink.begin(stage.epoch)?;
        Ok(stage)
    }

    /// How full the queue before the stage is, from 0 to 1. The fuller it is, the less time answers
    /// and measuring may take: cheaper recommenders answer, fewer plays are measured, and the lanes
    /// go on. Without effect in exact mode.
    pub fn behind(&mut self, fill: f64) {
        self.share = (1.0 - fill).clamp(LEAST_SHARE, 1.0);
    }

    /// How long to wait for a batch before the stage is told that none came: shorter than `at_most` where
    /// a checkpoint is being written, since what waits for that is not to wait longer.
    pub fn patience(&self, at_most: Duration) -> Duration {
        match self.is_writing() {
            true => at_most.min(WHILE_WRITING),
            false => at_most,
        }
    }

    /// Takes a lane's batch in, closing epochs as they fill.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn take(&mut self, batch: Batch<Update>) -> Result<(), EngineError> {
        match self.before_checkpoint(batch)? {
            Some(batch) => self.absorb(batch),
            None => Ok(()),
        }
    }

    /// Takes in the tracks that are there before the first play; they have been played, elsewhere.
    fn know(&mut self) -> Result<(), EngineError> {
        if let Some(known) = self.parts.known.take() {
            for key in known.keys() {
                self.listeners
                    .heard(self.parts.directory.sight(key)?.track());
            }
            self.content = known.untold();
            self.ask_again()?;
        }
        Ok(())
    }

    fn absorb(&mut self, batch: Batch<Update>) -> Result<(), EngineError> {
        self.tally.count(batch.counts);
        for aside in &batch.aside {
            let topic = match aside.reason {
                AsideReason::DeadLetter => &self.settings.topics.dead_letters,
                AsideReason::TooLate => &self.settings.topics.late,
            };
            records::write_aside(&mut *self.parts.sink, topic, batch.covers.lane, aside)?;
        }
        let lane = batch.covers.lane;
        match &mut self.merge {
            Some(merge) => {
                merge.push(lane, batch.outputs, batch.watermark, batch.read_at);
                self.take_merged()?;
            }
            None => {
                for update in batch.outputs {
                    self.update(lane, update, batch.read_at)?;
                }
            }
        }
        if !batch.covers.is_empty() && self.checkpoints.is_none() {
            self.inputs.push(batch.covers);
        }
        self.announce()?;
        self.collect()
    }

    fn take_merged(&mut self) -> Result<(), EngineError> {
        while let Some(merge) = &mut self.merge {
            let addresses = &self.addresses;
            // As a lane orders them: by track and then by the listener's name.
            let rank = |(lane, play): (LaneId, &PlayUpdate)| {
                let key = addresses.key(lane, play.track).ok();
                let name = addresses.name_in(lane, play.slot).ok();
                (key.map(|key| key.digest() as u32), name)
            };
            let Some(next) = merge.next(|one, other| rank(one).cmp(&rank(other))) else {
                break;
            };
            self.update(next.lane, next.update, next.read_at)?;
        }
        Ok(())
    }

    /// Nothing more is waiting: whoever has played is answered now, by the models as they are, and not
    /// only when the round closes; new tracks can be among the answers. In exact mode nothing happens:
    /// there, what is said must not depend on when.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn caught_up(&mut self) -> Result<(), EngineError> {
        if self.is_writing() {
            return self.go_on(false);
        }
        if self.settings.exact || self.warm_up.is_some() || self.asked.is_empty() {
            return Ok(());
        }
        self.admit()?;
        self.answer()
    }

    /// Nothing came for a while: unless runs are to be repeatable, what is waiting is answered now.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn idle(&mut self) -> Result<(), EngineError> {
        if self.is_writing() {
            return self.go_on(false);
        }
        self.call_checkpoint();
        // What takes its time comes while nobody plays.
        self.announce()?;
        self.collect()?;
        let nothing_new =
            self.waiting.is_empty() && self.chunk.is_empty() && self.inputs.is_empty();
        if self.settings.exact || self.warm_up.is_some() || nothing_new {
            return Ok(());
        }
        self.barrier()
    }

    /// The stream is over: the last epoch is closed, everything is written.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn finish(mut self) -> Result<RunSummary, EngineError> {
        if self.checkpoints.is_some() {
            self.last_checkpoint()?;
            self.parts.sink.abort(self.epoch)?;
            return Ok(self.summary());
        }
        if let Some(merge) = &mut self.merge {
            merge.end();
            self.take_merged()?;
        }
        if self.warm_up.is_some() {
            // A log shorter than its training part: what there is is taught, nothing is measured.
            self.teach()?;
        }
        self.barrier()?;
        self.parts.sink.abort(self.epoch)?;
        Ok(self.summary())
    }

    fn summary(self) -> RunSummary {
        RunSummary {
            stream: self.tally,
            epochs: self.round.0,
            predictions: self.predictions,
            trained_on: self.settings.train_plays,
            listeners: self.addresses.listeners() as u64,
            tracks: self.content.len() as u64,
            encoded: self.content.encoded(),
            failed: self.content.failed(),
            content_faults: self.content.faults(),
            durations_estimated: self.parts.durations.known() as u64,
            durations: self.parts.durations.judge(),
            prequential: self.prequential.map(|p| p.report()),
            losses: self.losses.into_points(),
            rungs: self.ladder.map_or_else(Vec::new, |ladder| ladder.report()),
        }
    }

    /// Closes a round, and where no checkpoint is waited for, the epoch with it.
    fn barrier(&mut self) -> Result<(), EngineError> {
        match self.settings.exact {
            true => self.collect_all()?,
            false => {
                self.announce()?;
                self.collect()?;
            }
        }
        self.admit()?;
        self.measure_and_learn()?;
        self.parts.durations.publish();
        self.answer()?;
        self.round = self.round.next();
        names::count(Name::Rounds, 1);
        names::gauge(Name::Tracks, self.content.len() as f64);
        names::gauge(Name::Listeners, self.listeners.len() as f64);
        match self.checkpoints {
            Some(_) => Ok(()),
            None => {
                let inputs = merged(&mut self.inputs);
                self.commit(&inputs)
            }
        }
    }

    /// What was written becomes visible with the offsets of what it was made from.
    fn commit(&mut self, inputs: &[OffsetRange]) -> Result<(), EngineError> {
        self.parts.sink.commit(self.epoch, inputs)?;
        names::count(Name::Epochs, 1);
        self.epoch = self.epoch.next();
        self.parts.sink.begin(self.epoch)?;
        Ok(())
    }

    fn teach(&mut self) -> Result<(), EngineError> {
        let Some(warm_up) = self.warm_up.take() else {
            return Ok(());
        };
        self.collect_all()?;
        self.parts.watcher.teaching(true);
        self.settings.train_plays = self.tally.plays;
        let (curriculum, log) = warm_up.finish(|user| self.addresses.name(user));
        let recommenders = curriculum.teach(&log, &self.content)?;
        self.parts.watcher.teaching(false);
        self.taught_at = self.parts.clock.now();
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
        let again = recommenders.iter().filter(|r| r.ranks_again());
        let again: Vec<&str> = again
            .map(|r| r.name())
            .filter(|name| names.contains(name))
            .collect();
        let prequential = Prequential::new(&names, &compare, self.settings.prequential)?;
        self.prequential = Some(prequential.with_old_plays(&again, &compare));
        self.ladder = Some(Ladder::new(recommenders)?);
        Ok(())
    }
}

fn is_measured(recommender: &dyn Recommender, unmeasured: &[String]) -> bool {
    unmeasured.iter().all(|name| name != recommender.name())
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
