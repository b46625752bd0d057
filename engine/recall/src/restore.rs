//! What it takes to write a writer's state down, and to put one together from what was read.

use segue_listen::TrackId;

use crate::graph::{GraphWriter, hash_of};
use crate::links::Links;
use crate::mesh::Mesh;
use crate::rows::Rows;
use crate::settings::Settings;
use crate::slots::Slots;

/// What a file has of a writer.
pub struct State<'a> {
    pub rows: &'a Rows,
    pub slots: &'a Slots,
    pub mesh: &'a Mesh,
    /// Points that the builder has linked so far.
    pub linked: u64,
    pub changes: u64,
}

impl GraphWriter {
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn state(&self) -> State<'_> {
        State {
            rows: &self.rows,
            slots: &self.slots,
            mesh: &self.serving.mesh,
            linked: self.serving.builder.linked(),
            changes: self.changes,
        }
    }

    /// Links all that waits, and ends a sweep that is under way.
    pub(crate) fn settle_all(&mut self) {
        self.settle(usize::MAX);
        while self.sweep.is_some() {
            self.settle(usize::MAX);
        }
    }

    /// The greatest norm of a row, of those that are gone too.
    pub(crate) fn restore_longest(&mut self, norm: f64) {
        self.rows.raise_longest(norm);
    }

    /// The row of a slot.
    pub(crate) fn restore_row(&mut self, slot: u32, row: &[f32]) {
        self.rows.set(slot, row);
    }

    /// Puts a track on a slot whose row is there; false if it cannot be.
    pub(crate) fn restore_track(&mut self, track: TrackId, slot: u32) -> bool {
        if track.row() >= self.settings.max_tracks || self.slots.of(track).is_some() {
            return false;
        }
        if !self.slots.alive(slot) {
            let hash = hash_of(&self.rows.row(slot));
            self.twins.insert(hash, slot);
        }
        self.slots.place(track, slot);
        true
    }

    /// Makes a slot a point.
    pub(crate) fn restore_point(&mut self, slot: u32) {
        self.serving.mesh.add(slot);
    }

    /// Gives a head to a slot, or to those that want one of its level.
    pub(crate) fn restore_head(&mut self, head: u32, slot: Option<u32>, level: u32) -> bool {
        match slot {
            Some(slot) => {
                self.serving.mesh.has(slot)
                    && self.serving.mesh.head_of.insert(slot, head).is_none()
            }
            None => {
                self.serving.mesh.free_head(head, level);
                true
            }
        }
    }

    /// Takes the links over, and knows then what follows from them; false if they do not fit together.
    pub(crate) fn restore_links(
        &mut self,
        links: Links,
        bridges: &[(u32, u32)],
        used: u32,
        linked: u64,
        changes: u64,
    ) -> bool {
        let mesh = &mut self.serving.mesh;
        mesh.links = links;
        let entered = match mesh.links.entry {
            Some(entry) => {
                let slot = mesh.links.slot(entry, 1);
                mesh.head_of.get(&slot) == Some(&entry)
            }
            None => mesh.points == 0,
        };
        let mut fits = entered;
        for slot in 0..used {
            let to = mesh.links.of(slot, 0).to_vec();
            fits &= to.iter().all(|&to| mesh.has(to) && to != slot);
            to.into_iter().for_each(|to| mesh.count(to));
        }
        for &(from, to) in bridges {
            fits &= mesh.has(from) && mesh.has(to);
            mesh.restore_bridge(from, to);
        }
        self.slots.used = used;
        self.changes = changes;
        self.serving.builder.resume(linked);
        for slot in (0..used).rev() {
            match (self.serving.mesh.has(slot), self.slots.alive(slot)) {
                (true, false) => self.serving.dead += 1,
                (false, false) => self.free.push(slot),
                (false, true) => self.serving.waiting.push_front(slot),
                (true, true) => {}
            }
        }
        fits
    }
}
