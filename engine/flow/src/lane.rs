//! The loop of one lane: read → decode → judge → absorb, and hand over once.
//!
//! What a lane emits is a function of its log alone. Time moves on a fixed grid of event time (the
//! tick): when the watermark enters a new tick, what came before is absorbed and timers fire. Where
//! the source happens to cut its batches, and how fast the machine is, does not matter.
//!
//! A lane that is asked to keep order holds records until nothing earlier can come, and absorbs them
//! by time: then even the order in which they arrived does not matter.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use segue_listen::{EventTime, Punctuality, Span, Watermark, WatermarkClock};

use crate::barrier::{Barrier, BarrierCall, LAST};
use crate::clock::WallClock;
use crate::epoch::{LaneId, Offset, OffsetRange};
use crate::progress::LaneProgress;
use crate::queue::Inlet;
use crate::source::{RUN, RawRecord, Readiness, Source, SourceError};
use crate::stage::{Kept, Stage, StageError};

mod batch;
mod gauges;
mod settings;
mod state;
mod together;

pub use batch::{Aside, AsideReason, Batch, Counts};
pub use settings::{AtEnd, LaneSettings};
pub use together::run_together;

use gauges::Gauges;

/// How long a lane waits before it first asks again a source that could not be reached, and at most.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// What a decoder made of a record.
#[derive(Debug)]
pub enum Decoded<T> {
    /// Something that happened at an instant.
    Item(EventTime, T),
    /// Event time has come at least so far.
    Heartbeat(EventTime),
    /// Nothing to act upon: a tombstone.
    Nothing,
}

/// Turns bytes into a stage's input. Knows the domain; the lane does not.
pub trait Decode: Send {
    /// The stage's input.
    type Item;
    /// The stage's results, first sights among them.
    type News;
    /// Its state in a checkpoint.
    type Snapshot: Kept;

    /// Reads one record, borrowed from the source. A reason in words if it cannot: the record is
    /// then kept as a dead letter and the lane goes on.
    ///
    /// # Errors
    /// The reason, naming what is wrong with the record.
    fn decode(&mut self, record: &RawRecord<'_>) -> Result<Decoded<Self::Item>, String>;

    /// Is shown records before it is given them one by one, so that the memory which they need is asked for
    /// together. Appends the items that they are going to be, as far as that can be told without
    /// learning anything new. Decides nothing: results are the same without it.
    fn look_ahead(&mut self, _records: &[RawRecord<'_>], _items: &mut Vec<Self::Item>) {}

    /// Hands over what was seen for the first time since the last call: whatever later results speak
    /// of is announced before them.
    fn announce(&mut self, out: &mut Vec<Self::News>);

    /// Which of two items of the same instant comes first, whatever the order of their arrival.
    fn order(&self, one: &Self::Item, other: &Self::Item) -> Ordering;

    /// The state between two batches; all first sights have been announced.
    fn snapshot(&self) -> Self::Snapshot;

    /// Takes up a state.
    ///
    /// # Errors
    /// A snapshot that does not fit: [`Remedy::Restore`].
    fn restore(&mut self, snapshot: Self::Snapshot) -> Result<(), StageError>;
}

/// How a step of a lane ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LaneState {
    /// Step again.
    Running,
    /// The log is read to its end and all timers have fired. Final.
    Ended,
    /// Whoever takes the batches has stopped. Final.
    Disconnected,
}

/// Why a lane stopped.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    /// Its source cannot go on.
    #[error("lane {lane}: {error}", lane = lane.0)]
    Source {
        /// Which lane.
        lane: LaneId,
        /// What the source said.
        #[source]
        error: SourceError,
    },
    /// Its stage cannot go on.
    #[error("lane {lane}: {error}", lane = lane.0)]
    Stage {
        /// Which lane.
        lane: LaneId,
        /// What the stage said.
        #[source]
        error: StageError,
    },
}

/// One lane: a source, a decoder, a watermark and the state of its listeners, with one owner.
pub struct Lane<S, D, G: Stage> {
    id: LaneId,
    source: S,
    work: Work<D, G>,
    inlet: Inlet<Batch<G::Out>>,
    settings: LaneSettings,
    /// When the last record was read; `None` once the stage has been told that nothing came since.
    awake_since: Option<Duration>,
    /// Who may ask for the state, and the number answered last.
    call: Option<(BarrierCall, u64)>,
}

/// What a record passes through; apart from the source, which lends the record.
struct Work<D, G: Stage> {
    decoder: D,
    stage: G,
    clock: WatermarkClock,
    /// How far time has come for the stage: behind `clock` where records are held.
    released: WatermarkClock,
    settings: LaneSettings,
    /// What waits for what may come before it.
    held: Vec<(EventTime, G::In)>,
    items: Vec<G::In>,
    /// What is going to be absorbed soon.
    ahead: Vec<G::In>,
    outputs: Vec<G::Out>,
    aside: Vec<Aside>,
    /// The tick that the watermark is in.
    tick: Option<i64>,
    seen: Option<(Offset, Offset)>,
    /// The offset after the last record seen.
    position: Offset,
    counts: Counts,
    gauges: Gauges,
    failed: Option<StageError>,
}

impl<S, D, G> Lane<S, D, G>
where
    S: Source,
    D: Decode<Item = G::In, News = G::Out>,
    G: Stage,
{
    /// A lane that starts where its source stands.
    pub fn new(
        id: LaneId,
        source: S,
        decoder: D,
        stage: G,
        inlet: Inlet<Batch<G::Out>>,
        settings: LaneSettings,
    ) -> Self {
        let work = Work {
            decoder,
            stage,
            clock: WatermarkClock::new(settings.disorder, settings.lateness),
            released: WatermarkClock::new(Span::ZERO, Span::ZERO),
            settings,
            held: Vec::new(),
            items: Vec::with_capacity(settings.batch),
            ahead: Vec::with_capacity(RUN),
            outputs: Vec::with_capacity(settings.batch),
            aside: Vec::new(),
            tick: None,
            seen: None,
            position: source.position(),
            counts: Counts::default(),
            gauges: Gauges::of(id, source.position()),
            failed: None,
        };
        Self {
            id,
            source,
            work,
            inlet,
            settings,
            awake_since: None,
            call: None,
        }
    }

    /// The same lane, giving its state when it is called for, and when it stops.
    pub fn answering(mut self, call: BarrierCall) -> Self {
        let answered = call.called();
        self.call = Some((call, answered));
        self
    }

    /// Reads once, waiting for records as long as `patience`, and hands over what came of it.
    ///
    /// # Errors
    /// See [`LaneError`]; what was read before the error has been handed over.
    pub fn step(
        &mut self,
        wall: &dyn WallClock,
        patience: Duration,
    ) -> Result<LaneState, LaneError> {
        let mut read_at = None;
        let (work, inlet, id) = (&mut self.work, &mut self.inlet, self.id);
        let (mut connected, before) = (true, work.position);
        let read = self.source.read_runs(patience, &mut |run| {
            read_at.get_or_insert_with(|| wall.now());
            work.look_ahead(run);
            for record in run {
                work.take(record);
            }
            if work.outputs.len() >= work.settings.batch {
                let now = read_at.take().unwrap_or_else(|| wall.now());
                connected &= work.hand_over(id, inlet, now);
            }
        });
        work.absorb();
        if let (Some(after), false) = (self.settings.idle_after, self.settings.in_order) {
            let now = wall.now();
            if work.position != before {
                self.awake_since = Some(now);
            } else if self.awake_since.is_some_and(|since| now >= since + after) {
                self.awake_since = None;
                work.idle();
            }
        }
        if matches!(read, Ok(Readiness::Ended)) && work.settings.at_end == AtEnd::Close {
            work.end();
        }
        let now = wall.now();
        connected &= work.hand_over(id, inlet, read_at.unwrap_or(now));
        work.gauges.tell_lag(work.position, &mut self.source, now);
        if let Some(error) = work.failed.take() {
            return Err(LaneError::Stage { lane: id, error });
        }
        let readiness = read.map_err(|error| LaneError::Source { lane: id, error })?;
        if !connected || (readiness == Readiness::Ended && inlet.flush().is_err()) {
            return Ok(LaneState::Disconnected);
        }
        Ok(match readiness {
            Readiness::Ended => LaneState::Ended,
            Readiness::More | Readiness::Idle => LaneState::Running,
        })
    }

    /// Runs it alone: see [`run_together`].
    ///
    /// # Errors
    /// See [`LaneError`].
    pub fn run(
        &mut self,
        wall: &dyn WallClock,
        stop: &dyn Fn() -> bool,
    ) -> Result<LaneState, LaneError> {
        let states = run_together(std::slice::from_mut(self), wall, stop)?;
        Ok(states.first().copied().unwrap_or(LaneState::Running))
    }

    /// Hands over the state if it was called for.
    fn answer_call(&mut self, wall: &dyn WallClock) -> Result<(), LaneError> {
        let Some((call, answered)) = &mut self.call else {
            return Ok(());
        };
        let called = call.called();
        if called <= *answered {
            return Ok(());
        }
        *answered = called;
        self.answer(called, wall)
    }

    /// Hands over the state, and what the queue's policy holds back.
    fn last(&mut self, wall: &dyn WallClock, state: LaneState) -> Result<LaneState, LaneError> {
        if self.call.is_some() {
            self.answer(LAST, wall)?;
        }
        Ok(match self.inlet.flush() {
            Ok(()) => state,
            Err(_) => LaneState::Disconnected,
        })
    }

    fn answer(&mut self, number: u64, wall: &dyn WallClock) -> Result<(), LaneError> {
        let lane = self.id;
        let memory = (self.call.as_ref()).map(|(call, _)| call.memory(lane));
        let state = self.work.state(number, memory.unwrap_or_default());
        let state = state.map_err(|error| LaneError::Stage { lane, error })?;
        let covers = OffsetRange::empty(lane, self.work.position);
        let barrier = Some(Barrier { number, state });
        // Whoever asked may be gone: the next step finds out.
        self.work.send(covers, &mut self.inlet, wall.now(), barrier);
        Ok(())
    }

    /// How far it is, for another thread to look at.
    pub fn progress(&self) -> Arc<LaneProgress> {
        self.work.gauges.progress.clone()
    }

    /// The stage, to look into.
    pub const fn stage(&self) -> &G {
        &self.work.stage
    }
}

impl<D, G> Work<D, G>
where
    D: Decode<Item = G::In, News = G::Out>,
    G: Stage,
{
    fn look_ahead(&mut self, run: &[RawRecord<'_>]) {
        self.ahead.clear();
        self.decoder.look_ahead(run, &mut self.ahead);
        self.stage.look_ahead(&self.ahead);
    }

    fn take(&mut self, record: &RawRecord<'_>) {
        if self.failed.is_some() {
            return;
        }
        self.counts.read += 1;
        let from = self.seen.map_or(record.offset, |(from, _)| from);
        self.position = record.offset.next();
        self.seen = Some((from, self.position));
        match self.decoder.decode(record) {
            Ok(Decoded::Item(at, item)) => match self.clock.observe(at) {
                Punctuality::TooLate => {
                    self.counts.too_late += 1;
                    let mark = self
                        .clock
                        .watermark()
                        .map_or(0, |mark| mark.time().millis());
                    let detail = format!("{at} is beyond the lateness allowed at {mark} ms");
                    self.put_aside(AsideReason::TooLate, detail, record);
                }
                punctuality => {
                    self.counts.late += u64::from(punctuality == Punctuality::Late);
                    // Before the item moves time on, what came before it is settled.
                    self.enter_tick();
                    self.counts.items += 1;
                    if self.settings.in_order {
                        self.held.push((at, item));
                    } else {
                        self.items.push(item);
                    }
                }
            },
            Ok(Decoded::Heartbeat(at)) => {
                self.counts.heartbeats += 1;
                self.clock.observe(at);
                self.enter_tick();
            }
            Ok(Decoded::Nothing) => {}
            Err(detail) => {
                self.counts.dead += 1;
                self.put_aside(AsideReason::DeadLetter, detail, record);
            }
        }
    }

    #[inline]
    fn enter_tick(&mut self) {
        let Some(mark) = self.clock.watermark() else {
            return;
        };
        let reached = match self.settings.in_order {
            false => mark.time(),
            true => mark.time().minus(self.clock.lateness()),
        };
        let width = self.settings.tick.millis().max(1);
        let tick = reached.millis().div_euclid(width);
        if self.tick != Some(tick) {
            self.tick = Some(tick);
            if self.settings.in_order {
                self.release(reached);
            }
            self.absorb();
            self.released.observe(reached);
            if let Some(mark) = self.released.watermark() {
                self.advance(mark);
            }
        }
    }

    /// Lets go what is before `horizon`: whatever else may come is not.
    fn release(&mut self, horizon: EventTime) {
        let decoder = &self.decoder;
        self.held
            .sort_by(|(at, one), (of, other)| at.cmp(of).then_with(|| decoder.order(one, other)));
        let ready = self.held.partition_point(|(at, _)| *at < horizon);
        self.items
            .extend(self.held.drain(..ready).map(|(_, item)| item));
    }

    /// Nothing more will come.
    fn end(&mut self) {
        self.release(Watermark::END.time());
        self.absorb();
        self.advance(Watermark::END);
        self.released.observe(Watermark::END.time());
    }

    fn absorb(&mut self) {
        self.decoder.announce(&mut self.outputs);
        if self.items.is_empty() || self.failed.is_some() {
            return;
        }
        self.failed = self.stage.absorb(&self.items, &mut self.outputs).err();
        self.items.clear();
    }

    fn advance(&mut self, to: Watermark) {
        if self.failed.is_none() {
            self.failed = self.stage.advance(to, &mut self.outputs).err();
        }
    }

    fn idle(&mut self) {
        if self.failed.is_none() {
            self.failed = self.stage.idle(&mut self.outputs).err();
        }
    }

    fn put_aside(&mut self, reason: AsideReason, detail: String, record: &RawRecord<'_>) {
        self.aside.push(Aside {
            reason,
            detail,
            offset: record.offset,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            content_type: record.content_type.get().map(<[u8]>::to_vec),
        });
    }

    /// Whether the receiver is still there.
    fn hand_over(
        &mut self,
        lane: LaneId,
        inlet: &mut Inlet<Batch<G::Out>>,
        read_at: Duration,
    ) -> bool {
        let Some((from, to)) = self.seen.take() else {
            if self.outputs.is_empty() {
                return true;
            }
            // Timers at the end of a log: results without records.
            return self.send(
                OffsetRange::empty(lane, self.position),
                inlet,
                read_at,
                None,
            );
        };
        self.gauges
            .tell(self.counts, &self.clock, self.released.watermark());
        self.send(OffsetRange { lane, from, to }, inlet, read_at, None)
    }

    fn send(
        &mut self,
        covers: OffsetRange,
        inlet: &mut Inlet<Batch<G::Out>>,
        read_at: Duration,
        barrier: Option<Barrier>,
    ) -> bool {
        let fresh = Vec::with_capacity(self.settings.batch);
        inlet
            .send(Batch {
                covers,
                watermark: self.released.watermark(),
                outputs: std::mem::replace(&mut self.outputs, fresh),
                aside: std::mem::take(&mut self.aside),
                counts: std::mem::take(&mut self.counts),
                read_at,
                barrier,
            })
            .is_ok()
    }
}

#[cfg(test)]
mod tests;
