use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// What a thread allocated while it was measured.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counted {
    pub allocations: u64,
    pub peak_bytes: i64,
}

thread_local! {
    /// Allocations, live bytes and their peak. Constant and without a destructor, so that the
    /// allocator may touch it at any time.
    static COUNTS: Cell<(u64, i64, i64)> = const { Cell::new((0, 0, 0)) };
}

/// The system's allocator, counting per thread.
pub struct Counting;

fn note(allocations: u64, bytes: i64) {
    COUNTS.with(|counts| {
        let (calls, live, peak) = counts.get();
        let live = live + bytes;
        counts.set((calls + allocations, live, peak.max(live)));
    });
}

// SAFETY: every call is passed on to the system's allocator as it came; the counting beside it
// allocates nothing.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size() as i64);
        // SAFETY: as for the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        note(0, -(layout.size() as i64));
        // SAFETY: as for the caller.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(1, size as i64 - layout.size() as i64);
        // SAFETY: as for the caller.
        unsafe { System.realloc(block, layout, size) }
    }
}

/// What `work` allocates on this thread.
pub fn measure(work: impl FnOnce()) -> Counted {
    COUNTS.with(|counts| counts.set((0, 0, 0)));
    work();
    let (allocations, _, peak_bytes) = COUNTS.with(Cell::get);
    Counted {
        allocations,
        peak_bytes,
    }
}
