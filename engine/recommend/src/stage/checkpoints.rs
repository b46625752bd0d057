//! Checkpoints: the lanes' states, this stage's own, and the offsets that the sink commits, of one
//! point in the stream.
//!
//! When one is due the lanes are called. Each answers with its state behind the results that led to
//! it; what a lane hands over after that waits until all have answered. Then everything that was taken
//! in is in this stage's state, and nothing else: the parts are written, the manifest last, and the
//! sink commits results and offsets. They are written on another thread, and the lanes go on: what they
//! hand over waits, up to a bound, since what came of it would belong to the next commit. A crash before that commit leaves the checkpoint before it as
//! the one whose offsets are committed; a crash after it leaves this one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use segue_catalog::durations::DurationEstimates;
use segue_flow::barrier::{Barrier, BarrierCall, LAST};
use segue_flow::checkpoint::{CheckpointWriter, ManifestBody, Position, Whole, decode, encode};
use segue_flow::lane::Batch;
use segue_flow::{Epoch, LaneId, Offset, OffsetRange, Remedy};
use segue_sessions::Update;
use serde::{Deserialize, Serialize};

use super::addresses::Addresses;
use super::merge::Merge;
use super::takeover::places;
use super::warm_up::{Gathered, WarmUp};
use super::{
    Asked, Checkpointing, Content, EngineError, Origin, RecommendStage, Restored, StreamTally,
};
use crate::listeners::{Chunk, Listeners};
use crate::prequential::Prequential;

/// The version of [`State`].
pub(super) const VERSION: u16 = 3;
/// The part that holds what the stage knows, apart from the recommenders.
pub const PART: &str = "stage";

/// The part that holds a lane's state.
pub fn lane_part(lane: LaneId) -> String {
    format!("lane-{}", lane.0)
}

fn recommender_part(name: &str) -> String {
    format!("recommender-{name}")
}

/// Where a lane stood, and its state there.
#[derive(Clone)]
struct Answer {
    position: Offset,
    state: Vec<u8>,
}

/// Batches that lanes may hand over while a checkpoint is written, before they have to wait: at the
/// largest about 40 MB.
const HELD: usize = 512;

/// Checkpoints of a run.
pub(super) struct Checkpoints {
    writer: CheckpointWriter,
    call: BarrierCall,
    every: Duration,
    topic: String,
    fixed: BTreeMap<String, String>,
    /// The inputs of the checkpoint that is being written, to be committed with it.
    writing: Option<Vec<OffsetRange>>,
    /// The barrier that was called and not answered by all lanes yet.
    called: Option<u64>,
    /// When it was, or the last one.
    called_at: Duration,
    answers: BTreeMap<LaneId, Answer>,
    /// Lanes that have stopped for good.
    stopped: BTreeMap<LaneId, Answer>,
    /// What lanes handed over after their answer.
    held: VecDeque<Batch<Update>>,
    /// Where each lane stood at the last checkpoint.
    committed: BTreeMap<LaneId, Offset>,
    /// Whether anything was taken in since.
    anything_new: bool,
    /// The first one is due before its time: lanes have come from elsewhere, and what is committed is
    /// to say that they are here.
    due_at_once: bool,
}

impl Checkpoints {
    pub(super) fn new(with: Checkpointing) -> Result<Self, EngineError> {
        Ok(Self {
            writer: CheckpointWriter::start(with.store)?,
            call: with.call,
            every: with.every,
            topic: with.topic,
            fixed: with.fixed,
            writing: None,
            called: None,
            called_at: Duration::ZERO,
            answers: BTreeMap::new(),
            stopped: BTreeMap::new(),
            held: VecDeque::new(),
            committed: BTreeMap::new(),
            anything_new: false,
            due_at_once: false,
        })
    }

    fn all_answered(&self, lanes: &BTreeSet<LaneId>) -> bool {
        let answered =
            |lane: &LaneId| self.answers.contains_key(lane) || self.stopped.contains_key(lane);
        lanes.iter().all(answered)
    }

    /// Begins to write what the lanes answered and what the stage knows.
    fn write(
        &mut self,
        epoch: Epoch,
        partitions: u32,
        answers: BTreeMap<LaneId, Answer>,
        parts: Vec<(String, Vec<u8>)>,
    ) {
        // What a lane that has stopped said is said again each time.
        let stopped = self
            .stopped
            .iter()
            .map(|(lane, answer)| (*lane, answer.clone()));
        let lanes: BTreeMap<LaneId, Answer> = answers.into_iter().chain(stopped).collect();
        let range = |(lane, answer): (&LaneId, &Answer)| OffsetRange {
            lane: *lane,
            from: (self.committed.get(lane).copied())
                .unwrap_or(answer.position)
                .min(answer.position),
            to: answer.position,
        };
        self.writing = Some(lanes.iter().map(range).collect());
        let positions = lanes.iter().map(|(lane, answer)| Position {
            topic: self.topic.clone(),
            partition: lane.0,
            offset: answer.position,
        });
        let body = ManifestBody {
            partitions,
            positions: positions.collect(),
            formats: BTreeMap::from([(PART.to_owned(), VERSION)]),
            fixed: self.fixed.clone(),
        };
        let lanes = lanes.into_iter();
        let lanes = lanes.map(|(lane, answer)| (lane_part(lane), answer.state));
        self.writer.write(Whole {
            epoch,
            parts: lanes.chain(parts).collect(),
            body,
        });
    }
}

/// What the stage knows, apart from the recommenders.
#[derive(Serialize)]
struct State<'a> {
    round: Epoch,
    merge: &'a Option<Merge>,
    addresses: &'a Addresses,
    listeners: &'a Listeners,
    content: &'a Content,
    chunk: &'a Chunk,
    asked: &'a [Asked],
    durations: &'a DurationEstimates,
    tally: &'a StreamTally,
    prequential: &'a Option<Prequential>,
    predictions: u64,
    /// While models wait to be taught: what they will be taught.
    gathered: Option<&'a Gathered>,
    /// Plays that they were taught.
    trained_on: u64,
}

/// The same, read back.
#[derive(Deserialize)]
pub(super) struct Owned {
    round: Epoch,
    merge: Option<Merge>,
    pub addresses: Addresses,
    pub listeners: Listeners,
    pub content: Content,
    chunk: Chunk,
    pub asked: Vec<Asked>,
    durations: DurationEstimates,
    tally: StreamTally,
    prequential: Option<Prequential>,
    predictions: u64,
    gathered: Option<Gathered>,
    trained_on: u64,
}

impl RecommendStage {
    /// The batch, unless it has to wait for a checkpoint. A batch that ends with a lane's answer is
    /// taken in here, and with the last answer the checkpoint is taken.
    pub(super) fn before_checkpoint(
        &mut self,
        mut batch: Batch<Update>,
    ) -> Result<Option<Batch<Update>>, EngineError> {
        let Some(checkpoints) = &mut self.checkpoints else {
            return Ok(Some(batch));
        };
        if checkpoints.writing.is_some() {
            checkpoints.held.push_back(batch);
            let full = checkpoints.held.len() >= HELD;
            return self.go_on(full).map(|()| None);
        }
        if checkpoints.answers.contains_key(&batch.covers.lane) {
            checkpoints.held.push_back(batch);
            return Ok(None);
        }
        // Time that comes to its end closes sessions without a record.
        checkpoints.anything_new |= !batch.covers.is_empty() || !batch.outputs.is_empty();
        let Some(Barrier { number, state }) = batch.barrier.take() else {
            self.call_checkpoint();
            return Ok(Some(batch));
        };
        let (lane, position) = (batch.covers.lane, batch.covers.to);
        self.absorb(batch)?;
        let lanes = &self.settings.held;
        if let Some(checkpoints) = &mut self.checkpoints {
            let answer = Answer { position, state };
            if number == LAST {
                checkpoints.stopped.insert(lane, answer);
            } else if checkpoints.called == Some(number) {
                checkpoints.answers.insert(lane, answer);
            }
            if checkpoints.called.is_some() && checkpoints.all_answered(lanes) {
                self.checkpoint()?;
            }
        }
        Ok(None)
    }

    /// Calls the lanes for a checkpoint, if one is due.
    pub(super) fn call_checkpoint(&mut self) {
        let now = self.parts.clock.now();
        let Some(checkpoints) = &mut self.checkpoints else {
            return;
        };
        let due = checkpoints.due_at_once
            || now >= checkpoints.called_at.saturating_add(checkpoints.every);
        if due && checkpoints.anything_new && checkpoints.called.is_none() {
            checkpoints.due_at_once = false;
            checkpoints.called_at = now;
            checkpoints.called = Some(checkpoints.call.call());
        }
    }

    /// All lanes have stopped: what is left is committed, if all of them could say where they stood.
    pub(super) fn last_checkpoint(&mut self) -> Result<(), EngineError> {
        self.go_on(true)?;
        // What waited for a lane that has stopped instead of answering.
        let held = self.checkpoints.as_mut().map(|checkpoints| {
            checkpoints.called = None;
            checkpoints.answers.clear();
            std::mem::take(&mut checkpoints.held)
        });
        for batch in held.into_iter().flatten() {
            self.take(batch)?;
        }
        let Some(checkpoints) = &self.checkpoints else {
            return Ok(());
        };
        if !checkpoints.all_answered(&self.settings.held) {
            return Ok(());
        }
        // The last round of a log that is complete is as long as it is.
        if self.merge.as_ref().is_some_and(Merge::is_complete) && self.warm_up.is_none() {
            self.barrier()?;
            self.checkpoints
                .iter_mut()
                .for_each(|c| c.anything_new = true);
        }
        self.checkpoint()?;
        self.go_on(true)?;
        match &self.checkpoints {
            Some(checkpoints) if checkpoints.anything_new => Err(EngineError::NotCommitted),
            _ => Ok(()),
        }
    }

    /// Everything that the lanes read before their answers has been taken in, and nothing after it.
    fn checkpoint(&mut self) -> Result<(), EngineError> {
        // While a training part is gathered no round is open.
        if !self.settings.exact && self.warm_up.is_none() {
            self.barrier()?;
        }
        let parts = self.state()?;
        let Some(checkpoints) = &mut self.checkpoints else {
            return Ok(());
        };
        checkpoints.called = None;
        let answers = std::mem::take(&mut checkpoints.answers);
        if std::mem::take(&mut checkpoints.anything_new) {
            checkpoints.write(self.epoch, self.settings.lanes, answers, parts);
            return Ok(());
        }
        self.take_held()
    }

    /// Whether a checkpoint is being written: what is written to the sink until it is sealed would be
    /// committed with it.
    pub(super) fn is_writing(&self) -> bool {
        let checkpoints = self.checkpoints.as_ref();
        checkpoints.is_some_and(|checkpoints| checkpoints.writing.is_some())
    }

    /// Commits the checkpoint that is being written, if it is sealed by now (or as soon as it is, where
    /// `wait` says so), and takes in what has waited for that.
    pub(super) fn go_on(&mut self, wait: bool) -> Result<(), EngineError> {
        let Some(checkpoints) = &mut self.checkpoints else {
            return Ok(());
        };
        let Some(inputs) = checkpoints.writing.take() else {
            return Ok(());
        };
        let outcome = match wait {
            true => Some(checkpoints.writer.wait()),
            false => checkpoints.writer.outcome(),
        };
        let Some(outcome) = outcome else {
            checkpoints.writing = Some(inputs);
            return Ok(());
        };
        match outcome {
            Ok(memory) => {
                // The lanes' parts come first.
                for (range, memory) in inputs.iter().zip(memory) {
                    checkpoints.call.give_back(range.lane, memory);
                }
                checkpoints.committed = inputs.iter().map(|range| (range.lane, range.to)).collect();
                self.inputs.clear();
                self.commit(&inputs)?;
                if let Some(checkpoints) = &self.checkpoints {
                    checkpoints.writer.prune();
                }
            }
            // What was written stays in the open epoch; the next checkpoint takes it along.
            Err(error) if error.remedy() == Remedy::Retry => {
                tracing::warn!(%error, "no checkpoint this time");
                checkpoints.anything_new = true;
            }
            Err(error) => return Err(error.into()),
        }
        self.take_held()
    }

    fn take_held(&mut self) -> Result<(), EngineError> {
        let held = match &mut self.checkpoints {
            Some(checkpoints) => std::mem::take(&mut checkpoints.held),
            None => VecDeque::new(),
        };
        held.into_iter().try_for_each(|batch| self.take(batch))
    }

    /// Whether every recommender can be kept: better known before the first play than after the crash.
    pub(super) fn check_keepable(&mut self) -> Result<(), EngineError> {
        self.state().map(|_| ())
    }

    fn state(&mut self) -> Result<Vec<(String, Vec<u8>)>, EngineError> {
        let state = State {
            round: self.round,
            merge: &self.merge,
            addresses: &self.addresses,
            listeners: &self.listeners,
            content: &self.content,
            chunk: &self.chunk,
            asked: &self.asked,
            durations: &self.parts.durations,
            tally: &self.tally,
            prequential: &self.prequential,
            predictions: self.predictions,
            gathered: self.warm_up.as_ref().map(WarmUp::gathered),
            trained_on: self.settings.train_plays,
        };
        let bytes = encode(PART, VERSION, &state).map_err(|error| EngineError::Record {
            topic: "the checkpoint".to_owned(),
            detail: error.to_string(),
        })?;
        let mut parts = vec![(PART.to_owned(), bytes)];
        if let Some(ladder) = &mut self.ladder {
            for recommender in ladder.recommenders() {
                let part = recommender_part(recommender.name());
                parts.push((part, recommender.snapshot()?));
            }
        }
        Ok(parts)
    }

    /// Goes on from a checkpoint.
    pub(super) fn take_up(&mut self, restored: Restored) -> Result<(), EngineError> {
        let wrong = |detail: String| EngineError::Restore {
            epoch: restored.epoch.0,
            detail,
        };
        let part = |name: &str| {
            let part = restored.parts.get(name).map(Vec::as_slice);
            part.ok_or_else(|| wrong(format!("it has no part {name:?}")))
        };
        let state: Owned =
            decode(PART, VERSION, part(PART)?).map_err(|error| wrong(error.to_string()))?;
        if state.merge.is_some() != self.settings.exact {
            let was = if state.merge.is_some() {
                "set"
            } else {
                "not set"
            };
            return Err(wrong(format!(
                "recommend.exact was {was} when it was taken"
            )));
        }
        self.round = state.round;
        self.epoch = restored.epoch.next();
        self.merge = state.merge;
        self.content = state.content.restored();
        let directory = self.parts.directory.clone();
        self.addresses = state.addresses.restored(directory, self.content.keys())?;
        self.listeners = state.listeners;
        self.chunk = state.chunk;
        self.asked_at = places(&state.asked);
        self.asked = state.asked;
        self.parts.durations = state.durations;
        let prequential = if restored.origin == Origin::Own {
            self.tally = state.tally;
            self.predictions = state.predictions;
            state.prequential
        } else {
            None
        };
        self.ask_again()?;
        match (self.warm_up.take(), state.gathered) {
            (Some(mut warm_up), Some(gathered)) => {
                warm_up.go_on(gathered);
                self.warm_up = Some(warm_up);
            }
            (Some(warm_up), None) => {
                self.settings.train_plays = state.trained_on;
                let untaught = warm_up.into_curriculum().untaught(&self.content)?;
                self.set_up_ladder(untaught)?;
            }
            (None, Some(_)) => {
                return Err(wrong(
                    "models were about to be trained when it was taken, and none are to be now"
                        .to_owned(),
                ));
            }
            (None, None) => {}
        }
        if let Some(prequential) = prequential {
            self.prequential = Some(Prequential::restored(prequential));
        }
        let moved: Vec<LaneId> = restored
            .moved
            .iter()
            .flat_map(|m| m.lanes.clone())
            .collect();
        self.let_go(|lane| restored.positions.contains_key(&lane) && !moved.contains(&lane));
        for moved in &restored.moved {
            self.take_over(moved)?;
        }
        if let Some(ladder) = &mut self.ladder {
            let told = self.content.told();
            for recommender in ladder.recommenders() {
                let name = recommender_part(recommender.name());
                recommender.restore(part(&name)?, &told)?;
            }
        }
        self.hold_out_again();
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.committed = restored.positions.clone();
            if restored.origin == Origin::Another || !restored.moved.is_empty() {
                checkpoints.anything_new = true;
                checkpoints.due_at_once = true;
            }
        }
        Ok(())
    }
}
