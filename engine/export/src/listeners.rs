//! The plays of sessions that are still open, by listener: what of the log is in memory.

use std::collections::VecDeque;

use segue_catalog::durations::DurationEstimates;
use segue_listen::completion::Part;
use segue_listen::session::Session;
use segue_listen::{EventTime, Ratio, Span, TrackId};
use segue_sessions::{PlayUpdate, Settled, Stated, Witness};

use crate::error::ExportError;

/// What a track's length rests on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LengthBy {
    /// The event states it.
    Event,
    /// Everybody's gaps up to then.
    Estimate,
}

impl LengthBy {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Estimate => "estimate",
        }
    }
}

/// How a witness is called in a column.
pub const fn witness(witness: Witness) -> &'static str {
    match witness {
        Witness::Player => "player",
        Witness::Gap => "gap",
    }
}

/// A play whose session is open.
#[derive(Clone, Copy, Debug)]
pub struct OpenPlay {
    pub at: EventTime,
    pub track: TrackId,
    /// How long it was heard, and who says so.
    pub heard: Option<(Span, Witness)>,
    /// From its start to that of the session's next play.
    pub gap: Option<Span>,
    /// How long its track is, and who says so.
    pub length: Option<(Span, LengthBy)>,
    pub ratio: Option<Ratio>,
    stated: Stated,
}

impl OpenPlay {
    fn new(play: &PlayUpdate, durations: &DurationEstimates) -> Self {
        let stated = play.stated;
        let mut new = Self {
            at: play.at,
            track: play.track,
            heard: None,
            gap: None,
            length: stated.duration().map(|length| (length, LengthBy::Event)),
            ratio: None,
            stated,
        };
        if let Some(played) = stated.played() {
            new.hear(played, Witness::Player, durations);
        }
        new
    }

    /// It was heard so long; the share follows from its length, by the estimates of the last barrier
    /// where none is stated.
    fn hear(&mut self, span: Span, by: Witness, durations: &DurationEstimates) {
        let estimate = || Some((durations.get(self.track)?, LengthBy::Estimate));
        self.heard = Some((span, by));
        self.length = self.length.or_else(estimate);
        let length = self.length.map(|(length, _)| length);
        self.ratio = Part::of(span, length).ratio(None);
    }

    fn settle(&mut self, settled: &Settled, durations: &DurationEstimates) {
        self.gap = Some(settled.gap);
        if self.stated.played().is_none() {
            self.hear(settled.gap, settled.witness, durations);
        }
    }
}

/// One listener.
#[derive(Debug)]
pub struct Listener {
    pub name: Box<str>,
    /// In the order of time.
    open: VecDeque<OpenPlay>,
    /// A bit for each split that has a play of theirs.
    pub splits: u8,
}

impl Listener {
    pub fn new(name: Box<str>) -> Self {
        Self {
            name,
            open: VecDeque::new(),
            splits: 0,
        }
    }

    /// Takes a play, which may settle the one before it.
    pub fn take(
        &mut self,
        play: &PlayUpdate,
        durations: &DurationEstimates,
    ) -> Result<(), ExportError> {
        if let Some(settled) = &play.previous {
            match self.open.back_mut() {
                Some(open) if (open.track, open.at) == (settled.track, settled.at) => {
                    open.settle(settled, durations);
                }
                _ => return Err(self.disorder(format!("nothing to settle at {}", settled.at))),
            }
        }
        if !play.newest {
            return Err(self.disorder(format!("a late play of {}", play.at)));
        }
        self.open.push_back(OpenPlay::new(play, durations));
        Ok(())
    }

    /// The plays of a session that is over: the oldest there are.
    pub fn close(
        &mut self,
        session: &Session,
    ) -> Result<impl Iterator<Item = OpenPlay> + use<'_>, ExportError> {
        let plays = session.plays as usize;
        let at = |index: usize| self.open.get(index).map(|play| play.at);
        let last = plays.checked_sub(1).and_then(at);
        if at(0) != Some(session.first) || last != Some(session.last) {
            return Err(self.disorder(format!("a session of {plays} plays from {}", session.first)));
        }
        Ok(self.open.drain(..plays))
    }

    pub fn disorder(&self, detail: String) -> ExportError {
        ExportError::Disorder {
            listener: self.name.to_string(),
            detail,
        }
    }
}
