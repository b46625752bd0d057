//! `segue models check`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use segue_e4srec::Footprint;
use segue_e4srec::settings::E4SRecSettings;
use segue_encode::bert::BertConfig;
use segue_fetch::Known;
use segue_fetch::known::Family;
use segue_fetch::verify::{FileState, Presence, presence, verify};
use segue_nn::decoder_config::DecoderConfig;
use segue_nn::device::Precision;
use segue_nn::inventory::{Needed, faults};
use segue_nn::memory::{available, readable};
use segue_nn::packed::WeightFormat;
use segue_nn::tch::Device;
use segue_nn::tokenizer::Tokenizer;
use segue_nn::weights::Weights;
use serde::de::DeserializeOwned;

use crate::config::Config;
use crate::models::place;
use crate::watch;

/// Tensors that are wrong are named up to so many.
const NAMED: usize = 5;

/// `segue models check`.
///
/// Files are held against the checksums that were noted when they came, or that are known; config.json
/// against what can be built; the tensors' names and shapes against config.json, without loading them; the
/// tokenizer is loaded; and what E4SRec would take of memory on it is set against what there is. Each line says what was found; the exit code is 1 if a model cannot be used.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  segue models check\n  segue models check smollm2-135m\n  segue models check \
                  llama-3-8b --depth 8 --weights packed4 --precision bf16\n  segue models check ./my-model"
)]
pub struct CheckCommand {
    /// Names that `segue models list` shows, or paths; none: all that are here.
    names: Vec<String>,
    /// Layers that are to be used; 0: all. Without, as models.e4srec.backbone.depth says.
    #[arg(long, value_name = "N")]
    depth: Option<usize>,
    /// How its weights are to be kept, as_computed or packed4. Without, as models.e4srec.backbone.weights
    /// says.
    #[arg(long, value_name = "FORMAT", value_parser = as_in_settings::<WeightFormat>)]
    weights: Option<WeightFormat>,
    /// What they are to be multiplied in: auto, f32, bf16 or f16. Without, as the settings say.
    #[arg(long, value_name = "KIND", value_parser = as_in_settings::<Precision>)]
    precision: Option<Precision>,
}

/// Reads a flag that is written as in the settings.
fn as_in_settings<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

/// A model that is looked at.
struct Subject {
    name: String,
    known: Option<Known>,
    /// A folder or file.
    path: PathBuf,
}

/// What was found of one model, a line each.
#[derive(Debug, Default)]
struct Findings {
    lines: Vec<(String, String)>,
    faults: usize,
}

impl Findings {
    fn good(&mut self, what: &str, found: impl Into<String>) {
        self.lines.push((what.to_owned(), found.into()));
    }

    fn bad(&mut self, what: &str, found: impl Into<String>) {
        self.good(what, found);
        self.faults += 1;
    }
}

impl CheckCommand {
    /// Checks them.
    ///
    /// # Errors
    /// A model that cannot be used, or none to check.
    pub fn run(&self, config: &Config) -> Result<()> {
        let folder = place::folder(&config.models);
        let subjects = self.subjects(&folder)?;
        let device = segue_nn::device::choose(config.models.device).device;
        let e4srec = self.settings(config);
        let mut unusable = 0;
        for subject in &subjects {
            println!("{} in {}", subject.name, subject.path.display());
            let findings = findings(subject, &e4srec, device);
            for (what, found) in &findings.lines {
                println!("  {what:<40} {found}");
            }
            unusable += usize::from(findings.faults > 0);
        }
        if unusable > 0 {
            bail!("{unusable} of {} models cannot be used", subjects.len());
        }
        Ok(())
    }

    /// The settings of E4SRec, with what the flags say over them.
    fn settings(&self, config: &Config) -> E4SRecSettings {
        let mut settings = config.models.e4srec.clone();
        let backbone = &mut settings.backbone;
        backbone.depth = self.depth.unwrap_or(backbone.depth);
        backbone.weights = self.weights.unwrap_or(backbone.weights);
        backbone.precision = match (self.precision, backbone.precision) {
            (Some(precision), _) => precision,
            (None, Precision::Auto) => config.models.precision,
            (None, set) => set,
        };
        settings
    }

    fn subjects(&self, folder: &Path) -> Result<Vec<Subject>> {
        let subject = |name: &str, known: Option<Known>| {
            let place = folder.join(name);
            let path = match known.is_some() || place.exists() {
                true => place,
                false => PathBuf::from(name),
            };
            Subject {
                name: name.to_owned(),
                known,
                path,
            }
        };
        if !self.names.is_empty() {
            let named = self.names.iter();
            return named
                .map(|name| Ok(subject(name, Known::named(name)?)))
                .collect();
        }
        let known = Known::all()?.into_iter();
        let here: Vec<Subject> = known
            .filter(|model| presence(model, &folder.join(&model.name)) != Presence::Absent)
            .map(|model| subject(&model.name.clone(), Some(model)))
            .collect();
        if here.is_empty() {
            bail!(
                "no known model is in {}: `segue models pull NAME` fetches one",
                folder.display()
            );
        }
        Ok(here)
    }
}

/// Everything about one model that can be said without loading it.
fn findings(subject: &Subject, settings: &E4SRecSettings, device: Device) -> Findings {
    let mut findings = Findings::default();
    if !subject.path.exists() {
        let remedy = match &subject.known {
            Some(model) => format!("not here: `segue models pull {}`", model.name),
            None => "there is no such file or folder, nor a model known by this name".to_owned(),
        };
        findings.bad("files", remedy);
        return findings;
    }
    files(subject, &mut findings);
    let is_bert = subject
        .known
        .as_ref()
        .is_some_and(|model| model.family == Family::Bert);
    match Weights::open(&subject.path) {
        Err(error) => findings.bad("weights", error.to_string()),
        Ok(weights) if is_bert => bert(&weights, &mut findings),
        Ok(weights) => {
            let before = findings.faults;
            decoder(&weights, &mut findings);
            // What has no configuration or no tokenizer has said so, and has no size.
            if findings.faults == before {
                memory(subject, settings, device, &mut findings);
            }
        }
    }
    findings
}

/// Files against their checksums.
fn files(subject: &Subject, findings: &mut Findings) {
    // The path of a single file has no note and nothing to be held against.
    if !subject.path.is_dir() {
        return;
    }
    let bar = watch::byte_bar("models check");
    let mut show = |name: &str, bytes: u64| {
        bar.set_message(name.to_owned());
        bar.inc_length(bytes);
        bar.inc(bytes);
    };
    let states = verify(subject.known.as_ref(), &subject.path, &mut show);
    bar.finish_and_clear();
    let states = match states {
        Ok(states) => states,
        Err(error) => return findings.bad("segue-model.toml", error.to_string()),
    };
    if states.is_empty() {
        findings.good("files", "nothing says what they should be");
    }
    for (name, state) in states {
        let said = match &state {
            FileState::Whole => "as published".to_owned(),
            FileState::NothingToCompare => "there; nothing says what it should be".to_owned(),
            FileState::Missing => "missing".to_owned(),
            FileState::Wrong { found, expected } => {
                format!("another file: SHA-256 {found} instead of {expected}")
            }
            FileState::Unreadable(why) => format!("cannot be read: {why}"),
        };
        match state.is_fault() {
            true => findings.bad(&name, said),
            false => findings.good(&name, said),
        }
    }
    let pull = subject.known.as_ref().filter(|_| findings.faults > 0);
    if let Some(model) = pull {
        findings.good(
            "",
            format!("`segue models pull {}` fetches what is wrong", model.name),
        );
    }
}

fn decoder(weights: &Weights, findings: &mut Findings) {
    match DecoderConfig::of(weights) {
        Err(error) => findings.bad("configuration", error.to_string()),
        Ok(config) => {
            let layers = config.num_hidden_layers;
            findings.good(
                "configuration",
                format!(
                    "{:?}, {layers} layers of {}, {} heads over {}, {} tokens",
                    config.model_type,
                    config.hidden_size,
                    config.num_attention_heads,
                    config.kv_heads(),
                    config.vocab_size
                ),
            );
            tensors(weights, &config.tensors(layers), findings);
        }
    }
    tokenizer(Tokenizer::of(weights).map(|_| ()), findings);
}

/// What it would take here, with these settings, and whether there is that much.
fn memory(subject: &Subject, settings: &E4SRecSettings, device: Device, findings: &mut Findings) {
    let footprint = match Footprint::of(&subject.path, settings, device) {
        Ok(footprint) => footprint,
        Err(error) => return findings.bad("memory", error.to_string()),
    };
    let needed = readable(footprint.total());
    match available(device) {
        None => findings.good("memory", format!("{needed} on {device:?}")),
        Some(free) => {
            let said = format!("{needed} of {} that are available", readable(free));
            match footprint.check(Some(free)) {
                Ok(()) => findings.good("memory", said),
                Err(_) => findings.bad("memory", format!("too little: {said}")),
            }
        }
    }
    for line in footprint.to_string().lines() {
        findings.good("", line);
    }
}

fn bert(weights: &Weights, findings: &mut Findings) {
    let folder = weights.path().parent().unwrap_or(Path::new("")).to_owned();
    match BertConfig::of_folder(&folder) {
        Err(error) => findings.bad("configuration", error.to_string()),
        Ok(config) => {
            let (layers, width) = (config.num_hidden_layers, config.hidden_size);
            let said = format!(
                "BERT, {layers} layers of {width}, {} tokens",
                config.vocab_size
            );
            findings.good("configuration", said);
            tensors(weights, &config.tensors(weights), findings);
        }
    }
    let read = Tokenizer::from_json(&folder.join("tokenizer.json"));
    tokenizer(read.map(|_| ()), findings);
}

fn tensors(weights: &Weights, needed: &[Needed], findings: &mut Findings) {
    let wrong = faults(weights, needed);
    let count = needed.len();
    if wrong.is_empty() {
        findings.good("tensors", format!("all {count} there, in their shapes"));
        return;
    }
    findings.bad("tensors", format!("{} of {count} are wrong", wrong.len()));
    for fault in wrong.iter().take(NAMED) {
        findings.good("", fault.clone());
    }
    if wrong.len() > NAMED {
        findings.good("", format!("… and {} more", wrong.len() - NAMED));
    }
}

fn tokenizer(loaded: Result<(), segue_nn::NnError>, findings: &mut Findings) {
    match loaded {
        Ok(()) => findings.good("tokenizer", "loads"),
        Err(error) => findings.bad("tokenizer", error.to_string()),
    }
}

#[cfg(test)]
mod tests {
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
}
