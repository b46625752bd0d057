//! The recall index by itself: beside its peers, while it is written to, and with a million tracks.

mod curve;
mod million;
mod ours;
mod peers;
mod under_insert;
mod world;

use segue_benchmarks::outcome::{Metric, Outcome};
use segue_recall::{Builder, Settings};

use self::curve::{Point, speed_at};
use self::ours::{build, faster, self_recall};
use self::peers::{Files, Peer};
use self::world::World;
use crate::Ask;

pub use self::million::run as million;
pub use self::under_insert::run as under_insert;

/// Any will do; it is in the report's workload, and so repeatable.
const SEED: u64 = 20_260_601;
/// The recalls at which speeds are compared, with the key's last part.
const AT: [(f64, &str); 2] = [(0.99, "0_99"), (0.999, "0_999")];

/// Speed at equal recall, inserts and memory beside hnswlib, faiss and usearch.
pub fn run(ask: &Ask) -> anyhow::Result<Outcome> {
    let size =
        |key| -> anyhow::Result<usize> { Ok(usize::try_from(ask.config.size(key, ask.quick)?)?) };
    let (m, ef_construction, repeats) = (size("m")?, size("ef_construction")?, size("repeats")?);
    let world = World::make(size("tracks")?, size("dimensions")?, size("queries")?, SEED)?;
    let settings = ours::settings(m, ef_construction);

    // First of all, so that the memory it takes is not what something else has left.
    let mut built = build(&world, settings.clone())?;
    let truth = world.truth(&|_| true)?;
    let own = self_recall(&mut built.writer, &world)?;
    let before = ours::curve(&mut built.writer, &world, &truth, repeats)?;
    let files = Files::write(&world, &truth)?;
    let peers = files.measure(
        &["hnswlib", "faiss-cpu", "usearch"],
        m,
        ef_construction,
        repeats,
    )?;
    // Half before them and half after: a machine that is shared is not always equally fast.
    let after = ours::curve(&mut built.writer, &world, &truth, repeats)?;
    let points = faster(&before, &after);
    let health = built.writer.health();
    say(
        "segue",
        built.inserts_per_s,
        built.memory_bytes,
        own,
        &points,
    );
    for peer in &peers {
        let name = format!("{} {}", peer.name, peer.version);
        say(
            &name,
            peer.inserts_per_s,
            peer.memory_bytes,
            peer.self_recall,
            &peer.curve,
        );
    }

    let mut metrics = vec![
        Metric::single("self_recall", own, "share of tracks"),
        Metric::single("inserts_per_s", built.inserts_per_s, "inserts/s"),
        Metric::single("memory_bytes", built.memory_bytes, "B"),
        Metric::single("memory_counted_bytes", health.bytes as f64, "B"),
    ];
    for (recall, key) in AT {
        let speed = speed_at(&points, recall, truth.len());
        metrics.push(Metric::single(&format!("qps_at_{key}"), speed, "queries/s"));
    }
    for peer in &peers {
        metrics.extend(beside(
            peer,
            &points,
            built.inserts_per_s,
            built.memory_bytes,
            truth.len(),
        ));
    }
    if size("hnsw_rs")? > 0 {
        let own_speed = built.inserts_per_s;
        metrics.extend(by_hnsw_rs(settings, &world, &truth, &peers, own_speed)?);
    }
    Ok(Outcome {
        name: "recall",
        quick: ask.quick,
        simulated: true,
        metrics,
        repeats,
        workload: format!(
            "{} clustered vectors of {} components (seed {SEED}), length 1, cosine; M {m}, efConstruction \
             {ef_construction}, k 10; {} queries like them, one by one; one thread, by its time on a core, \
             the fastest of the repeats; speed at a recall is read between two breadths; memory is what \
             the process grew by, with builder, replica and a reader's snapshot, without the vectors that \
             were given; peers as their wheels or, hnswlib, as built here from source for this processor",
            world.count(),
            world.dimensions,
            truth.len() / world::K,
        ),
    })
}

/// The ratios to one peer.
fn beside(
    peer: &Peer,
    points: &[Point],
    inserts_per_s: f64,
    memory_bytes: f64,
    hits: usize,
) -> Vec<Metric> {
    let name = peer.name.trim_end_matches("-cpu");
    let label = format!("{} {}", peer.name, peer.version);
    let ratio = |key: String, ours: f64, theirs: f64| {
        Metric::single(&key, ours / theirs, "ratio").beside(&label, 1.0)
    };
    let speeds = AT.map(|(recall, at)| {
        let theirs = speed_at(&peer.curve, recall, hits);
        let ours = speed_at(points, recall, hits);
        ratio(format!("ratio_qps_{name}_at_{at}"), ours, theirs)
    });
    let mut metrics = Vec::from(speeds);
    metrics.push(ratio(
        format!("ratio_insert_{name}"),
        inserts_per_s,
        peer.inserts_per_s,
    ));
    metrics.push(ratio(
        format!("ratio_memory_{name}"),
        memory_bytes,
        peer.memory_bytes,
    ));
    metrics.push(Metric::single(
        &format!("self_recall_{name}"),
        peer.self_recall,
        "share of tracks",
    ));
    metrics
}

/// The same index with hnsw_rs for a builder, beside our own, which inserts `own_speed` a second.
fn by_hnsw_rs(
    settings: Settings,
    world: &World,
    truth: &[u32],
    peers: &[Peer],
    own_speed: f64,
) -> anyhow::Result<Vec<Metric>> {
    let settings = Settings {
        builder: Builder::HnswRs,
        ..settings
    };
    let mut built = build(world, settings)?;
    let points = ours::curve(&mut built.writer, world, truth, 1)?;
    let own = self_recall(&mut built.writer, world)?;
    say(
        "segue over hnsw_rs",
        built.inserts_per_s,
        built.memory_bytes,
        own,
        &points,
    );
    let theirs = built.inserts_per_s;
    let mut metrics = vec![
        Metric::single("hnsw_rs_inserts_per_s", theirs, "inserts/s"),
        Metric::single("ratio_insert_hnsw_rs", own_speed / theirs, "ratio").beside("hnsw_rs", 1.0),
    ];
    let Some(hnswlib) = peers.iter().find(|peer| peer.name == "hnswlib") else {
        return Ok(metrics);
    };
    let ratios = beside(
        hnswlib,
        &points,
        built.inserts_per_s,
        built.memory_bytes,
        truth.len(),
    );
    let named = ratios
        .into_iter()
        .filter(|metric| metric.baseline.is_some());
    metrics.extend(named.map(|metric| Metric {
        key: format!("hnsw_rs_builder_{}", metric.key),
        ..metric
    }));
    Ok(metrics)
}

fn say(name: &str, inserts_per_s: f64, memory_bytes: f64, own: f64, curve: &[Point]) {
    println!(
        "{name}: {inserts_per_s:.0} inserts/s, {:.1} MiB, {own:.5} found by themselves",
        memory_bytes / 1024.0 / 1024.0
    );
    for point in curve {
        println!(
            "  ef {:>4}: recall {:.5}, {:.0} queries/s",
            point.ef, point.recall, point.queries_per_s
        );
    }
}
