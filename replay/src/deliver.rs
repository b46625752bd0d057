//! A stream of listens into a sink: keyed by user, in epochs, with heartbeats, at a pace.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use segue_flow::clock::WallClock;
use segue_flow::{Epoch, LaneId, Offset, OffsetRange, Remedy, Sink, SinkError};
use segue_listen::EventTime;
use segue_listen::wire::Format;
use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::error::ReplayError;
use crate::pace::{Pace, Pacer};
use crate::progress::{Progress, SendProgress};
use crate::rejects::{Place, Reason, Rejects};
use crate::state::{Standing, StateFile};
use crate::stream::ListenStream;

/// The longest sleep at a time: how soon a stop is noticed.
const NAP: Duration = Duration::from_millis(50);

/// The first pause after a failure of the sink; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// An epoch is closed when its records have so many bytes, however few they are.
const EPOCH_BYTES: usize = 64 * 1024 * 1024;

/// How listens are written.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeliverySettings {
    /// The topic. Default "listens".
    pub topic: String,
    /// How many partitions the topic has: listens are spread over them by user, heartbeats go to
    /// each. Default 1.
    pub partitions: u32,
    /// How values are encoded. Default MessagePack.
    pub format: Format,
    /// How fast. Default: as fast as the sink takes them.
    pub pace: Pace,
    /// Listens per epoch, at most: how many are written again if the process dies between the
    /// sink's commit and the state file's. Default 20,000.
    pub listens_per_epoch: u32,
    /// Event time between two heartbeats, in ms; 0 for none, not even at the end. Default 10 min.
    pub heartbeat_ms: i64,
    /// How far beyond the last listen the closing heartbeats stand, in ms. Above the session gap
    /// plus the allowed disorder it closes the last sessions, but makes listens late that are
    /// appended later and start before it. Default 0.
    pub closing_ms: i64,
    /// How often an epoch is tried again after the sink could not be reached. Default 5.
    pub retries: u32,
}

impl Default for DeliverySettings {
    fn default() -> Self {
        Self {
            topic: "listens".to_owned(),
            partitions: 1,
            format: Format::default(),
            pace: Pace::default(),
            listens_per_epoch: 20_000,
            heartbeat_ms: 10 * 60 * 1_000,
            closing_ms: 0,
            retries: 5,
        }
    }
}

/// How a delivery ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// All listens are written.
    Finished,
    /// It was asked to stop; what was taken from the stream is written.
    Stopped,
    /// There was nothing left to do: an earlier run had finished.
    FinishedBefore,
}

/// What was written.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Delivered {
    /// How it ended.
    pub outcome: Outcome,
    /// Listens written by this run; those that the sink would not take are not among them.
    pub listens: u64,
    /// Heartbeats written by this run, each partition's counted.
    pub heartbeats: u64,
    /// Listens that the sink would not take because of their size.
    pub too_large: u64,
    /// Epochs committed by this run.
    pub epochs: u64,
    /// How long this run took.
    pub took: Duration,
}

/// A delivery in progress.
pub struct Delivery<'a> {
    settings: &'a DeliverySettings,
    clock: Arc<dyn WallClock>,
    sink: &'a mut dyn Sink,
    stop: &'a AtomicBool,
    state: Option<StateFile>,
    standing: Standing,
    pacer: Pacer,
    batch: Batch,
    rejects: Rejects,
    last_at: Option<EventTime>,
    done: Delivered,
    begun: Duration,
}

impl<'a> Delivery<'a> {
    /// A delivery that goes on from `standing` and, if there is a state file, keeps it up to date.
    ///
    /// # Errors
    /// [`ReplayError::Setting`].
    pub fn new(
        settings: &'a DeliverySettings,
        clock: Arc<dyn WallClock>,
        sink: &'a mut dyn Sink,
        stop: &'a AtomicBool,
        standing: Standing,
        state: Option<StateFile>,
    ) -> Result<Self, ReplayError> {
        for (key, value) in [
            ("heartbeat_ms", settings.heartbeat_ms),
            ("closing_ms", settings.closing_ms),
        ] {
            if value < 0 {
                let detail = format!("{value} is negative");
                return Err(ReplayError::Setting { key, detail });
            }
        }
        if settings.partitions == 0 {
            let detail = "0 partitions hold no listen; name the number the topic has".to_owned();
            return Err(ReplayError::Setting {
                key: "partitions",
                detail,
            });
        }
        Ok(Self {
            pacer: Pacer::new(settings.pace, clock.clone())?,
            batch: Batch::new(settings.format),
            rejects: Rejects::counted(),
            last_at: standing.last_at_ms.map(EventTime::from_millis),
            begun: clock.now(),
            done: Delivered {
                outcome: Outcome::Stopped,
                listens: 0,
                heartbeats: 0,
                too_large: 0,
                epochs: 0,
                took: Duration::ZERO,
            },
            settings,
            clock,
            sink,
            stop,
            state,
            standing,
        })
    }

    /// The same, where listens that the sink will not take are kept in `rejects`.
    #[must_use]
    pub fn keeping(self, rejects: Rejects) -> Self {
        Self { rejects, ..self }
    }

    /// Writes `stream`, which stands at the standing's position, to its end or until it is stopped.
    ///
    /// # Errors
    /// Those of the stream, the sink and the state file. What is committed stays so.
    pub fn run(
        mut self,
        stream: &mut dyn ListenStream,
        watch: &mut dyn FnMut(&Progress),
    ) -> Result<Delivered, ReplayError> {
        if self.standing.finished {
            self.done.outcome = Outcome::FinishedBefore;
            return Ok(self.done);
        }
        let (total, last) = (stream.total(), stream.last());
        let limit = self.pacer.batch_limit(self.settings.listens_per_epoch);
        let finished = loop {
            if self.stop.load(Ordering::Relaxed) {
                break false;
            }
            let Some(listen) = stream.next_listen()? else {
                break true;
            };
            if !self.pacer.until_due(listen.at).is_zero() {
                // What is due goes out before anyone sleeps.
                if !self.batch.is_empty() {
                    self.commit()?;
                    self.tell(total, last, watch);
                }
                if !self.sleep_until(|delivery| delivery.pacer.until_due(listen.at)) {
                    break false;
                }
            }
            self.heartbeat_before(listen.at)?;
            self.batch.push(listen, self.settings.partitions)?;
            self.last_at = Some(listen.at);
            if self.batch.listens() >= limit || self.batch.bytes() >= EPOCH_BYTES {
                let listens = self.batch.listens();
                let released = self.sleep_until(|delivery| delivery.pacer.until_released(listens));
                self.commit()?;
                self.tell(total, last, watch);
                if !released {
                    break false;
                }
            }
        };
        if finished {
            if let (Some(last), true) = (self.last_at, self.settings.heartbeat_ms > 0) {
                let at = last.plus(segue_listen::Span::from_millis(self.settings.closing_ms));
                self.batch.push_heartbeat(at, self.settings.partitions)?;
            }
            self.standing.finished = true;
            self.done.outcome = Outcome::Finished;
        }
        self.commit()?;
        self.tell(total, last, watch);
        self.done.took = self.clock.now().saturating_sub(self.begun);
        Ok(self.done)
    }

    /// Heartbeats stand at multiples of the interval, one per gap however long it is, so that they
    /// follow from the log alone.
    fn heartbeat_before(&mut self, at: EventTime) -> Result<(), ReplayError> {
        let interval = self.settings.heartbeat_ms;
        if interval == 0 {
            return Ok(());
        }
        let tick = at.millis().div_euclid(interval);
        let before = self.last_at.map(|last| last.millis().div_euclid(interval));
        if before.is_some_and(|before| before < tick) {
            let at = EventTime::from_millis(tick * interval);
            self.batch.push_heartbeat(at, self.settings.partitions)?;
        }
        Ok(())
    }

    /// Sleeps until `wait` is zero; false if it was stopped before.
    fn sleep_until(&mut self, mut wait: impl FnMut(&mut Self) -> Duration) -> bool {
        loop {
            let left = wait(self);
            if left.is_zero() {
                return true;
            }
            if self.stop.load(Ordering::Relaxed) {
                return false;
            }
            self.clock.sleep(left.min(NAP));
        }
    }

    /// Writes the batch as one epoch and notes it in the state file.
    fn commit(&mut self) -> Result<(), ReplayError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let mut tried = 0;
        let mut pause = FIRST_PAUSE;
        while let Err(error) = self.try_commit() {
            let epoch = Epoch(self.standing.epoch);
            if let Err(second) = self.sink.abort(epoch) {
                tracing::debug!(%second, "an epoch that failed could not be aborted either");
            }
            if error.remedy() != Remedy::Retry || tried >= self.settings.retries {
                return Err(error.into());
            }
            tried += 1;
            tracing::warn!(%error, tried, "the epoch is written again");
            let resume = self.clock.now().saturating_add(pause);
            if !self.sleep_until(|delivery| resume.saturating_sub(delivery.clock.now())) {
                return Err(error.into());
            }
            pause = pause.saturating_mul(2);
        }
        let refused = self.reject_refused()?;
        self.standing.position += u64::from(self.batch.listens());
        self.standing.epoch += 1;
        self.standing.last_at_ms = self.last_at.map(EventTime::millis);
        self.done.too_large += refused;
        self.done.listens += u64::from(self.batch.listens()) - refused;
        self.done.heartbeats += self.batch.heartbeats();
        self.done.epochs += 1;
        self.batch.clear();
        match &self.state {
            Some(file) => file.save(&self.standing),
            None => Ok(()),
        }
    }

    /// Notes what the sink would not take, before the state file says that it is dealt with; how many
    /// that were.
    fn reject_refused(&mut self) -> Result<u64, ReplayError> {
        let mut refused = 0;
        for (number, row) in self.batch.refused() {
            let place = Place {
                path: Path::new(&self.settings.topic),
                line: self.standing.position + number + 1,
            };
            self.rejects.reject(place, Reason::TooLarge, &row)?;
            refused += 1;
        }
        self.rejects.flush()?;
        Ok(refused)
    }

    fn try_commit(&mut self) -> Result<(), SinkError> {
        let epoch = Epoch(self.standing.epoch);
        self.sink.begin(epoch)?;
        self.batch.write(&self.settings.topic, self.sink)?;
        let covers = OffsetRange {
            lane: LaneId(0),
            from: Offset(self.standing.position),
            to: Offset(self.standing.position + u64::from(self.batch.listens())),
        };
        self.sink.commit(epoch, &[covers])
    }

    fn tell(&self, total: Option<u64>, last: Option<EventTime>, watch: &mut dyn FnMut(&Progress)) {
        let Some(at) = self.last_at else { return };
        let took = self.clock.now().saturating_sub(self.begun);
        let rate = match took.is_zero() {
            true => 0.0,
            false => self.done.listens as f64 / took.as_secs_f64(),
        };
        let rest = total.map(|total| total.saturating_sub(self.standing.position));
        let by_pace = self.pacer.left(at, last, rest);
        let by_rate = rest.and_then(|rest| Duration::try_from_secs_f64(rest as f64 / rate).ok());
        watch(&Progress::Sending(SendProgress {
            position: self.standing.position,
            total,
            rate,
            event_time: at,
            lag: self.pacer.lag(at),
            left: by_pace.or(by_rate),
        }));
    }
}
