//! The kinds of index under test, the vectors they are fed, and how an answer is judged.

use std::collections::BTreeSet;
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use segue_listen::TrackId;
use segue_recall::{
    Builder, ExactWriter, GraphWriter, Hit, Index, IndexWriter, Metric, Settings, Storage, Vector,
};

pub const DIMENSIONS: usize = 24;

pub type Make = (&'static str, fn(Metric) -> Box<dyn IndexWriter>);

/// Every kind: exact; all in the graph, by each builder and in each width; most still in the tail; the
/// settings as shipped.
pub const KINDS: [Make; 7] = [
    ("exact", |metric| {
        let settings = Settings {
            metric,
            ..Settings::default()
        };
        Box::new(ExactWriter::new(DIMENSIONS, &settings).unwrap())
    }),
    ("graph", |metric| Box::new(graph(metric, usize::MAX))),
    ("graph of hnsw_rs", |metric| {
        Box::new(of(Settings {
            builder: Builder::HnswRs,
            ..all_in(metric)
        }))
    }),
    ("graph in 16 bits", |metric| {
        Box::new(of(Settings {
            storage: Storage::F16,
            ..all_in(metric)
        }))
    }),
    ("graph of hnsw_rs in 16 bits", |metric| {
        Box::new(of(Settings {
            builder: Builder::HnswRs,
            storage: Storage::F16,
            ..all_in(metric)
        }))
    }),
    ("graph with a tail", |metric| Box::new(graph(metric, 100))),
    ("graph as shipped", |metric| {
        Box::new(of(Settings {
            metric,
            ..Settings::default()
        }))
    }),
];

pub fn all_in(metric: Metric) -> Settings {
    Settings {
        metric,
        exact_below: 0,
        links_per_publish: usize::MAX,
        tail_limit: 1000,
        ..Settings::default()
    }
}

fn of(settings: Settings) -> GraphWriter {
    GraphWriter::new(DIMENSIONS, settings).unwrap()
}

pub fn graph(metric: Metric, links_per_publish: usize) -> GraphWriter {
    of(Settings {
        links_per_publish,
        ..all_in(metric)
    })
}

/// `count` vectors in 40 clusters, of lengths between 0.5 and 1.5.
pub fn clustered(count: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let around = |random: &mut ChaCha8Rng, centre: &[f32], spread: f32| -> Vec<f32> {
        centre
            .iter()
            .map(|x| x + spread * (random.random::<f32>() - 0.5))
            .collect()
    };
    let centres: Vec<_> = (0..40)
        .map(|_| around(&mut random, &[0.0; DIMENSIONS], 2.0))
        .collect();
    (0..count)
        .map(|i| {
            let cluster = random.random_range(0..40);
            let vector = around(&mut random, &centres[cluster], 0.8);
            let length = (0.5 + (i % 11) as f32 / 10.0) / norm(&vector);
            vector.iter().map(|x| x * length).collect()
        })
        .collect()
}

pub fn norm(vector: &[f32]) -> f32 {
    vector.iter().map(|x| x * x).sum::<f32>().sqrt()
}

pub fn vector(numbers: &[f32]) -> Vector<'_> {
    Vector::check(numbers, DIMENSIONS).unwrap()
}

pub fn fill(writer: &mut dyn IndexWriter, vectors: &[Vec<f32>]) {
    for (id, numbers) in vectors.iter().enumerate() {
        writer.upsert(TrackId(id as u32), vector(numbers)).unwrap();
    }
}

pub fn find(
    index: &dyn Index,
    query: &[f32],
    limit: usize,
    keep: &dyn Fn(TrackId) -> bool,
) -> Vec<Hit> {
    let mut hits = vec![Hit {
        track: TrackId(77),
        score: 9.0,
    }];
    index.search(vector(query), limit, keep, &mut hits).unwrap();
    assert!(hits.len() <= limit);
    assert!(
        hits.is_sorted_by(|a, b| a.order(b).is_lt()),
        "sorted, and no track twice"
    );
    hits
}

pub fn any(_: TrackId) -> bool {
    true
}

/// Mean share of the oracle's hits that `index` has too.
pub fn agreement(
    index: &dyn Index,
    oracle: &dyn Index,
    queries: &[Vec<f32>],
    keep: &dyn Fn(TrackId) -> bool,
) -> f64 {
    let shares = queries.iter().map(|query| {
        let hits: BTreeSet<_> = find(index, query, 10, keep)
            .into_iter()
            .map(|hit| hit.track)
            .collect();
        let true_hits = find(oracle, query, 10, keep);
        assert_eq!(hits.len(), true_hits.len());
        true_hits
            .iter()
            .filter(|hit| hits.contains(&hit.track))
            .count() as f64
            / true_hits.len() as f64
    });
    shares.sum::<f64>() / queries.len() as f64
}

pub fn oracle(metric: Metric, vectors: &[Vec<f32>]) -> Arc<dyn Index> {
    let mut writer = KINDS[0].1(metric);
    fill(&mut *writer, vectors);
    writer.publish(0)
}

/// Those of the vectors that a search for themselves does not find among ten.
pub fn lost(index: &dyn Index, vectors: &[Vec<f32>]) -> Vec<usize> {
    let is_lost = |&id: &usize| {
        let hits = find(index, &vectors[id], 10, &any);
        let own = hits.iter().find(|hit| hit.track.row() == id);
        // Or ten of its twins came first.
        own.is_none() && hits.iter().any(|hit| hit.score < hits[0].score)
    };
    (0..vectors.len()).filter(is_lost).collect()
}
