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
//! Where a curriculum is given, the first part of the log is only gathered; models are trained on it,
//! and what follows is measured. This file drives; the parts below it do the work.

mod addresses;
mod content;
mod merge;
mod parts;
mod records;
mod tally;
mod warm_up;

use std::time::Duration;

use segue_catalog::newcomers::Arrivals;
use segue_flow::lane::{AsideReason, Batch};
use segue_flow::names::{self, Name};
use segue_flow::queue::Received;
use segue_flow::{Epoch, LaneId, OffsetRange};
use segue_listen::completion::Part;
use segue_listen::{EventTime, Ratio, TrackId, UserId};
use segue_sessions::{PlayUpdate, Settled, Update, Witness};

use crate::ladder::{Budget, Ladder};
use crate::listeners::{Chunk, Listeners, PlayEvent};
use crate::prequential::Prequential;
use crate::recommender::Recommender;

pub use content::Content;
pub use parts::{Curriculum, EncoderLink, EngineError, Parts, RunSummary, StageSettings, Watcher};
pub use records::{PredictedTrack, Prediction, SessionRecord, Topics};
pub use tally::{RATIO_BINS, RatioCounts, StreamTally};

use addresses::Addresses;
use merge::Merge;
use tally::Basis;

/// How long the encoder is waited for before new tracks are offered to it again.
const ENCODER_PATIENCE: Duration = Duration::from_millis(10);

/// The stage.
pub struct RecommendStage {
    settings: StageSettings,
    parts: Parts,
    /// In exact mode: lanes that wait for each other.
    merge: Option<Merge>,
    addresses: Addresses,
    listeners: Listeners,
    content: Content,
    /// Tracks to be encoded that were not handed over yet.
    newcomers: Arrivals,
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
    epoch: Epoch,
    records: records::Writer,
    tally: StreamTally,
    predictions: u64,
    losses: Vec<(String, u64, f32)>,
}

/// Whom to answer, after which play.
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
        let epoch = Epoch(0);
        parts.sink.begin(epoch)?;
        let dimensions = parts
            .encoder
            .as_ref()
            .map_or(0, |encoder| encoder.dimensions);
        let mut stage = Self {
            merge: settings.exact.then(|| Merge::new(settings.lanes)),
            addresses: Addresses::new(parts.directory.clone()),
            listeners: Listeners::new(),
            content: Content::new(dimensions),
            newcomers: Arrivals::default(),
            warm_up: parts.curriculum.take().map(warm_up::WarmUp::new),
            ladder: None,
            chunk: Chunk::new(),
            asked: Vec::new(),
            asked_at: hashbrown::HashMap::new(),
            waiting: Vec::new(),
            taught_at: Duration::ZERO,
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
        if !batch.covers.is_empty() {
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

    fn update(
        &mut self,
        lane: LaneId,
        update: Update,
        read_at: Duration,
    ) -> Result<(), EngineError> {
        match update {
            Update::Listener { slot, name } => self.addresses.announce_listener(lane, slot, name),
            Update::Track(content) => self.addresses.announce_track(lane, content),
            Update::Play(play) => self.play(lane, &play, read_at),
            Update::Correction { slot, settled } => {
                self.tally.corrected();
                let user = self.addresses.user(lane, slot)?;
                let (track, ratio, _) = self.settled(lane, &settled)?;
                match &mut self.warm_up {
                    Some(warm_up) => warm_up.correct(user, track, settled.at, ratio),
                    None => {
                        self.listeners.correct(user, settled.at, track, ratio);
                    }
                }
                Ok(())
            }
            Update::Closed { slot, session } => {
                self.tally.closed(&session);
                let name = self.addresses.name_in(lane, slot)?;
                let sink = &mut *self.parts.sink;
                self.records.session(sink, name, &session, false)
            }
            Update::Retracted { slot, session } => {
                self.tally.retracted(&session);
                let name = self.addresses.name_in(lane, slot)?;
                let sink = &mut *self.parts.sink;
                self.records.session(sink, name, &session, true)
            }
        }
    }

    /// Nothing came for a while: unless runs are to be repeatable, what is waiting is answered now.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn idle(&mut self) -> Result<(), EngineError> {
        let nothing_new = self.waiting.is_empty() && self.inputs.is_empty();
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
        Ok(RunSummary {
            stream: self.tally,
            epochs: self.epoch.0,
            predictions: self.predictions,
            trained_on: self.settings.train_plays,
            listeners: self.addresses.listeners() as u64,
            tracks: self.content.len() as u64,
            encoded: self.content.encoded(),
            failed: self.content.failed(),
            durations_estimated: self.parts.durations.known() as u64,
            prequential: self.prequential.map(|p| p.report()),
            losses: self.losses,
            rungs: self.ladder.map_or_else(Vec::new, |ladder| ladder.report()),
        })
    }

    fn play(
        &mut self,
        lane: LaneId,
        play: &PlayUpdate,
        read_at: Duration,
    ) -> Result<(), EngineError> {
        let user = self.addresses.user(lane, play.slot)?;
        let (track, new) = self.addresses.track(lane, play.track)?;
        if let Some(content) = new {
            self.newcomers.0.push(content.clone());
            self.content.sighted(content);
        }
        let own = play.played.and_then(|part| self.ratio(track, part));
        let mut ratio_of_previous = None;
        if let Some(previous) = &play.previous {
            let (track, ratio, basis) = self.settled(lane, previous)?;
            self.parts.durations.note(track, previous.gap);
            self.tally.settled(basis, ratio);
            ratio_of_previous = ratio;
        }
        self.tally.play(play.at);
        if play.played.is_some() {
            self.tally.settled(Basis::Player, own);
        }
        self.parts.watcher.progressed(1, play.at);
        let event = PlayEvent {
            user,
            track,
            at: play.at,
            opens_session: play.session.plays == 1,
            own_ratio: own,
            ratio_of_previous,
        };
        if let Some(warm_up) = &mut self.warm_up {
            warm_up.take(&event);
            self.listeners.absorb(&event);
            if self
                .tally
                .plays
                .is_multiple_of(self.settings.epoch.max(1) as u64)
            {
                self.parts.durations.publish();
            }
            if self.tally.plays >= self.settings.train_plays {
                // At this very play, wherever the batch was cut.
                self.teach()?;
            }
            return Ok(());
        }
        match self.waiting.last_mut() {
            Some((at, plays)) if *at == read_at => *plays += 1,
            _ => self.waiting.push((read_at, 1)),
        }
        self.chunk.push(&mut self.listeners, &event);
        if play.newest {
            self.ask(Asked {
                user,
                track,
                at: play.at,
            });
        }
        if self.chunk.len() >= self.settings.epoch.max(1) {
            self.barrier()?;
        }
        Ok(())
    }

    /// The listener is to be answered at the barrier, after their newest play.
    fn ask(&mut self, asked: Asked) {
        let next = self.asked.len();
        let place = *self.asked_at.entry(asked.user).or_insert(next);
        match self.asked.get_mut(place) {
            Some(held) => *held = asked,
            None => self.asked.push(asked),
        }
    }

    /// A ratio, by the estimates of the last barrier where no length is stated.
    fn ratio(&self, track: TrackId, part: Part) -> Option<Ratio> {
        part.ratio(self.parts.durations.get(track))
    }

    /// Which play is over, how much of it was heard, and what that rests on.
    fn settled(
        &mut self,
        lane: LaneId,
        settled: &Settled,
    ) -> Result<(TrackId, Option<Ratio>, Basis), EngineError> {
        let (track, _) = self.addresses.track(lane, settled.track)?;
        let ratio = self.ratio(track, settled.part);
        let basis = match (settled.witness, settled.part) {
            (Witness::Player, _) => Basis::PlayerAlready,
            (Witness::Gap, Part::Ratio(_)) => Basis::StatedLength,
            (Witness::Gap, Part::Span(_)) => Basis::EstimatedLength,
        };
        Ok((track, ratio, basis))
    }

    /// Hands new tracks to the encoder; never waits.
    fn announce(&mut self) -> Result<(), EngineError> {
        let news = std::mem::take(&mut self.newcomers);
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

    /// Takes in the vectors that are ready.
    fn collect(&mut self) -> Result<(), EngineError> {
        if let Some(encoder) = &mut self.parts.encoder {
            while let Some(encoded) = encoder.encoded.ready() {
                self.content.take(encoded);
            }
        }
        Ok(())
    }

    /// Waits until every announced track has been encoded. Both queues are bounded and the encoder
    /// waits for us too: so what it holds is taken while what we hold is offered.
    fn collect_all(&mut self) -> Result<(), EngineError> {
        self.announce()?;
        let Some(encoder) = &mut self.parts.encoder else {
            return Ok(());
        };
        while self.content.outstanding() > 0 {
            encoder
                .arrivals
                .try_flush()
                .map_err(|_| EngineError::EncoderGone)?;
            match encoder.encoded.receive(ENCODER_PATIENCE) {
                Received::Batch(encoded) => self.content.take(encoded),
                Received::Nothing => {}
                Received::Over => return Err(EngineError::EncoderGone),
            }
        }
        Ok(())
    }

    /// Closes the epoch.
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
                for (rank, facts) in ranks.iter_mut().zip(self.chunk.facts()) {
                    if facts.cold_track {
                        *rank = None;
                    }
                }
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
                .map(|asked| self.listeners.ask(asked.user))
                .collect();
            let mut answers = Vec::with_capacity(asks.len());
            let clock = &*self.parts.clock;
            let now = || clock.now();
            let budget = match self.settings.answer_within {
                Some(limit) if !self.settings.exact => Budget::Within { limit, now: &now },
                _ => Budget::Unlimited,
            };
            ladder.recommend(&asks, self.settings.top, &budget, &mut answers)?;
            for (asked, answer) in asked.iter().zip(&answers) {
                let user = self.addresses.name(asked.user);
                let tracks = self.content.described(&answer.ranking);
                let key = self.content.key(asked.track);
                let by = (answer.recommender, answer.tier);
                let prediction = Prediction::new(user, key, asked.at, self.epoch, by);
                self.records
                    .prediction(&mut *self.parts.sink, prediction, tracks)?;
                names::count_for(Name::Predictions, "recommender", answer.recommender, 1);
            }
            self.predictions += answers.len() as u64;
        }
        let now = self.parts.clock.now();
        for (read_at, plays) in self.waiting.drain(..) {
            let latency = now.saturating_sub(read_at.max(self.taught_at));
            names::observe(Name::EventToPrediction, latency);
            self.parts.watcher.answered(latency, plays);
        }
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
        let settings = self.settings.prequential;
        self.prequential = Some(Prequential::new(&names, &compare, settings)?);
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
