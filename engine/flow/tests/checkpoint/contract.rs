//! What every place has to hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use segue_flow::checkpoint::{
    CheckpointError, CheckpointStore, Manifest, ManifestBody, PartEntry, Position,
};
use segue_flow::{Epoch, Offset, Remedy};
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// A place for checkpoints, empty at first.
pub struct Place<'a> {
    /// A store of checkpoints in it. Of two, one may write at a time.
    pub open: &'a dyn Fn() -> CheckpointStore,
    /// The same objects, to look at and to damage.
    pub objects: Arc<dyn ObjectStore>,
    /// Before their paths.
    pub prefix: Path,
}

/// How many the stores keep.
pub const KEEP: usize = 3;

/// What is asked of a place.
pub type Clause<'a> = &'a dyn Fn(Place<'_>);

/// The whole contract. `anew` makes an empty place for a clause.
pub fn holds(anew: &dyn Fn(Clause<'_>)) {
    let clauses: [fn(Place<'_>); 9] = [
        what_was_sealed_comes_back,
        an_unsealed_draft_is_not_seen_and_is_removed_by_the_next,
        an_epoch_that_is_run_again_leaves_the_first_run_alone,
        a_damaged_checkpoint_is_skipped_and_its_part_named,
        where_all_are_damaged_nobody_begins_from_nothing,
        a_newer_manifest_is_refused_even_if_older_ones_are_there,
        pruning_keeps_so_many_whole_ones,
        two_writers_do_not_mix,
        what_is_not_ours_is_left_alone,
    ];
    for clause in clauses {
        anew(&clause);
    }
}

#[test]
fn memory_holds_the_contract() {
    holds(&|clause| {
        let objects = Arc::new(InMemory::new());
        clause(Place {
            open: &|| CheckpointStore::over(objects.clone(), "memory", KEEP).unwrap(),
            objects: objects.clone(),
            prefix: Path::default(),
        });
    });
}

pub fn body(epoch: u64) -> ManifestBody {
    ManifestBody {
        positions: vec![Position {
            topic: "listens".to_owned(),
            partition: 0,
            offset: Offset(epoch * 100),
        }],
        partitions: 1,
        formats: BTreeMap::from([("sessions".to_owned(), 1)]),
        fixed: BTreeMap::from([("sessions.gap".to_owned(), "20m".to_owned())]),
    }
}

/// The parts of `epoch`'s checkpoint: each epoch has others.
pub fn parts(epoch: u64) -> BTreeMap<String, Vec<u8>> {
    BTreeMap::from([
        ("directory".to_owned(), Vec::new()),
        ("lane-0".to_owned(), vec![epoch as u8; 1000]),
        ("lane-1".to_owned(), format!("state of {epoch}").into()),
    ])
}

pub fn try_take(store: &mut CheckpointStore, epoch: u64) -> Result<Manifest, CheckpointError> {
    let mut draft = store.begin(Epoch(epoch))?;
    for (name, bytes) in parts(epoch) {
        draft.part(&name, bytes)?;
    }
    draft.seal(body(epoch))
}

pub fn take(store: &mut CheckpointStore, epoch: u64) -> Manifest {
    try_take(store, epoch).unwrap()
}

pub fn newest(store: &CheckpointStore) -> Option<u64> {
    let manifest = store.newest_good().unwrap()?;
    assert_eq!(store.load(&manifest).unwrap(), parts(manifest.epoch.0));
    assert_eq!(manifest.body, body(manifest.epoch.0));
    Some(manifest.epoch.0)
}

impl Place<'_> {
    fn path(&self, number: u64, name: &str) -> Path {
        let folder = format!("checkpoint-{number:010}");
        self.prefix.clone().join(folder).join(name)
    }

    fn run<T>(&self, work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(work)
    }

    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let bytes = bytes.to_vec().into();
        self.run(self.objects.put(path, bytes)).unwrap();
    }

    pub fn paths(&self) -> Vec<String> {
        let listed = self.objects.list(Some(&self.prefix));
        let objects: Vec<_> = self.run(listed.try_collect()).unwrap();
        let mut paths: Vec<String> = objects
            .into_iter()
            .map(|object| object.location.to_string())
            .filter(|path| !path.ends_with("writer.lock"))
            .collect();
        paths.sort();
        paths
    }

    fn change(&self, number: u64, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.path(number, name);
        let mut bytes = self.run(async {
            let object = self.objects.get(&path).await.unwrap();
            object.bytes().await.unwrap().to_vec()
        });
        change(&mut bytes);
        self.put(&path, &bytes);
    }

    fn delete(&self, number: u64, name: &str) {
        let path = self.path(number, name);
        self.run(self.objects.delete(&path)).unwrap();
    }
}

fn what_was_sealed_comes_back(place: Place<'_>) {
    let mut store = (place.open)();
    assert!(store.list().unwrap().is_empty());
    assert_eq!(newest(&store), None);
    let first = take(&mut store, 5);
    let second = take(&mut store, 6);
    assert_eq!((first.number, second.number), (1, 2));
    assert_eq!(second.epoch, Epoch(6));
    let lane = second.part("lane-0").unwrap();
    assert_eq!((lane.bytes, lane.xxh3.len()), (1000, 32));

    let again = (place.open)();
    let listed: Vec<_> = again.list().unwrap().into_iter().collect();
    let listed: Vec<_> = listed.into_iter().map(|l| l.manifest.unwrap()).collect();
    assert_eq!(listed, [second.clone(), first.clone()]);
    assert_eq!(newest(&again), Some(6));
    assert_eq!(again.load(&first).unwrap(), parts(5));
    let lane = again.load_part(&second, "lane-1").unwrap();
    assert_eq!(lane.unwrap(), b"state of 6");
    assert_eq!(again.load_part(&second, "lane-2").unwrap(), None);
    let older = again.newest_good_that(|manifest| manifest.body == body(5));
    assert_eq!(older.unwrap(), Some(first));
    assert_eq!(again.newest_good_that(|_| false).unwrap(), None);
}

fn an_unsealed_draft_is_not_seen_and_is_removed_by_the_next(place: Place<'_>) {
    let mut store = (place.open)();
    take(&mut store, 1);
    let sealed = place.paths();
    let mut draft = store.begin(Epoch(2)).unwrap();
    draft.part("left-over", vec![1]).unwrap();
    let wrong = |draft: &mut segue_flow::checkpoint::Draft<'_>, name: &str| {
        let error = draft.part(name, vec![1]).unwrap_err();
        assert_eq!(error.remedy(), Remedy::Bug);
        assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
    };
    for name in ["left-over", "manifest.json", "", "../x", "a/b", "A", "a#1"] {
        wrong(&mut draft, name);
    }
    drop(draft);
    drop(store);
    assert_ne!(place.paths(), sealed);
    let mut store = (place.open)();
    assert_eq!(newest(&store), Some(1));
    assert_eq!(store.list().unwrap().len(), 1);
    drop(store.begin(Epoch(2)).unwrap());
    assert_eq!(place.paths(), sealed);
}

fn an_epoch_that_is_run_again_leaves_the_first_run_alone(place: Place<'_>) {
    let mut store = (place.open)();
    let first = take(&mut store, 7);
    let second = take(&mut store, 7);
    assert_ne!(first.number, second.number);
    assert_eq!(store.load(&first).unwrap(), parts(7));
    assert_eq!(store.newest_good().unwrap(), Some(second));
}

fn a_damaged_checkpoint_is_skipped_and_its_part_named(place: Place<'_>) {
    let mut store = (place.open)();
    take(&mut store, 1);
    let told = |name: &str, damage: &dyn Fn(u64)| {
        let mut store = (place.open)();
        let manifest = take(&mut store, 2);
        assert_eq!(newest(&store), Some(2));
        damage(manifest.number);
        assert_eq!(newest(&store), Some(1));
        let listed = store.list().unwrap().swap_remove(0);
        let error = match listed.manifest {
            Ok(manifest) => store.verify(&manifest).unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.remedy(), Remedy::Restore);
        let text = error.to_string();
        let path = format!("checkpoint-{:010}/{name}", manifest.number);
        assert!(text.contains(&path), "{text}");
        text
    };
    drop(store);
    let flipped = told("lane-0", &|number| {
        place.change(number, "lane-0", |bytes| bytes[500] ^= 1);
    });
    assert!(flipped.contains("expected checksum "), "{flipped}");
    let cut = told("lane-0", &|number| {
        place.change(number, "lane-0", |bytes| bytes.truncate(999));
    });
    assert!(
        cut.ends_with("expected 1000 bytes, found 999 bytes"),
        "{cut}"
    );
    let missing = told("lane-0", &|number| place.delete(number, "lane-0"));
    assert!(missing.ends_with("1000 bytes, found nothing"), "{missing}");
    told("manifest.json", &|number| {
        place.change(number, "manifest.json", |bytes| bytes.truncate(100));
    });
    told("manifest.json", &|number| {
        place.change(number, "manifest.json", |bytes| {
            let offset = bytes.windows(3).position(|three| three == b"200");
            bytes[offset.unwrap()] = b'3';
        });
    });
    told("manifest.json", &|number| {
        place.change(number, "manifest.json", Vec::clear);
    });
}

fn where_all_are_damaged_nobody_begins_from_nothing(place: Place<'_>) {
    let mut store = (place.open)();
    for epoch in [1, 2] {
        let number = take(&mut store, epoch).number;
        place.change(number, "lane-1", |bytes| bytes[0] = b'S');
    }
    let error = store.newest_good().unwrap_err();
    assert_eq!(error.remedy(), Remedy::Configure);
    let text = error.to_string();
    assert!(text.starts_with("none of the 2 checkpoints in"), "{text}");
    assert!(text.contains("checkpoint-0000000002/lane-1"), "{text}");
}

fn a_newer_manifest_is_refused_even_if_older_ones_are_there(place: Place<'_>) {
    let mut store = (place.open)();
    take(&mut store, 1);
    let sum = xxh3_128_with_seed(b"{}", 9);
    let newer = format!("{{\"v\": 9, \"xxh3\": \"{sum:032x}\", \"manifest\": {{}}}}");
    place.put(&place.path(2, "manifest.json"), newer.as_bytes());
    let error = store.newest_good().unwrap_err();
    assert_eq!(error.remedy(), Remedy::Configure);
    let text = error.to_string();
    assert!(
        text.contains("checkpoint-0000000002/manifest.json"),
        "{text}"
    );
    assert!(text.contains("version 9") && text.contains("up to 1"));
}

fn pruning_keeps_so_many_whole_ones(place: Place<'_>) {
    let mut store = (place.open)();
    for epoch in 1..=3 {
        take(&mut store, epoch);
        assert_eq!(store.prune().unwrap(), 0);
    }
    take(&mut store, 4);
    take(&mut store, 5);
    assert_eq!(store.prune().unwrap(), 2);
    let numbers = |store: &CheckpointStore| {
        let listed = store.list().unwrap().into_iter();
        listed.map(|listed| listed.number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&store), [5, 4, 3]);
    assert!(
        place
            .paths()
            .iter()
            .all(|path| !path.contains("-0000000001"))
    );

    // Damage that only a reader sees, damage that a listing shows, a torn manifest.
    for epoch in 6..=8 {
        take(&mut store, epoch);
    }
    place.change(8, "lane-0", |bytes| bytes[0] ^= 1);
    place.delete(7, "lane-1");
    place.change(6, "manifest.json", |bytes| bytes.truncate(9));
    assert_eq!(store.prune().unwrap(), 0);
    assert_eq!(newest(&store), Some(5));
    take(&mut store, 9);
    assert_eq!(store.prune().unwrap(), 1);
    assert_eq!(numbers(&store), [9, 8, 7, 6, 5, 4]);
    for epoch in [10, 11] {
        take(&mut store, epoch);
    }
    assert_eq!(store.prune().unwrap(), 5);
    assert_eq!(numbers(&store), [11, 10, 9]);
}

fn two_writers_do_not_mix(place: Place<'_>) {
    let mut store = (place.open)();
    take(&mut store, 1);
    let mut draft = store.begin(Epoch(2)).unwrap();
    place.put(&place.path(2, "lane-0"), b"another's");
    let error = draft.part("lane-0", vec![1]).unwrap_err();
    assert_eq!(error.remedy(), Remedy::Configure);
    assert!(error.to_string().contains("0000000002/lane-0 is another"));
    // Its own, of which it did not hear back.
    place.put(&place.path(2, "lane-1"), b"own");
    draft.part("lane-1", b"own".to_vec()).unwrap();
    place.put(&place.path(2, "manifest.json"), b"another's");
    let error = draft.seal(body(2)).unwrap_err();
    assert!(matches!(error, CheckpointError::Taken { .. }), "{error}");
    assert_eq!(newest(&store), Some(1));
}

fn what_is_not_ours_is_left_alone(place: Place<'_>) {
    let notes = ["readme.txt", "checkpoint-7/x", "checkpoint-0000000001/a/b"];
    let notes =
        notes.map(|path| Path::from_iter(place.prefix.parts().chain(Path::from(path).parts())));
    for path in &notes[..2] {
        place.put(path, b"kept");
    }
    let mut store = (place.open)();
    for epoch in 1..=5 {
        take(&mut store, epoch);
        store.prune().unwrap();
    }
    for path in &notes[..2] {
        assert!(place.paths().contains(&path.to_string()));
    }
    assert_eq!(newest(&store), Some(5));
}

/// A part that goes up in chunks, and one byte of it lost.
pub fn a_large_part_comes_back(place: Place<'_>) {
    let mut store = (place.open)();
    // Chunks are not alike: none can stand for another.
    let mut bytes = (0..=250u8).collect::<Vec<_>>().repeat((40 << 20) / 251 + 1);
    bytes.truncate(40 << 20);
    let mut draft = store.begin(Epoch(1)).unwrap();
    draft.part("large", bytes.clone()).unwrap();
    let manifest = draft.seal(body(1)).unwrap();
    let entry: &PartEntry = manifest.part("large").unwrap();
    assert_eq!(entry.bytes, 40 << 20);
    assert!(store.load_part(&manifest, "large").unwrap().unwrap() == bytes);
    place.change(1, "large", |bytes| bytes[20 << 20] ^= 1);
    assert!(store.verify(&manifest).is_err());
}
