//! One update of a lane at a time: addresses are resolved, ratios set against estimated lengths, plays
//! put down as questions.

use std::time::Duration;

use segue_flow::LaneId;
use segue_listen::completion::Part;
use segue_listen::{EventTime, Ratio, TrackId, UserId};
use segue_sessions::{PlayUpdate, Settled, Update, Witness};

use super::tally::Basis;
use super::{Asked, EngineError, RecommendStage};
use crate::listeners::PlayEvent;

impl RecommendStage {
    pub(super) fn update(
        &mut self,
        lane: LaneId,
        update: Update,
        read_at: Duration,
    ) -> Result<(), EngineError> {
        match update {
            Update::Listener { slot, name } => self.addresses.announce_listener(lane, slot, name),
            Update::Track(content) => self.addresses.announce_track(lane, content),
            Update::Play(play) => self.play(lane, &play, read_at),
            Update::Correction { slot, settled } => {
                self.tally.corrected();
                let user = self.addresses.user(lane, slot)?;
                let (track, ratio, _) = self.settled(lane, &settled)?;
                self.tell_settled(user, track, &settled, (ratio, true))?;
                match &mut self.warm_up {
                    Some(warm_up) => warm_up.correct(user, track, settled.at, ratio),
                    None => {
                        self.listeners.correct(user, settled.at, track, ratio);
                    }
                }
                Ok(())
            }
            Update::Closed { slot, session } => {
                self.tally.closed(&session);
                let name = self.addresses.name_in(lane, slot)?;
                let sink = &mut *self.parts.sink;
                self.records.session(sink, name, &session, false)
            }
            Update::Retracted { slot, session } => {
                self.tally.retracted(&session);
                let name = self.addresses.name_in(lane, slot)?;
                let sink = &mut *self.parts.sink;
                self.records.session(sink, name, &session, true)
            }
        }
    }

    fn play(
        &mut self,
        lane: LaneId,
        play: &PlayUpdate,
        read_at: Duration,
    ) -> Result<(), EngineError> {
        let user = self.addresses.user(lane, play.slot)?;
        let (track, new) = self.addresses.track(lane, play.track)?;
        if let Some(content) = new {
            self.content.sighted(content);
            self.newcomer(track);
            // Who answers nobody predicts nothing.
            if self.ladder.is_some() && self.settings.top > 0 {
                self.fresh.sighted(track, read_at);
            }
        }
        let own = play.stated.part().and_then(|part| self.ratio(track, part));
        let mut ratio_of_previous = None;
        if let Some(previous) = &play.previous {
            let (track, ratio, basis) = self.settled(lane, previous)?;
            self.parts.durations.note(track, previous.gap);
            self.tally.settled(basis, ratio);
            self.tell_settled(user, track, previous, (ratio, false))?;
            ratio_of_previous = ratio;
        }
        self.parts.durations.played(track, play.stated.duration());
        self.tally.play(play.at);
        if let Some(part) = play.stated.part() {
            self.tally.settled(Basis::Player, own);
            let said = (part, Witness::Player);
            self.tell_completion(user, (track, play.at), said, (own, false))?;
        }
        self.parts.watcher.progressed(1, play.at);
        let event = PlayEvent {
            user,
            track,
            at: play.at,
            opens_session: play.session.plays == 1,
            own_ratio: own,
            ratio_of_previous,
        };
        if let Some(warm_up) = &mut self.warm_up {
            warm_up.take(&event);
            self.listeners.absorb(&event);
            if self
                .tally
                .plays
                .is_multiple_of(self.settings.epoch.max(1) as u64)
            {
                self.parts.durations.publish();
            }
            if self.tally.plays >= self.settings.train_plays {
                // At this very play, wherever the batch was cut.
                self.teach()?;
            }
            return Ok(());
        }
        match self.waiting.last_mut() {
            Some((at, plays)) if *at == read_at => *plays += 1,
            _ => self.waiting.push((read_at, 1)),
        }
        self.chunk.push(&mut self.listeners, &event);
        if play.newest {
            self.ask(Asked {
                user,
                track,
                at: play.at,
            });
        }
        if self.chunk.len() >= self.settings.epoch.max(1) {
            self.barrier()?;
        }
        Ok(())
    }

    /// A play that is over; what the player said of it was told when it came.
    fn tell_settled(
        &mut self,
        user: UserId,
        track: TrackId,
        settled: &Settled,
        told: (Option<Ratio>, bool),
    ) -> Result<(), EngineError> {
        match settled.witness {
            Witness::Player => Ok(()),
            Witness::Gap => {
                let said = (settled.part, settled.witness);
                self.tell_completion(user, (track, settled.at), said, told)
            }
        }
    }

    /// To those who want to know how much was heard of each play.
    fn tell_completion(
        &mut self,
        user: UserId,
        (track, at): (TrackId, EventTime),
        said: (Part, Witness),
        (ratio, corrected): (Option<Ratio>, bool),
    ) -> Result<(), EngineError> {
        if !self.records.tells_completions() {
            return Ok(());
        }
        let name = self.addresses.name(user);
        let play = (self.content.key(track), at);
        let sink = &mut *self.parts.sink;
        self.records
            .completion(sink, name, play, said, (ratio, corrected))
    }

    /// The listener is to be answered at the barrier, after their newest play.
    fn ask(&mut self, asked: Asked) {
        let next = self.asked.len();
        let place = *self.asked_at.entry(asked.user).or_insert(next);
        match self.asked.get_mut(place) {
            Some(held) => *held = asked,
            None => self.asked.push(asked),
        }
    }

    /// A ratio, by the estimates of the last barrier where no length is stated.
    fn ratio(&self, track: TrackId, part: Part) -> Option<Ratio> {
        part.ratio(self.parts.durations.get(track))
    }

    /// Which play is over, how much of it was heard, and what that rests on.
    fn settled(
        &mut self,
        lane: LaneId,
        settled: &Settled,
    ) -> Result<(TrackId, Option<Ratio>, Basis), EngineError> {
        let (track, _) = self.addresses.track(lane, settled.track)?;
        let ratio = self.ratio(track, settled.part);
        let basis = match (settled.witness, settled.part) {
            (Witness::Player, _) => Basis::PlayerAlready,
            (Witness::Gap, Part::Ratio(_)) => Basis::StatedLength,
            (Witness::Gap, Part::Span(_)) => Basis::EstimatedLength,
        };
        Ok((track, ratio, basis))
    }
}
