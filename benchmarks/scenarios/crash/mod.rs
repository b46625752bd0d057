//! Nothing lost and nothing doubled, whatever is done to the engine while listens come.
//!
//! In exact mode what a run writes is a function of the plays alone: what readers of committed
//! records see after all of it has to be, byte for byte, what one run that nobody disturbed writes.

mod compare;
mod disturb;
mod engine;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use segue_benchmarks::feed::deliver;
use segue_benchmarks::outcome::{Metric, Outcome};
use segue_benchmarks::timing::timed;
use segue_flow::clock::{MachineClock, WallClock};
use segue_kafka::broker::Broker;
use segue_kafka::{Guarantee, KafkaSink, Settings, topics};
use segue_replay::{Simulator, SimulatorSettings};

use self::compare::Written;
use self::disturb::{Disturbed, Disturber};
use self::engine::Engine;
use crate::Ask;
use crate::binary::binary;

const SEED: u64 = 20_260_611;
/// The topic of listens.
const LISTENS: &str = "listens";
/// Its partitions.
const LANES: u32 = 2;

pub fn run(ask: &Ask) -> anyhow::Result<Outcome> {
    let size = |key| ask.config.size(key, ask.quick);
    let kills = size("kills")?;
    let portion = usize::try_from(size("portion")?)?;
    let pause = Duration::from_millis(size("pause_ms")?);
    let binary = binary()?;
    let broker = Broker::start()?;
    let folder = tempfile::tempdir().context("folder for checkpoints")?;
    let settings = Settings {
        brokers: broker.address(),
        ..Settings::default()
    };
    topics::ensure_topic(&settings, LISTENS, LANES)?;
    let engine = |name, folder: &Path| Engine::new(&binary, name, broker.address(), folder);
    let undisturbed = engine("undisturbed", folder.path())?;
    let killed = engine("killed", folder.path())?;

    let mut disturber = Disturber::new(killed, broker, SEED);
    let over = AtomicBool::new(false);
    let (plays, disturbed) = std::thread::scope(|scope| {
        let feeding = scope.spawn(|| feed(&settings, portion, pause, &over));
        let disturbed = disturber.disturb(kills);
        over.store(true, Ordering::Relaxed);
        let fed = feeding.join().map_err(|_| anyhow!("the feeder panicked"));
        anyhow::Ok((fed??, disturbed?))
    })?;
    let Disturber {
        engine: killed,
        broker: _broker,
        ..
    } = disturber;
    let (last, finished) = timed(|| killed.start("last", &["--until-end"])?.finish());
    finished.context("the last run")?;
    eprintln!(
        "what was left, in {:.0} s; now undisturbed",
        last.as_secs_f64()
    );
    let arguments = ["--until-end", "--no-checkpoints"];
    undisturbed.start("whole", &arguments)?.finish()?;

    let found = Written::read(&settings, &killed)?;
    let right = Written::read(&settings, &undisturbed)?;
    let counted = right.plays()?;
    ensure!(
        u64::try_from(counted) == Ok(plays),
        "undisturbed, {counted} of {plays} plays are in sessions: nothing to compare with"
    );
    let differences = found.differences(&right)?;
    Ok(Outcome {
        name: "crash",
        quick: ask.quick,
        simulated: true,
        metrics: metrics(&disturbed, differences),
        repeats: 1,
        workload: format!(
            "{plays} simulated plays (seed {SEED}) in {LANES} partitions of a real broker on this machine, {portion} every {} ms while the engine is killed; {} predictions in exact mode; a run that refuses to go on from a damaged checkpoint is given the part back; the frozen instance's successor has a copy of its checkpoints, as on another machine",
            pause.as_millis(),
            right.predictions(),
        ),
    })
}

fn metrics(disturbed: &Disturbed, differ: compare::Differences) -> Vec<Metric> {
    let count = |key, value: u64, unit| Metric::single(key, value as f64, unit);
    vec![
        count("kills", disturbed.kills, "kill -9"),
        count("lost", differ.lost, "plays"),
        count("doubled", differ.doubled, "plays"),
        count("sessions_differ", differ.sessions, "records"),
        count("predictions_differ", differ.predictions, "records"),
        count("aside_differ", differ.aside, "records"),
        count("broker_kills", disturbed.broker_kills, "kill -9"),
        count("damaged", disturbed.damaged, "checkpoints"),
        count("refusals", disturbed.refusals, "starts"),
        count("full_disks", disturbed.full_disks, "times"),
        count("fenced", disturbed.fenced, "instances"),
        count("ended_by_itself", disturbed.ended_by_itself, "runs"),
        count("ended_in_outage", disturbed.ended_in_outage, "runs"),
        count("lives_with_checkpoints", disturbed.fruitful, "runs"),
    ]
}

/// Feeds listens, a portion at a time, until it is over; tells how many.
fn feed(
    settings: &Settings,
    portion: usize,
    pause: Duration,
    over: &AtomicBool,
) -> anyhow::Result<u64> {
    let clock = MachineClock::start();
    let mut sink = KafkaSink::open(settings, &Guarantee::Idempotent, None)?;
    let mut listens = Simulator::new(SimulatorSettings {
        seed: SEED,
        days: 1_000,
        ..SimulatorSettings::default()
    })?;
    let mut fed = 0;
    while !over.load(Ordering::Relaxed) {
        fed += deliver(listens.by_ref().take(portion), (LISTENS, LANES), &mut sink)?;
        clock.sleep(pause);
    }
    Ok(fed)
}
