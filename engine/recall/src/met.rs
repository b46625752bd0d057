//! Which nodes a search has met.

/// Bits of a line of the processor's cache.
const LINE: u32 = 512;

/// A bit per node, in lines of the cache; only lines that were touched are cleared.
#[derive(Default)]
pub struct Met {
    lines: Vec<Line>,
    /// A bit per line: whether one of its own is set.
    touched: Vec<u64>,
}

#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Line([u64; LINE as usize / 64]);

impl Met {
    /// Makes room for nodes below `nodes`.
    pub fn make_room(&mut self, nodes: u32) {
        let lines = nodes.div_ceil(LINE) as usize;
        if self.lines.len() < lines {
            self.lines.resize(lines, Line::default());
            self.touched.resize(lines.div_ceil(64), 0);
        }
    }

    /// Notes a node; whether it had not been met. What there is no room for is no node: nothing may lead
    /// there, and nothing does.
    #[inline(always)]
    pub fn meet(&mut self, node: u32) -> bool {
        let at = (node / LINE) as usize;
        let (Some(line), Some(touched)) = (self.lines.get_mut(at), self.touched.get_mut(at / 64))
        else {
            return false;
        };
        *touched |= 1 << (at % 64);
        let word = &mut line.0[(node % LINE / 64) as usize];
        let unmet = *word >> (node % 64) & 1 == 0;
        *word |= 1 << (node % 64);
        unmet
    }

    /// Forgets all nodes.
    pub fn clear(&mut self) {
        for (touched, lines) in self.touched.iter_mut().zip(self.lines.chunks_mut(64)) {
            while *touched != 0 {
                if let Some(line) = lines.get_mut(touched.trailing_zeros() as usize) {
                    *line = Line::default();
                }
                *touched &= *touched - 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_is_met_once_until_all_are_forgotten() {
        let mut met = Met::default();
        for nodes in [1u32, 64, 700, 512 * 64 + 1, 100_000] {
            met.make_room(nodes);
            for _ in 0..2 {
                for node in (0..nodes).step_by(3) {
                    assert!(met.meet(node));
                    assert!(!met.meet(node));
                }
                met.clear();
            }
        }
        assert!(!met.meet(u32::MAX));
    }
}
