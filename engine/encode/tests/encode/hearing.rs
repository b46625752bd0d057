//! Models of sound against transformers, which made, saved and ran them (`tests/golden/hearing.py`).

use std::path::{Path, PathBuf};

use segue_nn::device::Precision;
use segue_nn::tch::{Device, Tensor, no_grad};

use super::{GOLDEN, clip, furthest, values};
use segue_encode::audio::decode::{AudioFile, Samples};
use segue_encode::audio::encodec::{Encodec, EncodecConfig};
use segue_encode::audio::model::AudioModel;
use segue_encode::audio::torchscript::TorchScript;
use segue_encode::audio::wav2vec2::{Layers, Wav2Vec2, Wav2Vec2Config};

fn folder(name: &str) -> PathBuf {
    Path::new(GOLDEN).join("hearing").join(name)
}

/// The second of music that every model has heard.
fn second() -> Samples {
    let mut file = AudioFile::open(&clip("clip.wav")).unwrap();
    file.read(0.0, 1.0, 1).unwrap()
}

fn part(range: std::ops::Range<usize>) -> Tensor {
    Tensor::from_slice(&second().channels[0][range]).reshape([1, 1, -1])
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    let mut numbers = vec![0f32; tensor.numel()];
    tensor.contiguous().copy_data(&mut numbers, tensor.numel());
    numbers
}

/// The largest difference, as a share of the largest value.
fn relative(mine: &[f32], theirs: &[f32]) -> f32 {
    let largest = theirs
        .iter()
        .fold(0f32, |most, value| value.abs().max(most));
    furthest(mine, theirs) / largest
}

fn loaded(name: &str, layers: Layers) -> Wav2Vec2 {
    Wav2Vec2::load(&folder(name), layers, Device::Cpu, Precision::F32).unwrap()
}

#[test]
fn the_wav2vec2_family_is_that_of_transformers() {
    let second = second();
    let samples = Tensor::from_slice(&second.channels[0]).unsqueeze(0);
    for name in ["wav2vec2", "hubert", "data2vec"] {
        let mut model = loaded(name, Layers::Mean);
        let states = no_grad(|| model.forward(&samples)).unwrap();
        assert_eq!(states.len(), 3);
        let mut mean = vec![0f32; 24];
        for (number, state) in states.iter().enumerate() {
            let theirs = values("hearing", &format!("{name}.{number}"));
            let difference = relative(&numbers(state), &theirs);
            println!("{name}, layer {number}: {difference:.1e}");
            assert!(difference < 1e-4, "{name} {number}");
            for row in theirs.chunks(24) {
                for (sum, value) in mean.iter_mut().zip(row) {
                    *sum += value / (3.0 * 200.0);
                }
            }
            let mut one = loaded(name, Layers::One(number));
            let vector = one.embed(&second).unwrap();
            let of_time: Vec<f32> = (0..24)
                .map(|at| theirs.iter().skip(at).step_by(24).sum::<f32>() / 200.0)
                .collect();
            assert!(furthest(&vector, &of_time) < 1e-4, "{name} {number}");
        }
        assert!(
            furthest(&model.embed(&second).unwrap(), &mean) < 1e-4,
            "{name}"
        );
        let last = loaded(name, Layers::Last).embed(&second).unwrap();
        assert_eq!(last, loaded(name, Layers::One(2)).embed(&second).unwrap());
        assert_eq!((model.rate(), model.dimensions()), (16_000, 24));
        // As short as it may be, and shorter.
        for length in [1, 50, 1_600] {
            let short = Samples {
                channels: vec![second.channels[0][..length].to_vec()],
                rate: 16_000,
            };
            assert!(model.embed(&short).unwrap().iter().all(|v| v.is_finite()));
        }
    }
    let error = Wav2Vec2::load(
        &folder("hubert"),
        Layers::One(3),
        Device::Cpu,
        Precision::F32,
    );
    assert!(error.unwrap_err().to_string().contains("layer 3 of 2"));
}

#[test]
fn configurations_that_are_not_of_the_family_are_refused() {
    let text = std::fs::read_to_string(folder("hubert").join("config.json")).unwrap();
    let read = |text: &str| -> Result<(), String> {
        let config: Wav2Vec2Config = serde_json::from_str(text).map_err(|e| e.to_string())?;
        config.validate().map_err(|e| e.to_string())
    };
    read(&text).unwrap();
    for (from, to) in [
        ("\"num_attention_heads\": 3", "\"num_attention_heads\": 5"),
        ("\"hidden_size\": 24", "\"hidden_size\": 0"),
        ("\"hidden_act\": \"gelu\"", "\"hidden_act\": \"relu\""),
        (
            "\"conv_pos_batch_norm\": false",
            "\"conv_pos_batch_norm\": true",
        ),
        ("\"model_type\": \"hubert\"", "\"model_type\": \"whisper\""),
        ("\"conv_stride\": [", "\"conv_stride\": [1, "),
    ] {
        assert!(text.contains(from), "{from}");
        assert!(read(&text.replace(from, to)).is_err(), "{to}");
    }
    let mert = text.replace(
        "\"model_type\": \"hubert\"",
        "\"model_type\": \"mert_model\"",
    );
    read(&mert).unwrap();
    let odd = mert.replacen('{', "{\"feature_extractor_cqt\": true,", 1);
    assert!(read(&odd).unwrap_err().contains("feature_extractor_cqt"));
    let config: Wav2Vec2Config = serde_json::from_str(&text).unwrap();
    assert_eq!(config.reach(), (80, 40));
}

#[test]
fn encodec_is_that_of_transformers() {
    let model = Encodec::load(&folder("encodec"), Device::Cpu).unwrap();
    for (name, length) in [("encodec.frames", 4001), ("encodec.short", 5)] {
        let frames = no_grad(|| model.forward(&part(0..length))).unwrap();
        let difference = relative(&numbers(&frames), &values("hearing", name));
        println!("{name}: {difference:.1e}");
        assert!(difference < 1e-4, "{name}");
    }
    let mut pieces = Encodec::load(&folder("encodec_stereo"), Device::Cpu).unwrap();
    assert_eq!(
        (pieces.rate(), pieces.channels(), pieces.dimensions()),
        (8_000, 2, 12)
    );
    let sound = &second().channels[0];
    let stereo = Samples {
        channels: vec![sound[..5_000].to_vec(), sound[3_000..8_000].to_vec()],
        rate: 8_000,
    };
    let vector = pieces.embed(&stereo).unwrap();
    let difference = relative(&vector, &values("hearing", "encodec_stereo.vector"));
    println!("encodec, in pieces: {difference:.1e}");
    assert!(difference < 1e-4);
}

#[test]
fn encoders_of_no_codec_are_refused() {
    let good = EncodecConfig::default();
    good.validate().unwrap();
    let changed = |change: &dyn Fn(&mut EncodecConfig)| {
        let mut config = good.clone();
        change(&mut config);
        config.validate()
    };
    assert!(changed(&|c| c.upsampling_ratios.clear()).is_err());
    assert!(changed(&|c| c.upsampling_ratios = vec![0]).is_err());
    assert!(changed(&|c| c.compress = 0).is_err());
    assert!(changed(&|c| c.pad_mode = "constant".into()).is_err());
    assert!(changed(&|c| c.norm_type = "none".into()).is_err());
    assert!(changed(&|c| c.overlap = Some(1.0)).is_err());
    assert!(changed(&|c| c.chunk_length_s = Some(f64::NAN)).is_err());
    let gone = Encodec::load(&folder("nowhere"), Device::Cpu).unwrap_err();
    assert!(gone.to_string().contains("config.json"), "{gone}");
}

#[test]
fn a_module_is_what_its_description_says() {
    let mut module = TorchScript::load(&folder("ears.toml"), Device::Cpu).unwrap();
    assert_eq!(
        (module.rate(), module.channels(), module.dimensions()),
        (16_000, 1, 6)
    );
    let theirs = values("hearing", "module.vector");
    assert!(furthest(&module.embed(&second()).unwrap(), &theirs) < 1e-5);
    // Shorter than its input: heard again.
    let quarter = second().channels[0][..4_000].to_vec();
    let twice = quarter.repeat(2);
    let of = |samples: Vec<f32>, module: &mut TorchScript| {
        let samples = Samples {
            channels: vec![samples],
            rate: 16_000,
        };
        module.embed(&samples).unwrap()
    };
    assert_eq!(of(quarter, &mut module), of(twice, &mut module));

    let place = tempfile::tempdir().unwrap();
    let module = folder("ears.pt");
    std::fs::copy(&module, place.path().join("ears.pt")).unwrap();
    let described = |text: &str| {
        let path = place.path().join("ears.toml");
        std::fs::write(&path, format!("module = \"ears.pt\"\nrate = 16000\n{text}")).unwrap();
        TorchScript::load(&path, Device::Cpu)
    };
    let loudness = described("output = \"loudness\"").unwrap();
    assert_eq!(loudness.dimensions(), 1);
    assert!(described("output = \"frames\"\nscale = \"deviation\"").is_ok());
    for (wrong, named) in [
        ("output = \"silence\"", "silence"),
        ("output = 0", "Number(0)"),
        ("pooling = \"median\"", "median"),
        ("channels = 2", "channels"),
        ("channels = 3\nlayout = \"channels\"", "channels is 3"),
        ("seconds = nan", "seconds"),
        ("beats = 4", "beats"),
        (
            "output = \"frames\"\nchannels = 2\nlayout = \"channels\"",
            "",
        ),
    ] {
        let error = described(wrong).unwrap_err().to_string();
        assert!(error.contains(named), "{wrong}: {error}");
    }
    std::fs::write(place.path().join("ears.pt"), b"no module").unwrap();
    let error = described("output = \"frames\"").unwrap_err().to_string();
    assert!(error.contains("not a TorchScript module"), "{error}");
}
