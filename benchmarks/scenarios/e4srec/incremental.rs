//! Every play of every session is answered: from the caches, by reading the whole prompt, and as
//! E4SRec was published.
//!
//! The slower ways are asked after every few plays only, spread so that their prompts are on average
//! as long as those of all plays.

use anyhow::Context;
use segue_benchmarks::outcome::{Metric, Outcome};
use segue_benchmarks::timing::{Interval, rate, timed};
use segue_e4srec::E4SRec;
use segue_recommend::recommender::Ask as Question;

use super::world::{Ground, SESSION, Size, World};
use super::{official, paced};
use crate::Ask;

pub fn run(ask: &Ask) -> anyhow::Result<Outcome> {
    let size =
        |key| -> anyhow::Result<usize> { Ok(usize::try_from(ask.config.size(key, ask.quick)?)?) };
    let (batch, repeats) = (size("batch")?, size("repeats")?);
    let shape = Size {
        depth: size("depth")?,
        catalogue: u32::try_from(size("catalogue")?)?,
        listeners: u32::try_from(size("listeners")?)?,
        behind: size("behind")?,
    };
    let ground = Ground::lay(shape)?;
    let world = World::simulate(shape, &ground.settings);
    let mut model = ground.model(&world)?;
    eprintln!("{}: {} tracks admitted", ground.place, shape.catalogue);

    let all: Vec<usize> = (0..world.sessions.len()).collect();
    let mut cached = Vec::new();
    let mut visit = 0;
    // The first pass warms up: memory is mapped, kernels are chosen.
    for repeat in 0..=repeats {
        let (took, count) = timed(|| sessions(&world, &mut model, &all, visit, batch));
        visit += 1;
        let found = rate(count?, took);
        eprintln!("from the caches: {found:.0} answers/s");
        if repeat > 0 {
            cached.push(found);
        }
    }
    let every = size("whole_every")?;
    let few = size("whole_listeners")?;
    let stops: Vec<usize> = (1..=SESSION).skip(every / 2).step_by(every).collect();
    let some: Vec<usize> = (0..few).collect();
    let mut whole = Vec::new();
    for _ in 0..repeats {
        let (took, count) = timed(|| prompts(&world, &mut model, &some, &stops, batch));
        let found = rate(count?, took);
        eprintln!("whole prompts: {found:.1} answers/s");
        whole.push(found);
    }
    let peer = official::measure(&ground, &world, &some, &stops, batch)?;
    for (kind, found) in &peer.by_kind {
        eprintln!("as published, in {kind}: {found:.2} answers/s");
    }
    let interval = |figures: &[f64]| Interval::of(figures).context("no repeat was asked for");
    let (cached, whole) = (interval(&cached)?, interval(&whole)?);
    let sustainable = cached.median;
    let latencies = paced::measure(
        &world,
        &mut model,
        visit,
        paced::Pace {
            rate: sustainable / 2.0,
            answers: size("paced")?,
            batch,
        },
    )?;
    let ratio = |key: &str, other: f64| Metric::single(key, sustainable / other, "ratio");
    Ok(Outcome {
        name: "e4srec-incremental",
        quick: ask.quick,
        simulated: true,
        metrics: vec![
            ratio("ratio_full_prompt", whole.median),
            ratio("ratio_official", peer.best()),
            Metric::single("p50_ms", latencies.millis(0.50), "ms"),
            Metric::single("p99_ms", latencies.millis(0.99), "ms"),
            Metric::single("p999_ms", latencies.millis(0.999), "ms"),
            Metric::single("paced_per_s", sustainable / 2.0, "answers/s"),
            Metric::repeated("incremental_per_s", cached, "answers/s"),
            Metric::repeated("full_prompt_per_s", whole, "answers/s"),
            Metric::single("official_per_s", peer.best(), "answers/s"),
        ],
        repeats,
        workload: format!(
            "simulated: sessions of {SESSION} plays of listeners with {} behind them, {} at a time in \
             batches of {batch}, {} tracks, SmolLM2 at {} layers, window {}+49; on {}; peer: {}",
            shape.behind,
            shape.listeners,
            shape.catalogue,
            shape.depth,
            ground.settings.lookback,
            ground.place,
            peer.about
        ),
    })
}

/// All plays of all sessions, in step: each listener's next play comes when all have had theirs.
fn sessions(
    world: &World,
    model: &mut E4SRec,
    listeners: &[usize],
    visit: usize,
    batch: usize,
) -> anyhow::Result<usize> {
    let mut count = 0;
    for plays in 1..=SESSION {
        let asks: Vec<Question<'_>> = listeners
            .iter()
            .map(|&listener| world.ask(listener, visit, plays))
            .collect();
        count += world.answers(model, &asks, batch)?;
    }
    Ok(count)
}

/// The same model with nothing in its caches, in the same batches.
fn prompts(
    world: &World,
    model: &mut E4SRec,
    listeners: &[usize],
    stops: &[usize],
    batch: usize,
) -> anyhow::Result<usize> {
    let mut count = 0;
    for &plays in stops {
        for listeners in listeners.chunks(batch) {
            model.forget_listeners();
            let asks: Vec<Question<'_>> = listeners
                .iter()
                .map(|&listener| world.ask(listener, 0, plays))
                .collect();
            count += world.answers(model, &asks, batch)?;
        }
    }
    model.forget_listeners();
    Ok(count)
}
