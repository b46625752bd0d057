//! What Segue does about an error.

/// What follows from an error: each room's errors name one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remedy {
    /// Try again, with backoff.
    Retry,
    /// Keep the record in the dead-letter topic and go on.
    DeadLetter,
    /// Stop: the configuration (or the environment) has to be mended first.
    Configure,
    /// Stop: the state is bad, go back to the previous checkpoint.
    Restore,
    /// Stop: this is Segue's own fault.
    Bug,
}
