//! What the stage tells those downstream, in addresses of its lane.
//!
//! A lane knows listeners by slots and tracks by ids of its own, in the order in which it first saw
//! them; so what it says is a function of its log alone. Whoever gathers lanes gives the addresses
//! that hold for all of them.

use segue_catalog::content::TrackContent;
use segue_flow::Asks;
use segue_listen::completion::Part;
use segue_listen::session::{Placement, Session};
use segue_listen::{EventTime, Span, TrackId};
use serde::{Deserialize, Serialize};

/// One thing that happened, in the order of the lane's log.
#[derive(Debug, Serialize, Deserialize)]
pub enum Update {
    /// A listener is seen for the first time by this lane.
    Listener {
        /// The address that later updates use. Without gaps, ascending.
        slot: u32,
        /// The log's name for the listener.
        name: Box<str>,
    },
    /// A track is seen for the first time by this lane. Its ids come without gaps, ascending.
    Track(Box<TrackContent>),
    /// A play: the running update of a session.
    Play(PlayUpdate),
    /// A late play changed how much of an earlier one was heard.
    Correction {
        /// The listener.
        slot: u32,
        /// What now holds.
        settled: Settled,
    },
    /// A session is over: its final.
    Closed {
        /// The listener.
        slot: u32,
        /// The session.
        session: Session,
    },
    /// A final that no longer holds: a late play re-opened the session.
    Retracted {
        /// The listener.
        slot: u32,
        /// The session as its final had it.
        session: Session,
    },
}

impl Asks for Update {
    fn asks_for(&self) -> Option<u32> {
        match self {
            Self::Play(play) if play.newest => Some(play.slot),
            _ => None,
        }
    }

    fn answered_later(&mut self) {
        if let Self::Play(play) = self {
            play.newest = false;
        }
    }
}

/// One play and what it did.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct PlayUpdate {
    /// The listener.
    pub slot: u32,
    /// The track.
    pub track: TrackId,
    /// When it started.
    pub at: EventTime,
    /// What its own event states.
    pub stated: Stated,
    /// What it did to the listener's sessions.
    pub placement: Placement,
    /// The session it is in, as far as it goes.
    pub session: Session,
    /// Whether the listener is to be answered after it: it is their newest play as far as is known.
    /// One that came out of order is counted and corrects what it must.
    pub newest: bool,
    /// The play before it in the same session, which is over now.
    pub previous: Option<Settled>,
}

/// What an event states of its own play: 8 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stated {
    /// Milliseconds; `NOT_STATED`: nothing.
    duration: u32,
    played: u32,
}

const NOT_STATED: u32 = u32::MAX;

impl Stated {
    /// The track is so long, and so long it was played, as far as the event says so.
    pub fn of(duration: Option<Span>, played: Option<Span>) -> Self {
        let millis = |span: Option<Span>| {
            span.map_or(NOT_STATED, |span| {
                u32::try_from(span.millis().max(0))
                    .map_or(NOT_STATED - 1, |m| m.min(NOT_STATED - 1))
            })
        };
        Self {
            duration: millis(duration),
            played: millis(played),
        }
    }

    /// How long the track is.
    pub fn duration(self) -> Option<Span> {
        span(self.duration)
    }

    /// How long it was played.
    pub fn played(self) -> Option<Span> {
        span(self.played)
    }

    /// How much of it was heard, by the player's word.
    pub fn part(self) -> Option<Part> {
        self.played()
            .map(|played| Part::of(played, self.duration()))
    }
}

fn span(millis: u32) -> Option<Span> {
    (millis != NOT_STATED).then(|| Span::from_millis(i64::from(millis)))
}

/// A play that is over: only the next one of the session tells how much of it was heard.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Settled {
    /// Its track.
    pub track: TrackId,
    /// When it started.
    pub at: EventTime,
    /// From its start to the next play's.
    pub gap: Span,
    /// How much was heard.
    pub part: Part,
    /// Who says so.
    pub witness: Witness,
}

/// What it rests on that a track was heard for so long.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Witness {
    /// The player's own figure.
    Player,
    /// The gap to the next play.
    Gap,
}
