//! Files of every format, short and long, and what is heard in them.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use super::{clip, furthest, likeness, mono, sixteen, tone, values, wav};
use segue_encode::audio::Problem;
use segue_encode::audio::crop::{Crop, listen};
use segue_encode::audio::decode::{AudioFile, Samples};
use segue_encode::audio::resample::resampled;

fn whole(path: &Path) -> Samples {
    AudioFile::open(path).unwrap().read(0.0, 60.0, 1).unwrap()
}

fn heard(path: &Path, crop: &Crop) -> Result<Vec<Samples>, Problem> {
    listen(path, crop, 16_000, 1).map_err(|error| error.problem)
}

#[test]
fn every_format_says_the_same() {
    let exact = whole(&clip("clip.flac"));
    assert_eq!((exact.rate, exact.frames()), (22_050, 110_250));
    // AAC does not say how much its encoder put before the music: 1024 samples.
    for (name, before) in [
        ("clip.mp3", 0),
        ("clip.ogg", 0),
        ("clip.m4a", 1024),
        ("clip.aac", 1024),
    ] {
        let claimed = AudioFile::open(&clip(name)).unwrap().claimed_seconds();
        let mut samples = whole(&clip(name));
        assert_eq!(samples.rate, 44_100, "{name}");
        assert!((samples.seconds() - 5.0).abs() < 0.06, "{name}");
        samples.channels[0].drain(..before);
        let low = resampled(samples, 22_050).unwrap();
        let same = likeness(&low.channels[0], &exact.channels[0]);
        let measured = AudioFile::open(&clip(name))
            .unwrap()
            .measured_seconds()
            .unwrap();
        println!("{name}: likeness {same}, claims {claimed:?}, measured {measured:.4}");
        assert!(same > 0.97, "{name}");
        assert!((measured - 5.0).abs() < 0.06, "{name}");
    }
}

#[test]
fn channels_are_as_many_as_asked_for() {
    let read = |name: &str, channels| {
        AudioFile::open(&clip(name))
            .unwrap()
            .read(1.0, 1.0, channels)
            .unwrap()
    };
    let (one, two) = (read("clip.ogg", 1), read("clip.ogg", 2));
    assert_eq!((one.channels.len(), two.channels.len()), (1, 2));
    assert_eq!((one.frames(), two.frames()), (44_100, 44_100));
    let both = two.channels[0].iter().zip(&two.channels[1]);
    let mean: Vec<f32> = both.map(|(left, right)| (left + right) / 2.0).collect();
    assert!(furthest(&one.channels[0], &mean) < 1e-6);
    assert!(
        furthest(&two.channels[0], &two.channels[1]) > 0.01,
        "stereo"
    );
    let doubled = read("clip.flac", 2);
    assert_eq!(doubled.channels[0], doubled.channels[1]);
}

#[test]
fn resampling_is_that_of_a_good_resampler() {
    let exact = whole(&clip("clip.flac"));
    for rate in [16_000, 48_000] {
        let mine = resampled(exact.clone(), rate).unwrap();
        assert_eq!(mine.frames(), 5 * rate as usize);
        let theirs = values("sound", &format!("at_{rate}"));
        let mine = &mine.channels[0][rate as usize..][..theirs.len()];
        println!(
            "{rate}: {}, {}",
            likeness(mine, &theirs),
            furthest(mine, &theirs)
        );
        assert!(likeness(mine, &theirs) > 0.9995, "{rate}");
    }
    // What the lower rate can carry is kept as it is, and what it cannot is not folded into it.
    for (hertz, loudness) in [(7_400.0, 0.5), (8_300.0, 0.0)] {
        let tone = mono(tone(hertz, 44_100, 1.0), 44_100);
        let low = resampled(tone, 16_000).unwrap();
        let peak = low.channels[0][4_000..12_000]
            .iter()
            .fold(0f32, |p, s| p.max(s.abs()));
        assert!((peak - loudness).abs() < 0.005, "{hertz} Hz: {peak}");
    }
    // Rates that have nothing in common, and nothing to do.
    let odd = resampled(mono(tone(440.0, 44_101, 0.5), 44_101), 16_000).unwrap();
    assert_eq!(odd.frames(), 8_000);
    let same = resampled(exact.clone(), 22_050).unwrap();
    assert_eq!(same.channels, exact.channels);
}

#[test]
fn crops_are_spread_over_the_track() {
    let crop = |seconds, count| Crop { seconds, count };
    assert_eq!(crop(30.0, 1).starts(180.0), [75.0]);
    assert_eq!(crop(30.0, 3).starts(180.0), [15.0, 75.0, 135.0]);
    assert_eq!(crop(30.0, 5).starts(20.0), [0.0]);
    assert_eq!(crop(30.0, 9).starts(45.0), [0.0, 15.0]);
    assert_eq!(crop(30.0, 2).starts(f64::MAX).len(), 2);
    assert!(Crop::default().check().is_ok());
    for wrong in [crop(f64::NAN, 1), crop(0.0, 1), crop(30.0, 0), crop(1e9, 1)] {
        assert!(wrong.check().is_err(), "{wrong:?}");
    }
}

#[test]
fn what_is_sought_is_what_is_there() {
    // Twenty copies of a clip, as a long file of its format: mp3 and raw aac can be glued.
    let folder = tempfile::tempdir().unwrap();
    // AAC fills some bands with noise of the decoder's own, which goes on from where it was.
    for (name, rate, near) in [("clip.mp3", 44_100, 0.999), ("clip.aac", 44_100, 0.95)] {
        let one = std::fs::read(clip(name)).unwrap();
        let path = folder.path().join(name);
        // Without the first frame, which in mp3 is no sound and says that there are five seconds.
        let next = one.windows(2).skip(2).position(|pair| pair == &one[..2]);
        std::fs::write(&path, one[2 + next.unwrap()..].repeat(20)).unwrap();
        let straight = AudioFile::open(&path).unwrap().read(0.0, 100.0, 1).unwrap();
        let sought = AudioFile::open(&path).unwrap().read(61.0, 2.0, 1).unwrap();
        let there = &straight.channels[0][61 * rate..][..2 * rate];
        println!("{name}: {}", likeness(&sought.channels[0], there));
        assert!(likeness(&sought.channels[0], there) > near, "{name}");
    }
}

#[test]
fn ten_hours_cost_no_more_than_what_is_heard() {
    // A sparse file: silence but for a tone around the middle.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.wav");
    let (rate, hours) = (8_000u32, 10);
    let bytes = rate * 2 * 3600 * hours;
    let mut file = File::create(&path).unwrap();
    file.write_all(&wav(1, 1, rate, 16, bytes, &[])).unwrap();
    file.set_len(44 + u64::from(bytes)).unwrap();
    file.seek(SeekFrom::Start(
        44 + u64::from(bytes) / 2 - 2 * u64::from(rate) * 20,
    ))
    .unwrap();
    file.write_all(&sixteen(tone(440.0, rate, 40.0))).unwrap();
    drop(file);
    let crop = Crop {
        seconds: 30.0,
        count: 1,
    };
    let stretches = heard(&path, &crop).unwrap();
    assert_eq!(stretches.len(), 1);
    assert_eq!(stretches[0].frames(), 30 * 16_000);
    assert!((stretches[0].peak() - 0.5).abs() < 0.02);
    assert_eq!(
        heard(&path, &crop).unwrap()[0].channels,
        stretches[0].channels
    );
    // With three stretches, two are silent and left out.
    assert_eq!(heard(&path, &Crop { count: 3, ..crop }).unwrap().len(), 1);
}

#[test]
fn a_silent_middle_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hidden.wav");
    let mut samples = tone(440.0, 16_000, 20.0);
    samples[6 * 16_000..14 * 16_000].fill(0.0);
    std::fs::write(&path, wav(1, 1, 16_000, 16, 640_000, &sixteen(samples))).unwrap();
    let crop = Crop {
        seconds: 4.0,
        count: 1,
    };
    let stretches = heard(&path, &crop).unwrap();
    assert!((stretches[0].peak() - 0.5).abs() < 0.01);
}
