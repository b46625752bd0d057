//! Whether a run is stuck: something waits, and nothing moves. Seen by the machine's clock, from a
//! thread that does nothing else; for whoever operates a run, never for a result.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use segue_flow::checkpoint::CheckpointAge;
use segue_flow::clock::WallClock;
use segue_flow::progress::LaneProgress;
use segue_listen::EventTime;
use segue_recommend::stage::Watcher;

use crate::http::Phase;

/// How often it is looked, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How a run is seen from outside.
#[derive(Clone, Debug, Default)]
pub struct Attendance {
    /// Who is told.
    pub phase: Phase,
    /// After how long without a move a run with work is stuck; `None`: never.
    pub stuck_after: Option<Duration>,
}

/// How far the recommending stage is.
#[derive(Debug, Default)]
pub(crate) struct StageProgress {
    moves: AtomicU64,
    busy: AtomicBool,
    /// Its models are being taught, which takes as long as it takes.
    teaching: AtomicBool,
}

impl StageProgress {
    /// Does a piece of work, which counts as a move once it is done.
    pub(crate) fn at<T>(&self, work: impl FnOnce() -> T) -> T {
        self.busy.store(true, Ordering::Relaxed);
        let done = work();
        self.busy.store(false, Ordering::Relaxed);
        self.moves.fetch_add(1, Ordering::Relaxed);
        done
    }
}

/// A run's watcher, and what it is told as moves of the stage: one batch may hold several rounds.
pub(crate) struct Attended {
    pub watcher: Box<dyn Watcher>,
    pub stage: Arc<StageProgress>,
}

impl Watcher for Attended {
    fn progressed(&mut self, plays: u64, at: EventTime) {
        self.stage.moves.fetch_add(plays, Ordering::Relaxed);
        self.watcher.progressed(plays, at);
    }

    fn answered(&mut self, latency: Duration, plays: u64) {
        self.stage.moves.fetch_add(plays, Ordering::Relaxed);
        self.watcher.answered(latency, plays);
    }

    fn fresh(&mut self, after: Duration) {
        self.watcher.fresh(after);
    }

    fn teaching(&mut self, begins: bool) {
        self.stage.teaching.store(begins, Ordering::Relaxed);
        self.watcher.teaching(begins);
    }
}

/// Looks at a run from time to time.
pub(crate) struct Attendant {
    pub attendance: Attendance,
    pub lanes: Vec<Arc<LaneProgress>>,
    pub stage: Arc<StageProgress>,
    /// Its checkpoints: told from here, their age grows while the stage is stuck, too.
    pub age: Option<CheckpointAge>,
    pub clock: Arc<dyn WallClock>,
}

impl Attendant {
    /// Looks until the run is over.
    pub(crate) fn attend(&self, over: &Receiver<()>) {
        let stuck_after = self.attendance.stuck_after;
        let every = stuck_after.map_or(LOOK_EVERY, |after| (after / 4).min(LOOK_EVERY));
        let (mut moves, mut since) = (self.moves(), self.clock.now());
        let mut is_stuck = false;
        while over.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
            if let Some(age) = &self.age {
                age.tell();
            }
            let (seen, now) = (self.moves(), self.clock.now());
            if seen != moves || !self.has_work() {
                (moves, since) = (seen, now);
                if std::mem::take(&mut is_stuck) {
                    tracing::warn!("moves again");
                }
                self.attendance.phase.moves();
                continue;
            }
            let still = now.saturating_sub(since);
            if stuck_after.is_some_and(|after| still >= after) {
                let what = self.what_stands();
                if !std::mem::replace(&mut is_stuck, true) {
                    tracing::error!("stuck: {what}");
                }
                self.attendance.phase.stuck(what, still);
            }
        }
        self.attendance.phase.moves();
    }

    /// A count of everything that was done so far.
    fn moves(&self) -> u64 {
        let lanes = self.lanes.iter().map(|lane| lane.position().0);
        let moves = self.stage.moves.load(Ordering::Relaxed);
        lanes.fold(moves, u64::wrapping_add)
    }

    fn has_work(&self) -> bool {
        if self.stage.teaching.load(Ordering::Relaxed) {
            return false;
        }
        self.stage_is_busy() || self.lanes.iter().any(|lane| lane.waiting() > 0)
    }

    fn stage_is_busy(&self) -> bool {
        self.stage.busy.load(Ordering::Relaxed)
    }

    /// What does not move, in words.
    fn what_stands(&self) -> String {
        let mut parts = Vec::new();
        if self.stage_is_busy() {
            parts.push("the recommending stage has not finished a batch".to_owned());
        }
        for lane in self.lanes.iter().filter(|lane| lane.waiting() > 0) {
            parts.push(format!(
                "lane {} stands at offset {}, {} records wait",
                lane.lane().0,
                lane.position().0,
                lane.waiting()
            ));
        }
        parts.join("; ")
    }
}
