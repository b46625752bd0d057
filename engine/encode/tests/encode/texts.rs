//! MPNet, and long texts by chunks, against transformers (`tests/golden/texts.py`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use segue_catalog::content::TrackContent;
use segue_catalog::encoder::Encoder;
use segue_catalog::library::{Library, TrackMedia};
use segue_encode::mpnet::{Mpnet, MpnetConfig};
use segue_encode::text::{TextEncoder, TextOf};
use segue_listen::{TrackId, TrackKey};
use segue_nn::device::Precision;
use segue_nn::tch::{Device, Kind, Tensor, no_grad};
use segue_nn::weights::Weights;

use super::{GOLDEN, furthest, model, values};

fn folder() -> PathBuf {
    Path::new(GOLDEN).join("mpnet")
}

fn encoder(folder: &Path) -> TextEncoder {
    TextEncoder::load(folder, Device::Cpu, Precision::F32).unwrap_or_else(|e| panic!("{e}"))
}

fn about() -> serde_json::Value {
    let text = std::fs::read(Path::new(GOLDEN).join("texts.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn config() -> MpnetConfig {
    let text = std::fs::read(folder().join("config.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn mpnet_is_that_of_transformers() {
    let weights = Weights::open(&folder()).unwrap();
    let mpnet = Mpnet::load(&weights, &config(), (Kind::Float, Device::Cpu)).unwrap();
    let ids: Vec<i64> = serde_json::from_value(about()["ids"].clone()).unwrap();
    let ids = Tensor::from_slice(&ids).unsqueeze(0);
    let states = no_grad(|| mpnet.forward(&ids, None)).unwrap();
    let mut mine = vec![0f32; states.numel()];
    states.contiguous().copy_data(&mut mine, states.numel());
    let theirs = values("texts", "states");
    println!("states: furthest {:.1e}", furthest(&mine, &theirs));
    assert!(furthest(&mine, &theirs) < 1e-4);

    let sentences: Vec<String> = serde_json::from_value(about()["sentences"].clone()).unwrap();
    let sentences: Vec<&str> = sentences.iter().map(String::as_str).collect();
    // Together, with padding, and each alone.
    let together = encoder(&folder()).embed(&sentences).unwrap();
    let theirs = values("texts", "sentences");
    println!("sentences: furthest {:.1e}", furthest(&together, &theirs));
    assert!(furthest(&together, &theirs) < 1e-4);
    for (sentence, row) in sentences.iter().zip(theirs.chunks(24)) {
        let alone = encoder(&folder()).embed(&[sentence]).unwrap();
        assert!(furthest(&alone, row) < 1e-4, "{sentence}");
    }
}

#[test]
fn long_texts_are_the_mean_of_their_chunks() {
    let long = about()["long"].as_str().unwrap().to_owned();
    for (folder, name) in [(folder(), "long"), (model("minilm"), "minilm.long")] {
        let mut encoder = encoder(&folder);
        let mine = encoder.embed_long(&[&long]).unwrap();
        let theirs = values("texts", name);
        println!("{name}: furthest {:.1e}", furthest(&mine, &theirs));
        assert!(furthest(&mine, &theirs) < 1e-4, "{name}");
        // A short text is the same either way, and a long one is not cut.
        let short = ["The Long Night", ""];
        let (cut, whole) = (
            encoder.embed(&short).unwrap(),
            encoder.embed_long(&short).unwrap(),
        );
        assert!(furthest(&cut, &whole) < 1e-5);
        assert!(furthest(&encoder.embed(&[&long]).unwrap(), &mine) > 1e-3);
        let endless = "la ".repeat(1_000_000);
        let vectors = encoder.embed_long(&[&endless, &long]).unwrap();
        assert!(furthest(&vectors[vectors.len() / 2..], &mine) < 1e-4);
    }
}

#[test]
fn what_is_no_mpnet_is_refused() {
    let good = config();
    good.validate().unwrap();
    let changed = |change: &dyn Fn(&mut MpnetConfig)| {
        let mut config = good.clone();
        change(&mut config);
        config.validate()
    };
    assert!(changed(&|c| c.num_attention_heads = 5).is_err());
    assert!(changed(&|c| c.hidden_act = "relu".into()).is_err());
    assert!(changed(&|c| c.relative_attention_num_buckets = 64).is_err());
    assert!(changed(&|c| c.vocab_size = 0).is_err());
    let weights = Weights::open(&folder()).unwrap();
    let mut other = good.clone();
    other.intermediate_size += 1;
    let place = (Kind::Float, Device::Cpu);
    assert!(Mpnet::load(&weights, &other, place).is_err());
}

#[test]
fn albums_and_lyrics_come_from_the_library() {
    let track = |number: u32, title: &str| TrackContent {
        track: TrackId(number),
        key: TrackKey::from_names("Paper Lanterns", title),
        artist: "Paper Lanterns".into(),
        title: title.into(),
    };
    let tracks = [track(0, "The Long Night"), track(1, "Coda")];
    let mut library = Library::default();
    let long = about()["long"].as_str().unwrap().to_owned();
    let media = TrackMedia {
        album: Some("Harbour".into()),
        lyrics: Some(long.as_str().into()),
        ..TrackMedia::default()
    };
    library.insert(tracks[0].key, media);
    let library = Arc::new(library);
    let rows = |of: TextOf| {
        let mut encoder = encoder(&folder()).with_library(Arc::clone(&library), of);
        let mut rows = Vec::new();
        let outcomes = encoder.encode(&tracks, &mut rows).unwrap();
        let good: Vec<bool> = outcomes.iter().map(Result::is_ok).collect();
        (rows, good)
    };
    let lines = [
        "The Long Night by Paper Lanterns, from Harbour",
        "Coda by Paper Lanterns",
    ];
    let lines = encoder(&folder()).embed(&lines).unwrap();
    let (names, good) = rows(TextOf::Names);
    assert_eq!(good, [true, true]);
    assert!(furthest(&names, &lines) < 1e-5);
    let (lyrics, good) = rows(TextOf::Lyrics);
    assert_eq!(good, [true, false]);
    assert!(furthest(&lyrics[..24], &values("texts", "long")) < 1e-4);
    assert!(lyrics[24..].iter().all(|&value| value == 0.0));
    let (both, good) = rows(TextOf::Both);
    assert_eq!(good, [true, true]);
    let sum: Vec<f32> = names.iter().zip(&lyrics).map(|(a, b)| a + b).collect();
    let length = sum[..24].iter().map(|v| v * v).sum::<f32>().sqrt();
    let mean: Vec<f32> = sum[..24].iter().map(|v| v / length).collect();
    assert!(furthest(&both[..24], &mean) < 1e-5);
    assert!(furthest(&both[24..], &names[24..]) < 1e-5);
}
