//! What only a disk has.

use std::path::Path;
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use segue_flow::checkpoint::{CheckpointError, CheckpointSettings, CheckpointStore};
use segue_flow::{Epoch, Remedy};

use crate::contract::{
    Clause, KEEP, Place, a_large_part_comes_back, holds, newest, take, try_take,
};

fn settings(url: &str) -> CheckpointSettings {
    CheckpointSettings {
        url: url.to_owned(),
        keep: KEEP,
        ..CheckpointSettings::default()
    }
}

fn open(folder: &Path) -> CheckpointStore {
    CheckpointStore::open(&settings(folder.to_str().unwrap())).unwrap()
}

fn anew(clause: Clause<'_>) {
    let folder = tempfile::tempdir().unwrap();
    let objects = LocalFileSystem::new_with_prefix(folder.path()).unwrap();
    clause(Place {
        open: &|| open(folder.path()),
        objects: Arc::new(objects),
        prefix: object_store::path::Path::default(),
    });
}

#[test]
fn a_local_disk_holds_the_contract() {
    holds(&anew);
    anew(&a_large_part_comes_back);
}

#[test]
fn a_folder_may_be_named_as_a_url_and_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}/a/b", folder.path().display());
    let mut store = CheckpointStore::open(&settings(&url)).unwrap();
    take(&mut store, 1);
    assert_eq!(newest(&open(&folder.path().join("a/b"))), Some(1));
    for url in ["gs://bucket/x", "file://host/x"] {
        let error = CheckpointStore::open(&settings(url)).unwrap_err();
        assert_eq!(error.remedy(), Remedy::Configure);
        assert!(error.to_string().contains(url), "{error}");
    }
}

#[test]
fn one_process_writes_and_others_may_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = open(folder.path());
    take(&mut first, 1);
    let mut second = open(folder.path());
    assert_eq!(newest(&second), Some(1));
    for error in [
        second.begin(Epoch(2)).map(|_| ()).unwrap_err(),
        second.prune().map(|_| ()).unwrap_err(),
    ] {
        assert!(matches!(error, CheckpointError::Taken { .. }));
        assert!(error.to_string().contains("writer.lock"), "{error}");
    }
    drop(first);
    take(&mut second, 2);
}

#[test]
fn a_file_that_was_being_written_at_a_crash_goes() {
    let folder = tempfile::tempdir().unwrap();
    take(&mut open(folder.path()), 1);
    let half = folder.path().join("checkpoint-0000000002");
    std::fs::create_dir(&half).unwrap();
    std::fs::write(half.join("lane-0#1"), b"half").unwrap();
    let mut store = open(folder.path());
    drop(store.begin(Epoch(2)).unwrap());
    assert!(!half.exists());
}

#[test]
fn removed_checkpoints_leave_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    for epoch in 1..=5 {
        take(&mut store, epoch);
        store.prune().unwrap();
    }
    let entries = folder.path().read_dir().unwrap().count();
    assert_eq!(entries, KEEP + 1, "checkpoints and the lock");
}

#[test]
fn a_place_that_cannot_be_written_is_tried_again_and_the_rest_stands() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    take(&mut store, 1);
    // The next checkpoint's folder cannot be made.
    let block = folder.path().join("checkpoint-0000000002");
    std::fs::write(&block, b"").unwrap();
    let error = try_take(&mut store, 2).unwrap_err();
    assert_eq!(error.remedy(), Remedy::Retry);
    let text = error.to_string();
    assert!(text.starts_with("cannot write "), "{text}");
    assert!(text.contains("checkpoint-0000000002/directory"), "{text}");
    assert_eq!(newest(&store), Some(1));
    // And the one after can.
    take(&mut store, 2);
    assert_eq!(newest(&store), Some(2));
    let file = folder.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = CheckpointStore::open(&settings(file.to_str().unwrap())).unwrap_err();
    assert_eq!(error.remedy(), Remedy::Retry);
}
