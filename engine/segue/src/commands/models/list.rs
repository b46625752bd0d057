//! `segue models list`.

use std::path::Path;

use anyhow::Result;
use clap::Args;
use indicatif::DecimalBytes;
use segue_fetch::Known;
use segue_fetch::known::Family;
use segue_fetch::verify::{Presence, presence};
use serde::Serialize;

use crate::config::Config;
use crate::models::place;

/// `segue models list`.
#[derive(Debug, Args)]
pub struct ListCommand {
    /// One JSON array, an object per model.
    #[arg(long)]
    json: bool,
}

/// A model as it is listed.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    /// Not there where the model is not known by name.
    family: Option<Family>,
    about: String,
    parameters: Option<u64>,
    licence: String,
    /// Whether `--accept-licence` is needed.
    consent: bool,
    /// Whether the hub wants a token.
    gated: bool,
    hub: Option<String>,
    revision: Option<String>,
    packages: Vec<String>,
    presence: Presence,
    /// On disk, an attempt that was not finished included.
    bytes: u64,
    folder: String,
}

impl ListCommand {
    /// Lists them.
    ///
    /// # Errors
    /// None in practice.
    pub fn run(&self, config: &Config) -> Result<()> {
        let folder = place::folder(&config.models);
        let listed = listed(&folder)?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&listed)?);
            return Ok(());
        }
        println!(
            "{:<22} {:>10}  {:<7} {:>10}  {:<29} FROM",
            "NAME", "PARAMETERS", "HERE", "SIZE", "LICENCE"
        );
        for model in &listed {
            println!("{}", line(model));
        }
        println!(
            "\nin {}; `segue models pull NAME` fetches one, models.language_model = \"NAME\" uses it",
            folder.display()
        );
        Ok(())
    }
}

/// All that are known, then what else is in the folder.
fn listed(folder: &Path) -> Result<Vec<Listed>> {
    let known = Known::all()?;
    let mut listed: Vec<Listed> = known.iter().map(|model| of_known(model, folder)).collect();
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut strangers: Vec<String> = names
        .filter(|name| !name.starts_with('.') && folder.join(name).is_dir())
        .filter(|name| known.iter().all(|model| model.name != *name))
        .collect();
    strangers.sort();
    let strangers = strangers.into_iter();
    listed.extend(strangers.map(|name| of_stranger(name, folder)));
    Ok(listed)
}

fn of_known(model: &Known, folder: &Path) -> Listed {
    let place = folder.join(&model.name);
    let packages = model.packages.iter();
    Listed {
        name: model.name.clone(),
        family: Some(model.family),
        about: model.about.clone(),
        parameters: Some(model.parameters),
        licence: model.licence.clone(),
        consent: model.consent,
        gated: model.hub.as_ref().is_some_and(|hub| hub.gated),
        hub: model.hub.as_ref().map(|hub| hub.repository.clone()),
        revision: model.hub.as_ref().map(|hub| hub.revision.clone()),
        packages: packages
            .map(|package| format!("{}=={}", package.name, package.version))
            .collect(),
        presence: presence(model, &place),
        bytes: bytes(&place),
        folder: place.display().to_string(),
    }
}

fn of_stranger(name: String, folder: &Path) -> Listed {
    let place = folder.join(&name);
    Listed {
        family: None,
        about: "not known by name".to_owned(),
        parameters: None,
        licence: "?".to_owned(),
        consent: false,
        gated: false,
        hub: None,
        revision: None,
        packages: Vec::new(),
        presence: Presence::Here,
        bytes: bytes(&place),
        folder: place.display().to_string(),
        name,
    }
}

/// What a folder takes on disk, with one level of folders in it.
fn bytes(folder: &Path) -> u64 {
    let of = |folder: &Path| -> u64 {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let files = entries.filter_map(|entry| entry.metadata().ok());
        let lengths = files.filter(std::fs::Metadata::is_file);
        lengths.map(|file| file.len()).sum()
    };
    of(folder) + of(&folder.join(segue_fetch::pull::STAGING))
}

fn line(model: &Listed) -> String {
    let here = match model.presence {
        Presence::Absent => "no",
        Presence::Partial => "in part",
        Presence::Here => "yes",
    };
    let size = match model.bytes {
        0 => String::new(),
        bytes => DecimalBytes(bytes).to_string(),
    };
    let from = match (&model.hub, model.packages.len()) {
        (None, 0) => model.about.clone(),
        (None, _) => format!("PyPI {}", model.packages.join(" ")),
        (Some(hub), 0) if model.gated => format!("{hub} (gated: HF_TOKEN)"),
        (Some(hub), 0) => hub.clone(),
        (Some(hub), 1) => format!("PyPI {}, {hub}", model.packages.join(" ")),
        (Some(hub), count) => format!("PyPI {} … ({count} packages), {hub}", model.packages[0]),
    };
    let parameters = model.parameters.map(in_short).unwrap_or_default();
    format!(
        "{:<22} {parameters:>10}  {here:<7} {size:>10}  {:<29} {from}",
        model.name, model.licence
    )
}

/// A number of parameters as papers write it.
fn in_short(parameters: u64) -> String {
    let parameters = parameters as f64;
    match parameters {
        large if large >= 1e9 => format!("{:.1} B", large / 1e9),
        small => format!("{:.1} M", small / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_models_come_first_and_own_ones_after_them() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("my-model");
        std::fs::create_dir(&own).unwrap();
        std::fs::write(own.join("config.json"), "{}").unwrap();
        let staged = folder
            .path()
            .join("minilm")
            .join(segue_fetch::pull::STAGING);
        std::fs::create_dir_all(&staged).unwrap();
        std::fs::write(staged.join("model.safetensors.part"), "1234").unwrap();
        let listed = listed(folder.path()).unwrap();
        let find = |name: &str| listed.iter().find(|model| model.name == name).unwrap();
        let minilm = find("minilm");
        assert_eq!((minilm.presence, minilm.bytes), (Presence::Partial, 4));
        assert_eq!(find("llama-3-70b").presence, Presence::Absent);
        assert!(line(find("llama-3-70b")).contains("70.6 B"));
        assert!(line(find("llama-3-70b")).contains("gated"));
        assert!(line(find("musicnn")).ends_with("PyPI musicnn==0.1.0"));
        assert_eq!(listed.last().unwrap().name, "my-model");
        assert_eq!(listed.last().unwrap().bytes, 2);
        let json = serde_json::to_value(&listed).unwrap();
        assert_eq!(json[0]["presence"], "partial");
    }
}
