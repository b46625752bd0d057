//! hnsw_rs behind a fence, and what it lacks: points that can be forgotten, twins, and the knowledge
//! of what it cannot find.
//!
//! A *slot* is a point of the foreign graph, numbered in order of insertion and never reused. Exact
//! twins share a slot, because hnsw_rs loses points among duplicates. An updated track moves to a new
//! slot; a slot without tracks is dead, and stays as a stepping stone. Tracks without a slot are
//! either *waiting* for one or *astray* (the graph does not find them); searches look at both exactly.
//! A slot is also the *ward* of its nearest one, through which it is found should the graph lose it.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use foldhash::fast::FixedState;
use hnsw_rs::anndists::dist::distances::Distance;
use hnsw_rs::hnsw::Hnsw;
use segue_listen::TrackId;

use crate::lanes::{dot, squared_distance};
use crate::pages::Pages;
use crate::settings::{Metric, Settings};
use crate::vectors::VectorTable;

/// Layers of the graph; with m = 2, the least, 16 layers serve 65,536 points well.
const LAYERS: usize = 16;
/// What hnsw_rs reserves room for at first; it grows past it.
const FIRST_POINTS: usize = 1024;
/// Points of a graph at which it is first looked through for unreachable ones, and then each time
/// that a quarter has been added.
const FIRST_AUDIT: u32 = 256;

/// A graph that is being grown, by one writer.
pub struct Mesh {
    pub links: Arc<Links>,
    pub slots: Slots,
    /// A slot for each vector's hash, to find twins.
    twins: HashMap<u64, u32, FixedState>,
    hash_of_slot: Vec<u64>,
    queue: VecDeque<TrackId>,
    waiting: HashSet<TrackId, FixedState>,
    astray: BTreeSet<TrackId>,
    next_audit: u32,
    ef_search: usize,
    /// Vectors met that are too long for this graph.
    pub outgrown: usize,
    /// Whether hnsw_rs panicked: the graph is not to be used any more.
    pub broken: bool,
}

impl Mesh {
    /// An empty graph for rows like those of `table`, whose tracks all wait to be linked.
    pub fn new(settings: &Settings, table: &VectorTable) -> Self {
        let radius = match settings.metric {
            Metric::Cosine => None,
            // Twice the longest, so that a somewhat longer one still fits in.
            Metric::InnerProduct => {
                let longest = table
                    .iter()
                    .map(|(_, row)| dot(row, row))
                    .fold(0.0, f32::max);
                Some(2.0 * f64::from(longest).sqrt())
            }
        };
        let graph = Hnsw::new(
            settings.m,
            FIRST_POINTS,
            LAYERS,
            settings.ef_construction,
            UnitDistance,
        );
        let mut mesh = Self {
            links: Arc::new(Links { graph, radius }),
            slots: Slots::default(),
            twins: HashMap::default(),
            hash_of_slot: Vec::new(),
            queue: VecDeque::new(),
            waiting: HashSet::default(),
            astray: BTreeSet::new(),
            next_audit: FIRST_AUDIT,
            ef_search: settings.ef_search,
            outgrown: 0,
            broken: false,
        };
        table.iter().for_each(|(track, _)| mesh.expect(track));
        mesh
    }

    /// Puts a track that has no slot into the queue for one.
    pub fn expect(&mut self, track: TrackId) {
        if self.waiting.insert(track) {
            self.queue.push_back(track);
        }
    }

    /// Forgets where a track was.
    pub fn forget(&mut self, track: TrackId) {
        if self.waiting.remove(&track) {
            self.queue.retain(|&other| other != track);
        }
        self.astray.remove(&track);
        if let Some(slot) = self.slots.release(track) {
            self.disown(slot);
        }
    }

    /// Links up to `at_most` waiting tracks, in order of arrival; returns how many.
    pub fn settle(&mut self, at_most: usize, table: &VectorTable) -> usize {
        let mut settled = 0;
        while settled < at_most && !self.broken {
            let Some(track) = self.queue.pop_front() else {
                break;
            };
            self.waiting.remove(&track);
            if let Some(row) = table.row(track) {
                self.link(track, row, table);
                settled += 1;
            }
        }
        if self.slots.used >= self.next_audit && !self.broken {
            self.audit();
        }
        settled
    }

    /// Tracks that wait to be linked.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Tracks that the graph was found not to find.
    pub fn astray(&self) -> usize {
        self.astray.len()
    }

    /// Every track that a search must look at itself.
    pub fn unlinked(&self) -> Vec<TrackId> {
        self.astray.iter().chain(&self.queue).copied().collect()
    }

    fn link(&mut self, track: TrackId, row: &[f32], table: &VectorTable) {
        let hash = hash_of(row);
        if let Some(&slot) = self.twins.get(&hash)
            && let Some(twin) = self.slots.first(slot)
            && table.row(twin) == Some(row)
        {
            self.slots.place(track, slot);
            return;
        }
        let Some(point) = self.links.point(row) else {
            self.astray.insert(track);
            self.outgrown += 1;
            return;
        };
        let slot = self.slots.used;
        if self.links.insert(&point, slot).is_none() {
            self.broken = true;
            self.astray.insert(track);
            return;
        }
        self.slots.used += 1;
        self.hash_of_slot.push(hash);
        self.slots.place(track, slot);
        self.twins.insert(hash, slot);
        // The graph's promise, checked: what was linked is found by its own vector.
        match self.links.search(&point, self.ef_search) {
            Some(found) => {
                if let Some(&guardian) = found.iter().find(|&&other| other < slot) {
                    self.slots.entrust(slot, guardian);
                }
                if !found.contains(&slot) {
                    self.lead_astray(slot);
                }
            }
            None => self.broken = true,
        }
    }

    /// Looks for points that later ones have cut off from the entry.
    fn audit(&mut self) {
        self.next_audit = self
            .slots
            .used
            .saturating_add((self.slots.used / 4).max(FIRST_AUDIT));
        let Some(reached) = self.links.reached(self.slots.used) else {
            self.broken = true;
            return;
        };
        for (slot, &reached) in reached.iter().enumerate() {
            if !reached {
                self.lead_astray(slot as u32);
            }
        }
    }

    fn lead_astray(&mut self, slot: u32) {
        while let Some(track) = self.slots.first(slot) {
            self.slots.release(track);
            self.astray.insert(track);
        }
        self.disown(slot);
    }

    /// A dead slot is nobody's twin.
    fn disown(&mut self, slot: u32) {
        if let Some(hash) = self.hash_of_slot.get(slot as usize)
            && self.twins.get(hash) == Some(&slot)
        {
            self.twins.remove(hash);
        }
    }
}

/// Which tracks sit on which slot. A clone is a snapshot and costs a few pointers.
#[derive(Clone, Default)]
pub struct Slots {
    slot_of: Pages,
    first: Pages,
    next: Pages,
    previous: Pages,
    /// The wards of a slot, as a list: the first by guardian, the others by the ward before.
    first_ward: Pages,
    next_ward: Pages,
    /// Slots given out; those of a graph beyond that are not of this snapshot.
    pub used: u32,
    /// Slots with a track on them.
    pub live: u32,
}

impl Slots {
    /// The tracks on a slot.
    pub fn tracks(&self, slot: u32) -> impl Iterator<Item = TrackId> {
        std::iter::successors(self.first.get(slot), |&track| self.next.get(track)).map(TrackId)
    }

    /// The slots that had this one as their nearest when they were linked. hnsw_rs drops links again
    /// when it links other points, and with them the only way to some; these stay, so whoever is near
    /// a point comes to know of it.
    pub fn wards(&self, slot: u32) -> impl Iterator<Item = u32> {
        std::iter::successors(self.first_ward.get(slot), |&ward| self.next_ward.get(ward))
    }

    fn entrust(&mut self, ward: u32, guardian: u32) {
        self.next_ward.set(ward, self.first_ward.get(guardian));
        self.first_ward.set(guardian, Some(ward));
    }

    fn first(&self, slot: u32) -> Option<TrackId> {
        self.first.get(slot).map(TrackId)
    }

    fn place(&mut self, track: TrackId, slot: u32) {
        let behind = self.first.get(slot);
        self.next.set(track.0, behind);
        self.previous.set(track.0, None);
        match behind {
            Some(behind) => self.previous.set(behind, Some(track.0)),
            None => self.live += 1,
        }
        self.first.set(slot, Some(track.0));
        self.slot_of.set(track.0, Some(slot));
    }

    /// Takes a track off its slot; the slot, if it is dead now.
    fn release(&mut self, track: TrackId) -> Option<u32> {
        let slot = self.slot_of.get(track.0)?;
        let (previous, next) = (self.previous.get(track.0), self.next.get(track.0));
        match previous {
            Some(previous) => self.next.set(previous, next),
            None => self.first.set(slot, next),
        }
        if let Some(next) = next {
            self.previous.set(next, previous);
        }
        self.slot_of.set(track.0, None);
        if self.first.get(slot).is_some() {
            return None;
        }
        self.live -= 1;
        Some(slot)
    }
}

/// The foreign graph. Points are of length 1, so distances lie in [0, 4] and nothing in it can meet
/// the NaN that it panics on; should it panic all the same, that ends here as `None`.
pub struct Links {
    graph: Hnsw<'static, f32, UnitDistance>,
    /// Under inner product: the length that is mapped to 1.
    radius: Option<f64>,
}

impl Links {
    /// The slots nearest to a point, at most `ef`.
    pub fn search(&self, point: &[f32], ef: usize) -> Option<Vec<u32>> {
        fenced(|| {
            let found = self.graph.search(point, ef, ef);
            found
                .iter()
                .map(|neighbour| neighbour.d_id as u32)
                .collect()
        })
    }

    /// A query as a point: direction only.
    pub fn query_point(&self, query: &[f32], factor: f64) -> Vec<f32> {
        let mut point: Vec<f32> = query
            .iter()
            .map(|&x| (f64::from(x) * factor) as f32 + 0.0)
            .collect();
        if self.radius.is_some() {
            point.push(0.0);
        }
        point
    }

    /// A row as a point of length 1. Under inner product one component is added, √(1 − |x|²/r²):
    /// the nearest points are then those of greatest inner product (Bachrach et al., RecSys 2014).
    /// `None` for a row that is longer than the radius.
    fn point(&self, row: &[f32]) -> Option<Vec<f32>> {
        let Some(radius) = self.radius else {
            return Some(row.to_vec());
        };
        let squares: f64 = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        let rest = 1.0 - squares / (radius * radius);
        if !(0.0..=1.0).contains(&rest) {
            return None;
        }
        let mut point = self.query_point(row, 1.0 / radius);
        if let Some(last) = point.last_mut() {
            *last = rest.sqrt() as f32;
        }
        Some(point)
    }

    fn insert(&self, point: &[f32], slot: u32) -> Option<()> {
        fenced(|| self.graph.insert((point, slot as usize)))
    }

    /// For each slot, whether the ground layer leads to it from the entry.
    fn reached(&self, used: u32) -> Option<Vec<bool>> {
        fenced(|| {
            let points = self.graph.get_point_indexation();
            let mut reached = vec![false; used as usize];
            let top = usize::from(self.graph.get_max_level_observed());
            let entry = points.get_layer_iterator(top).next();
            let Some(entry) = entry.map(|point| point.get_origin_id()) else {
                return reached;
            };
            let mut ground: Vec<Vec<u32>> = vec![Vec::new(); used as usize];
            for layer in 0..=top {
                for point in points.get_layer_iterator(layer) {
                    let neighbours = point.get_neighborhood_id();
                    if let Some(links) = ground.get_mut(point.get_origin_id()) {
                        let first = neighbours.first().into_iter().flatten();
                        links.extend(first.map(|neighbour| neighbour.d_id as u32));
                    }
                }
            }
            let mut open = vec![entry as u32];
            while let Some(slot) = open.pop() {
                match reached.get_mut(slot as usize) {
                    Some(seen) if !*seen => *seen = true,
                    _ => continue,
                }
                open.extend_from_slice(&ground[slot as usize]);
            }
            reached
        })
    }
}

/// Runs foreign code; its panic becomes `None`, after which the graph is not used any more.
fn fenced<T>(call: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).ok()
}

struct UnitDistance;

impl Distance<f32> for UnitDistance {
    fn eval(&self, a: &[f32], b: &[f32]) -> f32 {
        squared_distance(a, b)
    }
}

fn hash_of(row: &[f32]) -> u64 {
    let mut hasher = FixedState::with_seed(0).build_hasher();
    row.iter().for_each(|x| hasher.write_u32(x.to_bits()));
    hasher.finish()
}
