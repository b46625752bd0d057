//! The numbers that need no learning, against librosa's.

use super::{clip, mono, tone, values};
use segue_encode::audio::decode::AudioFile;
use segue_encode::audio::handcrafted::{NUMBERS, RATE, handcrafted};
use segue_encode::audio::spectrum::Edge;

#[test]
fn the_numbers_are_those_of_librosa() {
    let mut file = AudioFile::open(&clip("clip.flac")).unwrap();
    let music = file.read(0.0, 60.0, 1).unwrap();
    let drone = mono(tone(440.0, RATE, 2.0), RATE);
    for (name, samples) in [("clip", music), ("drone", drone)] {
        let mine = handcrafted(&samples).unwrap();
        let theirs = values("sound", name);
        assert_eq!((mine.len(), theirs.len()), (NUMBERS, NUMBERS));
        let mut worst = (0, 0f32);
        for (at, (mine, theirs)) in mine.iter().zip(&theirs).enumerate() {
            // What contrast there is in a single tone is that of rounding.
            if name == "drone" && (42..56).contains(&at) {
                continue;
            }
            let relative = (mine - theirs).abs() / theirs.abs().max(1e-2);
            if relative > worst.1 {
                worst = (at, relative);
            }
        }
        println!("{name}: furthest {:.1e}, of number {}", worst.1, worst.0);
        assert!(worst.1 < 1e-3, "{name}: {mine:?}\n{theirs:?}");
    }
}

#[test]
fn any_sound_has_finite_numbers() {
    let sounds = [
        vec![],
        vec![0.5],
        vec![0.0; 30_000],
        vec![1.0; 30_000],
        tone(10_900.0, RATE, 0.01),
    ];
    for sound in sounds {
        let length = sound.len();
        let numbers = handcrafted(&mono(sound, RATE)).unwrap();
        assert_eq!(numbers.len(), NUMBERS, "{length}");
        assert!(
            numbers.iter().all(|n| n.is_finite()),
            "{length}: {numbers:?}"
        );
    }
}

#[test]
fn edges_are_padded_as_they_say() {
    let sound = [1.0, 2.0, 3.0];
    assert_eq!(
        Edge::Silence.padded(&sound, 4),
        [0.0, 0.0, 1.0, 2.0, 3.0, 0.0, 0.0]
    );
    assert_eq!(
        Edge::Held.padded(&sound, 4),
        [1.0, 1.0, 1.0, 2.0, 3.0, 3.0, 3.0]
    );
    assert_eq!(
        Edge::Mirror.padded(&sound, 4),
        [3.0, 2.0, 1.0, 2.0, 3.0, 2.0, 1.0]
    );
    assert_eq!(Edge::Mirror.padded(&[7.0], 4), [7.0; 5]);
}
