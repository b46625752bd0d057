//! Which model of sound is meant.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use segue_encode::audio::encodec::Encodec;
use segue_encode::audio::handcrafted::Handcrafted;
use segue_encode::audio::model::AudioModel;
use segue_encode::audio::musicnn::{Musicnn, Taught};
use segue_encode::audio::torchscript::{Description, TorchScript};
use segue_encode::audio::wav2vec2::{Layers, Wav2Vec2};
use segue_nn::tch::Device;

use super::store::file_print;
use crate::config::Config;

/// A loaded model, and what tells it from others.
pub struct Loaded {
    pub model: Box<dyn AudioModel>,
    pub print: String,
}

/// Loads what `named` means: a name, a folder or a description.
///
/// # Errors
/// It is none of them, or its files are missing or torn.
pub fn load(
    named: &str,
    layers: Layers,
    models: &Path,
    device: Device,
    config: &Config,
) -> Result<Loaded> {
    let folder = folder(named, models);
    let loaded = |model: Box<dyn AudioModel>, file: &Path| -> Result<Loaded> {
        let print = format!("{} {}", model.name(), file_print(file)?);
        Ok(Loaded { model, print })
    };
    let taught = match named {
        "musicnn" => Some((Taught::Mtt, "MTT_musicnn.data-00000-of-00001")),
        "musicnn-msd" => Some((Taught::Msd, "MSD_musicnn.data-00000-of-00001")),
        _ => None,
    };
    if let Some((taught, weights)) = taught {
        let folder = models.join("musicnn");
        let model = Musicnn::load(&folder, taught, device)?;
        return loaded(Box::new(model), &folder.join(weights));
    }
    if named == "handcrafted" {
        let model = Box::new(Handcrafted);
        let print = "handcrafted".to_owned();
        return Ok(Loaded { model, print });
    }
    if folder
        .extension()
        .is_some_and(|extension| extension == "toml")
    {
        let about = Description::of_file(&folder)?;
        let model = TorchScript::load(&folder, device)?;
        let mut loaded = loaded(Box::new(model), &folder.with_file_name(&about.module))?;
        loaded.print = format!("{} {}", loaded.print, file_print(&folder)?);
        return Ok(loaded);
    }
    let text = std::fs::read(folder.join("config.json")).with_context(|| {
        format!(
            "--model {named} is neither musicnn, musicnn-msd or handcrafted, nor a TOML file, nor a \
             folder with a config.json"
        )
    })?;
    let about: serde_json::Value = serde_json::from_slice(&text)
        .with_context(|| format!("{}/config.json is not JSON", folder.display()))?;
    let weights = folder.join("model.safetensors");
    match about.get("model_type").and_then(|kind| kind.as_str()) {
        Some("encodec") => loaded(Box::new(Encodec::load(&folder, device)?), &weights),
        Some("wav2vec2" | "hubert" | "mert_model" | "data2vec-audio") => {
            let precision = config.models.precision;
            let model = Wav2Vec2::load(&folder, layers, device, precision)?;
            loaded(Box::new(model), &weights)
        }
        kind => bail!(
            "--model {named} is a {}; wav2vec2, hubert, mert_model, data2vec-audio and encodec are \
             known, and anything else as a TorchScript module",
            kind.unwrap_or("model of no kind")
        ),
    }
}

/// A name in the folder of models, or a path.
pub fn folder(named: &str, models: &Path) -> PathBuf {
    match models.join(named) {
        there if there.is_dir() => there,
        _ => PathBuf::from(named),
    }
}

/// Reads `mean`, `last` or the number of a layer.
///
/// # Errors
/// It is none of them.
pub fn layers(said: &str) -> Result<Layers> {
    Ok(match said {
        "mean" => Layers::Mean,
        "last" => Layers::Last,
        number => Layers::One(number.parse().with_context(|| {
            format!("--layers {number} is neither `mean` nor `last` nor a number")
        })?),
    })
}
