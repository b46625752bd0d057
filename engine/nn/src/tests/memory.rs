//! The table of memory is what tensors really take, and refuses what does not fit.

use tch::{Device, Kind};

use super::{options, rng};
use crate::NnError;
use crate::decoder::{Decoder, Projection};
use crate::decoder_config::{DecoderConfig, ModelType};
use crate::lora::{LoraConfig, LoraInit};
use crate::memory::{MemoryPlan, MemoryTable, available, readable};
use crate::packed::WeightFormat;

const GB: u64 = 1_000_000_000;

fn plan(kind: Kind, weights: WeightFormat) -> MemoryPlan {
    MemoryPlan {
        kind,
        weights,
        depth: None,
        lora: None,
        slots: 0,
        capacity: 0,
        learning: false,
    }
}

#[test]
fn it_is_the_sum_of_the_tensors() {
    let projections = vec![Projection::QProj, Projection::DownProj];
    for (family, tied) in [(ModelType::Llama, false), (ModelType::Qwen2, true)] {
        let config = DecoderConfig {
            hidden_size: 96,
            intermediate_size: 160,
            tie_word_embeddings: tied,
            ..super::config(family)
        };
        let weights = config.random_weights(&mut rng(5)).unwrap();
        for kind in [Kind::Float, Kind::BFloat16] {
            for format in [WeightFormat::AsComputed, WeightFormat::Packed4] {
                for depth in [None, Some(2)] {
                    let mut options = options();
                    options.kind = kind;
                    options.weights = format;
                    options.depth = depth;
                    let mut decoder = Decoder::load(&weights, &config, options).unwrap();
                    let lora = LoraConfig {
                        rank: 3,
                        alpha: 1.0,
                        rank_stabilised: false,
                        dropout: 0.0,
                        init: LoraInit::Kaiming,
                    };
                    decoder
                        .attach_lora(&projections, &lora, &mut rng(1))
                        .unwrap();
                    let table = MemoryTable::of(
                        &config,
                        &MemoryPlan {
                            depth,
                            lora: Some((projections.clone(), 3)),
                            slots: 5,
                            capacity: 7,
                            ..plan(kind, format)
                        },
                    )
                    .unwrap();
                    let published = table.embeddings + table.layers + table.norms + table.head;
                    assert_eq!(published, decoder.bytes(), "{family:?} {kind:?} {format:?}");
                    let learnt: usize = decoder
                        .lora_tensors()
                        .iter()
                        .map(|(_, tensor)| tensor.numel() * 4)
                        .sum();
                    assert_eq!(table.lora, learnt as u64);
                    assert_eq!(table.kv_slots, decoder.kv_slots(5, 7).unwrap().bytes());
                    let largest = 160 * 96 * kind.elt_size_in_bytes() as u64;
                    let packed = format == WeightFormat::Packed4;
                    assert_eq!(table.unpacked, if packed { largest } else { 0 });
                    assert_eq!(table.head == 0, tied);
                }
            }
        }
    }
}

/// The published `config.json` of Llama-2-13b-hf.
const LLAMA2_13B: &str = r#"{"architectures": ["LlamaForCausalLM"], "bos_token_id": 1,
    "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 5120, "initializer_range": 0.02,
    "intermediate_size": 13824, "max_position_embeddings": 4096, "model_type": "llama",
    "num_attention_heads": 40, "num_hidden_layers": 40, "num_key_value_heads": 40,
    "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": null,
    "tie_word_embeddings": false, "torch_dtype": "float16", "use_cache": true,
    "vocab_size": 32000}"#;

/// The published `config.json` of Meta-Llama-3-70B.
const LLAMA3_70B: &str = r#"{"architectures": ["LlamaForCausalLM"], "attention_bias": false,
    "attention_dropout": 0.0, "bos_token_id": 128000, "eos_token_id": 128001,
    "hidden_act": "silu", "hidden_size": 8192, "initializer_range": 0.02,
    "intermediate_size": 28672, "max_position_embeddings": 8192, "model_type": "llama",
    "num_attention_heads": 64, "num_hidden_layers": 80, "num_key_value_heads": 8,
    "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": null, "rope_theta": 500000.0,
    "tie_word_embeddings": false, "torch_dtype": "bfloat16", "use_cache": true,
    "vocab_size": 128256}"#;

fn published(json: &str) -> DecoderConfig {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    std::fs::write(&file, json).unwrap();
    DecoderConfig::from_json(&file).unwrap()
}

#[test]
fn packed_a_13b_fits_24_gb_and_a_70b_80_gb_with_adapters_and_caches() {
    let all = Projection::ALL.to_vec();
    for (json, weights, slots, card) in [
        (LLAMA2_13B, 13_015_864_320u64, 8, 24 * GB),
        (LLAMA3_70B, 70_553_706_496, 64, 80 * GB),
    ] {
        let config = published(json);
        // In one byte a weight the sum is the published number of weights.
        let counted = MemoryTable::of(&config, &plan(Kind::Int8, WeightFormat::AsComputed));
        assert_eq!(counted.unwrap().total(), weights);
        let full = MemoryPlan {
            lora: Some((all.clone(), 16)),
            slots,
            capacity: 1_024,
            ..plan(Kind::BFloat16, WeightFormat::Packed4)
        };
        let table = MemoryTable::of(&config, &full).unwrap();
        println!("{table}");
        table.check(Some(card)).unwrap();
        table.check(None).unwrap();
        let per_weight = table.layers as f64 / weights as f64;
        assert!(per_weight < 0.7, "{per_weight}");

        // Training it keeps every weight in plain numbers for a while, and the table says so.
        let learning = MemoryPlan {
            learning: true,
            ..full
        };
        let learning = MemoryTable::of(&config, &learning).unwrap();
        let plain = MemoryTable::of(&config, &plan(Kind::BFloat16, WeightFormat::AsComputed));
        assert_eq!(learning.unpacked, plain.unwrap().layers);
        assert!(learning.check(Some(card)).is_err());

        let wide = plan(Kind::BFloat16, WeightFormat::AsComputed);
        let wide = MemoryTable::of(&config, &wide).unwrap();
        let error = wide.check(Some(card)).unwrap_err();
        assert!(matches!(error, NnError::Memory { available, .. } if available == card));
        let said = error.to_string();
        for named in [
            "embeddings",
            "layers",
            "all",
            &readable(wide.total()),
            &readable(card),
        ] {
            assert!(said.contains(named), "{named}: {said}");
        }
        // Exactly enough is enough.
        wide.check(Some(wide.total())).unwrap();
        assert!(wide.check(Some(wide.total() - 1)).is_err());
    }
}

#[test]
fn what_no_decoder_can_be_is_refused_and_sizes_do_not_wrap_around() {
    let config = published(LLAMA2_13B);
    let deeper = MemoryPlan {
        depth: Some(41),
        ..plan(Kind::Half, WeightFormat::AsComputed)
    };
    assert!(matches!(
        MemoryTable::of(&config, &deeper),
        Err(NnError::Config(_))
    ));
    let endless = MemoryPlan {
        slots: usize::MAX,
        capacity: i64::MAX,
        ..plan(Kind::Half, WeightFormat::AsComputed)
    };
    let endless = MemoryTable::of(&config, &endless).unwrap();
    assert_eq!(endless.total(), u64::MAX);
    assert!(endless.check(Some(u64::MAX - 1)).is_err());
}

#[test]
fn the_system_says_what_is_available() {
    let there = available(Device::Cpu).unwrap();
    assert!((1_000_000..1 << 50).contains(&there), "{there}");
    assert_eq!(available(Device::Cuda(0)), None);
}
