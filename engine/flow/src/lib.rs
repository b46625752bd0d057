//! The stream runtime: how records come in, are judged, change one owner's state, and go out.
//!
//! In reading order:
//!
//! 1. [`epoch`]: lanes, offsets and epochs, the only clock that crosses threads.
//! 2. [`source`], [`sink`]: what a connector promises.
//! 3. [`stage`]: a thread's worth of state.
//! 4. [`queue`]: the bounded hand-over between threads, with a named policy for when it is full.
//! 5. [`timers`]: due times in event time, re-armed lazily.
//! 6. [`lane`]: the loop of one lane: read, decode, judge, absorb.
//! 7. [`partition`]: which lane a key belongs to.
//! 8. [`memory`]: a source and a sink in this process, and a scripted source for tests.
//! 9. [`barrier`], [`checkpoint`]: the call for the lanes' states; the state of an epoch's end, on
//!    disk or in an object store.
//! 10. [`clock`], [`names`], [`secret`]: the one door to the machine's clock, the names of all
//!     metrics, and where secrets are.
//!
//! This room knows event time and bytes. It does not know tracks, users or models.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod barrier;
pub mod checkpoint;
pub mod clock;
pub mod epoch;
pub mod lane;
pub mod memory;
pub mod names;
pub mod partition;
pub mod progress;
pub mod queue;
pub mod remedy;
pub mod secret;
pub mod sink;
pub mod source;
pub mod stage;
pub mod timers;

pub use epoch::{Epoch, LaneId, Offset, OffsetRange};
pub use remedy::Remedy;
pub use sink::{Nowhere, OutRecord, Sink, SinkError};
pub use source::{AskHeader, ContentType, RawRecord, Readiness, Replay, Source, SourceError};
pub use stage::{Asks, Stage, StageError};
