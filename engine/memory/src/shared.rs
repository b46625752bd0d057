//! Pages of equal length that are shared between copies of a table, and found in one step.
//!
//! A page is owned as ever: counted, freed with its last owner. Beside the owners the table has the pages'
//! addresses, so that a reader goes straight from a position to the numbers; through the count and the table
//! behind it, a look at a far page would wait for memory three times.

use std::ptr::NonNull;
use std::sync::Arc;

use allocator_api2::vec::Vec as Table;

use crate::Pieces;

/// Pages of one length by position, each there or not. A clone costs a pointer and a count per page; a write
/// copies the one page it touches, and that only if a clone still holds it. Pages begin where a cache line does.
#[derive(Clone)]
pub struct Shared<T> {
    /// Numbers in a page. Never changed.
    length: usize,
    /// By position: where the page of the owner at this position begins.
    starts: Vec<Option<NonNull<T>>>,
    owners: Vec<Option<Arc<Table<T, Pieces>>>>,
}

// SAFETY: the addresses are of what the owners own, and are used as these would be: read by who has the
// table, written by nobody. The owners may go between threads, and be shared by them, if `T` may do both.
#[allow(unsafe_code)]
unsafe impl<T: Send + Sync> Send for Shared<T> {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T: Copy> Shared<T> {
    /// No pages yet; they will have `length` numbers.
    pub fn new(length: usize) -> Self {
        Self {
            length,
            starts: Vec::new(),
            owners: Vec::new(),
        }
    }

    /// Numbers in a page.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Pages are below this.
    pub fn len(&self) -> usize {
        self.owners.len()
    }

    /// Whether there never was a page.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// A page, if it is there.
    #[inline(always)]
    pub fn page(&self, at: usize) -> Option<&[T]> {
        let start = (*self.starts.get(at)?)?;
        // SAFETY: `page_mut` notes with each owner where its numbers begin, and that there are `length` of them.
        // Neither changes until it is called again, for which nobody may hold what is lent here; and while
        // this table has a share in them, nobody else writes them or gives them back.
        #[allow(unsafe_code)]
        Some(unsafe { std::slice::from_raw_parts(start.as_ptr(), self.length) })
    }

    /// A page to write to: made of `fill` if it was not there, copied first if a clone has it too.
    pub fn page_mut(&mut self, at: usize, fill: T) -> &mut [T] {
        if at >= self.owners.len() {
            self.owners.resize(at + 1, None);
            self.starts.resize(at + 1, None);
        }
        let length = self.length;
        let owner = self.owners[at].get_or_insert_with(|| {
            let mut numbers = Table::with_capacity_in(length, Pieces);
            numbers.resize(length, fill);
            Arc::new(numbers)
        });
        let numbers = Arc::make_mut(owner);
        // A table is made with its length, above, and never given another.
        assert_eq!(numbers.len(), length);
        self.starts[at] = NonNull::new(numbers.as_mut_ptr());
        numbers
    }

    /// Bytes of memory that it holds, shared with clones or not.
    pub fn bytes(&self) -> usize {
        let pages = self.owners.iter().flatten().count();
        pages * self.length * size_of::<T>()
            + self.owners.capacity() * size_of::<Option<Arc<Table<T, Pieces>>>>()
            + self.starts.capacity() * size_of::<Option<NonNull<T>>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_keeps_what_it_saw_and_a_page_alone_is_not_moved() {
        let mut table = Shared::new(100);
        assert!(table.is_empty() && table.page(0).is_none());
        table.page_mut(3, 7u32)[99] = 1;
        assert_eq!((table.len(), table.length()), (4, 100));
        assert!(table.page(2).is_none() && table.page(4).is_none());
        let start = table.page(3).unwrap().as_ptr();
        assert_eq!(start.addr() % 64, 0);
        table.page_mut(3, 0)[0] = 2;
        assert_eq!(table.page(3).unwrap().as_ptr(), start);
        let before = table.clone();
        table.page_mut(3, 0)[0] = 3;
        assert_ne!(table.page(3).unwrap().as_ptr(), start);
        assert_eq!(before.page(3).unwrap().as_ptr(), start);
        drop(table.clone());
        for (table, first) in [(&before, 2), (&table, 3)] {
            let page = table.page(3).unwrap();
            assert_eq!((page[0], page[1], page[99]), (first, 7, 1));
        }
        drop(before);
        assert_eq!(table.page(3).unwrap()[0], 3);
        assert!(table.bytes() >= 400);
    }

    #[test]
    fn a_table_of_pages_without_numbers_has_them_nonetheless() {
        let mut table = Shared::<u64>::new(0);
        assert!(table.page_mut(1, 0).is_empty());
        assert_eq!(table.clone().page(1), Some(&[][..]));
    }

    #[test]
    fn threads_read_clone_and_drop_what_one_goes_on_writing() {
        const PAGES: usize = 20;
        let mut table = Shared::new(1000);
        for round in 0..200u32 {
            for at in 0..PAGES {
                table.page_mut(at, 0).fill(round);
            }
            let seen = table.clone();
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    let mine = seen.clone();
                    scope.spawn(move || {
                        for at in 0..PAGES {
                            let again = mine.clone();
                            assert!(again.page(at).unwrap().iter().all(|&x| x == round));
                        }
                    });
                }
                drop(seen);
                for at in 0..PAGES {
                    table.page_mut(at, 0).fill(u32::MAX);
                }
            });
        }
    }
}
