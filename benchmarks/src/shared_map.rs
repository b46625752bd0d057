//! The baseline of the stream core: the same operator with its listeners in a DashMap, the way a
//! stream processor that shares its state between threads is commonly written. Same rules, same
//! updates (a test holds that), same timers; only where the state lives differs. It hashes with
//! foldhash, which is faster than DashMap's default.

use dashmap::DashMap;
use foldhash::fast::FixedState;
use segue_flow::epoch::Epoch;
use segue_flow::stage::{Stage, StageError};
use segue_flow::timers::Timers;
use segue_listen::history::Inserted;
use segue_listen::session::Placed;
use segue_listen::{EventTime, History, Play, SessionGap, Sessions, Span, Watermark};
use segue_sessions::{Arrival, PlayUpdate, SessionSettings, Settled, Stated, Update, Witness};

#[derive(Default)]
struct Listener {
    sessions: Sessions,
    armed: bool,
    history: History,
}

/// The operator. Plays must come in order of time: it has no corrections.
pub struct SharedMap {
    listeners: DashMap<u32, Listener, FixedState>,
    settings: SessionSettings,
    timers: Timers,
    horizon: EventTime,
}

impl SharedMap {
    /// With nobody in it.
    pub fn new(settings: SessionSettings) -> Self {
        Self {
            listeners: DashMap::default(),
            settings,
            timers: Timers::new(Span::from_millis(
                (settings.gap.span().millis() / 8).max(1_000),
            )),
            horizon: EventTime::from_millis(i64::MIN),
        }
    }

    fn play(&mut self, arrival: &Arrival, out: &mut Vec<Update>) {
        let gap = self.settings.gap;
        let slot = arrival.slot;
        let mut listener = self.listeners.entry(arrival.slot).or_default();
        let mut play = Play::with_tie(arrival.at, arrival.track, arrival.tie);
        play.set_duration(arrival.duration);
        if listener.history.insert(play) == Inserted::Duplicate {
            return;
        }
        if listener.sessions.iter().any(|session| session.closed) {
            listener.sessions.forget_before(self.horizon, gap);
        }
        let Placed {
            placement,
            session,
            retracted,
        } = listener.sessions.place(arrival.at, gap);
        let retracted = retracted.into_iter().flatten();
        out.extend(retracted.map(|session| Update::Retracted { slot, session }));
        if !listener.armed {
            listener.armed = true;
            self.timers.arm(session.due(gap), arrival.slot);
        }
        let previous = settle(&mut listener.history, gap);
        out.push(Update::Play(PlayUpdate {
            slot,
            track: arrival.track,
            at: arrival.at,
            stated: Stated::of(None, None),
            placement,
            session,
            newest: true,
            previous,
        }));
    }
}

/// Settles the play before the newest.
fn settle(history: &mut History, gap: SessionGap) -> Option<Settled> {
    let next = history.newest()?.at();
    let play = history.get_mut(history.len().checked_sub(2)?)?;
    if !gap.joins(play.at(), next) {
        return None;
    }
    let gap = next.since(play.at());
    play.set_gap(gap);
    Some(Settled {
        track: play.track(),
        at: play.at(),
        gap,
        part: play.part()?,
        witness: Witness::Gap,
    })
}

impl Stage for SharedMap {
    type In = Arrival;
    type Out = Update;
    type Snapshot = ();

    fn absorb(&mut self, batch: &[Arrival], out: &mut Vec<Update>) -> Result<(), StageError> {
        for arrival in batch {
            self.play(arrival, out);
        }
        Ok(())
    }

    fn advance(&mut self, to: Watermark, out: &mut Vec<Update>) -> Result<(), StageError> {
        self.horizon = to.time().minus(self.settings.lateness);
        let gap = self.settings.gap;
        let listeners = &self.listeners;
        self.timers.advance(to, |key| {
            let mut listener = listeners.get_mut(&key)?;
            listener.sessions.close_for(to, gap, |session| {
                out.push(Update::Closed { slot: key, session });
            });
            let due = listener.sessions.next_due(gap);
            listener.armed = due.is_some();
            due
        });
        Ok(())
    }

    fn idle(&mut self, _: &mut Vec<Update>) -> Result<(), StageError> {
        Ok(())
    }

    fn snapshot(&self, _: Epoch) {}

    fn restore(&mut self, (): ()) -> Result<(), StageError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane_loop::LaneLoop;
    use crate::plays::{Plays, Size};
    use segue_sessions::ListeningStage;

    #[test]
    fn it_says_what_the_stage_says() {
        let size = Size {
            listeners: 200,
            tracks: 500,
            plays: 20_000,
        };
        let settings = SessionSettings {
            gap: SessionGap::default(),
            lateness: Span::from_minutes(60),
        };
        let plays = Plays::simulate(size, 3);
        let mut baseline = LaneLoop::new(SharedMap::new(settings));
        baseline.take(plays.arrivals()).unwrap();
        let stage = ListeningStage::new(settings);
        let mut lane = LaneLoop::new(stage);
        lane.take(plays.arrivals()).unwrap();
        assert_eq!(baseline.seen(), lane.seen());
        let seen = lane.seen();
        assert_eq!(seen.plays, 20_000);
        assert!(seen.closed > 500 && seen.ratios > 10_000, "{seen:?}");
    }
}
