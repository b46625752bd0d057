//! The flat graph in the hands of its writer: what it takes to change links well.
//!
//! Beside the links that readers see, the writer counts how many lead to each point, and gives up none
//! that is the last: what is linked stays linked to.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::beam::{Beam, Near};
use crate::links::Links;
use crate::rows::Rows;

/// Points of which it is asked at once whether one of them is nearer to a candidate.
const CHUNK: usize = 4;

/// A graph that is being grown, by one writer.
pub struct Mesh {
    pub links: Links,
    /// By slot: links that lead to it on the ground. Beyond what 16 bits hold it is not counted.
    incoming: Vec<u16>,
    /// A bit per slot: whether it is linked.
    linked: Vec<u64>,
    /// Slots that are linked.
    pub points: u32,
    pub head_of: HashMap<u32, u32, FixedState>,
    /// Heads whose slot was given up, by level.
    free_heads: Vec<Vec<u32>>,
    /// Links on the ground that are never given up, by where they lead from: to points that a search
    /// was found not to find.
    bridges: HashMap<u32, Vec<u32>, FixedState>,
    pub beam: Beam,
    chosen: Vec<Near>,
    candidates: Vec<Near>,
    written: Vec<u32>,
    similarities: Vec<f32>,
    room: Vec<f32>,
    probe: Vec<f32>,
}

fn best_first(a: &Near, b: &Near) -> std::cmp::Ordering {
    let similar = b.similarity.total_cmp(&a.similarity);
    similar.then(a.node.cmp(&b.node))
}

impl Mesh {
    /// Without points, with `m` links each, twice that on the ground.
    pub fn new(m: usize) -> Self {
        Self::over(Links::new(m))
    }

    /// A mesh of links that are there already, none of whose points it knows yet.
    pub fn over(links: Links) -> Self {
        Self {
            links,
            incoming: Vec::new(),
            linked: Vec::new(),
            points: 0,
            head_of: HashMap::default(),
            free_heads: Vec::new(),
            bridges: HashMap::default(),
            beam: Beam::default(),
            chosen: Vec::new(),
            candidates: Vec::new(),
            written: Vec::new(),
            similarities: Vec::new(),
            room: Vec::new(),
            probe: Vec::new(),
        }
    }

    /// Whether a slot is a point of the graph.
    pub fn has(&self, slot: u32) -> bool {
        let word = self.linked.get(slot as usize / 64).copied().unwrap_or(0);
        word >> (slot % 64) & 1 == 1
    }

    /// Makes a slot a point of the graph.
    pub fn add(&mut self, slot: u32) {
        let word = slot as usize / 64;
        if word >= self.linked.len() {
            self.linked.resize(word + 1, 0);
        }
        if !self.has(slot) {
            self.linked[word] |= 1 << (slot % 64);
            self.points += 1;
        }
    }

    /// Gives a point a head; the entry is the first of the highest level.
    pub fn crown(&mut self, slot: u32, level: u32) -> u32 {
        let free = self
            .free_heads
            .get_mut(level as usize)
            .and_then(Vec::pop)
            .and_then(|head| Some((head, self.links.head(head)?)));
        let head = match free {
            Some((head, [_, first, level])) => {
                self.links.set_head(head, slot, first, level);
                head
            }
            None => self.links.crown(slot, level),
        };
        self.head_of.insert(slot, head);
        if self.links.entry.is_none() || level > self.links.top() {
            self.links.entry = Some(head);
        }
        head
    }

    /// Takes a point's head away, for another to have.
    pub fn uncrown(&mut self, slot: u32) {
        let Some(head) = self.head_of.remove(&slot) else {
            return;
        };
        let level = self.links.level(head);
        for layer in 1..=level {
            self.links.write(head, layer, &[]);
        }
        self.free_head(head, level);
    }

    /// Notes a head that no point has.
    pub fn free_head(&mut self, head: u32, level: u32) {
        let level = level as usize;
        if level >= self.free_heads.len() {
            self.free_heads.resize(level + 1, Vec::new());
        }
        self.free_heads[level].push(head);
    }

    /// Makes a slot that nothing leads to no point any more.
    pub fn drop_point(&mut self, slot: u32) {
        if self.has(slot) {
            self.linked[slot as usize / 64] &= !(1 << (slot % 64));
            self.points -= 1;
        }
    }

    /// Links that lead to a slot.
    pub fn incoming(&self, slot: u32) -> u16 {
        self.incoming.get(slot as usize).copied().unwrap_or(0)
    }

    /// Counts a link to a slot.
    pub fn count(&mut self, slot: u32) {
        if slot as usize >= self.incoming.len() {
            self.incoming.resize(slot as usize + 1, 0);
        }
        let count = &mut self.incoming[slot as usize];
        *count = count.saturating_add(1);
    }

    fn discount(&mut self, slot: u32) {
        if let Some(count) = self.incoming.get_mut(slot as usize)
            && *count != u16::MAX
        {
            *count = count.saturating_sub(1);
        }
    }

    /// Writes a point's links.
    pub fn write(&mut self, node: u32, layer: u32, links: &[u32]) {
        if layer == 0 {
            let mut before = std::mem::take(&mut self.written);
            before.clear();
            before.extend_from_slice(self.links.of(node, 0));
            links.iter().for_each(|&link| self.count(link));
            before.iter().for_each(|&link| self.discount(link));
            self.written = before;
        }
        self.links.write(node, layer, links);
    }

    /// Of candidates, best first, at most `room`, each nearer to the point than to any taken before it:
    /// so links lead in all directions, and not into one crowd (algorithm 4 of the paper).
    pub fn select(&mut self, rows: &Rows, layer: u32, candidates: &[Near], room: usize) -> &[Near] {
        let mut chosen = std::mem::take(&mut self.chosen);
        chosen.clear();
        for &candidate in candidates {
            if chosen.len() >= room {
                break;
            }
            if self.stands_apart(rows, layer, candidate, &chosen) {
                chosen.push(candidate);
            }
        }
        self.chosen = chosen;
        &self.chosen
    }

    fn stands_apart(&mut self, rows: &Rows, layer: u32, candidate: Near, chosen: &[Near]) -> bool {
        let slot = self.links.slot(candidate.node, layer);
        let point = rows.point(slot, rows.read(slot, &mut self.room));
        chosen.chunks(CHUNK).all(|some| {
            let mut slots = [0; CHUNK];
            for (slot, one) in slots.iter_mut().zip(some) {
                *slot = self.links.slot(one.node, layer);
            }
            rows.similarities(point, &slots[..some.len()], &mut self.similarities);
            let mut found = self.similarities.iter();
            !found.any(|&similarity| similarity > candidate.similarity)
        })
    }

    /// Links a new point to those selected of `candidates`, best first, and these back to it.
    pub fn connect(&mut self, rows: &Rows, node: u32, layer: u32, candidates: &[Near], m: usize) {
        let chosen: Vec<u32> = self
            .select(rows, layer, candidates, m)
            .iter()
            .map(|near| near.node)
            .collect();
        self.write(node, layer, &chosen);
        for other in chosen {
            self.join(rows, other, layer, node);
        }
    }

    /// Adds a link from a point to another. Where there is no room, the links are selected anew.
    pub fn join(&mut self, rows: &Rows, from: u32, layer: u32, to: u32) {
        let room = self.links.room(layer);
        let links = self.links.of(from, layer);
        if links.contains(&to) || from == to {
            return;
        }
        let mut nodes: Vec<u32> = Vec::with_capacity(room + 1);
        nodes.extend_from_slice(links);
        nodes.push(to);
        if nodes.len() <= room {
            if layer == 0 {
                self.count(to);
            }
            self.links.write(from, layer, &nodes);
        } else {
            self.reselect(rows, from, layer, &nodes);
        }
    }

    /// Selects a point's links among `nodes`. None is given up that is the last one to a point.
    pub fn reselect(&mut self, rows: &Rows, from: u32, layer: u32, nodes: &[u32]) {
        let room = self.links.room(layer);
        let slot = self.links.slot(from, layer);
        let slots: Vec<u32> = nodes
            .iter()
            .map(|&node| self.links.slot(node, layer))
            .collect();
        let mut probe = std::mem::take(&mut self.probe);
        let point = rows.point(slot, rows.read(slot, &mut probe));
        rows.similarities(point, &slots, &mut self.similarities);
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.clear();
        let pairs = nodes.iter().zip(&self.similarities);
        candidates.extend(pairs.map(|(&node, &similarity)| Near { node, similarity }));
        candidates.sort_unstable_by(best_first);
        self.select(rows, layer, &candidates, room);
        let mut chosen: Vec<u32> = self.chosen.iter().map(|near| near.node).collect();
        if layer == 0 {
            self.keep_last_ways(from, &candidates, &mut chosen, room);
        }
        self.write(from, layer, &chosen);
        self.candidates = candidates;
        self.probe = probe;
    }

    fn keep_last_ways(&self, from: u32, candidates: &[Near], chosen: &mut Vec<u32>, room: usize) {
        let before = self.links.of(from, 0);
        let bridges = self.bridges.get(&from).map_or(&[][..], Vec::as_slice);
        let needed = |node: u32| {
            let own = u16::from(before.contains(&node));
            self.incoming(node) <= own || bridges.contains(&node)
        };
        for near in candidates {
            if chosen.contains(&near.node) || !needed(near.node) {
                continue;
            }
            if chosen.len() < room {
                chosen.push(near.node);
            } else if let Some(place) = chosen.iter().rposition(|&node| !needed(node)) {
                chosen[place] = near.node;
            }
        }
    }

    /// Links two points on the ground for good.
    pub fn bridge(&mut self, rows: &Rows, from: u32, to: u32) {
        let bridges = self.bridges.entry(from).or_default();
        if !bridges.contains(&to) {
            bridges.push(to);
        }
        self.join(rows, from, 0, to);
    }

    /// Every bridge, by where it leads from.
    pub fn bridges(&self) -> Vec<(u32, u32)> {
        let pairs = self.bridges.iter();
        let mut all: Vec<_> = pairs
            .flat_map(|(&from, to)| to.iter().map(move |&to| (from, to)))
            .collect();
        all.sort_unstable();
        all
    }

    /// Knows of a bridge whose link is there.
    pub fn restore_bridge(&mut self, from: u32, to: u32) {
        self.bridges.entry(from).or_default().push(to);
    }

    /// Takes down the bridges from a point; where they led.
    pub fn take_bridges(&mut self, from: u32) -> Vec<u32> {
        self.bridges.remove(&from).unwrap_or_default()
    }

    /// Takes down the bridges from a point that lead to what is not `alive`.
    pub fn prune_bridges(&mut self, from: u32, alive: impl Fn(u32) -> bool) {
        if let Some(bridges) = self.bridges.get_mut(&from) {
            bridges.retain(|&to| alive(to));
        }
    }

    /// Bytes of memory, shared with snapshots or not.
    pub fn bytes(&self) -> usize {
        self.links.bytes()
            + self.incoming.capacity() * size_of::<u16>()
            + self.linked.capacity() * size_of::<u64>()
            + self.head_of.capacity() * (size_of::<(u32, u32)>() + 1)
    }
}
