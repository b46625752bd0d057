//! The graph index: an HNSW graph for the many, an exact scan for what it does not hold.
//!
//! A track that was given a vector is in the next snapshot at once: first in the exact tail, later,
//! as publications go by, in the graph. Removed and updated tracks leave dead points behind; when they
//! are too many, a second graph is grown beside the first, a few points per publication, and takes
//! its place. If hnsw_rs panics, its graph is given up in the same way, and meanwhile every row is
//! looked at: slower, and right.
//!
//! Snapshots share the growing graph and each hide what is not theirs. What they hold is exact and
//! fixed; which near misses an old snapshot's search meets may vary while a writer inserts beside it.
//! In exact mode both happen on one thread, and results repeat.

use std::collections::HashSet;
use std::sync::Arc;

use foldhash::fast::FixedState;
use segue_listen::TrackId;

use crate::best::Best;
use crate::exact::{ExactIndex, ExactWriter};
use crate::index::{Hit, Index, IndexVersion, IndexWriter, RecallError};
use crate::mesh::{Links, Mesh, Slots};
use crate::settings::{Metric, Settings, SettingsError};
use crate::vectors::{Vector, VectorError};

/// After so many graphs that broke, no other is tried.
const BREAKS_ALLOWED: u32 = 3;
/// So many vectors may be longer than a graph of inner products was made for.
const OUTGROWN_ALLOWED: usize = 64;
/// Below so many points a graph is not worth replacing.
const WORTH_REGROWING: u32 = 1024;

/// The writer of a graph index.
pub struct GraphWriter {
    settings: Settings,
    rows: ExactWriter,
    serving: Mesh,
    successor: Option<Mesh>,
    breaks: u32,
    regrown: u32,
    /// A row before its update, to see whether it changes.
    scratch: Vec<f32>,
}

/// How the graph is doing: for metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GraphHealth {
    /// Points of the graph, dead ones included.
    pub points: usize,
    /// Points without a track.
    pub dead: usize,
    /// Tracks that wait in the exact tail.
    pub waiting: usize,
    /// Tracks that the graph was found not to find, and that are scanned exactly.
    pub astray: usize,
    /// Graphs replaced so far.
    pub regrown: u32,
    /// Graphs given up because hnsw_rs panicked.
    pub breaks: u32,
}

impl GraphWriter {
    /// An empty index of vectors of `dimensions` components.
    ///
    /// # Errors
    /// If a setting is out of range, or there are no dimensions.
    pub fn new(dimensions: usize, settings: Settings) -> Result<Self, SettingsError> {
        let rows = ExactWriter::new(dimensions, &settings)?;
        let serving = Mesh::new(&settings, rows.table());
        let scratch = Vec::with_capacity(dimensions);
        Ok(Self {
            settings,
            rows,
            serving,
            successor: None,
            breaks: 0,
            regrown: 0,
            scratch,
        })
    }

    /// Links up to `at_most` waiting tracks; returns how many. For an owner with time to spare:
    /// publications do as much by themselves as the settings say.
    pub fn settle(&mut self, at_most: usize) -> usize {
        // Under inner product a graph is made for vectors up to some length: wait for the first ones.
        if self.settings.metric == Metric::InnerProduct && self.serving.slots.used == 0 {
            self.serving = Mesh::new(&self.settings, self.rows.table());
        }
        let linked = self.serving.settle(at_most, self.rows.table());
        self.tend(at_most);
        linked
    }

    /// How the graph is doing.
    pub fn health(&self) -> GraphHealth {
        let slots = &self.serving.slots;
        GraphHealth {
            points: slots.used as usize,
            dead: (slots.used - slots.live) as usize,
            waiting: self.serving.waiting(),
            astray: self.serving.astray(),
            regrown: self.regrown,
            breaks: self.breaks,
        }
    }

    /// Grows the successor if there is or should be one, and lets it take over when it is ready.
    fn tend(&mut self, at_most: usize) {
        match &mut self.successor {
            None => {
                if self.worn_out() && self.breaks < BREAKS_ALLOWED {
                    self.successor = Some(Mesh::new(&self.settings, self.rows.table()));
                }
            }
            Some(next) => {
                // Twice what comes in at most, or it would never catch up.
                next.settle(at_most.saturating_mul(2), self.rows.table());
                if next.broken {
                    self.successor = None;
                    self.breaks += 1;
                } else if next.waiting() <= self.settings.tail_limit / 2
                    && let Some(next) = self.successor.take()
                {
                    self.breaks += u32::from(self.serving.broken);
                    self.regrown += 1;
                    self.serving = next;
                }
            }
        }
    }

    fn worn_out(&self) -> bool {
        let slots = &self.serving.slots;
        let dead = f64::from(slots.used - slots.live);
        self.serving.broken
            || self.serving.outgrown > OUTGROWN_ALLOWED
            || slots.used >= WORTH_REGROWING
                && dead > self.settings.dead_share * f64::from(slots.used)
    }

    fn meshes(&mut self) -> impl Iterator<Item = &mut Mesh> {
        std::iter::once(&mut self.serving).chain(&mut self.successor)
    }
}

impl IndexWriter for GraphWriter {
    fn upsert(&mut self, track: TrackId, vector: Vector<'_>) -> Result<(), RecallError> {
        self.scratch.clear();
        self.scratch
            .extend_from_slice(self.rows.table().row(track).unwrap_or_default());
        self.rows.upsert(track, vector)?;
        if self.rows.table().row(track) != Some(&self.scratch[..]) {
            for mesh in self.meshes() {
                mesh.forget(track);
                mesh.expect(track);
            }
        }
        Ok(())
    }

    fn remove(&mut self, track: TrackId) {
        self.rows.remove(track);
        self.meshes().for_each(|mesh| mesh.forget(track));
    }

    fn publish(&mut self, epoch: u64) -> Arc<dyn Index> {
        let excess = self
            .serving
            .waiting()
            .saturating_sub(self.settings.tail_limit);
        let due = self.settings.links_per_publish.max(excess);
        self.settle(due);
        // Inner product asks from off the sphere that the points lie on: measured on 5,000 clustered
        // vectors, the same breadth finds a twentieth less of the true ten.
        let stretch = if self.settings.metric == Metric::InnerProduct {
            2
        } else {
            1
        };
        let links = (!self.serving.broken).then(|| Arc::clone(&self.serving.links));
        Arc::new(GraphIndex {
            exact: self.rows.snapshot(epoch),
            links,
            slots: self.serving.slots.clone(),
            unlinked: self.serving.unlinked(),
            ef_search: self.settings.ef_search * stretch,
            oversampling: self.settings.oversampling,
            exact_below: self.settings.exact_below,
            exact_selectivity: self.settings.exact_selectivity,
        })
    }
}

/// A snapshot: its rows, and a view of the graph.
struct GraphIndex {
    exact: ExactIndex,
    /// `None` once the graph broke.
    links: Option<Arc<Links>>,
    slots: Slots,
    /// Tracks that are looked at one by one.
    unlinked: Vec<TrackId>,
    ef_search: usize,
    oversampling: usize,
    exact_below: usize,
    exact_selectivity: f64,
}

impl GraphIndex {
    /// Candidates to ask the graph for, dead ones allowed for.
    fn breadth(&self, limit: usize) -> usize {
        let wanted = limit.saturating_mul(self.oversampling).max(self.ef_search);
        let (live, used) = (self.slots.live.max(1) as usize, self.slots.used as usize);
        wanted.saturating_mul(used).div_ceil(live)
    }

    /// Asks the graph; false if it cannot answer well, and every row should be looked at.
    fn ask_graph(
        &self,
        query: Vector<'_>,
        limit: usize,
        keep: &dyn Fn(TrackId) -> bool,
        hits: &mut Vec<Hit>,
    ) -> bool {
        let Some(links) = &self.links else {
            return false;
        };
        let factor = self.exact.factor(query);
        let point = links.query_point(query.components(), 1.0 / query.norm());
        let mut breadth = self.breadth(limit);
        // Each round that finds too few that pass the filter looks four times as far.
        while breadth.saturating_mul(4) < self.slots.used as usize {
            let Some(near) = links.search(&point, breadth) else {
                return false;
            };
            let mut best = Best::new(hits, limit);
            let (mut met, mut kept) = (0usize, 0usize);
            let mut seen: HashSet<u32, FixedState> = near.iter().copied().collect();
            let mut open: Vec<(u32, bool)> = near.iter().rev().map(|&slot| (slot, true)).collect();
            while let Some((slot, from_graph)) = open.pop() {
                // A slot beyond this snapshot's last has no tracks and no wards in it. One from
                // the graph leads on to its wards; a ward does if it is among the best so far.
                let mut leads_on = from_graph;
                for track in self.slots.tracks(slot) {
                    met += 1;
                    if keep(track) {
                        kept += 1;
                        leads_on |= self
                            .exact
                            .offer(track, query.components(), factor, &mut best);
                    }
                }
                if leads_on {
                    let wards = self.slots.wards(slot).filter(|&ward| seen.insert(ward));
                    open.extend(wards.map(|ward| (ward, false)));
                }
            }
            if kept >= limit {
                for track in self.unlinked.iter().copied().filter(|&track| keep(track)) {
                    self.exact
                        .offer(track, query.components(), factor, &mut best);
                }
                best.finish();
                return true;
            }
            if (kept as f64) < self.exact_selectivity * met as f64 {
                return false;
            }
            breadth = breadth.saturating_mul(4);
        }
        false
    }
}

impl Index for GraphIndex {
    fn version(&self) -> IndexVersion {
        self.exact.version()
    }

    fn dimensions(&self) -> usize {
        self.exact.dimensions()
    }

    fn len(&self) -> usize {
        self.exact.len()
    }

    fn row(&self, track: TrackId) -> Option<&[f32]> {
        self.exact.row(track)
    }

    fn search(
        &self,
        query: Vector<'_>,
        limit: usize,
        keep: &dyn Fn(TrackId) -> bool,
        hits: &mut Vec<Hit>,
    ) -> Result<(), VectorError> {
        hits.clear();
        let query = query.of_length(self.dimensions())?;
        if limit > 0 && self.len() > self.exact_below && self.ask_graph(query, limit, keep, hits) {
            return Ok(());
        }
        self.exact.search(query, limit, keep, hits)
    }
}
