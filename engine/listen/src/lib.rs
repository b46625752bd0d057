//! The domain: what a listen is, when it counts, which session it belongs to, how much of the track
//! was heard.
//!
//! Everything here is a function of its arguments. In reading order:
//!
//! 1. [`time`]: event time and spans, in milliseconds.
//! 2. [`track`]: what identifies a track and a listener.
//! 3. [`listen`]: one play, as a player reported it.
//! 4. [`watermark`]: how far event time has come in one lane, and whether a listen is late.
//! 5. [`completion`]: the share of a track that was heard.
//! 6. [`duration`]: a track's length, estimated from the gaps between plays where nobody states it.
//! 7. [`session`]: which plays belong together.
//! 8. [`history`]: a listener's last plays, in event-time order.
//! 9. `rows` (feature `serde`): tables in a checkpoint, as bytes.
//! 10. `wire` (feature `wire`): listens as MessagePack and JSON.
//!
//! This room does not do I/O, does not know threads, clocks or tensors, and has no dependency
//! unless a format is asked for. The engine's lanes and the Arroyo plugins both stand on it, so a
//! session or a ratio is computed in one place only.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod completion;
pub mod duration;
pub mod history;
pub mod listen;
#[cfg(feature = "serde")]
pub mod rows;
pub mod session;
pub mod time;
pub mod track;
pub mod watermark;
#[cfg(feature = "wire")]
pub mod wire;

pub use completion::Ratio;
pub use history::{History, Play};
pub use listen::{Listen, ListenRef};
pub use session::{SessionGap, Sessions};
pub use time::{EventTime, Span};
pub use track::{TrackId, TrackKey, UserId};
pub use watermark::{Punctuality, Watermark, WatermarkClock};
