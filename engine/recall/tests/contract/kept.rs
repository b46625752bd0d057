//! An index that was saved and read again, and files that are none.

use std::io::Cursor;

use proptest::prelude::*;
use segue_listen::TrackId;
use segue_recall::{Builder, GraphWriter, IndexWriter, Metric, Settings, Storage, StoreError};
use xxhash_rust::xxh3::xxh3_64;

use crate::kinds::{DIMENSIONS, all_in, any, clustered, fill, find, vector};

/// With everything in it that there can be: dead points, free slots, twins, a tail that is linked first.
fn lived_in(settings: &Settings) -> GraphWriter {
    let vectors = clustered(1800, 31);
    let mut writer = GraphWriter::new(DIMENSIONS, settings.clone()).unwrap();
    fill(&mut writer, &vectors[..1500]);
    writer.publish(1);
    (0..1500)
        .step_by(3)
        .for_each(|id| writer.remove(TrackId(id)));
    writer.publish(2);
    for id in 1500..1800u32 {
        let twin = &vectors[id as usize - usize::from(id % 10 == 0)];
        writer.upsert(TrackId(id), vector(twin)).unwrap();
    }
    (1..1500)
        .step_by(9)
        .for_each(|id| writer.remove(TrackId(id)));
    writer
}

fn bytes(writer: &mut GraphWriter) -> Vec<u8> {
    let mut bytes = Vec::new();
    writer.write(&mut bytes).unwrap();
    bytes
}

fn read(bytes: &[u8], settings: &Settings) -> Result<GraphWriter, StoreError> {
    GraphWriter::read(Cursor::new(bytes), DIMENSIONS, settings.clone())
}

fn resummed(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.len() - 8;
    let sum = xxh3_64(&bytes[..end]).to_le_bytes();
    bytes[end..].copy_from_slice(&sum);
    bytes
}

#[test]
fn what_was_saved_answers_and_goes_on_as_what_was_not() {
    let more = clustered(400, 32);
    let queries = clustered(50, 33);
    for metric in [Metric::Cosine, Metric::InnerProduct] {
        for storage in [Storage::F32, Storage::F16] {
            let settings = Settings {
                storage,
                ..all_in(metric)
            };
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("index");
            let mut first = lived_in(&settings);
            first.save(&path).unwrap();
            first.save(&path).unwrap();
            let names = std::fs::read_dir(folder.path()).unwrap().count();
            assert_eq!(names, 1, "nothing is left beside it");
            let mut second = GraphWriter::load(&path, DIMENSIONS, settings).unwrap();
            assert_eq!(bytes(&mut first), bytes(&mut second));
            for (id, numbers) in (1000u32..).zip(&more) {
                first.upsert(TrackId(id), vector(numbers)).unwrap();
                second.upsert(TrackId(id), vector(numbers)).unwrap();
            }
            let (one, other) = (first.publish(9), second.publish(9));
            assert_eq!(one.version(), other.version());
            assert_eq!(one.len(), other.len());
            for query in &queries {
                assert_eq!(find(&*one, query, 20, &any), find(&*other, query, 20, &any));
            }
        }
    }
}

#[test]
fn damage_newer_versions_and_other_settings_are_refused_by_name() {
    let settings = all_in(Metric::Cosine);
    let whole = bytes(&mut lived_in(&settings));
    let refused = |bytes: &[u8]| match read(bytes, &settings) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("it was read"),
    };
    for at in (0..whole.len()).step_by(whole.len() / 300) {
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        refused(&changed);
        refused(&whole[..at]);
    }
    assert_eq!(refused(b"ID3 something else"), "not an index of Segue");
    assert_eq!(refused(b""), "not an index of Segue");
    assert_eq!(refused(&whole[..20]), "damaged: it ends too early");
    let mut longer = whole.clone();
    longer.push(0);
    assert_eq!(refused(&longer), "damaged: its checksum is another");
    let mut newer = whole.clone();
    newer[8] = 2;
    assert!(refused(&resummed(newer)).starts_with("format 2 is newer than 1"));
    let other = Settings {
        m: 8,
        ..settings.clone()
    };
    let error = read(&whole, &other).err().unwrap().to_string();
    assert_eq!(error, "made with m = 16, the settings say 8");
    let foreign = Settings {
        builder: Builder::HnswRs,
        ..settings
    };
    assert!(matches!(read(&whole, &foreign), Err(StoreError::NotKept)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whoever can write a checksum can write anything: it may be refused or read, and searched.
    #[test]
    fn content_from_an_enemy_breaks_nothing(
        changes in prop::collection::vec((0usize..60_000, 0u32..=u32::MAX, prop::bool::ANY), 1..4),
        cut in 0usize..50_000,
    ) {
        let settings = all_in(Metric::Cosine);
        let vectors = clustered(120, 34);
        let mut writer = GraphWriter::new(DIMENSIONS, settings.clone()).unwrap();
        fill(&mut writer, &vectors);
        let mut bytes = bytes(&mut writer);
        for (at, word, small) in changes {
            let at = at % (bytes.len() - 16) / 4 * 4;
            let word = if small { word % 200 } else { word };
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        if cut < bytes.len() / 4 {
            bytes.truncate(bytes.len() - cut);
        }
        if bytes.len() > 8
            && let Ok(mut writer) = read(&resummed(bytes), &settings)
        {
            writer.upsert(TrackId(500), vector(&vectors[0])).unwrap();
            let index = writer.publish(1);
            find(&*index, &vectors[1], 10, &crate::kinds::any);
        }
    }
}
