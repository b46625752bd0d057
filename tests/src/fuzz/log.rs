//! The embedded log: segments and commit files, through the directory in which they lie.

use std::fs;
use std::path::Path;
use std::time::Duration;

use segue_flow::{Readiness, Source};
use segue_listen::EventTime;
use segue_log::{Commit, Log, Settings, Until};
use tempfile::TempDir;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::within;

/// What a segment begins with.
const HEADER: [u8; 16] = *b"segue log 1\n\0\0\0\0";

/// The largest record, which bounds what a length can claim.
const LONGEST: usize = 64 << 10;

/// A reader's buffer, its folder's listing, and what serde sets aside.
const BUFFERS: usize = 4 << 20;

/// A commit of more records than any input has: a reader goes on until the bytes end it.
const COMMIT: &str = r#"{"version":1,"epoch":1,"inputs":[],"topics":{"t":{"generation":1,
    "sealed":false,"partitions":[{"offset":1000000,"segment":0,"bytes":1000000000}]}}}"#;

#[derive(PartialEq, Debug)]
struct Record {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    content_type: Option<Vec<u8>>,
    logged_at: Option<EventTime>,
}

struct Place {
    dir: TempDir,
    settings: Settings,
}

thread_local! {
    /// One directory for all inputs of a thread, so that an input costs a file and not a tree.
    static PLACE: Place = place();
}

fn place() -> Place {
    // In memory where the system has such a place: some disks make a file that is written anew wait.
    let dir = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new());
    let dir = dir.unwrap();
    let settings = Settings {
        dir: dir.path().to_owned(),
        max_record_bytes: LONGEST,
        sync: false,
        ..Settings::default()
    };
    let log = Log::open(&settings).unwrap();
    log.ensure_topic("t", 1).unwrap();
    fs::create_dir_all(dir.path().join("t/0")).unwrap();
    Place { dir, settings }
}

fn segment(dir: &Path, records: &[u8]) {
    let path = dir.join(format!("t/0/{:020}.segment", 0));
    fs::write(path, [&HEADER, records].concat()).unwrap();
}

fn commit_file(dir: &Path, bytes: &[u8]) {
    fs::write(dir.join("commits/w.json"), bytes).unwrap();
}

/// The records at the front of a segment, up to where it is damaged or ends.
fn read(settings: &Settings) -> Result<Vec<Record>, String> {
    let log = Log::open(settings).map_err(|error| error.to_string())?;
    let source = log.source("t", 0, Until::Now);
    let mut source = source.map_err(|error| error.to_string())?;
    let mut records = Vec::new();
    loop {
        let read = source.read(Duration::ZERO, &mut |record| {
            assert_eq!(record.offset.0, records.len() as u64, "without gaps");
            records.push(Record {
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                content_type: record.content_type.get().map(<[u8]>::to_vec),
                logged_at: record.logged_at,
            });
        });
        match read {
            Ok(Readiness::More) => {}
            Ok(Readiness::Idle | Readiness::Ended) => return Ok(records),
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return Ok(records);
            }
        }
    }
}

/// Records of a segment as they lie there, or the bytes as the body of one with a sound checksum.
pub fn frames(bytes: &[u8]) -> bool {
    let as_they_are = records(bytes);
    let framed = records(&framed(bytes));
    assert!(framed <= 1, "one frame, one record");
    as_they_are + framed > 0
}

/// A record with a sound length and checksum around this body.
pub fn framed(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let sum = xxh3_64_with_seed(body, u64::from(length));
    [&length.to_le_bytes()[..], &sum.to_le_bytes()[..], body].concat()
}

fn records(bytes: &[u8]) -> usize {
    PLACE.with(|place| {
        commit_file(place.dir.path(), COMMIT.as_bytes());
        segment(place.dir.path(), bytes);
        let memory = BUFFERS + 16 * bytes.len();
        let found = within(memory, || read(&place.settings)).unwrap();

        // Written again, they are read as the same.
        let again: Vec<u8> = (0..).zip(&found).flat_map(|(n, r)| frame(n, r)).collect();
        segment(place.dir.path(), &again);
        assert_eq!(read(&place.settings).unwrap(), found);
        found.len()
    })
}

/// A record as `connectors/log` describes its frames, written here a second time: a change of the
/// format that old logs would not survive fails.
fn frame(offset: u64, record: &Record) -> Vec<u8> {
    let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(-1, |bytes| bytes.len() as i32);
    let at = record.logged_at.map_or(i64::MIN, EventTime::millis);
    let mut body = Vec::new();
    body.extend_from_slice(&offset.to_le_bytes());
    body.extend_from_slice(&at.to_le_bytes());
    body.extend_from_slice(&length(&record.key).to_le_bytes());
    body.extend_from_slice(&length(&record.value).to_le_bytes());
    body.extend_from_slice(&u16::from(record.content_type.is_some()).to_le_bytes());
    if let Some(content_type) = &record.content_type {
        body.extend_from_slice(&12_u16.to_le_bytes());
        body.extend_from_slice(&(content_type.len() as i32).to_le_bytes());
        body.extend_from_slice(b"content-type");
        body.extend_from_slice(content_type);
    }
    body.extend_from_slice(record.key.as_deref().unwrap_or_default());
    body.extend_from_slice(record.value.as_deref().unwrap_or_default());
    framed(&body)
}

/// A commit file, over a segment of two records.
pub fn commit(bytes: &[u8]) -> bool {
    let record = Record {
        key: None,
        value: Some(b"value".to_vec()),
        content_type: None,
        logged_at: None,
    };
    PLACE.with(|place| {
        let dir = place.dir.path();
        segment(dir, &[frame(0, &record), frame(1, &record)].concat());
        commit_file(dir, bytes);
        let memory = BUFFERS + 64 * bytes.len();
        let found = within(memory, || read(&place.settings));
        let log = Log::open(&place.settings);
        let last = log.and_then(|log| log.last_commit("w"));
        let Ok(Some(last)) = last else {
            assert!(found.is_err(), "a commit that cannot be read was believed");
            return false;
        };
        assert!(found.unwrap().len() <= 2);
        let path = dir.join("commits/w.json");
        last.store(&path, false).unwrap();
        assert_eq!(Commit::load(&path).unwrap(), Some(last));
        true
    })
}
