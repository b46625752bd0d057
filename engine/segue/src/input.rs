//! Logs (or a simulated one) → the engine's lanes, in this process.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use segue_flow::Sink;
use segue_flow::clock::WallClock;
use segue_replay::deliver::{Delivered, Delivery, DeliverySettings};
use segue_replay::ordered::{OrderedListens, ReadReport};
use segue_replay::progress::{Bar, Progress};
use segue_replay::simulate::{Simulator, SimulatorSettings};
use segue_replay::state::Standing;
use segue_replay::stream::{InOrder, ListenStream};
use segue_replay::{Inputs, ReadSettings};

use crate::config::Config;

/// Listens that reach the lanes at once: few, so that a lane is never far ahead of its answer.
const LISTENS_PER_EPOCH: u32 = 1_024;

/// A log in one time order, with what is known of it.
pub struct OrderedLog {
    /// The listens.
    pub stream: Box<dyn ListenStream + Send>,
    /// What it is, in words.
    pub description: String,
    /// Whether it is made up.
    pub simulated: bool,
    /// How many listens it has.
    pub listens: u64,
    /// What the reading of the files found.
    pub report: Option<ReadReport>,
}

/// Reads and sorts files and folders; rows that are no listens are kept in `rejects`.
///
/// # Errors
/// Those of the files, by name; nothing to read in them; a stop by the user.
pub fn read_files(
    paths: &[PathBuf],
    config: &Config,
    rejects: &Path,
    stop: &AtomicBool,
) -> Result<OrderedLog> {
    let inputs = Inputs::find(paths)?;
    let reading = ReadSettings {
        rejects: config
            .read
            .rejects
            .clone()
            .or_else(|| Some(rejects.to_owned())),
        ..config.read.clone()
    };
    let mut bar = Bar::on_terminal();
    let listens = OrderedListens::read(&inputs, &reading, &config.merge, |progress| {
        bar.show(&Progress::Reading(progress));
        match stop.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    bar.finish();
    let Some(listens) = listens else {
        bail!("stopped while reading {}", inputs.named())
    };
    let report = listens.report().clone();
    Ok(OrderedLog {
        description: inputs.named().to_owned(),
        simulated: false,
        listens: report.listens,
        report: Some(report),
        stream: Box::new(listens),
    })
}

/// More days than the plays need on average: listeners are not punctual.
const SPARE_DAYS: f64 = 1.3;

/// A log of `plays` plays that the simulator makes as it goes, over as many days as that takes.
///
/// # Errors
/// Settings that make no sense.
pub fn simulate(mut settings: SimulatorSettings, plays: u64) -> Result<OrderedLog> {
    let per_day = f64::from(settings.users) * settings.plays_per_user_per_day;
    settings.days = (plays as f64 / per_day.max(f64::MIN_POSITIVE) * SPARE_DAYS).ceil() as u32 + 2;
    let description = format!(
        "the simulator (seed {}, {} listeners, {} tracks)",
        settings.seed, settings.users, settings.tracks
    );
    let take = usize::try_from(plays).unwrap_or(usize::MAX);
    let listens = Simulator::new(settings)?.take(take);
    Ok(OrderedLog {
        stream: Box::new(InOrder::new(listens, Some(plays))),
        description,
        simulated: true,
        listens: plays,
        report: None,
    })
}

/// How a log is delivered to lanes in this process: at once, without heartbeats (one lane needs
/// none, and its end closes what is open).
pub fn delivery(config: &Config, lanes: u32) -> DeliverySettings {
    DeliverySettings {
        topic: config.stream.topic.clone(),
        partitions: lanes,
        format: config.stream.format,
        listens_per_epoch: LISTENS_PER_EPOCH,
        heartbeat_ms: if lanes > 1 {
            DeliverySettings::default().heartbeat_ms
        } else {
            0
        },
        ..DeliverySettings::default()
    }
}

/// Delivers a log on a thread of its own. The sink is dropped at the end: its lanes then end too.
///
/// # Errors
/// The thread cannot be started.
pub fn spawn(
    mut stream: Box<dyn ListenStream + Send>,
    settings: DeliverySettings,
    mut sink: Box<dyn Sink>,
    clock: Arc<dyn WallClock>,
    stop: Arc<AtomicBool>,
) -> Result<JoinHandle<Result<Delivered>>> {
    std::thread::Builder::new()
        .name("replay".to_owned())
        .spawn(move || {
            let start = Standing::start("", &settings.topic, settings.partitions);
            let delivery = Delivery::new(&settings, clock, &mut *sink, &stop, start, None)?;
            Ok(delivery.run(&mut *stream, &mut |_| {})?)
        })
        .context("the replay's thread cannot be started")
}
