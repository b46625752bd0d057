//! What the lanes' work costs beside reading alone: the same messages through a real broker on this
//! machine, read by a bare consumer, by the lanes, and by the lanes with transactions and checkpoints.

mod bare;
mod lanes;

use anyhow::Context;
use segue_benchmarks::feed::deliver;
use segue_benchmarks::outcome::{Metric, Outcome};
use segue_benchmarks::timing::{Interval, rate, timed};
use segue_kafka::broker::Broker;
use segue_kafka::{Guarantee, KafkaSink, Settings, topics};
use segue_replay::{Lengths, Simulator, SimulatorSettings};

use crate::Ask;

const SEED: u64 = 20_260_612;
/// The topic of listens.
const LISTENS: &str = "listens";
/// Where finals of sessions go.
const SESSIONS: &str = "sessions";

/// What is read.
struct Topic {
    settings: Settings,
    name: &'static str,
    partitions: u32,
    listens: u64,
}

pub fn run(ask: &Ask) -> anyhow::Result<Outcome> {
    let size = |key| ask.config.size(key, ask.quick);
    let repeats = usize::try_from(size("repeats")?)?;
    let broker = Broker::start()?;
    let topic = Topic {
        settings: Settings {
            brokers: broker.address(),
            ..Settings::default()
        },
        name: LISTENS,
        partitions: u32::try_from(size("partitions")?)?,
        listens: size("listens")?,
    };
    let simulated = SimulatorSettings {
        seed: SEED,
        users: u32::try_from(size("users")?)?,
        tracks: u32::try_from(size("tracks")?)?,
        lengths: Lengths::Duration,
        ..SimulatorSettings::default()
    };
    fill(&topic, simulated)?;

    let count = usize::try_from(topic.listens)?;
    let (mut bare, mut plain, mut transactional) = (Vec::new(), Vec::new(), Vec::new());
    let mut commits = Vec::new();
    // In turn, so that what else the machine does meets all three. The first turn warms up.
    for turn in 0..=repeats {
        let folder = tempfile::tempdir().context("folder for checkpoints")?;
        let a = rate(count, bare::run(&topic)?);
        let b = rate(count, lanes::run(&topic)?.0);
        let (took, seen) = lanes::run_transactional(&topic, folder.path())?;
        let c = rate(count, took);
        eprintln!(
            "turn {turn}: bare {a:.0}/s, lanes {b:.0}/s, with {} transactions {c:.0}/s",
            seen.commits
        );
        if turn > 0 {
            bare.push(a);
            plain.push(b);
            transactional.push(c);
            commits.push(seen.commits as f64);
        }
    }
    let of =
        |figures: &[f64]| Interval::of(figures).context("scenario.toml: repeats must not be 0");
    let ratios =
        |ours: &[f64]| -> Vec<f64> { ours.iter().zip(&bare).map(|(b, a)| b / a).collect() };
    let messages = "messages/s";
    Ok(Outcome {
        name: "kafka-ratio",
        quick: ask.quick,
        simulated: true,
        metrics: vec![
            Metric::repeated("ratio", of(&ratios(&plain))?, "of the bare consumer's rate"),
            Metric::repeated(
                "ratio_transactional",
                of(&ratios(&transactional))?,
                "of the bare consumer's rate",
            ),
            Metric::repeated("rate_bare", of(&bare)?, messages),
            Metric::repeated("rate", of(&plain)?, messages),
            Metric::repeated("rate_transactional", of(&transactional)?, messages),
            Metric::repeated("commits", of(&commits)?, "transactions"),
        ],
        repeats,
        workload: format!(
            "{} simulated listens (seed {SEED}) as MessagePack in {} partitions of a real broker on this machine; per partition one consumer on a thread of its own in all three; with transactions finals of sessions are written",
            topic.listens, topic.partitions
        ),
    })
}

fn fill(topic: &Topic, simulated: SimulatorSettings) -> anyhow::Result<()> {
    let (settings, partitions) = (&topic.settings, topic.partitions);
    topics::ensure_topic(settings, topic.name, partitions)?;
    topics::ensure_topic(settings, SESSIONS, partitions)?;
    let listens = Simulator::new(simulated)?.take(usize::try_from(topic.listens)?);
    let mut sink = KafkaSink::open(settings, &Guarantee::Idempotent, None)?;
    let (took, written) = timed(|| deliver(listens, (topic.name, partitions), &mut sink));
    eprintln!(
        "{} listens written in {:.0} s",
        written?,
        took.as_secs_f64()
    );
    Ok(())
}
