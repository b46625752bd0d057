//! What holds without a downloaded model.

use crate::bert::BertConfig;
use crate::track_text::track_text;

#[test]
fn a_track_is_title_by_artist_or_what_is_known() {
    assert_eq!(
        track_text(" Chaos God ", "Muldjord").as_deref(),
        Some("Chaos God by Muldjord")
    );
    assert_eq!(track_text("Chaos God", " ").as_deref(), Some("Chaos God"));
    assert_eq!(track_text("", "Muldjord").as_deref(), Some("Muldjord"));
    assert_eq!(track_text(" ", "\t"), None);
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
