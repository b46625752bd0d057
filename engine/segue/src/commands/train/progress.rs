//! `FOLDER/progress`: how far a training has come.
//!
//! ```text
//! gathered           the log as models learn it, and its tracks with their vectors
//! task.json          what that was gathered from, and what it came to; written last
//! lesson             the course of the item encoder's training
//! item-encoder       its state, once it is trained
//! e4srec             how far the language model is
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use segue_catalog::durations::DurationReport;
use segue_e4srec::Keeper;
use segue_encode::vector_cache::file_print;
use segue_flow::checkpoint::{decode, encode};
use segue_recommend::stage::{Content, RunSummary, StreamTally};
use segue_recommend::training::TrainingLog;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::config::Config;
use crate::report::data::{Curve, Phase};
use crate::report::file::write_whole;

const VERSION: u16 = 1;
const GATHERED: &str = "gathered";
const LESSON: &str = "lesson";

/// What a log is gathered from: it need not be read again for the same.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Task {
    /// What tells the log's files from others.
    pub inputs: String,
    /// Those settings that decide what is gathered, and what the item encoder makes of it.
    settings: serde_json::Value,
}

impl Task {
    pub fn new(inputs: String, encoder: &str, config: &Config) -> Result<Self> {
        let mut models = serde_json::to_value(&config.models)?;
        if let Some(models) = models.as_object_mut() {
            // The language model's settings are looked at where it is trained.
            for free in [
                "device",
                "threads",
                "folder",
                "encoder_batch",
                "vector_cache",
                "vector_cache_mib",
                "trained",
                "e4srec",
            ] {
                models.remove(free);
            }
        }
        let (stream, read) = (&config.stream, &config.read);
        let ratings = match config.models.encode_ratings {
            true => config.models.ratings.as_path(),
            false => Path::new(""),
        };
        let settings = serde_json::json!({
            "library": print_of(&config.models.library)?,
            "ratings": print_of(ratings)?,
            "seed": config.seed,
            "text encoder": encoder,
            "stream": {
                "lanes": stream.lanes,
                "disorder": stream.disorder,
                "lateness": stream.lateness,
                "tick": stream.tick,
            },
            "sessions": config.sessions,
            "recommend.epoch": config.recommend.epoch,
            "read": {
                "max_row_bytes": read.max_row_bytes,
                "user_if_absent": read.user_if_absent,
            },
            "models": models,
        });
        Ok(Self { inputs, settings })
    }

    /// The first thing in which another task is another one.
    fn difference(&self, now: &Self) -> Option<String> {
        if self.inputs != now.inputs {
            return Some("other logs".to_owned());
        }
        difference("", &self.settings, &now.settings)
    }
}

/// What tells a file's content from others; nothing where no file is named.
fn print_of(file: &Path) -> Result<String> {
    if file.as_os_str().is_empty() {
        return Ok(String::new());
    }
    let print = file_print(file).with_context(|| format!("{}", file.display()))?;
    Ok(print.to_string())
}

fn difference(path: &str, was: &serde_json::Value, now: &serde_json::Value) -> Option<String> {
    if was == now {
        return None;
    }
    if let (Some(was), Some(now)) = (was.as_object(), now.as_object()) {
        let keys = was.keys().chain(now.keys());
        let null = serde_json::Value::Null;
        for key in keys {
            let path = match path {
                "" => key.clone(),
                path => format!("{path}.{key}"),
            };
            let (was, now) = (was.get(key), now.get(key));
            let found = difference(&path, was.unwrap_or(&null), now.unwrap_or(&null));
            if found.is_some() {
                return found;
            }
        }
    }
    Some(format!("{path} = {was}, which is {now} now"))
}

/// What the gathering of a log came to.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Gathered {
    pub task: Task,
    /// The log in words.
    pub description: String,
    /// Rows that were no listens.
    pub rejects: u64,
    /// How long it took.
    pub seconds: f64,
    pub stream: StreamTally,
    pub listeners: u64,
    pub tracks: u64,
    pub encoded: u64,
    pub failed: u64,
    pub durations_estimated: u64,
    /// How far estimated lengths are from stated ones; an earlier Segue did not keep it.
    #[serde(default)]
    pub durations: Option<DurationReport>,
}

impl Gathered {
    /// The same as a run tells it.
    pub fn summary(&self) -> RunSummary {
        RunSummary {
            stream: self.stream.clone(),
            trained_on: self.stream.plays,
            listeners: self.listeners,
            tracks: self.tracks,
            encoded: self.encoded,
            failed: self.failed,
            durations_estimated: self.durations_estimated,
            durations: self.durations.clone(),
            ..RunSummary::default()
        }
    }
}

/// The course of a training that is over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Lesson {
    pub phases: Vec<Phase>,
    pub curves: Vec<Curve>,
}

/// A folder that progress is kept in.
#[derive(Debug)]
pub(super) struct Kept {
    folder: PathBuf,
}

impl Kept {
    /// Of a training into `out`.
    pub fn of(out: &Path) -> Self {
        Self {
            folder: out.join("progress"),
        }
    }

    /// Forgets everything.
    pub fn forget(&self) -> Result<()> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("{} cannot be removed", self.folder.display()))
            }
            _ => Ok(()),
        }
    }

    /// What was gathered, if it was to its end, for this very task.
    pub fn gathered(&self, task: &Task) -> Result<Option<Gathered>> {
        let path = self.folder.join("task.json");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context(format!("{} cannot be read", path.display())),
        };
        let gathered: Gathered = serde_json::from_str(&text)
            .with_context(|| format!("{} is damaged: begin anew with --fresh", path.display()))?;
        if let Some(difference) = gathered.task.difference(task) {
            bail!(
                "{}: the training that was begun there is of {difference}: go on as it was begun, or begin \
                 anew with --fresh",
                self.folder.display()
            );
        }
        Ok(Some(gathered))
    }

    /// Says that everything was gathered.
    pub fn keep_gathered(&self, gathered: &Gathered) -> Result<()> {
        let text = serde_json::to_string_pretty(gathered)?;
        write_whole(&self.folder.join("task.json"), text.as_bytes())
    }

    /// Keeps the log and its tracks.
    pub fn keep_log(&self, log: &TrainingLog, content: &Content) -> Result<()> {
        let bytes = encode(GATHERED, VERSION, &(log, content))?;
        Ok(self.sealed(GATHERED).keep(&bytes)?)
    }

    /// The log and its tracks.
    pub fn log(&self) -> Result<(TrainingLog, Content)> {
        let mut file = self.sealed(GATHERED);
        let bytes = file.kept()?.with_context(|| {
            let path = file.path.display();
            format!("{path} is not there: begin anew with --fresh")
        })?;
        Ok(decode(GATHERED, VERSION, &bytes)?)
    }

    /// The item encoder's state and how it was trained, if it was.
    pub fn item_encoder(&self) -> Result<Option<(Vec<u8>, Lesson)>> {
        let Some(state) = self.sealed("item-encoder").kept()? else {
            return Ok(None);
        };
        let lesson = self.sealed(LESSON).kept()?;
        let lesson =
            lesson.context("the item encoder's lesson is not there: begin anew with --fresh")?;
        Ok(Some((state, decode(LESSON, VERSION, &lesson)?)))
    }

    /// Keeps the item encoder.
    pub fn keep_item_encoder(&self, state: &[u8], lesson: &Lesson) -> Result<()> {
        self.sealed(LESSON)
            .keep(&encode(LESSON, VERSION, lesson)?)?;
        Ok(self.sealed("item-encoder").keep(state)?)
    }

    /// Where the language model's progress is.
    pub fn language_model(&self) -> Sealed {
        self.sealed("e4srec")
    }

    fn sealed(&self, name: &str) -> Sealed {
        Sealed {
            path: self.folder.join(name),
        }
    }
}

/// A file that is what was written, or is refused: its XXH3, then what it holds.
#[derive(Debug)]
pub(super) struct Sealed {
    path: PathBuf,
}

impl Keeper for Sealed {
    fn kept(&mut self) -> io::Result<Option<Vec<u8>>> {
        let told =
            |kind, what: String| io::Error::new(kind, format!("{} {what}", self.path.display()));
        let mut bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(told(error.kind(), format!("cannot be read: {error}"))),
        };
        let whole = bytes
            .split_first_chunk::<16>()
            .is_some_and(|(sum, rest)| u128::from_le_bytes(*sum) == xxh3_128(rest));
        if !whole {
            let what = "is damaged: begin anew with --fresh".to_owned();
            return Err(told(io::ErrorKind::InvalidData, what));
        }
        bytes.drain(..16);
        Ok(Some(bytes))
    }

    fn keep(&mut self, progress: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(16 + progress.len());
        bytes.extend_from_slice(&xxh3_128(progress).to_le_bytes());
        bytes.extend_from_slice(progress);
        write_whole(&self.path, &bytes).map_err(|error| io::Error::other(format!("{error:#}")))
    }
}

#[cfg(test)]
mod tests {
    use segue_catalog::durations::DurationErrors;

    use super::*;

    #[test]
    fn what_is_sealed_is_whole_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = Kept::of(folder.path()).language_model();
        assert_eq!(file.kept().unwrap(), None);
        file.keep(b"one").unwrap();
        file.keep(b"another").unwrap();
        assert_eq!(file.kept().unwrap().as_deref(), Some(&b"another"[..]));
        let whole = fs::read(&file.path).unwrap();
        for at in 0..whole.len() {
            let mut bad = whole.clone();
            bad[at] ^= 1;
            for bad in [&bad[..], &whole[..at]] {
                fs::write(&file.path, bad).unwrap();
                let error = file.kept().unwrap_err().to_string();
                assert!(error.contains("e4srec is damaged"), "{error}");
            }
        }
    }

    #[test]
    fn another_task_is_refused_by_what_it_differs_in() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::of(folder.path());
        let config = Config::default();
        let task =
            |inputs: &str, config: &Config| Task::new(inputs.to_owned(), "print", config).unwrap();
        assert_eq!(kept.gathered(&task("a", &config)).unwrap(), None);
        let gathered = Gathered {
            task: task("a", &config),
            description: "a log".to_owned(),
            rejects: 0,
            seconds: 1.5,
            stream: StreamTally::default(),
            listeners: 1,
            tracks: 2,
            encoded: 2,
            failed: 0,
            durations_estimated: 0,
            durations: Some(DurationReport {
                by_plays: vec![DurationErrors {
                    plays_from: 50,
                    median_error: Some(0.125),
                    ..DurationErrors::default()
                }],
                ..DurationReport::default()
            }),
        };
        kept.keep_gathered(&gathered).unwrap();
        let found = kept.gathered(&task("a", &config)).unwrap();
        assert_eq!(found, Some(gathered));
        let said = |task: &Task| format!("{:#}", kept.gathered(task).unwrap_err());
        let error = said(&task("b", &config));
        assert!(
            error.contains("other logs") && error.contains("--fresh"),
            "{error}"
        );
        let mut other = config.clone();
        other.models.sasrec.dimensions = 7;
        let error = said(&task("a", &other));
        let wanted = "models.sasrec.dimensions = 64, which is 7 now";
        assert!(error.contains(wanted), "{error}");
        // What decides nothing here may be another.
        let mut same = config;
        same.models.threads = 3;
        same.models.e4srec.offline.epochs = 9;
        assert!(kept.gathered(&task("a", &same)).unwrap().is_some());
    }
}
