//! What a checkpoint has to hold is what a decoder asks for, no more and no less.

use std::collections::HashMap;

use tch::Tensor;

use super::{config, options, rng};
use crate::decoder::{Decoder, DecoderOptions};
use crate::decoder_config::ModelType;
use crate::inventory::faults;
use crate::weights::Weights;

/// The tensors of a checkpoint, to be meddled with.
fn copy(weights: &Weights) -> HashMap<String, Tensor> {
    let names = weights.names().into_iter();
    names
        .map(|name| (name.clone(), weights.get(&name).unwrap()))
        .collect()
}

#[test]
fn a_checkpoint_that_lacks_what_is_needed_does_not_load_and_one_that_holds_it_does() {
    for model_type in [ModelType::Llama, ModelType::Qwen2] {
        for tied in [false, true] {
            let mut config = config(model_type);
            config.tie_word_embeddings = tied;
            let weights = config.random_weights(&mut rng(1)).unwrap();
            let depth = 2;
            let needed = config.tensors(depth);
            assert_eq!(faults(&weights, &needed), Vec::<String>::new());
            let cut = DecoderOptions {
                depth: Some(depth),
                ..options()
            };
            // Only what is needed, then one tensor after the other left out or misshapen.
            let mut only = copy(&weights);
            only.retain(|name, _| needed.iter().any(|(one, _)| one == name));
            let only = Weights::from_memory("only", only);
            Decoder::load(&only, &config, cut).unwrap();
            for (name, shape) in &needed {
                let mut lacking = copy(&only);
                let tensor = lacking.remove(name).unwrap();
                let found = faults(&Weights::from_memory("lacking", copy_of(&lacking)), &needed);
                assert_eq!(found, [format!("no tensor `{name}`")]);
                let weights = Weights::from_memory("lacking", copy_of(&lacking));
                assert!(Decoder::load(&weights, &config, cut).is_err(), "{name}");
                lacking.insert(name.clone(), tensor.reshape([-1, 1]));
                let weights = Weights::from_memory("misshapen", lacking);
                let found = faults(&weights, &needed);
                assert!(
                    found.len() == 1 && found[0].contains(&format!("needs {shape:?}")),
                    "{found:?}"
                );
                assert!(Decoder::load(&weights, &config, cut).is_err(), "{name}");
            }
        }
    }
}

fn copy_of(tensors: &HashMap<String, Tensor>) -> HashMap<String, Tensor> {
    let copies = tensors.iter();
    copies
        .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
        .collect()
}

#[test]
fn shapes_are_told_without_reading_values() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    let tensor = Tensor::zeros([2, 3], (tch::Kind::BFloat16, tch::Device::Cpu));
    Tensor::write_safetensors(&[("a", tensor)], &file).unwrap();
    let weights = Weights::open(&file).unwrap();
    assert_eq!(weights.shape("a"), Some(vec![2, 3]));
    assert_eq!(weights.shape("b"), None);
}
