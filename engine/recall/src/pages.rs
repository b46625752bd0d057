//! Rows of equal length in shared pages: a clone costs a pointer per page, and a write copies at most
//! the one page it touches, and that only if a clone still holds it. This is what makes a snapshot
//! cheap to publish and impossible to disturb; and an array of it grows without being moved.

use segue_memory::Shared;

/// Rows of `stride` numbers by position; what was never written reads as `fill`, or as no row at all.
#[derive(Clone)]
pub struct Pages<T> {
    stride: usize,
    /// A page has 2 to the power of this many rows.
    shift: u32,
    fill: T,
    pages: Shared<T>,
}

impl<T: Copy + PartialEq> Pages<T> {
    /// Of no rows yet. A page takes about `page_bytes`.
    pub fn new(stride: usize, page_bytes: usize, fill: T) -> Self {
        let rows = page_bytes / (stride * size_of::<T>()).max(1);
        let shift = rows.max(1).ilog2();
        Self {
            stride,
            shift,
            fill,
            pages: Shared::new(stride << shift),
        }
    }

    /// Numbers in a row.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Rows are below this.
    pub fn rows(&self) -> u32 {
        (self.pages.len() as u32) << self.shift
    }

    /// A row; empty where none was ever written near it.
    #[inline(always)]
    pub fn row(&self, position: u32) -> &[T] {
        let Some(page) = self.pages.page((position >> self.shift) as usize) else {
            return &[];
        };
        let within = (position & ((1 << self.shift) - 1)) as usize;
        let start = within * self.stride;
        &page[start..start + self.stride]
    }

    /// A row to write to.
    pub fn row_mut(&mut self, position: u32) -> &mut [T] {
        let page = self
            .pages
            .page_mut((position >> self.shift) as usize, self.fill);
        let within = (position & ((1 << self.shift) - 1)) as usize;
        let start = within * self.stride;
        &mut page[start..start + self.stride]
    }

    /// The first number of a row.
    #[inline(always)]
    pub fn get(&self, position: u32) -> T {
        self.row(position).first().copied().unwrap_or(self.fill)
    }

    /// Sets the first number of a row. Setting what was never written to what it reads as costs no
    /// memory.
    pub fn set(&mut self, position: u32, number: T) {
        if self.get(position) != number
            && let Some(first) = self.row_mut(position).first_mut()
        {
            *first = number;
        }
    }

    /// Bytes of memory that it holds, shared with clones or not.
    pub fn bytes(&self) -> usize {
        self.pages.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_keeps_what_it_saw() {
        let mut pages = Pages::new(1, 4096, u32::MAX);
        pages.set(5000, 0);
        let before = pages.clone();
        pages.set(5000, 7);
        pages.set(3, 1);
        assert_eq!((before.get(5000), before.get(3)), (0, u32::MAX));
        assert_eq!((pages.get(5000), pages.get(3)), (7, 1));
        let held = pages.bytes();
        pages.set(900_000, u32::MAX);
        assert_eq!((pages.get(900_000), pages.bytes()), (u32::MAX, held));
    }

    #[test]
    fn rows_begin_on_boundaries_whoever_copied_them() {
        for stride in [16usize, 32, 128] {
            let mut pages = Pages::new(stride, 20_000, 0.0f32);
            let mut clones = Vec::new();
            for row in 0..300u32 {
                pages.row_mut(row).fill(row as f32);
                clones.push(pages.clone());
            }
            for row in 0..300u32 {
                assert_eq!(pages.row(row), vec![row as f32; stride]);
                assert_eq!(pages.row(row).as_ptr() as usize % 64, 0);
                let clone = &clones[row as usize];
                assert_eq!(clone.row(row), vec![row as f32; stride]);
                assert!(clone.row(row + 1).iter().all(|&x| x == 0.0));
            }
            assert!(pages.row(1_000_000).is_empty());
        }
    }
}
