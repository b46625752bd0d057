//! Memory that is looked into at random, in large pages.
//!
//! With pages of 4 KiB each touch of a far row costs a walk through page tables that are themselves out of
//! the cache (a million listeners: 1.3 GB, 300,000 pages). Measured: 40 % more plays a second.
//!
//! This room knows memory and advice about it, and nothing of what lies in it: it stands on no other.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod shared;

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use allocator_api2::alloc::{AllocError, Allocator, Global};

pub use self::shared::Shared;

/// Below this a table gains nothing: it lies in the cache, or in few pages.
const WORTH_BYTES: usize = 4 * 1024 * 1024;

/// Makes room for `len` elements, at least doubling, and asks the system to back the room by large
/// pages. Where it does not, nothing is lost.
///
/// A large table is copied into its new room rather than grown: grown in place it would be moved by
/// its page tables, which breaks large pages up again.
pub fn make_room<T>(table: &mut Vec<T>, len: usize) {
    if table.capacity() >= len {
        return;
    }
    let capacity = len.max(table.capacity().saturating_mul(2));
    if capacity.saturating_mul(size_of::<T>()) < WORTH_BYTES {
        table.reserve(capacity - table.len());
        return;
    }
    let mut roomier = Vec::<T>::with_capacity(capacity);
    advise(roomier.as_mut_ptr().cast(), capacity * size_of::<T>());
    roomier.append(table);
    *table = roomier;
}

/// Memory for tables that are looked into at random: what is large enough begins where a large page can,
/// and the system is asked to back it by such.
#[derive(Clone, Copy, Debug, Default)]
pub struct LargePages;

/// A large page of the processors that Segue runs on, in bytes: smaller tables get none.
pub const LARGE: usize = 2 * 1024 * 1024;

impl LargePages {
    /// How a table is laid out: a function of what was asked for alone.
    fn aligned(layout: Layout) -> Layout {
        match layout.size() >= LARGE {
            true => layout.align_to(LARGE).unwrap_or(layout),
            false => layout,
        }
    }
}

// SAFETY: all memory is the global allocator's, which keeps the promises; it gets back what it gave
// with the layout that it gave it for, since `aligned` says the same both times, and an address that is
// aligned to more fits the layout that was asked for.
#[allow(unsafe_code)]
unsafe impl Allocator for LargePages {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let memory = Global.allocate(Self::aligned(layout))?;
        if layout.size() >= LARGE {
            advise(memory.cast::<u8>().as_ptr(), layout.size());
        }
        Ok(memory)
    }

    unsafe fn deallocate(&self, memory: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise, and `aligned`.
        unsafe { Global.deallocate(memory, Self::aligned(layout)) }
    }
}

/// Memory for tables that are copied a piece at a time: it begins where a cache line does, and pieces of
/// about [`PIECE`] or [`SMALL_PIECE`] bytes lie side by side in large pages.
///
/// Large pages that have been cut are kept for the next pieces until the process ends: as many as the most
/// that were needed at a time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pieces;

/// A piece of a large page, in bytes.
pub const PIECE: usize = 128 * 1024;
/// A piece of another large page, in bytes: for what is copied often.
pub const SMALL_PIECE: usize = 8 * 1024;
/// What a processor fetches at once, in bytes.
const LINE: usize = 64;

/// Addresses of the pieces that nobody has.
static FREE: Cut = Cut::into(PIECE);
static FREE_SMALL: Cut = Cut::into(SMALL_PIECE);

/// Large pages, cut.
struct Cut {
    /// Bytes of a piece.
    size: usize,
    free: Mutex<Vec<usize>>,
}

impl Cut {
    const fn into(size: usize) -> Self {
        let free = Mutex::new(Vec::new());
        Self { size, free }
    }

    fn free(&self) -> MutexGuard<'_, Vec<usize>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Result<NonNull<u8>, AllocError> {
        let mut free = self.free();
        if free.is_empty() {
            let layout = Layout::from_size_align(LARGE, LARGE).map_err(|_| AllocError)?;
            let memory = Global.allocate(layout)?.cast::<u8>().as_ptr();
            advise(memory, LARGE);
            let first = memory.expose_provenance();
            // The first is given out first: what is used stays together.
            free.extend((first..first + LARGE).step_by(self.size).rev());
        }
        let address = free.pop().ok_or(AllocError)?;
        NonNull::new(std::ptr::with_exposed_provenance_mut(address)).ok_or(AllocError)
    }

    fn give_back(&self, piece: NonNull<u8>) {
        self.free().push(piece.as_ptr().expose_provenance());
    }
}

impl Pieces {
    fn aligned(layout: Layout) -> Layout {
        layout.align_to(LINE).unwrap_or(layout)
    }

    /// What so much memory is a piece of, if it is one: a function of what was asked for alone.
    fn cut(layout: Layout) -> Option<&'static Cut> {
        [&FREE, &FREE_SMALL].into_iter().find(|cut| {
            layout.size() > cut.size / 2 && layout.size() <= cut.size && layout.align() <= cut.size
        })
    }
}

// SAFETY: a piece is a part of memory that the global allocator gave and never gets back; each is with one
// owner or on the list of its size, and begins at a multiple of it. All other memory is the global allocator's,
// which gets back what it gave with the layout that it gave it for.
#[allow(unsafe_code)]
unsafe impl Allocator for Pieces {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if let Some(cut) = Self::cut(layout) {
            let piece = cut.take()?;
            return Ok(NonNull::slice_from_raw_parts(piece, layout.size()));
        }
        Global.allocate(Self::aligned(layout))
    }

    unsafe fn deallocate(&self, memory: NonNull<u8>, layout: Layout) {
        if let Some(cut) = Self::cut(layout) {
            return cut.give_back(memory);
        }
        // SAFETY: the caller's promise, and `aligned`.
        unsafe { Global.deallocate(memory, Self::aligned(layout)) }
    }
}

/// Asks for large pages in a range of somebody's own memory.
#[cfg(target_os = "linux")]
fn advise(start: *mut u8, bytes: usize) {
    /// What the kernel wants an address to be a multiple of: the page size, or a multiple of it.
    const PAGE: usize = 64 * 1024;
    let end = start.addr() + bytes;
    let aligned = start.addr().next_multiple_of(PAGE);
    if aligned >= end {
        return;
    }
    let at = start.map_addr(|_| aligned).cast();
    // SAFETY: the range lies inside one allocation, and this advice changes neither its contents nor
    // whether it may be read or written, only the size of the pages behind it. A kernel without large
    // pages refuses, which does no harm.
    #[allow(unsafe_code)]
    let _ = unsafe { libc::madvise(at, end - aligned, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn advise(_: *mut u8, _: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_made_and_what_was_there_stays() {
        let mut table: Vec<u64> = (0..1_000).collect();
        make_room(&mut table, 4 * WORTH_BYTES / 8);
        assert!(table.capacity() >= 4 * WORTH_BYTES / 8);
        table.resize(4 * WORTH_BYTES / 8, 7);
        assert!(table.iter().take(1_000).copied().eq(0..1_000));
        assert_eq!(table.last(), Some(&7));
        let before = table.capacity();
        make_room(&mut table, 10);
        assert_eq!(table.capacity(), before);
    }

    #[test]
    fn a_table_grows_through_all_sizes_and_keeps_what_is_in_it() {
        let mut table =
            hashbrown::HashMap::<u64, u64, foldhash::fast::FixedState, _>::with_hasher_in(
                foldhash::fast::FixedState::default(),
                LargePages,
            );
        for key in 0..300_000 {
            table.insert(key, !key);
        }
        assert!(table.allocation_size() > 2 * LARGE);
        assert!((0..300_000).all(|key| table.get(&key) == Some(&!key)));
        table.retain(|key, _| *key < 10);
        table.shrink_to_fit();
        assert!(table.allocation_size() < LARGE && table.len() == 10);
    }

    #[test]
    fn memory_begins_where_a_large_page_can() {
        for (size, aligned_to) in [(LARGE, LARGE), (3 * LARGE + 16, LARGE), (64, 16)] {
            let layout = Layout::from_size_align(size, 16).unwrap();
            let memory = LargePages.allocate(layout).unwrap();
            assert_eq!(memory.cast::<u8>().as_ptr().addr() % aligned_to, 0);
            assert!(memory.len() >= size);
            // SAFETY: it came from there, for this layout.
            #[allow(unsafe_code)]
            unsafe {
                LargePages.deallocate(memory.cast(), layout);
            }
        }
    }

    #[test]
    fn pieces_are_apart_and_come_back() {
        use allocator_api2::vec::Vec as Table;
        let table = |value: u32, count: usize| {
            let mut table = Table::new_in(Pieces);
            table.resize(count, value);
            table
        };
        let mut tables: Vec<Table<u32, Pieces>> = Vec::new();
        // Pieces, and what is too small or too large to be one.
        for count in [
            PIECE / 4,
            PIECE / 4 - 100,
            100,
            PIECE / 4 + 1,
            SMALL_PIECE / 4,
        ] {
            tables.extend((0..40).map(|value| table(value, count)));
        }
        for (at, table) in tables.iter().enumerate() {
            assert_eq!(table.as_ptr().addr() % LINE, 0);
            assert!(table.iter().all(|&value| value == at as u32 % 40));
        }
        // Grown out of a piece, and back into one.
        let mut grown = tables.swap_remove(0);
        grown.resize(PIECE, 0);
        assert!(grown.iter().take(PIECE / 4).all(|&value| value == 0));
        grown.truncate(PIECE / 4);
        grown.shrink_to_fit();
        assert_eq!(grown.len(), PIECE / 4);
        let before = (FREE.free().len(), FREE_SMALL.free().len());
        drop(tables);
        assert!(FREE.free().len() >= before.0 + 79);
        assert!(FREE_SMALL.free().len() >= before.1 + 40);
    }
}
