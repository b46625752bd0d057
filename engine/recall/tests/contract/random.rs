//! Any changes in any order: every kind holds what the oracle holds, and finds each of it.

use proptest::prelude::*;
use segue_listen::TrackId;
use segue_recall::Metric;

use crate::kinds::{KINDS, clustered, find, vector};

#[derive(Clone, Debug)]
enum Change {
    Upsert(u32, usize),
    Remove(u32),
    Publish,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => (0u32..150, 0usize..120).prop_map(|(track, row)| Change::Upsert(track, row)),
        3 => (0u32..150).prop_map(Change::Remove),
        1 => Just(Change::Publish),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_changes_leave_what_the_oracle_has(changes in prop::collection::vec(change(), 1..600)) {
        // Few rows for many tracks: there are twins.
        let rows = clustered(120, 41);
        let mut writers: Vec<_> = KINDS.iter().map(|(name, make)| (name, make(Metric::Cosine))).collect();
        for (epoch, change) in changes.iter().enumerate() {
            for (_, writer) in &mut writers {
                match change {
                    Change::Upsert(track, row) => {
                        writer.upsert(TrackId(*track), vector(&rows[*row])).unwrap();
                    }
                    Change::Remove(track) => writer.remove(TrackId(*track)),
                    Change::Publish => drop(writer.publish(epoch as u64)),
                }
            }
        }
        let oracle = writers[0].1.publish(999);
        for (name, writer) in &mut writers[1..] {
            let index = writer.publish(999);
            prop_assert_eq!(index.len(), oracle.len(), "{}", name);
            prop_assert_eq!(index.version(), oracle.version(), "{}", name);
            for track in (0..150).map(TrackId) {
                let (own, true_row) = (index.row(track), oracle.row(track));
                prop_assert_eq!(own.is_some(), true_row.is_some(), "{} {:?}", name, track);
                let Some(row) = true_row else { continue };
                let hits = find(&*index, &row, 1, &|other| other == track);
                prop_assert_eq!(hits.len(), 1, "{} {:?}", name, track);
                prop_assert!((hits[0].score - 1.0).abs() < 1e-3, "{} {:?}", name, hits);
            }
        }
    }
}
