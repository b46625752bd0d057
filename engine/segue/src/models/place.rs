//! Where pretrained weights are: the folder of all models, and the language model that the settings
//! name.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use segue_fetch::Known;
use segue_fetch::known::Family;
use segue_fetch::verify::{Presence, presence};

use super::ModelSettings;

/// The folder of pretrained weights: as set, else `$SEGUE_MODELS`, else `.models`.
pub fn folder(settings: &ModelSettings) -> PathBuf {
    match settings.folder.as_os_str().is_empty() {
        false => settings.folder.clone(),
        true => std::env::var_os("SEGUE_MODELS").map_or_else(|| ".models".into(), PathBuf::from),
    }
}

/// The folder or file that `models.language_model` means: a name in the folder of models, or a path.
///
/// # Errors
/// It is not there, not whole, or no language model; with what is there and how to get it.
pub fn language_model(named: &str, folder: &Path) -> Result<PathBuf> {
    let setting = format!("models.language_model = \"{named}\"");
    if named.is_empty() {
        bail!("{setting} names no model: `segue models list` shows what there is");
    }
    let known = Known::named(named)?;
    let place = folder.join(named);
    match known {
        Some(known) if !known.family.is_of_language_models() => {
            let what = match known.family {
                Family::Musicnn => "an encoder of sound",
                _ => "a text encoder",
            };
            bail!("{setting} is {what} and no language model: {}", others()?);
        }
        Some(known) => match presence(&known, &place) {
            Presence::Here => Ok(place),
            Presence::Partial => bail!(
                "{setting} is not whole in {}: `segue models pull {named}` fetches what is missing",
                place.display()
            ),
            Presence::Absent => bail!(
                "{setting} is not in {} ({}): fetch it by `segue models pull {named}`",
                folder.display(),
                there(folder)
            ),
        },
        // A name of one's own in the folder of models, or a path.
        None if place.exists() => Ok(place),
        None => bail!(
            "{setting} is neither a file or folder, nor in {} ({}), nor known by name: {}",
            folder.display(),
            there(folder),
            others()?
        ),
    }
}

/// What a folder of models holds, in words.
fn there(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = folders
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    match names.is_empty() {
        true => "which holds nothing".to_owned(),
        false => format!("which holds {}", names.join(", ")),
    }
}

/// The language models that are known by name, in words.
fn others() -> Result<String> {
    let all = Known::all()?.into_iter();
    let language_models = all.filter(|known| known.family.is_of_language_models());
    let names: Vec<String> = language_models.map(|known| known.name).collect();
    Ok(format!("known are {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_in_the_folder_and_a_path_anywhere() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("my-model");
        std::fs::create_dir(&own).unwrap();
        assert_eq!(language_model("my-model", folder.path()).unwrap(), own);
        let elsewhere = tempfile::tempdir().unwrap();
        let path = elsewhere.path().join("model.gguf");
        std::fs::write(&path, "").unwrap();
        let found = language_model(path.to_str().unwrap(), folder.path());
        assert_eq!(found.unwrap(), path);
    }

    #[test]
    fn what_is_not_there_is_named_with_what_is_and_how_to_get_it() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |named: &str| {
            let error = language_model(named, folder.path()).unwrap_err();
            format!("{error:#}")
        };
        assert!(refused("llama-3-8b").contains("which holds nothing"));
        for name in ["minilm", "smollm2-135m"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let said = refused("llama-3-8b");
        for part in [
            "models.language_model = \"llama-3-8b\"",
            "minilm, smollm2-135m",
            "segue models pull llama-3-8b",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let said = refused("gpt-5");
        assert!(
            said.contains("known are smollm2-135m, ") && !said.contains("pull"),
            "{said}"
        );
        assert!(refused("minilm").contains("no language model"));
        assert!(refused("musicnn").contains("an encoder of sound"));
        assert!(refused("smollm2-135m").contains("not whole"));
        assert!(refused("").contains("segue models list"));
        let gguf = "smollm2-135m/SmolLM2-135M-Instruct.Q4_1.gguf";
        std::fs::write(folder.path().join(gguf), "").unwrap();
        assert!(language_model("smollm2-135m", folder.path()).is_ok());
    }
}
