//! How a lane is set.

use std::time::Duration;

use segue_listen::Span;

/// How a lane judges and cuts.
#[derive(Clone, Copy, Debug)]
pub struct LaneSettings {
    /// How far behind the newest a record may come and still be on time.
    pub disorder: Span,
    /// How much later still it is let in.
    pub lateness: Span,
    /// The grid on which event time moves. Coarser is cheaper; a session's final goes out up to one
    /// tick (of event time) after it is due.
    pub tick: Span,
    /// A batch is handed over when it has so many results, or when the source has no more for now.
    pub batch: usize,
    /// How long to wait for the source's next records.
    pub patience: Duration,
    /// Whether records are held until nothing earlier can come (disorder and lateness behind the
    /// newest), and absorbed in the order of their time.
    pub in_order: bool,
    /// After so long without a record, by the machine's clock, the stage is told that it is idle.
    /// Changes when a result is told, never which stands. Without effect where order is kept.
    pub idle_after: Option<Duration>,
    /// What the end of the log means.
    pub at_end: AtEnd,
}

/// What the end of a log means to a lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AtEnd {
    /// Nothing will ever follow: time moves to its end and all sessions close.
    Close,
    /// What is there has been read, more may come another time: sessions stay open.
    Leave,
}

impl Default for LaneSettings {
    fn default() -> Self {
        Self {
            disorder: Span::from_seconds(60),
            lateness: Span::from_minutes(60),
            tick: Span::from_minutes(1),
            batch: 512,
            patience: Duration::from_millis(50),
            in_order: false,
            idle_after: None,
            at_end: AtEnd::Close,
        }
    }
}
