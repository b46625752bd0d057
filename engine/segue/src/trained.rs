//! A folder of trained models: what `segue train` leaves, and what a run begins with.
//!
//! ```text
//! model.json         what they are and were trained on, and the checksum of each file beside it
//! catalogue          the tracks of the log with their vectors
//! e4srec-frozen      a recommender's state, by its name; likewise sasrec, sequential-rules and
//!                    personal-most-pop
//! ```
//!
//! `model.json` is removed first and written last: without it nothing beside it counts. A state is of a
//! model with an empty catalogue; the tracks are admitted in the stream, those of the log first. The
//! pretrained weights are not in the folder: what tells them from others is, and is compared.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail};
use segue_catalog::modality::Modality;
use segue_e4srec::E4SRec;
use segue_e4srec::item_encoders::ItemEncoder;
use segue_flow::checkpoint::{decode, encode};
use segue_flow::clock::WallClock;
use segue_recommend::popularity::PersonalMostPop;
use segue_recommend::recommender::Recommender;
use segue_recommend::rules::SequentialRules;
use segue_recommend::stage::{Content, Curriculum};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::config::Config;
use crate::models::{Lessons, Models, Taught};
use crate::report::file::write_whole;

/// The file that says what the others are.
pub const MODEL: &str = "model.json";
const CATALOGUE: &str = "catalogue";
/// The version of `model.json` and of the catalogue.
const VERSION: u16 = 1;

/// What `model.json` says.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct About {
    /// The version of this file.
    pub version: u16,
    /// Segue's version.
    pub segue: String,
    /// The commit that it was built from, if known.
    pub commit: Option<String>,
    /// When the training ended, in UTC.
    pub trained_at: String,
    /// What was learnt.
    pub log: LogAbout,
    /// What tells the frozen language model from others.
    pub language_model: String,
    /// XXH3 of the text encoder's weights.
    pub text_encoder: String,
    /// The settings that it was trained with.
    pub settings: serde_json::Value,
    /// What it came to.
    pub losses: Vec<Loss>,
    /// The files beside it, by name.
    pub files: BTreeMap<String, FileAbout>,
}

/// The log that models were trained on.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct LogAbout {
    /// Which files, in words.
    pub description: String,
    /// What tells these files from others.
    pub fingerprint: String,
    /// Event time of the first play, ms since 1970.
    pub from_ms: Option<i64>,
    /// Of the latest one.
    pub to_ms: Option<i64>,
    /// Plays.
    pub plays: u64,
    /// Listeners.
    pub listeners: u64,
    /// Tracks.
    pub tracks: u64,
}

/// The course of a loss, in short.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Loss {
    /// Whose.
    pub model: String,
    /// Which: `training loss`, `validation loss`.
    pub name: String,
    /// The first one.
    pub first: f64,
    /// The least.
    pub least: f64,
    /// The last one.
    pub last: f64,
}

/// A file of the folder.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileAbout {
    /// Its length.
    pub bytes: u64,
    /// XXH3 of its bytes, in hexadecimal.
    pub xxh3: String,
}

/// Models that were trained on one log.
pub struct Trained<'a> {
    /// The language model.
    pub e4srec: &'a E4SRec,
    /// The item encoder.
    pub item_encoder: &'a dyn ItemEncoder,
    /// What was counted.
    pub counts: &'a (SequentialRules, PersonalMostPop),
    /// The log's tracks.
    pub content: &'a Content,
}

impl Trained<'_> {
    /// Fills a folder, in the place of what was trained there before.
    ///
    /// # Errors
    /// The folder cannot be written to; it then holds no models.
    pub fn save(&self, folder: &Path, mut about: About) -> Result<()> {
        remove(&folder.join(MODEL))?;
        let (rules, favourites) = self.counts;
        let states: [&dyn Recommender; 4] = [self.e4srec, self.item_encoder, rules, favourites];
        let mut files = BTreeMap::new();
        let mut put = |name: &str, bytes: &[u8]| -> Result<()> {
            write_whole(&folder.join(name), bytes)?;
            let (length, xxh3) = (bytes.len() as u64, sum(bytes));
            files.insert(
                name.to_owned(),
                FileAbout {
                    bytes: length,
                    xxh3,
                },
            );
            Ok(())
        };
        for state in states {
            put(state.name(), &state.snapshot()?)?;
        }
        put(CATALOGUE, &encode(CATALOGUE, VERSION, self.content)?)?;
        about.version = VERSION;
        about.files = files;
        let text = serde_json::to_string_pretty(&about)?;
        write_whole(&folder.join(MODEL), text.as_bytes())
    }
}

impl About {
    /// What the models of a folder are.
    ///
    /// # Errors
    /// There are none, or they were made by a later Segue.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MODEL);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
                "{}: no trained models there (no {MODEL}): train them with `segue train LOG --out {}`, \
                 or leave models.trained empty",
                folder.display(),
                folder.display()
            ),
            Err(error) => return Err(error).context(format!("{} cannot be read", path.display())),
        };
        let about: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} is damaged: {}", path.display(), again(folder)))?;
        if about.version > VERSION {
            bail!(
                "{} is of version {}, and this program reads up to {VERSION}: use the Segue that made it \
                 ({}), or {}",
                path.display(),
                about.version,
                about.segue,
                again(folder)
            );
        }
        Ok(about)
    }

    /// Refuses models that were trained over vectors of other content.
    fn check_content(&self, folder: &Path, config: &Config) -> Result<()> {
        let now = serde_json::to_value(&config.models)?;
        for key in [
            "albums",
            "lyrics",
            "audio_encoder",
            "audio_layers",
            "audio_seconds",
            "audio_count",
            "encode_ratings",
        ] {
            let (was, now) = (self.settings.get(key), now.get(key));
            if let (Some(was), Some(now)) = (was, now)
                && was != now
            {
                bail!(
                    "models.{key} is {now} and was {was} when the models in {} were trained: set it back, or \
                     {}",
                    folder.display(),
                    again(folder)
                );
            }
        }
        Ok(())
    }

    /// A file's bytes, which are those that were written.
    fn load(&self, folder: &Path, name: &str) -> Result<Vec<u8>> {
        let path = folder.join(name);
        let Some(file) = self.files.get(name) else {
            bail!(
                "{} names no file {name}: {}",
                folder.join(MODEL).display(),
                again(folder)
            );
        };
        let bytes = fs::read(&path)
            .with_context(|| format!("{} cannot be read: {}", path.display(), again(folder)))?;
        if bytes.len() as u64 != file.bytes || sum(&bytes) != file.xxh3 {
            bail!(
                "{} is damaged ({} bytes, and {} were written): take it from a copy of the folder, or {}",
                path.display(),
                bytes.len(),
                file.bytes,
                again(folder)
            );
        }
        Ok(bytes)
    }
}

fn again(folder: &Path) -> String {
    format!(
        "train anew with `segue train LOG --out {} --fresh`",
        folder.display()
    )
}

fn sum(bytes: &[u8]) -> String {
    format!("{:032x}", xxh3_128(bytes))
}

/// Removes a file, if it is there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}

/// What tells the weights of the text encoder from others.
///
/// # Errors
/// The file cannot be read.
pub fn encoder_print(weights: &Path) -> Result<String> {
    let bytes = fs::read(weights)
        .with_context(|| format!("{} cannot be read: run `make setup`", weights.display()))?;
    Ok(sum(&bytes))
}

/// Who answers.
pub struct Answering {
    /// Models that are trained.
    pub recommenders: Vec<Box<dyn Recommender>>,
    /// The tracks that they were trained on.
    pub known: Option<Content>,
    /// Or what teaches them on the first part of the log.
    pub curriculum: Option<Box<dyn Curriculum>>,
}

/// The models of `models.trained`, or what teaches them; `modalities` are what tracks' vectors are made of.
///
/// # Errors
/// Weights that are missing or torn; no models in the folder, damaged ones, or such as were trained
/// over other weights or with other settings.
pub fn answering(
    models: Models,
    config: &Config,
    modalities: &[Modality],
    clock: Arc<dyn WallClock>,
    taught: Arc<Mutex<Taught>>,
) -> Result<Answering> {
    let Some(folder) = folder(config) else {
        return Ok(Answering {
            recommenders: Vec::new(),
            known: None,
            curriculum: Some(models.curriculum(config, modalities, clock, taught)?),
        });
    };
    let about = About::read(folder)?;
    about.check_content(folder, config)?;
    let dimensions = modalities.iter().map(|modality| modality.dimensions).sum();
    let lessons = models.lessons(config, modalities, clock, taught, Arc::default())?;
    let (recommenders, known) = load(&lessons, folder, &about, dimensions)?;
    Ok(Answering {
        recommenders,
        known: Some(known),
        curriculum: None,
    })
}

/// The folder of trained models, if one is set.
pub fn folder(config: &Config) -> Option<&Path> {
    let folder: &PathBuf = &config.models.trained;
    Some(folder.as_path()).filter(|folder| !folder.as_os_str().is_empty())
}

fn load(
    lessons: &Lessons,
    folder: &Path,
    about: &About,
    dimensions: usize,
) -> Result<(Vec<Box<dyn Recommender>>, Content)> {
    let same = |what: &str,
                was: &dyn fmt::Display,
                now: &dyn fmt::Display,
                keys: &str|
     -> Result<()> {
        let (was, now) = (was.to_string(), now.to_string());
        if was == now {
            return Ok(());
        }
        bail!(
            "{}: its models were trained over the {what} {was}, and this one is {now}: set {keys} as \
             they were (its \"settings\" has them), or {}",
            folder.join(MODEL).display(),
            again(folder)
        )
    };
    let foundation = lessons.foundation()?;
    let keys = "models.folder, models.precision and models.e4srec.backbone";
    same("language model", &about.language_model, &foundation, keys)?;
    let encoder = encoder_print(&lessons.encoder_weights())?;
    same(
        "text encoder",
        &about.text_encoder,
        &encoder,
        "models.folder",
    )?;
    let mut e4srec = lessons.untaught_language_model()?;
    let mut item_encoder = lessons.untaught_item_encoder()?;
    let mut counts = (SequentialRules::default(), PersonalMostPop::new());
    let states: [&mut dyn Recommender; 4] = [
        &mut e4srec,
        &mut *item_encoder,
        &mut counts.0,
        &mut counts.1,
    ];
    for state in states {
        let name = state.name();
        let bytes = about.load(folder, name)?;
        state.restore(&bytes, &[]).with_context(|| {
            format!(
                "{} does not fit the settings or this program: set [models] as its {MODEL} has it, or {}",
                folder.join(name).display(),
                again(folder)
            )
        })?;
    }
    let bytes = about.load(folder, CATALOGUE)?;
    let content: Content = decode(CATALOGUE, VERSION, &bytes)
        .with_context(|| format!("{}: {}", folder.join(CATALOGUE).display(), again(folder)))?;
    same(
        "content of dimensions",
        &content.dimensions(),
        &dimensions,
        "models.folder, models.lyrics and models.audio_encoder",
    )?;
    tracing::info!(
        folder = %folder.display(),
        trained_at = about.trained_at,
        log = about.log.description,
        tracks = content.len(),
        "models that are trained answer"
    );
    let ladder = lessons.ladder(&e4srec, item_encoder, counts, dimensions)?;
    Ok((ladder, content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_models_or_with_other_ones_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let said = || format!("{:#}", About::read(folder.path()).unwrap_err());
        assert!(said().contains("segue train LOG --out"), "{}", said());
        fs::write(folder.path().join(MODEL), "{").unwrap();
        assert!(said().contains("model.json is damaged"), "{}", said());
        let later = About {
            version: VERSION + 1,
            segue: "9.9".to_owned(),
            ..About::default()
        };
        let text = serde_json::to_string(&later).unwrap();
        fs::write(folder.path().join(MODEL), text).unwrap();
        assert!(said().contains("of version 2"), "{}", said());
    }

    #[test]
    fn a_file_is_what_was_written_or_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sasrec");
        fs::write(&path, "state").unwrap();
        let file = FileAbout {
            bytes: 5,
            xxh3: sum(b"state"),
        };
        let about = About {
            files: BTreeMap::from([("sasrec".to_owned(), file)]),
            ..About::default()
        };
        assert_eq!(about.load(folder.path(), "sasrec").unwrap(), b"state");
        for wrong in ["stale", "stat", "states"] {
            fs::write(&path, wrong).unwrap();
            let error = format!("{:#}", about.load(folder.path(), "sasrec").unwrap_err());
            assert!(error.contains("sasrec is damaged"), "{error}");
        }
        fs::remove_file(&path).unwrap();
        let error = format!("{:#}", about.load(folder.path(), "sasrec").unwrap_err());
        assert!(error.contains("sasrec cannot be read"), "{error}");
        let error = format!("{:#}", about.load(folder.path(), "e4srec").unwrap_err());
        assert!(error.contains("names no file e4srec"), "{error}");
    }
}
