//! The real SmolLM2-135M against values of the reference implementation, Hugging Face transformers
//! (`tests/golden/reference.py` writes them): for four prompts the token ids, the hidden states
//! after the last norm of a model cut to four layers, those of the last token through all layers,
//! and the likeliest continuation, all in `f32`.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};

use segue_nn::attention::causal;
use segue_nn::decoder::{Decoder, DecoderOptions, Pass};
use segue_nn::decoder_config::DecoderConfig;
use segue_nn::lora::Mode;
use segue_nn::tch::{Device, Kind, Tensor};
use segue_nn::tokenizer::Tokenizer;
use segue_nn::weights::Weights;

const PROMPTS: [&str; 4] = ["capital", "music", "chat", "digits"];

/// The golden values' folder.
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden");

/// How far a value may be from the reference's.
const TOLERANCE: f64 = 1e-4;

/// The golden values, and what they are of.
fn golden() -> (Weights, serde_json::Value) {
    let folder = Path::new(GOLDEN);
    let text = std::fs::read(folder.join("smollm2.json")).unwrap();
    let values = Weights::open(&folder.join("smollm2.safetensors")).unwrap();
    (values, serde_json::from_slice(&text).unwrap())
}

fn weights() -> Weights {
    let models = std::env::var_os("SEGUE_MODELS").map(PathBuf::from);
    let models =
        models.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.models"));
    // Not skipped: the models are a part of the set-up, and the error says how to get them.
    Weights::open(&models.join("smollm2-135m")).unwrap_or_else(|e| panic!("{e}"))
}

fn load(weights: &Weights, kind: Kind, depth: Option<usize>) -> Decoder {
    let config = DecoderConfig::of(weights).unwrap();
    let options = DecoderOptions {
        depth,
        kind,
        device: Device::Cpu,
    };
    Decoder::load(weights, &config, options).unwrap()
}

fn hidden(decoder: &Decoder, ids: &[i64]) -> Tensor {
    let length = ids.len() as i64;
    let pass = Pass {
        embeds: &decoder
            .embed(&Tensor::from_slice(ids).unsqueeze(0))
            .unwrap(),
        positions: &Tensor::arange(length, (Kind::Int64, Device::Cpu)).unsqueeze(0),
        mask: &causal(&[length], length).unwrap(),
        cache: None,
        mode: Mode::Infer,
    };
    decoder.forward(pass).unwrap().get(0)
}

fn furthest(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a - b).abs().max().double_value(&[])
}

#[test]
fn smollm2_is_what_it_was_published_as() {
    let (values, expected) = golden();
    let weights = weights();
    let tokenizer = Tokenizer::of(&weights).unwrap();
    let depth = expected["depth"].as_u64().unwrap() as usize;
    let cut = load(&weights, Kind::Float, Some(depth));
    let whole = load(&weights, Kind::Float, None);
    assert_eq!(whole.depth() as u64, expected["layers"].as_u64().unwrap());

    let all: Vec<Vec<i64>> = PROMPTS
        .iter()
        .map(|name| serde_json::from_value(expected["prompts"][name]["ids"].clone()).unwrap())
        .collect();
    for (name, ids) in PROMPTS.iter().zip(&all) {
        let prompt = expected["prompts"][name]["prompt"].as_str().unwrap();
        assert_eq!(&tokenizer.encode(prompt).unwrap(), ids, "{name}");
        assert_eq!(tokenizer.decode(ids).unwrap(), prompt, "{name}");

        let gold = |what: &str| values.get(&format!("{name}.{what}")).unwrap();
        let of_cut = furthest(&hidden(&cut, ids), &gold("cut"));
        let last = hidden(&whole, ids).get(-1);
        let of_whole = furthest(&last, &gold("last_of_all_layers"));
        println!("{name}: {depth} layers {of_cut:.1e}, all {of_whole:.1e}");
        assert!(of_cut < TOLERANCE && of_whole < TOLERANCE, "{name}");

        // Continuing greedily through the cache says what the reference said.
        let greedy = expected["prompts"][name]["greedy"].clone();
        let greedy: Vec<i64> = serde_json::from_value(greedy).unwrap();
        assert_eq!(continued(&whole, ids, greedy.len()), greedy, "{name}");
    }

    // All prompts in one padded batch: each row as it is alone.
    let longest = all.iter().map(Vec::len).max().unwrap();
    let lengths: Vec<i64> = all.iter().map(|ids| ids.len() as i64).collect();
    let mut flat = Vec::new();
    for ids in &all {
        flat.extend(ids);
        flat.resize(flat.len() + longest - ids.len(), 2);
    }
    let ids = Tensor::from_slice(&flat).reshape([4, longest as i64]);
    let places = Tensor::arange(longest as i64, (Kind::Int64, Device::Cpu));
    let batch = cut
        .forward(Pass {
            embeds: &cut.embed(&ids).unwrap(),
            positions: &places.expand([4, longest as i64], false),
            mask: &causal(&lengths, longest as i64).unwrap(),
            cache: None,
            mode: Mode::Infer,
        })
        .unwrap();
    for (row, name) in PROMPTS.iter().enumerate() {
        let gold = values.get(&format!("{name}.cut")).unwrap();
        let mine = batch.get(row as i64).narrow(0, 0, lengths[row]);
        assert!(furthest(&mine, &gold) < TOLERANCE, "{name} in a batch");
    }
}

/// The likeliest continuation, one token at a time; each step is held against the pass without a
/// cache.
fn continued(decoder: &Decoder, prompt: &[i64], count: usize) -> Vec<i64> {
    let mut slots = decoder.kv_slots(2, 64).unwrap();
    let (_neighbour, slot) = (slots.claim(0).unwrap(), slots.claim(0).unwrap());
    let mut said = prompt.to_vec();
    let mut new = prompt.to_vec();
    for step in 0..count {
        let (past, length) = (slots.length(slot).unwrap(), new.len() as i64);
        let rows = slots.rows(&[slot], &[length], length).unwrap();
        let mask = slots.causal_mask(&[slot], length).unwrap();
        let places: Vec<i64> = (past..past + length).collect();
        let out = decoder
            .forward(Pass {
                embeds: &decoder
                    .embed(&Tensor::from_slice(&new).unsqueeze(0))
                    .unwrap(),
                positions: &Tensor::from_slice(&places).unsqueeze(0),
                mask: &mask,
                cache: Some((&mut slots, &rows)),
                mode: Mode::Infer,
            })
            .unwrap();
        let last = out.get(0).get(-1);
        if step % 8 == 0 {
            let whole = hidden(decoder, &said).get(-1);
            assert!(furthest(&last, &whole) < 1e-3, "step {step}");
        }
        let next = decoder
            .logits(&last)
            .unwrap()
            .argmax(-1, false)
            .int64_value(&[]);
        said.push(next);
        new = vec![next];
    }
    said.split_off(prompt.len())
}

#[test]
fn bf16_stays_close() {
    let (values, _) = golden();
    let decoder = load(&weights(), Kind::BFloat16, None);
    let tokenizer = Tokenizer::of(&weights()).unwrap();
    let ids = tokenizer.encode("The capital of France is").unwrap();
    let mine = hidden(&decoder, &ids).get(-1).to_kind(Kind::Float);
    let gold = values.get("capital.last_of_all_layers").unwrap();
    let cosine = mine.dot(&gold) / (mine.norm() * gold.norm());
    println!("bf16: cosine {}", cosine.double_value(&[]));
    assert!(cosine.double_value(&[]) > 0.99);
}
