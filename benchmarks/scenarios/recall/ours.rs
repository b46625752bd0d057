//! The index under test: built, asked along its breadth, and asked for what is in it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use segue_benchmarks::machine::resident_kib;
use segue_benchmarks::timing::{on_core, rate};
use segue_listen::TrackId;
use segue_recall::{GraphWriter, Hit, Index, IndexWriter, Settings};

use super::curve::{BREADTHS, Point};
use super::world::{K, World};

/// Vectors between two settlements, as the peers are given theirs.
const CHUNK: usize = 1000;
const LONG_ENOUGH: Duration = Duration::from_millis(300);

/// An index with what building it took.
pub struct Built {
    pub writer: GraphWriter,
    pub inserts_per_s: f64,
    /// What the process grew by.
    pub memory_bytes: f64,
}

/// Settings under which the graph answers, and alone.
pub fn settings(m: usize, ef_construction: usize) -> Settings {
    Settings {
        m,
        ef_construction,
        oversampling: 1,
        exact_below: 0,
        ..Settings::default()
    }
}

/// Inserts and links every vector.
pub fn build(world: &World, settings: Settings) -> anyhow::Result<Built> {
    let before = resident_kib(std::process::id()).context("the memory of this process")?;
    let mut writer = GraphWriter::new(world.dimensions, settings)?;
    let (took, done) = on_core(|| -> anyhow::Result<()> {
        for at in 0..world.count() {
            writer.upsert(TrackId(u32::try_from(at)?), world.row(at)?)?;
            if (at + 1) % CHUNK == 0 {
                writer.settle(usize::MAX);
            }
        }
        writer.settle(usize::MAX);
        // Part of what inserting takes: each is findable in the end.
        writer.audit(usize::MAX);
        Ok(())
    });
    done?;
    // A reader's snapshot is part of what it takes.
    let snapshot = writer.publish(0);
    let after = resident_kib(std::process::id()).context("the memory of this process")?;
    drop(snapshot);
    Ok(Built {
        writer,
        inserts_per_s: rate(world.count(), took),
        memory_bytes: after.saturating_sub(before) as f64 * 1024.0,
    })
}

/// Recall and speed along the breadth; of the repeats, the fastest.
pub fn curve(
    writer: &mut GraphWriter,
    world: &World,
    truth: &[u32],
    repeats: usize,
) -> anyhow::Result<Vec<Point>> {
    let queries = world.queries()?;
    let mut curve = Vec::new();
    let mut hits = Vec::<Hit>::new();
    for &ef in BREADTHS {
        writer.set_ef_search(ef)?;
        let index = writer.publish(1);
        let mut found = 0;
        for (query, truth) in queries.iter().zip(truth.chunks(K)) {
            index.search(*query, K, &|_| true, &mut hits)?;
            found += hits
                .iter()
                .filter(|hit| truth.contains(&hit.track.0))
                .count();
        }
        let mut best = f64::MIN;
        for _ in 0..repeats {
            // Long enough for a clock that ticks.
            let (mut asked, mut spent) = (0, Duration::ZERO);
            while spent < LONG_ENOUGH {
                let (took, done) = on_core(|| -> anyhow::Result<()> {
                    for query in &queries {
                        index.search(*query, K, &|_| true, &mut hits)?;
                    }
                    Ok(())
                });
                done?;
                asked += queries.len();
                spent += took;
            }
            best = best.max(rate(asked, spent));
        }
        curve.push(Point {
            ef,
            recall: found as f64 / truth.len() as f64,
            queries_per_s: best,
        });
        if found == truth.len() {
            break;
        }
    }
    Ok(curve)
}

/// The faster of two curves over the same breadths.
pub fn faster(one: &[Point], other: &[Point]) -> Vec<Point> {
    let pairs = one.iter().zip(other);
    pairs
        .map(|(one, other)| Point {
            queries_per_s: one.queries_per_s.max(other.queries_per_s),
            ..*one
        })
        .collect()
}

/// The share of the tracks that a search for their own vectors finds among ten at a breadth of 64.
pub fn self_recall(writer: &mut GraphWriter, world: &World) -> anyhow::Result<f64> {
    writer.set_ef_search(64)?;
    let index: Arc<dyn Index> = writer.publish(2);
    let mut hits = Vec::new();
    let mut found = 0;
    for at in 0..world.count() {
        index.search(world.row(at)?, K, &|_| true, &mut hits)?;
        found += usize::from(hits.iter().any(|hit| hit.track.row() == at));
    }
    Ok(found as f64 / world.count() as f64)
}
