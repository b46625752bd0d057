//! Files that are not what they say, and files that were made to break a decoder.

use std::path::PathBuf;

use super::{clip, sixteen, tone, wav};
use segue_encode::audio::Problem;
use segue_encode::audio::crop::{Crop, listen};
use segue_encode::audio::decode::Samples;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn heard(&self, name: &str, bytes: &[u8]) -> Result<Vec<Samples>, Problem> {
        let path = self.put(name, bytes);
        listen(&path, &Crop::default(), 16_000, 1).map_err(|error| error.problem)
    }
}

#[test]
fn what_has_no_sound_says_so() {
    let folder = Folder::new();
    let gone = folder.0.path().join("gone.mp3");
    let error = listen(&gone, &Crop::default(), 16_000, 1).unwrap_err();
    assert!(
        error.to_string().contains("gone.mp3: cannot be read"),
        "{error}"
    );
    assert!(listen(folder.0.path(), &Crop::default(), 16_000, 1).is_err());
    let text = "A text about music. ".repeat(1_000);
    for (name, bytes) in [("empty.mp3", &b""[..]), ("text.ogg", text.as_bytes())] {
        let problem = folder.heard(name, bytes).unwrap_err();
        assert!(matches!(problem, Problem::Unknown(_)), "{name}: {problem}");
    }
    let silence = wav(1, 1, 16_000, 16, 64_000, &[0; 64_000]);
    assert!(matches!(
        folder.heard("silence.wav", &silence),
        Err(Problem::Silent)
    ));
    for samples in [0, 1, 100] {
        let data = sixteen(tone(3_000.0, 16_000, 1.0).into_iter().take(samples));
        let short = wav(1, 1, 16_000, 16, data.len() as u32, &data);
        let problem = folder.heard("short.wav", &short).unwrap_err();
        let expected = matches!(problem, Problem::Short(_) | Problem::Unknown(_));
        assert!(expected, "{samples}: {problem}");
    }
}

#[test]
fn a_wrong_name_is_no_matter() {
    let folder = Folder::new();
    for name in ["clip.mp3", "clip.ogg", "clip.flac", "clip.m4a", "clip.wav"] {
        let bytes = std::fs::read(clip(name)).unwrap();
        let right = folder.heard(name, &bytes).unwrap();
        for wrong in ["song.aac", "song.wav", "song.xyz", "song"] {
            let heard = folder.heard(wrong, &bytes).unwrap();
            assert_eq!(heard[0].channels, right[0].channels, "{name} as {wrong}");
        }
    }
}

#[test]
fn a_header_that_promises_too_much_is_not_believed() {
    let folder = Folder::new();
    let data = sixteen(tone(440.0, 16_000, 3.0));
    let honest = folder
        .heard("a.wav", &wav(1, 1, 16_000, 16, data.len() as u32, &data))
        .unwrap();
    for claimed in [1_000_000_000, u32::MAX - 40, u32::MAX] {
        let heard = folder
            .heard("b.wav", &wav(1, 1, 16_000, 16, claimed, &data))
            .unwrap();
        assert_eq!(heard[0].channels, honest[0].channels, "{claimed}");
    }
    // Cut off in the middle, as an interrupted download is.
    for name in ["clip.mp3", "clip.ogg", "clip.flac", "clip.aac", "clip.wav"] {
        let bytes = std::fs::read(clip(name)).unwrap();
        let half = folder.heard(name, &bytes[..bytes.len() / 2]).unwrap();
        let seconds = half[0].seconds();
        assert!((1.5..4.5).contains(&seconds), "{name}: {seconds}");
    }
    let impossible = wav(1, 0, 0, 16, 100, &[7; 100]);
    assert!(folder.heard("c.wav", &impossible).is_err());
    let endless = wav(1, 1, u32::MAX, 16, 100, &[7; 100]);
    assert!(folder.heard("d.wav", &endless).is_err());
    let wide = wav(1, 60_000, 16_000, 16, 240_000, &[7; 240_000]);
    let _ = folder.heard("e.wav", &wide);
}

#[test]
fn samples_that_are_no_numbers_are_no_sound() {
    let folder = Folder::new();
    let file = |change: &dyn Fn(usize, f32) -> f32| {
        let samples = tone(440.0, 16_000, 2.0).into_iter().enumerate();
        let samples = samples.map(|(n, sample)| change(n, sample));
        let data: Vec<u8> = samples.flat_map(f32::to_le_bytes).collect();
        wav(3, 1, 16_000, 32, data.len() as u32, &data)
    };
    let plain = folder.heard("plain.wav", &file(&|_, s| s)).unwrap();
    for bad in [f32::NAN, f32::INFINITY, 1e38] {
        let scratched = file(&|n, s| if n == 5_000 { bad } else { s });
        let scratched = folder.heard("scratch.wav", &scratched).unwrap();
        assert_eq!(scratched[0].channels[0][4_000], plain[0].channels[0][4_000]);
        assert_eq!(scratched[0].channels[0][5_000], 0.0);
        let problem = folder.heard("bad.wav", &file(&|_, _| bad)).unwrap_err();
        assert!(matches!(problem, Problem::NotSound { .. }), "{problem}");
    }
}

/// A generator that is the same on every machine.
fn chance(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below.max(1)
    }
}

#[test]
fn broken_files_break_nothing() {
    let folder = Folder::new();
    let crop = Crop {
        seconds: 1.0,
        count: 2,
    };
    let (mut heard, mut refused, mut broken) = (0, 0, 0);
    for name in [
        "clip.mp3",
        "clip.ogg",
        "clip.flac",
        "clip.m4a",
        "clip.aac",
        "clip.wav",
    ] {
        let whole = std::fs::read(clip(name)).unwrap();
        for seed in 0..40 {
            let mut chance = chance(seed + 1);
            let mut bytes = whole.clone();
            // Headers stand at the front: half of the damage is there.
            let reach = if seed % 2 == 0 { 600 } else { bytes.len() };
            for _ in 0..1 + chance(30) {
                let at = chance(reach);
                bytes[at] = chance(256) as u8;
            }
            if seed % 5 == 0 {
                bytes.truncate(chance(whole.len()));
            }
            let path = folder.put(name, &bytes);
            match listen(&path, &crop, 16_000, 1) {
                Ok(stretches) => {
                    heard += 1;
                    for samples in stretches {
                        assert!(samples.frames() <= 16_000, "{name}, seed {seed}");
                        assert!(samples.peak().is_finite(), "{name}, seed {seed}");
                    }
                }
                Err(error) => {
                    refused += 1;
                    broken += usize::from(matches!(error.problem, Problem::Broken(_)));
                }
            }
        }
    }
    println!("{heard} heard, {refused} refused, of which {broken} broke the decoder");
    assert!(heard > 60 && refused > 20);
}
