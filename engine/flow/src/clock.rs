//! The one door to the machine's clock: for pacing, budgets and metrics, never for a result.

use std::sync::Arc;
use std::time::{Duration, Instant};

/// A clock that tells time since some fixed instant, and can wait.
pub trait WallClock: Send + Sync {
    /// Time since this clock was made.
    fn now(&self) -> Duration;
    /// Waits.
    fn sleep(&self, duration: Duration);
}

/// The machine's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct MachineClock {
    origin: Instant,
}

impl MachineClock {
    /// A clock that starts now.
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    pub fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }
}

impl WallClock for MachineClock {
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// A clock as governor wants it, for whoever keeps a rate.
pub struct Governed(pub Arc<dyn WallClock>);

impl governor::clock::Clock for Governed {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.now()
    }
}

/// The time of day, for the names of reports and the headers of logs.
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub fn time_of_day() -> std::time::SystemTime {
    std::time::SystemTime::now()
}
