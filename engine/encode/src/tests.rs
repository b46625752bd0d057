//! What holds without a downloaded model.

use std::collections::HashMap;

use segue_nn::inventory::faults;
use segue_nn::tch::{Device, Kind, Tensor};
use segue_nn::weights::Weights;

use crate::bert::{Bert, BertConfig};
use crate::track_text::track_text;

#[test]
fn a_track_is_title_by_artist_or_what_is_known() {
    let text = |title, artist, album| track_text(title, artist, album);
    assert_eq!(
        text(" Chaos God ", "Muldjord", "").as_deref(),
        Some("Chaos God by Muldjord")
    );
    assert_eq!(
        text("Chaos God", "Muldjord", " Demo ").as_deref(),
        Some("Chaos God by Muldjord, from Demo")
    );
    assert_eq!(text("Chaos God", " ", "").as_deref(), Some("Chaos God"));
    assert_eq!(text("", "Muldjord", "").as_deref(), Some("Muldjord"));
    assert_eq!(text(" ", "\t", "Demo"), None);
}

#[test]
fn configurations_that_are_not_this_bert_are_refused() {
    let good = r#"{"vocab_size":30522,"hidden_size":384,"num_hidden_layers":6,
        "num_attention_heads":12,"intermediate_size":1536,"hidden_act":"gelu",
        "layer_norm_eps":1e-12,"max_position_embeddings":512,"type_vocab_size":2}"#;
    let read = |text: &str| serde_json::from_str::<BertConfig>(text).unwrap().validate();
    assert!(read(good).is_ok());
    for (from, to) in [
        ("\"num_attention_heads\":12", "\"num_attention_heads\":7"),
        ("\"hidden_act\":\"gelu\"", "\"hidden_act\":\"relu\""),
        (
            "\"type_vocab_size\":2",
            "\"type_vocab_size\":2,\"position_embedding_type\":\"relative\"",
        ),
        ("\"hidden_size\":384", "\"hidden_size\":0"),
    ] {
        assert!(read(&good.replace(from, to)).is_err(), "{to}");
    }
}

#[test]
fn a_bert_loads_from_what_it_needs_and_from_nothing_less() {
    let config: BertConfig = serde_json::from_str(
        r#"{"vocab_size":7,"hidden_size":4,"num_hidden_layers":2,"num_attention_heads":2,
        "intermediate_size":6,"hidden_act":"gelu","layer_norm_eps":1e-12,
        "max_position_embeddings":5,"type_vocab_size":2}"#,
    )
    .unwrap();
    let place = (Kind::Float, Device::Cpu);
    let nothing = Weights::from_memory("nothing", HashMap::new());
    let needed = config.tensors(&nothing);
    for left_out in 0..=needed.len() {
        let there = needed.iter().enumerate().filter(|(at, _)| *at != left_out);
        let tensors = there.map(|(_, (name, shape))| (name.clone(), Tensor::zeros(shape, place)));
        let weights = Weights::from_memory("some", tensors.collect());
        let whole = left_out == needed.len();
        assert_eq!(Bert::load(&weights, &config, place).is_ok(), whole);
        assert_eq!(faults(&weights, &needed).is_empty(), whole);
    }
}
