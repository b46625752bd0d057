//! Lyrics and sound as segments of one vector: real weights, real files, broken ones.

use std::path::Path;
use std::sync::Arc;

use segue_catalog::content::TrackContent;
use segue_catalog::encoder::{Encoder, SegmentFault};
use segue_catalog::library::{Library, TrackMedia};
use segue_catalog::modality::{ModalityKind, segments};
use segue_encode::audio::crop::Crop;
use segue_encode::audio::encoder::AudioEncoder;
use segue_encode::audio::handcrafted::Handcrafted;
use segue_encode::multimodal::{MultimodalEncoder, Part, cache_in};
use segue_encode::text::{TextEncoder, TextOf};
use segue_listen::{TrackId, TrackKey};
use segue_nn::device::Precision;
use segue_nn::tch::Device;

use crate::{clip, model};

const LONG: u64 = 1 << 20;

fn track(id: u32) -> TrackContent {
    TrackContent {
        track: TrackId(id),
        key: TrackKey(u128::from(id) + 1),
        artist: "a".into(),
        title: id.to_string().into(),
    }
}

/// Tracks 0 to 4: both, words alone, sound alone, words and a broken file, nothing.
fn library(folder: &Path) -> Arc<Library> {
    let broken = folder.join("broken.mp3");
    std::fs::write(&broken, b"no music").unwrap();
    let of = |lyrics: Option<&str>, audio| TrackMedia {
        lyrics: lyrics.map(Into::into),
        audio,
        ..TrackMedia::default()
    };
    let mut library = Library::default();
    let words = "and so we sing\n".repeat(200);
    for (id, media) in [
        (0, of(Some(&words), Some(clip("clip.ogg")))),
        (1, of(Some("la la"), None)),
        (2, of(None, Some(clip("clip.mp3")))),
        (3, of(Some("oh no"), Some(broken))),
    ] {
        library.insert(track(id).key, media);
    }
    Arc::new(library)
}

fn encoder(library: &Arc<Library>, cache: Option<&Path>) -> MultimodalEncoder {
    let text = TextEncoder::load(&model("minilm"), Device::Cpu, Precision::F32).unwrap();
    let crop = Crop {
        seconds: 1.0,
        count: 1,
    };
    let sound = AudioEncoder::new(Box::new(Handcrafted), crop, library.clone());
    let text = text.with_library(library.clone(), TextOf::Lyrics);
    let cache = |kind, dimensions| cache.and_then(|f| cache_in(f, kind, "x", dimensions, LONG));
    let parts = vec![
        Part {
            kind: ModalityKind::Lyrics,
            cache: cache(ModalityKind::Lyrics, 384),
            encoder: Box::new(text),
        },
        Part {
            kind: ModalityKind::Audio,
            cache: cache(ModalityKind::Audio, 63),
            encoder: Box::new(sound),
        },
    ];
    MultimodalEncoder::new(parts, library.clone())
}

/// Rows and what was wrong, some tracks at a time.
fn encoded(encoder: &mut dyn Encoder, at_once: usize) -> (Vec<f32>, Vec<SegmentFault>) {
    let tracks: Vec<TrackContent> = (0..5).map(track).collect();
    let (mut rows, mut faults) = (Vec::new(), Vec::new());
    for some in tracks.chunks(at_once) {
        let outcomes = encoder.encode(some, &mut rows).unwrap();
        assert!(outcomes.iter().all(Result::is_ok) && outcomes.len() == some.len());
        faults.append(&mut encoder.take_faults());
    }
    (rows, faults)
}

#[test]
fn a_segment_is_of_length_one_or_zero_and_a_broken_file_spoils_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let library = library(folder.path());
    let mut encoder = encoder(&library, None);
    let layout = encoder.modalities();
    assert_eq!(encoder.dimensions(), 384 + 63);
    let (rows, faults) = encoded(&mut encoder, 5);
    let lengths: Vec<Vec<f32>> = rows
        .chunks_exact(384 + 63)
        .map(|row| {
            let lengths = segments(&layout, row).map(|(_, segment)| {
                let squares = segment.iter().map(|x| x * x).sum::<f32>();
                (squares.sqrt() * 1e3).round() / 1e3
            });
            lengths.collect()
        })
        .collect();
    let expected = [[1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0]];
    assert_eq!(lengths, expected);
    let [fault] = &faults[..] else {
        panic!("{faults:?}");
    };
    assert_eq!((fault.track, fault.kind), (TrackId(3), ModalityKind::Audio));
    assert!(fault.detail.contains("broken.mp3"), "{}", fault.detail);
    assert_eq!(encoded(&mut encoder, 1).0, rows, "in whatever company");
}

#[test]
fn with_a_cache_vectors_are_those_that_would_be_made() {
    let folder = tempfile::tempdir().unwrap();
    let library = library(folder.path());
    let without = encoded(&mut encoder(&library, None), 2);
    let cached = folder.path().join("vectors");
    let first = encoded(&mut encoder(&library, Some(&cached)), 2);
    assert_eq!(first, without);
    let kept: Vec<_> = std::fs::read_dir(&cached).unwrap().flatten().collect();
    let lengths: u64 = kept.iter().map(|file| file.metadata().unwrap().len()).sum();
    let of = |vectors: u64, numbers: u64| 16 + vectors * (16 + 4 * numbers + 8);
    assert_eq!((kept.len(), lengths), (2, of(3, 384) + of(2, 63)));

    // From the cache alone: the files are not what they were.
    let mut read = encoder(&library, Some(&cached));
    assert_eq!(encoded(&mut read, 5), without);
    drop(read);
    for file in kept {
        let mut bytes = std::fs::read(file.path()).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes.truncate(bytes.len() - 3);
        std::fs::write(file.path(), bytes).unwrap();
    }
    let healed = encoded(&mut encoder(&library, Some(&cached)), 3);
    assert_eq!(healed, without);
}
