//! Which model of sound is meant.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use segue_catalog::current_library::CurrentLibrary;
use segue_encode::audio::crop::Crop;
use segue_encode::audio::encodec::Encodec;
use segue_encode::audio::encoder::AudioEncoder;
use segue_encode::audio::handcrafted::Handcrafted;
use segue_encode::audio::model::AudioModel;
use segue_encode::audio::musicnn::{Musicnn, Taught};
use segue_encode::audio::torchscript::{Description, TorchScript};
use segue_encode::audio::wav2vec2::{Layers, Wav2Vec2};
use segue_encode::vector_cache::file_print;
use segue_nn::device::Precision;
use segue_nn::tch::Device;

/// How people say it, for messages.
#[derive(Debug, Clone, Copy)]
pub struct Wording {
    /// Before the name of the model.
    pub model: &'static str,
    /// Before the layers.
    pub layers: &'static str,
}

/// A model, and what of a track it is given.
#[derive(Debug, Clone, Copy)]
pub struct Sound<'a> {
    /// A name, a folder or a description.
    pub model: &'a str,
    /// `mean`, `last` or the number of a layer.
    pub layers: &'a str,
    /// What is listened to.
    pub crop: Crop,
    /// How people say it.
    pub wording: Wording,
}

impl Sound<'_> {
    /// An encoder of the library's audio, and what tells its vectors from others.
    ///
    /// # Errors
    /// There is no such model, or its files are missing or torn.
    pub fn load(
        &self,
        library: CurrentLibrary,
        models: &Path,
        device: Device,
        precision: Precision,
    ) -> Result<(AudioEncoder, String)> {
        let layers = self.layers()?;
        let loaded = self.model(layers, models, device, precision)?;
        let print = format!(
            "{} {device:?} {:?} {} {} {}",
            loaded.print,
            precision.kind(device),
            self.layers,
            self.crop.seconds,
            self.crop.count
        );
        Ok((AudioEncoder::new(loaded.model, self.crop, library), print))
    }

    /// Which hidden states are meant.
    ///
    /// # Errors
    /// None.
    pub fn layers(&self) -> Result<Layers> {
        Ok(match self.layers {
            "mean" => Layers::Mean,
            "last" => Layers::Last,
            number => Layers::One(number.parse().with_context(|| {
                format!(
                    "{}{number} is neither `mean` nor `last` nor a number",
                    self.wording.layers
                )
            })?),
        })
    }

    fn model(
        &self,
        layers: Layers,
        models: &Path,
        device: Device,
        precision: Precision,
    ) -> Result<Loaded> {
        let (named, said) = (self.model, self.wording.model);
        let folder = folder(named, models);
        let loaded = |model: Box<dyn AudioModel>, file: &Path| -> Result<Loaded> {
            let print = file_print(file);
            let print = print.with_context(|| format!("{} cannot be read", file.display()))?;
            let print = format!("{} {print}", model.name());
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
            let described = file_print(&folder);
            let described =
                described.with_context(|| format!("{} cannot be read", folder.display()))?;
            loaded.print = format!("{} {described}", loaded.print);
            return Ok(loaded);
        }
        let text = std::fs::read(folder.join("config.json")).with_context(|| {
            format!(
                "{said}{named} is neither musicnn, musicnn-msd or handcrafted, nor a TOML file, nor a \
                 folder with a config.json"
            )
        })?;
        let about: serde_json::Value = serde_json::from_slice(&text)
            .with_context(|| format!("{}/config.json is not JSON", folder.display()))?;
        let weights = folder.join("model.safetensors");
        match about.get("model_type").and_then(|kind| kind.as_str()) {
            Some("encodec") => loaded(Box::new(Encodec::load(&folder, device)?), &weights),
            Some("wav2vec2" | "hubert" | "mert_model" | "data2vec-audio") => {
                let model = Wav2Vec2::load(&folder, layers, device, precision)?;
                loaded(Box::new(model), &weights)
            }
            kind => bail!(
                "{said}{named} is a {}; wav2vec2, hubert, mert_model, data2vec-audio and encodec are \
                 known, and anything else as a TorchScript module",
                kind.unwrap_or("model of no kind")
            ),
        }
    }
}

/// A loaded model, and what tells it from others.
struct Loaded {
    model: Box<dyn AudioModel>,
    print: String,
}

/// A name in the folder of models, or a path.
pub fn folder(named: &str, models: &Path) -> PathBuf {
    match models.join(named) {
        there if there.is_dir() => there,
        _ => PathBuf::from(named),
    }
}
