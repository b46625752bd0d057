//! The hand-over between two threads: bounded, in batches, with a named policy for when it is full.
//!
//! What a queue holds never exceeds its capacity. With [`WhenFull::Coalesce`] its sender may hold one
//! more batch, into which it merges at most as many as the queue holds before it waits after all: so
//! memory is bounded under either policy.

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
    /// Goes on, keeps the batch and merges the next ones into it until there is room; waits once it
    /// has merged as many as the queue holds. What merging means is the batch's own business
    /// ([`Coalesce`]).
    Coalesce,
}

/// How a queue is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueSettings {
    /// Batches in it at most, at least 1.
    pub capacity: usize,
    /// What its senders do when it is full.
    pub when_full: WhenFull,
}

/// A batch that can take in the one after it.
pub trait Coalesce: Sized {
    /// Takes in `newer`.
    fn coalesce(&mut self, newer: Self);

    /// Whether it may: one that ends with something that holds for what is before it may not.
    fn takes_more(&self) -> bool {
        true
    }

    /// Drops what the newer part of it has made stale, once, before it is handed over.
    fn settle(&mut self) {}
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

/// A batch that waits for room, with those that were merged into it.
struct Held<T> {
    batch: T,
    merged: usize,
}

/// The sending side. One per sender.
pub struct Inlet<T> {
    name: &'static str,
    settings: QueueSettings,
    sender: Sender<T>,
    held: Option<Held<T>>,
    clock: Arc<dyn WallClock>,
}

/// The receiving side.
pub struct Outlet<T> {
    name: &'static str,
    receiver: Receiver<T>,
}

/// A queue; `name` labels its metrics.
pub fn queue<T>(
    name: &'static str,
    settings: QueueSettings,
    clock: Arc<dyn WallClock>,
) -> (Inlet<T>, Outlet<T>) {
    let settings = QueueSettings {
        capacity: settings.capacity.max(1),
        ..settings
    };
    let (sender, receiver) = crossbeam_channel::bounded(settings.capacity);
    names::gauge_for(Name::QueueCapacity, "queue", name, settings.capacity as f64);
    names::gauge_for(Name::QueueDepth, "queue", name, 0.0);
    // So that a queue that never filled says so.
    names::observe_for(Name::QueueBlocked, "queue", name, Duration::ZERO);
    (
        Inlet {
            name,
            settings,
            sender,
            held: None,
            clock,
        },
        Outlet { name, receiver },
    )
}

impl<T> Inlet<T> {
    /// Hands a batch over if there is room for it, else gives it back; never waits.
    ///
    /// # Errors
    /// [`Disconnected`] when the receiver is gone.
    pub fn offer(&mut self, batch: T) -> Result<Option<T>, Disconnected> {
        match self.sender.try_send(batch) {
            Ok(()) => {
                self.tell();
                Ok(None)
            }
            Err(TrySendError::Full(batch)) => Ok(Some(batch)),
            Err(TrySendError::Disconnected(_)) => Err(Disconnected),
        }
    }

    /// Whether there is room for a batch. Only the queue's one sender can count on it.
    pub fn has_room(&self) -> bool {
        !self.sender.is_full()
    }

    /// For a sender that waits in its own way: it has waited so long.
    pub fn blocked(&self, time: Duration) {
        names::observe_for(Name::QueueBlocked, "queue", self.name, time);
    }

    /// How it is set.
    pub const fn settings(&self) -> QueueSettings {
        self.settings
    }

    /// Another sender into the same queue.
    pub fn another(&self) -> Self {
        Self {
            name: self.name,
            settings: self.settings,
            sender: self.sender.clone(),
            held: None,
            clock: Arc::clone(&self.clock),
        }
    }

    fn wait_and_send(&self, batch: T) -> Result<(), Disconnected> {
        let before = self.clock.now();
        let sent = self.sender.send(batch).map_err(|_| Disconnected);
        let blocked = self.clock.now().saturating_sub(before);
        self.blocked(blocked);
        self.tell();
        sent
    }

    fn tell(&self) {
        names::count_for(Name::QueueIn, "queue", self.name, 1);
        let depth = self.sender.len() as f64;
        names::gauge_for(Name::QueueDepth, "queue", self.name, depth);
    }
}

impl<T: Coalesce> Inlet<T> {
    /// Hands a batch over by the queue's policy.
    ///
    /// # Errors
    /// [`Disconnected`] when the receiver is gone.
    pub fn send(&mut self, batch: T) -> Result<(), Disconnected> {
        let next = match self.held.take() {
            None => Held { batch, merged: 0 },
            Some(mut held) if held.batch.takes_more() => {
                held.batch.coalesce(batch);
                held.merged += 1;
                held
            }
            Some(held) => {
                self.wait_and_send(held.settled())?;
                Held { batch, merged: 0 }
            }
        };
        let may_hold =
            self.settings.when_full == WhenFull::Coalesce && next.merged <= self.settings.capacity;
        if may_hold && self.sender.is_full() {
            self.held = Some(next);
            return Ok(());
        }
        let merged = next.merged;
        match self.offer(next.settled())? {
            None => Ok(()),
            // Another sender was quicker.
            Some(batch) if may_hold => {
                self.held = Some(Held { batch, merged });
                Ok(())
            }
            Some(batch) => self.wait_and_send(batch),
        }
    }

    /// Hands over what coalescing holds back, waiting if need be.
    ///
    /// # Errors
    /// [`Disconnected`] when the receiver is gone.
    pub fn flush(&mut self) -> Result<(), Disconnected> {
        match self.held.take() {
            Some(held) => self.wait_and_send(held.settled()),
            None => Ok(()),
        }
    }
}

impl<T: Coalesce> Held<T> {
    fn settled(mut self) -> T {
        if self.merged > 0 {
            self.batch.settle();
        }
        self.batch
    }
}

impl<T> Outlet<T> {
    /// The next batch; waits up to `patience`.
    pub fn receive(&self, patience: Duration) -> Received<T> {
        match self.receiver.recv_timeout(patience) {
            Ok(batch) => {
                self.tell();
                Received::Batch(batch)
            }
            Err(RecvTimeoutError::Timeout) => Received::Nothing,
            Err(RecvTimeoutError::Disconnected) => Received::Over,
        }
    }

    /// The next batch; waits until there is one, `None` when all senders are gone.
    pub fn next(&self) -> Option<T> {
        let batch = self.receiver.recv().ok()?;
        self.tell();
        Some(batch)
    }

    /// A batch if one is there.
    pub fn ready(&self) -> Option<T> {
        let batch = self.receiver.try_recv().ok()?;
        self.tell();
        Some(batch)
    }

    /// Batches in it.
    pub fn depth(&self) -> usize {
        self.receiver.len()
    }

    /// How full it is, from 0 to 1.
    pub fn fill(&self) -> f64 {
        let capacity = self.receiver.capacity().unwrap_or(1).max(1);
        self.depth() as f64 / capacity as f64
    }

    fn tell(&self) {
        names::count_for(Name::QueueOut, "queue", self.name, 1);
        let depth = self.depth() as f64;
        names::gauge_for(Name::QueueDepth, "queue", self.name, depth);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::MachineClock;

    /// 0 ends what may be merged.
    impl Coalesce for Vec<u32> {
        fn coalesce(&mut self, mut newer: Self) {
            self.append(&mut newer);
        }

        fn takes_more(&self) -> bool {
            self.last() != Some(&0)
        }
    }

    fn of<T>(capacity: usize, when_full: WhenFull) -> (Inlet<T>, Outlet<T>) {
        let settings = QueueSettings {
            capacity,
            when_full,
        };
        queue("test", settings, Arc::new(MachineClock::start()))
    }

    #[test]
    fn a_blocking_queue_loses_nothing_and_ends_when_the_sender_does() {
        let (mut inlet, outlet) = of(2, WhenFull::Block);
        let sender = std::thread::spawn(move || {
            for n in 1..101u32 {
                inlet.send(vec![n]).unwrap();
            }
        });
        let mut got = Vec::new();
        while let Some(mut batch) = outlet.next() {
            assert!(outlet.depth() <= 2 && outlet.fill() <= 1.0);
            got.append(&mut batch);
        }
        sender.join().unwrap();
        assert_eq!(got, (1..101).collect::<Vec<_>>());
        assert!(matches!(outlet.receive(Duration::ZERO), Received::Over));
    }

    #[test]
    fn a_coalescing_queue_merges_as_many_as_it_holds_and_loses_nothing() {
        let (mut inlet, outlet) = of(4, WhenFull::Coalesce);
        for n in 1..=9u32 {
            // Four are in it, one is held, and four go into that one: no wait.
            inlet.send(vec![n]).unwrap();
        }
        assert_eq!(outlet.depth(), 4);
        std::thread::scope(|scope| {
            // The tenth has to wait until there is room.
            scope.spawn(|| inlet.send(vec![10]).unwrap());
            let got: Vec<_> = (0..5).filter_map(|_| outlet.next()).collect();
            assert_eq!(got[0], [1]);
            assert_eq!(got.concat(), (1..=10).collect::<Vec<_>>());
        });
        drop(outlet);
        assert_eq!(inlet.send(vec![1]), Err(Disconnected));
    }

    #[test]
    fn nothing_is_merged_behind_what_ends_a_batch() {
        let (mut inlet, outlet) = of(1, WhenFull::Coalesce);
        for batch in [vec![1], vec![2], vec![0]] {
            inlet.send(batch).unwrap();
        }
        std::thread::scope(|scope| {
            scope.spawn(|| {
                inlet.send(vec![3]).unwrap();
                inlet.flush().unwrap();
            });
            let got: Vec<_> = (0..3).filter_map(|_| outlet.next()).collect();
            assert_eq!(got, [vec![1], vec![2, 0], vec![3]]);
        });
    }

    #[test]
    fn what_is_offered_to_a_full_queue_comes_back() {
        let (mut inlet, outlet) = of(1, WhenFull::Block);
        assert_eq!(inlet.offer(1), Ok(None));
        assert_eq!(inlet.offer(2), Ok(Some(2)));
        assert_eq!(outlet.ready(), Some(1));
        assert_eq!(inlet.offer(2), Ok(None));
        drop(outlet);
        assert_eq!(inlet.offer(3), Err(Disconnected));
    }
}
