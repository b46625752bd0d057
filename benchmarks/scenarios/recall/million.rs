//! A million tracks: built, saved, read again, searched.

use segue_benchmarks::outcome::{Metric, Outcome};
use segue_benchmarks::timing::timed;
use segue_recall::{GraphWriter, Hit, IndexWriter};

use super::SEED;
use super::ours::{Built, build, curve, settings};
use super::world::{K, World};
use crate::Ask;

pub fn run(ask: &Ask) -> anyhow::Result<Outcome> {
    let size =
        |key| -> anyhow::Result<usize> { Ok(usize::try_from(ask.config.size(key, ask.quick)?)?) };
    let world = World::make(size("tracks")?, size("dimensions")?, size("queries")?, SEED)?;
    let settings = settings(16, 200);
    let Built {
        mut writer,
        inserts_per_s,
        memory_bytes,
    } = build(&world, settings.clone())?;
    let (publication, before) = timed(|| writer.publish(3));
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("index");
    let (saving, saved) = timed(|| writer.save(&path));
    saved?;
    let bytes = path.metadata()?.len();
    drop(writer);
    let (loading, loaded) = timed(|| GraphWriter::load(&path, world.dimensions, settings));
    let mut writer = loaded?;
    let after = writer.publish(3);
    let (mut one, mut other) = (Vec::<Hit>::new(), Vec::<Hit>::new());
    let (queries, mut same) = (world.queries()?, 0);
    for query in &queries {
        before.search(*query, K, &|_| true, &mut one)?;
        after.search(*query, K, &|_| true, &mut other)?;
        same += usize::from(one == other);
    }
    drop((before, after));
    let truth = world.truth(&|_| true)?;
    let points = curve(&mut writer, &world, &truth, 2)?;
    let mut metrics = vec![
        Metric::single("inserts_per_s", inserts_per_s, "inserts/s"),
        Metric::single("memory_bytes", memory_bytes, "B"),
        Metric::single("publication_ms", publication.as_secs_f64() * 1e3, "ms"),
        Metric::single("save_s", saving.as_secs_f64(), "s"),
        Metric::single("load_s", loading.as_secs_f64(), "s"),
        Metric::single("file_bytes", bytes as f64, "B"),
        Metric::single(
            "same_after_reload",
            same as f64 / queries.len() as f64,
            "share of answers",
        ),
    ];
    for point in points
        .iter()
        .filter(|point| [64, 128, 256].contains(&point.ef))
    {
        println!(
            "ef {}: recall {:.5}, {:.0} queries/s",
            point.ef, point.recall, point.queries_per_s
        );
        metrics.push(Metric::single(
            &format!("recall_ef_{}", point.ef),
            point.recall,
            "recall@10",
        ));
        metrics.push(Metric::single(
            &format!("qps_ef_{}", point.ef),
            point.queries_per_s,
            "queries/s",
        ));
    }
    Ok(Outcome {
        name: "recall-million",
        quick: ask.quick,
        simulated: true,
        metrics,
        repeats: 2,
        workload: format!(
            "{} clustered vectors of {} components (seed {SEED}), M 16, efConstruction 200, k 10; one thread",
            world.count(),
            world.dimensions
        ),
    })
}
