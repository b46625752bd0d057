//! What holds without any downloaded model: small decoders from chance, forged files.

mod decoder;
mod gguf;
mod inventory;
mod lora;
mod memory;
mod packed;
mod safetensors;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tch::{Device, Kind, Tensor};

use crate::decoder::{Decoder, DecoderOptions};
use crate::decoder_config::{DecoderConfig, ModelType};
use crate::packed::WeightFormat;

/// A decoder small enough to run in a blink, with everything a large one has.
fn config(model_type: ModelType) -> DecoderConfig {
    DecoderConfig {
        model_type,
        vocab_size: 50,
        hidden_size: 24,
        intermediate_size: 40,
        num_hidden_layers: 3,
        num_attention_heads: 6,
        num_key_value_heads: Some(2),
        head_dim: None,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        max_position_embeddings: 128,
        tie_word_embeddings: false,
        attention_bias: false,
        mlp_bias: false,
        hidden_act: "silu".into(),
        use_sliding_window: false,
    }
}

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

fn options() -> DecoderOptions {
    DecoderOptions {
        depth: None,
        kind: Kind::Float,
        weights: WeightFormat::AsComputed,
        device: Device::Cpu,
    }
}

fn decoder(model_type: ModelType) -> Decoder {
    let config = config(model_type);
    // Ten times the usual deviation, so that attention is far from uniform and mistakes show.
    let weights = config.random_weights(&mut rng(7)).unwrap();
    let loud = weights
        .names()
        .into_iter()
        .map(|name| {
            let tensor = weights.get(&name).unwrap();
            let scale = if tensor.dim() == 2 { 10.0 } else { 1.0 };
            (name, tensor * scale)
        })
        .collect();
    let weights = crate::weights::Weights::from_memory("loud", loud);
    Decoder::load(&weights, &config, options()).unwrap()
}

fn furthest(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a - b).abs().max().double_value(&[])
}
