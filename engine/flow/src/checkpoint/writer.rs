//! Writes checkpoints on a thread of its own: whoever takes them goes on while disk or object store
//! answer.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;

use super::error::CheckpointError;
use super::manifest::ManifestBody;
use super::store::CheckpointStore;
use crate::epoch::Epoch;

/// All that a checkpoint is made of.
#[derive(Debug)]
pub struct Whole {
    /// The epoch that it closes.
    pub epoch: Epoch,
    /// Its parts, by name.
    pub parts: Vec<(String, Vec<u8>)>,
    /// What it is the state of.
    pub body: ManifestBody,
}

/// Of the parts of a checkpoint that has been written, in their order, for those to come; empty where it could
/// not be had back.
pub type Memory = Vec<Vec<u8>>;

enum Order {
    Write(Whole),
    Prune,
}

/// A store and the thread that writes into it. One checkpoint is written at a time.
#[derive(Debug)]
pub struct CheckpointWriter {
    /// `None` once it is to end.
    orders: Option<SyncSender<Order>>,
    outcomes: Receiver<Result<Memory, CheckpointError>>,
    thread: Option<JoinHandle<()>>,
}

impl CheckpointWriter {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`CheckpointError::Internal`]: there can be no thread.
    pub fn start(store: CheckpointStore) -> Result<Self, CheckpointError> {
        // One that is written, and the pruning after it.
        let (orders, taken) = sync_channel(2);
        let (told, outcomes) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("checkpoints".to_owned())
            .spawn(move || serve(store, &taken, &told))
            .map_err(|error| CheckpointError::Internal {
                detail: format!("the thread that writes checkpoints cannot be started: {error}"),
            })?;
        Ok(Self {
            orders: Some(orders),
            outcomes,
            thread: Some(thread),
        })
    }

    /// Begins to write a checkpoint. [`outcome`](CheckpointWriter::outcome) or [`wait`](CheckpointWriter::wait) tells how it went, and is to
    /// be asked before another is begun.
    pub fn write(&self, whole: Whole) {
        self.order(Order::Write(whole));
    }

    /// Removes old checkpoints, once what was written last is committed: until then an older one may be
    /// what a crash leads back to.
    pub fn prune(&self) {
        self.order(Order::Prune);
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // A thread that is gone has nothing to tell either, which is how that is found out.
            orders.send(order).ok();
        }
    }

    /// How the checkpoint went that was begun last: sealed, and its memory, or why not; `None` if that is not known
    /// yet.
    pub fn outcome(&self) -> Option<Result<Memory, CheckpointError>> {
        match self.outcomes.try_recv() {
            Ok(outcome) => Some(outcome),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(gone())),
        }
    }

    /// The same, as soon as it is known.
    ///
    /// # Errors
    /// Why it is not sealed.
    pub fn wait(&self) -> Result<Memory, CheckpointError> {
        self.outcomes.recv().unwrap_or_else(|_| Err(gone()))
    }
}

impl Drop for CheckpointWriter {
    /// What was begun is ended, and the store let go of.
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes checkpoints panicked: a bug");
        }
    }
}

fn gone() -> CheckpointError {
    CheckpointError::Internal {
        detail: "the thread that writes checkpoints has ended: a bug".to_owned(),
    }
}

fn serve(
    mut store: CheckpointStore,
    orders: &Receiver<Order>,
    told: &SyncSender<Result<Memory, CheckpointError>>,
) {
    while let Ok(order) = orders.recv() {
        match order {
            Order::Write(whole) => {
                if told.send(write(&mut store, whole)).is_err() {
                    return;
                }
            }
            Order::Prune => {
                if let Err(error) = store.prune() {
                    tracing::warn!(%error, "old checkpoints stay for now");
                }
            }
        }
    }
}

fn write(store: &mut CheckpointStore, whole: Whole) -> Result<Memory, CheckpointError> {
    let mut draft = store.begin(whole.epoch)?;
    let memory = draft.parts(whole.parts)?;
    draft.seal(whole.body).map(|_| memory)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::settings::CheckpointSettings;
    use super::*;

    fn whole(epoch: u64, names: &[&str]) -> Whole {
        let part = |name: &&str| ((*name).to_owned(), vec![epoch as u8; 3]);
        Whole {
            epoch: Epoch(epoch),
            parts: names.iter().map(part).collect(),
            body: ManifestBody {
                positions: Vec::new(),
                partitions: 1,
                formats: BTreeMap::new(),
                fixed: BTreeMap::new(),
            },
        }
    }

    #[test]
    fn what_is_written_is_there_and_old_ones_go_once_that_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let settings = CheckpointSettings {
            url: folder.path().display().to_string(),
            keep: 2,
            ..CheckpointSettings::default()
        };
        let writer = CheckpointWriter::start(CheckpointStore::open(&settings).unwrap()).unwrap();
        assert!(writer.outcome().is_none(), "nothing was begun");
        for epoch in 1..=3 {
            let whole = whole(epoch, &["a", "b"]);
            let parts = whole.parts.iter();
            let starts: Vec<_> = parts.map(|(_, bytes)| bytes.as_ptr()).collect();
            writer.write(whole);
            let memory = writer.wait().unwrap();
            assert!(memory.iter().map(Vec::as_ptr).eq(starts), "it comes back");
        }
        writer.write(whole(4, &["a", "a"]));
        let refused = writer.wait().unwrap_err();
        assert!(refused.to_string().contains("written twice"), "{refused}");
        let listed = || CheckpointStore::open(&settings).unwrap().list().unwrap();
        assert_eq!(listed().len(), 3);
        writer.prune();
        drop(writer);
        let epochs: Vec<_> = listed()
            .into_iter()
            .map(|listed| listed.manifest.unwrap().epoch.0)
            .collect();
        assert_eq!(epochs, [3, 2]);
    }
}
