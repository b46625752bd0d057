//! Sessions: plays of one listener with no pause longer than the session gap.
//!
//! [`Sessions`] is the plain rule, with no runtime in it: `place` a play, `close_for` a watermark,
//! `forget_before` what no late play can reach any more. The lanes and the Arroyo plugin drive the
//! same object.

use std::ops::Range;

use crate::time::{EventTime, Span};
use crate::watermark::Watermark;

/// The longest pause inside a session. A pause of exactly the gap is the same session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionGap(Span);

impl SessionGap {
    /// A gap of `span`; negative counts as 0 (then only simultaneous plays share a session).
    pub fn new(span: Span) -> Self {
        Self(span.max(Span::ZERO))
    }

    /// The gap as a span of time.
    pub const fn span(self) -> Span {
        self.0
    }

    /// Whether plays at these two instants, with none between, are of one session.
    pub const fn joins(self, one: EventTime, other: EventTime) -> bool {
        let apart = other.since(one).millis();
        -self.0.millis() <= apart && apart <= self.0.millis()
    }
}

impl Default for SessionGap {
    /// 20 minutes, the paper's (arXiv 2606.00125, data preparation).
    fn default() -> Self {
        Self(Span::from_minutes(20))
    }
}

/// One session as far as it is known.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Session {
    /// Start of its first play.
    pub first: EventTime,
    /// Start of its last play.
    pub last: EventTime,
    /// How many plays it has.
    pub plays: u32,
    /// Whether the final session went out already. A late play may still re-open it.
    pub closed: bool,
}

impl Session {
    /// From when on the watermark says that no on-time play can extend it: one tick past the gap.
    pub const fn due(&self, gap: SessionGap) -> EventTime {
        self.last.plus(gap.0).plus(Span::from_millis(1))
    }

    fn covers(&self, at: EventTime, gap: SessionGap) -> bool {
        at >= self.first.minus(gap.0) && at <= self.last.plus(gap.0)
    }
}

/// What one play did to its listener's sessions.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// It began a session.
    Opened,
    /// It joined one that was open.
    Extended,
    /// It closed the gap between two, which are one now.
    Merged,
    /// It joined one (or two) whose final had gone out: those finals are to be retracted.
    Reopened,
}

/// The outcome of [`Sessions::place`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placed {
    /// What happened.
    pub placement: Placement,
    /// The session that the play is in, with the play counted.
    pub session: Session,
    /// Finals that had gone out and no longer hold.
    pub retracted: [Option<Session>; 2],
}

/// One listener's sessions that a play could still change: nearly always one.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    newest: Option<Session>,
    /// Older ones, oldest first; empty (and unallocated) unless plays come out of order.
    earlier: Vec<Session>,
}

impl Sessions {
    /// Puts a play that starts at `at` where it belongs.
    #[inline]
    pub fn place(&mut self, at: EventTime, gap: SessionGap) -> Placed {
        if let Some(session) = self.extend(at, gap) {
            return Placed {
                placement: Placement::Extended,
                session,
                retracted: [None, None],
            };
        }
        if self
            .newest
            .is_none_or(|newest| at > newest.last.plus(gap.0))
        {
            let session = Session {
                first: at,
                last: at,
                plays: 1,
                closed: false,
            };
            // Sessions before the newest are before it in time too: nothing else is in reach.
            self.earlier.extend(self.newest.replace(session));
            return Placed {
                placement: Placement::Opened,
                session,
                retracted: [None, None],
            };
        }
        self.place_anywhere(at, gap)
    }

    /// Puts a play that starts at `at` at the end of the newest session, if that is open and near
    /// enough: what nearly every play does. `None`, and nothing changed, if not.
    #[inline]
    pub fn extend(&mut self, at: EventTime, gap: SessionGap) -> Option<Session> {
        let newest = self.newest.as_mut()?;
        if newest.closed || at < newest.last || at > newest.last.plus(gap.0) {
            return None;
        }
        newest.last = at;
        newest.plays = newest.plays.saturating_add(1);
        Some(*newest)
    }

    fn place_anywhere(&mut self, at: EventTime, gap: SessionGap) -> Placed {
        let mut all: Vec<Session> = std::mem::take(&mut self.earlier);
        all.extend(self.newest.take());
        let joined: Range<usize> = {
            let begin = all.partition_point(|s| s.last.plus(gap.0) < at);
            let len = all[begin..]
                .iter()
                .take_while(|s| s.covers(at, gap))
                .count();
            begin..begin + len
        };
        let mut retracted = [None, None];
        let parts = &all[joined.clone()];
        for (slot, part) in retracted
            .iter_mut()
            .zip(parts.iter().filter(|part| part.closed))
        {
            *slot = Some(*part);
        }
        let placement = match (parts.len(), retracted[0]) {
            (0, _) => Placement::Opened,
            (_, Some(_)) => Placement::Reopened,
            (1, None) => Placement::Extended,
            (_, None) => Placement::Merged,
        };
        let mut session = Session {
            first: at,
            last: at,
            plays: 1,
            closed: false,
        };
        for part in parts {
            session.first = session.first.min(part.first);
            session.last = session.last.max(part.last);
            session.plays = session.plays.saturating_add(part.plays);
        }
        all.splice(joined, [session]);
        self.newest = all.pop();
        self.earlier = all;
        Placed {
            placement,
            session,
            retracted,
        }
    }

    /// Closes what the watermark has passed, telling `closed` of each, oldest first.
    pub fn close_for(&mut self, mark: Watermark, gap: SessionGap, mut closed: impl FnMut(Session)) {
        for session in self.earlier.iter_mut().chain(self.newest.as_mut()) {
            if !session.closed && session.due(gap) <= mark.time() {
                session.closed = true;
                closed(*session);
            }
        }
    }

    /// Closes what is open whatever the time, telling `closed` of each, oldest first: a play that
    /// comes after all opens its session again.
    pub fn close_all(&mut self, mut closed: impl FnMut(Session)) {
        for session in self.earlier.iter_mut().chain(self.newest.as_mut()) {
            if !session.closed {
                session.closed = true;
                closed(*session);
            }
        }
    }

    /// Drops closed sessions that no play at or after `horizon` (the watermark less the allowed
    /// lateness) can reach.
    pub fn forget_before(&mut self, horizon: EventTime, gap: SessionGap) {
        let gone = |s: &Session| s.closed && s.due(gap) <= horizon;
        self.earlier.retain(|session| !gone(session));
        if self.newest.as_ref().is_some_and(gone) {
            self.newest = self.earlier.pop();
        }
    }

    /// When the next open session is due to close; `None` if none is open.
    pub fn next_due(&self, gap: SessionGap) -> Option<EventTime> {
        self.iter().filter(|s| !s.closed).map(|s| s.due(gap)).min()
    }

    /// The sessions still held, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Session> {
        self.earlier.iter().chain(self.newest.as_ref())
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.newest.is_none()
    }

    /// Takes sessions back from a checkpoint, oldest first.
    pub fn restored(mut all: Vec<Session>) -> Self {
        all.sort_by_key(|session| session.first);
        let newest = all.pop();
        Self {
            newest,
            earlier: all,
        }
    }
}

/// Splits start times in ascending order into sessions: one index range each.
pub fn split(starts: &[EventTime], gap: SessionGap) -> Vec<Range<usize>> {
    let mut sessions = Vec::new();
    let mut begin = 0;
    for (index, pair) in starts.windows(2).enumerate() {
        if !gap.joins(pair[0], pair[1]) {
            sessions.push(begin..index + 1);
            begin = index + 1;
        }
    }
    if !starts.is_empty() {
        sessions.push(begin..starts.len());
    }
    sessions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watermark::WatermarkClock;
    use proptest::prelude::*;

    const GAP: SessionGap = SessionGap(Span::from_minutes(20));

    fn at(minutes: i64) -> EventTime {
        EventTime::from_millis(minutes * 60_000)
    }

    fn watermark(time: EventTime) -> Watermark {
        let mut clock = WatermarkClock::new(Span::ZERO, Span::ZERO);
        clock.observe(time);
        clock.watermark().unwrap()
    }

    fn bounds(sessions: &Sessions) -> Vec<(EventTime, EventTime, u32)> {
        sessions
            .iter()
            .map(|s| (s.first, s.last, s.plays))
            .collect()
    }

    #[test]
    fn a_pause_of_exactly_the_gap_is_the_same_session() {
        let mut sessions = Sessions::default();
        assert_eq!(sessions.place(at(0), GAP).placement, Placement::Opened);
        assert_eq!(sessions.place(at(20), GAP).placement, Placement::Extended);
        let past = at(40).plus(Span::from_millis(1));
        assert_eq!(sessions.place(past, GAP).placement, Placement::Opened);
    }

    #[test]
    fn a_late_play_merges_and_a_later_one_reopens() {
        let mut sessions = Sessions::default();
        sessions.place(at(0), GAP);
        sessions.place(at(40), GAP);
        let merged = sessions.place(at(20), GAP);
        assert_eq!(merged.placement, Placement::Merged);
        assert_eq!(bounds(&sessions), [(at(0), at(40), 3)]);

        let mut closed = Vec::new();
        sessions.close_for(watermark(at(60)), GAP, |s| closed.push(s));
        assert!(closed.is_empty(), "a play at 60 min could still extend it");
        sessions.close_for(watermark(at(61)), GAP, |s| closed.push(s));
        assert_eq!(closed.len(), 1);
        let reopened = sessions.place(at(50), GAP);
        assert_eq!(reopened.placement, Placement::Reopened);
        assert_eq!(reopened.retracted[0], Some(closed[0]));
        assert_eq!(reopened.session.plays, 4);
        assert!(!reopened.session.closed);
    }

    #[test]
    fn what_nothing_can_reach_is_forgotten() {
        let mut sessions = Sessions::default();
        sessions.place(at(0), GAP);
        sessions.forget_before(at(1_000), GAP);
        assert!(!sessions.is_empty(), "not before it was closed");
        sessions.close_for(Watermark::END, GAP, |_| {});
        sessions.forget_before(at(20), GAP);
        assert!(!sessions.is_empty());
        sessions.forget_before(at(21), GAP);
        assert!(sessions.is_empty());
    }

    /// Start times in which ties, exact gaps and long pauses are all likely.
    fn starts() -> impl Strategy<Value = Vec<EventTime>> {
        prop::collection::vec(
            (0i64..40).prop_map(|ten_minutes| at(ten_minutes * 10)),
            1..60,
        )
    }

    proptest! {
        #[test]
        fn they_partition_the_plays_and_no_gap_inside_exceeds_the_gap(mut log in starts()) {
            log.sort();
            let ranges = split(&log, GAP);
            let mut covered = 0;
            for range in &ranges {
                prop_assert_eq!(range.start, covered);
                covered = range.end;
                for pair in log[range.clone()].windows(2) {
                    prop_assert!(pair[1].since(pair[0]) <= GAP.span());
                }
                if range.end < log.len() {
                    prop_assert!(log[range.end].since(log[range.end - 1]) > GAP.span());
                }
            }
            prop_assert_eq!(covered, log.len());
        }

        #[test]
        fn any_order_of_arrival_gives_the_sorted_result(log in starts(), shuffle in any::<u64>()) {
            let mut sorted = log.clone();
            sorted.sort();
            let expected: Vec<_> = split(&sorted, GAP)
                .into_iter()
                .map(|r| (sorted[r.start], sorted[r.end - 1], r.len() as u32))
                .collect();
            let mut arrivals = log;
            let len = arrivals.len();
            for i in 0..len {
                let j = (shuffle.rotate_left(i as u32) as usize ^ i.wrapping_mul(31)) % len;
                arrivals.swap(i, j);
            }
            let mut sessions = Sessions::default();
            for start in arrivals {
                sessions.place(start, GAP);
            }
            prop_assert_eq!(bounds(&sessions), expected);
        }

        #[test]
        fn finals_less_retractions_are_the_sessions(log in starts(), marks in starts()) {
            // Close at arbitrary watermarks in between, with nothing forgotten: every final that
            // stands at the end is a session of the sorted log, each exactly once.
            let mut standing: Vec<(EventTime, EventTime, u32)> = Vec::new();
            let mut sessions = Sessions::default();
            let mut marks = marks.into_iter();
            for start in &log {
                let placed = sessions.place(*start, GAP);
                for gone in placed.retracted.into_iter().flatten() {
                    let key = (gone.first, gone.last, gone.plays);
                    let index = standing.iter().position(|s| *s == key);
                    prop_assert!(index.is_some(), "retracted what never went out");
                    standing.remove(index.unwrap());
                }
                if let Some(mark) = marks.next() {
                    sessions.close_for(watermark(mark), GAP, |s| {
                        standing.push((s.first, s.last, s.plays));
                    });
                }
            }
            sessions.close_for(Watermark::END, GAP, |s| standing.push((s.first, s.last, s.plays)));
            standing.sort();
            let mut sorted = log;
            sorted.sort();
            let expected: Vec<_> = split(&sorted, GAP)
                .into_iter()
                .map(|r| (sorted[r.start], sorted[r.end - 1], r.len() as u32))
                .collect();
            prop_assert_eq!(standing, expected);
        }
    }
}
