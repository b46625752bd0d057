//! What of a log is read in a step, and what is asked of it.

use std::collections::HashMap;
use std::ops::Range;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use segue_listen::TrackId;
use segue_recommend::training::TrainingLog;
use tch::{Device, Tensor};

use crate::error::ModelError;
use crate::item_encoders::network::{Course, ItemTable, Reading, Windows};
use crate::windows::covering;

/// One training window: rows of the network's table, and which of them are held back as targets.
pub(super) struct Window {
    pub rows: Vec<i64>,
    /// Targets from here on are for validation.
    held_back: usize,
}

/// The windows that cover a log.
pub(super) fn windows(
    log: &TrainingLog,
    row_of: &HashMap<TrackId, i64>,
    course: &Course,
) -> Vec<Window> {
    let mut all = Vec::new();
    for plays in log.sequences() {
        let held_back = plays.len() - (plays.len() as f64 * course.validation) as usize;
        all.extend(
            covering(plays.len(), course.lookback).map(|range: Range<usize>| Window {
                held_back: held_back.saturating_sub(range.start),
                rows: plays
                    .get(range)
                    .unwrap_or(&[])
                    .iter()
                    .filter_map(|play| row_of.get(&play.track).copied())
                    .collect(),
            }),
        );
    }
    all
}

/// Which plays are targets, and to what end.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Part {
    /// What is not held back, to learn from.
    Training,
    /// What is, to learn from.
    HeldBack,
    /// What is, to judge by: nothing is left to chance.
    Validation,
}

pub(super) struct Batch {
    pub inputs: Windows,
    /// Places in the flattened batch that have a target, and the targets.
    pub places: Tensor,
    pub targets: Tensor,
}

/// Makes batches of windows.
pub(super) struct Batches<'n> {
    table: &'n ItemTable,
    course: &'n Course,
    device: Device,
}

/// A window as it is read: its rows, and the places and rows of its targets.
struct Read {
    rows: Vec<i64>,
    targets: Vec<(usize, i64)>,
}

impl<'n> Batches<'n> {
    pub fn new(table: &'n ItemTable, course: &'n Course, device: Device) -> Self {
        Self {
            table,
            course,
            device,
        }
    }

    /// The batch of these windows; `None` if they have no target of this part.
    pub fn of(
        &self,
        windows: &[Window],
        part: Part,
        rng: &mut ChaCha8Rng,
    ) -> Result<Option<Batch>, ModelError> {
        let reads: Vec<Read> = windows
            .iter()
            .filter_map(|window| {
                let end = window.rows.len();
                let range = match part {
                    Part::Training => 0..window.held_back.min(end),
                    Part::HeldBack | Part::Validation => window.held_back.min(end)..end,
                };
                (!range.is_empty()).then(|| self.read(&window.rows, range, part, rng))
            })
            .collect();
        let Some(length) = reads.iter().map(|read| read.rows.len()).max() else {
            return Ok(None);
        };
        let (mut rows, mut places, mut targets) = (Vec::new(), Vec::new(), Vec::new());
        for (number, read) in reads.iter().enumerate() {
            let from = number * length;
            rows.extend(&read.rows);
            rows.resize(from + length, self.table.unknown());
            for &(place, target) in &read.targets {
                places.push((from + place) as i64);
                targets.push(target);
            }
        }
        let inputs = Windows {
            rows: Tensor::f_from_slice(&rows)?
                .f_reshape([reads.len() as i64, length as i64])?
                .f_to_device(self.device)?,
            lengths: reads.iter().map(|read| read.rows.len() as i64).collect(),
        };
        Ok(Some(Batch {
            inputs,
            places: Tensor::f_from_slice(&places)?.f_to_device(self.device)?,
            targets: Tensor::f_from_slice(&targets)?.f_to_device(self.device)?,
        }))
    }

    /// `rows` as they are read when those of `range` are targets.
    fn read(&self, rows: &[i64], range: Range<usize>, part: Part, rng: &mut ChaCha8Rng) -> Read {
        let Reading::Cloze {
            hidden,
            newest_only,
        } = self.course.reading
        else {
            return self.causal(rows, range, part, rng);
        };
        match part {
            // As when it is asked: after any number of plays.
            Part::Training if rng.random_bool(newest_only) => {
                let end = rng.random_range(range.clone()) + 1;
                self.cloze(rows, range.start..end, (part, 0.0), rng)
            }
            Part::Training | Part::HeldBack => self.cloze(rows, range, (part, hidden), rng),
            Part::Validation => self.cloze(rows, range, (part, 0.0), rng),
        }
    }

    fn causal(&self, rows: &[i64], range: Range<usize>, part: Part, rng: &mut ChaCha8Rng) -> Read {
        let mut read = vec![self.table.untold()];
        // The last play is a target only.
        let inputs = rows.iter().take(range.end.saturating_sub(1));
        read.extend(inputs.map(|&row| self.input(row, part, rng)));
        let targets = range.filter_map(|at| Some((at, *rows.get(at)?)));
        Read {
            rows: read,
            targets: targets.collect(),
        }
    }

    /// Some of `range` are hidden; its newest if chance hides none.
    fn cloze(
        &self,
        rows: &[i64],
        range: Range<usize>,
        (part, share): (Part, f64),
        rng: &mut ChaCha8Rng,
    ) -> Read {
        let mut read = Read {
            rows: Vec::with_capacity(range.end),
            targets: Vec::new(),
        };
        for (at, &row) in rows.iter().enumerate().take(range.end) {
            let newest = at + 1 == range.end;
            let hidden = range.contains(&at) && rng.random_bool(share);
            if hidden || (newest && read.targets.is_empty()) {
                read.targets.push((at, row));
                read.rows.push(self.table.untold());
            } else {
                read.rows.push(self.input(row, part, rng));
            }
        }
        read
    }

    /// A play as input: now and then "some track".
    fn input(&self, row: i64, part: Part, rng: &mut ChaCha8Rng) -> i64 {
        let strange = part == Part::Training && rng.random_bool(self.course.unknown);
        if strange { self.table.unknown() } else { row }
    }
}
