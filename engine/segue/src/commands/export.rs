//! `segue export`: a log as a data set, in a folder.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use segue_export::dataset::check_place;
use segue_export::features::{Feature, Vectors, check_names};
use segue_export::split::Boundaries;
use segue_export::{About, Contents, Dataset, Shares};
use segue_flow::clock::{MachineClock, WallClock};
use segue_flow::lane::{AtEnd, LaneSettings};
use segue_flow::memory::memory_topic;
use segue_listen::{EventTime, ListenRef, Span};
use segue_replay::Inputs;
use segue_replay::error::ReplayError;
use segue_replay::stream::ListenStream;

use crate::config::Config;
use crate::report::figures::count;
use crate::{input, pipeline, shutdown, watch};

const MORE_HELP: &str = "\
The log is taken through every room as in `segue demo`: one order of time, duplicates left out, \
sessions, completion ratios. FOLDER is then a data set:

    interactions/{train,validation,test}.parquet   a row for each play
    sessions.parquet                               a row for each session
    tracks.parquet                                 a row for each track
    features.safetensors                           vectors of tracks, rows as in tracks.parquet
    README.md                                      the card: splits, counts, columns, how ratios are made

It is read as it is:

    pandas.read_parquet(\"FOLDER/sessions.parquet\")
    datasets.load_dataset(\"FOLDER\", \"interactions\")

Vectors come from files of `segue encode`, or are made here of what is written of each track:

    segue export plays.tsv.zst --out out/benchmark --text
    segue encode audio library.jsonl --out sound.safetensors
    segue export plays.tsv.zst --out out/benchmark --vectors audio=sound.safetensors

The same log gives the same bytes. Nothing is in FOLDER before all of it is.";

/// Tracks whose vectors are read at once.
const VECTORS_AT_ONCE: usize = 1_024;

/// `segue export`.
#[derive(Debug, Args)]
#[command(after_long_help = MORE_HELP)]
pub struct Export {
    /// Logs: files or folders of LastFM-1K rows (plain, .gz, .zst, or the original .tar.gz),
    /// ListenBrainz JSON lines, Spotify extended histories, or files that Segue wrote.
    #[arg(required = true, value_name = "LOG")]
    pub data: Vec<PathBuf>,
    /// Where the data set goes.
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// Replace a data set that is there. A folder that holds anything else is left alone.
    #[arg(long)]
    pub force: bool,
    /// The share of the log's listens, the newest but for those of test, that are for validation.
    #[arg(long, default_value_t = Shares::default().validation, value_name = "SHARE")]
    pub validation: f64,
    /// The share of the log's listens, the newest, that are for test.
    #[arg(long, default_value_t = Shares::default().test, value_name = "SHARE")]
    pub test: f64,
    /// Vectors of tracks that `segue encode` has made of a library, under this name; several times for
    /// several ways of knowing a track.
    #[arg(long, value_name = "NAME=FILE.safetensors")]
    pub vectors: Vec<NamedFile>,
    /// Make vectors of artist and title here, under the name `text`: by `minilm` (of `make setup`), or
    /// by another model, --text=MODEL, a folder with a BERT or MPNet of sentence-transformers.
    #[cfg(feature = "torch")]
    #[arg(long, value_name = "MODEL", num_args = 0..=1, require_equals = true, default_missing_value = "minilm")]
    pub text: Option<String>,
    /// The terms of the data set for its card, such as cc0-1.0. Default: unknown.
    #[arg(long, value_name = "LICENCE")]
    pub licence: Option<String>,
    /// What the data set is called on its card. Default: after the log's files.
    #[arg(long, value_name = "TEXT")]
    pub name: Option<String>,
}

/// A file and what it is called.
#[derive(Clone, Debug)]
pub struct NamedFile {
    name: String,
    file: PathBuf,
}

impl FromStr for NamedFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((name, file)) if !name.is_empty() && !file.is_empty() => Ok(Self {
                name: name.to_owned(),
                file: file.into(),
            }),
            _ => Err(format!("`{text}` is not NAME=FILE")),
        }
    }
}

impl Export {
    /// Exports until it is over or a signal says stop.
    ///
    /// # Errors
    /// Whatever stops it; nothing is then in the folder.
    pub fn run(&self, config: &Config) -> Result<()> {
        let stop = shutdown::on_signal(None)?;
        let contents = self.export(config, &stop)?;
        for split in &contents.splits {
            println!(
                "{}: {} plays of {} listeners and {} tracks, {} of them new",
                split.split.name(),
                count(split.plays),
                count(split.listeners),
                count(split.tracks),
                count(split.new_tracks)
            );
        }
        for feature in &contents.features {
            println!(
                "{}: {} numbers for {} of {} tracks",
                feature.name,
                feature.dimensions,
                count(feature.known),
                count(contents.tracks)
            );
        }
        println!(
            "{} plays, {} sessions: {} (its card: {})",
            count(contents.splits.iter().map(|split| split.plays).sum()),
            count(contents.sessions),
            self.out.display(),
            self.out.join("README.md").display()
        );
        Ok(())
    }

    /// The same without signals: what tests call.
    ///
    /// # Errors
    /// Whatever stops it.
    pub fn export(&self, config: &Config, stop: &Arc<AtomicBool>) -> Result<Contents> {
        // What can be refused is refused before hours are spent.
        check_place(&self.out, self.force)?;
        let shares = Shares {
            validation: self.validation,
            test: self.test,
        };
        Boundaries::new(shares, 0)?;
        let features = self.features(config)?;
        let clock: Arc<dyn WallClock> = Arc::new(MachineClock::start());
        let inputs = Inputs::find(&self.data)?;
        let mut rejects = self.out.clone().into_os_string();
        rejects.push(".rejects.tsv");
        let rejects = PathBuf::from(rejects);
        let log = input::read_files(&self.data, config, &rejects, stop)?;
        println!("{}: {} listens", log.description, count(log.listens));
        let rejected = log.report.map_or(0, |report| report.rejected.bad());
        if rejected > 0 {
            let kept = config.read.rejects.as_ref().unwrap_or(&rejects);
            println!("{} rows rejected: see {}", count(rejected), kept.display());
        }

        let boundaries = Arc::new(Boundaries::new(shares, log.listens)?);
        let epoch = config.recommend.epoch;
        let mut dataset = Dataset::create(&self.out, self.force, boundaries.clone(), epoch)?;
        let (sink, sources) = memory_topic(&config.stream.topic, 1);
        let source = sources.into_iter().next().context("a topic has a lane")?;
        let stream = Box::new(Marked {
            stream: log.stream,
            boundaries,
            number: 0,
        });
        let delivery = input::delivery(config, 1);
        let replay = input::spawn(
            stream,
            delivery,
            Box::new(sink),
            clock.clone(),
            stop.clone(),
        )?;
        let bar = watch::bar(log.listens, "stream");
        let lane = LaneSettings {
            // Plays are taken by their time: a log is not corrected afterwards.
            in_order: true,
            at_end: AtEnd::Close,
            ..config.lane()
        };
        let rules = (lane, config.session_rules());
        let mut listens = 0;
        let capacity = config.queues.lanes.capacity;
        let ran = pipeline::lane_alone(Box::new(source), rules, capacity, &clock, &mut |batch| {
            listens += batch.counts.items;
            bar.inc(batch.counts.items);
            if let Some(aside) = batch.aside.first() {
                bail!(
                    "a listen of the log could not be taken in: {}",
                    aside.detail
                );
            }
            Ok(batch
                .outputs
                .into_iter()
                .try_for_each(|update| dataset.take(update))?)
        });
        bar.finish();
        let delivered = replay
            .join()
            .map_err(|_| anyhow!("the replay's thread panicked: a bug"))?;
        // Where the writing failed, the replay only saw its readers go.
        ran?;
        delivered?;
        if stop.load(Ordering::Relaxed) {
            bail!("stopped: nothing was written");
        }
        let files = inputs.logs.iter().filter_map(|log| log.path.file_name());
        let files: Vec<_> = files.map(|name| name.to_string_lossy()).collect();
        let files = files.join(", ");
        let about = About {
            name: (self.name.clone()).unwrap_or_else(|| format!("Listening log {files}")),
            licence: self.licence.clone(),
            log: files,
            fingerprint: inputs.fingerprint()?,
            rejected,
            duplicates: listens - dataset.plays().min(listens),
            session_gap: Span::from(config.sessions.gap),
            epoch,
        };
        let total = dataset.tracks() * features.len() as u64;
        let bar = watch::bar(total, "features");
        let contents = dataset.finish(features, &about, &mut |tracks| {
            bar.inc(tracks as u64);
            match stop.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        bar.finish();
        Ok(contents)
    }

    /// Ways of knowing tracks, as asked for.
    fn features(&self, config: &Config) -> Result<Vec<Feature>> {
        let mut features = self.text(config)?;
        for NamedFile { name, file } in &self.vectors {
            let about = file.file_name().unwrap_or_default().to_string_lossy();
            features.push(Feature {
                name: name.clone(),
                about: format!("of {about}, which `segue encode` made"),
                encoder: Box::new(Vectors::open(file)?),
                batch: VECTORS_AT_ONCE,
            });
        }
        check_names(features.iter().map(|feature| &*feature.name))?;
        Ok(features)
    }

    #[cfg(feature = "torch")]
    fn text(&self, config: &Config) -> Result<Vec<Feature>> {
        use crate::models::{place, sound};
        use segue_encode::text::TextEncoder;
        use segue_nn::device::choose;

        let Some(named) = &self.text else {
            return Ok(Vec::new());
        };
        let chosen = choose(config.models.device);
        println!("device: {}", chosen.reason);
        let folder = sound::folder(named, &place::folder(&config.models));
        let encoder = TextEncoder::load(&folder, chosen.device, config.models.precision)?;
        let model = folder.file_name().unwrap_or_default().to_string_lossy();
        Ok(vec![Feature {
            name: "text".to_owned(),
            about: format!("{model} on artist and title"),
            encoder: Box::new(encoder),
            batch: config.models.encoder_batch,
        }])
    }

    #[cfg(not(feature = "torch"))]
    #[expect(clippy::unnecessary_wraps, reason = "with models it may fail")]
    #[expect(clippy::unused_self, reason = "with models it is asked")]
    fn text(&self, _: &Config) -> Result<Vec<Feature>> {
        Ok(Vec::new())
    }
}

/// A log whose listens are counted on their way, so that the splits begin where they should.
struct Marked {
    stream: Box<dyn ListenStream + Send>,
    boundaries: Arc<Boundaries>,
    number: u64,
}

impl ListenStream for Marked {
    fn next_listen(&mut self) -> Result<Option<ListenRef<'_>>, ReplayError> {
        let listen = self.stream.next_listen()?;
        if let Some(listen) = &listen {
            self.boundaries.read(self.number, listen.at);
            self.number += 1;
        }
        Ok(listen)
    }

    fn total(&self) -> Option<u64> {
        self.stream.total()
    }

    fn last(&self) -> Option<EventTime> {
        self.stream.last()
    }
}
