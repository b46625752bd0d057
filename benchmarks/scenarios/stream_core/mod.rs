//! The listening stage as a lane drives it, with a thousand and with a million listeners.

use anyhow::{Context, ensure};
use segue_benchmarks::lane_loop::{LaneLoop, Seen};
use segue_benchmarks::outcome::{Metric, Outcome};
use segue_benchmarks::plays::{Plays, Size};
use segue_benchmarks::shared_map::SharedMap;
use segue_benchmarks::timing::{Interval, on_core, rate};
use segue_flow::lane::LaneSettings;
use segue_flow::stage::Stage;
use segue_listen::SessionGap;
use segue_sessions::{Arrival, ListeningStage, SessionSettings, Update};

use crate::Ask;

/// Any will do; it is in the report's workload, and so repeatable.
const SEED: u64 = 20_260_601;

pub fn run(ask: &Ask) -> anyhow::Result<Outcome> {
    let size = |key| ask.config.size(key, ask.quick);
    let repeats = usize::try_from(size("repeats")?)?;
    let tracks = u32::try_from(size("tracks")?)?;
    let mut metrics = Vec::new();
    for (key, listeners, plays) in [
        ("events_per_s_1k_users", 1_000, size("plays_1k")?),
        ("events_per_s_1m_users", 1_000_000, size("plays_1m")?),
    ] {
        let size = Size {
            listeners,
            tracks,
            plays: usize::try_from(plays)?,
        };
        metrics.push(one(key, size, repeats)?);
    }
    Ok(Outcome {
        name: "stream-core",
        quick: ask.quick,
        simulated: true,
        metrics,
        repeats,
        workload: format!(
            "simulated plays (seed {SEED}), {tracks} tracks with estimated lengths; one pass to fill the state, then the repeats; one thread, by its time on a core"
        ),
    })
}

fn one(key: &str, size: Size, repeats: usize) -> anyhow::Result<Metric> {
    let settings = SessionSettings {
        gap: SessionGap::default(),
        lateness: LaneSettings::default().lateness,
    };
    // The same workload twice over: time in it goes on with each pass.
    let (baseline, expected) = {
        let mut plays = Plays::simulate(size, SEED);
        let map = SharedMap::new(settings);
        measure(map, &mut plays, repeats)?
    };
    let mut plays = Plays::simulate(size, SEED);
    let stage = ListeningStage::new(settings);
    let (rates, seen) = measure(stage, &mut plays, repeats)?;
    ensure!(
        seen == expected,
        "{key}: stage and baseline disagree, so their rates cannot be compared: {seen:?} against {expected:?}"
    );
    println!(
        "{key}: median {:.1} M/s of {:.1}..{:.1}; over DashMap {:.1} M/s; {} plays, {} ratios, {} sessions closed",
        rates.median / 1e6,
        rates.min / 1e6,
        rates.max / 1e6,
        baseline.median / 1e6,
        seen.plays,
        seen.ratios,
        seen.closed,
    );
    Ok(Metric::repeated(key, rates, "events/s")
        .beside("the same operator over DashMap (foldhash)", baseline.median))
}

fn measure<S: Stage<In = Arrival, Out = Update>>(
    stage: S,
    plays: &mut Plays,
    repeats: usize,
) -> anyhow::Result<(Interval, Seen)> {
    let mut lane = LaneLoop::new(stage);
    lane.take(plays.arrivals())?;
    let mut rates = Vec::with_capacity(repeats);
    for _ in 0..repeats {
        plays.go_on();
        let (took, done) = on_core(|| lane.take(plays.arrivals()));
        done?;
        rates.push(rate(plays.arrivals().len(), took));
    }
    let interval = Interval::of(&rates).context("scenario.toml: repeats must not be 0")?;
    Ok((interval, lane.seen()))
}
