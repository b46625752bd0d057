//! Taking dead points out of a graph while it serves (as FreshDiskANN consolidates; Singh et al.,
//! 2021): step by step, whoever links to a dead point is linked to what that one led to. When nothing
//! leads to the dead any more their slots are free for other rows.

use crate::beam::Near;
use crate::mesh::Mesh;
use crate::rows::{Probe, Rows};
use crate::slots::Slots;

/// Slots that a step looks at per point that it may mend: most have nothing to mend.
const LOOKS: usize = 16;
/// Dead points that are gone through to mend one.
const THROUGH: usize = 64;
/// Candidates with which it is tried whether a point is found.
const AUDIT_BREADTH: usize = 48;

/// A sweep under way.
pub struct Sweep {
    /// Dead when it began: these it takes out.
    doomed: Vec<u32>,
    /// The next slot to look at.
    cursor: u32,
    end: u32,
}

impl Sweep {
    /// Of all that are dead now.
    pub fn begin(mesh: &Mesh, slots: &Slots) -> Self {
        let doomed = (0..slots.used).filter(|&slot| mesh.has(slot) && !slots.alive(slot));
        Self {
            doomed: doomed.collect(),
            cursor: 0,
            end: slots.used,
        }
    }

    /// Mends up to `at_most` points; whether every one has been looked at.
    pub fn step(
        &mut self,
        at_most: usize,
        ef_construction: usize,
        mesh: &mut Mesh,
        rows: &Rows,
        slots: &Slots,
    ) -> bool {
        let (mut mended, mut looked) = (0, 0);
        while self.cursor < self.end && mended < at_most && looked < at_most.saturating_mul(LOOKS) {
            let slot = self.cursor;
            self.cursor += 1;
            looked += 1;
            if !mesh.has(slot) || !slots.alive(slot) {
                continue;
            }
            mended += usize::from(mend(slot, 0, ef_construction, mesh, rows, slots));
            if let Some(&head) = mesh.head_of.get(&slot) {
                for layer in 1..=mesh.links.level(head) {
                    mend(head, layer, ef_construction, mesh, rows, slots);
                }
            }
        }
        self.cursor >= self.end
    }

    /// Takes the doomed out; the slots that are free now.
    pub fn finish(
        self,
        ef_construction: usize,
        mesh: &mut Mesh,
        rows: &Rows,
        slots: &Slots,
    ) -> Vec<u32> {
        let enters = |mesh: &Mesh| {
            let entry = mesh.links.entry;
            entry.is_some_and(|entry| slots.alive(mesh.links.slot(entry, 1)))
        };
        if !enters(mesh) {
            // The highest of the heads that are left, then the first.
            let heads = (0..mesh.links.heads_used).filter(|&head| {
                let slot = mesh.links.slot(head, 1);
                mesh.head_of.get(&slot) == Some(&head) && slots.alive(slot)
            });
            let best = heads.max_by_key(|&head| (mesh.links.level(head), u32::MAX - head));
            mesh.links.entry = best;
            if best.is_none()
                && let Some(slot) = slots.alive_ones().find(|&slot| mesh.has(slot))
            {
                mesh.crown(slot, 1);
            }
        }
        let mut cut_off = Vec::new();
        for &slot in &self.doomed {
            cut_off.extend_from_slice(mesh.links.of(slot, 0));
            cut_off.extend(mesh.take_bridges(slot));
            mesh.write(slot, 0, &[]);
            mesh.uncrown(slot);
        }
        cut_off.retain(|&slot| slots.alive(slot));
        cut_off.sort_unstable();
        cut_off.dedup();
        for slot in cut_off {
            audit(slot, ef_construction, mesh, rows, slots);
        }
        // Some may have been linked to since, for want of others: the next sweep takes them out.
        let nothing_leads_to = |&slot: &u32| mesh.incoming(slot) == 0;
        let free: Vec<u32> = self.doomed.into_iter().filter(nothing_leads_to).collect();
        free.iter().for_each(|&slot| mesh.drop_point(slot));
        free
    }
}

/// Mends one point's links on a layer, if some lead to the dead; whether they did.
fn mend(
    node: u32,
    layer: u32,
    ef_construction: usize,
    mesh: &mut Mesh,
    rows: &Rows,
    slots: &Slots,
) -> bool {
    let links = mesh.links.of(node, layer);
    let dead = |mesh: &Mesh, other: u32| !slots.alive(mesh.links.slot(other, layer));
    if !links.iter().any(|&other| dead(mesh, other)) {
        return false;
    }
    let mut nodes = Vec::new();
    // What the dead led to, and the dead behind the dead.
    let mut open = links.to_vec();
    let mut through = Vec::new();
    while let Some(other) = open.pop() {
        if !dead(mesh, other) {
            nodes.push(other);
        } else if through.len() < THROUGH && !through.contains(&other) {
            through.push(other);
            open.extend_from_slice(mesh.links.of(other, layer));
        }
    }
    nodes.sort_unstable();
    nodes.dedup();
    nodes.retain(|&other| other != node);
    if layer == 0 {
        mesh.prune_bridges(node, |to| slots.alive(to));
    }
    if nodes.is_empty() {
        relink(node, layer, ef_construction, mesh, rows, slots);
    } else {
        mesh.reselect(rows, node, layer, &nodes);
    }
    true
}

/// Looks for a point by its own row. If it is not found, those nearest to it are linked to it for good.
pub fn audit(slot: u32, ef_construction: usize, mesh: &mut Mesh, rows: &Rows, slots: &Slots) {
    if mesh.incoming(slot) > 0 && finds(slot, AUDIT_BREADTH, mesh, rows) {
        return;
    }
    relink(slot, 0, ef_construction, mesh, rows, slots);
    if finds(slot, AUDIT_BREADTH, mesh, rows) {
        return;
    }
    let nearest = mesh
        .beam
        .held()
        .map(|near| near.node)
        .find(|&other| other != slot && slots.alive(other));
    if let Some(nearest) = nearest {
        mesh.bridge(rows, nearest, slot);
    }
}

/// Whether a search for a point's own row meets it; what else it met is held.
fn finds(slot: u32, breadth: usize, mesh: &mut Mesh, rows: &Rows) -> bool {
    let mut room = Vec::new();
    let probe = Probe::query(rows.read(slot, &mut room));
    mesh.beam.seek(&mesh.links, rows, probe, breadth)
        && mesh.beam.held().any(|near| near.node == slot)
}

/// Links a point again, as if it were new.
fn relink(
    node: u32,
    layer: u32,
    ef_construction: usize,
    mesh: &mut Mesh,
    rows: &Rows,
    slots: &Slots,
) {
    let mut room = Vec::new();
    let slot = mesh.links.slot(node, layer);
    let probe = rows.point(slot, rows.read(slot, &mut room));
    let highest = layer.min(mesh.links.top());
    if highest < layer {
        mesh.write(node, layer, &[]);
        return;
    }
    let Some(at) = mesh.beam.descend(&mesh.links, rows, probe, layer) else {
        return;
    };
    mesh.beam
        .search(&mesh.links, layer, rows, probe, at, ef_construction);
    let links = &mesh.links;
    let candidates: Vec<Near> = mesh
        .beam
        .held()
        .filter(|near| near.node != node && slots.alive(links.slot(near.node, layer)))
        .collect();
    let m = mesh.links.room(1);
    mesh.connect(rows, node, layer, &candidates, m);
}
