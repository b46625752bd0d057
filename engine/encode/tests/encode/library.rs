//! Tracks whose audio a library names.

use std::sync::Arc;

use segue_catalog::content::TrackContent;
use segue_catalog::encoder::Encoder;
use segue_catalog::library::{Library, TrackMedia};
use segue_encode::audio::crop::Crop;
use segue_encode::audio::encoder::AudioEncoder;
use segue_encode::audio::handcrafted::{Handcrafted, NUMBERS};
use segue_listen::{TrackId, TrackKey};

use super::clip;

#[test]
fn a_track_is_what_its_file_sounds_like() {
    let audio = ["clip.flac", "LICENSE", "gone.mp3", "", "clip.ogg"];
    let mut library = Library::default();
    let mut tracks = Vec::new();
    for (number, name) in (0u32..).zip(audio) {
        let title = format!("track {number}");
        let key = TrackKey::from_names("", &title);
        tracks.push(TrackContent {
            track: TrackId(number),
            key,
            artist: "".into(),
            title: title.into(),
        });
        let media = TrackMedia {
            audio: (!name.is_empty()).then(|| clip(name)),
            ..TrackMedia::default()
        };
        library.insert(key, media);
    }
    let crop = Crop {
        seconds: 1.0,
        count: 3,
    };
    let library = Arc::new(library);
    let mut encoder = AudioEncoder::new(Box::new(Handcrafted), crop, Arc::clone(&library));
    assert_eq!((encoder.name(), encoder.dimensions()), ("handcrafted", 63));
    let mut rows = vec![7.0];
    let outcomes = encoder.encode(&tracks, &mut rows).unwrap();
    assert_eq!(rows.len(), 1 + 5 * NUMBERS);
    let said: Vec<String> = outcomes
        .iter()
        .map(|outcome| {
            outcome
                .as_ref()
                .err()
                .map_or(String::new(), |e| e.to_string())
        })
        .collect();
    assert!(said[0].is_empty() && said[4].is_empty(), "{said:?}");
    assert!(said[1].contains("not an audio file"), "{}", said[1]);
    assert!(said[2].contains("gone.mp3"), "{}", said[2]);
    assert!(said[3].contains("names no audio"), "{}", said[3]);
    let row = |number: usize| &rows[1 + number * NUMBERS..][..NUMBERS];
    assert!((1..4).all(|number| row(number).iter().all(|&value| value == 0.0)));
    // The same file anew, and alone, is the same vector.
    let mut alone = Vec::new();
    encoder.encode(&tracks[..1], &mut alone).unwrap();
    assert_eq!(alone, row(0));
}
