//! `segue replay`: logs into Kafka, the embedded log or a file, in one time order, at a pace.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use segue_flow::Sink;
use segue_listen::wire::Format;
use segue_log::Log;
use segue_replay::download::{self, Consent, Dataset};
use segue_replay::file_sink::FileSink;
use segue_replay::{Bar, DeliverySettings, Inputs, Pace, Replay, ReplaySettings};

use crate::config::Config;
use crate::{shutdown, watch};

/// `segue replay`.
#[derive(Debug, Args)]
pub struct ReplayCommand {
    /// Files or folders: LastFM-1K rows (plain, .gz, .zst, or inside the original .tar.gz),
    /// ListenBrainz JSON lines, Spotify extended streaming histories, or files that Segue wrote.
    inputs: Vec<PathBuf>,
    /// Where to: `kafka` (the brokers of [kafka]), `log` (the directory of [log]), or a file ending
    /// in .jsonl, .msgpack or .tsv, with .zst if it is to be compressed.
    #[arg(long, default_value = "log", value_name = "WHERE")]
    to: Target,
    /// How fast: `max`, a rate such as `5000/s`, or a multiple of real time such as `60x`.
    #[arg(long, default_value = "max", value_name = "PACE")]
    pace: PaceFlag,
    /// Note here how far the replay has come, and go on from there the next time.
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Keep rows that are no listens here, with file, line and reason.
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// Fetch a published log first, into --folder, and replay nothing.
    #[arg(long, value_enum, value_name = "NAME")]
    download: Option<Published>,
    /// Where a download goes.
    #[arg(long, default_value = "out/data", value_name = "DIR")]
    folder: PathBuf,
    /// Say that you have read and accept the licence that --download prints.
    #[arg(long)]
    accept_licence: bool,
}

/// Logs that can be downloaded.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Published {
    /// LastFM-1K by Òscar Celma: 19 million plays of 992 listeners, non-commercial use.
    #[value(name = "lastfm-1k")]
    LastFm1k,
}

/// Where records go.
#[derive(Clone, Debug)]
enum Target {
    Kafka,
    Log,
    File(PathBuf),
}

impl FromStr for Target {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "kafka" => Target::Kafka,
            "log" => Target::Log,
            file => Target::File(file.into()),
        })
    }
}

/// A pace as people write it.
#[derive(Clone, Copy, Debug)]
struct PaceFlag(Pace);

impl FromStr for PaceFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("`{text}` is not a pace: write max, 5000/s or 60x");
        if text == "max" {
            return Ok(Self(Pace::Unlimited));
        }
        if let Some(rate) = text.strip_suffix("/s") {
            let rate = rate.parse::<NonZeroU32>().map_err(|_| wrong())?;
            return Ok(Self(Pace::EventsPerSecond(rate)));
        }
        match text
            .strip_suffix('x')
            .and_then(|speed| speed.parse::<f64>().ok())
        {
            Some(speed) if speed.is_finite() && speed > 0.0 => Ok(Self(Pace::RealTime(speed))),
            _ => Err(wrong()),
        }
    }
}

impl ReplayCommand {
    /// Downloads or replays.
    ///
    /// # Errors
    /// Whatever stops it; what was committed stays so.
    pub fn run(&self, config: &Config) -> Result<()> {
        let stop = shutdown::on_signal()?;
        if let Some(Published::LastFm1k) = self.download {
            return self.fetch(&Dataset::lastfm_1k(), &stop);
        }
        if self.inputs.is_empty() {
            bail!("nothing to replay: name files or folders (segue replay --help)");
        }
        let inputs = Inputs::find(&self.inputs)?;
        let (mut sink, partitions, format) = self.open(config)?;
        let mut read = config.read.clone();
        if let Some(rejects) = &self.rejects {
            read.rejects = Some(rejects.clone());
        }
        let settings = ReplaySettings {
            read,
            merge: config.merge.clone(),
            deliver: DeliverySettings {
                topic: config.stream.topic.clone(),
                partitions,
                format,
                pace: self.pace.0,
                ..DeliverySettings::default()
            },
            state: self.resume.clone(),
        };
        let mut bar = Bar::on_terminal();
        let report =
            Replay::new(inputs, settings).run(&mut *sink, &stop, |progress| bar.show(progress))?;
        bar.finish();
        if let Some(read) = &report.read {
            println!(
                "read {} listens, rejected {}",
                read.listens,
                read.rejected.bad()
            );
            for example in &read.examples {
                println!("  {example}");
            }
        }
        match report.delivered {
            Some(done) => println!(
                "wrote {} listens and {} heartbeats in {} epochs ({:?})",
                done.listens, done.heartbeats, done.epochs, done.outcome
            ),
            None => println!("stopped before anything was written"),
        }
        Ok(())
    }

    fn fetch(&self, dataset: &Dataset, stop: &AtomicBool) -> Result<()> {
        println!("{}", dataset.notice);
        let consent = if self.accept_licence {
            Consent::Given
        } else {
            Consent::Missing
        };
        let bar = watch::bar(0, "download");
        let file = download::download(dataset, &self.folder, consent, stop, &mut |progress| {
            bar.set_length(progress.total.unwrap_or(progress.bytes));
            bar.set_position(progress.bytes);
        })?;
        bar.finish();
        println!("{}", file.display());
        Ok(())
    }

    /// The sink, its partitions, and how values are to be encoded for it.
    fn open(&self, config: &Config) -> Result<(Box<dyn Sink>, u32, Format)> {
        let format = config.stream.format;
        let topic = &config.stream.topic;
        match &self.to {
            Target::Log => {
                let log = Log::open(&config.log)?;
                log.ensure_topic(topic, config.stream.lanes)?;
                let partitions = log.partitions(topic)?;
                Ok((Box::new(log.sink("segue-replay")?), partitions, format))
            }
            Target::File(path) => {
                let sink = if self.resume.as_ref().is_some_and(|state| state.exists()) {
                    FileSink::append(path)
                } else {
                    FileSink::create(path)
                };
                let sink = sink.with_context(|| format!("--to {}", path.display()))?;
                let format = sink.format();
                Ok((Box::new(sink), 1, format))
            }
            #[cfg(feature = "kafka")]
            Target::Kafka => {
                use segue_kafka::{Guarantee, KafkaSink, topics};
                topics::ensure_topic(&config.kafka, topic, config.stream.lanes)?;
                let partitions = topics::partitions(&config.kafka, topic)?;
                let sink = KafkaSink::open(&config.kafka, &Guarantee::Idempotent, None)?;
                Ok((Box::new(sink), partitions, format))
            }
            #[cfg(not(feature = "kafka"))]
            Target::Kafka => bail!("this build is without Kafka: build with --features kafka"),
        }
    }
}
