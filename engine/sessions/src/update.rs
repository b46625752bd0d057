//! What the stage tells those downstream.

use segue_catalog::content::TrackContent;
use segue_listen::session::{Placement, Session};
use segue_listen::{EventTime, Ratio, Span, TrackId, UserId};

/// One thing that happened, in the order of the lane's log.
#[derive(Debug)]
pub enum Update {
    /// A listener is seen for the first time.
    Listener {
        /// The address that later updates use.
        user: UserId,
        /// The log's name for the listener.
        name: Box<str>,
    },
    /// A track is seen for the first time, by any lane.
    Track(Box<TrackContent>),
    /// A play: the running update of a session.
    Play(PlayUpdate),
    /// A late play changed what an earlier one's ratio is.
    Correction {
        /// The listener.
        user: UserId,
        /// The play whose ratio changes.
        track: TrackId,
        /// When that play started.
        at: EventTime,
        /// The ratio that now holds.
        ratio: Option<Ratio>,
    },
    /// A session is over: its final.
    Closed {
        /// The listener.
        user: UserId,
        /// The session.
        session: Session,
    },
    /// A final that no longer holds: a late play re-opened the session.
    Retracted {
        /// The listener.
        user: UserId,
        /// The session as its final had it.
        session: Session,
    },
}

/// One play and what it did.
#[derive(Clone, Copy, Debug)]
pub struct PlayUpdate {
    /// The listener.
    pub user: UserId,
    /// The track.
    pub track: TrackId,
    /// When it started.
    pub at: EventTime,
    /// Its own ratio, where the player stated it.
    pub ratio: Option<Ratio>,
    /// What it did to the listener's sessions.
    pub placement: Placement,
    /// The session it is in, as far as it goes.
    pub session: Session,
    /// Whether it is the listener's newest play. One that came out of order is counted and corrects
    /// what it must, but nobody is asked to have predicted it.
    pub newest: bool,
    /// The play before it in the same session, which is over now.
    pub previous: Option<Previous>,
}

/// The play before: only now is it known how much of it was heard.
#[derive(Clone, Copy, Debug)]
pub struct Previous {
    /// Its track.
    pub track: TrackId,
    /// When it started.
    pub at: EventTime,
    /// From its start to the next play's.
    pub gap: Span,
    /// Its completion ratio, where its length is known.
    pub ratio: Option<Ratio>,
    /// What the ratio rests on.
    pub basis: Basis,
}

/// What a completion ratio rests on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Basis {
    /// The player's own figure.
    Player,
    /// The gap to the next play, and a length that the event stated.
    StatedLength,
    /// The gap to the next play, and a length estimated from everybody's gaps.
    EstimatedLength,
    /// Nothing: the track's length is not known.
    Unknown,
}
