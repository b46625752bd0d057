use std::collections::HashMap;

use segue_nn::tch::{Kind, Tensor};

use super::*;

const CONFIG: &str = r#"{"model_type":"qwen2","vocab_size":9,"hidden_size":8,"intermediate_size":12,
    "num_hidden_layers":2,"num_attention_heads":2,"num_key_value_heads":1,"rms_norm_eps":1e-6,
    "rope_theta":10000.0,"max_position_embeddings":32,"tie_word_embeddings":true}"#;

const TOKENIZER: &str = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],
    "normalizer":null,"pre_tokenizer":null,"post_processor":null,"decoder":null,
    "model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,
    "end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"ignore_merges":false,
    "vocab":{"a":0,"b":1},"merges":[]}}"#;

/// A small model of one's own, as published ones are.
fn model(folder: &Path) -> Subject {
    std::fs::write(folder.join("config.json"), CONFIG).unwrap();
    std::fs::write(folder.join("tokenizer.json"), TOKENIZER).unwrap();
    write(folder, |_| true);
    Subject {
        name: "mine".to_owned(),
        known: None,
        path: folder.to_owned(),
    }
}

/// The tensors of the model, those that `keep` says.
fn write(folder: &Path, keep: impl Fn(&str) -> bool) {
    let config = DecoderConfig::from_json(&folder.join("config.json")).unwrap();
    let needed = config.tensors(2).into_iter();
    let tensors: HashMap<String, Tensor> = needed
        .filter(|(name, _)| keep(name))
        .map(|(name, shape)| (name, Tensor::zeros(shape, (Kind::BFloat16, Device::Cpu))))
        .collect();
    let tensors: Vec<_> = tensors.iter().collect();
    Tensor::write_safetensors(&tensors, folder.join("model.safetensors")).unwrap();
}

fn said(subject: &Subject, depth: usize) -> (usize, String) {
    let mut settings = E4SRecSettings::default();
    settings.backbone.depth = depth;
    told(subject, &settings)
}

fn told(subject: &Subject, settings: &E4SRecSettings) -> (usize, String) {
    let findings = findings(subject, settings, Device::Cpu);
    let lines = findings.lines.iter();
    let lines: Vec<String> = lines
        .map(|(what, found)| format!("{what}: {found}"))
        .collect();
    (findings.faults, lines.join("\n"))
}

#[test]
fn a_whole_model_is_told_to_be_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (faults, said) = said(&model(folder.path()), 0);
    assert_eq!(faults, 0, "{said}");
    for part in [
        "Qwen2, 2 layers of 8, 2 heads over 1, 9 tokens",
        "all 26 there",
        "loads",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn each_fault_is_named_and_all_of_them_are() {
    let folder = tempfile::tempdir().unwrap();
    let subject = model(folder.path());
    assert!(
        said(&subject, 3)
            .1
            .contains("depth 3 of a model of 2 layers")
    );
    let mut settings = E4SRecSettings::default();
    settings.backbone.depth = 0;
    settings.cached_listeners = 1 << 40;
    let (faults, much) = told(&subject, &settings);
    assert!(faults == 1 && much.contains("memory: too little"), "{much}");
    write(folder.path(), |name| !name.contains("layers.1."));
    std::fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
    let (faults, told) = said(&subject, 0);
    assert_eq!(faults, 2, "{told}");
    for part in [
        "12 of 26 are wrong",
        "no tensor `model.layers.1.input_layernorm.weight`",
        "… and 7 more",
        "tokenizer.json",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let large = TOKENIZER.replace("\"b\":1", "\"b\":9");
    std::fs::write(folder.path().join("tokenizer.json"), large).unwrap();
    let (_, told) = said(&subject, 0);
    assert!(told.contains("ids up to 9, and the model has 9"), "{told}");
    let other = CONFIG.replace("\"hidden_size\":8", "\"hidden_size\":16");
    std::fs::write(folder.path().join("config.json"), other).unwrap();
    let (_, told) = said(&subject, 0);
    assert!(told.contains("the model needs [9, 16]"), "{told}");
    std::fs::write(
        folder.path().join("config.json"),
        "{\"model_type\":\"gpt2\"}",
    )
    .unwrap();
    assert!(said(&subject, 0).1.contains("config.json"));
    std::fs::write(folder.path().join("model.safetensors"), [0xff; 64]).unwrap();
    assert!(said(&subject, 0).1.contains("model.safetensors"));
}

#[test]
fn what_is_not_here_is_told_how_to_get() {
    let folder = tempfile::tempdir().unwrap();
    let command = |names: &[&str]| CheckCommand {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        depth: None,
        weights: None,
        precision: None,
    };
    let subjects = command(&["llama-3-8b", "gpt-5"])
        .subjects(folder.path())
        .unwrap();
    let (faults, told) = said(&subjects[0], 0);
    assert!(
        faults == 1 && told.contains("segue models pull llama-3-8b"),
        "{told}"
    );
    assert!(said(&subjects[1], 0).1.contains("no such file"));
    let flagged = CheckCommand {
        depth: Some(7),
        weights: Some(as_in_settings("packed4").unwrap()),
        precision: Some(as_in_settings("bf16").unwrap()),
        ..command(&[])
    };
    let backbone = flagged.settings(&Config::default()).backbone;
    assert_eq!(
        (backbone.depth, backbone.weights),
        (7, WeightFormat::Packed4)
    );
    assert_eq!(backbone.precision, Precision::Bf16);
    assert!(as_in_settings::<Precision>("f8").is_err());
    let nothing = command(&[])
        .subjects(folder.path())
        .err()
        .unwrap()
        .to_string();
    assert!(nothing.contains("models pull"), "{nothing}");
}

#[test]
fn what_listens_is_checked_by_loading_it() {
    let published = place::folder(&Config::default().models).join("musicnn");
    let folder = tempfile::tempdir().unwrap();
    let subject = Subject {
        name: "musicnn".to_owned(),
        known: Known::named("musicnn").unwrap(),
        path: folder.path().to_owned(),
    };
    for file in std::fs::read_dir(&published).unwrap().flatten() {
        std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    let (faults, told) = said(&subject, 0);
    assert_eq!(faults, 0, "{told}");
    assert!(told.contains("musicnn-msd: all tensors there"), "{told}");
    let torn = folder.path().join("MTT_musicnn.data-00000-of-00001");
    std::fs::write(&torn, [0; 100]).unwrap();
    let (faults, told) = said(&subject, 0);
    assert_eq!(faults, 2, "{told}");
    assert!(told.contains("models pull musicnn"), "{told}");
}
