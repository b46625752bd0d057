//! What a lane tells of itself: for people and metrics, never for a verdict.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use segue_listen::{Watermark, WatermarkClock};

use super::Counts;
use crate::clock::time_of_day;
use crate::epoch::{LaneId, Offset};
use crate::names::{self, Name};
use crate::progress::LaneProgress;
use crate::source::Source;

/// How often the end of a partition is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The gauges of one lane.
pub(super) struct Gauges {
    watermark: metrics::Gauge,
    watermark_delay: metrics::Gauge,
    event_time_delay: metrics::Gauge,
    lag: metrics::Gauge,
    lag_told: Option<Duration>,
    pub(super) progress: Arc<LaneProgress>,
}

impl Gauges {
    pub(super) fn of(lane: LaneId, position: Offset) -> Self {
        Self {
            watermark: names::gauge_of_lane(Name::WatermarkMillis, lane),
            watermark_delay: names::gauge_of_lane(Name::WatermarkDelay, lane),
            event_time_delay: names::gauge_of_lane(Name::EventTimeDelay, lane),
            lag: names::gauge_of_lane(Name::Lag, lane),
            lag_told: None,
            progress: Arc::new(LaneProgress::new(lane, position)),
        }
    }

    /// Once a batch: what its records were, and how far time has come.
    pub(super) fn tell(&self, counts: Counts, clock: &WatermarkClock, released: Option<Watermark>) {
        names::count(Name::RecordsRead, counts.read);
        names::count(Name::LatePlays, counts.late);
        names::count(Name::TooLatePlays, counts.too_late);
        names::count(Name::DeadLetters, counts.dead);
        let (Some(mark), Some(newest)) = (clock.watermark(), clock.highest()) else {
            return;
        };
        self.watermark.set(mark.time().millis() as f64);
        // Before time first moves, nothing is settled.
        if let Some(released) = released {
            let behind = newest.millis().saturating_sub(released.time().millis());
            self.watermark_delay.set(behind.max(0) as f64 / 1_000.0);
        }
        let today = time_of_day().duration_since(UNIX_EPOCH).unwrap_or_default();
        let newest = newest.millis() as f64 / 1_000.0;
        self.event_time_delay.set(today.as_secs_f64() - newest);
    }

    /// Once a step: how far it is; and about once a second, how many records there are that were not
    /// read.
    pub(super) fn tell_lag(&mut self, position: Offset, source: &mut impl Source, now: Duration) {
        self.progress.reached(position);
        if self.lag_told.is_some_and(|told| now < told + LOOK_EVERY) {
            return;
        }
        if let Some(end) = source.end() {
            self.lag_told = Some(now);
            let waiting = end.0.saturating_sub(position.0);
            self.progress.left(waiting);
            self.lag.set(waiting as f64);
        }
    }
}
