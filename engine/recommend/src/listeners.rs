//! What each listener has played, and the questions that follow from it.
//!
//! A context starts anew at every multiple of [`CONTEXT_BLOCK`] plays and reaches back one block
//! more; so it holds every play of a new listener, and 50 to 99 plays of one with a hundred or more.
//! The ratio of the newest play is held back until the next play has come: it would tell when the
//! next play starts.
//!
//! This room's part of the state only: sessions, ratios and lateness are judged by the lanes.

use std::ops::Range;

use hashbrown::{HashMap, HashSet};
use segue_listen::{EventTime, Ratio, TrackId, UserId};
use serde::{Deserialize, Serialize};

use crate::recommender::{Ask, CONTEXT_BLOCK, ContextPlay, Example};

/// One play, as the lanes tell it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PlayEvent {
    /// Who.
    pub user: UserId,
    /// Which track.
    pub track: TrackId,
    /// When it started.
    pub at: EventTime,
    /// Whether it opened a session.
    pub opens_session: bool,
    /// How much of it was heard, if the player said so with it.
    pub own_ratio: Option<Ratio>,
    /// How much was heard of the listener's previous play, if this one told.
    pub ratio_of_previous: Option<Ratio>,
}

/// Whether a play came in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// Not older than the listener's newest play.
    InOrder,
    /// Older: put in its place in the context. It is no question, since the plays that followed it
    /// are known already.
    Late,
}

/// What was known of a play's listener and track before it, for the splits of the evaluation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Facts {
    /// Who.
    pub user: UserId,
    /// When.
    pub at: EventTime,
    /// How many plays the listener had behind them.
    pub plays: u64,
    /// Whether the listener had never played the track.
    pub first_play: bool,
    /// Whether nobody had ever played the track.
    pub cold_track: bool,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Listener {
    plays: u64,
    /// In order of start; the newest has no ratio.
    context: Vec<ContextPlay>,
    /// The newest play's ratio, where it is known before the next play.
    held_back: Option<Ratio>,
    played: HashSet<u32>,
}

/// All listeners' contexts. One owner.
#[derive(Default, Serialize, Deserialize)]
pub struct Listeners {
    listeners: HashMap<UserId, Listener>,
    heard: HashSet<TrackId>,
}

impl Listeners {
    /// Nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many listeners there are.
    pub fn len(&self) -> usize {
        self.listeners.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.listeners.is_empty()
    }

    /// The question that is open for a listener now; an unknown one has an empty context.
    pub fn ask(&self, user: UserId) -> Ask<'_> {
        let listener = self.listeners.get(&user);
        Ask {
            user,
            plays: listener.map_or(0, |listener| listener.plays),
            context: listener.map_or(&[], |listener| &listener.context),
        }
    }

    /// Whether a listener has ever played a track.
    pub fn has_played(&self, user: UserId, track: TrackId) -> bool {
        self.listeners
            .get(&user)
            .is_some_and(|listener| listener.played.contains(&track.0))
    }

    /// Somebody has played this track, elsewhere.
    pub fn heard(&mut self, track: TrackId) {
        self.heard.insert(track);
    }

    /// Takes a play in without asking first: for the part of a log that models were trained on.
    pub fn absorb(&mut self, event: &PlayEvent) -> Arrival {
        self.heard.insert(event.track);
        self.listeners.entry(event.user).or_default().absorb(event)
    }

    /// Sets or takes back the ratio of a play that is told (or corrected) later; whether the play is
    /// still in the context. That of the newest play is seen once the next one has come.
    pub fn correct(
        &mut self,
        user: UserId,
        at: EventTime,
        track: TrackId,
        ratio: Option<Ratio>,
    ) -> bool {
        let Some(listener) = self.listeners.get_mut(&user) else {
            return false;
        };
        let newest = listener.context.len().wrapping_sub(1);
        let found = listener
            .context
            .iter()
            .rposition(|play| play.at == at && play.track == track);
        match found {
            Some(index) if index == newest => listener.held_back = ratio,
            Some(index) => {
                if let Some(play) = listener.context.get_mut(index) {
                    play.ratio = ratio;
                }
            }
            None => return false,
        }
        true
    }

    /// Forgets what a listener has played.
    pub(crate) fn forget(&mut self, user: UserId) {
        self.listeners.remove(&user);
    }

    /// Takes a listener over who is `there` in another room and `user` in this one; `here` gives
    /// tracks their address in this one.
    ///
    /// # Errors
    /// Those of `here`.
    pub(crate) fn take_over<E>(
        &mut self,
        from: &Self,
        there: UserId,
        user: UserId,
        here: &mut impl FnMut(TrackId) -> Result<TrackId, E>,
    ) -> Result<(), E> {
        let Some(listener) = from.listeners.get(&there) else {
            return Ok(());
        };
        let mut listener = listener.clone();
        for play in &mut listener.context {
            play.track = here(play.track)?;
        }
        let played = listener.played.iter().map(|id| here(TrackId(*id)));
        let played = played.collect::<Result<HashSet<TrackId>, E>>()?;
        listener.played = played.iter().map(|track| track.0).collect();
        self.heard.extend(played);
        self.listeners.insert(user, listener);
        Ok(())
    }

    fn facts(&self, event: &PlayEvent) -> Facts {
        let listener = self.listeners.get(&event.user);
        Facts {
            user: event.user,
            at: event.at,
            plays: listener.map_or(0, |listener| listener.plays),
            first_play: !listener.is_some_and(|l| l.played.contains(&event.track.0)),
            cold_track: !self.heard.contains(&event.track),
        }
    }
}

impl Listener {
    fn is_late(&self, at: EventTime) -> bool {
        self.context.last().is_some_and(|newest| at < newest.at)
    }

    fn absorb(&mut self, event: &PlayEvent) -> Arrival {
        let play = ContextPlay {
            track: event.track,
            at: event.at,
            ratio: None,
            opens_session: event.opens_session,
        };
        let own = event.own_ratio;
        let arrival = if self.is_late(event.at) {
            let index = self
                .context
                .iter()
                .rposition(|other| other.at <= event.at)
                .map_or(0, |before| before + 1);
            let before = index.checked_sub(1).and_then(|i| self.context.get_mut(i));
            if let (Some(before), Some(ratio)) = (before, event.ratio_of_previous) {
                before.ratio = Some(ratio);
            }
            self.context
                .insert(index, ContextPlay { ratio: own, ..play });
            Arrival::Late
        } else {
            if let Some(newest) = self.context.last_mut() {
                newest.ratio = event.ratio_of_previous.or(self.held_back);
            }
            self.held_back = own;
            self.context.push(play);
            Arrival::InOrder
        };
        self.plays += 1;
        self.played.insert(event.track.0);
        if self.context.len() >= 2 * CONTEXT_BLOCK as usize {
            self.context.drain(..CONTEXT_BLOCK as usize);
        }
        arrival
    }
}

/// The questions that a run of plays answered, each as it stood before its play, the earlier plays
/// of the same chunk included. Contexts lie in one table that is used again: at most 99 plays of 24
/// bytes a question.
#[derive(Default, Serialize, Deserialize)]
pub struct Chunk {
    plays: Vec<ContextPlay>,
    contexts: Vec<Range<usize>>,
    actual: Vec<TrackId>,
    facts: Vec<Facts>,
}

impl Chunk {
    /// An empty chunk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.plays.clear();
        self.contexts.clear();
        self.actual.clear();
        self.facts.clear();
    }

    /// How many questions it holds.
    pub fn len(&self) -> usize {
        self.actual.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.actual.is_empty()
    }

    /// Writes down the question that `event` answers, then takes the event in. Events come in the
    /// order of (lane, offset). A late play is taken in and asks nothing.
    pub fn push(&mut self, listeners: &mut Listeners, event: &PlayEvent) -> Arrival {
        let late = listeners
            .listeners
            .get(&event.user)
            .is_some_and(|listener| listener.is_late(event.at));
        if !late {
            let from = self.plays.len();
            self.plays
                .extend_from_slice(listeners.ask(event.user).context);
            self.contexts.push(from..self.plays.len());
            self.actual.push(event.track);
            self.facts.push(listeners.facts(event));
        }
        listeners.absorb(event)
    }

    /// What was played, one per question.
    pub fn actual(&self) -> &[TrackId] {
        &self.actual
    }

    /// What was known before, one per question.
    pub fn facts(&self) -> &[Facts] {
        &self.facts
    }

    /// The questions, in order. One allocation.
    pub fn asks(&self) -> Vec<Ask<'_>> {
        self.questions().collect()
    }

    /// The questions with their answers, in order. One allocation.
    pub fn examples(&self) -> Vec<Example<'_>> {
        self.questions()
            .zip(&self.actual)
            .map(|(ask, &actual)| Example { ask, actual })
            .collect()
    }

    fn questions(&self) -> impl ExactSizeIterator<Item = Ask<'_>> {
        self.facts
            .iter()
            .zip(&self.contexts)
            .map(|(facts, context)| Ask {
                user: facts.user,
                plays: facts.plays,
                context: self.plays.get(context.clone()).unwrap_or(&[]),
            })
    }
}

#[cfg(test)]
mod tests;
