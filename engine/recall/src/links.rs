//! A graph as it is searched: layers of links, flat, in shared pages.
//!
//! On the ground layer every point has a block of `2 m` links to slots, so that a slot's number is the
//! address of its links and of its row. One point in `m` is a *head*: it has also a block of `m` links
//! on each layer up to its own level, and these lead to heads.

use segue_memory::SMALL_PIECE;

use crate::lanes::prefetch;
use crate::pages::Pages;

/// No link. Blocks are filled from the front.
pub const NONE: u32 = u32::MAX;

/// 64 points with m = 16: what one changed link copies, if a snapshot still holds it.
const GROUND_PAGE_BYTES: usize = SMALL_PIECE;
const UPPER_PAGE_BYTES: usize = 4 * 1024;

/// The links. A clone is a snapshot and costs a pointer per page.
#[derive(Clone)]
pub struct Links {
    m: usize,
    ground: Pages<u32>,
    /// Of each head: its slot, its first block, its level.
    heads: Pages<u32>,
    upper: Pages<u32>,
    /// The head that a search begins at: one of the highest level.
    pub entry: Option<u32>,
    /// Heads and blocks given out.
    pub heads_used: u32,
    pub upper_used: u32,
}

/// A layer, as a search sees it.
pub trait Layer {
    /// Where a point's links lead.
    fn links(&self, node: u32) -> &[u32];
    /// The slot of a point.
    fn slot(&self, node: u32) -> u32;
    /// Nodes are below this.
    fn nodes(&self) -> u32;
    /// Asks for a point's links ahead of their use.
    fn prefetch(&self, node: u32);
}

/// The ground layer, on which points are called by their slots.
pub struct Ground<'a>(pub &'a Links);

impl Layer for Ground<'_> {
    #[inline(always)]
    fn links(&self, slot: u32) -> &[u32] {
        self.0.on_ground(slot)
    }

    #[inline(always)]
    fn slot(&self, slot: u32) -> u32 {
        slot
    }

    fn nodes(&self) -> u32 {
        self.0.ground.rows()
    }

    #[inline(always)]
    fn prefetch(&self, slot: u32) {
        prefetch(self.0.ground.row(slot));
    }
}

/// A layer above it, from 1, on which points are called by their heads.
pub struct Upper<'a>(pub &'a Links, pub u32);

impl Layer for Upper<'_> {
    #[inline(always)]
    fn links(&self, head: u32) -> &[u32] {
        self.0.above(head, self.1)
    }

    #[inline(always)]
    fn slot(&self, head: u32) -> u32 {
        self.0.heads.get(head)
    }

    fn nodes(&self) -> u32 {
        self.0.heads_used
    }

    #[inline(always)]
    fn prefetch(&self, _: u32) {}
}

/// The part of a block before the first gap.
#[inline(always)]
fn filled(block: &[u32]) -> &[u32] {
    let end = block.iter().position(|&link| link == NONE);
    &block[..end.unwrap_or(block.len())]
}

impl Links {
    /// None yet. Blocks of `m` links, of twice as many on the ground.
    pub fn new(m: usize) -> Self {
        Self {
            m,
            ground: Pages::new(2 * m, GROUND_PAGE_BYTES, NONE),
            heads: Pages::new(3, UPPER_PAGE_BYTES, NONE),
            upper: Pages::new(m, UPPER_PAGE_BYTES, NONE),
            entry: None,
            heads_used: 0,
            upper_used: 0,
        }
    }

    /// Links of a block on a layer.
    pub fn room(&self, layer: u32) -> usize {
        if layer == 0 { 2 * self.m } else { self.m }
    }

    /// The highest layer that a head is on.
    pub fn level(&self, head: u32) -> u32 {
        match self.heads.row(head) {
            &[_, _, level] if level != NONE => level,
            _ => 0,
        }
    }

    /// The level of the entry.
    pub fn top(&self) -> u32 {
        self.entry.map_or(0, |entry| self.level(entry))
    }

    /// Where the links of a head on a layer above the ground are.
    fn block(&self, head: u32, layer: u32) -> Option<u32> {
        match self.heads.row(head) {
            &[_, first, level] if level != NONE && layer <= level => Some(first + layer - 1),
            _ => None,
        }
    }

    /// Gives a slot a head with blocks up to `level`.
    pub fn crown(&mut self, slot: u32, level: u32) -> u32 {
        let head = self.heads_used;
        self.set_head(head, slot, self.upper_used, level);
        self.heads_used += 1;
        self.upper_used += level;
        head
    }

    /// Writes the entry of a head.
    pub fn set_head(&mut self, head: u32, slot: u32, first: u32, level: u32) {
        self.heads
            .row_mut(head)
            .copy_from_slice(&[slot, first, level]);
    }

    /// The entry of a head: its slot, its first block, its level.
    pub fn head(&self, head: u32) -> Option<[u32; 3]> {
        self.heads
            .row(head)
            .try_into()
            .ok()
            .filter(|row: &[u32; 3]| row[2] != NONE)
    }

    #[inline(always)]
    fn on_ground(&self, slot: u32) -> &[u32] {
        filled(self.ground.row(slot))
    }

    fn above(&self, head: u32, layer: u32) -> &[u32] {
        match self.block(head, layer) {
            Some(block) => filled(self.upper.row(block)),
            None => &[],
        }
    }

    /// A point's links on a layer.
    pub fn of(&self, node: u32, layer: u32) -> &[u32] {
        if layer == 0 {
            self.on_ground(node)
        } else {
            self.above(node, layer)
        }
    }

    /// A point's slot.
    pub fn slot(&self, node: u32, layer: u32) -> u32 {
        if layer == 0 {
            node
        } else {
            self.heads.get(node)
        }
    }

    /// Writes a point's links on a layer: as many as there is room for.
    pub fn write(&mut self, node: u32, layer: u32, links: &[u32]) {
        let block = if layer == 0 {
            self.ground.row_mut(node)
        } else if let Some(block) = self.block(node, layer) {
            self.upper.row_mut(block)
        } else {
            return;
        };
        let count = links.len().min(block.len());
        block[..count].copy_from_slice(&links[..count]);
        block[count..].fill(NONE);
    }

    /// Bytes of memory, shared with clones or not.
    pub fn bytes(&self) -> usize {
        self.ground.bytes() + self.heads.bytes() + self.upper.bytes()
    }
}
