//! The index while it is written to: what a search waits, when a track is found, what deletions leave
//! and what filters let through.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use segue_benchmarks::outcome::{Metric, Outcome};
use segue_benchmarks::timing::{on_core, rate};
use segue_flow::clock::{MachineClock, WallClock};
use segue_listen::TrackId;
use segue_recall::{GraphWriter, Hit, Index, IndexWriter, Published, Settings};

use super::SEED;
use super::world::{K, World};
use crate::Ask;

/// Tracks between two publications.
const AT_ONCE: usize = 50;
/// Passes over the queries whose speed is taken.
const PASSES: usize = 5;
/// Passes over the queries that tell what a search waits where nobody writes.
const ROUNDS: usize = 10;
/// Filters: one track in so many passes.
const FILTERS: [(u32, &str); 4] = [(2, "50"), (10, "10"), (100, "1"), (1000, "0_1")];

pub fn run(ask: &Ask) -> anyhow::Result<Outcome> {
    let size =
        |key| -> anyhow::Result<usize> { Ok(usize::try_from(ask.config.size(key, ask.quick)?)?) };
    let (tracks, per_s, seconds) = (size("tracks")?, size("inserts_per_s")?, size("seconds")?);
    let world = World::make(
        tracks + per_s * seconds,
        size("dimensions")?,
        size("queries")?,
        SEED,
    )?;
    let settings = Settings {
        exact_below: 0,
        ..Settings::default()
    };
    let mut writer = GraphWriter::new(world.dimensions, settings)?;
    for at in 0..tracks {
        writer.upsert(TrackId(u32::try_from(at)?), world.row(at)?)?;
    }
    writer.settle(usize::MAX);
    let published = Published::new(writer.publish(0));
    let mut metrics = vec![];

    let idle = waits(&published, &world, |asked| {
        asked >= ROUNDS * world.queries.len() / world.dimensions
    })?;
    let (busy, fresh) = while_inserting(&mut writer, &published, &world, tracks, per_s)?;
    let (idle_p99, busy_p99) = (percentile(&idle, 0.99), percentile(&busy, 0.99));
    let baseline = "the same searches with nobody writing";
    metrics.push(Metric::single("p99_under_insert_us", busy_p99, "us").beside(baseline, idle_p99));
    metrics.push(Metric::single(
        "ratio_p99_under_insert",
        busy_p99 / idle_p99,
        "ratio",
    ));
    metrics.push(Metric::single("p50_idle_us", percentile(&idle, 0.5), "us"));
    metrics.push(Metric::single(
        "p50_under_insert_us",
        percentile(&busy, 0.5),
        "us",
    ));
    metrics.push(Metric::single("fresh_share", fresh, "share of inserts"));

    writer.settle(usize::MAX);
    let index = writer.publish(1);
    let (recall, speed) = asked(&*index, &world, &|_| true)?;
    let mut full = 1.0f64;
    for (one_in, key) in FILTERS {
        let keep = |track: TrackId| track.0.is_multiple_of(one_in);
        let (recall, share) = filtered(&*index, &world, &keep)?;
        full = full.min(share);
        metrics.push(Metric::single(
            &format!("filter_recall_{key}"),
            recall,
            "recall@10",
        ));
    }
    metrics.push(Metric::single(
        "filter_full_share",
        full,
        "share of answers",
    ));

    // Every other track goes; publications sweep.
    (0..world.count())
        .step_by(2)
        .for_each(|at| writer.remove(TrackId(at as u32)));
    let mut publications = 0;
    while publications == 0 || writer.health().renewing {
        publications += 1;
        drop(writer.publish(1 + publications));
    }
    let index = writer.publish(2 + publications);
    let odd = |track: TrackId| track.0 % 2 == 1;
    let (recall_after, speed_after) = asked(&*index, &world, &odd)?;
    println!(
        "deletions: recall {recall:.5} to {recall_after:.5}, {speed:.0} to {speed_after:.0} queries/s, swept over \
         {publications} publications; {:?}",
        writer.health()
    );
    metrics.push(Metric::single(
        "recall_before_deletions",
        recall,
        "recall@10",
    ));
    metrics.push(Metric::single(
        "recall_after_deletions",
        recall_after,
        "recall@10",
    ));
    let delta = recall_after - recall;
    metrics.push(Metric::single(
        "recall_after_deletions_delta",
        delta,
        "recall@10",
    ));
    metrics.push(Metric::single(
        "ratio_qps_after_deletions",
        speed_after / speed,
        "ratio",
    ));
    Ok(Outcome {
        name: "recall-under-insert",
        quick: ask.quick,
        simulated: true,
        metrics,
        repeats: 1,
        workload: format!(
            "{tracks} clustered vectors of {} components (seed {SEED}), then {per_s} more a second for {seconds} s \
             by one thread, published every {AT_ONCE}, while another searches (k 10, settings as shipped); \
             half deleted; filters that pass one in 2, 10, 100, 1000",
            world.dimensions
        ),
    })
}

/// Searches until `enough`; what each took, in microseconds.
fn waits(
    published: &Published,
    world: &World,
    enough: impl Fn(usize) -> bool,
) -> anyhow::Result<Vec<f64>> {
    let queries = world.queries()?;
    let clock = MachineClock::start();
    let (mut waits, mut hits) = (Vec::new(), Vec::<Hit>::new());
    while !enough(waits.len()) {
        let query = queries
            .get(waits.len() % queries.len())
            .context("no queries")?;
        let begun = clock.now();
        published
            .current()
            .search(*query, K, &|_| true, &mut hits)?;
        waits.push((clock.now() - begun).as_secs_f64() * 1e6);
    }
    Ok(waits)
}

/// Inserts at a rate while another thread searches; what its searches took, and the share of the inserts
/// that the next query found.
fn while_inserting(
    writer: &mut GraphWriter,
    published: &Published,
    world: &World,
    from: usize,
    per_s: usize,
) -> anyhow::Result<(Vec<f64>, f64)> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| waits(published, world, |_| done.load(Ordering::Acquire)));
        let inserted = insert(writer, published, world, from, per_s);
        done.store(true, Ordering::Release);
        let waits = reader
            .join()
            .map_err(|_| anyhow::anyhow!("the reader failed"))??;
        Ok((waits, inserted?))
    })
}

fn insert(
    writer: &mut GraphWriter,
    published: &Published,
    world: &World,
    from: usize,
    per_s: usize,
) -> anyhow::Result<f64> {
    let clock = MachineClock::start();
    let (mut found, mut hits) = (0, Vec::<Hit>::new());
    for at in from..world.count() {
        let due = Duration::from_secs_f64((at - from) as f64 / per_s as f64);
        clock.sleep(due.saturating_sub(clock.now()));
        writer.upsert(TrackId(u32::try_from(at)?), world.row(at)?)?;
        writer.settle(1);
        let last = (at + 1 - from).is_multiple_of(AT_ONCE) || at + 1 == world.count();
        if last {
            published.swap(writer.publish(1));
            let batch = (at + 1 - from - 1) % AT_ONCE + 1;
            for at in at + 1 - batch..=at {
                let query = world.row(at)?;
                published.current().search(query, 1, &|_| true, &mut hits)?;
                found += usize::from(hits.iter().any(|hit| hit.track.row() == at));
            }
        }
    }
    Ok(found as f64 / (world.count() - from) as f64)
}

/// Recall and queries a second, of the tracks that `there` says are in it.
fn asked(
    index: &dyn Index,
    world: &World,
    there: &dyn Fn(TrackId) -> bool,
) -> anyhow::Result<(f64, f64)> {
    let truth = world.truth(there)?;
    let (mut hits, mut found, mut best) = (Vec::new(), 0, 0.0f64);
    let queries = world.queries()?;
    for (query, truth) in queries.iter().zip(truth.chunks(K)) {
        index.search(*query, K, &|_| true, &mut hits)?;
        found += hits
            .iter()
            .filter(|hit| truth.contains(&hit.track.0))
            .count();
    }
    for _ in 0..PASSES {
        let (took, done) = on_core(|| -> anyhow::Result<()> {
            for query in &queries {
                index.search(*query, K, &|_| true, &mut hits)?;
            }
            Ok(())
        });
        done?;
        best = best.max(rate(queries.len(), took));
    }
    Ok((found as f64 / truth.len() as f64, best))
}

/// Recall under a filter, and the share of the answers that are as long as was asked for.
fn filtered(
    index: &dyn Index,
    world: &World,
    keep: &dyn Fn(TrackId) -> bool,
) -> anyhow::Result<(f64, f64)> {
    let truth = world.truth(keep)?;
    let (mut hits, mut found, mut full) = (Vec::new(), 0, 0);
    let queries = world.queries()?;
    for (query, truth) in queries.iter().zip(truth.chunks(K)) {
        index.search(*query, K, keep, &mut hits)?;
        full += usize::from(hits.len() == K && hits.iter().all(|hit| keep(hit.track)));
        found += hits
            .iter()
            .filter(|hit| truth.contains(&hit.track.0))
            .count();
    }
    Ok((
        found as f64 / truth.len() as f64,
        full as f64 / queries.len() as f64,
    ))
}

fn percentile(waits: &[f64], share: f64) -> f64 {
    let mut sorted = waits.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() as f64 * share) as usize;
    sorted
        .get(at.min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}
