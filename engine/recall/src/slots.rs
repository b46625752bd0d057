//! Which tracks sit on which slot.
//!
//! A *slot* is a row with its links. Exact twins share one: a graph has nothing to tell them apart by,
//! and loses points among many. An updated track moves to another slot; a slot without tracks is dead,
//! and is given out again once nothing leads to it.

use segue_listen::TrackId;

use crate::links::NONE;
use crate::pages::Pages;

const PAGE_BYTES: usize = 4096;

/// Tracks and slots, each by the other. A clone is a snapshot and costs a pointer per page.
#[derive(Clone)]
pub struct Slots {
    slot_of: Pages<u32>,
    first: Pages<u32>,
    /// The tracks of a slot, as a list. Where there are no twins its pages are never made.
    next: Pages<u32>,
    previous: Pages<u32>,
    /// Slots are below this.
    pub used: u32,
    /// Slots with a track on them.
    pub live: u32,
    /// Tracks that have a slot.
    pub tracks: u32,
}

impl Default for Slots {
    fn default() -> Self {
        let pages = || Pages::new(1, PAGE_BYTES, NONE);
        Self {
            slot_of: pages(),
            first: pages(),
            next: pages(),
            previous: pages(),
            used: 0,
            live: 0,
            tracks: 0,
        }
    }
}

fn some(number: u32) -> Option<u32> {
    (number != NONE).then_some(number)
}

impl Slots {
    /// A track's slot.
    pub fn of(&self, track: TrackId) -> Option<u32> {
        some(self.slot_of.get(track.0))
    }

    /// The tracks on a slot.
    pub fn tracks(&self, slot: u32) -> impl Iterator<Item = TrackId> {
        let first = some(self.first.get(slot));
        std::iter::successors(first, |&track| some(self.next.get(track))).map(TrackId)
    }

    /// Whether a slot has a track.
    pub fn alive(&self, slot: u32) -> bool {
        self.first.get(slot) != NONE
    }

    /// Every slot that has a track.
    pub fn alive_ones(&self) -> impl Iterator<Item = u32> {
        (0..self.used).filter(|&slot| self.alive(slot))
    }

    /// Puts a track that has no slot on one.
    pub fn place(&mut self, track: TrackId, slot: u32) {
        let behind = self.first.get(slot);
        self.next.set(track.0, behind);
        self.previous.set(track.0, NONE);
        match some(behind) {
            Some(behind) => self.previous.set(behind, track.0),
            None => self.live += 1,
        }
        self.first.set(slot, track.0);
        self.slot_of.set(track.0, slot);
        self.used = self.used.max(slot.saturating_add(1));
        self.tracks += 1;
    }

    /// Takes a track off its slot, which is told.
    pub fn release(&mut self, track: TrackId) -> Option<u32> {
        let slot = self.of(track)?;
        let (previous, next) = (self.previous.get(track.0), self.next.get(track.0));
        match some(previous) {
            Some(previous) => self.next.set(previous, next),
            None => self.first.set(slot, next),
        }
        if let Some(next) = some(next) {
            self.previous.set(next, previous);
        }
        self.slot_of.set(track.0, NONE);
        self.tracks -= 1;
        if !self.alive(slot) {
            self.live -= 1;
        }
        Some(slot)
    }

    /// Bytes of memory, shared with clones or not.
    pub fn bytes(&self) -> usize {
        let pages = [&self.slot_of, &self.first, &self.next, &self.previous];
        pages.into_iter().map(Pages::bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twins_share_a_slot_and_leave_it_one_by_one() {
        let mut slots = Slots::default();
        for track in [4, 9, 2] {
            slots.place(TrackId(track), 7);
        }
        let before = slots.clone();
        assert_eq!((slots.live, slots.used, slots.tracks), (1, 8, 3));
        for track in [9, 4, 2] {
            assert_eq!(slots.release(TrackId(track)), Some(7));
        }
        assert_eq!(slots.release(TrackId(2)), None);
        assert!(!slots.alive(7) && slots.live == 0 && slots.tracks == 0);
        let on: Vec<u32> = before.tracks(7).map(|track| track.0).collect();
        assert_eq!(on, [2, 9, 4]);
    }
}
