//! The rows of a graph's points, by slot, as they are searched: in 32 or in 16 bits, side by side.

use std::borrow::Cow;

use segue_memory::PIECE;

use crate::halves::{GREATEST, Half};
use crate::lanes::dots;
use crate::pages::Pages;
use crate::settings::{Metric, Storage};
use crate::vectors::{Vector, VectorError, finite, score, wide_dot};

/// What one write copies at most, 256 rows of 128 components; a piece of a large page, so that the processor
/// finds any row without a walk through page tables.
const PAGE_BYTES: usize = PIECE;

/// The rows. A clone is a snapshot and costs a pointer per page.
#[derive(Clone)]
pub struct Rows {
    metric: Metric,
    numbers: Numbers,
    /// Under inner product: the norm of each.
    norms: Option<Pages<f32>>,
    /// The greatest norm there has been.
    longest: f64,
}

#[derive(Clone)]
enum Numbers {
    Full(Pages<f32>),
    Half(Pages<Half>),
}

/// What rows are compared with.
#[derive(Clone, Copy)]
pub struct Probe<'a> {
    numbers: &'a [f32],
    /// Of a point that is to be linked, under inner product: its norm.
    norm: Option<f32>,
}

impl<'a> Probe<'a> {
    /// A query.
    pub fn query(numbers: &'a [f32]) -> Self {
        Self {
            numbers,
            norm: None,
        }
    }
}

impl Rows {
    /// None yet.
    pub fn new(dimensions: usize, metric: Metric, storage: Storage) -> Self {
        let numbers = match storage {
            Storage::F32 => Numbers::Full(Pages::new(dimensions, PAGE_BYTES, 0.0)),
            Storage::F16 => Numbers::Half(Pages::new(dimensions, PAGE_BYTES, Half::default())),
        };
        let norms = (metric == Metric::InnerProduct).then(|| Pages::new(1, 4096, 0.0));
        Self {
            metric,
            numbers,
            norms,
            longest: 0.0,
        }
    }

    /// How nearness is measured.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Components of a row.
    pub fn dimensions(&self) -> usize {
        match &self.numbers {
            Numbers::Full(pages) => pages.stride(),
            Numbers::Half(pages) => pages.stride(),
        }
    }

    /// What a vector becomes when it is stored, written to `row`.
    ///
    /// # Errors
    /// If it has another length, or a component that 16 bits cannot hold.
    pub fn round(&self, vector: Vector<'_>, row: &mut Vec<f32>) -> Result<(), VectorError> {
        let vector = vector.of_length(self.dimensions())?;
        let factor = self.metric.row_factor(vector);
        row.clear();
        // Every zero positive: equal rows are then equal bit by bit.
        let components = vector.components().iter();
        row.extend(components.map(|&x| (f64::from(x) * factor) as f32 + 0.0));
        if matches!(self.numbers, Numbers::Half(_)) {
            if let Some(at) = row.iter().position(|x| x.abs() > GREATEST) {
                return Err(VectorError::Half { at, value: row[at] });
            }
            row.iter_mut()
                .for_each(|x| *x = Half::nearest(*x).to_f32() + 0.0);
        }
        Ok(())
    }

    /// Writes a row that [`Rows::round`] gave.
    pub fn set(&mut self, slot: u32, row: &[f32]) {
        match &mut self.numbers {
            Numbers::Full(pages) => pages.row_mut(slot).copy_from_slice(row),
            Numbers::Half(pages) => {
                let target = pages.row_mut(slot).iter_mut();
                target.zip(row).for_each(|(to, &x)| *to = Half::nearest(x));
            }
        }
        if let Some(norms) = &mut self.norms {
            let norm = row
                .iter()
                .map(|&x| f64::from(x) * f64::from(x))
                .sum::<f64>();
            let norm = norm.sqrt();
            self.longest = self.longest.max(norm);
            norms.set(slot, norm as f32);
        }
    }

    /// A row.
    pub fn row(&self, slot: u32) -> Cow<'_, [f32]> {
        match &self.numbers {
            Numbers::Full(pages) => Cow::Borrowed(pages.row(slot)),
            Numbers::Half(pages) => pages.row(slot).iter().map(|half| half.to_f32()).collect(),
        }
    }

    /// A row, in place or unpacked into `room`.
    pub fn read<'a>(&'a self, slot: u32, room: &'a mut Vec<f32>) -> &'a [f32] {
        match &self.numbers {
            Numbers::Full(pages) => pages.row(slot),
            Numbers::Half(pages) => {
                room.clear();
                room.extend(pages.row(slot).iter().map(|half| half.to_f32()));
                room
            }
        }
    }

    /// The row of `slot`, which is in `numbers`, as a point that is to be linked.
    pub fn point<'a>(&self, slot: u32, numbers: &'a [f32]) -> Probe<'a> {
        Probe {
            numbers,
            norm: self.norms.as_ref().map(|norms| norms.get(slot)),
        }
    }

    /// How similar each of some slots is to `probe`: to a query, the inner product; between points,
    /// what makes the graph. Never NaN.
    ///
    /// Under inner product points lie on a sphere around the origin, one dimension up, whose radius is
    /// twice the greatest norm: those nearest to a query, which has nothing in that dimension, are then
    /// those of greatest inner product (Bachrach et al., RecSys 2014).
    pub fn similarities(&self, probe: Probe<'_>, slots: &[u32], found: &mut Vec<f32>) {
        found.clear();
        match &self.numbers {
            Numbers::Full(pages) => dots(probe.numbers, pages, slots, found),
            Numbers::Half(pages) => dots(probe.numbers, pages, slots, found),
        }
        if let (Some(norms), Some(norm)) = (&self.norms, probe.norm) {
            let square = 4.0 * self.longest * self.longest;
            let rest = |norm: f32| square - f64::from(norm) * f64::from(norm);
            let of_probe = rest(norm).max(0.0);
            for (found, &slot) in found.iter_mut().zip(slots) {
                let both = of_probe * rest(norms.get(slot)).max(0.0);
                *found = finite(f64::from(*found) + both.sqrt());
            }
        }
        // Beyond what 32 bits can add up.
        if !found.iter().all(|x| x.is_finite()) {
            for (found, &slot) in found.iter_mut().zip(slots) {
                if !found.is_finite() {
                    *found = finite(match &self.numbers {
                        Numbers::Full(pages) => wide_dot(probe.numbers, pages.row(slot)),
                        Numbers::Half(pages) => wide_dot(probe.numbers, pages.row(slot)),
                    });
                }
            }
        }
    }

    /// ⟨query, row⟩ times `factor`, finite.
    pub fn score(&self, query: &[f32], slot: u32, factor: f32) -> f32 {
        match &self.numbers {
            Numbers::Full(pages) => score(query, pages.row(slot), factor),
            Numbers::Half(pages) => score(query, pages.row(slot), factor),
        }
    }

    /// Knows of a greater norm than those of the rows that are there.
    pub fn raise_longest(&mut self, norm: f64) {
        self.longest = self.longest.max(norm);
    }

    /// The greatest norm that there has been, under inner product.
    pub fn longest(&self) -> f64 {
        self.longest
    }

    /// Bytes of memory, shared with clones or not.
    pub fn bytes(&self) -> usize {
        let numbers = match &self.numbers {
            Numbers::Full(pages) => pages.bytes(),
            Numbers::Half(pages) => pages.bytes(),
        };
        numbers + self.norms.as_ref().map_or(0, Pages::bytes)
    }
}
