//! Many lanes' updates as one, in the order of event time: what exact mode takes in.
//!
//! Lanes that keep order ([`segue_flow::lane::LaneSettings::in_order`]) give plays by ascending start
//! and say how far they have come; a play is let out once no lane can give an earlier one. So the
//! merged order is a function of the plays alone: neither the number of lanes nor the speed of their
//! threads matters.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::time::Duration;

use segue_flow::LaneId;
use segue_listen::Watermark;
use segue_sessions::{PlayUpdate, Update};
use serde::{Deserialize, Serialize};

/// An update, where it comes from, and when its batch was read.
#[derive(Debug)]
pub(super) struct Merged {
    pub lane: LaneId,
    pub update: Update,
    pub read_at: Duration,
}

#[derive(Default, Serialize, Deserialize)]
struct Waiting {
    /// With the time at which each was read, which means nothing to another process.
    updates: VecDeque<(Duration, Update)>,
    /// Nothing before it is still to come.
    complete: Option<Watermark>,
}

/// The lanes' updates that wait for each other.
#[derive(Serialize, Deserialize)]
pub(super) struct Merge {
    lanes: Vec<Waiting>,
}

impl Merge {
    /// Of so many lanes, none of which has said anything yet.
    pub(super) fn new(lanes: u32) -> Self {
        let lanes = (0..lanes.max(1)).map(|_| Waiting::default()).collect();
        Self { lanes }
    }

    /// Takes in a lane's batch.
    pub(super) fn push(
        &mut self,
        lane: LaneId,
        updates: Vec<Update>,
        complete: Option<Watermark>,
        read_at: Duration,
    ) {
        let index = lane.0 as usize;
        if index >= self.lanes.len() {
            self.lanes.resize_with(index + 1, Waiting::default);
        }
        if let Some(waiting) = self.lanes.get_mut(index) {
            waiting.complete = waiting.complete.max(complete);
            let updates = updates.into_iter().map(|update| (read_at, update));
            waiting.updates.extend(updates);
        }
    }

    /// The next update, if it is certain which; `order` tells simultaneous plays apart.
    pub(super) fn next(
        &mut self,
        order: impl Fn((LaneId, &PlayUpdate), (LaneId, &PlayUpdate)) -> Ordering,
    ) -> Option<Merged> {
        let mut first: Option<(LaneId, &PlayUpdate)> = None;
        for (lane, waiting) in (0u32..).map(LaneId).zip(&self.lanes) {
            match waiting.updates.front() {
                None => {}
                Some((_, Update::Play(play))) => {
                    let before = |held: (LaneId, &PlayUpdate)| {
                        let by_time = play.at.cmp(&held.1.at);
                        by_time.then_with(|| order((lane, play), held)) == Ordering::Less
                    };
                    if first.is_none_or(before) {
                        first = Some((lane, play));
                    }
                }
                // What is no play belongs to the plays before it, which have gone out.
                Some(_) => return self.take(lane),
            }
        }
        let (lane, play) = first?;
        let at = play.at;
        let may_precede = |waiting: &Waiting| {
            waiting.updates.is_empty() && waiting.complete.is_none_or(|mark| mark.time() <= at)
        };
        if self.lanes.iter().any(may_precede) {
            return None;
        }
        self.take(lane)
    }

    /// Whether every lane has said that nothing more will come, ever.
    pub(super) fn is_complete(&self) -> bool {
        let over = |waiting: &Waiting| waiting.complete == Some(Watermark::END);
        self.lanes.iter().all(over)
    }

    /// No lane will say anything more.
    pub(super) fn end(&mut self) {
        for waiting in &mut self.lanes {
            waiting.complete = Some(Watermark::END);
        }
    }

    fn take(&mut self, lane: LaneId) -> Option<Merged> {
        let waiting = self.lanes.get_mut(lane.0 as usize)?;
        let (read_at, update) = waiting.updates.pop_front()?;
        Some(Merged {
            lane,
            update,
            read_at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use segue_listen::session::{Placement, Session};
    use segue_listen::{EventTime, Span, TrackId, WatermarkClock};
    use segue_sessions::Stated;

    fn play(at: i64, track: u32) -> Update {
        let at = EventTime::from_millis(at);
        Update::Play(PlayUpdate {
            slot: 0,
            track: TrackId(track),
            at,
            stated: Stated::of(None, None),
            placement: Placement::Opened,
            session: Session {
                first: at,
                last: at,
                plays: 1,
                closed: false,
            },
            newest: true,
            previous: None,
        })
    }

    fn mark(at: i64) -> Option<Watermark> {
        let mut clock = WatermarkClock::new(Span::ZERO, Span::ZERO);
        clock.observe(EventTime::from_millis(at));
        clock.watermark()
    }

    fn drain(merge: &mut Merge, out: &mut Vec<(i64, u32)>) {
        let by_track = |one: (LaneId, &PlayUpdate), other: (LaneId, &PlayUpdate)| {
            one.1.track.cmp(&other.1.track)
        };
        while let Some(merged) = merge.next(by_track) {
            if let Update::Play(play) = merged.update {
                out.push((play.at.millis(), play.track.0));
            }
        }
    }

    proptest! {
        #[test]
        fn it_is_one_order_however_plays_are_spread_and_batched(
            mut plays in prop::collection::vec((0i64..50, 0u32..1_000), 0..60),
            lanes in 1u32..5,
            cuts in prop::collection::vec(1usize..8, 60),
            turns in prop::collection::vec(0u32..5, 200),
        ) {
            plays.sort_unstable();
            plays.dedup();
            let mut merge = Merge::new(lanes);
            let mut queues: Vec<VecDeque<(i64, u32)>> = vec![VecDeque::new(); lanes as usize];
            for play in &plays {
                queues[(play.1 % lanes) as usize].push_back(*play);
            }
            let mut out = Vec::new();
            for (turn, cut) in turns.iter().zip(cuts.iter().cycle()) {
                let lane = turn % lanes;
                let queue = &mut queues[lane as usize];
                let batch: Vec<_> = queue.drain(..(*cut).min(queue.len())).collect();
                let complete = queue.front().map_or(Some(Watermark::END), |next| mark(next.0));
                let updates = batch.iter().map(|(at, track)| play(*at, *track)).collect();
                merge.push(LaneId(lane), updates, complete, Duration::ZERO);
                drain(&mut merge, &mut out);
                prop_assert_eq!(&out[..], &plays[..out.len()]);
            }
            for (lane, queue) in (0u32..).zip(&mut queues) {
                let updates = queue.drain(..).map(|(at, track)| play(at, track)).collect();
                merge.push(LaneId(lane), updates, Some(Watermark::END), Duration::ZERO);
            }
            drain(&mut merge, &mut out);
            prop_assert_eq!(out, plays);
        }
    }

    #[test]
    fn a_silent_lane_is_waited_for() {
        let mut merge = Merge::new(2);
        let mut out = Vec::new();
        merge.push(LaneId(0), vec![play(5, 1)], mark(6), Duration::ZERO);
        drain(&mut merge, &mut out);
        assert!(out.is_empty());
        merge.push(LaneId(1), Vec::new(), mark(5), Duration::ZERO);
        drain(&mut merge, &mut out);
        assert!(out.is_empty(), "a play at 5 may still come from lane 1");
        merge.push(LaneId(1), Vec::new(), mark(6), Duration::ZERO);
        drain(&mut merge, &mut out);
        assert_eq!(out, [(5, 1)]);
    }
}
