//! The process ends after any object operation, or fails on it, again and again.

use std::sync::Arc;

use object_store::memory::InMemory;
use proptest::prelude::*;
use segue_flow::Remedy;
use segue_flow::checkpoint::{CheckpointError, CheckpointStore};

use crate::contract::{newest, take, try_take};
use crate::faults::{Last, Stopping};

/// More operations than a checkpoint and its pruning take.
const MANY: u64 = 40;

fn last() -> impl Strategy<Value = Last> {
    prop_oneof![Just(Last::Fails), Just(Last::Unanswered)]
}

fn take_and_prune(store: &mut CheckpointStore, epoch: u64) -> Result<(), CheckpointError> {
    try_take(store, epoch)?;
    store.prune().map(|_| ())
}

proptest! {
    #[test]
    fn the_newest_good_one_is_the_old_or_the_new_one_whole(
        lives in prop::collection::vec((0..MANY, last()), 1..12),
    ) {
        let objects = Arc::new(InMemory::new());
        let mut standing = None;
        for (epoch, (operations, last)) in (1..).zip(lives) {
            let stopping = Arc::new(Stopping::after(operations, last, objects.clone()));
            let mut store = CheckpointStore::over(stopping.clone(), "memory", 2).unwrap();
            let taken = take_and_prune(&mut store, epoch);
            drop(store);
            if let Err(error) = &taken {
                prop_assert!(stopping.has_stopped(), "{}", error);
                prop_assert_eq!(error.remedy(), Remedy::Retry);
            }
            // `newest` loads it and compares each part.
            let after = newest(&CheckpointStore::over(objects.clone(), "memory", 2).unwrap());
            prop_assert!(after == standing || after == Some(epoch));
            prop_assert!(taken.is_err() || after == Some(epoch));
            standing = after;
        }
        // Nothing is left of all that once one life goes well.
        let mut store = CheckpointStore::over(objects.clone(), "memory", 2).unwrap();
        for epoch in [101, 102] {
            take(&mut store, epoch);
        }
        store.prune().unwrap();
        prop_assert_eq!(store.list().unwrap().len(), 2);
        let held = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let held: Vec<_> = held.block_on(async {
            use futures_util::TryStreamExt;
            use object_store::ObjectStore;
            objects.list(None).try_collect().await.unwrap()
        });
        prop_assert_eq!(held.len(), 2 * 4);
    }

    #[test]
    fn a_store_that_fails_for_a_while_goes_on_where_it_was(
        operations in 0..MANY,
        last in last(),
    ) {
        let objects = Arc::new(InMemory::new());
        let mut store = CheckpointStore::over(objects.clone(), "memory", 2).unwrap();
        take(&mut store, 1);
        let failing = Arc::new(Stopping::after(operations, last, objects.clone()));
        let mut failing = CheckpointStore::over(failing, "memory", 2).unwrap();
        let first = take_and_prune(&mut failing, 2);
        prop_assert!(first.is_err() || newest(&store) == Some(2));
        prop_assert!([Some(1), Some(2)].contains(&newest(&store)));
        take(&mut store, 3);
        prop_assert_eq!(newest(&store), Some(3));
    }
}
