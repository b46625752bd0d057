//! `listening_sessions` against the rules the lanes run: `segue_listen::Sessions` (incremental, in
//! order of arrival), `segue_listen::completion::ratio`, `segue_listen::History` for the order of
//! simultaneous plays and `segue_listen::wire::decode` for which rows count at all.

use std::collections::{BTreeMap, HashSet};

use arrow::array::{Array, StringArray};
use proptest::prelude::*;
use segue_listen::completion::{Heard, ratio};
use segue_listen::wire::{self, Format};
use segue_listen::{EventTime, History, Play, SessionGap, Sessions, Span, TrackId, TrackKey};
use serde_json::Value;

use crate::{numbers, plugin};

const MINUTE: i64 = 60_000;

/// One row of the group. The track is a small number: the lower half of its key.
#[derive(Clone, Debug)]
struct Row {
    at: Option<i64>,
    duration: Option<i64>,
    played: Option<i64>,
    track: Option<i64>,
}

fn row(minute: i64, track: i64, duration_minutes: i64) -> Row {
    Row {
        at: Some(minute * MINUTE),
        duration: Some(duration_minutes * MINUTE),
        played: None,
        track: Some(track),
    }
}

fn called(rows: &[Row], gap: Option<i64>, keep: Option<i64>) -> Value {
    let columns = [
        numbers(rows.iter().map(|row| row.at)),
        numbers(rows.iter().map(|row| row.duration)),
        numbers(rows.iter().map(|row| row.played)),
        numbers(rows.iter().map(|row| row.track.map(|_| 0))),
        numbers(rows.iter().map(|row| row.track)),
        numbers(rows.iter().map(|_| gap)),
        numbers(rows.iter().map(|_| keep)),
    ];
    let texts = plugin("listening_sessions").call(&columns).unwrap();
    let texts = texts.as_any().downcast_ref::<StringArray>().unwrap();
    // Arroyo asserts that an aggregate gives one row.
    assert_eq!(texts.len(), 1);
    serde_json::from_str(texts.value(0)).unwrap()
}

/// What the engine would make of a row, were it a record.
fn accepted(row: &Row) -> Option<(EventTime, TrackKey, Option<Span>, Option<Span>)> {
    let track = TrackKey(row.track? as u64 as u128);
    let record = serde_json::json!({
        "v": wire::VERSION, "user": "u", "artist": "a", "title": "t",
        "at_ms": row.at, "duration_ms": row.duration, "played_ms": row.played,
    });
    match wire::decode(record.to_string().as_bytes(), Format::Json).ok()? {
        wire::Decoded::Listen(decoded) => {
            let listen = decoded.listen();
            Some((listen.at, track, listen.duration, listen.played))
        }
        wire::Decoded::Heartbeat(_) => None,
    }
}

/// The sessions as the lanes find them, play by play in order of arrival: first, last, plays.
fn incremental(rows: &[Row], gap: SessionGap) -> Vec<(i64, i64, u64)> {
    let mut seen = HashSet::new();
    let mut sessions = Sessions::default();
    for (at, track, ..) in rows.iter().filter_map(accepted) {
        if seen.insert((at, track)) {
            sessions.place(at, gap);
        }
    }
    sessions
        .iter()
        .map(|s| (s.first.millis(), s.last.millis(), u64::from(s.plays)))
        .collect()
}

fn bounds(sessions: &Value) -> Vec<(i64, i64, u64)> {
    let each = sessions.as_array().unwrap().iter();
    each.map(|session| {
        let number = |key: &str| session[key].as_i64().unwrap();
        (
            number("first_ms"),
            number("last_ms"),
            number("plays") as u64,
        )
    })
    .collect()
}

/// Every play written out: start, track, ratio.
fn heard(sessions: &Value) -> Vec<Vec<(i64, String, Option<f64>)>> {
    let each = sessions.as_array().unwrap().iter();
    each.map(|session| {
        let plays = session["heard"].as_array().unwrap().iter();
        plays
            .map(|play| {
                (
                    play["at_ms"].as_i64().unwrap(),
                    play["track"].as_str().unwrap().to_owned(),
                    play["ratio"].as_f64(),
                )
            })
            .collect()
    })
    .collect()
}

fn ratios(sessions: &Value) -> Vec<Vec<Option<f64>>> {
    let plays = heard(sessions).into_iter();
    plays
        .map(|plays| plays.into_iter().map(|play| play.2).collect())
        .collect()
}

#[test]
fn sessions_and_ratios_of_one_listener() {
    // Out of order, with pauses of exactly 20 minutes, which end no session.
    let rows = [row(41, 4, 4), row(0, 1, 4), row(21, 3, 4), row(1, 2, 40)];
    let sessions = called(&rows, None, None);
    assert_eq!(bounds(&sessions), [(0, 41 * MINUTE, 4)]);
    assert_eq!(
        ratios(&sessions),
        [[Some(0.25), Some(0.5), Some(1.0), None]]
    );

    let sessions = called(&rows, Some(20 * MINUTE - 1), None);
    assert_eq!(
        ratios(&sessions),
        [vec![Some(0.25), None], vec![None], vec![None]],
        "the last play of a session has no ratio, not one reaching into the next session"
    );
}

#[test]
fn nothing_in_nothing_out() {
    assert_eq!(called(&[], None, None), serde_json::json!([]));
    let nothing = Row {
        at: None,
        duration: None,
        played: None,
        track: None,
    };
    let rows = [nothing.clone(), nothing];
    assert_eq!(called(&rows, None, None), serde_json::json!([]));
}

#[test]
fn only_the_newest_plays_are_written_out_of_whole_sessions() {
    let rows: Vec<Row> = [0, 1, 2, 100, 101].map(|minute| row(minute, 1, 1)).into();
    let starts = |keep| -> Vec<Vec<i64>> {
        let sessions = heard(&called(&rows, None, Some(keep)));
        let minutes = |play: &(i64, _, _)| play.0 / MINUTE;
        sessions
            .iter()
            .map(|plays| plays.iter().map(minutes).collect())
            .collect()
    };
    assert_eq!(starts(i64::MAX), [vec![0, 1, 2], vec![100, 101]]);
    assert_eq!(starts(3), [vec![2], vec![100, 101]]);
    assert_eq!(starts(2), [vec![100, 101]]);
    assert_eq!(starts(0), Vec::<Vec<i64>>::new());
    assert_eq!(starts(i64::MIN), Vec::<Vec<i64>>::new());
    let whole = bounds(&called(&rows, None, Some(3)));
    assert_eq!(whole[0], (0, 2 * MINUTE, 3));
}

#[test]
fn a_repeated_row_counts_once_and_the_one_that_says_most_stands() {
    let mut known = row(0, 1, 4);
    known.played = Some(MINUTE);
    let unknown = Row {
        duration: None,
        ..row(0, 1, 4)
    };
    for rows in [
        [known.clone(), unknown.clone(), row(1, 2, 4)],
        [row(1, 2, 4), unknown, known],
    ] {
        let sessions = called(&rows, None, None);
        assert_eq!(bounds(&sessions), [(0, MINUTE, 2)]);
        assert_eq!(ratios(&sessions), [[Some(0.25), None]]);
    }
}

/// Columns of unequal length cannot come from Arroyo; a missing cell is a NULL all the same.
#[test]
fn short_columns_are_null_where_they_end() {
    let at = numbers([Some(0), Some(MINUTE), Some(2 * MINUTE)]);
    let tracks = numbers([Some(0), Some(0)]);
    let none = numbers([]);
    let columns = [
        at,
        none.clone(),
        none.clone(),
        tracks.clone(),
        tracks,
        none.clone(),
        none,
    ];
    let texts = plugin("listening_sessions").call(&columns).unwrap();
    let texts = texts.as_any().downcast_ref::<StringArray>().unwrap();
    let sessions: Value = serde_json::from_str(texts.value(0)).unwrap();
    assert_eq!(bounds(&sessions), [(0, MINUTE, 2)]);
}

/// Rows close enough together for ties, repeats, exact gaps and merges, with NULLs and broken
/// values among them.
fn rows(most: usize) -> impl Strategy<Value = Vec<Row>> {
    let at = prop_oneof![
        8 => (0i64..200).prop_map(|step| Some(step * 5 * MINUTE)),
        1 => crate::completion::any_millis().prop_map(Some),
        1 => Just(None),
    ];
    let length = || {
        prop_oneof![
            6 => prop::option::of(0i64..20 * MINUTE),
            1 => crate::completion::any_millis().prop_map(Some),
        ]
    };
    let track = prop_oneof![9 => (0i64..8).prop_map(Some), 1 => Just(None)];
    let row = (at, length(), length(), track).prop_map(|(at, duration, played, track)| Row {
        at,
        duration,
        played,
        track,
    });
    prop::collection::vec(row, 0..most)
}

fn gaps() -> impl Strategy<Value = Option<i64>> {
    prop_oneof![
        Just(None),
        Just(Some(20 * MINUTE)),
        Just(Some(5 * MINUTE)),
        any::<i64>().prop_map(Some),
    ]
}

fn session_gap(gap: Option<i64>) -> SessionGap {
    gap.map_or_else(SessionGap::default, |millis| {
        SessionGap::new(Span::from_millis(millis))
    })
}

proptest! {
    #[test]
    fn sessions_are_the_lanes_and_ratios_the_engines(rows in rows(120), gap in gaps()) {
        let sessions = called(&rows, gap, None);
        prop_assert_eq!(bounds(&sessions), incremental(&rows, session_gap(gap)));

        // Of a repeated play, what the row that says most says.
        let mut known = BTreeMap::new();
        for (at, track, duration, played) in rows.iter().filter_map(accepted) {
            let said = known.entry((at.millis(), track.to_string())).or_insert((played, duration));
            *said = (played, duration).max(*said);
        }
        for (session, plays) in bounds(&sessions).iter().zip(heard(&sessions)) {
            prop_assert_eq!(session.2, plays.len() as u64);
            for (index, (at, track, written)) in plays.iter().enumerate() {
                let (played, duration) = known.remove(&(*at, track.clone())).unwrap();
                let next = plays.get(index + 1).map(|next| EventTime::from_millis(next.0));
                let at = EventTime::from_millis(*at);
                let expected = ratio(Heard { at, next, played, duration });
                prop_assert_eq!(written.map(|r| r as f32), expected.map(|r| r.value()));
            }
        }
        prop_assert!(known.is_empty(), "plays in no session: {:?}", known);
    }

    #[test]
    fn the_order_of_arrival_changes_nothing(
        log in rows(60).prop_shuffle(), turn in any::<prop::sample::Index>(), gap in gaps(),
    ) {
        let mut other = log.clone();
        other.rotate_left(turn.index(log.len() + 1).min(log.len()));
        other.reverse();
        prop_assert_eq!(called(&log, gap, None), called(&other, gap, None));
    }

    /// With `keep_plays` = 50 the text carries what a recommender's history would hold.
    #[test]
    fn the_newest_plays_are_the_engines_history(rows in rows(150)) {
        let keep = segue_listen::history::HISTORY_LEN as i64;
        let written: Vec<(i64, String)> = heard(&called(&rows, None, Some(keep)))
            .into_iter()
            .flatten()
            .map(|(at, track, _)| (at, track))
            .collect();
        let mut history = History::default();
        for (at, track, ..) in rows.iter().filter_map(accepted) {
            history.insert(Play::new(at, TrackId(track.0 as u32), track));
        }
        let expected: Vec<(i64, String)> = history
            .iter()
            .map(|play| {
                (play.at().millis(), TrackKey(u128::from(play.track().0)).to_string())
            })
            .collect();
        prop_assert_eq!(written, expected);
    }
}
