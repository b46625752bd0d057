//! Adapters in PEFT's format: what the real `peft` trained answers the same here, and what was
//! trained here the same there (`tests/golden/adapters.py` asked it).

use std::path::Path;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use segue_nn::NnError;
use segue_nn::attention::causal;
use segue_nn::decoder::{Decoder, Pass, Projection};
use segue_nn::lora::{LoraConfig, LoraInit, Mode};
use segue_nn::peft::{self, PeftAbout, PeftTask};
use segue_nn::tch::{self, Device, Kind, Tensor};
use segue_nn::weights::Weights;

use super::shapes::{rows, shape};
use super::{IN_F32, apart, golden, hidden, load, table};

fn folder(name: &str) -> std::path::PathBuf {
    golden("adapters").join(name)
}

/// Holds a decoder with an adapter against what PEFT answered with it, apart and folded in.
fn answers_as_in_peft(decoder: &mut Decoder, name: &str) {
    let (values, _) = table("adapters");
    let gold = |number: usize, what: &str| values.get(&format!("{name}.{number}.{what}")).unwrap();
    let mut before = Vec::new();
    for (number, ids) in rows().iter().enumerate() {
        let mine = hidden(decoder, ids);
        let off = apart(&mine, &gold(number, "apart"));
        println!("{name} {number}: {off:.1e}");
        assert!(off < IN_F32, "{name} {number}");
        before.push(mine);
    }
    decoder.merge_lora().unwrap();
    for (number, ids) in rows().iter().enumerate() {
        let off = apart(&hidden(decoder, ids), &gold(number, "merged"));
        assert!(off < IN_F32, "{name} {number}, folded in: {off:.1e}");
    }
    decoder.unmerge_lora();
    for (ids, before) in rows().iter().zip(before) {
        assert_eq!(hidden(decoder, ids), before);
    }
}

/// Writes the adapter, reads it into another decoder and compares all that learns.
fn keeps_through_files(decoder: &Decoder, about: &PeftAbout) {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("new/adapter");
    peft::write(&at, decoder, about).unwrap();
    let mut other = shape("llama3", Kind::Float);
    assert_eq!(&peft::read(&at, &mut other).unwrap(), about);
    assert_eq!(other.lora_tensors(), decoder.lora_tensors());
    let ids = &rows()[1];
    assert_eq!(hidden(&other, ids), hidden(decoder, ids));
}

#[test]
fn what_was_trained_there_answers_the_same_here() {
    for (name, task, tensors) in [
        ("everywhere", PeftTask::CausalLm, 2 * 7 * 2),
        ("one_layer", PeftTask::CausalLm, 2 * 2),
        ("features", PeftTask::FeatureExtraction, 2 * 2 * 2),
    ] {
        let mut decoder = shape("llama3", Kind::Float);
        // Whatever sat there before is gone.
        let fresh = LoraConfig {
            rank: 9,
            ..trained()
        };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        decoder
            .attach_lora(&[Projection::KProj, Projection::UpProj], &fresh, &mut rng)
            .unwrap();
        let about = peft::read(&folder(name), &mut decoder).unwrap();
        let base_model = Some("llama3".to_string());
        assert_eq!(about, PeftAbout { task, base_model });
        assert_eq!(decoder.lora_tensors().len(), tensors);
        answers_as_in_peft(&mut decoder, name);
        keeps_through_files(&decoder, &about);
    }
}

#[test]
fn a_cut_decoder_takes_its_layers_and_writes_which_they_are() {
    let weights = Weights::open(&golden("llama3")).unwrap();
    let mut cut = load(&weights, Kind::Float, Some(1));
    let about = peft::read(&folder("everywhere"), &mut cut).unwrap();
    let mut whole = shape("llama3", Kind::Float);
    peft::read(&folder("everywhere"), &mut whole).unwrap();
    assert_eq!(cut.lora_tensors(), whole.lora_tensors()[..14]);

    let written = tempfile::tempdir().unwrap();
    peft::write(written.path(), &cut, &about).unwrap();
    let targets = config_of(written.path())["target_modules"].clone();
    let targets: Vec<String> = serde_json::from_value(targets).unwrap();
    assert_eq!(targets.len(), 7);
    assert!(
        targets.iter().all(|name| name.starts_with("layers.0.")),
        "{targets:?}"
    );
    peft::read(written.path(), &mut whole).unwrap();
    assert_eq!(whole.lora_tensors(), cut.lora_tensors());
}

fn trained() -> LoraConfig {
    LoraConfig {
        rank: 5,
        alpha: 10.0,
        rank_stabilised: false,
        dropout: 0.0,
        init: LoraInit::Kaiming,
    }
}

/// A few steps of gradient descent from a seeded start, towards the embedding of the next token.
fn train() -> Decoder {
    let mut decoder = shape("llama3", Kind::Float);
    let projections = [
        Projection::QProj,
        Projection::VProj,
        Projection::OProj,
        Projection::GateProj,
        Projection::DownProj,
    ];
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    decoder
        .attach_lora(&projections, &trained(), &mut rng)
        .unwrap();
    for _ in 0..12 {
        for ids in rows() {
            let length = ids.len() as i64 - 1;
            let embeds = decoder
                .embed(&Tensor::from_slice(&ids).unsqueeze(0))
                .unwrap();
            let out = decoder
                .forward(Pass {
                    embeds: &embeds.narrow(1, 0, length),
                    positions: &Tensor::arange(length, (Kind::Int64, Device::Cpu)).unsqueeze(0),
                    mask: &causal(&[length], length).unwrap(),
                    cache: None,
                    mode: Mode::Train,
                })
                .unwrap();
            let loss = (out - embeds.narrow(1, 1, length) * 10.0)
                .square()
                .mean(Kind::Float);
            loss.backward();
            for (_, mut tensor) in decoder.lora_tensors() {
                tch::no_grad(|| {
                    let step = tensor.grad() * -0.3;
                    let _moved = tensor.g_add_(&step);
                });
                tensor.zero_grad();
            }
        }
    }
    decoder
}

#[test]
fn what_was_trained_here_answers_the_same_there() {
    let about = PeftAbout {
        task: PeftTask::CausalLm,
        base_model: Some("llama3".into()),
    };
    let fresh = train();
    // Asked to, this writes the adapter that `adapters.py` then puts to PEFT.
    if std::env::var_os("SEGUE_WRITE_GOLDEN").is_some() {
        peft::write(&folder("by_segue"), &fresh, &about).unwrap();
    }
    let mut kept = shape("llama3", Kind::Float);
    assert_eq!(peft::read(&folder("by_segue"), &mut kept).unwrap(), about);
    for ((name, new), (_, old)) in fresh.lora_tensors().iter().zip(kept.lora_tensors()) {
        // Rounding differs from processor to processor, and steps add it up.
        assert!(apart(new, &old) < 1e-2, "{name}");
    }
    let ids = &rows()[0];
    assert!(
        apart(
            &hidden(&kept, ids),
            &hidden(&shape("llama3", Kind::Float), ids)
        ) > 0.1
    );
    answers_as_in_peft(&mut kept, "by_segue");

    let again = tempfile::tempdir().unwrap();
    peft::write(again.path(), &kept, &about).unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        let bytes = |folder: &Path| std::fs::read(folder.join(file)).unwrap();
        assert_eq!(bytes(again.path()), bytes(&folder("by_segue")), "{file}");
    }
}

fn config_of(folder: &Path) -> serde_json::Value {
    let text = std::fs::read(folder.join("adapter_config.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let copy = tempfile::tempdir().unwrap();
    let tensors = "adapter_model.safetensors";
    std::fs::copy(
        folder("everywhere").join(tensors),
        copy.path().join(tensors),
    )
    .unwrap();
    let mut decoder = shape("llama3", Kind::Float);
    let mut refused = |key: &str, value: serde_json::Value| {
        let mut config = config_of(&folder("everywhere"));
        config[key] = value;
        std::fs::write(copy.path().join("adapter_config.json"), config.to_string()).unwrap();
        let error = peft::read(copy.path(), &mut decoder).unwrap_err();
        assert!(decoder.lora_tensors().is_empty(), "{key}");
        error
    };
    use serde_json::json;
    for (key, value) in [
        ("peft_type", json!("IA3")),
        ("bias", json!("all")),
        ("use_dora", json!(true)),
        ("lora_bias", json!(true)),
        ("modules_to_save", json!(["lm_head"])),
        ("rank_pattern", json!({"q_proj": 8})),
        ("alpha_pattern", json!({"q_proj": 8})),
        ("init_lora_weights", json!("pissa")),
        ("target_modules", json!(".*_proj")),
        ("target_modules", json!(["q_proj", "lm_head"])),
        ("exclude_modules", json!(["q_proj"])),
        ("layers_to_transform", json!([7])),
        ("a_setting_of_tomorrow", json!(true)),
    ] {
        let error = refused(key, value.clone());
        assert!(
            matches!(&error, NnError::Adapter { problem, .. } if problem.contains(key)),
            "{key} {value}: {error}"
        );
    }
    // Tensors of modules that are not targeted, and a rank that is not theirs.
    let error = refused("target_modules", json!(["q_proj"])).to_string();
    assert!(error.contains("lora_A.weight` belongs to none"), "{error}");
    let error = refused("r", json!(5));
    assert!(matches!(error, NnError::Weights(_)), "{error}");
    assert!(matches!(refused("r", json!(0)), NnError::Config(_)));
    let fresh = shape("llama3", Kind::Float);
    let about = PeftAbout {
        task: PeftTask::CausalLm,
        base_model: None,
    };
    let error = peft::write(copy.path(), &fresh, &about).unwrap_err();
    assert!(error.to_string().contains("no adapters"), "{error}");
}
