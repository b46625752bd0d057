//! This room against the reference implementations, Hugging Face transformers and PEFT, whose
//! answers lie in `tests/golden/` with the scripts that wrote them (`reference.py`).
//!
//! 1. [`smollm2`]: the real SmolLM2-135M;
//! 2. [`shapes`]: small models of each published shape, as transformers saves them;
//! 3. [`adapters`]: adapters in the format of PEFT, both ways;
//! 4. [`packed`]: weights that stay packed;
//! 5. [`files`]: a GGUF file of another family.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod adapters;
mod files;
mod packed;
mod shapes;
mod smollm2;

use std::path::{Path, PathBuf};

use segue_nn::attention::causal;
use segue_nn::decoder::{Decoder, DecoderOptions, Pass};
use segue_nn::decoder_config::DecoderConfig;
use segue_nn::kv_slots::{KvSlots, SlotId};
use segue_nn::lora::Mode;
use segue_nn::packed::WeightFormat;
use segue_nn::tch::{Device, Kind, Tensor};
use segue_nn::weights::Weights;

/// How far from the reference's hidden states ours may be, as `|ours - theirs| / |theirs|`.
const IN_F32: f64 = 1e-4;
/// The same where both compute in `bf16`.
const IN_BF16: f64 = 2e-2;
/// From the reference's in `f32` where we compute in `f16`, which has three binary digits more.
const IN_F16: f64 = 5e-3;

/// A file or folder of golden values.
fn golden(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden")).join(name)
}

/// A table of golden values, and what they are of.
fn table(name: &str) -> (Weights, serde_json::Value) {
    let text = std::fs::read(golden(&format!("{name}.json"))).unwrap();
    let values = Weights::open(&golden(&format!("{name}.safetensors"))).unwrap();
    (values, serde_json::from_slice(&text).unwrap())
}

fn load(weights: &Weights, kind: Kind, depth: Option<usize>) -> Decoder {
    let config = DecoderConfig::of(weights).unwrap();
    Decoder::load(weights, &config, options(kind, depth)).unwrap()
}

fn options(kind: Kind, depth: Option<usize>) -> DecoderOptions {
    DecoderOptions {
        depth,
        kind,
        weights: WeightFormat::AsComputed,
        device: Device::Cpu,
    }
}

/// Final hidden states of one row alone, `[length, hidden]`.
fn hidden(decoder: &Decoder, ids: &[i64]) -> Tensor {
    hidden_of_all(decoder, &[ids.to_vec()]).remove(0)
}

/// Final hidden states of rows in one padded batch, `[length, hidden]` each.
fn hidden_of_all(decoder: &Decoder, rows: &[Vec<i64>]) -> Vec<Tensor> {
    let longest = rows.iter().map(Vec::len).max().unwrap();
    let lengths: Vec<i64> = rows.iter().map(|ids| ids.len() as i64).collect();
    let mut flat = Vec::new();
    for ids in rows {
        flat.extend(ids);
        flat.resize(flat.len() + longest - ids.len(), 2);
    }
    let size = [rows.len() as i64, longest as i64];
    let places = Tensor::arange(longest as i64, (Kind::Int64, Device::Cpu));
    let batch = decoder
        .forward(Pass {
            embeds: &decoder
                .embed(&Tensor::from_slice(&flat).reshape(size))
                .unwrap(),
            positions: &places.expand(size, false),
            mask: &causal(&lengths, longest as i64).unwrap(),
            cache: None,
            mode: Mode::Infer,
        })
        .unwrap();
    (0i64..)
        .zip(&lengths)
        .map(|(row, &length)| batch.get(row).narrow(0, 0, length))
        .collect()
}

/// Feeds one slot so many tokens more; their hidden states, `[length, hidden]`.
fn through_cache(decoder: &Decoder, slots: &mut KvSlots, slot: SlotId, ids: &[i64]) -> Tensor {
    let (past, length) = (slots.length(slot).unwrap(), ids.len() as i64);
    let rows = slots.rows(&[slot], &[length], length).unwrap();
    let mask = slots.causal_mask(&[slot], length).unwrap();
    let places: Vec<i64> = (past..past + length).collect();
    let out = decoder
        .forward(Pass {
            embeds: &decoder
                .embed(&Tensor::from_slice(ids).unsqueeze(0))
                .unwrap(),
            positions: &Tensor::from_slice(&places).unsqueeze(0),
            mask: &mask,
            cache: Some((slots, &rows)),
            mode: Mode::Infer,
        })
        .unwrap();
    out.get(0)
}

/// `|ours - theirs| / |theirs|`, in `f32`.
fn apart(ours: &Tensor, theirs: &Tensor) -> f64 {
    assert_eq!(ours.size(), theirs.size());
    let (ours, theirs) = (ours.to_kind(Kind::Float), theirs.to_kind(Kind::Float));
    let apart = ((ours - &theirs).norm() / theirs.norm()).double_value(&[]);
    assert!(apart.is_finite());
    apart
}
