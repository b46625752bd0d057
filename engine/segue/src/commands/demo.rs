//! `segue demo`: a log through every room, and a report of it.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use segue_flow::clock::{MachineClock, WallClock};
use segue_flow::memory::memory_topic;
use segue_log::Log;
use segue_recommend::stage::RunSummary;
use segue_replay::simulate::SimulatorSettings;

use super::run::output_topics;
use crate::config::Config;
use crate::input::{self, OrderedLog};
use crate::models::{self, Models, Taught};
use crate::pipeline::{self, Pipeline};
use crate::report::data::{Phase, Throughput};
use crate::report::distributions::{Completion, Latency};
use crate::report::figures::count;
use crate::report::{Report, html, json, terminal};
use crate::shutdown;
use crate::trained;
use crate::watch::{RunWatcher, Seen};

/// What to say to people who have no log at hand.
const HOW_TO_GET_A_LOG: &str = "no listening log given: running on a simulated one (every figure is \
    labelled). For a real one, LastFM-1K (non-commercial licence): \
    `segue replay --download lastfm-1k --accept-licence`, then `make demo DATA=FILE`";

/// `segue demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// Logs: files or folders of LastFM-1K rows (plain, .gz, .zst, or the original .tar.gz),
    /// ListenBrainz JSON lines or Spotify extended histories. None: a simulated log.
    data: Vec<PathBuf>,
    /// Where report, rejected rows and the embedded log go; a folder per run.
    #[arg(long, default_value = "out/demo", value_name = "DIR")]
    out: PathBuf,
    /// Plays of the simulated log.
    #[arg(long, default_value_t = 60_000, value_name = "N")]
    plays: u64,
}

impl Demo {
    /// Runs everything.
    ///
    /// # Errors
    /// Whatever stops it, by name and with the remedy.
    pub fn run(&self, config: &Config) -> Result<()> {
        let stop = shutdown::on_signal(None)?;
        let clock: Arc<dyn WallClock> = Arc::new(MachineClock::start());
        let folder = run_folder(&self.out)?;
        let mut config = config.clone();
        if !config.models.adapters.as_os_str().is_empty() {
            config.models.adapters = folder.join("adapters");
        }
        let config = &config;

        // The device first: everything that follows depends on it, and silence here is what users
        // of GPUs stumble over.
        let models = Models::load(config)?;
        println!("device: {}", models.reason());

        let log = if self.data.is_empty() {
            println!("{HOW_TO_GET_A_LOG}");
            let settings = SimulatorSettings {
                seed: config.seed,
                ..SimulatorSettings::default()
            };
            input::simulate(settings, self.plays)?
        } else {
            input::read_files(&self.data, config, &folder.join("rejects.tsv"), &stop)?
        };
        println!("{}: {} listens", log.description, log.listens);
        let read_in = clock.now().as_secs_f64();

        let about = About::of(&log);
        let taught = Arc::new(Mutex::new(Taught::default()));
        let (watcher, seen) = RunWatcher::new(log.listens, clock.clone())?;
        let summary = run(
            config,
            models,
            log,
            &folder,
            watcher,
            clock.clone(),
            stop,
            taught.clone(),
        )?;
        let took = clock.now().as_secs_f64();

        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let taught = taught.lock().unwrap_or_else(PoisonError::into_inner);
        let report = about.report(config, &summary, &seen, &taught, (read_in, took));
        json::write(&report, &folder.join("report.json"))?;
        html::write(&report, &folder.join("report.html"))?;
        terminal::print(&report)?;
        println!("report: {}", folder.join("report.html").display());
        Ok(())
    }
}

/// A new folder for this run, named by its number so that the newest sorts last.
fn run_folder(out: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(out)
        .with_context(|| format!("{} cannot be made: choose another --out", out.display()))?;
    for number in 1..100_000u32 {
        let folder = out.join(format!("run-{number:05}"));
        match std::fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(error).with_context(|| format!("{} cannot be made", folder.display()));
            }
        }
    }
    Err(anyhow!("{} is full of runs: remove some", out.display()))
}

#[expect(
    clippy::too_many_arguments,
    reason = "the parts of one run, each used once"
)]
fn run(
    config: &Config,
    models: Models,
    log: OrderedLog,
    folder: &Path,
    watcher: RunWatcher,
    clock: Arc<dyn WallClock>,
    stop: Arc<AtomicBool>,
    taught: Arc<Mutex<Taught>>,
) -> Result<RunSummary> {
    let lanes = config.stream.lanes;
    let (sink, sources) = memory_topic(&config.stream.topic, lanes);
    let embedded = segue_log::Settings {
        dir: folder.join("log"),
        ..config.log.clone()
    };
    let embedded = Log::open(&embedded)?;
    for topic in output_topics(config) {
        embedded.ensure_topic(topic, lanes)?;
    }
    let train_plays = match config.has_trained_models() {
        true => 0,
        false => ((log.listens as f64 * config.recommend.train_share) as u64).max(1),
    };
    let encoders = models.encoders(config)?;
    let modalities = encoders.modalities();
    let answering = trained::answering(models, config, &modalities, clock.clone(), taught)?;
    let delivery = input::delivery(config, lanes);
    let replay = input::spawn(
        log.stream,
        delivery,
        Box::new(sink),
        clock.clone(),
        stop.clone(),
    )?;
    let summary = pipeline::run(Pipeline {
        sources: pipeline::all_lanes(
            sources
                .into_iter()
                .map(|source| Box::new(source) as _)
                .collect(),
        ),
        sink: Box::new(embedded.sink("demo")?),
        lane: config.lane(),
        threads: config.stream.threads,
        sessions: config.session_rules(),
        stage: segue_recommend::stage::StageSettings {
            // A report is worth as much as it can be had again.
            exact: true,
            train_plays,
            unmeasured: models::unmeasured(),
            compare: models::comparisons(config),
            ..config.stage()
        },
        queues: config.queues,
        recommenders: answering.recommenders,
        curriculum: answering.curriculum,
        known: answering.known,
        encoders: Some(encoders),
        checkpointing: None,
        restored: None,
        watcher: Box::new(watcher),
        clock,
        // Who stops the demo stops the replay; the lanes then read what it left and end.
        stop: Arc::default(),
        attendance: config.attendance(),
    });
    let delivered = replay
        .join()
        .map_err(|_| anyhow!("the replay's thread panicked: a bug"))?;
    // Where the engine failed, the replay only saw its readers go.
    let summary = summary?;
    delivered?;
    Ok(summary)
}

/// What is known of the input before it is used up.
struct About {
    description: String,
    simulated: bool,
    rejects: u64,
    examples: Vec<String>,
}

impl About {
    fn of(log: &OrderedLog) -> Self {
        Self {
            description: log.description.clone(),
            simulated: log.simulated,
            rejects: log
                .report
                .as_ref()
                .map_or(0, |report| report.rejected.bad()),
            examples: log
                .report
                .as_ref()
                .map_or_else(Vec::new, |report| report.examples.clone()),
        }
    }

    fn report(
        self,
        config: &Config,
        summary: &RunSummary,
        seen: &Seen,
        taught: &Taught,
        (read_in, took): (f64, f64),
    ) -> Report {
        let mut report = Report {
            title: "Segue: one log through every room".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: commit(),
            seed: config.seed,
            prequential: summary.prequential.clone(),
            headline: models::headline(),
            latency: Latency::of(&seen.latency),
            ..Report::default()
        };
        report.input.description = self.description;
        report.input.simulated = self.simulated;
        report.input.from = summary.stream.first_ms;
        report.input.to = summary.stream.last_ms;
        report.machine.device = taught.device.clone();
        report.machine.reason = taught.reason.clone();
        report.machine.threads = taught.threads;
        fill_counts(&mut report, summary, self.rejects);
        fill_distributions(&mut report, summary);
        // Where nothing is taught, everything comes after it.
        let teaching = seen.teaching.unwrap_or((read_in, read_in));
        report.phases = phases(summary, taught, read_in, teaching, took);
        report.throughput = throughput(
            &seen.throughput,
            (summary.trained_on, summary.stream.plays),
            (read_in, teaching, took),
        );
        if summary.trained_on == 0 {
            // Models that were trained before: there was no such part.
            report.phases.retain(|phase| phase.name != TRAINING_PART);
            report
                .throughput
                .retain(|watched| watched.phase != TRAINING_PART);
        }
        report.curves = taught.curves(&summary.losses);
        report.adapters = taught.adapters();
        report.notes = notes(summary, taught, &self.examples);
        report
    }
}

pub(super) fn fill_counts(report: &mut Report, summary: &RunSummary, rejects: u64) {
    let stream = &summary.stream;
    let counts = &mut report.counts;
    counts.records = stream.records;
    counts.rejects = rejects;
    counts.dead_letters = stream.dead_letters;
    counts.plays = stream.plays;
    counts.duplicates = stream.duplicates;
    counts.late = stream.late;
    counts.too_late = stream.too_late;
    counts.listeners = summary.listeners;
    counts.tracks = summary.tracks;
    counts.tracks_encoded = summary.encoded;
    counts.tracks_failed = summary.failed;
    counts.sessions_closed = stream.sessions;
    counts.sessions_retracted = stream.retractions;
    counts.durations_estimated = summary.durations_estimated;
    counts.predictions = summary.predictions;
}

pub(super) fn fill_distributions(report: &mut Report, summary: &RunSummary) {
    for (plays, sessions) in &summary.stream.session_plays {
        for _ in 0..*sessions {
            report.sessions.record(u64::from(*plays));
        }
    }
    let stream = &summary.stream;
    report.completion = Completion::of(&stream.ratios, stream.plays);
    report.durations.clone_from(&summary.durations);
}

const TRAINING_PART: &str = "replay, sessions, encoding: the training part";
const THE_REST: &str = "predict, measure, learn: the rest";

/// How far the two streaming phases had come, each counted from its own beginning to its end.
fn throughput(
    seen: &[(f64, u64)],
    (trained, all): (u64, u64),
    (read_in, (begun, ended), took): (f64, (f64, f64), f64),
) -> Vec<Throughput> {
    let trained = trained.min(all);
    let phase = |name: &str, (from, to): (f64, f64), (before, after): (u64, u64)| {
        let within = |&(at, plays): &(f64, u64)| {
            (at > from && at < to && (before..=after).contains(&plays))
                .then(|| (at - from, plays - before))
        };
        let mut points = vec![(0.0, 0)];
        points.extend(seen.iter().filter_map(within));
        points.push(((to - from).max(0.0), after - before));
        Throughput {
            phase: name.to_owned(),
            unit: "plays".to_owned(),
            points,
        }
    };
    vec![
        phase(TRAINING_PART, (read_in, begun), (0, trained)),
        phase(THE_REST, (ended, took), (trained, all)),
    ]
}

fn phases(
    summary: &RunSummary,
    taught: &Taught,
    read_in: f64,
    (begun, ended): (f64, f64),
    took: f64,
) -> Vec<Phase> {
    let plays = |n: u64| Some((n, "plays".to_owned()));
    let phase = |name: &str, seconds: f64, amount| Phase {
        name: name.to_owned(),
        seconds: seconds.max(0.0),
        amount,
    };
    let trained = summary.trained_on;
    let mut phases = vec![
        phase(
            "load models, read and sort the log",
            read_in,
            plays(summary.stream.records),
        ),
        phase(TRAINING_PART, begun - read_in, plays(trained)),
    ];
    phases.extend(taught.phases.iter().cloned());
    let measured = summary.stream.plays.saturating_sub(trained);
    phases.push(phase(THE_REST, took - ended, plays(measured)));
    phases
}

fn notes(summary: &RunSummary, taught: &Taught, rejected: &[String]) -> Vec<String> {
    let new = summary.tracks.saturating_sub(taught.tracks);
    let cold = summary
        .prequential
        .as_ref()
        .and_then(|report| report.recommenders.first())
        .map_or(0, |one| one.parts.cold_tracks.events);
    let trained_before = "Models were trained before, on another log or on this one: look into the \
                          model.json of models.trained. Where it was this log, they have seen what they \
                          are measured on.";
    let mut notes = vec![
        match summary.trained_on {
            0 => trained_before.to_owned(),
            _ => format!(
            "Models were trained on the first {} plays and the {} tracks that were there by then; \
             {} more came after the split, each in the catalogue from the epoch of its first play \
             on. A play of a track that nobody has played before is a miss for everyone: {} were.",
            count(summary.trained_on),
            count(taught.tracks),
            count(new),
            count(cold),
        ),
        },
        "Every play is ranked in the full catalogue before anything is learnt from it; ties rank \
         last; what a listener has played is not masked."
            .to_owned(),
        "e4srec-frozen stays as training left it. e4srec-state has the same parameters, and counts \
         plays and remembers each listener's as e4srec-online does: what online is ahead of it is \
         learnt, the rest of its lead over frozen is only known."
            .to_owned(),
        "The log is replayed as fast as it is taken in, so latency from event to prediction is \
         queueing: the time a play waits for those before it and for its epoch to fill. It says \
         nothing of a stream at the pace of life."
            .to_owned(),
    ];
    if summary.stream.ratios.by_estimated_length > 0 {
        notes.push(
            "The log states no track lengths for some plays: these are estimated from everybody's \
             gaps, and completion ratios that rest on them are estimates too."
                .to_owned(),
        );
    }
    notes.extend(
        rejected
            .iter()
            .take(3)
            .map(|row| format!("Rejected row: {row}")),
    );
    notes
}

/// The commit of the checkout that the binary runs in, if there is one.
pub(super) fn commit() -> Option<String> {
    let output = std::process::Command::new("git")
        .args(["rev-parse", "--short", "HEAD"])
        .output()
        .ok()?;
    let commit = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !commit.trim().is_empty()).then(|| commit.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_counts_from_its_own_beginning_to_its_end() {
        let seen = [
            (0.0, 0),
            (3.0, 400),
            (5.0, 1_000),
            (30.0, 1_500),
            (41.0, 1_900),
        ];
        let watched = throughput(&seen, (1_000, 2_000), (2.0, (6.0, 20.0), 42.0));
        assert_eq!(
            watched[0].points,
            [(0.0, 0), (1.0, 400), (3.0, 1_000), (4.0, 1_000)]
        );
        assert_eq!(
            watched[1].points,
            [(0.0, 0), (10.0, 500), (21.0, 900), (22.0, 1_000)]
        );
        // A log that ended before its training part did.
        let short = throughput(&seen[..2], (1_000, 500), (2.0, (6.0, 20.0), 20.5));
        assert_eq!(short[1].points, [(0.0, 0), (0.5, 0)]);
    }
}
