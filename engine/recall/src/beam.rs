//! The search of one layer: from some points along the links to those most similar to a probe.
//!
//! It is best-first, as in HNSW (Malkov & Yashunin, 2018): of all points met the `breadth` best are
//! held, the best one that has not been looked at is looked at next, and the end is when there is
//! none. They are held in one sorted list, of one number per point: similarity before slot, so the
//! outcome never depends on chance. All unmet neighbours of a point are compared in one go.

use crate::links::{Ground, Layer, Links, Upper};
use crate::met::Met;
use crate::rows::{Probe, Rows};

/// Bits of a held point's number that are not its similarity: the node, and whether it was looked at.
const NODE: u64 = 0xffff_ffff;

/// Nodes are below this: a bit is taken for whether they were looked at.
pub const MOST_NODES: u32 = 1 << 31;

/// Heads of the first layer from which a search goes down to the ground.
const WAYS_DOWN: usize = 4;

/// What a search needs room for, kept for the next one.
#[derive(Default)]
pub struct Beam {
    met: Met,
    /// The points held, best first.
    held: Vec<u64>,
    nodes: Vec<u32>,
    slots: Vec<u32>,
    similarities: Vec<f32>,
    /// Slots at which a search of the ground begins.
    ways: Vec<u32>,
    /// Points compared since [`Beam::begin`].
    pub compared: usize,
}

/// A point with its similarity.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Near {
    pub node: u32,
    pub similarity: f32,
}

/// Smaller is more similar, then the smaller node.
fn key(near: Near) -> u64 {
    let bits = near.similarity.to_bits();
    let ascending = if bits >> 31 == 1 {
        !bits
    } else {
        bits | 1 << 31
    };
    u64::from(!ascending) << 32 | u64::from(near.node) << 1
}

fn near(key: u64) -> Near {
    let ascending = !((key >> 32) as u32);
    let bits = if ascending >> 31 == 1 {
        ascending & !(1 << 31)
    } else {
        !ascending
    };
    Near {
        node: ((key & NODE) >> 1) as u32,
        similarity: f32::from_bits(bits),
    }
}

impl Beam {
    /// A count of its own for what follows.
    pub fn begin(&mut self) {
        self.compared = 0;
    }

    /// The points held, best first.
    pub fn held(&self) -> impl ExactSizeIterator<Item = Near> {
        self.held.iter().map(|&held| near(held))
    }

    /// From the entry down to the layer above `layer`, each time to the best point near by; the point
    /// to begin at there, called as on that layer. `None` for a graph without points.
    pub fn descend(
        &mut self,
        links: &Links,
        rows: &Rows,
        probe: Probe<'_>,
        layer: u32,
    ) -> Option<u32> {
        let mut at = links.entry?;
        let mut best = self.compare_one(rows, probe, links.slot(at, 1));
        for above in (layer + 1..=links.top()).rev() {
            let upper = Upper(links, above);
            loop {
                self.nodes.clear();
                self.nodes.extend_from_slice(upper.links(at));
                self.compare(&upper, rows, probe);
                let before = at;
                for (&node, &similarity) in self.nodes.iter().zip(&self.similarities) {
                    if similarity > best {
                        (at, best) = (node, similarity);
                    }
                }
                if at == before {
                    break;
                }
            }
        }
        Some(if layer == 0 { links.slot(at, 1) } else { at })
    }

    /// Searches the ground for a query; afterwards [`Beam::held`] are the best, at most `breadth`. False for
    /// a graph without points.
    ///
    /// On the layer above it more than one way down is looked for: where tracks lie in clusters, the one best
    /// head may stand in another cluster than the best tracks do.
    pub fn seek(&mut self, links: &Links, rows: &Rows, probe: Probe<'_>, breadth: usize) -> bool {
        let Some(head) = self.descend(links, rows, probe, 1) else {
            return false;
        };
        let upper = Upper(links, 1);
        self.explore(&upper, rows, probe, &[head], WAYS_DOWN);
        let mut ways = std::mem::take(&mut self.ways);
        ways.clear();
        ways.extend(self.held.iter().map(|&held| upper.slot(near(held).node)));
        self.explore(&Ground(links), rows, probe, &ways, breadth);
        self.ways = ways;
        true
    }

    /// Searches a layer from `from`; afterwards [`Beam::held`] are the best, at most `breadth`.
    pub fn search(
        &mut self,
        links: &Links,
        layer: u32,
        rows: &Rows,
        probe: Probe<'_>,
        from: u32,
        breadth: usize,
    ) {
        if layer == 0 {
            self.explore(&Ground(links), rows, probe, &[from], breadth);
        } else {
            self.explore(&Upper(links, layer), rows, probe, &[from], breadth);
        }
    }

    fn explore<L: Layer>(
        &mut self,
        layer: &L,
        rows: &Rows,
        probe: Probe<'_>,
        starts: &[u32],
        breadth: usize,
    ) {
        self.held.clear();
        let beyond = starts.iter().max().map_or(0, |&last| last + 1);
        self.met.make_room(layer.nodes().max(beyond));
        for &node in starts.iter().take(breadth.max(1)) {
            if self.met.meet(node) {
                let similarity = self.compare_one(rows, probe, layer.slot(node));
                self.held.push(key(Near { node, similarity }));
            }
        }
        self.held.sort_unstable();
        let mut next = 0;
        while let Some(held) = self.held.get_mut(next) {
            let node = near(*held).node;
            *held |= 1;
            self.gather(layer.links(node));
            next += 1;
            // Likely to be looked at next: its links come while rows are compared.
            if let Some(&held) = self.held.get(next) {
                layer.prefetch(near(held).node);
            }
            self.compare(layer, rows, probe);
            for at in 0..self.nodes.len().min(self.similarities.len()) {
                let new = key(Near {
                    node: self.nodes[at],
                    similarity: self.similarities[at],
                });
                if self.held.len() >= breadth {
                    match self.held.last() {
                        Some(&worst) if new < worst => self.held.pop(),
                        _ => continue,
                    };
                }
                let place = self.held.partition_point(|&other| other < new);
                self.held.insert(place, new);
                if place <= next {
                    next = place;
                    layer.prefetch(self.nodes[at]);
                }
            }
            while self.held.get(next).is_some_and(|held| held & 1 == 1) {
                next += 1;
            }
        }
        self.met.clear();
    }

    /// Of some links, those that had not been met. Whether one had cannot be foretold, so it is written in
    /// any case and only counted if not: no branch to guess wrong.
    #[inline(always)]
    fn gather(&mut self, links: &[u32]) {
        self.nodes.resize(links.len(), 0);
        let mut count = 0;
        for &link in links {
            self.nodes[count] = link;
            count += usize::from(self.met.meet(link));
        }
        self.nodes.truncate(count);
    }

    /// The similarities of the nodes gathered.
    #[inline(always)]
    fn compare<L: Layer>(&mut self, layer: &L, rows: &Rows, probe: Probe<'_>) {
        self.compared += self.nodes.len();
        self.slots.clear();
        self.slots
            .extend(self.nodes.iter().map(|&node| layer.slot(node)));
        rows.similarities(probe, &self.slots, &mut self.similarities);
    }

    fn compare_one(&mut self, rows: &Rows, probe: Probe<'_>, slot: u32) -> f32 {
        self.compared += 1;
        rows.similarities(probe, &[slot], &mut self.similarities);
        self.similarities.first().copied().unwrap_or(f32::MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_similarity_and_read_back() {
        let numbers = [f32::MAX, 2.5, 1e-40, 0.0, -1e-40, -3.0, f32::MIN];
        let nears = numbers.map(|similarity| Near {
            node: MOST_NODES - 1,
            similarity,
        });
        assert!(nears.is_sorted_by_key(|&one| key(one)));
        for one in nears {
            assert_eq!(near(key(one)), one);
            assert_eq!(near(key(one) | 1), one);
        }
    }
}
