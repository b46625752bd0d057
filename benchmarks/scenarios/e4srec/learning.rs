//! Answering every play with and without learning from it.
//!
//! Both answer the same plays in the same batches, round by round as the stage does. What learning
//! costs is all of it: the steps, the new adapters, and the listeners' windows that are read anew after
//! each.

use anyhow::Context;
use segue_benchmarks::outcome::{Metric, Outcome};
use segue_benchmarks::timing::{Interval, rate, timed};
use segue_e4srec::E4SRec;
use segue_flow::Epoch;
use segue_recommend::recommender::{Ask as Question, Example, Recommender};

use super::world::{Ground, SESSION, Size, World};
use crate::Ask;

pub fn run(ask: &Ask) -> anyhow::Result<Outcome> {
    let size =
        |key| -> anyhow::Result<usize> { Ok(usize::try_from(ask.config.size(key, ask.quick)?)?) };
    let shape = Size {
        depth: size("depth")?,
        catalogue: u32::try_from(size("catalogue")?)?,
        listeners: u32::try_from(size("listeners")?)?,
        behind: 0,
    };
    let (round, rounds, batch) = (size("round")?, size("rounds")?, size("batch")?);
    let repeats = size("repeats")?;
    let ground = Ground::lay(shape)?;
    let world = World::simulate(shape, &ground.settings);
    let model = ground.model(&world)?;
    eprintln!("{}: {} tracks admitted", ground.place, shape.catalogue);
    let mut alone = Vec::new();
    let mut learning = Vec::new();
    let mut shares = Vec::new();
    let mut published = 0;
    // The first of each warms up.
    for repeat in 0..=repeats {
        let mut serving = model.frozen()?;
        let (took, count) = timed(|| serve(&world, &mut serving, (round, rounds), batch, false));
        let without = rate(count?, took);
        let mut learner = model.online()?;
        let (took, count) = timed(|| serve(&world, &mut learner, (round, rounds), batch, true));
        let with = rate(count?, took);
        published = learner.adapter_version();
        eprintln!("{without:.0} answers/s alone, {with:.0} while learning");
        if repeat > 0 {
            alone.push(without);
            learning.push(with);
            shares.push(with / without);
        }
    }
    let interval = |figures: &[f64]| Interval::of(figures).context("no repeat was asked for");
    let alone = interval(&alone)?;
    Ok(Outcome {
        name: "learn-while-serving",
        quick: ask.quick,
        simulated: true,
        metrics: vec![
            Metric::repeated("ratio", interval(&shares)?, "ratio"),
            Metric::repeated("serving_per_s", alone, "answers/s"),
            Metric::repeated("learning_per_s", interval(&learning)?, "answers/s")
                .beside("the same model without learning", alone.median),
            Metric::single("adapters", published as f64, "adapters published"),
        ],
        repeats,
        workload: format!(
            "simulated: {rounds} rounds of {round} plays of {} listeners in batches of {batch}, {} tracks, \
             SmolLM2 at {} layers, the shipped settings of online learning; on {}",
            shape.listeners, shape.catalogue, shape.depth, ground.place
        ),
    })
}

/// Rounds of plays, each answered, then learnt from if it is asked for; how many answers came.
fn serve(
    world: &World,
    model: &mut E4SRec,
    (round, rounds): (usize, usize),
    batch: usize,
    learn: bool,
) -> anyhow::Result<usize> {
    let listeners = world.sessions.len();
    let mut count = 0;
    for number in 0..rounds {
        let plays = (number * round..(number + 1) * round).map(|at| {
            let (listener, heard) = (at % listeners, at / listeners);
            (listener, heard / SESSION, heard % SESSION + 1)
        });
        let (mut asks, mut examples) = (Vec::new(), Vec::new());
        for (listener, visit, heard) in plays {
            let ask: Question<'_> = world.ask(listener, visit, heard);
            asks.push(ask);
            let actual = world.actual(listener, heard);
            examples.push(Example { ask, actual });
        }
        count += world.answers(model, &asks, batch)?;
        if learn {
            let report = model.learn(Epoch(number as u64), &examples)?;
            anyhow::ensure!(report.loss.is_some(), "round {number} taught nothing");
        }
    }
    Ok(count)
}
