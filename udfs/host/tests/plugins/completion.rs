//! `completion_ratio` against `segue_listen::completion::ratio`.

use arrow::array::{Array, Float64Array};
use proptest::prelude::*;
use segue_listen::completion::{Heard, ratio};
use segue_listen::{EventTime, Span};

use crate::{numbers, plugin};

/// Start, next start, time played, duration.
type Row = (Option<i64>, Option<i64>, Option<i64>, Option<i64>);

fn called(rows: &[Row]) -> Vec<Option<f64>> {
    let columns = [
        numbers(rows.iter().map(|row| row.0)),
        numbers(rows.iter().map(|row| row.1)),
        numbers(rows.iter().map(|row| row.2)),
        numbers(rows.iter().map(|row| row.3)),
    ];
    let ratios = plugin("completion_ratio").call(&columns).unwrap();
    let ratios = ratios.as_any().downcast_ref::<Float64Array>().unwrap();
    ratios.iter().collect()
}

fn expected(row: &Row) -> Option<f64> {
    ratio(Heard {
        at: EventTime::from_millis(row.0?),
        next: row.1.map(EventTime::from_millis),
        played: row.2.map(Span::from_millis),
        duration: row.3.map(Span::from_millis),
    })
    .map(|ratio| f64::from(ratio.value()))
}

/// Instants and spans as they come, with the ends of the type well represented.
pub fn any_millis() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => 0i64..10_000_000,
        1 => any::<i64>(),
        1 => prop::sample::select(vec![i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX]),
    ]
}

fn cell() -> impl Strategy<Value = Option<i64>> {
    prop::option::weighted(0.8, any_millis())
}

#[test]
fn the_table() {
    let rows: [(Row, Option<f64>); 8] = [
        ((Some(0), Some(60_000), None, Some(240_000)), Some(0.25)),
        ((Some(0), Some(999_000), None, Some(240_000)), Some(1.0)),
        ((Some(9), Some(8), None, Some(240_000)), Some(0.0)),
        ((Some(0), Some(1), Some(120_000), Some(240_000)), Some(0.5)),
        ((Some(0), None, None, Some(240_000)), None),
        ((Some(0), Some(60_000), None, None), None),
        ((Some(0), Some(60_000), None, Some(0)), None),
        ((None, Some(60_000), None, Some(240_000)), None),
    ];
    let (rows, ratios): (Vec<Row>, Vec<_>) = rows.into_iter().unzip();
    assert_eq!(called(&rows), ratios);
}

#[test]
fn an_empty_batch_is_an_empty_column() {
    assert_eq!(called(&[]), []);
}

proptest! {
    #[test]
    fn each_row_is_the_engines_ratio(
        rows in prop::collection::vec((cell(), cell(), cell(), cell()), 0..200),
    ) {
        let ratios = called(&rows);
        prop_assert_eq!(ratios.len(), rows.len());
        for (row, ratio) in rows.iter().zip(ratios) {
            prop_assert_eq!(ratio, expected(row), "{:?}", row);
        }
    }
}
