//! Vectors: one that has been checked, and a table of them with a row per track.

use std::sync::Arc;

use segue_listen::TrackId;

use crate::lanes::{Component, dot};

/// A vector that is safe to compute with: the right length, finite, with a length (norm) that `f32`
/// can hold and divide by. Made only by [`Vector::check`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Vector<'a>(&'a [f32]);

/// Why some numbers are not a vector. Whoever brought them keeps its item and drops the vector.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum VectorError {
    /// Another number of components than the index has.
    #[error("{found} components where {expected} are needed: was it made by another encoder?")]
    Length {
        /// Components given.
        found: usize,
        /// Components needed.
        expected: usize,
    },
    /// NaN or an infinity.
    #[error("component {at} is {value}: only finite numbers can be compared")]
    NotFinite {
        /// The first such component.
        at: usize,
        /// Its value.
        value: f32,
    },
    /// Every component is zero.
    #[error("all {length} components are zero: a vector needs a direction")]
    Zero {
        /// Components given.
        length: usize,
    },
    /// Too large for the 16 bits that `recall.storage = "f16"` gives it.
    #[error("component {at} is {value}: 16 bits hold at most 65504; set recall.storage = \"f32\"")]
    Half {
        /// The first such component.
        at: usize,
        /// Its value.
        value: f32,
    },
    /// So long or so short that its norm is not a normal `f32`.
    #[error(
        "the norm is {norm:e}, outside {:e} to {:e}: rescale it",
        f32::MIN_POSITIVE,
        f32::MAX
    )]
    Norm {
        /// The norm.
        norm: f64,
    },
}

impl<'a> Vector<'a> {
    /// Checks that `components` are a vector of `dimensions`.
    pub fn check(components: &'a [f32], dimensions: usize) -> Result<Self, VectorError> {
        if components.len() != dimensions {
            return Err(VectorError::Length {
                found: components.len(),
                expected: dimensions,
            });
        }
        let mut squares = 0.0f64;
        for (at, &value) in components.iter().enumerate() {
            if !value.is_finite() {
                return Err(VectorError::NotFinite { at, value });
            }
            squares += f64::from(value) * f64::from(value);
        }
        if squares == 0.0 {
            return Err(VectorError::Zero {
                length: components.len(),
            });
        }
        let norm = squares.sqrt();
        if norm < f64::from(f32::MIN_POSITIVE) || norm > f64::from(f32::MAX) {
            return Err(VectorError::Norm { norm });
        }
        Ok(Self(components))
    }

    /// The components as given.
    pub fn components(self) -> &'a [f32] {
        self.0
    }

    /// The Euclidean norm; positive and finite.
    pub fn norm(self) -> f64 {
        self.0
            .iter()
            .map(|&x| f64::from(x) * f64::from(x))
            .sum::<f64>()
            .sqrt()
    }

    /// Refuses a vector of another length than `dimensions`.
    pub(crate) fn of_length(self, dimensions: usize) -> Result<Self, VectorError> {
        let found = self.0.len();
        if found == dimensions {
            Ok(self)
        } else {
            Err(VectorError::Length {
                found,
                expected: dimensions,
            })
        }
    }
}

/// ⟨query, row⟩ times `factor`, and a finite number even where the sum in `f32` overflows.
pub(crate) fn score<C: Component>(query: &[f32], row: &[C], factor: f32) -> f32 {
    let score = dot(query, row) * factor;
    if score.is_finite() {
        return score + 0.0;
    }
    finite(wide_dot(query, row) * f64::from(factor))
}

/// ⟨query, row⟩ in 64 bits.
pub(crate) fn wide_dot<C: Component>(query: &[f32], row: &[C]) -> f64 {
    let products = query.iter().zip(row);
    products
        .map(|(&x, &y)| f64::from(x) * f64::from(y.wide()))
        .sum()
}

/// The nearest number that 32 bits hold.
pub(crate) fn finite(wide: f64) -> f32 {
    wide.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32
}

/// Rows of a page: 128 KiB at 128 dimensions, what one write copies at most.
const PAGE_ROWS: usize = 256;

/// A row of `dimensions` numbers for each track that has one. Rows lie side by side in pages; a clone
/// shares the pages, and a write copies the page it touches if a clone still holds it.
#[derive(Clone)]
pub struct VectorTable {
    dimensions: usize,
    pages: Vec<Option<Arc<Page>>>,
    rows: usize,
}

#[derive(Clone)]
struct Page {
    /// `PAGE_ROWS` × dimensions, row after row.
    numbers: Vec<f32>,
    /// A bit per row: whether it is there.
    present: [u64; PAGE_ROWS / 64],
}

impl Page {
    fn has(&self, row: usize) -> bool {
        self.present[row / 64] >> (row % 64) & 1 == 1
    }
}

impl VectorTable {
    /// An empty table for rows of `dimensions` numbers.
    pub fn new(dimensions: usize) -> Self {
        Self {
            dimensions,
            pages: Vec::new(),
            rows: 0,
        }
    }

    /// Numbers in a row.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Rows that are there.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether no row is there.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// A track's row.
    pub fn row(&self, track: TrackId) -> Option<&[f32]> {
        let page = self.pages.get(track.row() / PAGE_ROWS)?.as_ref()?;
        let row = track.row() % PAGE_ROWS;
        if !page.has(row) {
            return None;
        }
        page.numbers
            .get(row * self.dimensions..(row + 1) * self.dimensions)
    }

    /// Writes a track's row: the vector times `factor`.
    pub fn set(
        &mut self,
        track: TrackId,
        vector: Vector<'_>,
        factor: f64,
    ) -> Result<(), VectorError> {
        let vector = vector.of_length(self.dimensions)?;
        let (at, row) = (track.row() / PAGE_ROWS, track.row() % PAGE_ROWS);
        if at >= self.pages.len() {
            self.pages.resize(at + 1, None);
        }
        let dimensions = self.dimensions;
        let page = Arc::make_mut(self.pages[at].get_or_insert_with(|| {
            Arc::new(Page {
                numbers: vec![0.0; PAGE_ROWS * dimensions],
                present: [0; PAGE_ROWS / 64],
            })
        }));
        if let Some(target) = page
            .numbers
            .get_mut(row * dimensions..(row + 1) * dimensions)
        {
            for (number, &x) in target.iter_mut().zip(vector.components()) {
                // Every zero positive: equal rows are then equal bit by bit.
                *number = (f64::from(x) * factor) as f32 + 0.0;
            }
        }
        if !page.has(row) {
            page.present[row / 64] |= 1 << (row % 64);
            self.rows += 1;
        }
        Ok(())
    }

    /// Takes a track's row out; whether it was there.
    pub fn clear(&mut self, track: TrackId) -> bool {
        let Some(Some(page)) = self.pages.get_mut(track.row() / PAGE_ROWS) else {
            return false;
        };
        let row = track.row() % PAGE_ROWS;
        if !page.has(row) {
            return false;
        }
        Arc::make_mut(page).present[row / 64] &= !(1 << (row % 64));
        self.rows -= 1;
        true
    }

    /// Every row that is there, in the order of track ids.
    pub fn iter(&self) -> impl Iterator<Item = (TrackId, &[f32])> {
        let pages = self.pages.iter().enumerate();
        pages
            .filter_map(|(at, page)| Some((at, page.as_deref()?)))
            .flat_map(move |(at, page)| {
                let rows = page
                    .numbers
                    .chunks_exact(self.dimensions.max(1))
                    .enumerate();
                rows.filter(|&(row, _)| page.has(row))
                    .map(move |(row, numbers)| (TrackId((at * PAGE_ROWS + row) as u32), numbers))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_vector_is_refused_by_name() {
        let message = |numbers: &[f32]| Vector::check(numbers, 3).unwrap_err().to_string();
        assert!(message(&[1.0]).starts_with("1 components where 3 are needed"));
        assert!(message(&[]).starts_with("0 components"));
        assert!(message(&[0.0, f32::NAN, 1.0]).starts_with("component 1 is NaN"));
        assert!(message(&[0.0, 1.0, f32::NEG_INFINITY]).starts_with("component 2 is -inf"));
        assert!(message(&[0.0, -0.0, 0.0]).starts_with("all 3 components are zero"));
        assert!(message(&[f32::MAX, f32::MAX, 0.0]).starts_with("the norm is 4.8"));
        assert!(message(&[1e-42, 0.0, 0.0]).starts_with("the norm is 1."));
        assert_eq!(Vector::check(&[0.0, 3.0, 4.0], 3).unwrap().norm(), 5.0);
        assert!(Vector::check(&[f32::MAX, 0.0, 0.0], 3).is_ok());
    }

    #[test]
    fn a_table_keeps_rows_apart_and_clones_as_they_were() {
        let mut table = VectorTable::new(2);
        let one = [1.0, 0.0];
        let two = [0.0, 2.0];
        table
            .set(TrackId(700), Vector::check(&one, 2).unwrap(), 1.0)
            .unwrap();
        table
            .set(TrackId(3), Vector::check(&two, 2).unwrap(), 0.5)
            .unwrap();
        let before = table.clone();
        table
            .set(TrackId(700), Vector::check(&two, 2).unwrap(), 1.0)
            .unwrap();
        assert!(table.clear(TrackId(3)) && !table.clear(TrackId(3)));
        assert!(!table.clear(TrackId(1_000_000)));
        assert_eq!((table.len(), before.len()), (1, 2));
        assert_eq!(
            (table.row(TrackId(700)), table.row(TrackId(3))),
            (Some(&two[..]), None)
        );
        let seen: Vec<_> = before.iter().collect();
        assert_eq!(
            seen,
            [(TrackId(3), &[0.0, 1.0][..]), (TrackId(700), &one[..])]
        );
        let long = [1.0; 3];
        assert!(
            table
                .set(TrackId(1), Vector::check(&long, 3).unwrap(), 1.0)
                .is_err()
        );
        assert_eq!(table.row(TrackId(1)), None);
    }

    #[test]
    fn a_score_is_finite_whatever_the_lengths() {
        let huge = [1e38f32; 4];
        assert_eq!(score(&huge, &huge, 1.0), f32::MAX);
        let mixed = [1e38f32, -1e38, 1e38, -1e38];
        assert!(score(&huge, &mixed, 1.0).is_finite());
    }
}
