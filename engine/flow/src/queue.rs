//! The hand-over between two threads: bounded, in batches, with a named policy for when it is full.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use serde::{Deserialize, Serialize};

use crate::clock::WallClock;
use crate::names::{self, Name};

/// What a sender does when the queue is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// Waits: the pressure goes back to the source. Nothing is lost.
    #[default]
    Block,
    /// Keeps the batch and merges the next ones into it until there is room, so that the sender
    /// never waits. What merging means is the batch's own business ([`Coalesce`]).
    Coalesce,
}

/// A batch that can take in the one after it.
pub trait Coalesce {
    /// Takes in `newer`.
    fn coalesce(&mut self, newer: Self);
}

/// The other side is gone: this is what shutdown looks like, not an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Disconnected;

/// What [`Outlet::receive`] found.
#[derive(Debug)]
pub enum Received<T> {
    /// A batch.
    Batch(T),
    /// Nothing within the time given.
    Nothing,
    /// All senders are gone and the queue is empty. Final.
    Over,
}

/// The sending side. One per sender.
pub struct Inlet<T> {
    name: &'static str,
    when_full: WhenFull,
    sender: Sender<T>,
    held: Option<T>,
    clock: Arc<dyn WallClock>,
}

/// The receiving side.
pub struct Outlet<T> {
    name: &'static str,
    receiver: Receiver<T>,
}

/// A queue of at most `capacity` batches (at least 1); `name` labels its metrics.
pub fn queue<T>(
    name: &'static str,
    capacity: usize,
    when_full: WhenFull,
    clock: Arc<dyn WallClock>,
) -> (Inlet<T>, Outlet<T>) {
    let (sender, receiver) = crossbeam_channel::bounded(capacity.max(1));
    (
        Inlet {
            name,
            when_full,
            sender,
            held: None,
            clock,
        },
        Outlet { name, receiver },
    )
}

impl<T: Coalesce> Inlet<T> {
    /// Hands a batch over by the queue's policy.
    ///
    /// # Errors
    /// [`Disconnected`] when the receiver is gone.
    pub fn send(&mut self, batch: T) -> Result<(), Disconnected> {
        let batch = match self.held.take() {
            Some(mut held) => {
                held.coalesce(batch);
                held
            }
            None => batch,
        };
        match self.sender.try_send(batch) {
            Ok(()) => {}
            Err(TrySendError::Disconnected(_)) => return Err(Disconnected),
            Err(TrySendError::Full(batch)) => match self.when_full {
                WhenFull::Block => self.wait_and_send(batch)?,
                WhenFull::Coalesce => {
                    self.held = Some(batch);
                    return Ok(());
                }
            },
        }
        names::count_for(Name::QueueIn, "queue", self.name, 1);
        Ok(())
    }

    /// Hands over what coalescing holds back, waiting if need be.
    ///
    /// # Errors
    /// [`Disconnected`] when the receiver is gone.
    pub fn flush(&mut self) -> Result<(), Disconnected> {
        match self.held.take() {
            Some(held) => {
                self.wait_and_send(held)?;
                names::count_for(Name::QueueIn, "queue", self.name, 1);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Hands over what coalescing holds back if there is room for it; never waits.
    ///
    /// # Errors
    /// [`Disconnected`] when the receiver is gone.
    pub fn try_flush(&mut self) -> Result<(), Disconnected> {
        let Some(held) = self.held.take() else {
            return Ok(());
        };
        match self.sender.try_send(held) {
            Ok(()) => {
                names::count_for(Name::QueueIn, "queue", self.name, 1);
                Ok(())
            }
            Err(TrySendError::Full(held)) => {
                self.held = Some(held);
                Ok(())
            }
            Err(TrySendError::Disconnected(_)) => Err(Disconnected),
        }
    }

    fn wait_and_send(&self, batch: T) -> Result<(), Disconnected> {
        let before = self.clock.now();
        let sent = self.sender.send(batch).map_err(|_| Disconnected);
        let blocked = self.clock.now().saturating_sub(before);
        names::observe_for(Name::QueueBlocked, "queue", self.name, blocked);
        sent
    }

    /// Another sender into the same queue.
    pub fn another(&self) -> Self {
        Self {
            name: self.name,
            when_full: self.when_full,
            sender: self.sender.clone(),
            held: None,
            clock: Arc::clone(&self.clock),
        }
    }
}

impl<T> Outlet<T> {
    /// The next batch; waits up to `patience`.
    pub fn receive(&self, patience: Duration) -> Received<T> {
        match self.receiver.recv_timeout(patience) {
            Ok(batch) => {
                names::count_for(Name::QueueOut, "queue", self.name, 1);
                Received::Batch(batch)
            }
            Err(RecvTimeoutError::Timeout) => Received::Nothing,
            Err(RecvTimeoutError::Disconnected) => Received::Over,
        }
    }

    /// The next batch; waits until there is one, `None` when all senders are gone.
    pub fn next(&self) -> Option<T> {
        let batch = self.receiver.recv().ok()?;
        names::count_for(Name::QueueOut, "queue", self.name, 1);
        Some(batch)
    }

    /// A batch if one is there.
    pub fn ready(&self) -> Option<T> {
        let batch = self.receiver.try_recv().ok()?;
        names::count_for(Name::QueueOut, "queue", self.name, 1);
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::MachineClock;

    impl Coalesce for Vec<u32> {
        fn coalesce(&mut self, mut newer: Self) {
            self.append(&mut newer);
        }
    }

    fn clock() -> Arc<dyn WallClock> {
        Arc::new(MachineClock::start())
    }

    #[test]
    fn a_blocking_queue_loses_nothing_and_ends_when_the_sender_does() {
        let (mut inlet, outlet) = queue("test", 2, WhenFull::Block, clock());
        let sender = std::thread::spawn(move || {
            for n in 0..100u32 {
                inlet.send(vec![n]).unwrap();
            }
        });
        let mut got = Vec::new();
        while let Some(mut batch) = outlet.next() {
            got.append(&mut batch);
        }
        sender.join().unwrap();
        assert_eq!(got, (0..100).collect::<Vec<_>>());
        assert!(matches!(outlet.receive(Duration::ZERO), Received::Over));
    }

    #[test]
    fn a_coalescing_queue_never_waits_and_loses_nothing() {
        let (mut inlet, outlet) = queue("test", 1, WhenFull::Coalesce, clock());
        for n in 0..100u32 {
            inlet.send(vec![n]).unwrap();
        }
        assert_eq!(outlet.next(), Some(vec![0]));
        inlet.flush().unwrap();
        assert_eq!(outlet.next(), Some((1..100).collect::<Vec<_>>()));
        drop(outlet);
        assert_eq!(inlet.send(vec![1]), Err(Disconnected));
    }
}
