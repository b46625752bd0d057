//! The embedded log: the contract of all connectors, and what only files can suffer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod contract;

use std::path::PathBuf;
use std::time::Duration;

use contract::{Connector, numbers, read_to_end, try_read, write_numbers};
use segue_flow::{Epoch, LaneId, Offset, OffsetRange, OutRecord, Sink, Source, SourceError};
use segue_log::{Log, LogError, Settings, Until};

struct InFolder {
    folder: tempfile::TempDir,
    log: Log,
}

impl InFolder {
    fn new(segment_bytes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            dir: folder.path().to_owned(),
            segment_bytes,
            max_record_bytes: 2 << 20,
            sync: false,
        };
        let log = Log::open(&settings).unwrap();
        Self { folder, log }
    }

    /// As another process would open it.
    fn reopened(&self) -> Log {
        Log::open(self.log.settings()).unwrap()
    }

    fn segments(&self, topic: &str) -> Vec<PathBuf> {
        let folder = self.folder.path().join(topic).join("0");
        let mut paths: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        paths
    }
}

impl Connector for InFolder {
    fn topic(&self, name: &str, partitions: u32) {
        self.log.ensure_topic(name, partitions).unwrap();
    }

    fn sink(&self) -> Box<dyn Sink> {
        Box::new(self.log.sink("writer").unwrap())
    }

    fn bounded(&self, topic: &str, partition: u32) -> Box<dyn Source> {
        Box::new(self.log.source(topic, partition, Until::Now).unwrap())
    }

    fn following(&self, topic: &str, partition: u32) -> Box<dyn Source> {
        Box::new(self.log.source(topic, partition, Until::Forever).unwrap())
    }

    fn too_large(&self) -> usize {
        2 << 20
    }
}

#[test]
fn the_contract_holds_in_one_segment() {
    contract::source_and_sink(&InFolder::new(256 << 20));
}

#[test]
fn the_contract_holds_over_many_segments() {
    contract::source_and_sink(&InFolder::new(300));
}

#[test]
fn segments_are_closed_before_they_grow_too_large() {
    let made = InFolder::new(1000);
    made.topic("t", 1);
    write_numbers(made.sink().as_mut(), "t", 0..500);
    let segments = made.segments("t");
    assert!(segments.len() > 20, "{}", segments.len());
    assert!(
        segments
            .iter()
            .all(|path| path.metadata().unwrap().len() <= 1000)
    );
    assert_eq!(
        numbers(&read_to_end(made.bounded("t", 0).as_mut())),
        (0..500).collect::<Vec<_>>()
    );
}

#[test]
fn nothing_is_visible_before_its_commit_nor_after_an_abort() {
    for segment_bytes in [256 << 20, 300] {
        let made = InFolder::new(segment_bytes);
        made.topic("a", 1);
        made.topic("b", 1);
        let mut sink = made.log.sink("writer").unwrap();
        write_numbers(&mut sink, "a", 0..10);
        // Enough to reach the files, not only the writer's buffer.
        let value = [7; 1000];
        let record = |topic| OutRecord {
            topic,
            partition: Some(0),
            key: None,
            value: Some(&value),
            headers: &[],
            at: None,
        };
        sink.begin(Epoch(20)).unwrap();
        for topic in ["a", "b"] {
            (0..1000).for_each(|_| sink.write(record(topic)).unwrap());
        }
        assert_eq!(made.reopened().ends("a").unwrap(), [10]);
        assert_eq!(read_to_end(made.bounded("a", 0).as_mut()).len(), 10);
        sink.abort(Epoch(20)).unwrap();
        write_numbers(&mut sink, "a", 10..20);
        write_numbers(&mut sink, "b", 0..5);
        let expected: Vec<u64> = (0..20).collect();
        assert_eq!(
            numbers(&read_to_end(made.bounded("a", 0).as_mut())),
            expected
        );
        assert_eq!(
            numbers(&read_to_end(made.bounded("b", 0).as_mut())),
            [0, 1, 2, 3, 4]
        );
    }
}

#[test]
fn a_torn_tail_is_cut_off_counted_and_written_over() {
    for segment_bytes in [256 << 20, 300] {
        let made = InFolder::new(segment_bytes);
        made.topic("t", 1);
        write_numbers(made.sink().as_mut(), "t", 0..50);
        // A crash in the middle of an epoch: a writer that is dropped, and half a record.
        let mut sink = made.log.sink("writer").unwrap();
        sink.begin(Epoch(51)).unwrap();
        let value = [1; 300_000];
        let record = OutRecord {
            topic: "t",
            partition: Some(0),
            key: None,
            value: Some(&value),
            headers: &[],
            at: None,
        };
        sink.write(record).unwrap();
        sink.write(record).unwrap();
        drop(sink);
        let last = made.segments("t").pop().unwrap();
        let length = last.metadata().unwrap().len();
        std::fs::File::options()
            .write(true)
            .open(&last)
            .unwrap()
            .set_len(length - 100)
            .unwrap();

        let log = made.reopened();
        let mut before = log.source("t", 0, Until::Now).unwrap();
        assert_eq!(
            numbers(&read_to_end(&mut before)),
            (0..50).collect::<Vec<_>>()
        );
        assert_eq!(log.cut_bytes(), 0);
        write_numbers(&mut log.sink("writer").unwrap(), "t", 50..60);
        assert!(log.cut_bytes() > 299_000, "{}", log.cut_bytes());
        let mut after = log.source("t", 0, Until::Now).unwrap();
        assert_eq!(
            numbers(&read_to_end(&mut after)),
            (0..60).collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_changed_byte_names_file_and_place_and_what_was_before_it_is_read() {
    let made = InFolder::new(256 << 20);
    made.topic("t", 1);
    write_numbers(made.sink().as_mut(), "t", 0..100);
    let path = made.segments("t").pop().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&path, bytes).unwrap();

    let mut seen = Vec::new();
    let mut source = made.bounded("t", 0);
    let error = loop {
        if let Err(error) = try_read(source.as_mut(), &mut seen) {
            break error;
        }
    };
    let message = error.to_string();
    assert!(matches!(error, SourceError::Corrupt { .. }), "{message}");
    assert!(message.contains(path.to_str().unwrap()), "{message}");
    assert!(
        message.contains(&format!("record {}", seen.len())),
        "{message}"
    );
    assert!((40..60).contains(&seen.len()), "{}", seen.len());
    // It stays an error: nothing passes over what is damaged.
    assert!(try_read(source.as_mut(), &mut seen).is_err());
}

#[test]
fn a_file_shortened_lost_or_foreign_is_an_error_and_never_an_end() {
    let damage: [fn(&PathBuf); 4] = [
        |path| {
            std::fs::File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(200)
                .unwrap()
        },
        |path| std::fs::remove_file(path).unwrap(),
        |path| std::fs::write(path, b"GIF89a").unwrap(),
        |path| std::fs::write(path, b"").unwrap(),
    ];
    for spoil in damage {
        let made = InFolder::new(256 << 20);
        made.topic("t", 1);
        write_numbers(made.sink().as_mut(), "t", 0..100);
        let path = made.segments("t").pop().unwrap();
        spoil(&path);
        let mut source = made.bounded("t", 0);
        let mut seen = Vec::new();
        let error = loop {
            if let Err(error) = try_read(source.as_mut(), &mut seen) {
                break error;
            }
        };
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
        assert!(seen.len() < 100);
        // Nor does a writer go on behind the gap.
        let mut sink = made.sink();
        sink.begin(Epoch(200)).unwrap();
        let record = OutRecord {
            topic: "t",
            partition: Some(0),
            key: None,
            value: None,
            headers: &[],
            at: None,
        };
        let error = sink.write(record).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
}

#[test]
fn a_commit_file_that_is_not_one_is_named() {
    let made = InFolder::new(256 << 20);
    made.topic("t", 1);
    write_numbers(made.sink().as_mut(), "t", 0..10);
    let path = made.folder.path().join("commits/writer.json");
    for content in [
        "",
        "{",
        "{\"version\":9,\"epoch\":1,\"inputs\":[],\"topics\":{}}",
    ] {
        std::fs::write(&path, content).unwrap();
        let Err(error) = Log::open(made.log.settings()) else {
            panic!("{content:?} was taken")
        };
        assert!(error.to_string().contains("commits/writer.json"), "{error}");
    }
}

#[test]
fn a_reader_follows_a_writer_that_is_at_work() {
    const LAST: u64 = 20_000;
    let made = InFolder::new(5000);
    made.topic("t", 1);
    // One reader shares the writer's view, the other has only the files, as another process.
    let readers = [made.log.clone(), made.reopened()].map(|log| {
        std::thread::spawn(move || {
            let mut source = log.source("t", 0, Until::Sealed).unwrap();
            numbers(&read_to_end(&mut source))
        })
    });
    let mut sink = made.log.sink("writer").unwrap();
    for start in (0..LAST).step_by(100) {
        write_numbers(&mut sink, "t", start..start + 100);
    }
    sink.seal("t").unwrap();
    for reader in readers {
        assert_eq!(reader.join().unwrap(), (0..LAST).collect::<Vec<_>>());
    }
}

#[test]
fn a_sealed_topic_ends_and_can_be_taken_up_again() {
    let made = InFolder::new(256 << 20);
    made.topic("t", 1);
    let mut first = made.log.sink("first").unwrap();
    write_numbers(&mut first, "t", 0..10);
    first.seal("t").unwrap();
    let sealed = || made.reopened().source("t", 0, Until::Sealed).unwrap();
    assert_eq!(read_to_end(&mut sealed()).len(), 10);
    write_numbers(&mut first, "t", 10..20);
    let mut source = sealed();
    assert_eq!(contract::read_count(&mut source, 20).len(), 20);
    let more = source
        .read(Duration::ZERO, &mut |record| panic!("{record:?}"))
        .unwrap();
    assert_eq!(more, segue_flow::Readiness::Idle);
    drop(first);
    let mut second = made.reopened().sink("second").unwrap();
    write_numbers(&mut second, "t", 20..30);
    second.seal("t").unwrap();
    assert_eq!(
        numbers(&read_to_end(&mut sealed())),
        (0..30).collect::<Vec<_>>()
    );
}

#[test]
fn records_and_the_input_they_were_made_from_are_committed_together() {
    let made = InFolder::new(256 << 20);
    made.topic("t", 1);
    let inputs = [OffsetRange {
        lane: LaneId(3),
        from: Offset(10),
        to: Offset(25),
    }];
    {
        let mut sink = made.log.sink("engine").unwrap();
        assert_eq!(sink.last_commit().epoch, None);
        sink.begin(Epoch(4)).unwrap();
        sink.commit(Epoch(4), &inputs).unwrap();
        sink.begin(Epoch(5)).unwrap();
    }
    let commit = made.reopened().last_commit("engine").unwrap().unwrap();
    assert_eq!(
        (commit.epoch, commit.inputs),
        (Some(Epoch(4)), inputs.to_vec())
    );
    assert_eq!(made.log.last_commit("nobody").unwrap(), None);
}

#[test]
fn a_topic_and_a_name_have_one_writer() {
    let made = InFolder::new(256 << 20);
    made.topic("t", 1);
    let mut first = made.log.sink("first").unwrap();
    write_numbers(&mut first, "t", 0..1);
    assert!(matches!(
        made.reopened().sink("first"),
        Err(LogError::Busy { .. })
    ));
    let mut second = made.reopened().sink("second").unwrap();
    second.begin(Epoch(1)).unwrap();
    let record = OutRecord {
        topic: "t",
        partition: None,
        key: None,
        value: None,
        headers: &[],
        at: None,
    };
    let error = second.write(record).unwrap_err().to_string();
    assert!(
        error.contains("\"t\" is being written by another"),
        "{error}"
    );
    drop(first);
    second.write(record).unwrap();
}

#[test]
fn what_is_asked_for_wrongly_is_said() {
    let made = InFolder::new(256 << 20);
    made.topic("t", 3);
    let said = |error: LogError| error.to_string();
    let partitions = said(made.log.ensure_topic("t", 4).unwrap_err());
    assert!(
        partitions.contains("has 3 partitions, not 4"),
        "{partitions}"
    );
    for name in [
        "",
        "..",
        "a/b",
        "../t",
        "commits",
        "naïve",
        &"n".repeat(250),
    ] {
        assert!(
            matches!(made.log.ensure_topic(name, 1), Err(LogError::BadName(_))),
            "{name:?}"
        );
    }
    let unknown = made
        .log
        .source("nothing", 0, Until::Now)
        .err()
        .map(said)
        .unwrap();
    assert!(unknown.contains("no topic \"nothing\""), "{unknown}");
    let partition = made.log.source("t", 3, Until::Now).err().map(said).unwrap();
    assert!(partition.contains("no partition 3"), "{partition}");
    let mut source = made.log.source("t", 0, Until::Now).unwrap();
    let past = source.seek(Offset(1)).unwrap_err();
    assert!(
        matches!(past, SourceError::OutOfRange { offset: 1, .. }),
        "{past}"
    );
    let file = made.folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let settings = Settings {
        dir: file.clone(),
        ..Settings::default()
    };
    let Err(error) = Log::open(&settings) else {
        panic!("a file was taken for a folder")
    };
    assert!(
        error.to_string().contains(file.to_str().unwrap()),
        "{error}"
    );
}
