//! The first part of a log, gathered for the curriculum.

use std::collections::BTreeMap;

use segue_listen::{EventTime, Ratio, TrackId, UserId};

use super::Curriculum;
use crate::listeners::PlayEvent;
use crate::recommender::ContextPlay;
use crate::training::TrainingLog;

pub(super) struct WarmUp {
    curriculum: Box<dyn Curriculum>,
    plays: Gathered,
}

/// Every listener's plays so far, in the order of event time: what a checkpoint keeps of it.
pub(super) type Gathered = BTreeMap<UserId, Vec<ContextPlay>>;

impl WarmUp {
    pub(super) fn new(curriculum: Box<dyn Curriculum>) -> Self {
        Self {
            curriculum,
            plays: Gathered::new(),
        }
    }

    pub(super) const fn gathered(&self) -> &Gathered {
        &self.plays
    }

    /// Goes on gathering behind what a checkpoint kept.
    pub(super) fn go_on(&mut self, gathered: Gathered) {
        self.plays = gathered;
    }

    /// The time of gathering is over, in a run before this one.
    pub(super) fn into_curriculum(self) -> Box<dyn Curriculum> {
        self.curriculum
    }

    pub(super) fn take(&mut self, event: &PlayEvent) {
        let plays = self.plays.entry(event.user).or_default();
        let index = plays.partition_point(|play| play.at <= event.at);
        if let (Some(before), Some(ratio)) = (
            index.checked_sub(1).and_then(|i| plays.get_mut(i)),
            event.ratio_of_previous,
        ) {
            before.ratio = Some(ratio);
        }
        let play = ContextPlay {
            track: event.track,
            at: event.at,
            ratio: event.own_ratio,
            opens_session: event.opens_session,
        };
        plays.insert(index, play);
    }

    pub(super) fn correct(
        &mut self,
        user: UserId,
        track: TrackId,
        at: EventTime,
        ratio: Option<Ratio>,
    ) {
        let plays = self.plays.get_mut(&user);
        let play = plays.and_then(|p| p.iter_mut().rfind(|p| p.at == at && p.track == track));
        if let Some(play) = play {
            play.ratio = ratio;
        }
    }

    /// The log in the order of the listeners' names: training does not depend on who came first.
    pub(super) fn finish<'a>(
        self,
        name: impl Fn(UserId) -> &'a str,
    ) -> (Box<dyn Curriculum>, TrainingLog) {
        let mut listeners: Vec<_> = self.plays.into_iter().collect();
        listeners.sort_by(|a, b| name(a.0).cmp(name(b.0)));
        let mut log = TrainingLog::default();
        for (user, plays) in listeners {
            log.push_named(name(user), plays);
        }
        (self.curriculum, log)
    }
}
