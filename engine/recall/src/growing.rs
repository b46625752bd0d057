//! A graph that is being grown: who links it, what is linked, and what still waits.

use std::collections::VecDeque;

use crate::builder::{Broken, Builder};
use crate::foreign::Foreign;
use crate::hnsw::Hnsw;
use crate::mesh::Mesh;
use crate::rows::Rows;
use crate::settings::{self, Settings};
use crate::slots::Slots;
use crate::sweep::audit;

/// A builder's graph is copied when so many have been linked, or an eighth of it.
const WORTH_LAYING: usize = 256;
/// Each time that so many have been linked, an older one is tried again: later ones may have cut it off.
const LINKS_PER_AUDIT: usize = 4;

/// A graph in growth.
pub struct Growing {
    pub builder: Box<dyn Builder>,
    pub mesh: Mesh,
    /// Slots to be linked, in order of arrival.
    pub waiting: VecDeque<u32>,
    /// Slots that the builder has linked and the mesh has not yet.
    unlaid: Vec<u32>,
    /// The next slot of which it is tried whether a search finds it.
    audited: u32,
    /// Points without a track.
    pub dead: u32,
    /// Whether the builder panicked: nothing is linked any more.
    pub broken: bool,
}

impl Growing {
    /// An empty graph, for which all that has a track waits.
    pub fn new(settings: &Settings, slots: &Slots) -> Self {
        let builder: Box<dyn Builder> = match settings.builder {
            settings::Builder::Segue => Box::new(Hnsw::new(
                settings.m,
                settings.ef_construction,
                settings.seed,
            )),
            settings::Builder::HnswRs => {
                Box::new(Foreign::new(settings.m, settings.ef_construction))
            }
        };
        Self {
            builder,
            mesh: Mesh::new(settings.m),
            waiting: slots.alive_ones().collect(),
            unlaid: Vec::new(),
            audited: 0,
            dead: 0,
            broken: false,
        }
    }

    /// Slots that a search has to look at itself.
    pub fn tail(&self) -> usize {
        self.waiting.len() + self.unlaid.len()
    }

    /// These slots.
    pub fn tail_slots(&self) -> impl Iterator<Item = u32> {
        self.waiting.iter().chain(&self.unlaid).copied()
    }

    /// Takes a slot that has no track any more out of the queue; if it is a point, it is dead.
    pub fn bury(&mut self, slot: u32) {
        if self.mesh.has(slot) {
            self.dead += 1;
            self.unlaid.retain(|&other| other != slot);
        } else {
            self.waiting.retain(|&other| other != slot);
        }
    }

    /// Links up to `at_most` of those that wait; returns how many.
    pub fn settle(
        &mut self,
        at_most: usize,
        settings: &Settings,
        rows: &Rows,
        slots: &Slots,
    ) -> usize {
        let (tail_limit, ef_construction) = (settings.tail_limit, settings.ef_construction);
        let mut settled = 0;
        while settled < at_most && !self.broken {
            let Some(slot) = self.waiting.pop_front() else {
                break;
            };
            let alive = |slot| slots.alive(slot);
            let linked = self.builder.link(slot, &mut self.mesh, rows, &alive);
            if self.builder.lags() || linked.is_err() {
                self.unlaid.push(slot);
            }
            self.note(linked);
            settled += 1;
            // What leaves the tail is found from the next search on.
            self.try_one(slot, ef_construction, rows, slots);
            if settled % LINKS_PER_AUDIT == 0 {
                self.audit(1, ef_construction, rows, slots);
            }
        }
        let worth =
            (self.mesh.points as usize / 8).clamp(WORTH_LAYING, tail_limit.max(WORTH_LAYING));
        if self.builder.lags() && self.unlaid.len() >= worth && !self.broken {
            let laid = self.builder.lay(&mut self.mesh, rows);
            if laid.is_ok() {
                self.unlaid.clear();
            }
            self.note(laid);
        }
        settled
    }

    /// Tries some more points, in turn, each at most once.
    pub fn audit(&mut self, at_most: usize, ef_construction: usize, rows: &Rows, slots: &Slots) {
        for _ in 0..at_most.min(slots.used as usize) {
            let slot = self.audited;
            self.audited = if slot + 1 < slots.used { slot + 1 } else { 0 };
            self.try_one(slot, ef_construction, rows, slots);
        }
    }

    /// Tries whether a search finds a point, and bridges it if not.
    fn try_one(&mut self, slot: u32, ef_construction: usize, rows: &Rows, slots: &Slots) {
        if self.mesh.has(slot) && slots.alive(slot) && !self.builder.lags() {
            audit(slot, ef_construction, &mut self.mesh, rows, slots);
        }
    }

    fn note(&mut self, outcome: Result<(), Broken>) {
        self.broken |= outcome.is_err();
    }
}
