//! The state of one lane's listeners and the rules that change it.
//!
//! A listener is a slot in a vector: sessions, and the last plays in event-time order. A play touches
//! its listener's slot and nothing else, and allocates nothing; a session costs one timer.

use std::hint::black_box;

use segue_flow::epoch::Epoch;
use segue_flow::names::{self, Name};
use segue_flow::stage::{Stage, StageError};
use segue_flow::timers::{Timers, Turn};
use segue_listen::history::Inserted;
use segue_listen::session::{Placed, Placement, Session};
use segue_listen::{EventTime, History, Play, SessionGap, Sessions, Span, Watermark};

use crate::arrival::Arrival;
use crate::snapshot::ListeningState;
use crate::update::{PlayUpdate, Settled, Stated, Update, Witness};

/// The rules.
#[derive(Clone, Copy, Debug)]
pub struct SessionSettings {
    /// The longest pause inside a session.
    pub gap: SessionGap,
    /// How much later than the watermark a play is let in; sessions are remembered that long.
    pub lateness: Span,
}

/// One listener. What every play reads stands in the first 64 bytes, one line of the processor's
/// cache; the plays themselves follow.
#[derive(Default)]
#[repr(C, align(64))]
pub(crate) struct Slot {
    pub(crate) sessions: Sessions,
    /// Whether a timer is armed for this slot.
    pub(crate) armed: bool,
    pub(crate) history: History,
    /// Plays that the history has forgotten and that a duplicate of could still come: empty unless
    /// somebody plays more than a history's length within the lateness.
    pub(crate) forgotten: Vec<(EventTime, u32)>,
}

impl Slot {
    /// Puts a play in its place; whether it was there already is told beyond the history's memory
    /// too, as far back as anything is let in.
    #[inline]
    fn insert(&mut self, play: Play, horizon: EventTime) -> Inserted {
        let leaving = self.history.leaving().filter(|play| play.at() >= horizon);
        let leaving = leaving.map(|play| (play.at(), play.tie()));
        match self.history.insert(play) {
            Inserted::BeforeMemory => self.remember(play, horizon),
            inserted => {
                if let Some(leaving) = leaving
                    && inserted != Inserted::Duplicate
                {
                    self.forgotten.push(leaving);
                }
                inserted
            }
        }
    }

    #[cold]
    fn remember(&mut self, play: Play, horizon: EventTime) -> Inserted {
        self.forgotten.retain(|(at, _)| *at >= horizon);
        let known = (play.at(), play.tie());
        if self.forgotten.contains(&known) {
            return Inserted::Duplicate;
        }
        self.forgotten.push(known);
        Inserted::BeforeMemory
    }

    /// Places a play that does not simply extend the newest session.
    #[cold]
    #[inline(never)]
    fn begin_or_join(
        &mut self,
        number: u32,
        at: EventTime,
        (horizon, gap): (EventTime, SessionGap),
        tallies: &mut Tallies,
        out: &mut Vec<Update>,
    ) -> (Placement, Session) {
        // A closed session that nothing can reach any more need not be kept beside the new one.
        self.sessions.forget_before(horizon, gap);
        self.forgotten.retain(|(at, _)| *at >= horizon);
        let Placed {
            placement,
            session,
            retracted,
        } = self.sessions.place(at, gap);
        for session in retracted.into_iter().flatten() {
            tallies.retracted += 1;
            out.push(Update::Retracted {
                slot: number,
                session,
            });
        }
        (placement, session)
    }
}

/// The listening stage of one lane.
pub struct ListeningStage {
    settings: SessionSettings,
    pub(crate) slots: Vec<Slot>,
    pub(crate) timers: Timers,
    /// Before it nothing can arrive any more: the watermark less the lateness.
    pub(crate) horizon: EventTime,
    tallies: Tallies,
}

/// What was done since the metrics were last told.
#[derive(Default)]
struct Tallies {
    plays: u64,
    duplicates: u64,
    closed: u64,
    retracted: u64,
}

impl ListeningStage {
    /// An empty lane.
    pub fn new(settings: SessionSettings) -> Self {
        Self {
            settings,
            slots: Vec::new(),
            timers: Timers::new(Span::from_millis(
                (settings.gap.span().millis() / 8).max(1_000),
            )),
            horizon: EventTime::from_millis(i64::MIN),
            tallies: Tallies::default(),
        }
    }

    /// A listener's last plays, oldest first.
    pub fn history(&self, slot: u32) -> Option<&History> {
        self.slots.get(slot as usize).map(|slot| &slot.history)
    }

    /// How many sessions are open.
    pub const fn open_sessions(&self) -> usize {
        self.timers.len()
    }

    #[inline]
    fn play(&mut self, arrival: &Arrival, out: &mut Vec<Update>) {
        let number = arrival.slot;
        let index = number as usize;
        if index >= self.slots.len() {
            segue_memory::make_room(&mut self.slots, index + 1);
            self.slots.resize_with(index + 1, Slot::default);
        }
        let gap = self.settings.gap;
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };

        let mut play = Play::with_tie(arrival.at, arrival.track, arrival.tie);
        play.set_duration(arrival.duration);
        if let Some(played) = arrival.played {
            play.set_played(played);
        }
        let inserted = slot.insert(play, self.horizon);
        if inserted == Inserted::Duplicate {
            self.tallies.duplicates += 1;
            return;
        }
        self.tallies.plays += 1;
        let (placement, session) = match slot.sessions.extend(arrival.at, gap) {
            Some(session) => (Placement::Extended, session),
            None => {
                let place = (self.horizon, gap);
                slot.begin_or_join(number, arrival.at, place, &mut self.tallies, out)
            }
        };
        if !slot.armed {
            slot.armed = true;
            self.timers.arm(session.due(gap), number);
        }
        let position = match inserted {
            Inserted::Newest => slot.history.len() - 1,
            Inserted::At(position) => position,
            Inserted::Duplicate | Inserted::BeforeMemory => usize::MAX,
        };
        let previous = position
            .checked_sub(1)
            .and_then(|before| settle(&mut slot.history, before, gap));
        let newest = inserted == Inserted::Newest;
        out.push(Update::Play(PlayUpdate {
            slot: number,
            track: arrival.track,
            at: arrival.at,
            stated: Stated::of(play.duration(), arrival.played),
            placement,
            session,
            newest,
            previous: if newest { previous } else { None },
        }));
        if !newest {
            // Out of order: the play before has a new successor, and this one has one already.
            let corrections = previous
                .into_iter()
                .chain(settle(&mut slot.history, position, gap));
            out.extend(corrections.map(|settled| Update::Correction {
                slot: number,
                settled,
            }));
        }
    }

    fn tell(&mut self) {
        let tallies = std::mem::take(&mut self.tallies);
        names::count(Name::PlaysAbsorbed, tallies.plays);
        names::count(Name::DuplicatesDropped, tallies.duplicates);
        names::count(Name::SessionsClosed, tallies.closed);
        names::count(Name::SessionsRetracted, tallies.retracted);
    }
}

/// Settles the play at `index` from the one after it, if that is of the same session; `None` if it
/// is not, or there is none.
#[inline]
fn settle(history: &mut History, index: usize, gap: SessionGap) -> Option<Settled> {
    let next = history.get(index.checked_add(1)?)?.at();
    let play = history.get_mut(index)?;
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
        witness: if play.has_players_word() {
            Witness::Player
        } else {
            Witness::Gap
        },
    })
}

impl Stage for ListeningStage {
    type In = Arrival;
    type Out = Update;
    type Snapshot = ListeningState;

    /// With many listeners each is far away in memory; asked for together, they arrive together.
    #[inline]
    fn look_ahead(&self, plays: &[Arrival]) {
        let slots = || plays.iter().filter_map(|p| self.slots.get(p.slot as usize));
        for slot in slots() {
            black_box(slot.history.len());
        }
        for slot in slots() {
            black_box(slot.history.foretaste());
        }
    }

    fn absorb(&mut self, batch: &[Arrival], out: &mut Vec<Update>) -> Result<(), StageError> {
        for arrival in batch {
            self.play(arrival, out);
        }
        self.tell();
        Ok(())
    }

    fn advance(&mut self, to: Watermark, out: &mut Vec<Update>) -> Result<(), StageError> {
        self.horizon = to.time().minus(self.settings.lateness);
        let gap = self.settings.gap;
        let (slots, tallies) = (&mut self.slots, &mut self.tallies);
        self.timers.advance_by_turns(to, |turn| {
            let key = match turn {
                Turn::Soon(keys) => {
                    for (_, key) in keys {
                        black_box(slots.get(*key as usize).map(|slot| slot.armed));
                    }
                    // Earlier sessions, where there are any, lie elsewhere.
                    for (_, key) in keys {
                        black_box(slots.get(*key as usize).map(|s| s.sessions.next_due(gap)));
                    }
                    return None;
                }
                Turn::Now(key) => key,
            };
            let slot = slots.get_mut(key as usize)?;
            slot.sessions.close_for(to, gap, |session: Session| {
                tallies.closed += 1;
                out.push(Update::Closed { slot: key, session });
            });
            let due = slot.sessions.next_due(gap);
            slot.armed = due.is_some();
            due
        });
        self.tell();
        Ok(())
    }

    fn idle(&mut self, out: &mut Vec<Update>) -> Result<(), StageError> {
        // The timers stay: they find nothing left to close, or what a later play has opened again.
        for (number, slot) in (0u32..).zip(&mut self.slots) {
            slot.sessions.close_all(|session| {
                self.tallies.closed += 1;
                out.push(Update::Closed {
                    slot: number,
                    session,
                });
            });
        }
        self.tell();
        Ok(())
    }

    fn snapshot(&self, _: Epoch) -> ListeningState {
        self.state()
    }

    fn restore(&mut self, state: ListeningState) -> Result<(), StageError> {
        self.take_up(state)
    }
}

#[cfg(test)]
mod tests;
