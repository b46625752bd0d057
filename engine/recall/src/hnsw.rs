//! Our own builder: HNSW as in the paper (Malkov & Yashunin, 2018), on the flat graph itself, so that
//! what is linked is at once what is served.

use crate::beam::Near;
use crate::builder::{Broken, Builder};
use crate::mesh::Mesh;
use crate::rows::Rows;

/// Links points one by one. What the graph is follows from the order of the points and the seed.
pub struct Hnsw {
    m: usize,
    ef_construction: usize,
    seed: u64,
    /// Points linked so far.
    linked: u64,
    point: Vec<f32>,
    candidates: Vec<Near>,
}

impl Hnsw {
    /// With `m` links a point and `ef_construction` candidates for them.
    pub fn new(m: usize, ef_construction: usize, seed: u64) -> Self {
        Self {
            m,
            ef_construction,
            seed,
            linked: 0,
            point: Vec::new(),
            candidates: Vec::new(),
        }
    }
}

/// The level of the point of a number: at least `l` for one in `m` to the power of `l`.
fn level(number: u64, seed: u64, m: usize) -> u32 {
    // SplitMix64's finish (Steele et al., 2014).
    let mut bits = number
        .wrapping_add(seed)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    let (mut level, mut share) = (0, u64::MAX / m as u64);
    while bits < share {
        level += 1;
        share /= m as u64;
    }
    level
}

impl Builder for Hnsw {
    fn link(
        &mut self,
        slot: u32,
        mesh: &mut Mesh,
        rows: &Rows,
        alive: &dyn Fn(u32) -> bool,
    ) -> Result<(), Broken> {
        // From one on: number 0 and seed 0 would draw the bits 0, the highest of all levels.
        self.linked = self.linked.wrapping_add(1);
        let level = level(self.linked, self.seed, self.m);
        let mut room = std::mem::take(&mut self.point);
        let probe = rows.point(slot, rows.read(slot, &mut room));
        let before = mesh.links.entry;
        let top = mesh.links.top();
        mesh.add(slot);
        if let Some(entry) = before {
            let highest = level.min(top);
            let mut at = mesh
                .beam
                .descend(&mesh.links, rows, probe, highest)
                .unwrap_or(entry);
            let head = (level > 0).then(|| mesh.crown(slot, level));
            for layer in (0..=highest).rev() {
                mesh.beam
                    .search(&mesh.links, layer, rows, probe, at, self.ef_construction);
                self.candidates.clear();
                let links = &mesh.links;
                let live = mesh.beam.held().filter(|near| {
                    let other = links.slot(near.node, layer);
                    other != slot && alive(other)
                });
                self.candidates.extend(live);
                if self.candidates.is_empty() {
                    // Among dead points only: still a way in, until they are swept out.
                    let held = mesh
                        .beam
                        .held()
                        .filter(|near| links.slot(near.node, layer) != slot);
                    self.candidates.extend(held);
                }
                if let Some(best) = mesh.beam.held().next() {
                    at = if layer == 1 {
                        links.slot(best.node, 1)
                    } else {
                        best.node
                    };
                }
                let node = if layer == 0 { slot } else { head.unwrap_or(0) };
                mesh.connect(rows, node, layer, &self.candidates, self.m);
            }
        } else {
            // The first point is a head, so that a search has where to begin.
            mesh.crown(slot, level.max(1));
        }
        self.point = room;
        Ok(())
    }

    fn linked(&self) -> u64 {
        self.linked
    }

    fn resume(&mut self, linked: u64) {
        self.linked = linked;
    }

    fn mends(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_as_rare_as_they_should_be() {
        let count = |m, least| (1..=100_000).filter(|&n| level(n, 7, m) >= least).count();
        assert!((5_900..6_600).contains(&count(16, 1)), "{}", count(16, 1));
        assert!((330..460).contains(&count(16, 2)), "{}", count(16, 2));
        assert!((49_000..51_000).contains(&count(2, 1)));
    }
}
