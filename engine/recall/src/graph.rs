//! The graph index: an HNSW graph for the many, an exact scan for what it does not hold.
//!
//! A track that was given a vector is in the next snapshot at once: first in the exact tail, later,
//! as publications go by, in the graph. Removed and updated tracks leave dead points behind, which are
//! stepping stones; when they are too many they are swept out, a few per publication. Nothing stops
//! for any of it: a snapshot shares all pages that have not changed since.
//!
//! With hnsw_rs for a builder, a second graph is grown beside the first instead, and takes its place;
//! if hnsw_rs panics, its graph is given up in the same way, and meanwhile every row is looked at:
//! slower, and right.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use foldhash::fast::FixedState;
use segue_listen::TrackId;

use crate::beam::MOST_NODES;
use crate::exact::check_dimensions;
use crate::growing::Growing;
use crate::index::{Index, IndexVersion, IndexWriter, RecallError};
use crate::replica::Replica;
use crate::rows::Rows;
use crate::settings::{Settings, SettingsError};
use crate::slots::Slots;
use crate::sweep::Sweep;
use crate::vectors::Vector;

/// After so many graphs that broke, no other is tried.
const BREAKS_ALLOWED: u32 = 3;
/// Below so many points a graph is not worth sweeping.
const WORTH_SWEEPING: u32 = 1024;
/// Points that can be mended in the time that it takes to link one.
const MENDED_PER_LINK: usize = 4;
/// Of the links that a publication had time for and found nothing to link, one in so many is a point tried.
const SPARED: usize = 8;

/// The writer of a graph index.
pub struct GraphWriter {
    pub(crate) settings: Arc<Settings>,
    pub(crate) rows: Rows,
    pub(crate) slots: Slots,
    /// A slot for each row's hash, to find twins.
    pub(crate) twins: HashMap<u32, u32, FixedState>,
    /// Slots that nothing leads to and no track is on.
    pub(crate) free: Vec<u32>,
    pub(crate) serving: Growing,
    successor: Option<Growing>,
    pub(crate) sweep: Option<Sweep>,
    pub(crate) changes: u64,
    breaks: u32,
    regrown: u32,
    swept: u64,
    scratch: Vec<f32>,
}

/// How the graph is doing: for metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GraphHealth {
    /// Points of the graph, dead ones included.
    pub points: usize,
    /// Points without a track.
    pub dead: usize,
    /// Slots that wait in the exact tail.
    pub waiting: usize,
    /// Whether dead points are being swept out, or a new graph is being grown.
    pub renewing: bool,
    /// Dead points swept out so far.
    pub swept: u64,
    /// Graphs replaced so far.
    pub regrown: u32,
    /// Graphs given up because hnsw_rs panicked.
    pub breaks: u32,
    /// Memory in bytes: rows, links, slots and what the writer knows beside them; not what hnsw_rs keeps,
    /// nor pages that only older snapshots still hold.
    pub bytes: usize,
}

impl GraphWriter {
    /// An empty index of vectors of `dimensions` components.
    ///
    /// # Errors
    /// If a setting is out of range, or there are no dimensions.
    pub fn new(dimensions: usize, settings: Settings) -> Result<Self, SettingsError> {
        settings.check()?;
        check_dimensions(dimensions)?;
        let slots = Slots::default();
        Ok(Self {
            rows: Rows::new(dimensions, settings.metric, settings.storage),
            serving: Growing::new(&settings, &slots),
            settings: Arc::new(settings),
            slots,
            twins: HashMap::default(),
            free: Vec::new(),
            successor: None,
            sweep: None,
            changes: 0,
            breaks: 0,
            regrown: 0,
            swept: 0,
            scratch: Vec::with_capacity(dimensions),
        })
    }

    /// Links up to `at_most` waiting rows, and renews the graph as far as that costs about the same;
    /// returns how many were linked. For an owner with time to spare: publications do as much by
    /// themselves as the settings say.
    pub fn settle(&mut self, at_most: usize) -> usize {
        let linked = self
            .serving
            .settle(at_most, &self.settings, &self.rows, &self.slots);
        if self.serving.builder.mends() {
            self.sweep(at_most.saturating_mul(MENDED_PER_LINK));
        } else {
            // Twice what comes in at most, or it would never catch up.
            self.regrow(at_most.saturating_mul(2));
        }
        linked
    }

    /// Candidates considered by the searches of snapshots from the next one on.
    ///
    /// # Errors
    /// If it is out of range; it stays as it was then.
    pub fn set_ef_search(&mut self, ef_search: usize) -> Result<(), SettingsError> {
        let settings = Settings {
            ef_search,
            ..(*self.settings).clone()
        };
        settings.check()?;
        self.settings = Arc::new(settings);
        Ok(())
    }

    /// Tries up to `at_most` tracks, in turn, whether a search finds them, and links to those that it does not:
    /// later ones may have cut them off. For an owner with time to spare; links and publications try a few by
    /// themselves.
    pub fn audit(&mut self, at_most: usize) {
        let ef_construction = self.settings.ef_construction;
        self.serving
            .audit(at_most, ef_construction, &self.rows, &self.slots);
    }

    /// How the graph is doing.
    pub fn health(&self) -> GraphHealth {
        let twins = self.twins.capacity() * (size_of::<(u32, u32)>() + 1);
        GraphHealth {
            points: self.serving.mesh.points as usize,
            dead: self.serving.dead as usize,
            waiting: self.serving.tail(),
            renewing: self.sweep.is_some() || self.successor.is_some(),
            swept: self.swept,
            regrown: self.regrown,
            breaks: self.breaks,
            bytes: self.rows.bytes() + self.slots.bytes() + self.serving.mesh.bytes() + twins,
        }
    }

    /// Begins a sweep if it is time, and goes on with it.
    fn sweep(&mut self, at_most: usize) {
        if self.sweep.is_none() && self.worn_out() {
            self.sweep = Some(Sweep::begin(&self.serving.mesh, &self.slots));
        }
        let (mesh, rows, slots) = (&mut self.serving.mesh, &self.rows, &self.slots);
        let breadth = self.settings.ef_construction;
        let done = self
            .sweep
            .as_mut()
            .is_some_and(|sweep| sweep.step(at_most, breadth, mesh, rows, slots));
        if done && let Some(sweep) = self.sweep.take() {
            let free = sweep.finish(breadth, mesh, rows, slots);
            self.serving.dead = self.serving.dead.saturating_sub(free.len() as u32);
            self.swept += free.len() as u64;
            // The lowest are given out first, so that rows lie close together.
            self.free.extend(free.into_iter().rev());
        }
    }

    /// Grows the successor if there is or should be one, and lets it take over when it is ready.
    fn regrow(&mut self, at_most: usize) {
        match &mut self.successor {
            None => {
                if self.worn_out() && self.breaks < BREAKS_ALLOWED {
                    self.successor = Some(Growing::new(&self.settings, &self.slots));
                }
            }
            Some(next) => {
                next.settle(at_most, &self.settings, &self.rows, &self.slots);
                if next.broken {
                    self.successor = None;
                    self.breaks += 1;
                } else if next.tail() <= (self.settings.tail_limit / 2).max(256)
                    && let Some(next) = self.successor.take()
                {
                    self.breaks += u32::from(self.serving.broken);
                    self.regrown += 1;
                    let gone = (0..self.slots.used).rev().filter(|&slot| {
                        self.serving.mesh.has(slot)
                            && !next.mesh.has(slot)
                            && !self.slots.alive(slot)
                    });
                    self.free.extend(gone);
                    self.serving = next;
                }
            }
        }
    }

    fn worn_out(&self) -> bool {
        let (dead, points) = (self.serving.dead, self.serving.mesh.points);
        self.serving.broken
            || points >= WORTH_SWEEPING
                && f64::from(dead) > self.settings.dead_share * f64::from(points)
    }

    fn growing(&mut self) -> impl Iterator<Item = &mut Growing> {
        std::iter::once(&mut self.serving).chain(&mut self.successor)
    }

    /// Takes a track off its slot; whether it had one.
    fn release(&mut self, track: TrackId) -> bool {
        let Some(slot) = self.slots.release(track) else {
            return false;
        };
        if !self.slots.alive(slot) {
            let hash = hash_of(&self.rows.row(slot));
            if self.twins.get(&hash) == Some(&slot) {
                self.twins.remove(&hash);
            }
            self.growing().for_each(|growing| growing.bury(slot));
            if self.growing().all(|growing| !growing.mesh.has(slot)) {
                self.free.push(slot);
            }
        }
        true
    }

    /// The slot of a row like this one.
    fn twin(&self, hash: u32, row: &[f32]) -> Option<u32> {
        let slot = *self.twins.get(&hash)?;
        (*self.rows.row(slot) == *row).then_some(slot)
    }

    fn place(&mut self, track: TrackId) {
        let hash = hash_of(&self.scratch);
        if let Some(slot) = self.twin(hash, &self.scratch) {
            self.slots.place(track, slot);
            return;
        }
        let slot = self.free.pop().unwrap_or(self.slots.used);
        self.rows.set(slot, &self.scratch);
        self.twins.insert(hash, slot);
        self.slots.place(track, slot);
        self.growing()
            .for_each(|growing| growing.waiting.push_back(slot));
    }
}

impl IndexWriter for GraphWriter {
    fn upsert(&mut self, track: TrackId, vector: Vector<'_>) -> Result<(), RecallError> {
        let full = self.free.is_empty() && self.slots.used >= MOST_NODES - 1;
        if track.row() >= self.settings.max_tracks || full {
            return Err(RecallError::TooManyTracks {
                track,
                max_tracks: self.settings.max_tracks,
            });
        }
        self.rows
            .round(vector, &mut self.scratch)
            .map_err(|source| RecallError::Vector { track, source })?;
        self.changes += 1;
        let before = self.slots.of(track);
        if before.is_none_or(|slot| *self.rows.row(slot) != *self.scratch) {
            self.release(track);
            self.place(track);
        }
        Ok(())
    }

    fn remove(&mut self, track: TrackId) {
        if self.release(track) {
            self.changes += 1;
        }
    }

    fn publish(&mut self, epoch: u64) -> Arc<dyn Index> {
        let excess = self.serving.tail().saturating_sub(self.settings.tail_limit);
        let due = self.settings.links_per_publish.max(excess);
        let settled = self.settle(due);
        self.audit(self.settings.links_per_publish.saturating_sub(settled) / SPARED);
        let links = (!self.serving.broken).then(|| self.serving.mesh.links.clone());
        Arc::new(Replica {
            rows: self.rows.clone(),
            slots: self.slots.clone(),
            links,
            tail: self.serving.tail_slots().collect(),
            points: self.serving.mesh.points as usize,
            dead: self.serving.dead as usize,
            version: IndexVersion {
                epoch,
                changes: self.changes,
            },
            settings: Arc::clone(&self.settings),
        })
    }
}

pub(crate) fn hash_of(row: &[f32]) -> u32 {
    let mut hasher = FixedState::with_seed(0).build_hasher();
    row.iter().for_each(|x| hasher.write_u32(x.to_bits()));
    hasher.finish() as u32
}
