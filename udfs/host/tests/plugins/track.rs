//! `track_half` against `segue_listen::TrackKey`.

use arrow::array::{Array, Int64Array};
use proptest::prelude::*;
use segue_listen::TrackKey;

use crate::{numbers, plugin, texts};

/// MusicBrainz id, artist, title.
type Names<'a> = (Option<&'a str>, Option<&'a str>, Option<&'a str>);

fn half(rows: &[Names<'_>], half: Option<i64>) -> Vec<Option<i64>> {
    let columns = [
        texts(rows.iter().map(|row| row.0)),
        texts(rows.iter().map(|row| row.1)),
        texts(rows.iter().map(|row| row.2)),
        numbers(rows.iter().map(|_| half)),
    ];
    let halves = plugin("track_half").call(&columns).unwrap();
    let halves = halves.as_any().downcast_ref::<Int64Array>().unwrap();
    halves.iter().collect()
}

/// The key as `listening_sessions` puts it together again.
fn keys(rows: &[Names<'_>]) -> Vec<Option<TrackKey>> {
    let joined = |(upper, lower): (Option<i64>, Option<i64>)| {
        Some(TrackKey(
            (u128::from(upper? as u64) << 64) | u128::from(lower? as u64),
        ))
    };
    half(rows, Some(1))
        .into_iter()
        .zip(half(rows, Some(0)))
        .map(joined)
        .collect()
}

#[test]
fn the_halves_make_the_engines_key() {
    let mbid = "f1b1cf71-bd35-4e99-8624-24a6e15f133a";
    let rows = [
        (Some(mbid), Some("x"), None),
        (Some("no id"), Some("Radiohead"), Some("Karma Police")),
        (None, Some("Sigur Rós"), None),
        (None, Some(""), Some("")),
        (None, None, None),
        (Some("no id"), None, None),
    ];
    let expected = [
        TrackKey::from_mbid(mbid),
        Some(TrackKey::from_names("Radiohead", "Karma Police")),
        Some(TrackKey::from_names("Sigur Rós", "")),
        None,
        None,
        None,
    ];
    assert_eq!(keys(&rows), expected);
}

#[test]
fn there_is_no_third_half() {
    let row = [(None, Some("a"), Some("b"))];
    for other in [Some(-1), Some(2), Some(i64::MIN), None] {
        assert_eq!(half(&row, other), [None]);
    }
    assert_eq!(half(&[], Some(1)), []);
}

proptest! {
    #[test]
    fn any_text_has_the_engines_key(
        rows in prop::collection::vec((any::<Option<String>>(), ".{0,12}", ".{0,12}"), 1..30),
    ) {
        let rows: Vec<Names<'_>> = rows
            .iter()
            .map(|(mbid, artist, title)| {
                (mbid.as_deref(), Some(artist.as_str()), Some(title.as_str()))
            })
            .collect();
        for (row, key) in rows.iter().zip(keys(&rows)) {
            let (artist, title) = (row.1.unwrap(), row.2.unwrap());
            let nameless = artist.is_empty() && title.is_empty();
            let named = TrackKey::of(row.0, artist, title);
            let known = !nameless || row.0.and_then(TrackKey::from_mbid).is_some();
            prop_assert_eq!(key, known.then_some(named));
        }
    }
}
