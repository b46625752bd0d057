//! A small Qwen2 as a GGUF file, its projections in six formats: transformers reads the same file
//! (`tests/golden/files.py` wrote it).

use segue_nn::decoder_config::{DecoderConfig, ModelType};
use segue_nn::tch::Kind;
use segue_nn::weights::Weights;

use super::shapes::rows;
use super::{IN_F32, apart, golden, hidden, load, table};

#[test]
fn a_gguf_file_of_another_family_is_read_as_transformers_reads_it() {
    let (values, about) = table("files");
    assert_eq!(about["formats"].as_array().unwrap().len(), 6);
    let weights = Weights::open(&golden("qwen2.gguf")).unwrap();
    let config = DecoderConfig::of(&weights).unwrap();
    assert_eq!(config.model_type, ModelType::Qwen2);
    assert_eq!(config.rope_theta, 1_000_000.0);
    assert!(config.tie_word_embeddings && config.qkv_bias());
    let decoder = load(&weights, Kind::Float, None);
    for (number, ids) in rows().iter().enumerate() {
        let off = apart(
            &hidden(&decoder, ids),
            &values.get(&format!("qwen2.{number}")).unwrap(),
        );
        println!("{number}: {off:.1e}");
        assert!(off < IN_F32, "{number}");
    }
}
