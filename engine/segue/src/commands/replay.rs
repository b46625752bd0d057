//! `segue replay`: logs into Kafka, the embedded log or a file, in one time order, at a pace.

use std::fmt::Write;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use segue_fetch::{Client, Consent, DownloadProgress};
use segue_flow::Sink;
use segue_listen::wire::Format;
use segue_log::Log;
use segue_replay::download::{self, Dataset};
use segue_replay::file_sink::FileSink;
use segue_replay::{
    Bar, DeliverySettings, Inputs, Pace, ReadSettings, Replay, ReplayReport, ReplaySettings,
};

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
    /// Keep rows that are no listens here, with file, line and reason. Default: `read.rejects`, else
    /// beside the file that is written, else out/rejects-TOPIC.tsv.
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
        let stop = shutdown::on_signal(None)?;
        if let Some(Published::LastFm1k) = self.download {
            return self.fetch(&Dataset::lastfm_1k(), &stop);
        }
        let rejects = self.rejects_file(config);
        let report = self.replay(config, &stop, &rejects)?;
        print!("{}", told(&report, &rejects));
        Ok(())
    }

    fn replay(&self, config: &Config, stop: &AtomicBool, rejects: &Path) -> Result<ReplayReport> {
        if self.inputs.is_empty() {
            bail!("nothing to replay: name files or folders (segue replay --help)");
        }
        let inputs = Inputs::find(&self.inputs)?;
        let (mut sink, partitions, format) = self.open(config)?;
        let settings = ReplaySettings {
            read: ReadSettings {
                rejects: Some(rejects.to_owned()),
                ..config.read.clone()
            },
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
            Replay::new(inputs, settings).run(&mut *sink, stop, |progress| bar.show(progress))?;
        bar.finish();
        Ok(report)
    }

    /// Where rejected rows are kept.
    fn rejects_file(&self, config: &Config) -> PathBuf {
        let chosen = self.rejects.clone().or_else(|| config.read.rejects.clone());
        chosen.unwrap_or_else(|| match &self.to {
            Target::File(path) => {
                let mut name = path.clone().into_os_string();
                name.push(".rejects.tsv");
                name.into()
            }
            Target::Kafka | Target::Log => {
                format!("out/rejects-{}.tsv", config.stream.topic).into()
            }
        })
    }

    fn fetch(&self, dataset: &Dataset, stop: &AtomicBool) -> Result<()> {
        println!("{}", dataset.notice);
        let client = Client::from_environment()?;
        let consent = Consent::given(self.accept_licence);
        let bar = watch::byte_bar("download");
        let mut show = |progress: DownloadProgress| {
            bar.set_length(progress.total.unwrap_or(progress.bytes));
            bar.set_position(progress.bytes);
        };
        let folder = &self.folder;
        let file = download::download(&client, dataset, folder, consent, stop, &mut show)?;
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

/// What a replay did, in lines.
fn told(report: &ReplayReport, rejects: &Path) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let mut line = |line: std::fmt::Arguments<'_>| _ = writeln!(text, "{line}");
    if let Some(read) = &report.read {
        let rejected = read.rejected.bad();
        line(format_args!(
            "read {} listens, rejected {rejected} rows",
            read.listens
        ));
        for (reason, count) in read.rejected.iter() {
            line(format_args!("  {count}: {reason}"));
        }
        for example in &read.examples {
            line(format_args!("  {example}"));
        }
        let profiles = read.profiles;
        if profiles.listeners > 0 {
            line(format_args!(
                "profiles of {} listeners from {} countries",
                profiles.listeners, profiles.countries
            ));
        }
    }
    match report.delivered {
        Some(done) => {
            line(format_args!(
                "wrote {} listens and {} heartbeats in {} epochs ({:?})",
                done.listens, done.heartbeats, done.epochs, done.outcome
            ));
            if done.too_large > 0 {
                line(format_args!(
                    "rejected {} listens: too large for the sink",
                    done.too_large
                ));
            }
        }
        None => line(format_args!("stopped before anything was written")),
    }
    if report.rejected() > 0 {
        line(format_args!(
            "what was rejected is in {}",
            rejects.display()
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        replay: ReplayCommand,
    }

    fn asked(arguments: &[&str]) -> ReplayCommand {
        let words = std::iter::once(&"replay").chain(arguments);
        Arguments::parse_from(words).replay
    }

    #[test]
    fn rejects_are_kept_where_one_would_look() {
        let mut config = Config::default();
        let kept = |arguments: &[&str], config: &Config| asked(arguments).rejects_file(config);
        assert_eq!(
            kept(&["a.tsv"], &config),
            Path::new("out/rejects-listens.tsv")
        );
        let beside = kept(&["a.tsv", "--to", "x/b.jsonl.zst"], &config);
        assert_eq!(beside, Path::new("x/b.jsonl.zst.rejects.tsv"));
        config.read.rejects = Some("configured.tsv".into());
        assert_eq!(kept(&["a.tsv"], &config), Path::new("configured.tsv"));
        let said = kept(&["a.tsv", "--rejects", "said.tsv"], &config);
        assert_eq!(said, Path::new("said.tsv"));
    }

    #[test]
    fn a_replay_to_a_file_keeps_and_tells_what_it_rejects() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log.tsv");
        std::fs::write(&log, "u\t2009-01-01T00:00:00Z\t\ta\t\tt\nno listen\n").unwrap();
        let to = folder.path().join("out.jsonl");
        let command = asked(&[log.to_str().unwrap(), "--to", to.to_str().unwrap()]);
        let rejects = command.rejects_file(&Config::default());
        let report = command
            .replay(&Config::default(), &AtomicBool::new(false), &rejects)
            .unwrap();
        let said = told(&report, &rejects);
        assert!(
            said.contains("read 1 listens, rejected 1 rows\n  1: not 6 columns\n"),
            "{said}"
        );
        assert!(
            said.contains("log.tsv:2") && said.contains("out.jsonl.rejects.tsv"),
            "{said}"
        );
        let kept = std::fs::read_to_string(rejects).unwrap();
        assert!(
            kept.ends_with("log.tsv:2\tnot 6 columns\tno listen\n"),
            "{kept}"
        );
    }
}
