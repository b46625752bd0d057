//! hnsw_rs behind a fence: a builder that keeps a graph of its own, of which the flat one is a copy.
//!
//! It has no way to look at one point, so the copy is made in one pass over all of them, now and then;
//! and it drops links to the farthest without asking whether they were the last, so the copy puts the
//! missing ways back: where there is room, all that lead the other way, and always one to each point.

use std::panic::{AssertUnwindSafe, catch_unwind};

use hnsw_rs::anndists::dist::distances::Distance;
use hnsw_rs::hnsw::Hnsw;

use crate::builder::{Broken, Builder};
use crate::lanes::squared_distance;
use crate::mesh::Mesh;
use crate::rows::Rows;
use crate::settings::Metric;

/// Layers of the graph; with m = 2, the least, 16 layers serve 65,536 points well.
const LAYERS: usize = 16;
/// What hnsw_rs reserves room for at first; it grows past it.
const FIRST_POINTS: usize = 1024;

/// The foreign graph. Points are of length 1, so distances lie in [0, 4] and nothing in it can meet the
/// NaN that it panics on; should it panic all the same, that ends here as [`Broken`].
pub struct Foreign {
    graph: Hnsw<'static, f32, UnitDistance>,
    /// Under inner product: the length that is mapped to 1.
    radius: Option<f64>,
}

/// A point's slot, and its links on each layer, from the ground.
type Linked = (u32, Vec<Vec<u32>>);

impl Foreign {
    /// An empty graph of `m` links a point.
    pub fn new(m: usize, ef_construction: usize) -> Self {
        Self {
            graph: Hnsw::new(m, FIRST_POINTS, LAYERS, ef_construction, UnitDistance),
            radius: None,
        }
    }

    /// A row as a point of length 1: under inner product with one component more, as in
    /// [`Rows::similarities`]. A row that is longer than the radius is taken for its direction.
    fn point(&mut self, row: &[f32], rows: &Rows) -> Vec<f32> {
        if rows.metric() == Metric::Cosine {
            return row.to_vec();
        }
        // Twice the longest of the first ones, so that a somewhat longer one still fits in.
        let radius = *self.radius.get_or_insert(2.0 * rows.longest());
        let norm = row
            .iter()
            .map(|&x| f64::from(x) * f64::from(x))
            .sum::<f64>()
            .sqrt();
        let length = radius.max(norm).max(f64::MIN_POSITIVE);
        let mut point: Vec<f32> = row
            .iter()
            .map(|&x| (f64::from(x) / length) as f32 + 0.0)
            .collect();
        let share = norm / length;
        point.push((1.0 - share * share).max(0.0).sqrt() as f32);
        point
    }

    /// Every point with its links.
    fn all(&self) -> Result<Vec<Linked>, Broken> {
        fenced(|| {
            let points = self.graph.get_point_indexation();
            let top = usize::from(self.graph.get_max_level_observed());
            let mut all = Vec::new();
            for level in 0..=top {
                for point in points.get_layer_iterator(level) {
                    let layers = point.get_neighborhood_id();
                    let layers = layers.iter().take(level + 1);
                    let links = |layer: &Vec<hnsw_rs::hnsw::Neighbour>| {
                        layer.iter().map(|link| link.d_id as u32).collect()
                    };
                    all.push((point.get_origin_id() as u32, layers.map(links).collect()));
                }
            }
            all
        })
    }
}

impl Builder for Foreign {
    fn link(
        &mut self,
        slot: u32,
        mesh: &mut Mesh,
        rows: &Rows,
        _: &dyn Fn(u32) -> bool,
    ) -> Result<(), Broken> {
        let point = self.point(&rows.row(slot), rows);
        mesh.add(slot);
        fenced(|| self.graph.insert((&point, slot as usize)))
    }

    fn lay(&mut self, mesh: &mut Mesh, rows: &Rows) -> Result<(), Broken> {
        let all = self.all()?;
        for (slot, layers) in &all {
            let level = layers.len().saturating_sub(1) as u32;
            let first = mesh.links.entry.is_none();
            if (level > 0 || first) && !mesh.head_of.contains_key(slot) {
                mesh.crown(*slot, level.max(1));
            }
        }
        for (slot, layers) in &all {
            for (layer, links) in layers.iter().enumerate() {
                let room = mesh.links.room(layer as u32);
                if layer == 0 {
                    let links: Vec<u32> = links.iter().copied().take(room).collect();
                    mesh.write(*slot, 0, &links);
                } else if let Some(&head) = mesh.head_of.get(slot) {
                    let heads = links.iter().filter_map(|slot| mesh.head_of.get(slot));
                    let heads = heads
                        .copied()
                        .filter(|&head| mesh.links.level(head) >= layer as u32);
                    let links: Vec<u32> = heads.take(room).collect();
                    mesh.write(head, layer as u32, &links);
                }
            }
        }
        for (slot, layers) in &all {
            for &other in layers.first().into_iter().flatten() {
                let room = mesh.links.of(other, 0).len() < mesh.links.room(0);
                if room || mesh.incoming(*slot) == 0 {
                    mesh.join(rows, other, 0, *slot);
                }
            }
        }
        Ok(())
    }

    fn lags(&self) -> bool {
        true
    }
}

/// Runs foreign code; after a panic of it, it is not used any more.
fn fenced<T>(call: impl FnOnce() -> T) -> Result<T, Broken> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|_| Broken)
}

struct UnitDistance;

impl Distance<f32> for UnitDistance {
    fn eval(&self, a: &[f32], b: &[f32]) -> f32 {
        squared_distance(a, b)
    }
}
