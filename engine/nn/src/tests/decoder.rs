//! The decoder's promises: rows alone, caches, masks, depth, refusals.

use tch::{Device, Kind, Tensor};

use super::{config, decoder, furthest, options, rng};
use crate::NnError;
use crate::attention::causal;
use crate::decoder::{Decoder, Pass};
use crate::decoder_config::{DecoderConfig, ModelType};
use crate::lora::Mode;

fn ids(rows: &[&[i64]]) -> Tensor {
    let length = rows.iter().map(|row| row.len()).max().unwrap();
    let mut flat = Vec::new();
    for row in rows {
        flat.extend_from_slice(row);
        flat.resize(flat.len() + length - row.len(), 0);
    }
    Tensor::from_slice(&flat).reshape([rows.len() as i64, length as i64])
}

fn positions(batch: i64, length: i64) -> Tensor {
    Tensor::arange(length, (Kind::Int64, Device::Cpu)).expand([batch, length], false)
}

fn whole(decoder: &Decoder, rows: &[&[i64]]) -> Tensor {
    let ids = ids(rows);
    let (batch, length) = ids.size2().unwrap();
    let lengths: Vec<i64> = rows.iter().map(|row| row.len() as i64).collect();
    let pass = Pass {
        embeds: &decoder.embed(&ids).unwrap(),
        positions: &positions(batch, length),
        mask: &causal(&lengths, length).unwrap(),
        cache: None,
        mode: Mode::Infer,
    };
    decoder.forward(pass).unwrap()
}

#[test]
fn a_row_alone_equals_the_row_in_a_padded_batch() {
    for family in [ModelType::Llama, ModelType::Qwen2] {
        let decoder = decoder(family);
        let long: &[i64] = &[3, 1, 4, 1, 5, 9, 2, 6];
        let short: &[i64] = &[2, 7, 1];
        let both = whole(&decoder, &[long, short]);
        let alone = whole(&decoder, &[short]);
        assert!(furthest(&both.get(1).narrow(0, 0, 3), &alone.get(0)) < 1e-5);
        assert!(furthest(&both.get(0), &whole(&decoder, &[long]).get(0)) < 1e-5);
        assert!(both.isfinite().all().int64_value(&[]) == 1);
    }
}

#[test]
fn token_by_token_through_the_cache_equals_the_whole() {
    let decoder = decoder(ModelType::Qwen2);
    let rows: [&[i64]; 2] = [&[3, 1, 4, 1, 5, 9], &[2, 7, 1, 8]];
    let whole = whole(&decoder, &rows);
    let mut slots = decoder.kv_slots(3, 16).unwrap();
    // A neighbour comes first and leaves, so that the slots in use are not the first ones.
    let gone = slots.claim(0).unwrap();
    let mine = [slots.claim(1).unwrap(), slots.claim(1).unwrap()];
    slots.release(gone);
    for step in 0..6 {
        let (batch, taken): (Vec<usize>, Vec<_>) = (0..2)
            .filter(|&r| step < rows[r].len())
            .map(|r| (r, mine[r]))
            .unzip();
        let tokens: Vec<i64> = batch.iter().map(|&r| rows[r][step]).collect();
        let places: Vec<i64> = batch.iter().map(|_| step as i64).collect();
        let plan = slots.rows(&taken, &vec![1; taken.len()], 1).unwrap();
        let mask = slots.causal_mask(&taken, 1).unwrap();
        let column = |values: &[i64]| Tensor::from_slice(values).reshape([-1, 1]);
        let out = decoder
            .forward(Pass {
                embeds: &decoder.embed(&column(&tokens)).unwrap(),
                positions: &column(&places),
                mask: &mask,
                cache: Some((&mut slots, &plan)),
                mode: Mode::Infer,
            })
            .unwrap();
        for (at, &row) in batch.iter().enumerate() {
            let expected = whole.get(row as i64).get(step as i64);
            assert!(furthest(&out.get(at as i64).get(0), &expected) < 1e-4);
        }
    }
    assert_eq!(slots.length(mine[0]).unwrap(), 6);
    assert_eq!(slots.length(mine[1]).unwrap(), 4);
}

#[test]
fn rows_of_different_pasts_and_lengths_share_a_pass() {
    let decoder = decoder(ModelType::Llama);
    let mut slots = decoder.kv_slots(3, 16).unwrap();
    let prefix = slots.claim(9).unwrap();
    let (a, b) = (slots.claim(0).unwrap(), slots.claim(0).unwrap());
    let feed = |slots: &mut crate::kv_slots::KvSlots,
                taken: &[crate::kv_slots::SlotId],
                rows: &[&[i64]]| {
        let ids = ids(rows);
        let (_, length) = ids.size2().unwrap();
        let counts: Vec<i64> = rows.iter().map(|row| row.len() as i64).collect();
        let mut places = Vec::new();
        for &slot in taken {
            let past = slots.length(slot).unwrap();
            places.extend(past..past + length);
        }
        let plan = slots.rows(taken, &counts, length).unwrap();
        let mask = slots.causal_mask(taken, length).unwrap();
        decoder
            .forward(Pass {
                embeds: &decoder.embed(&ids).unwrap(),
                positions: &Tensor::from_slice(&places).reshape([-1, length]),
                mask: &mask,
                cache: Some((slots, &plan)),
                mode: Mode::Infer,
            })
            .unwrap()
    };
    let _prefix = feed(&mut slots, &[prefix], &[&[3, 1, 4]]);
    slots.copy_prefix(prefix, a, 3).unwrap();
    slots.copy_prefix(prefix, b, 2).unwrap();
    assert_eq!(slots.version(a).unwrap(), 9);
    let out = feed(&mut slots, &[b, a], &[&[8, 2, 8], &[5]]);
    let expected_b = whole(&decoder, &[&[3, 1, 8, 2, 8]]);
    let expected_a = whole(&decoder, &[&[3, 1, 4, 5]]);
    assert!(furthest(&out.get(0), &expected_b.get(0).narrow(0, 2, 3)) < 1e-4);
    assert!(furthest(&out.get(1).get(0), &expected_a.get(0).get(3)) < 1e-4);
    // What padding left behind is overwritten, and what was cut is forgotten.
    slots.truncate(b, 3).unwrap();
    let out = feed(&mut slots, &[a, b], &[&[9, 2], &[6, 6]]);
    let expected_a = whole(&decoder, &[&[3, 1, 4, 5, 9, 2]]);
    let expected_b = whole(&decoder, &[&[3, 1, 8, 6, 6]]);
    assert!(furthest(&out.get(0).get(1), &expected_a.get(0).get(5)) < 1e-4);
    assert!(furthest(&out.get(1).get(1), &expected_b.get(0).get(4)) < 1e-4);
}

#[test]
fn branches_of_a_tree_do_not_see_each_other() {
    let decoder = decoder(ModelType::Llama);
    // 3 1, then 4 and 5 as alternatives, both at position 2.
    let ids = ids(&[&[3, 1, 4, 5]]);
    let mask = Tensor::from_slice(&[
        true, false, false, false, true, true, false, false, true, true, true, false, true, true,
        false, true,
    ])
    .reshape([1, 1, 4, 4]);
    let out = decoder
        .forward(Pass {
            embeds: &decoder.embed(&ids).unwrap(),
            positions: &Tensor::from_slice(&[0i64, 1, 2, 2]).reshape([1, 4]),
            mask: &mask,
            cache: None,
            mode: Mode::Infer,
        })
        .unwrap();
    let first = whole(&decoder, &[&[3, 1, 4]]);
    let second = whole(&decoder, &[&[3, 1, 5]]);
    assert!(furthest(&out.get(0).get(2), &first.get(0).get(2)) < 1e-5);
    assert!(furthest(&out.get(0).get(3), &second.get(0).get(2)) < 1e-5);
}

#[test]
fn a_cut_decoder_is_the_first_layers_and_the_last_norm() {
    let config = config(ModelType::Llama);
    let weights = config.random_weights(&mut rng(1)).unwrap();
    let full = Decoder::load(&weights, &config, options()).unwrap();
    let mut short = options();
    short.depth = Some(2);
    let cut = Decoder::load(&weights, &config, short).unwrap();
    assert_eq!(cut.depth(), 2);
    let ids = ids(&[&[1, 2, 3]]);
    let run = |decoder: &Decoder, depth| {
        let pass = Pass {
            embeds: &decoder.embed(&ids).unwrap(),
            positions: &positions(1, 3),
            mask: &causal(&[3], 3).unwrap(),
            cache: None,
            mode: Mode::Infer,
        };
        decoder.hidden_after(depth, pass).unwrap()
    };
    assert_eq!(furthest(&run(&full, 2), &run(&cut, 2)), 0.0);
    assert!(furthest(&run(&full, 2), &run(&full, 3)) > 0.0);
    short.depth = Some(4);
    assert!(matches!(
        Decoder::load(&weights, &config, short),
        Err(NnError::Config(_))
    ));
}

#[test]
fn what_does_not_fit_is_refused() {
    let decoder = decoder(ModelType::Llama);
    for wrong in [-1, 50] {
        let ids = Tensor::from_slice(&[3, wrong]).reshape([1, 2]);
        assert!(
            matches!(decoder.embed(&ids), Err(NnError::Input(_))),
            "{wrong}"
        );
    }
    let embeds = decoder.embed(&ids(&[&[1, 2, 3]])).unwrap();
    let pass = Pass {
        embeds: &embeds,
        positions: &positions(1, 3),
        mask: &causal(&[2], 2).unwrap(),
        cache: None,
        mode: Mode::Infer,
    };
    assert!(matches!(decoder.forward(pass), Err(NnError::Input(_))));

    let mut slots = decoder.kv_slots(1, 4).unwrap();
    let slot = slots.claim(0).unwrap();
    assert!(slots.claim(0).is_none());
    let plan = slots.rows(&[slot], &[1], 1).unwrap();
    let pass = Pass {
        embeds: &(decoder.embed(&ids(&[&[1]])).unwrap() * f64::NAN),
        positions: &positions(1, 1),
        mask: &causal(&[1], 1).unwrap(),
        cache: Some((&mut slots, &plan)),
        mode: Mode::Infer,
    };
    assert!(
        matches!(decoder.forward(pass), Err(NnError::Input(_))),
        "would poison the slot"
    );
    assert_eq!(slots.length(slot).unwrap(), 0);
    assert!(slots.rows(&[slot], &[5], 5).is_err(), "beyond its capacity");
    assert!(
        slots.rows(&[slot, slot], &[1, 1], 1).is_err(),
        "twice in a batch"
    );
    slots.release(slot);
    assert!(slots.length(slot).is_err(), "released");
    assert_eq!(slots.occupancy(), (1, 1));
}

#[test]
fn a_config_json_is_read_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    let good = r#"{"architectures":["LlamaForCausalLM"],"model_type":"llama","vocab_size":128256,
        "hidden_size":2048,"intermediate_size":8192,"num_hidden_layers":16,
        "num_attention_heads":32,"num_key_value_heads":8,"head_dim":64,"rms_norm_eps":1e-05,
        "rope_theta":500000.0,"max_position_embeddings":131072,"tie_word_embeddings":true,
        "hidden_act":"silu","rope_scaling":{"factor":32.0,"high_freq_factor":4.0,
        "low_freq_factor":1.0,"original_max_position_embeddings":8192,"rope_type":"llama3"}}"#;
    std::fs::write(&file, good).unwrap();
    let config = DecoderConfig::from_json(&file).unwrap();
    assert_eq!(
        (config.kv_heads(), config.head_dim(), config.qkv_bias()),
        (8, 64, false)
    );
    // What transformers 5 writes of the same model, and how the kind of scaling was once called.
    let mut newer: serde_json::Value = serde_json::from_str(good).unwrap();
    let fields = newer.as_object_mut().unwrap();
    let mut rope = fields.remove("rope_scaling").unwrap();
    rope["rope_theta"] = fields.remove("rope_theta").unwrap();
    fields.insert("rope_parameters".into(), rope);
    for same in [newer.to_string(), good.replace("rope_type", "type")] {
        std::fs::write(&file, same).unwrap();
        assert_eq!(DecoderConfig::from_json(&file).unwrap(), config);
    }
    for (from, to) in [
        ("\"num_key_value_heads\":8", "\"num_key_value_heads\":7"),
        ("\"hidden_act\":\"silu\"", "\"hidden_act\":\"gelu\""),
        ("\"hidden_size\":2048", "\"hidden_size\":-1"),
        (
            "\"hidden_size\":2048",
            "\"hidden_size\":4611686018427387904",
        ),
        ("\"rope_type\":\"llama3\"", "\"rope_type\":\"yarn\""),
        ("\"model_type\":\"llama\"", "\"model_type\":\"gpt2\""),
    ] {
        std::fs::write(&file, good.replace(from, to)).unwrap();
        let error = DecoderConfig::from_json(&file).unwrap_err();
        assert!(matches!(error, NnError::Config(_)), "{to}: {error}");
    }
}
