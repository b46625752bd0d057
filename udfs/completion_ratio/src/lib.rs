/*
[dependencies]
segue-listen = { path = "{{ SEGUE_HOME }}/engine/listen" }
*/
//! `completion_ratio` as an Arroyo function: the share of a track that was heard.
//!
//! This file is the whole of what Arroyo is given; it may not know more than one row, and it
//! computes nothing itself: the formula is `segue_listen::completion`.

// `#[udf]` adds a public `__run` without a doc.
#![allow(missing_docs)]

use arroyo_udf_plugin::udf;
use segue_listen::completion::{ratio, Heard};
use segue_listen::{EventTime, Span};

/// The completion ratio of one play, in [0, 1]; all arguments in milliseconds.
///
/// NULL where the duration is unknown or not positive, or where there is neither a next play of the
/// same session nor the player's own figure (`played_ms`). Defined for every input.
#[udf]
pub fn completion_ratio(
    started_at_ms: i64,
    next_started_at_ms: Option<i64>,
    played_ms: Option<i64>,
    duration_ms: Option<i64>,
) -> Option<f64> {
    ratio(Heard {
        at: EventTime::from_millis(started_at_ms),
        next: next_started_at_ms.map(EventTime::from_millis),
        played: played_ms.map(Span::from_millis),
        duration: duration_ms.map(Span::from_millis),
    })
    .map(|ratio| f64::from(ratio.value()))
}
