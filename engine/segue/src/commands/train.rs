//! `segue train`: models trained on a whole log, in a folder that runs begin with.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use segue_catalog::newcomers::Encoders;
use segue_flow::clock::{MachineClock, WallClock, time_of_day};
use segue_flow::memory::memory_topic;
use segue_flow::{Nowhere, Remedy};
use segue_listen::EventTime;
use segue_recommend::recommender::{RecommendError, Recommender};
use segue_recommend::stage::{Content, Curriculum, StageSettings};
use segue_recommend::training::TrainingLog;
use segue_replay::Inputs;

use self::progress::{Gathered, Kept, Lesson, Task};
use super::demo::{commit, fill_counts, fill_distributions};
use super::run::counting;
use crate::config::Config;
use crate::input;
use crate::models::{self, Models, Taught};
use crate::pipeline::{self, Pipeline};
use crate::report::data::{Curve, Phase};
use crate::report::figures::count;
use crate::report::{Report, html, json};
use crate::shutdown;
use crate::trained::{About, LogAbout, Loss, MODEL, Trained, encoder_print, remove};
use crate::watch::RunWatcher;

mod progress;

const MORE_HELP: &str = "\
The log is taken through every room as in `segue demo`, all of it: sessions, completion ratios, a vector \
for each track. Then the item encoder is trained, and E4SRec over its vectors: as [models] says, above \
all [models.e4srec.offline] (epochs, windows, validation, patience, batch, micro_batch).

FOLDER holds what comes of it: a file per model, model.json (what they are, of which log, with which \
settings and losses, the checksum of each file), report.html and report.json with the course of every \
loss. Runs begin with it where models.trained names it:

    segue train plays.tsv.zst --out out/model --epochs 5
    SEGUE__MODELS__TRAINED=out/model segue run --on kafka

Ctrl-C ends it after the step that it is in, and the same command goes on from there, to the same values \
to the last bit; it also goes on after a crash, from a step at most models.e4srec.offline.keep_every \
before. What was begun with another log or other settings is not gone on with: --fresh begins anew.";

/// `segue train`.
#[derive(Debug, Args)]
#[command(after_long_help = MORE_HELP)]
pub struct Train {
    /// Logs: files or folders of LastFM-1K rows (plain, .gz, .zst, or the original .tar.gz),
    /// ListenBrainz JSON lines or Spotify extended histories.
    #[arg(required = true, value_name = "LOG")]
    pub data: Vec<PathBuf>,
    /// Where the models, the report and, until it is over, the progress go.
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// Forget what was begun or trained there, and begin anew. Without it a training that was begun
    /// goes on, and models that are there stay as they are.
    #[arg(long)]
    pub fresh: bool,
    /// Passes over the windows, at most; over models.e4srec.offline.epochs. From the second on part of
    /// the windows judge, and the best epoch is kept.
    #[arg(long, value_name = "N")]
    pub epochs: Option<usize>,
    /// Windows of some 60 plays, the newest of every listener first; over
    /// models.e4srec.offline.windows.
    #[arg(long, value_name = "N")]
    pub windows: Option<usize>,
}

impl Train {
    /// Trains until it is over or a signal says stop.
    ///
    /// # Errors
    /// Whatever stops it, by name and with the remedy.
    pub fn run(&self, config: &Config) -> Result<()> {
        let stop = shutdown::on_signal(None)?;
        self.train(config, &stop)
    }

    /// The same without signals: what tests call.
    ///
    /// # Errors
    /// Whatever stops it.
    pub fn train(&self, config: &Config, stop: &Arc<AtomicBool>) -> Result<()> {
        let mut config = config.clone();
        let offline = &mut config.models.e4srec.offline;
        offline.epochs = self.epochs.unwrap_or(offline.epochs);
        offline.windows = self.windows.unwrap_or(offline.windows);
        // What is trained is worth as much as it can be had again.
        config.recommend.exact = true;
        let outcome = self.trained(&config, stop);
        match outcome {
            Err(error) if stop.load(Ordering::Relaxed) => {
                Err(error.context(format!("stopped; {}", self.how_to_go_on())))
            }
            outcome => outcome,
        }
    }

    fn how_to_go_on(&self) -> String {
        let progress = self.out.join("progress");
        match progress.join("task.json").is_file() {
            true => format!(
                "how far it has come is kept in {}: the same command goes on from there",
                progress.display()
            ),
            false => {
                "the log was not read to its end: the same command begins with it again".to_owned()
            }
        }
    }

    fn trained(&self, config: &Config, stop: &Arc<AtomicBool>) -> Result<()> {
        let kept = Kept::of(&self.out);
        if self.fresh {
            kept.forget()?;
        } else if self.out.join(MODEL).is_file() {
            let about = About::read(&self.out)?;
            bail!(
                "{} holds models that were trained on {} ({}): choose another --out, or train anew in \
                 their place with --fresh",
                self.out.display(),
                about.log.description,
                about.trained_at
            );
        }
        let clock: Arc<dyn WallClock> = Arc::new(MachineClock::start());
        let models = Models::load(config)?;
        println!("device: {}", models.reason());
        let encoder = encoder_print(&models.encoder_weights())?;
        let encoders = models.encoders(config)?;
        let modalities = encoders.modalities();
        let fingerprint = Inputs::find(&self.data)?.fingerprint()?;
        let task = Task::new(fingerprint, &encoder, config)?;
        let gathered = match kept.gathered(&task)? {
            Some(gathered) => {
                println!("{}: goes on with what was gathered", gathered.description);
                gathered
            }
            None => self.gather(config, encoders, &kept, task, &clock, stop)?,
        };
        let (log, content) = kept.log()?;
        println!(
            "{} plays of {} listeners and {} tracks",
            count(log.plays.len() as u64),
            count(gathered.listeners),
            count(gathered.tracks)
        );
        let taught = Arc::new(Mutex::new(Taught::default()));
        let lessons = models.lessons(config, &modalities, clock, taught.clone(), stop.clone())?;
        let tracks = content.all();
        let item_encoder = match kept.item_encoder()? {
            Some((state, lesson)) => {
                let mut model = lessons.untaught_item_encoder()?;
                model.restore(&state, &[])?;
                note(&taught, |taught| {
                    taught.phases = lesson.phases;
                    taught.training = lesson.curves;
                });
                model
            }
            None => {
                let model = lessons.item_encoder(&log, &tracks)?;
                let lesson = note(&taught, |taught| Lesson {
                    phases: taught.phases.clone(),
                    curves: taught.training.clone(),
                });
                kept.keep_item_encoder(&model.snapshot()?, &lesson)?;
                model
            }
        };
        let mut keeper = kept.language_model();
        let keeper = Some(&mut keeper as _);
        let e4srec = lessons.language_model(&log, &tracks, &*item_encoder, keeper)?;
        let taught = note(&taught, |taught| taught.clone());
        let about = About {
            segue: env!("CARGO_PKG_VERSION").to_owned(),
            commit: commit(),
            trained_at: now(),
            log: LogAbout {
                description: gathered.description.clone(),
                fingerprint: gathered.task.inputs.clone(),
                from_ms: gathered.stream.first_ms,
                to_ms: gathered.stream.last_ms,
                plays: gathered.stream.plays,
                listeners: gathered.listeners,
                tracks: gathered.tracks,
            },
            language_model: lessons.foundation()?,
            text_encoder: encoder,
            settings: serde_json::to_value(&config.models)?,
            losses: taught.training.iter().filter_map(in_short).collect(),
            ..About::default()
        };
        let losses = about.losses.clone();
        let trained = Trained {
            e4srec: &e4srec,
            item_encoder: &*item_encoder,
            counts: &models::counts(&log),
            content: &content,
        };
        trained.save(&self.out, about)?;
        let report = report(config, &gathered, &taught);
        json::write(&report, &self.out.join("report.json"))?;
        html::write(&report, &self.out.join("report.html"))?;
        kept.forget()?;
        self.say(&losses);
        Ok(())
    }

    /// Takes the log through every room and keeps what models learn from.
    fn gather(
        &self,
        config: &Config,
        encoders: Encoders,
        kept: &Kept,
        task: Task,
        clock: &Arc<dyn WallClock>,
        stop: &Arc<AtomicBool>,
    ) -> Result<Gathered> {
        // What was begun and not gathered to its end is worth nothing.
        kept.forget()?;
        remove(&self.out.join(MODEL))?;
        std::fs::create_dir_all(&self.out).with_context(|| {
            format!(
                "{} cannot be made: choose another --out",
                self.out.display()
            )
        })?;
        let begun = clock.now();
        let rejects = self.out.join("rejects.tsv");
        let log = input::read_files(&self.data, config, &rejects, stop)?;
        println!("{}: {} listens", log.description, count(log.listens));
        let lanes = config.stream.lanes;
        let (sink, sources) = memory_topic(&config.stream.topic, lanes);
        let (watcher, _) = RunWatcher::new(log.listens, clock.clone())?;
        let replay = input::spawn(
            log.stream,
            input::delivery(config, lanes),
            Box::new(sink),
            clock.clone(),
            stop.clone(),
        )?;
        let sources = sources.into_iter().map(|source| Box::new(source) as _);
        let plain = counting(config, sources.collect(), Box::new(Nowhere));
        let summary = pipeline::run(Pipeline {
            stage: StageSettings {
                // More than there are: all of it is gathered.
                train_plays: u64::MAX,
                top: 0,
                ..plain.stage
            },
            recommenders: Vec::new(),
            curriculum: Some(Box::new(Gathering {
                kept: Kept::of(&self.out),
                stop: stop.clone(),
            })),
            encoders: Some(encoders),
            watcher: Box::new(watcher),
            clock: clock.clone(),
            ..plain
        });
        let delivered = replay
            .join()
            .map_err(|_| anyhow!("the replay's thread panicked: a bug"))?;
        // Where the engine failed, the replay only saw its readers go.
        let summary = summary?;
        delivered?;
        let gathered = Gathered {
            task,
            description: log.description,
            rejects: log.report.map_or(0, |report| report.rejected.bad()),
            seconds: clock.now().saturating_sub(begun).as_secs_f64(),
            stream: summary.stream,
            listeners: summary.listeners,
            tracks: summary.tracks,
            encoded: summary.encoded,
            failed: summary.failed,
            durations_estimated: summary.durations_estimated,
            durations: summary.durations,
        };
        kept.keep_gathered(&gathered)?;
        Ok(gathered)
    }

    fn say(&self, losses: &[Loss]) {
        for loss in losses {
            println!(
                "{} {}: {:.3}, at last {:.3}, at best {:.3}",
                loss.model, loss.name, loss.first, loss.last, loss.least
            );
        }
        println!("report: {}", self.out.join("report.html").display());
        println!(
            "models: {} (a run begins with them where models.trained names this folder: \
             SEGUE__MODELS__TRAINED={} segue run)",
            self.out.display(),
            self.out.display()
        );
    }
}

/// Keeps the log instead of teaching anybody.
struct Gathering {
    kept: Kept,
    stop: Arc<AtomicBool>,
}

impl Curriculum for Gathering {
    fn teach(
        self: Box<Self>,
        log: &TrainingLog,
        content: &Content,
    ) -> Result<Vec<Box<dyn Recommender>>, RecommendError> {
        let failed = |detail: String, remedy| RecommendError {
            recommender: "training",
            detail,
            remedy,
        };
        if self.stop.load(Ordering::Relaxed) {
            return Err(failed("ended by a signal".to_owned(), Remedy::Retry));
        }
        let outcome = self.kept.keep_log(log, content);
        outcome.map_err(|error| failed(format!("{error:#}"), Remedy::Retry))?;
        Ok(Vec::new())
    }

    fn untaught(self: Box<Self>, _: &Content) -> Result<Vec<Box<dyn Recommender>>, RecommendError> {
        Ok(Vec::new())
    }
}

fn note<T>(taught: &Mutex<Taught>, note: impl FnOnce(&mut Taught) -> T) -> T {
    note(&mut taught.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The time of day in UTC.
fn now() -> String {
    let since = time_of_day().duration_since(UNIX_EPOCH).unwrap_or_default();
    EventTime::from_millis(i64::try_from(since.as_millis()).unwrap_or(0)).to_rfc3339()
}

fn in_short(curve: &Curve) -> Option<Loss> {
    let values = curve.points.iter().map(|&(_, value)| value);
    let mut values = values.filter(|value| value.is_finite());
    let first = values.next()?;
    let (least, last) = values.fold((first, first), |(least, _), now| (now.min(least), now));
    Some(Loss {
        model: curve.model.clone(),
        name: curve.name.clone(),
        first,
        least,
        last,
    })
}

fn report(config: &Config, gathered: &Gathered, taught: &Taught) -> Report {
    let summary = gathered.summary();
    let mut report = Report {
        title: "Segue: models trained on a log".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: commit(),
        seed: config.seed,
        ..Report::default()
    };
    report.input.description = gathered.description.clone();
    report.input.from = summary.stream.first_ms;
    report.input.to = summary.stream.last_ms;
    report.machine.device = taught.device.clone();
    report.machine.reason = taught.reason.clone();
    report.machine.threads = taught.threads;
    fill_counts(&mut report, &summary, gathered.rejects);
    fill_distributions(&mut report, &summary);
    let gathering = Phase {
        name: "read, replay, sessions, encoding".to_owned(),
        seconds: gathered.seconds,
        amount: Some((summary.stream.plays, "plays".to_owned())),
    };
    report.phases.push(gathering);
    report.phases.extend(taught.phases.iter().cloned());
    report.curves.clone_from(&taught.training);
    report.notes.push(
        "Validation losses choose the epoch that is kept, so they flatter it a little: how well the \
         models predict is measured on plays that come after this log, by `segue run` or `segue demo` \
         with models.trained."
            .to_owned(),
    );
    report.notes.push(
        "Where the training went on after a stop, the time of its last part is told; amounts and losses \
         are of all of it."
            .to_owned(),
    );
    report
}
