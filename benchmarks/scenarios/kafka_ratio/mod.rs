//! What the lanes' work costs beside reading alone: the same messages through a real broker on this
//! machine, read by a bare consumer, by the lanes, and by the lanes with transactions and checkpoints.

mod bare;
mod lanes;

use std::time::Duration;

use anyhow::Context;
use segue_benchmarks::feed::deliver;
use segue_benchmarks::machine::core_time;
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

/// One way to read the topic, once.
struct Way {
    /// Messages a second.
    rate: f64,
    /// Microseconds that all of this process's threads ran, per message: what a rate on a machine
    /// that does something else too is to be read beside.
    micros: f64,
}

impl Way {
    fn measure<T>(
        topic: &Topic,
        work: impl FnOnce() -> anyhow::Result<(Duration, T)>,
    ) -> anyhow::Result<(Self, T)> {
        let before = core_time().unwrap_or_default();
        let (took, seen) = work()?;
        let ran = core_time().unwrap_or_default().saturating_sub(before);
        let way = Self {
            rate: rate(usize::try_from(topic.listens)?, took),
            micros: ran.as_secs_f64() * 1e6 / topic.listens as f64,
        };
        Ok((way, seen))
    }
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

    let (mut bare, mut plain, mut transactional) = (Vec::new(), Vec::new(), Vec::new());
    let mut commits = Vec::new();
    // In turn, so that what else the machine does meets all three. The first turn warms up.
    for turn in 0..=repeats {
        let folder = tempfile::tempdir().context("folder for checkpoints")?;
        let a = Way::measure(&topic, || Ok((bare::run(&topic)?, ())))?.0;
        let b = Way::measure(&topic, || lanes::run(&topic))?.0;
        let (c, seen) = Way::measure(&topic, || lanes::run_transactional(&topic, folder.path()))?;
        eprintln!(
            "turn {turn}: bare {:.0}/s, lanes {:.0}/s, with {} transactions {:.0}/s",
            a.rate, b.rate, seen.commits, c.rate
        );
        if turn > 0 {
            bare.push(a);
            plain.push(b);
            transactional.push(c);
            commits.push(seen.commits as f64);
        }
    }
    let of =
        |figures: Vec<f64>| Interval::of(&figures).context("scenario.toml: repeats must not be 0");
    let ratio = |ours: &[Way]| {
        of(ours
            .iter()
            .zip(&bare)
            .map(|(b, a)| b.rate / a.rate)
            .collect())
    };
    let rates = |of_way: &[Way]| of(of_way.iter().map(|way| way.rate).collect());
    let costs = |of_way: &[Way]| of(of_way.iter().map(|way| way.micros).collect());
    let (messages, micros) = (
        "messages/s",
        "us on a core per message, without the broker's",
    );
    Ok(Outcome {
        name: "kafka-ratio",
        quick: ask.quick,
        simulated: true,
        metrics: vec![
            Metric::repeated("ratio", ratio(&plain)?, "of the bare consumer's rate"),
            Metric::repeated(
                "ratio_transactional",
                ratio(&transactional)?,
                "of the bare consumer's rate",
            ),
            Metric::repeated("rate_bare", rates(&bare)?, messages),
            Metric::repeated("rate", rates(&plain)?, messages),
            Metric::repeated("rate_transactional", rates(&transactional)?, messages),
            Metric::repeated("core_micros_bare", costs(&bare)?, micros),
            Metric::repeated("core_micros", costs(&plain)?, micros),
            Metric::repeated("core_micros_transactional", costs(&transactional)?, micros),
            Metric::repeated("commits", of(commits)?, "transactions"),
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
