//! Sorted runs as one sorted stream, through a heap of their current records.

use std::path::Path;

use super::record;
use super::run::{RunReader, RunWriter, Spilled};
use crate::error::ReplayError;

/// Runs being merged. Ties go to the run that was given first, so the merge is stable.
pub(super) struct KWay {
    readers: Vec<RunReader>,
    /// Indices into `readers`; a binary heap, the least on top.
    heap: Vec<usize>,
    /// The top's record was handed out: advance it before the next.
    handed_out: bool,
}

impl KWay {
    /// Merges `runs`, the earlier of equals first.
    pub(super) fn new(runs: Vec<Spilled>, dir: &Path) -> Result<Self, ReplayError> {
        let mut merge = Self {
            readers: Vec::with_capacity(runs.len()),
            heap: Vec::with_capacity(runs.len()),
            handed_out: false,
        };
        for run in runs {
            let mut reader = RunReader::new(run, dir)?;
            if reader.advance()? {
                merge.heap.push(merge.readers.len());
                merge.readers.push(reader);
            }
        }
        for root in (0..merge.heap.len() / 2).rev() {
            merge.sift_down(root);
        }
        Ok(merge)
    }

    /// The next record, without its length.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, ReplayError> {
        if self.handed_out {
            self.handed_out = false;
            let more = match self.heap.first().and_then(|top| self.readers.get_mut(*top)) {
                Some(reader) => reader.advance()?,
                None => false,
            };
            if !more && !self.heap.is_empty() {
                // The reader stays in its place, at its end, with nothing but its buffers.
                self.heap.swap_remove(0);
            }
            self.sift_down(0);
        }
        let top = self.heap.first().and_then(|top| self.readers.get(*top));
        self.handed_out = top.is_some();
        Ok(top.map(RunReader::current))
    }

    fn sift_down(&mut self, mut parent: usize) {
        loop {
            let (left, right) = (2 * parent + 1, 2 * parent + 2);
            let mut least = parent;
            for child in [left, right] {
                if child < self.heap.len() && self.before(child, least) {
                    least = child;
                }
            }
            if least == parent {
                return;
            }
            self.heap.swap(parent, least);
            parent = least;
        }
    }

    fn before(&self, a: usize, b: usize) -> bool {
        let rank = |slot: usize| {
            let run = *self.heap.get(slot)?;
            Some((record::key(self.readers.get(run)?.current()), run))
        };
        rank(a) < rank(b)
    }
}

/// Merges `runs` into one.
pub(super) fn into_one(runs: Vec<Spilled>, dir: &Path) -> Result<Spilled, ReplayError> {
    let mut merge = KWay::new(runs, dir)?;
    let mut out = RunWriter::new(dir)?;
    while let Some(record) = merge.next()? {
        out.write(record)?;
    }
    out.finish()
}
