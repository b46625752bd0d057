//! `segue encode mgphot`: tracks rated by the attributes of MGPHot, by a language model here or elsewhere,
//! into the table that `models.ratings` reads.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use segue_catalog::library::Library;
use segue_catalog::ratings::prompt::{Anchor, track_line};
use segue_catalog::ratings::schema::COUNT;
use segue_catalog::ratings::table::{RatedTrack, RatingTable};
use segue_encode::vector_cache::{ContentPrint, VectorCache};
use segue_listen::TrackKey;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_128;

use self::rater::Rater;
use super::store::beside;
use super::{Item, tracks_of};
use crate::config::Config;
use crate::report::figures::count;
use crate::report::file::write_whole;

mod endpoint;
mod local;
mod rater;
#[cfg(test)]
mod tests;
mod validation;

pub(super) const MORE_HELP: &str = "\
A library is a file of JSON lines, one track each; a language model is told artist and title:

    {\"artist\": \"Simon & Garfunkel\", \"title\": \"Mrs. Robinson\"}

OUT.tsv is a table with tabs: artist, title, and a rating from 0 to 5 for each of 58 attributes, which the \
history prompt reads where `models.ratings` names it. OUT.problems.jsonl says which tracks have none, and \
why. What is done is kept beside them in a file for each model and set of anchors: stopped (Ctrl-C) or \
repeated with more music, the same command asks only for what is new.

Without --endpoint the language model runs here (`models.language_model`, or --model) and can say nothing \
but digits; a rating is the expectation over the six of them. With it, the model is asked over HTTP by \
OpenAI's protocol: [endpoint] of the configuration has its key, rates, prices and budget. When the budget \
is spent, what was rated is written, and the same command goes on later.

Anchors are tracks of known ratings, shown to the model first: a table as OUT.tsv, of few rows, each with \
all 58. Two rows of MGPHot itself do (mgphot_gene_values.tsv of https://zenodo.org/records/15372063, whose \
licence is non-commercial and lets nobody pass them on, so that none come with Segue).

--validate compares with true ratings, a table as OUT.tsv or MGPHot's file as it is: Spearman's rank \
correlation, its mean over the attributes of each category, and a 95 % interval. Anchors are not compared. \
OUT.agreement.json has the same for machines.

    segue encode mgphot library.jsonl --out ratings.tsv
    segue encode mgphot library.jsonl --out ratings.tsv --anchors two.tsv --validate mgphot_gene_values.tsv
    SEGUE__ENDPOINT__KEY__ENV=OPENAI_API_KEY segue encode mgphot library.jsonl --out ratings.tsv \\
        --endpoint https://api.openai.com/v1 --model gpt-5
    SEGUE__MODELS__RATINGS=ratings.tsv SEGUE__MODELS__E4SREC__BACKBONE__PROMPT=history segue demo";

/// Resamples that intervals are made of.
const RESAMPLES: usize = 1_000;
/// Tracks that a correlation needs.
const LEAST_COMPARED: usize = 3;

/// `segue encode mgphot`.
#[derive(Debug, Args)]
pub(super) struct MgphotCommand {
    /// A library.
    #[arg(value_name = "LIBRARY")]
    from: PathBuf,
    /// Where the ratings go.
    #[arg(long, value_name = "OUT.tsv")]
    out: PathBuf,
    /// The language model: as `models.language_model`, or what the endpoint calls it.
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Ask a language model behind this address, such as https://api.openai.com/v1, by OpenAI's protocol.
    #[arg(long, value_name = "URL", requires = "model")]
    endpoint: Option<String>,
    /// A table of tracks whose ratings are known, which the model is shown first.
    #[arg(long, value_name = "FILE")]
    anchors: Option<PathBuf>,
    /// A table of true ratings to compare with.
    #[arg(long, value_name = "TRUE_RATINGS")]
    validate: Option<PathBuf>,
}

/// A track that has to be rated.
struct Wanted {
    content: ContentPrint,
    line: String,
}

/// A line of the list of tracks without ratings.
#[derive(Serialize)]
struct Problem<'a> {
    track: &'a str,
    artist: &'a str,
    title: &'a str,
    problem: &'a str,
}

/// Known tracks to be shown.
struct Anchors {
    shown: Vec<Anchor>,
    keys: HashSet<TrackKey>,
}

impl MgphotCommand {
    pub(super) fn rate(&self, config: &Config, stop: &AtomicBool) -> Result<()> {
        let truth = self.validate.as_deref().map(true_ratings).transpose()?;
        let anchors = Anchors::read(self.anchors.as_deref())?;
        let library = Library::read(&self.from)?;
        let items = tracks_of(&library);
        ensure!(!items.is_empty(), "{} has no track", self.from.display());
        let lines: Vec<Option<String>> = items
            .iter()
            .map(|item| track_line(&item.artist, &item.title))
            .collect();

        let mut rater = match &self.endpoint {
            Some(base) => {
                let model = self.model.as_deref().unwrap_or_default();
                Rater::elsewhere(base, model, &anchors.shown, config)?
            }
            None => {
                let named = self.model.as_deref();
                let named = named.unwrap_or(&config.models.language_model);
                Rater::here(named, &anchors.shown, config)?
            }
        };
        println!("{}", rater.about());
        let print = rater.print();
        // Each rater has its own: what was paid for is not thrown away for another's.
        let short = xxh3_128(print.as_bytes()) as u32;
        let mut cache = VectorCache::open(
            &beside(&self.out, &format!("{short:08x}.cache")),
            print,
            COUNT,
            u64::MAX,
        )?;
        let mut seen = HashSet::new();
        let wanted: Vec<Wanted> = lines
            .iter()
            .flatten()
            .map(|line| Wanted {
                content: content_of(line),
                line: line.clone(),
            })
            .filter(|track| !cache.contains(track.content) && seen.insert(track.content))
            .collect();
        let outcome = rater.rate(&wanted, &mut cache, &self.out, stop)?;

        let problem_of = |line: &Option<String>| match line {
            None => "the library has neither its artist nor its title".to_owned(),
            Some(line) => outcome.problem_of(content_of(line)),
        };
        let mut table = RatingTable::of_schema();
        let (mut problems, mut without) = (Vec::new(), 0);
        for (item, line) in items.iter().zip(&lines) {
            let ratings = line.as_ref().and_then(|line| cache.get(content_of(line)));
            if let Some(ratings) = ratings {
                table.insert(rated(item, &ratings));
                continue;
            }
            without += 1;
            let problem = Problem {
                track: &item.name,
                artist: &item.artist,
                title: &item.title,
                problem: &problem_of(line),
            };
            serde_json::to_writer(&mut problems, &problem)?;
            problems.push(b'\n');
        }
        let list = beside(&self.out, "problems.jsonl");
        write_whole(&list, &problems)?;
        write_whole(&self.out, table.to_text().as_bytes())?;
        let as_before = lines.iter().flatten().count().saturating_sub(wanted.len());
        println!(
            "{} tracks rated in {}: {} asked for, {} as before; {} tracks without: see {}",
            count(table.tracks().len() as u64),
            self.out.display(),
            count(wanted.len() as u64),
            count(as_before as u64),
            count(without as u64),
            list.display()
        );
        if let Some(said) = rater.spent() {
            println!("{said}");
        }
        if let Some(why) = &outcome.ended {
            println!("ended early: {why}; the same command goes on from there");
        }
        match truth {
            Some(truth) => validation::compare(&table, &truth, &anchors, &self.out, config.seed),
            None => Ok(()),
        }
    }
}

impl Anchors {
    fn read(path: Option<&Path>) -> Result<Self> {
        let mut anchors = Self {
            shown: Vec::new(),
            keys: HashSet::new(),
        };
        let Some(path) = path else {
            return Ok(anchors);
        };
        let named = || format!("--anchors {}", path.display());
        let table = RatingTable::read(path).context("--anchors")?;
        for track in table.tracks() {
            let ratings = table.by_schema(&track.ratings);
            let anchor = Anchor::new(&track.artist, &track.title, &ratings);
            anchors
                .shown
                .push(anchor.map_err(anyhow::Error::msg).with_context(named)?);
            anchors.keys.insert(track.key());
        }
        ensure!(!anchors.shown.is_empty(), "{} has no track", named());
        Ok(anchors)
    }
}

/// A table of true ratings by at least one attribute.
fn true_ratings(path: &Path) -> Result<RatingTable> {
    let table = RatingTable::read(path).context("--validate")?;
    let strangers = table.strangers();
    if strangers.len() == table.columns().len() {
        bail!(
            "--validate {}: none of its columns is an attribute of MGPHot ({})",
            path.display(),
            strangers.join(", ")
        );
    }
    if !strangers.is_empty() {
        let columns = strangers.join(", ");
        tracing::warn!(columns, "columns that are no attribute are not compared");
    }
    Ok(table)
}

/// What a track's ratings are kept under: what the model is told of it.
fn content_of(line: &str) -> ContentPrint {
    xxh3_128(line.as_bytes())
}

fn rated(item: &Item, ratings: &[f32]) -> RatedTrack {
    RatedTrack {
        artist: item.artist.clone(),
        title: item.title.clone(),
        ratings: ratings.to_vec(),
    }
}
