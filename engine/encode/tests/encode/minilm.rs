//! The real all-MiniLM-L6-v2 against values of the reference implementation, Hugging Face
//! transformers (`tests/golden/reference.py` writes them).

use std::path::Path;

use segue_catalog::content::TrackContent;
use segue_catalog::encoder::Encoder;
use segue_encode::text::TextEncoder;
use segue_listen::{TrackId, TrackKey};
use segue_nn::device::Precision;
use segue_nn::tch::Device;
use segue_nn::weights::Weights;

use super::{GOLDEN, furthest, model};

fn encoder(precision: Precision) -> TextEncoder {
    TextEncoder::load(&model("minilm"), Device::Cpu, precision).unwrap_or_else(|e| panic!("{e}"))
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn minilm_is_what_it_was_published_as() {
    let folder = Path::new(GOLDEN);
    let text = std::fs::read(folder.join("minilm.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let sentences: Vec<String> = serde_json::from_value(json["sentences"].clone()).unwrap();
    let texts: Vec<&str> = sentences.iter().map(String::as_str).collect();
    let values = Weights::open(&folder.join("minilm.safetensors")).unwrap();
    let values = values.get("embeddings").unwrap();
    let mut expected = vec![0f32; values.numel()];
    values.copy_data(&mut expected, values.numel());

    let mut exact = encoder(Precision::F32);
    assert_eq!(exact.dimensions(), 384);
    let mine = exact.embed(&texts).unwrap();
    println!("f32: furthest {:.1e}", furthest(&mine, &expected));
    assert!(furthest(&mine, &expected) < 1e-4);
    // Each alone, without any padding: the same.
    for (text, row) in texts.iter().zip(expected.chunks(384)) {
        assert!(
            furthest(&exact.embed(&[text]).unwrap(), row) < 1e-4,
            "{text}"
        );
    }
    let narrow = encoder(Precision::Bf16).embed(&texts).unwrap();
    let worst = narrow
        .chunks(384)
        .zip(expected.chunks(384))
        .map(|(a, b)| cosine(a, b));
    let worst = worst.fold(1.0, f32::min);
    println!("bf16: lowest cosine {worst}");
    assert!(worst > 0.999);
}

#[test]
fn any_text_has_a_unit_vector() {
    let mut encoder = encoder(Precision::F32);
    let long = "la ".repeat(3_500_000);
    let wide = "é".repeat(20_000);
    let blank = " ".repeat(100_000);
    let texts = [
        "",
        "\0\u{feff}\u{202e}",
        "東京",
        &long,
        &wide,
        &blank,
        "[PAD] [CLS] [MASK]",
    ];
    let rows = encoder.embed(&texts).unwrap();
    assert_eq!(rows.len(), texts.len() * 384);
    for (number, row) in rows.chunks(384).enumerate() {
        assert!((cosine(row, row) - 1.0).abs() < 1e-4, "text {number}");
    }
    assert!(encoder.embed(&[]).unwrap().is_empty());
}

#[test]
fn what_a_text_becomes_does_not_depend_on_its_company() {
    let mut encoder = encoder(Precision::F32);
    let texts: Vec<String> = (0..300)
        .map(|n| format!("track {n}{}", " of the long night".repeat(n % 7)))
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let together = encoder.embed(&texts).unwrap();
    for number in [0, 1, 6, 149, 299] {
        let alone = encoder.embed(&texts[number..=number]).unwrap();
        assert!(furthest(&alone, &together[number * 384..(number + 1) * 384]) < 1e-5);
    }
}

#[test]
fn a_track_without_text_spoils_its_own_row_only() {
    let mut encoder = encoder(Precision::F32);
    let track = |number: u32, title: &str, artist: &str| TrackContent {
        track: TrackId(number),
        key: TrackKey::from_names(artist, title),
        artist: artist.into(),
        title: title.into(),
    };
    let tracks = [
        track(0, "Chaos God", "Muldjord"),
        track(1, " ", ""),
        track(2, "", "Aleksi Aubry-Carlson"),
    ];
    let mut rows = vec![7.0; 3];
    let outcomes = encoder.encode(&tracks, &mut rows).unwrap();
    assert_eq!(
        outcomes.iter().map(Result::is_ok).collect::<Vec<_>>(),
        [true, false, true]
    );
    assert_eq!(rows.len(), 3 + 3 * 384);
    let expected = encoder
        .embed(&["Chaos God by Muldjord", "Aleksi Aubry-Carlson"])
        .unwrap();
    assert!(furthest(&rows[3..3 + 384], &expected[..384]) < 1e-5);
    assert!(rows[3 + 384..3 + 768].iter().all(|&v| v == 0.0));
    assert!(furthest(&rows[3 + 768..], &expected[384..]) < 1e-5);
}

#[test]
fn a_folder_without_the_model_names_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let error = TextEncoder::load(folder.path(), Device::Cpu, Precision::F32).unwrap_err();
    assert!(error.to_string().contains("make setup"), "{error}");
}
