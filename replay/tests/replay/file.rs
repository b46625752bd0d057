use std::path::Path;
use std::sync::atomic::AtomicBool;

use segue_flow::{Epoch, OutRecord, Sink};
use segue_listen::Listen;
use segue_listen::wire::{self, Format};
use segue_replay::{DeliverySettings, FileSink, Inputs, Replay, ReplaySettings};

use crate::{log, read_all, write};

fn replay_into(folder: &Path, sink: &mut FileSink) {
    let settings = ReplaySettings {
        deliver: DeliverySettings {
            format: sink.format(),
            listens_per_epoch: 100,
            ..DeliverySettings::default()
        },
        ..ReplaySettings::default()
    };
    let inputs = Inputs::find(&[folder.join("log.tsv")]).unwrap();
    Replay::new(inputs, settings)
        .run(sink, &AtomicBool::new(false), |_| {})
        .unwrap();
}

#[test]
fn what_a_file_holds_reads_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "log.tsv", log(4, 90).as_bytes());
    let expected: Vec<Listen> = read_all(&[path]).unwrap().0;
    for name in [
        "a.jsonl",
        "a.jsonl.gz",
        "a.jsonl.zst",
        "a.tsv",
        "a.tsv.gz",
        "b.tsv.zst",
    ] {
        let path = folder.path().join(name);
        replay_into(folder.path(), &mut FileSink::create(&path).unwrap());
        let (found, report) = read_all(&[path]).unwrap();
        assert!(found == expected, "{name}");
        assert_eq!(report.rejected.bad(), 0, "{name}");
    }
    // Not only what is read back but its order: the first row is the earliest.
    let text = std::fs::read_to_string(folder.path().join("a.tsv")).unwrap();
    assert!(
        text.starts_with("user_000001\t2009-01-01T00:00:00Z\t\tartist 0\t\tsong 0\n"),
        "{text}"
    );
}

#[test]
fn messagepack_values_stand_end_to_end() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "log.tsv", log(1, 3).as_bytes());
    let path = folder.path().join("a.msgpack");
    replay_into(folder.path(), &mut FileSink::create(&path).unwrap());
    let (listens, _) = read_all(&[folder.path().join("log.tsv")]).unwrap();
    let mut expected = Vec::new();
    for listen in &listens {
        wire::encode(listen.borrowed(), Format::MessagePack, &mut expected).unwrap();
    }
    assert!(std::fs::read(path).unwrap() == expected);
}

#[test]
fn an_epoch_that_is_given_up_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl.zst");
    let mut value = Vec::new();
    let listen = &segue_replay::Simulator::new(Default::default())
        .unwrap()
        .next()
        .unwrap();
    wire::encode(listen.borrowed(), Format::Json, &mut value).unwrap();
    let record = OutRecord {
        topic: "listens",
        partition: Some(0),
        key: Some(b"u"),
        value: Some(&value),
        headers: &[("content-type", b"application/json")],
        at: None,
    };
    let mut sink = FileSink::create(&path).unwrap();
    for epoch in 0..4 {
        sink.begin(Epoch(epoch)).unwrap();
        sink.write(record).unwrap();
        match epoch % 2 {
            0 => sink.commit(Epoch(epoch), &[]).unwrap(),
            _ => sink.abort(Epoch(epoch)).unwrap(),
        }
    }
    drop(sink);
    let mut sink = FileSink::append(&path).unwrap();
    sink.begin(Epoch(4)).unwrap();
    sink.write(record).unwrap();
    sink.commit(Epoch(4), &[]).unwrap();
    assert!(
        sink.write(record)
            .unwrap_err()
            .to_string()
            .contains("out of order")
    );
    assert_eq!(read_all(&[path]).unwrap().0.len(), 3);
}

#[test]
fn what_a_file_cannot_be_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let said = |name: &str| {
        FileSink::create(&folder.path().join(name))
            .unwrap_err()
            .to_string()
    };
    assert!(said("log.parquet").contains(".jsonl, .msgpack or .tsv"));
    assert!(said("no/folder/a.tsv").contains("check the folder"));
    write(folder.path(), "a.tsv", b"precious");
    let error = said("a.tsv");
    assert!(
        error.contains("a.tsv") && error.contains("another file"),
        "{error}"
    );
    let mut sink = FileSink::create(&folder.path().join("b.tsv")).unwrap();
    sink.begin(Epoch(0)).unwrap();
    let record = OutRecord {
        topic: "listens",
        partition: None,
        key: Some(b"u"),
        value: Some(b"{}"),
        headers: &[("content-type", b"application/json")],
        at: None,
    };
    let error = sink.write(record).unwrap_err().to_string();
    assert!(error.contains("application/msgpack"), "{error}");
}

#[test]
fn an_epoch_that_was_cut_short_by_a_crash_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "log.tsv", log(3, 90).as_bytes());
    for name in ["a.jsonl", "a.tsv", "a.jsonl.gz", "a.tsv.zst"] {
        let path = folder.path().join(name);
        replay_into(folder.path(), &mut FileSink::create(&path).unwrap());
        let whole = std::fs::read(&path).unwrap();
        for torn in [1, 7, 30] {
            let mut bytes = whole.clone();
            // Less than a line and less than a frame, as the file itself begins.
            bytes.extend_from_slice(&whole[..torn]);
            std::fs::write(&path, &bytes).unwrap();
            drop(FileSink::append(&path).unwrap());
            assert!(std::fs::read(&path).unwrap() == whole, "{name} {torn}");
        }
        drop(FileSink::append(&path).unwrap());
        assert!(std::fs::read(&path).unwrap() == whole, "{name} is whole");
    }
    let path = folder.path().join("a.tsv.zst");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20] ^= 0xff;
    std::fs::write(&path, &bytes).unwrap();
    let error = FileSink::append(&path).unwrap_err().to_string();
    assert!(
        error.contains("a.tsv.zst") && error.contains("name another file"),
        "{error}"
    );
    assert!(
        std::fs::read(&path).unwrap() == bytes,
        "nothing is thrown away"
    );
}
