//! `segue models check`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use segue_e4srec::Footprint;
use segue_e4srec::settings::E4SRecSettings;
use segue_encode::audio::musicnn::{Musicnn, Taught};
use segue_encode::bert::BertConfig;
use segue_fetch::Known;
use segue_fetch::known::Family;
use segue_fetch::verify::{FileState, Presence, presence, verify};
use segue_nn::NnError;
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
    let family = subject.known.as_ref().map(|model| model.family);
    let is_bert = family == Some(Family::Bert);
    if family == Some(Family::Musicnn) {
        musicnn(&subject.path, &mut findings);
        return findings;
    }
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
    let mut rows = None;
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
            rows = Some(config.vocab_size);
        }
    }
    tokenizer(Tokenizer::of(weights), rows, findings);
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
    let mut rows = None;
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
            rows = Some(config.vocab_size);
        }
    }
    let read = Tokenizer::from_json(&folder.join("tokenizer.json"));
    tokenizer(read, rows, findings);
}

/// Small enough to be loaded.
fn musicnn(folder: &Path, findings: &mut Findings) {
    for (name, taught) in [("musicnn", Taught::Mtt), ("musicnn-msd", Taught::Msd)] {
        match Musicnn::load(folder, taught, Device::Cpu) {
            Ok(_) => findings.good(name, "all tensors there, in their shapes"),
            Err(error) => findings.bad(name, error.to_string()),
        }
    }
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

/// `rows` are the tokens that the model knows, if it said so.
fn tokenizer(loaded: Result<Tokenizer, NnError>, rows: Option<i64>, findings: &mut Findings) {
    let largest = match &loaded {
        Ok(tokenizer) => tokenizer.largest_id().unwrap_or(-1),
        Err(error) => return findings.bad("tokenizer", error.to_string()),
    };
    match rows {
        Some(rows) if largest >= rows => findings.bad(
            "tokenizer",
            format!("says ids up to {largest}, and the model has {rows}: it is of another model"),
        ),
        _ => findings.good("tokenizer", "loads"),
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
