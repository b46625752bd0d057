//! The state of one lane's listeners and the rules that change it.
//!
//! A listener is a slot in a vector: sessions, and the last plays in event-time order. A play touches
//! its listener's slot and nothing else, and allocates nothing; a session costs one timer.

use std::hint::black_box;
use std::sync::Arc;

use segue_catalog::durations::{DurationTable, PublishedDurations};
use segue_flow::epoch::{Epoch, LaneId};
use segue_flow::names::{self, Name};
use segue_flow::stage::{Stage, StageError};
use segue_flow::timers::{Timers, Turn};
use segue_listen::completion::{self, Heard};
use segue_listen::history::Inserted;
use segue_listen::session::{Placed, Placement, Session};
use segue_listen::{
    EventTime, History, Play, Ratio, SessionGap, Sessions, Span, TrackId, UserId, Watermark,
};

use crate::arrival::{Arrival, News};
use crate::pages;
use crate::update::{Basis, PlayUpdate, Previous, Update};

/// The rules.
#[derive(Clone, Copy, Debug)]
pub struct SessionSettings {
    /// The longest pause inside a session.
    pub gap: SessionGap,
    /// How much later than the watermark a play is let in; sessions are remembered that long.
    pub lateness: Span,
}

/// How many plays the stage looks ahead: enough for their memory to come all at once, few enough that
/// it is still near when each one's turn comes.
const AHEAD: usize = 32;

/// One listener. What every play reads stands in the first 64 bytes, one line of the processor's
/// cache; the plays themselves follow.
#[derive(Default)]
#[repr(C, align(64))]
struct Slot {
    sessions: Sessions,
    /// Whether a timer is armed for this slot.
    armed: bool,
    history: History,
}

impl Slot {
    /// Places a play that does not simply extend the newest session.
    #[cold]
    #[inline(never)]
    fn begin_or_join(
        &mut self,
        user: UserId,
        at: EventTime,
        (horizon, gap): (EventTime, SessionGap),
        tallies: &mut Tallies,
        out: &mut Vec<Update>,
    ) -> (Placement, Session) {
        // A closed session that nothing can reach any more need not be kept beside the new one.
        self.sessions.forget_before(horizon, gap);
        let Placed {
            placement,
            session,
            retracted,
        } = self.sessions.place(at, gap);
        for session in retracted.into_iter().flatten() {
            tallies.retracted += 1;
            out.push(Update::Retracted { user, session });
        }
        (placement, session)
    }
}

/// The listening stage of one lane.
pub struct ListeningStage {
    lane: LaneId,
    lanes: u32,
    settings: SessionSettings,
    slots: Vec<Slot>,
    timers: Timers,
    /// Before it nothing can arrive any more: the watermark less the lateness.
    horizon: EventTime,
    published: PublishedDurations,
    durations: Arc<DurationTable>,
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
    /// An empty lane of `lanes`.
    pub fn new(
        lane: LaneId,
        lanes: u32,
        settings: SessionSettings,
        published: PublishedDurations,
    ) -> Self {
        let durations = published.current();
        Self {
            lane,
            lanes: lanes.max(1),
            settings,
            slots: Vec::new(),
            timers: Timers::new(Span::from_millis(
                (settings.gap.span().millis() / 8).max(1_000),
            )),
            horizon: EventTime::from_millis(i64::MIN),
            published,
            durations,
            tallies: Tallies::default(),
        }
    }

    /// The listener in a slot: unique over all lanes, dense if lanes are evenly filled.
    pub const fn user(&self, slot: u32) -> UserId {
        UserId(slot * self.lanes + self.lane.0)
    }

    /// A listener's last plays, oldest first.
    pub fn history(&self, slot: u32) -> Option<&History> {
        self.slots.get(slot as usize).map(|slot| &slot.history)
    }

    /// How many sessions are open.
    pub const fn open_sessions(&self) -> usize {
        self.timers.len()
    }

    fn announce(&self, news: &News, out: &mut Vec<Update>) {
        out.extend(news.listeners.iter().map(|(slot, name)| Update::Listener {
            user: self.user(*slot),
            name: name.clone(),
        }));
        out.extend(
            news.tracks
                .iter()
                .cloned()
                .map(|track| Update::Track(Box::new(track))),
        );
    }

    /// Reads what these plays will need. With many listeners each is far away in memory; asked for
    /// together, they arrive together.
    #[inline]
    fn look_ahead(&self, plays: &[Arrival]) {
        let slots = || plays.iter().filter_map(|p| self.slots.get(p.slot as usize));
        for slot in slots() {
            black_box(slot.history.len());
        }
        let mut tracks = [TrackId::default(); AHEAD];
        for (slot, track) in slots().zip(&mut tracks) {
            *track = slot
                .history
                .foretaste()
                .map_or(TrackId::default(), |p| p.track());
        }
        for track in tracks.iter().take(plays.len()) {
            black_box(self.durations.get(*track));
        }
    }

    #[inline]
    fn play(&mut self, arrival: &Arrival, out: &mut Vec<Update>) {
        let user = self.user(arrival.slot);
        let index = arrival.slot as usize;
        if index >= self.slots.len() {
            pages::make_room(&mut self.slots, index + 1);
            self.slots.resize_with(index + 1, Slot::default);
        }
        let gap = self.settings.gap;
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };

        let mut play = Play::with_tie(arrival.at, arrival.track, arrival.tie);
        play.set_duration(arrival.duration);
        let own = own_ratio(arrival, &self.durations);
        if let Some(own) = own {
            play.set_players_ratio(own);
        }
        let inserted = slot.history.insert(play);
        if inserted == Inserted::Duplicate {
            self.tallies.duplicates += 1;
            return;
        }
        self.tallies.plays += 1;
        let (placement, session) = match slot.sessions.extend(arrival.at, gap) {
            Some(session) => (Placement::Extended, session),
            None => {
                let place = (self.horizon, gap);
                slot.begin_or_join(user, arrival.at, place, &mut self.tallies, out)
            }
        };
        if !slot.armed {
            slot.armed = true;
            self.timers.arm(session.due(gap), arrival.slot);
        }
        let (at, durations) = (arrival.at, &*self.durations);
        let position = match inserted {
            Inserted::Newest => slot.history.len() - 1,
            Inserted::At(position) => position,
            Inserted::Duplicate | Inserted::BeforeMemory => usize::MAX,
        };
        let previous = position
            .checked_sub(1)
            .and_then(|before| settle(&mut slot.history, before, gap, durations));
        let newest = inserted == Inserted::Newest;
        out.push(Update::Play(PlayUpdate {
            user,
            track: arrival.track,
            at,
            ratio: own,
            placement,
            session,
            newest,
            previous: if newest { previous } else { None },
        }));
        if !newest {
            // Out of order: the play before has a new successor, and this one has one already.
            let corrections =
                previous
                    .into_iter()
                    .chain(settle(&mut slot.history, position, gap, durations));
            out.extend(corrections.map(|p| Update::Correction {
                user,
                track: p.track,
                at: p.at,
                ratio: p.ratio,
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

/// The ratio that follows from the player's own figure, which no gap changes.
fn own_ratio(arrival: &Arrival, durations: &DurationTable) -> Option<Ratio> {
    let played = arrival.played?;
    let duration = arrival.duration.or_else(|| durations.get(arrival.track));
    completion::ratio(Heard {
        at: arrival.at,
        next: None,
        played: Some(played),
        duration,
    })
}

/// Settles the play at `index` from the one after it, if that is of the same session; `None` if it
/// is not, or there is none.
fn settle(
    history: &mut History,
    index: usize,
    gap: SessionGap,
    durations: &DurationTable,
) -> Option<Previous> {
    let next = history.get(index + 1)?.at();
    let play = history.get_mut(index)?;
    if !gap.joins(play.at(), next) {
        return None;
    }
    let stated = play.duration();
    let duration = stated.or_else(|| durations.get(play.track()));
    let heard = Heard {
        at: play.at(),
        next: Some(next),
        played: None,
        duration,
    };
    play.set_ratio(completion::ratio(heard));
    Some(Previous {
        track: play.track(),
        at: play.at(),
        gap: next.since(play.at()),
        ratio: play.ratio(),
        basis: match (play.has_players_ratio(), stated, duration) {
            (true, _, _) => Basis::Player,
            (false, Some(_), _) => Basis::StatedLength,
            (false, None, Some(_)) => Basis::EstimatedLength,
            (false, None, None) => Basis::Unknown,
        },
    })
}

impl Stage for ListeningStage {
    type In = Arrival;
    type Out = Update;
    type Snapshot = ();

    fn absorb(&mut self, batch: &[Arrival], out: &mut Vec<Update>) -> Result<(), StageError> {
        self.durations = self.published.current();
        for plays in batch.chunks(AHEAD) {
            self.look_ahead(plays);
            for arrival in plays {
                if let Some(news) = &arrival.news {
                    self.announce(news, out);
                }
                self.play(arrival, out);
            }
        }
        self.tell();
        Ok(())
    }

    fn advance(&mut self, to: Watermark, out: &mut Vec<Update>) -> Result<(), StageError> {
        self.horizon = to.time().minus(self.settings.lateness);
        let gap = self.settings.gap;
        let (slots, tallies, lane, lanes) =
            (&mut self.slots, &mut self.tallies, self.lane.0, self.lanes);
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
            let user = UserId(key * lanes + lane);
            slot.sessions.close_for(to, gap, |session: Session| {
                tallies.closed += 1;
                out.push(Update::Closed { user, session });
            });
            let due = slot.sessions.next_due(gap);
            slot.armed = due.is_some();
            due
        });
        self.tell();
        Ok(())
    }

    fn snapshot(&self, _: Epoch) {}

    fn restore(&mut self, (): ()) -> Result<(), StageError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
