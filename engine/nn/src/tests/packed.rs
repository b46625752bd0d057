//! Packed weights: as small as they are said to be, as near as they are said to be, and otherwise
//! like any others.

use std::collections::HashMap;

use tch::{Device, Kind, Tensor};

use super::{options, rng};
use crate::NnError;
use crate::attention::causal;
use crate::decoder::{Decoder, Pass, Projection};
use crate::decoder_config::{DecoderConfig, ModelType};
use crate::lora::{LoraConfig, LoraInit, Mode};
use crate::packed::WeightFormat;
use crate::weights::{Weights, WeightsError};

/// Rows of whole blocks, and biases.
fn config() -> DecoderConfig {
    DecoderConfig {
        hidden_size: 96,
        intermediate_size: 160,
        ..super::config(ModelType::Qwen2)
    }
}

fn weights() -> Weights {
    config().random_weights(&mut rng(5)).unwrap()
}

fn load(weights: &Weights, format: WeightFormat, kind: Kind) -> Decoder {
    let mut options = options();
    options.weights = format;
    options.kind = kind;
    Decoder::load(weights, &config(), options).unwrap()
}

fn packed(kind: Kind) -> Decoder {
    load(&weights(), WeightFormat::Packed4, kind)
}

fn run(decoder: &Decoder, embeds: &Tensor) -> Tensor {
    let pass = Pass {
        embeds,
        positions: &Tensor::arange(5, (Kind::Int64, Device::Cpu)).unsqueeze(0),
        mask: &causal(&[5], 5).unwrap(),
        cache: None,
        mode: Mode::Infer,
    };
    decoder.forward(pass).unwrap()
}

fn answer(decoder: &Decoder) -> Tensor {
    let ids = Tensor::from_slice(&[3i64, 1, 4, 1, 5]).unsqueeze(0);
    run(decoder, &decoder.embed(&ids).unwrap())
}

fn apart(mine: &Tensor, other: &Tensor) -> f64 {
    let (mine, other) = (mine.to_kind(Kind::Float), other.to_kind(Kind::Float));
    ((mine - &other).norm() / other.norm()).double_value(&[])
}

/// The names of the matrices that are packed.
fn projections() -> impl Iterator<Item = (String, (i64, i64))> {
    let config = config();
    (0..config.num_hidden_layers).flat_map(move |layer| {
        let config = config.clone();
        Projection::ALL.into_iter().map(move |projection| {
            let name = format!("model.layers.{layer}.{}.weight", projection.name());
            (name, config.dense(projection).0)
        })
    })
}

#[test]
fn a_weight_takes_less_than_seven_tenths_of_a_byte() {
    let count: i64 = projections()
        .map(|(_, (output, input))| output * input)
        .sum();
    let wide = load(&weights(), WeightFormat::AsComputed, Kind::Float).bytes();
    let saved = wide - packed(Kind::Float).bytes();
    let per_weight = 4.0 - saved as f64 / count as f64;
    assert!((0.5..0.7).contains(&per_weight), "{per_weight}");
}

#[test]
fn it_answers_exactly_as_the_unpacked_values_do_and_nearly_as_the_published_ones() {
    let weights = weights();
    let mut plain: HashMap<String, Tensor> = weights
        .names()
        .into_iter()
        .map(|name| (name.clone(), weights.get(&name).unwrap()))
        .collect();
    for (name, sizes) in projections() {
        let unpacked = weights.get_packed(&name, sizes).unwrap();
        let unpacked = unpacked.unpacked(Kind::Float).unwrap();
        let off = apart(&unpacked, &plain[&name]);
        assert!((0.01..0.08).contains(&off), "{name}: {off}");
        plain.insert(name, unpacked);
    }
    let unpacked = Weights::from_memory("unpacked", plain);
    for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
        let mine = answer(&packed(kind));
        assert_eq!(
            mine,
            answer(&load(&unpacked, WeightFormat::AsComputed, kind))
        );
        let published = answer(&load(&weights, WeightFormat::AsComputed, kind));
        let off = apart(&mine, &published);
        println!("{kind:?}: {off:.1e}");
        assert!((1e-3..0.2).contains(&off), "{kind:?}: {off}");
    }
}

#[test]
fn rows_are_unpacked_alike_all_at_once_or_in_parts() {
    let (name, sizes) = projections().next().unwrap();
    let packed = weights().get_packed(&name, sizes).unwrap();
    for kind in [Kind::Float, Kind::BFloat16] {
        let whole = packed.unpacked(kind).unwrap();
        assert_eq!((whole.size2().unwrap(), whole.kind()), (sizes, kind));
        for at_once in [1, 7, sizes.0 - 1, sizes.0] {
            assert_eq!(packed.unpacked_by(kind, at_once).unwrap(), whole);
        }
    }
}

#[test]
fn adapters_sit_on_it_and_are_kept_apart_when_folded_in() {
    let mut decoder = packed(Kind::Float);
    let before = answer(&decoder);
    let lora = LoraConfig {
        rank: 4,
        alpha: 8.0,
        rank_stabilised: false,
        dropout: 0.0,
        init: LoraInit::Kaiming,
    };
    decoder
        .attach_lora(&Projection::ALL, &lora, &mut rng(3))
        .unwrap();
    assert_eq!(answer(&decoder), before);
    let ids = Tensor::from_slice(&[3i64, 1, 4, 1, 5]).unsqueeze(0);
    let embeds = decoder.embed(&ids).unwrap().set_requires_grad(true);
    run(&decoder, &embeds).square().sum(Kind::Float).backward();
    assert!(embeds.grad().abs().sum(Kind::Float).double_value(&[]) > 0.0);
    for (name, mut tensor) in decoder.lora_tensors() {
        if name.ends_with("lora_B.weight") {
            assert!(tensor.grad().abs().sum(Kind::Float).double_value(&[]) > 0.0);
            tch::no_grad(|| {
                let filled = tensor.fill_(0.05);
                assert!(filled.defined());
            });
        }
    }
    let apart_from_it = answer(&decoder);
    assert!(apart(&apart_from_it, &before) > 1e-3);
    decoder.merge_lora().unwrap();
    assert_eq!(answer(&decoder), apart_from_it);
    decoder.unmerge_lora();
    assert_eq!(answer(&decoder), apart_from_it);
}

#[test]
fn it_is_shared_and_told_from_others() {
    let decoder = packed(Kind::Float);
    let shared = decoder.share();
    assert_eq!(answer(&shared), answer(&decoder));
    assert_eq!(shared.bytes(), decoder.bytes());
    let print = |decoder: &Decoder| decoder.fingerprint().unwrap();
    assert_eq!(print(&shared), print(&decoder));
    assert_eq!(print(&packed(Kind::Float)), print(&decoder));
    let plain = load(&weights(), WeightFormat::AsComputed, Kind::Float);
    assert_ne!(print(&plain), print(&decoder));
    let other = config().random_weights(&mut rng(6)).unwrap();
    let other = load(&other, WeightFormat::Packed4, Kind::Float);
    assert_ne!(print(&other), print(&decoder));
}

#[test]
fn flat_and_extreme_blocks_are_kept_and_impossible_ones_refused() {
    let mut values = vec![0.0f32; 32];
    values.extend([0.25; 32]);
    values.extend((0..32).map(|at| if at == 7 { 1.0 } else { -1.0 }));
    values.extend((0..32).map(|at| at as f32 % 16.0));
    let of = |values: &[f32]| {
        let tensor = Tensor::from_slice(values).reshape([1, -1]);
        Weights::from_memory("few", HashMap::from([("t".to_string(), tensor)]))
    };
    let packed = of(&values).get_packed("t", (1, 128)).unwrap();
    let unpacked = packed.unpacked(Kind::Float).unwrap().reshape([-1]);
    let off = (unpacked - Tensor::from_slice(&values)).abs().max();
    // All of these lie on sixteen even steps, but for the rounding of the step to f16.
    assert!(off.double_value(&[]) < 1e-3, "{off:?}");

    for wrong in [f32::NAN, f32::INFINITY, 1e9] {
        values[3] = wrong;
        let error = of(&values).get_packed("t", (1, 128)).unwrap_err();
        let damaged = NnError::Weights(WeightsError::Damaged {
            path: "few".into(),
            problem: "tensor `t` has values that are not finite or beyond f16".into(),
        });
        assert_eq!(error.to_string(), damaged.to_string());
    }
    let error = of(&[0.0; 48]).get_packed("t", (1, 48)).unwrap_err();
    assert!(error.to_string().contains("whole blocks of 32"), "{error}");
}
