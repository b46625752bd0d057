//! Small models of each published shape, saved by transformers itself: LLaMA 2 (as many key heads
//! as query heads, `f16`), LLaMA 3 (grouped heads, stretched positions, `bf16` in shards) and Qwen2
//! (biases, the embedding as output layer).

use segue_nn::decoder::Decoder;
use segue_nn::tch::{Kind, Tensor};
use segue_nn::weights::Weights;

use super::{
    IN_BF16, IN_F16, IN_F32, apart, golden, hidden, hidden_of_all, load, table, through_cache,
};

pub(super) const SHAPES: [&str; 3] = ["llama2", "llama3", "qwen2"];

/// A model that transformers saved.
pub(super) fn shape(name: &str, kind: Kind) -> Decoder {
    load(&Weights::open(&golden(name)).unwrap(), kind, None)
}

/// The token ids that the models were asked about.
pub(super) fn rows() -> Vec<Vec<i64>> {
    let (_, expected) = table("shapes");
    serde_json::from_value(expected["rows"].clone()).unwrap()
}

#[test]
fn in_f32_each_is_the_references() {
    let (values, _) = table("shapes");
    for name in SHAPES {
        let decoder = shape(name, Kind::Float);
        for (number, ids) in rows().iter().enumerate() {
            let gold = |what: &str| values.get(&format!("{name}.{number}.{what}")).unwrap();
            let mine = hidden(&decoder, ids);
            let of_hidden = apart(&mine, &gold("f32"));
            let of_logits = apart(&decoder.logits(&mine).unwrap(), &gold("logits"));
            println!("{name} {number}: hidden {of_hidden:.1e}, logits {of_logits:.1e}");
            assert!(of_hidden < IN_F32 && of_logits < IN_F32, "{name} {number}");
        }
    }
}

#[test]
fn in_bf16_each_is_the_references_in_bf16() {
    let (values, _) = table("shapes");
    for name in SHAPES {
        let decoder = shape(name, Kind::BFloat16);
        for (number, ids) in rows().iter().enumerate() {
            let gold = values.get(&format!("{name}.{number}.bf16")).unwrap();
            let of_hidden = apart(&hidden(&decoder, ids), &gold);
            println!("{name} {number}: {of_hidden:.1e}");
            assert!(of_hidden < IN_BF16, "{name} {number}");
        }
    }
}

#[test]
fn in_f16_each_is_near_the_references_in_f32() {
    let (values, _) = table("shapes");
    for name in SHAPES {
        let decoder = shape(name, Kind::Half);
        let rows = rows();
        // In a batch, where some tokens are hidden.
        for (number, mine) in hidden_of_all(&decoder, &rows).iter().enumerate() {
            let gold = values.get(&format!("{name}.{number}.f32")).unwrap();
            let off = apart(mine, &gold);
            println!("{name} {number}: {off:.1e}");
            assert!(off < IN_F16, "{name} {number}");
        }
    }
}

#[test]
fn a_row_is_the_same_alone_in_a_batch_and_through_the_cache() {
    for name in SHAPES {
        let decoder = shape(name, Kind::Float);
        let rows = rows();
        let in_batch = hidden_of_all(&decoder, &rows);
        for (ids, in_batch) in rows.iter().zip(in_batch) {
            let alone = hidden(&decoder, ids);
            assert!(apart(&in_batch, &alone) < 1e-5, "{name}");

            let mut slots = decoder.kv_slots(2, 64).unwrap();
            let (_neighbour, slot) = (slots.claim(0).unwrap(), slots.claim(0).unwrap());
            // Two tokens at once, then one by one.
            let (first, others) = ids.split_at(2);
            let mut parts = vec![through_cache(&decoder, &mut slots, slot, first)];
            for &id in others {
                parts.push(through_cache(&decoder, &mut slots, slot, &[id]));
            }
            assert!(apart(&Tensor::cat(&parts, 0), &alone) < 1e-5, "{name}");
        }
    }
}

#[test]
fn the_folders_are_what_they_stand_for() {
    let opened = |name: &str| Weights::open(&golden(name)).unwrap();
    assert!(
        opened("llama3")
            .path()
            .ends_with("model.safetensors.index.json")
    );
    assert!(!opened("qwen2").contains("lm_head.weight"));
    assert!(opened("qwen2").contains("model.layers.0.self_attn.k_proj.bias"));
    let config = |name: &str| shape(name, Kind::Float).config().clone();
    assert_eq!(
        config("llama2").kv_heads(),
        config("llama2").num_attention_heads
    );
    assert!(config("llama3").kv_heads() < config("llama3").num_attention_heads);
    assert_eq!(config("llama3").rope_theta, 500_000.0);
    assert!(config("llama3").rope_scaling.is_some());
    assert_eq!(config("qwen2").rope_theta, 1_000_000.0);
}
