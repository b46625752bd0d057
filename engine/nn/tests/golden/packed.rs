//! Packed weights end to end: the real SmolLM2, whose file has blocks of four bits already, and the
//! small published shapes, which are quantised while they are loaded.

use segue_nn::decoder::Decoder;
use segue_nn::decoder_config::DecoderConfig;
use segue_nn::packed::WeightFormat;
use segue_nn::tch::Kind;
use segue_nn::weights::Weights;

use super::shapes::{SHAPES, rows};
use super::smollm2::{PROMPTS, prompts, weights};
use super::{IN_F32, apart, golden, hidden, load, options, table};

fn packed(weights: &Weights) -> Decoder {
    let mut options = options(Kind::Float, None);
    options.weights = WeightFormat::Packed4;
    Decoder::load(weights, &DecoderConfig::of(weights).unwrap(), options).unwrap()
}

#[test]
fn smollm2_loses_nothing_since_its_blocks_are_taken_as_they_are() {
    let (values, expected) = table("smollm2");
    let weights = weights();
    let packed = packed(&weights);
    let plain = load(&weights, Kind::Float, None);
    for (name, ids) in PROMPTS.iter().zip(prompts(&expected)) {
        let mine = hidden(&packed, &ids);
        assert_eq!(mine, hidden(&plain, &ids), "{name}");
        let gold = values.get(&format!("{name}.last_of_all_layers")).unwrap();
        assert!(apart(&mine.get(-1), &gold) < IN_F32, "{name}");
    }
    // 106 million weights in its layers, 28 million in its embedding.
    assert!(plain.bytes() > 500_000_000);
    assert!(packed.bytes() < 185_000_000, "{}", packed.bytes());
}

#[test]
fn published_shapes_are_off_by_what_four_bits_lose() {
    let (values, _) = table("shapes");
    for name in SHAPES {
        let packed = packed(&Weights::open(&golden(name)).unwrap());
        for (number, ids) in rows().iter().enumerate() {
            let gold = values.get(&format!("{name}.{number}.f32")).unwrap();
            let off = apart(&hidden(&packed, ids), &gold);
            println!("{name} {number}: {off:.1e}");
            assert!((1e-3..0.3).contains(&off), "{name} {number}: {off}");
        }
    }
}
