//! What can be replayed: listens in time order, pulled one by one.

use segue_listen::{EventTime, Listen, ListenRef};

use crate::error::ReplayError;
use crate::ordered::OrderedListens;

/// Listens in time order.
pub trait ListenStream {
    /// The next listen; `None` after the last.
    ///
    /// # Errors
    /// Those of where it comes from.
    fn next_listen(&mut self) -> Result<Option<ListenRef<'_>>, ReplayError>;

    /// How many listens there are in all, if that is known.
    fn total(&self) -> Option<u64>;

    /// The last listen's time, if that is known.
    fn last(&self) -> Option<EventTime>;
}

impl ListenStream for OrderedListens {
    fn next_listen(&mut self) -> Result<Option<ListenRef<'_>>, ReplayError> {
        OrderedListens::next_listen(self)
    }

    fn total(&self) -> Option<u64> {
        Some(self.report().listens)
    }

    fn last(&self) -> Option<EventTime> {
        self.report().last
    }
}

/// An iterator whose listens are in time order already, as the simulator's are.
#[derive(Debug)]
pub struct InOrder<I> {
    listens: I,
    current: Option<Listen>,
    total: Option<u64>,
}

impl<I: Iterator<Item = Listen>> InOrder<I> {
    /// The listens of `listens`, of which there are `total` if that is known.
    pub fn new(listens: I, total: Option<u64>) -> Self {
        Self {
            listens,
            current: None,
            total,
        }
    }
}

impl<I: Iterator<Item = Listen>> ListenStream for InOrder<I> {
    fn next_listen(&mut self) -> Result<Option<ListenRef<'_>>, ReplayError> {
        self.current = self.listens.next();
        Ok(self.current.as_ref().map(Listen::borrowed))
    }

    fn total(&self) -> Option<u64> {
        self.total
    }

    fn last(&self) -> Option<EventTime> {
        None
    }
}
