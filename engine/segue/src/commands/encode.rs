//! `segue encode`: vectors of a whole library or folder of music, into one file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use segue_catalog::content::TrackContent;
use segue_catalog::current_library::CurrentLibrary;
use segue_catalog::encoder::Encoder;
use segue_catalog::library::Library;
use segue_catalog::modality::ModalityKind;
use segue_encode::audio::crop::Crop;
use segue_encode::text::{TextEncoder, TextOf};
use segue_encode::vector_cache::file_print;
use segue_listen::{TrackId, TrackKey};
use segue_nn::device::choose;

use self::store::{Store, print_of};
use crate::config::Config;
use crate::models::sound::{self, Sound, Wording};
use crate::models::{place, text_made_by};
use crate::{shutdown, watch};

mod mgphot;
mod store;

#[cfg(test)]
mod tests;

const FLAGS: Wording = Wording {
    model: "--model ",
    layers: "--layers ",
};

const MORE_HELP: &str = "\
A library is a file of JSON lines, one track each; `audio` is relative to the file's folder:

    {\"artist\": \"Muldjord\", \"title\": \"Chaos God\", \"audio\": \"chaos.ogg\", \"lyrics\": \"...\"}

Of OUT.safetensors, `vectors` has a row of f32 for each track that could be encoded; OUT.jsonl says which \
row is whose, and why a track has none. What is done is kept in OUT.cache by the content of each file: \
stopped (Ctrl-C) or repeated with more music, the same command encodes only what is new. Where \
models.vector_cache is set, audio and lyrics are kept there instead, and `segue run` finds them.

    segue encode audio ~/Music --out vectors.safetensors
    segue encode audio library.jsonl --model handcrafted --out numbers.safetensors
    segue encode audio library.jsonl --model models/mert --seconds 5 --count 6 --out mert.safetensors
    segue encode text library.jsonl --of lyrics --out lyrics.safetensors
    segue encode mgphot library.jsonl --out ratings.tsv

Ratings go into a table instead: `segue encode mgphot --help` says more.";

/// `segue encode`.
#[derive(Debug, Args)]
#[command(after_long_help = MORE_HELP)]
pub struct EncodeCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// What tracks sound like: mp3, flac, ogg vorbis, aac, alac, aiff and wav files.
    #[command(after_long_help = MORE_HELP)]
    Audio(AudioCommand),
    /// What is written of tracks: title, artist, album and lyrics.
    #[command(after_long_help = MORE_HELP)]
    Text(TextCommand),
    /// Ratings from 0 to 5 by the 58 attributes of MGPHot, by a language model here or elsewhere.
    #[command(after_long_help = mgphot::MORE_HELP)]
    Mgphot(mgphot::MgphotCommand),
}

/// `segue encode audio`.
#[derive(Debug, Args)]
struct AudioCommand {
    /// A library, or a folder of music, which is looked through to the bottom.
    #[arg(value_name = "LIBRARY or FOLDER")]
    from: PathBuf,
    /// Where the vectors go.
    #[arg(long, value_name = "OUT.safetensors")]
    out: PathBuf,
    /// `musicnn` or `musicnn-msd` (of `make setup`), `handcrafted` (63 numbers, no model), a folder
    /// with a model of the wav2vec2 family (MERT, Music2Vec) or EnCodec, or a TOML file that describes
    /// a TorchScript module.
    #[arg(long, default_value = "musicnn", value_name = "MODEL")]
    model: String,
    /// Which hidden states of a wav2vec2 are the vector: `mean`, `last`, or the number of a layer.
    #[arg(long, default_value = "mean", value_name = "LAYERS")]
    layers: String,
    /// Seconds that are listened to at a time.
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS")]
    seconds: f64,
    /// How many times, evenly spread over the track; 1 is its middle.
    #[arg(long, default_value_t = 1, value_name = "N")]
    count: usize,
}

/// `segue encode text`.
#[derive(Debug, Args)]
struct TextCommand {
    /// A library.
    #[arg(value_name = "LIBRARY")]
    from: PathBuf,
    /// Where the vectors go.
    #[arg(long, value_name = "OUT.safetensors")]
    out: PathBuf,
    /// `minilm` (of `make setup`), or a folder with a BERT or MPNet of sentence-transformers.
    #[arg(long, default_value = "minilm", value_name = "MODEL")]
    model: String,
    /// Which texts.
    #[arg(long, value_enum, default_value_t = Texts::Names)]
    of: Texts,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Texts {
    /// Title, artist and album.
    Names,
    /// Lyrics, long ones by chunks.
    Lyrics,
    /// The mean of the two.
    Both,
}

/// One track to be encoded.
struct Item {
    /// What it is called in the list of rows: its key, or its path in the folder.
    name: String,
    key: TrackKey,
    artist: Box<str>,
    title: Box<str>,
    audio: Option<PathBuf>,
}

impl EncodeCommand {
    /// Encodes until it is over or a signal says stop.
    ///
    /// # Errors
    /// Whatever stops it; a track that cannot be encoded does not.
    pub fn run(&self, config: &Config) -> Result<()> {
        let stop = shutdown::on_signal(None)?;
        match &self.what {
            What::Audio(command) => command.encode(config, &stop),
            What::Text(command) => command.encode(config, &stop),
            What::Mgphot(command) => command.rate(config, &stop),
        }
    }
}

impl AudioCommand {
    fn encode(&self, config: &Config, stop: &Arc<AtomicBool>) -> Result<()> {
        let crop = Crop {
            seconds: self.seconds,
            count: self.count,
        };
        crop.check().map_err(anyhow::Error::msg)?;
        let items = match self.from.is_dir() {
            true => music_in(&self.from)?,
            false => tracks_of(&Library::read(&self.from)?),
        };
        let chosen = choose(config.models.device);
        println!("device: {}", chosen.reason);
        let models = place::folder(&config.models);
        let sound = Sound {
            model: &self.model,
            layers: &self.layers,
            crop,
            wording: FLAGS,
        };
        let precision = config.models.precision;
        let (mut encoder, made_by) =
            sound.load(CurrentLibrary::default(), &models, chosen.device, precision)?;
        let kept = (Some(ModalityKind::Audio), &config.models);
        let mut store = Store::open(&self.out, kept, &made_by, encoder.dimensions())?;
        let bar = watch::bar(items.len() as u64, "encoding");
        for item in &items {
            go_on(stop, &self.out)?;
            bar.inc(1);
            let Some(audio) = &item.audio else {
                store.failed(&item.name, "the library names no audio of it");
                continue;
            };
            let content = match file_print(audio) {
                Ok(content) => content,
                Err(error) => {
                    store.failed(&item.name, &format!("{}: {error}", audio.display()));
                    continue;
                }
            };
            if store.known(&item.name, content) {
                continue;
            }
            match encoder.of_file(audio)? {
                Ok(vector) => store.made(&item.name, content, &vector)?,
                Err(problem) => store.failed(&item.name, &problem),
            }
        }
        bar.finish_and_clear();
        store.finish()
    }
}

impl TextCommand {
    fn encode(&self, config: &Config, stop: &Arc<AtomicBool>) -> Result<()> {
        let library = Arc::new(Library::read(&self.from)?);
        let items = tracks_of(&library);
        let chosen = choose(config.models.device);
        println!("device: {}", chosen.reason);
        let folder = sound::folder(&self.model, &place::folder(&config.models));
        let of = match self.of {
            Texts::Names => TextOf::Names,
            Texts::Lyrics => TextOf::Lyrics,
            Texts::Both => TextOf::Both,
        };
        let encoder = TextEncoder::load(&folder, chosen.device, config.models.precision)?;
        let made_by = text_made_by(&encoder, of, &folder)?;
        let mut encoder = encoder.with_library(Arc::clone(&library), of);
        // The company of others is in the last bits of a name's vector: those a run makes itself.
        let kind = (of == TextOf::Lyrics).then_some(ModalityKind::Lyrics);
        let kept = (kind, &config.models);
        let mut store = Store::open(&self.out, kept, &made_by, encoder.dimensions())?;
        let bar = watch::bar(items.len() as u64, "encoding");
        for some in items.chunks(config.models.encoder_batch.max(1)) {
            go_on(stop, &self.out)?;
            bar.inc(some.len() as u64);
            let mut new = Vec::new();
            for item in some {
                let content = print_of(item, &library, of);
                if !store.known(&item.name, content) {
                    new.push((item, content));
                }
            }
            let tracks: Vec<TrackContent> = new
                .iter()
                .map(|(item, _)| TrackContent {
                    track: TrackId(0),
                    key: item.key,
                    artist: item.artist.clone(),
                    title: item.title.clone(),
                })
                .collect();
            let mut rows = Vec::new();
            let outcomes = encoder.encode(&tracks, &mut rows)?;
            let rows = rows.chunks_exact(encoder.dimensions().max(1));
            for (((item, content), outcome), row) in new.iter().zip(outcomes).zip(rows) {
                match outcome {
                    Ok(()) => store.made(&item.name, *content, row)?,
                    Err(error) => store.failed(&item.name, &error.detail),
                }
            }
        }
        bar.finish_and_clear();
        store.finish()
    }
}

/// Ends where a signal said so.
fn go_on(stop: &AtomicBool, out: &Path) -> Result<()> {
    if stop.load(Ordering::Relaxed) {
        bail!(
            "stopped; what is done is kept beside {}: the same command goes on from there",
            out.display()
        );
    }
    Ok(())
}

fn tracks_of(library: &Library) -> Vec<Item> {
    let item = |(key, media): (TrackKey, &segue_catalog::library::TrackMedia)| Item {
        name: key.to_string(),
        key,
        artist: media.artist.clone(),
        title: media.title.clone(),
        audio: media.audio.clone(),
    };
    library.tracks().into_iter().map(item).collect()
}

/// Every file of a folder and those below it that is music by its name, in the order of paths.
fn music_in(folder: &Path) -> Result<Vec<Item>> {
    const MUSIC: [&str; 10] = [
        "aac", "aif", "aiff", "flac", "m4a", "m4b", "mp3", "oga", "ogg", "wav",
    ];
    let mut items = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(now) = folders.pop() {
        let listed = std::fs::read_dir(&now);
        let listed = listed.with_context(|| format!("{} cannot be read", now.display()))?;
        for entry in listed {
            let entry = entry.with_context(|| format!("{} cannot be read", now.display()))?;
            let path = entry.path();
            // A link to a folder is not followed: it may lead back up.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
                continue;
            }
            let extension = path
                .extension()
                .and_then(|e| e.to_str())
                .unwrap_or_default();
            if MUSIC.contains(&extension.to_ascii_lowercase().as_str()) {
                let name = path.strip_prefix(folder).unwrap_or(&path);
                items.push(Item {
                    name: name.to_string_lossy().into_owned(),
                    key: TrackKey::default(),
                    artist: "".into(),
                    title: "".into(),
                    audio: Some(path),
                });
            }
        }
    }
    items.sort_by(|a, b| a.audio.cmp(&b.audio));
    if items.is_empty() {
        bail!(
            "{} has no music in it ({})",
            folder.display(),
            MUSIC.join(", ")
        );
    }
    Ok(items)
}
