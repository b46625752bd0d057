//! Ratings as a segment of a track's vector, beside what is heard of it.

use std::sync::Arc;

use segue_catalog::content::TrackContent;
use segue_catalog::encoder::Encoder;
use segue_catalog::library::{Library, TrackMedia};
use segue_catalog::modality::{ModalityKind, segments};
use segue_catalog::ratings::schema::{COUNT, place_of};
use segue_catalog::ratings::table::{RatedTrack, RatingTable};
use segue_encode::audio::crop::Crop;
use segue_encode::audio::encoder::AudioEncoder;
use segue_encode::audio::handcrafted::Handcrafted;
use segue_encode::multimodal::{MultimodalEncoder, Part};
use segue_encode::ratings::RatingsEncoder;
use segue_listen::{TrackId, TrackKey};

use crate::clip;

fn track(id: u32, title: &str) -> TrackContent {
    TrackContent {
        track: TrackId(id),
        // Not that of its names: ratings are found all the same.
        key: TrackKey(u128::from(id) + 1),
        artist: "Air".into(),
        title: title.into(),
    }
}

/// With these ratings by tempo and by danceability.
fn library(rated: &[(&str, f32, f32)]) -> Library {
    let mut table = RatingTable::new(vec!["Danceability".to_owned(), "Tempo".to_owned()]);
    for &(title, tempo, danceability) in rated {
        table.insert(RatedTrack {
            artist: "AIR".into(),
            title: title.into(),
            ratings: vec![danceability, tempo],
        });
    }
    let mut library = Library::default().with_ratings(Arc::new(table));
    let media = TrackMedia {
        audio: Some(clip("clip.ogg")),
        ..TrackMedia::default()
    };
    library.insert(track(1, "heard").key, media);
    library
}

#[test]
fn a_track_with_ratings_has_the_segment_and_one_without_lacks_it() {
    let nan = f32::NAN;
    let library = Arc::new(library(&[
        ("rated", 5.0, 0.0),
        ("half", 1.0, nan),
        ("nothing", nan, nan),
        ("middling", 2.5, nan),
    ]));
    let crop = Crop {
        seconds: 1.0,
        count: 1,
    };
    let sound = AudioEncoder::new(Box::new(Handcrafted), crop, library.clone());
    let part = |kind, encoder| Part {
        kind,
        encoder,
        cache: None,
    };
    let parts = vec![
        part(ModalityKind::Audio, Box::new(sound) as Box<dyn Encoder>),
        part(
            ModalityKind::Ratings,
            Box::new(RatingsEncoder::new(library.clone())),
        ),
    ];
    let mut encoder = MultimodalEncoder::new(parts, library);
    let layout = encoder.modalities();
    let kinds: Vec<_> = layout.iter().map(|m| (m.kind, m.dimensions)).collect();
    assert_eq!(
        kinds,
        [(ModalityKind::Audio, 63), (ModalityKind::Ratings, COUNT)]
    );
    let titles = ["rated", "heard", "half", "nothing", "middling", "unknown"];
    let tracks: Vec<_> = (0..).zip(titles).map(|(id, t)| track(id, t)).collect();
    let mut rows = Vec::new();
    let outcomes = encoder.encode(&tracks, &mut rows).unwrap();
    assert!(outcomes.iter().all(Result::is_ok));
    assert!(
        encoder.take_faults().is_empty(),
        "nothing is wrong with any"
    );
    let parts = |row: usize| -> Vec<Vec<f32>> {
        let width = 63 + COUNT;
        let row = &rows[row * width..(row + 1) * width];
        segments(&layout, row).map(|(_, s)| s.to_vec()).collect()
    };
    let set = |numbers: &[f32]| -> Vec<(usize, f32)> {
        let some = numbers.iter().copied().enumerate();
        some.filter(|(_, value)| *value != 0.0).collect()
    };
    let (tempo, danceability) = (
        place_of("Tempo").unwrap(),
        place_of("Danceability").unwrap(),
    );
    // As fast as can be and not for dancing, at length 1.
    let half = 0.5f32.sqrt();
    let [sound, rated] = &parts(0)[..] else {
        panic!("two segments");
    };
    assert_eq!(set(sound), []);
    let [first, second] = set(rated)[..] else {
        panic!("{rated:?}");
    };
    assert_eq!((first.0, second.0), (tempo, danceability));
    assert!((first.1 - half).abs() < 1e-6 && (second.1 + half).abs() < 1e-6);
    assert_eq!(set(&parts(2)[1]), [(tempo, -1.0)]);
    let heard = parts(1);
    assert!(!set(&heard[0]).is_empty() && set(&heard[1]).is_empty());
    for nothing in [3, 4, 5] {
        assert!(parts(nothing).iter().all(|segment| set(segment).is_empty()));
    }
}
