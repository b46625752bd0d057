//! Encoders against values of their reference implementations, which the scripts of `tests/golden`
//! write, and against files of every kind. Not skipped without the models: they are a part of the
//! set-up, and the error says how to get them.
//!
//! - `files`, `hostile`: what is heard in audio files, whole and broken ones;
//! - `numbers`: the numbers that need no learning;
//! - `hearing`: models of sound that transformers made and saved;
//! - `minilm`, `musicnn`: the published models;
//! - `texts`: MPNet, and long texts by chunks;
//! - `library`: tracks by what a library says of them;
//! - `multimodal`: lyrics and sound as segments of one vector, with and without a cache;
//! - `rated`: ratings as such a segment;
//! - `rating`: a language model that rates tracks.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};

use segue_encode::audio::decode::Samples;
use segue_nn::weights::Weights;

mod files;
mod hearing;
mod hostile;
mod library;
mod minilm;
mod multimodal;
mod musicnn;
mod numbers;
mod rated;
mod rating;
mod texts;

/// The golden values' folder.
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden");

/// The folder of a model.
fn model(name: &str) -> PathBuf {
    let models = std::env::var_os("SEGUE_MODELS").map(PathBuf::from);
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    models
        .unwrap_or_else(|| here.join("../../.models"))
        .join(name)
}

/// The largest difference; a value that is no number is infinitely far.
fn furthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |most, now| {
            if now.is_nan() {
                f32::INFINITY
            } else {
                now.max(most)
            }
        })
}

fn clip(name: &str) -> PathBuf {
    Path::new(GOLDEN).join("audio").join(name)
}

/// A table of golden values, row-major.
fn values(table: &str, name: &str) -> Vec<f32> {
    let weights = Weights::open(&Path::new(GOLDEN).join(format!("{table}.safetensors"))).unwrap();
    let tensor = weights.get(name).unwrap();
    let mut values = vec![0f32; tensor.numel()];
    tensor.copy_data(&mut values, tensor.numel());
    values
}

/// The cosine of the angle between two signals, as far as both go.
fn likeness(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let length = a.len().min(b.len());
    let (a, b) = (&a[..length], &b[..length]);
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// A WAV file: its header says `claimed` bytes of samples, `format` 1 is whole numbers, 3 is floats.
fn wav(format: u16, channels: u16, rate: u32, bits: u16, claimed: u32, data: &[u8]) -> Vec<u8> {
    let frame = channels.saturating_mul(bits / 8);
    let mut file = b"RIFF".to_vec();
    file.extend(claimed.saturating_add(36).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0");
    file.extend(format.to_le_bytes());
    file.extend(channels.to_le_bytes());
    file.extend(rate.to_le_bytes());
    file.extend((rate.saturating_mul(u32::from(frame))).to_le_bytes());
    file.extend(frame.to_le_bytes());
    file.extend(bits.to_le_bytes());
    file.extend(b"data");
    file.extend(claimed.to_le_bytes());
    file.extend(data);
    file
}

/// Mono samples as 16-bit numbers.
fn sixteen(samples: impl IntoIterator<Item = f32>) -> Vec<u8> {
    let numbers = samples.into_iter().map(|s| (s * 32_767.0) as i16);
    numbers.flat_map(i16::to_le_bytes).collect()
}

/// A tone of half of full scale.
fn tone(hertz: f64, rate: u32, seconds: f64) -> Vec<f32> {
    let count = (f64::from(rate) * seconds) as usize;
    let phase = move |n: usize| std::f64::consts::TAU * hertz * n as f64 / f64::from(rate);
    (0..count).map(|n| 0.5 * phase(n).sin() as f32).collect()
}

fn mono(samples: Vec<f32>, rate: u32) -> Samples {
    Samples {
        channels: vec![samples],
        rate,
    }
}
