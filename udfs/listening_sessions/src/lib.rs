/*
[dependencies]
segue-listen = { path = "{{ SEGUE_HOME }}/engine/listen" }
*/
//! `listening_sessions` as an Arroyo aggregate: a listener's plays, split into sessions, with the
//! completion ratio of each play.
//!
//! Arroyo's own session window is not used: in catch-up it puts the first row of a later session
//! into the earlier one. Rows come in order of arrival, so they are put in event-time order here;
//! where a session ends and how much was heard is `segue_listen`'s to say. It may not know more than
//! the rows of one group, and keeps nothing between calls: state is Arroyo's.

// `#[udf]` adds a public `__run` without a doc.
#![allow(missing_docs)]

use std::cmp::Reverse;
use std::fmt::Write;

use arroyo_udf_plugin::udf;
use segue_listen::completion::{ratio, Heard};
use segue_listen::session::{split, SessionGap};
use segue_listen::{EventTime, Span, TrackKey};

/// A listener's sessions, oldest first, as JSON text:
///
/// `[{"first_ms":…,"last_ms":…,"plays":…,"heard":[{"at_ms":…,"track":"<uuid>","ratio":0.25},…]},…]`
///
/// One row per play; times in milliseconds; `track_upper` and `track_lower` from `track_half`. A
/// ratio is null where it is not known (the last play of a session, an unknown duration).
///
/// - A row that the engine's own decoder would refuse is passed over: no start or one outside
///   [1970, 2100), no track, a duration or time played outside [0, 24 h].
/// - A repeated row (same start, same track: delivery is at least once) counts once.
/// - `gap_ms`: the longest pause inside a session; the largest of the group, 20 minutes where all
///   are NULL.
/// - `keep_plays`: write out only so many of the newest plays (and no session without one of them;
///   a session's `first_ms`, `last_ms` and `plays` stay those of the whole); the largest of the
///   group, all where all are NULL.
///
/// The text does not depend on the order of the rows. Defined for every input, columns of unequal
/// length included (what is missing is NULL).
#[udf]
pub fn listening_sessions(
    at_ms: Vec<Option<i64>>,
    duration_ms: Vec<Option<i64>>,
    played_ms: Vec<Option<i64>>,
    track_upper: Vec<Option<i64>>,
    track_lower: Vec<Option<i64>>,
    gap_ms: Vec<Option<i64>>,
    keep_plays: Vec<Option<i64>>,
) -> String {
    let cell = |column: &[Option<i64>], row: usize| column.get(row).copied().flatten();
    let mut plays: Vec<Play> = (0..at_ms.len())
        .filter_map(|row| {
            Play::from_row(
                cell(&at_ms, row)?,
                cell(&duration_ms, row),
                cell(&played_ms, row),
                cell(&track_upper, row)?,
                cell(&track_lower, row)?,
            )
        })
        .collect();
    plays.sort_by_cached_key(Play::order);
    plays.dedup_by_key(|play| (play.at, play.track));

    let gap = match gap_ms.into_iter().flatten().max() {
        Some(millis) => SessionGap::new(Span::from_millis(millis)),
        None => SessionGap::default(),
    };
    let skipped = match keep_plays.into_iter().flatten().max() {
        Some(keep) => plays
            .len()
            .saturating_sub(usize::try_from(keep).unwrap_or(0)),
        None => 0,
    };
    sessions_as_json(&plays, gap, skipped)
}

/// No play lasts longer: the bound of `segue_listen::wire`, which the plugin's test holds it to.
const LONGEST_PLAY: Span = Span::from_minutes(24 * 60);

struct Play {
    at: EventTime,
    track: TrackKey,
    duration: Option<Span>,
    played: Option<Span>,
}

/// See [`Play::order`].
type Order = (
    EventTime,
    u32,
    TrackKey,
    Reverse<(Option<Span>, Option<Span>)>,
);

impl Play {
    /// The play of one row, unless the engine's decoder would refuse it.
    fn from_row(
        at: i64,
        duration: Option<i64>,
        played: Option<i64>,
        upper: i64,
        lower: i64,
    ) -> Option<Self> {
        let lasts = |millis: Option<i64>| match millis.map(Span::from_millis) {
            Some(span) if span < Span::ZERO || span > LONGEST_PLAY => Err(()),
            span => Ok(span),
        };
        Some(Self {
            at: EventTime::plausible(at).ok()?,
            track: TrackKey((u128::from(upper as u64) << 64) | u128::from(lower as u64)),
            duration: lasts(duration).ok()?,
            played: lasts(played).ok()?,
        })
    }

    /// By start; simultaneous plays as `segue_listen::history` orders them; of a repeated play the
    /// row that says most comes first.
    fn order(&self) -> Order {
        (
            self.at,
            self.track.digest() as u32,
            self.track,
            Reverse((self.played, self.duration)),
        )
    }
}

/// Writes the sessions of `plays` (in order), leaving out the first `skipped` plays. Every value is a
/// number or a UUID, so nothing needs escaping.
fn sessions_as_json(plays: &[Play], gap: SessionGap, skipped: usize) -> String {
    let starts: Vec<EventTime> = plays.iter().map(|play| play.at).collect();
    // About the length of one play's text.
    let mut text = String::with_capacity(2 + 100 * plays.len().saturating_sub(skipped));
    text.push('[');
    for range in split(&starts, gap) {
        let left_out = skipped.saturating_sub(range.start);
        let session = plays.get(range).unwrap_or_default();
        let (Some(first), Some(last)) = (session.first(), session.last()) else {
            continue;
        };
        if left_out >= session.len() {
            continue;
        }
        if text.len() > 1 {
            text.push(',');
        }
        // Writing to a String does not fail.
        let _ = write!(
            text,
            r#"{{"first_ms":{},"last_ms":{},"plays":{},"heard":["#,
            first.at.millis(),
            last.at.millis(),
            session.len()
        );
        for (index, play) in session.iter().enumerate().skip(left_out) {
            if index > left_out {
                text.push(',');
            }
            let heard = ratio(Heard {
                at: play.at,
                next: session.get(index + 1).map(|next| next.at),
                played: play.played,
                duration: play.duration,
            });
            let _ = write!(
                text,
                r#"{{"at_ms":{},"track":"{}","ratio":"#,
                play.at.millis(),
                play.track
            );
            let _ = match heard {
                Some(ratio) => write!(text, "{}}}", ratio.value()),
                None => write!(text, "null}}"),
            };
        }
        text.push_str("]}");
    }
    text.push(']');
    text
}
