//! The published MusiCNN against its own code on TensorFlow (`tests/golden/musicnn_values.py` writes
//! the values), on real music.

use std::path::Path;

use segue_encode::audio::crop::{Crop, listen};
use segue_encode::audio::decode::{AudioFile, Samples};
use segue_encode::audio::model::AudioModel;
use segue_encode::audio::musicnn::{Musicnn, Taught};
use segue_nn::tch::{Device, Tensor, no_grad};
use segue_nn::weights::Weights;

use super::{GOLDEN, furthest, model};

fn loaded(taught: Taught) -> Musicnn {
    Musicnn::load(&model("musicnn"), taught, Device::Cpu).unwrap_or_else(|e| panic!("{e}"))
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    let mut numbers = vec![0f32; tensor.numel()];
    tensor.contiguous().copy_data(&mut numbers, tensor.numel());
    numbers
}

fn clip() -> Samples {
    let path = Path::new(GOLDEN).join("audio/clip.wav");
    AudioFile::open(&path).unwrap().read(0.0, 60.0, 1).unwrap()
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most, value| value.abs().max(most))
}

#[test]
fn musicnn_is_what_it_was_published_as() {
    let golden = Weights::open(&Path::new(GOLDEN).join("musicnn.safetensors")).unwrap();
    let golden = |name: &str| numbers(&golden.get(name).unwrap());
    let clip = clip();
    for (taught, name) in [(Taught::Mtt, "MTT_musicnn"), (Taught::Msd, "MSD_musicnn")] {
        let mut model = loaded(taught);
        let frames = model.spectrogram(&clip.channels[0]).unwrap();
        let log_mel = golden("log_mel");
        let kept: Vec<f32> = [0, 1, 10, 100, 373]
            .iter()
            .flat_map(|&frame| frames[frame * 96..(frame + 1) * 96].to_vec())
            .collect();
        println!("log mel: furthest {:.1e}", furthest(&kept, &log_mel));
        assert!(furthest(&kept, &log_mel) < 1e-3);

        let patches = Tensor::from_slice(&frames[..2 * 187 * 96]).reshape([2, 187, 96]);
        let (vectors, logits) = no_grad(|| model.forward(&patches)).unwrap();
        for (what, mine) in [("penultimate", vectors), ("logits", logits)] {
            let (mine, theirs) = (numbers(&mine), golden(&format!("{name}.{what}")));
            let relative = furthest(&mine, &theirs) / largest(&theirs);
            println!("{name} {what}: furthest {relative:.1e} of the largest");
            assert!(relative < 1e-3, "{name} {what}");
        }
        // The vector of the clip is the mean of its patches, and there is no more in it.
        let theirs = golden(&format!("{name}.penultimate"));
        let mean: Vec<f32> = (0..200)
            .map(|n| (theirs[n] + theirs[200 + n]) / 2.0)
            .collect();
        let mine = model.embed(&clip).unwrap();
        assert!(furthest(&mine, &mean) < 1e-3 * largest(&mean), "{name}");
    }
}

#[test]
fn a_file_is_heard_as_its_samples_are() {
    // The same five seconds in five formats, through decoder, resampler and network.
    let mut model = loaded(Taught::Mtt);
    let mut vector = |name: &str| {
        let path = Path::new(GOLDEN).join("audio").join(name);
        let heard = listen(&path, &Crop::default(), model.rate(), 1).unwrap();
        model.embed(&heard[0]).unwrap()
    };
    let cosine = |a: &[f32], b: &[f32]| {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    };
    let exact = vector("clip.flac");
    assert_eq!(vector("clip.flac"), exact);
    for name in ["clip.mp3", "clip.ogg", "clip.m4a", "clip.aac"] {
        let near = cosine(&vector(name), &exact);
        println!("{name}: {near}");
        assert!(near > 0.98, "{name}");
    }
}

#[test]
fn short_sounds_are_repeated_and_long_ones_go_in_batches() {
    let mut model = loaded(Taught::Mtt);
    let clip = clip();
    let part = |range: std::ops::Range<usize>| Samples {
        channels: vec![clip.channels[0][range].to_vec()],
        rate: clip.rate,
    };
    let second = part(0..16_000);
    let vector = model.embed(&second).unwrap();
    assert!(vector.iter().all(|v| v.is_finite()));
    let thrice = Samples {
        channels: vec![second.channels[0].repeat(3)],
        rate: second.rate,
    };
    assert!(furthest(&model.embed(&thrice).unwrap(), &vector) < 0.2);
    let one = model.embed(&part(0..2_000)).unwrap();
    assert!(one.iter().all(|v| v.is_finite()));
    let long = Samples {
        channels: vec![clip.channels[0].repeat(6)],
        rate: clip.rate,
    };
    assert!(model.embed(&long).unwrap().iter().all(|v| v.is_finite()));
}

#[test]
fn a_damaged_checkpoint_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let there = model("musicnn");
    let load = || Musicnn::load(folder.path(), Taught::Mtt, Device::Cpu);
    assert!(load().unwrap_err().to_string().contains("make setup"));
    let index = std::fs::read(there.join("MTT_musicnn.index")).unwrap();
    let data = "MTT_musicnn.data-00000-of-00001";
    let whole = std::fs::read(there.join(data)).unwrap();
    std::fs::write(folder.path().join(data), &whole).unwrap();
    let put =
        |bytes: &[u8]| std::fs::write(folder.path().join("MTT_musicnn.index"), bytes).unwrap();
    for cut in [0, 7, 47, 48, 1_000, index.len() - 1] {
        put(&index[..cut]);
        assert!(load().is_err(), "cut to {cut}");
    }
    // Any byte of it may be wrong: it loads, or it says that it does not.
    for at in (0..index.len()).step_by(97) {
        let mut bytes = index.clone();
        bytes[at] ^= 0xff;
        put(&bytes);
        let _ = load();
    }
    put(&index);
    assert!(load().is_ok());
    std::fs::write(folder.path().join(data), &whole[..1_000_000]).unwrap();
    assert!(load().unwrap_err().to_string().contains("where it says"));
}
