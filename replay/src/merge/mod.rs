//! One time order out of any order, by external merge sort: memory does not grow with the input.
//!
//! Rows are gathered up to [`MergeSettings::run_bytes`], sorted, and spilled; whenever
//! [`MergeSettings::fan_in`] runs of a level have gathered they become one of the next level, so the
//! number of open files stays small. The order is by time, then by user (bytes), then by arrival.

mod kway;
mod record;
mod run;

use std::path::PathBuf;

use segue_listen::ListenRef;

use self::kway::{KWay, into_one};
use self::run::{Resident, RunWriter, Spilled};
use crate::error::ReplayError;
use crate::settings::MergeSettings;

/// Listens going in, in any order.
pub struct Sorter {
    resident: Resident,
    /// Runs by level; a higher level holds earlier rows.
    levels: Vec<Vec<Spilled>>,
    dir: PathBuf,
    run_bytes: usize,
    fan_in: usize,
    listens: u64,
}

impl Sorter {
    /// An empty sorter.
    ///
    /// # Errors
    /// [`ReplayError::Setting`].
    pub fn new(settings: &MergeSettings) -> Result<Self, ReplayError> {
        settings.check()?;
        Ok(Self {
            resident: Resident::with_room(settings.run_bytes),
            levels: Vec::new(),
            dir: settings.folder(),
            run_bytes: settings.run_bytes,
            fan_in: settings.fan_in,
            listens: 0,
        })
    }

    /// Takes a listen in.
    ///
    /// # Errors
    /// [`ReplayError::Temporary`].
    pub fn push(&mut self, listen: &ListenRef<'_>) -> Result<(), ReplayError> {
        let full = self.resident.bytes() + record::length(listen) > self.run_bytes;
        if full && !self.resident.is_empty() {
            self.spill()?;
        }
        self.resident.push(listen);
        self.listens += 1;
        Ok(())
    }

    /// How many listens are in.
    pub const fn listens(&self) -> u64 {
        self.listens
    }

    /// Ends the input.
    ///
    /// # Errors
    /// [`ReplayError::Temporary`].
    pub fn finish(mut self) -> Result<Sorted, ReplayError> {
        if self.levels.is_empty() {
            self.resident.sort();
            return Ok(Sorted {
                order: Order::Resident(self.resident),
                dir: self.dir,
            });
        }
        if !self.resident.is_empty() {
            self.spill()?;
        }
        drop(std::mem::take(&mut self.resident));
        // The lowest levels hold the smallest runs: they are joined until one merge is enough.
        while self.levels.iter().map(Vec::len).sum::<usize>() > self.fan_in {
            let lowest = self.levels.iter().position(|level| !level.is_empty());
            let Some(lowest) = lowest else { break };
            self.promote(lowest)?;
        }
        let runs = self.levels.into_iter().rev().flatten().collect();
        Ok(Sorted {
            order: Order::Runs(KWay::new(runs, &self.dir)?),
            dir: self.dir,
        })
    }

    fn spill(&mut self) -> Result<(), ReplayError> {
        self.resident.sort();
        let mut out = RunWriter::new(&self.dir)?;
        while let Some(record) = self.resident.next() {
            out.write(record)?;
        }
        self.resident.clear();
        self.level(0).push(out.finish()?);
        let mut level = 0;
        while self.level(level).len() >= self.fan_in {
            self.promote(level)?;
            level += 1;
        }
        Ok(())
    }

    /// Makes one run of the next level out of all runs of this one.
    fn promote(&mut self, level: usize) -> Result<(), ReplayError> {
        let mut runs = std::mem::take(self.level(level));
        let one = match runs.pop() {
            Some(only) if runs.is_empty() => only,
            last => {
                runs.extend(last);
                into_one(runs, &self.dir)?
            }
        };
        self.level(level + 1).push(one);
        Ok(())
    }

    fn level(&mut self, level: usize) -> &mut Vec<Spilled> {
        if self.levels.len() <= level {
            self.levels.resize_with(level + 1, Vec::new);
        }
        // Just made long enough.
        &mut self.levels[level]
    }
}

/// Listens coming out, in order.
pub struct Sorted {
    order: Order,
    dir: PathBuf,
}

enum Order {
    Resident(Resident),
    Runs(KWay),
}

impl Sorted {
    /// The next listen; `None` at the end.
    ///
    /// # Errors
    /// [`ReplayError::Temporary`].
    pub fn next_listen(&mut self) -> Result<Option<ListenRef<'_>>, ReplayError> {
        let record = match &mut self.order {
            Order::Resident(resident) => resident.next(),
            Order::Runs(runs) => runs.next()?,
        };
        let Some(record) = record else {
            return Ok(None);
        };
        match record::read(record) {
            Some(listen) => Ok(Some(listen)),
            None => Err(ReplayError::temporary(
                &self.dir,
                std::io::Error::other("what was read back is not what was written"),
            )),
        }
    }
}

#[cfg(test)]
mod tests;
