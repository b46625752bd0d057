//! Vectors that lie as embeddings of tracks do: in clusters of very different sizes, each of few
//! dimensions of its own, with some noise in all.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal, Zipf};
use segue_listen::TrackId;
use segue_recall::{ExactWriter, Hit, IndexWriter, Settings, Vector};

const CLUSTERS: usize = 1000;
/// Dimensions of a cluster.
const LOCAL: usize = 16;
const SPREAD: f32 = 0.5;
const NOISE: f32 = 0.05;
/// Hits that are asked for.
pub const K: usize = 10;

/// Vectors, row after row, and queries like them.
pub struct World {
    pub dimensions: usize,
    pub rows: Vec<f32>,
    pub queries: Vec<f32>,
}

impl World {
    /// Of a seed. Every vector has length 1, so that every peer means the same by near.
    pub fn make(
        count: usize,
        dimensions: usize,
        queries: usize,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let normal = |random: &mut ChaCha8Rng| -> f32 { StandardNormal.sample(random) };
        let centres: Vec<f32> = (0..CLUSTERS * dimensions)
            .map(|_| normal(&mut random))
            .collect();
        let axes: Vec<f32> = (0..CLUSTERS * LOCAL * dimensions)
            .map(|_| normal(&mut random))
            .collect();
        let sizes = Zipf::new(CLUSTERS as f32, 1.0)?;
        let mut draw = |count: usize| {
            let mut rows = Vec::with_capacity(count * dimensions);
            for _ in 0..count {
                let cluster = (sizes.sample(&mut random) as usize).clamp(1, CLUSTERS) - 1;
                let place: [f32; LOCAL] = std::array::from_fn(|_| SPREAD * normal(&mut random));
                let start = rows.len();
                rows.extend((0..dimensions).map(|at| {
                    let local = place.iter().enumerate().map(|(axis, along)| {
                        along * axes[(cluster * LOCAL + axis) * dimensions + at]
                    });
                    centres[cluster * dimensions + at] + local.sum::<f32>() / 4.0
                }));
                let row = &mut rows[start..];
                row.iter_mut()
                    .for_each(|x| *x += NOISE * normal(&mut random));
                let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
                row.iter_mut().for_each(|x| *x /= norm);
            }
            rows
        };
        Ok(Self {
            dimensions,
            rows: draw(count),
            queries: draw(queries),
        })
    }

    /// Vectors.
    pub fn count(&self) -> usize {
        self.rows.len() / self.dimensions
    }

    /// A vector.
    pub fn row(&self, at: usize) -> anyhow::Result<Vector<'_>> {
        vector(&self.rows, at, self.dimensions)
    }

    /// The queries.
    pub fn queries(&self) -> anyhow::Result<Vec<Vector<'_>>> {
        let count = self.queries.len() / self.dimensions;
        (0..count)
            .map(|at| vector(&self.queries, at, self.dimensions))
            .collect()
    }

    /// What exact search finds for each query: [`K`] tracks, those of one query after those of another.
    pub fn truth(&self, keep: &dyn Fn(TrackId) -> bool) -> anyhow::Result<Vec<u32>> {
        let mut writer = ExactWriter::new(self.dimensions, &Settings::default())?;
        for at in 0..self.count() {
            writer.upsert(TrackId(u32::try_from(at)?), self.row(at)?)?;
        }
        let index = writer.publish(0);
        let (mut truth, mut hits) = (Vec::new(), Vec::<Hit>::new());
        for query in self.queries()? {
            index.search(query, K, keep, &mut hits)?;
            truth.extend(hits.iter().map(|hit| hit.track.0));
        }
        Ok(truth)
    }
}

fn vector(numbers: &[f32], at: usize, dimensions: usize) -> anyhow::Result<Vector<'_>> {
    let row = numbers
        .get(at * dimensions..(at + 1) * dimensions)
        .context("a vector that is not there")?;
    Ok(Vector::check(row, dimensions)?)
}

/// Writes numbers as they lie in memory, for a program in Python to read.
pub fn write(path: &Path, numbers: impl Iterator<Item = [u8; 4]>) -> anyhow::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    for number in numbers {
        file.write_all(&number)?;
    }
    file.flush().with_context(|| path.display().to_string())
}
