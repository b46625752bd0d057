//! No allocation per event in the steady state: a counting allocator around the stage.

#![allow(
    unsafe_code,
    reason = "a global allocator is unsafe to implement; this one only counts"
)]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use segue_flow::stage::Stage;
use segue_listen::{EventTime, SessionGap, Span, TrackId, WatermarkClock};
use segue_sessions::{Arrival, ListeningStage, SessionSettings};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// `rounds` plays of each of 1,000 listeners, with session ends among them.
fn drive(stage: &mut ListeningStage, from: i64, rounds: i64) -> u64 {
    let settings_lateness = Span::ZERO;
    let mut batch = Vec::with_capacity(1_000);
    let mut out = Vec::with_capacity(8_000);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for round in from..from + rounds {
        // Every tenth pause is longer than the gap: sessions close and open.
        let start = round * 200_000 + (round / 10) * 3_600_000;
        batch.clear();
        for slot in 0..1_000u32 {
            batch.push(Arrival {
                slot,
                track: TrackId((slot + round as u32) % 5_000),
                tie: slot,
                at: EventTime::from_millis(start + i64::from(slot)),
                duration: None,
                played: None,
            });
        }
        let mut clock = WatermarkClock::new(Span::ZERO, settings_lateness);
        clock.observe(EventTime::from_millis(start));
        out.clear();
        stage.advance(clock.watermark().unwrap(), &mut out).unwrap();
        stage.absorb(&batch, &mut out).unwrap();
    }
    // The two vectors of this function are allocated before the count starts.
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

#[test]
fn none_per_event_in_the_steady_state() {
    let settings = SessionSettings {
        gap: SessionGap::default(),
        lateness: Span::ZERO,
    };
    let mut stage = ListeningStage::new(settings);
    let warming_up = drive(&mut stage, 0, 100);
    assert!(warming_up > 0, "the counter counts");
    let steady = drive(&mut stage, 100, 200);
    // 200,000 plays and 20,000 sessions: what little is left is growth of timer buckets.
    assert!(steady < 200, "{steady} allocations in 200,000 plays");
}
