//! Whether memory stays flat: plays come as fast as they are taken, from a topic that is never empty,
//! while the recommender on top takes a hundred times as long for a question as it may.
//!
//! What it may is a round's time (`recommend.answer_within`) over the plays of a round. The listeners
//! and tracks are the same all along, so that what is known of them has an end; what grows in spite of
//! this grows with the length of the run.

mod engine;
mod feed;
mod slow;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use indicatif::HumanCount;
use segue_benchmarks::machine::resident_kib;
use segue_benchmarks::outcome::{Metric, Outcome};
use segue_flow::clock::{MachineClock, WallClock};
use segue_kafka::broker::Broker;
use segue_kafka::{Guarantee, KafkaSink, Settings, topics};
use segue_replay::{Lengths, SimulatorSettings};

use self::engine::{Over, Told};
use self::feed::{Passes, Progress};
use crate::Ask;

pub use self::engine::child;

const SEED: u64 = 20_260_618;
/// The topic of listens.
const LISTENS: &str = "listens";
/// Plays in a round, as in the shipped configuration.
const ROUND: u64 = 512;
/// How often memory is looked at, and how often it is told.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const TELL_EVERY: usize = 10;
/// By so much the last third may differ from the middle one.
const FLAT_WITHIN: f64 = 0.05;

/// One look at the engine.
#[derive(Clone, Copy, Debug)]
struct Look {
    resident_kib: u64,
    plays: u64,
    waiting: u64,
}

pub fn run(ask: &Ask) -> anyhow::Result<Outcome> {
    let size = |key| ask.config.size(key, ask.quick);
    let seconds = 60 * ask.minutes.map_or_else(|| size("minutes"), Ok)?;
    ensure!(seconds > 0, "--minutes must not be 0");
    let partitions = u32::try_from(size("partitions")?)?;
    let within = Duration::from_millis(size("within_ms")?);
    let too_slow = size("too_slow")?;
    let cost = within.mul_f64(too_slow as f64 / ROUND as f64);
    let folder = tempfile::tempdir().context("folder for checkpoints")?;
    let broker = Broker::start()?;
    let retained = size("retained_mib")? << 20;
    let settings = Settings {
        brokers: broker.address(),
        topic: [
            ("retention.bytes", retained),
            ("segment.bytes", retained / 4),
            ("file.delete.delay.ms", 1_000),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_string()))
        .into(),
        ..Settings::default()
    };
    topics::ensure_topic(&settings, LISTENS, partitions)?;
    let listens = size("listens")?;
    let mut passes = Passes::simulate(
        SimulatorSettings {
            seed: SEED,
            users: u32::try_from(size("users")?)?,
            tracks: u32::try_from(size("tracks")?)?,
            lengths: Lengths::Duration,
            ..SimulatorSettings::default()
        },
        usize::try_from(listens)?,
    )?;
    let file = folder.path().join("soak.toml");
    let every = size("checkpoint_every_ms")?;
    let text = configuration(&settings, partitions, folder.path(), within, every);
    std::fs::write(&file, text).context("the engine's configuration")?;

    let (progress, ahead) = (Progress::default(), size("ahead")?);
    let to = (LISTENS, partitions);
    let mut sink = KafkaSink::open(&settings, &Guarantee::Idempotent, None)?;
    passes.fill(&mut sink, to, ahead, &progress)?;
    eprintln!("{} plays wait, the engine starts", HumanCount(ahead));
    let mut engine = Process::start(&file, seconds, cost)?;
    let told = engine.0.stdout.take().context("the engine's output")?;
    let (looks, over) = std::thread::scope(|scope| {
        let progress = &progress;
        let feeding = scope.spawn(move || passes.feed(sink, to, ahead, progress));
        let listening = scope.spawn(move || listen(told, progress));
        let looks = watch(engine.0.id(), seconds, progress);
        let over = listening.join().map_err(|_| anyhow!("a listener panicked"));
        progress.over.store(true, Ordering::Relaxed);
        feeding
            .join()
            .map_err(|_| anyhow!("the feeder panicked"))??;
        anyhow::Ok((looks, over??))
    })?;
    let status = engine.0.wait()?;
    ensure!(status.success(), "the engine ended with {status}");
    let over = over.context("the engine did not tell what became of its run")?;
    Ok(Outcome {
        name: "soak",
        quick: ask.quick || ask.minutes.is_some(),
        simulated: true,
        metrics: metrics(&looks, &over, seconds)?,
        repeats: 1,
        workload: format!(
            "{:.0} min; {listens} simulated plays (seed {SEED}) again and again, later each time, in {partitions} partitions of a real broker on this machine, always some {ahead} ahead of the engine; transactions and checkpoints every {} s; the recommender on top takes {:.1} ms a question, {too_slow} times what fits {} ms for {ROUND} plays",
            seconds as f64 / 60.0,
            every as f64 / 1_000.0,
            cost.as_secs_f64() * 1e3,
            within.as_millis(),
        ),
    })
}

fn configuration(
    kafka: &Settings,
    partitions: u32,
    folder: &Path,
    within: Duration,
    checkpoint_every_ms: u64,
) -> String {
    let topic = kafka.topic.iter();
    let topic: String = topic
        .map(|(key, value)| format!("{key:?} = {value:?}\n"))
        .collect();
    format!(
        "[stream]\ntopic = {LISTENS:?}\nlanes = {partitions}\n\
         [recommend]\nepoch = {ROUND}\nanswer_within = \"{within}ms\"\nmeasure_within = \"{within}ms\"\n\
         [queues.lanes]\nwhen_full = \"coalesce\"\n\
         [checkpoint]\nurl = {:?}\nevery = \"{checkpoint_every_ms}ms\"\n\
         [kafka]\nbrokers = {:?}\ngroup = \"soak\"\n[kafka.topic]\n{topic}",
        folder.join("checkpoints"),
        kafka.brokers,
        within = within.as_millis(),
    )
}

/// The engine's process; killed when dropped.
struct Process(Child);

impl Process {
    fn start(file: &Path, seconds: u64, cost: Duration) -> anyhow::Result<Self> {
        let child = Command::new(std::env::current_exe().context("this program's own path")?)
            .arg("soak-engine")
            .arg(file)
            .arg(seconds.to_string())
            .arg(cost.as_micros().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the engine's process")?;
        Ok(Self(child))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // In vain where it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Follows what the engine tells until it ends.
fn listen(told: ChildStdout, progress: &Progress) -> anyhow::Result<Option<Over>> {
    let mut over = None;
    for line in BufReader::new(told).lines() {
        let line = line?;
        match serde_json::from_str(&line).with_context(|| format!("the engine told {line:?}"))? {
            Told::Plays(plays) => progress.taken.store(plays, Ordering::Relaxed),
            Told::Over(last) => over = Some(last),
        }
    }
    progress.over.store(true, Ordering::Relaxed);
    Ok(over)
}

/// Looks at the engine once a second until its time is over; what it needs to end is not looked at.
fn watch(process: u32, seconds: u64, progress: &Progress) -> Vec<Look> {
    let clock = MachineClock::start();
    let mut looks: Vec<Look> = Vec::new();
    while clock.now().as_secs() < seconds && !progress.over.load(Ordering::Relaxed) {
        clock.sleep(LOOK_EVERY);
        // Gone: what it says at its end tells why.
        let Some(resident_kib) = resident_kib(process) else {
            break;
        };
        looks.push(Look {
            resident_kib,
            plays: progress.taken.load(Ordering::Relaxed),
            waiting: progress.waiting(),
        });
        if looks.len().is_multiple_of(TELL_EVERY)
            && let [.., before, now] = looks
                .iter()
                .rev()
                .step_by(TELL_EVERY - 1)
                .take(2)
                .rev()
                .collect::<Vec<_>>()[..]
        {
            eprintln!(
                "{:>5} of {seconds} s: {} MiB resident, {} plays, {}/s, {} waiting",
                looks.len(),
                now.resident_kib >> 10,
                HumanCount(now.plays),
                HumanCount((now.plays - before.plays) / (TELL_EVERY as u64 - 1)),
                HumanCount(now.waiting),
            );
        }
    }
    looks
}

/// The mean of a part of the looks.
fn mean(looks: &[Look], of: impl Fn(&Look) -> u64) -> f64 {
    looks.iter().map(of).sum::<u64>() as f64 / looks.len().max(1) as f64
}

fn metrics(looks: &[Look], over: &Over, seconds: u64) -> anyhow::Result<Vec<Metric>> {
    ensure!(
        looks.len() as u64 * 10 >= seconds * 8,
        "{} looks in {seconds} s: the engine ended before its time",
        looks.len()
    );
    let third = looks.len() / 3;
    let (middle, last) = looks.split_at(2 * third);
    let middle = middle.get(third..).unwrap_or_default();
    let [first_mean, middle_mean, last_mean] =
        [&looks[..third], middle, last].map(|part| mean(part, |look| look.resident_kib) / 1_024.0);
    let growth = last_mean / middle_mean - 1.0;
    let took = looks.len() as f64;
    let plays = looks.last().map_or(0, |look| look.plays) as f64;
    let peak = looks.iter().map(|look| look.resident_kib).max();
    let least = looks.iter().skip(third).map(|look| look.waiting).min();
    let count = |key, value: u64, unit| Metric::single(key, value as f64, unit);
    Ok(vec![
        Metric::single("plays_per_s", plays / took, "plays/s"),
        Metric::single(
            "growth",
            growth,
            "of the middle third's mean resident memory",
        ),
        Metric::single(
            "flat",
            f64::from(u8::from(growth.abs() <= FLAT_WITHIN)),
            "1: within 5 %, 0: not",
        ),
        Metric::single("rss_first_third_mib", first_mean, "MiB resident, mean"),
        Metric::single("rss_middle_third_mib", middle_mean, "MiB resident, mean"),
        Metric::single("rss_last_third_mib", last_mean, "MiB resident, mean"),
        Metric::single("rss_peak_mib", peak.unwrap_or(0) as f64 / 1_024.0, "MiB"),
        count("plays", over.plays, "plays"),
        count("answered", over.answered, "predictions"),
        count("answered_by_slow", over.answered_by_slow, "predictions"),
        count("answered_later", over.answered_later, "plays"),
        count("not_measured", over.not_measured, "plays"),
        count("sessions", over.sessions, "sessions"),
        count("epochs", over.epochs, "transactions with a checkpoint"),
        Metric::single(
            "lanes_blocked_s",
            over.blocked_seconds,
            "s of all lanes together, the queue before the recommending stage full",
        ),
        Metric::single("latency_p50_ms", over.latency_ms.0, "ms from reading"),
        Metric::single("latency_p99_ms", over.latency_ms.1, "ms from reading"),
        count(
            "least_waiting",
            least.unwrap_or(0),
            "plays in the topic, after the first third",
        ),
    ])
}
