//! Adapters: a fresh one changes nothing, only it learns, folding in and out is exact.

use tch::{Device, Kind, Tensor};

use super::{decoder, furthest, rng};
use crate::attention::causal;
use crate::decoder::{Decoder, Pass, Projection};
use crate::decoder_config::ModelType;
use crate::lora::{LoraConfig, LoraInit, Mode};
use crate::weights::Weights;

const CONFIG: LoraConfig = LoraConfig {
    rank: 4,
    alpha: 8.0,
    rank_stabilised: false,
    dropout: 0.1,
    init: LoraInit::Kaiming,
};

fn run(decoder: &Decoder, embeds: &Tensor, mode: Mode) -> Tensor {
    let length = embeds.size()[1];
    let pass = Pass {
        embeds,
        positions: &Tensor::arange(length, (Kind::Int64, Device::Cpu)).unsqueeze(0),
        mask: &causal(&[length], length).unwrap(),
        cache: None,
        mode,
    };
    decoder.forward(pass).unwrap()
}

fn embeds(decoder: &Decoder) -> Tensor {
    decoder
        .embed(&Tensor::from_slice(&[3i64, 1, 4, 1]).unsqueeze(0))
        .unwrap()
}

fn stirred(decoder: &mut Decoder) {
    decoder
        .attach_lora(
            &[Projection::QProj, Projection::DownProj],
            &CONFIG,
            &mut rng(3),
        )
        .unwrap();
    tch::no_grad(|| {
        for (name, mut tensor) in decoder.lora_tensors() {
            if name.ends_with("lora_B.weight") {
                let filled = tensor.fill_(0.05);
                assert!(filled.defined());
            }
        }
    });
}

#[test]
fn a_fresh_adapter_changes_nothing() {
    let mut decoder = decoder(ModelType::Llama);
    let embeds = embeds(&decoder);
    let before = run(&decoder, &embeds, Mode::Infer);
    decoder
        .attach_lora(&Projection::ALL, &CONFIG, &mut rng(3))
        .unwrap();
    assert_eq!(decoder.lora_tensors().len(), 3 * 7 * 2);
    assert_eq!(furthest(&before, &run(&decoder, &embeds, Mode::Infer)), 0.0);
}

#[test]
fn gradients_reach_adapters_and_inputs_and_nothing_else() {
    let mut decoder = decoder(ModelType::Llama);
    stirred(&mut decoder);
    let embeds = embeds(&decoder).detach().set_requires_grad(true);
    run(&decoder, &embeds, Mode::Infer)
        .square()
        .sum(Kind::Float)
        .backward();
    assert!(embeds.grad().abs().sum(Kind::Float).double_value(&[]) > 0.0);
    for (name, tensor) in decoder.lora_tensors() {
        assert!(
            tensor.grad().abs().sum(Kind::Float).double_value(&[]) > 0.0,
            "{name}"
        );
    }
    let fresh = decoder
        .embed(&Tensor::from_slice(&[1i64]).unsqueeze(0))
        .unwrap();
    assert!(!fresh.requires_grad());
}

#[test]
fn folding_in_gives_the_same_and_out_gives_the_old() {
    let mut decoder = decoder(ModelType::Llama);
    let embeds = embeds(&decoder);
    let plain = run(&decoder, &embeds, Mode::Infer);
    stirred(&mut decoder);
    let apart = run(&decoder, &embeds, Mode::Infer);
    assert!(furthest(&plain, &apart) > 1e-3);
    decoder.merge_lora().unwrap();
    assert!(furthest(&apart, &run(&decoder, &embeds, Mode::Infer)) < 1e-4);
    decoder.unmerge_lora();
    assert_eq!(furthest(&apart, &run(&decoder, &embeds, Mode::Infer)), 0.0);
}

#[test]
fn dropout_is_for_learning_only() {
    let mut decoder = decoder(ModelType::Llama);
    stirred(&mut decoder);
    let embeds = embeds(&decoder);
    tch::manual_seed(1);
    let calm = run(&decoder, &embeds, Mode::Infer);
    assert_eq!(furthest(&calm, &run(&decoder, &embeds, Mode::Infer)), 0.0);
    assert!(furthest(&calm, &run(&decoder, &embeds, Mode::Train)) > 0.0);
}

#[test]
fn a_shared_decoder_takes_over_what_the_other_learnt() {
    let mut learner = decoder(ModelType::Llama);
    let mut answering = learner.share();
    stirred(&mut learner);
    let embeds = embeds(&learner);
    let learnt = run(&learner, &embeds, Mode::Infer);
    assert!(furthest(&learnt, &run(&answering, &embeds, Mode::Infer)) > 1e-3);
    answering
        .attach_lora(
            &[Projection::QProj, Projection::DownProj],
            &CONFIG,
            &mut rng(4),
        )
        .unwrap();
    answering.merge_lora().unwrap();
    let tensors = learner.lora_tensors().into_iter().collect();
    answering
        .load_lora(&Weights::from_memory("adapter", tensors))
        .unwrap();
    assert_eq!(
        furthest(&learnt, &run(&answering, &embeds, Mode::Infer)),
        0.0
    );
    let nothing = Weights::from_memory("empty adapter", Default::default());
    let error = answering.load_lora(&nothing).unwrap_err().to_string();
    assert!(
        error.contains("lora_A.weight") && error.contains("empty adapter"),
        "{error}"
    );
}

#[test]
fn senseless_shapes_are_refused() {
    for wrong in [
        LoraConfig { rank: 0, ..CONFIG },
        LoraConfig {
            dropout: 1.0,
            ..CONFIG
        },
        LoraConfig {
            alpha: f64::NAN,
            ..CONFIG
        },
    ] {
        assert!(wrong.validate().is_err(), "{wrong:?}");
    }
}
