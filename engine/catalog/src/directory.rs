//! The directory of tracks: key → dense id. Its owner gives the ids, in the order in which the merged
//! lanes first play the tracks; anybody may look one up.

use std::sync::atomic::{AtomicU32, Ordering};

use dashmap::DashMap;
use foldhash::fast::FixedState;
use segue_listen::{TrackId, TrackKey};

/// All tracks seen so far.
#[derive(Debug)]
pub struct Directory {
    ids: DashMap<TrackKey, TrackId, FixedState>,
    next: AtomicU32,
}

/// A look-up's outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sighting {
    /// It has been seen before.
    Known(TrackId),
    /// It has not: whoever gets this announces the track to the newcomers.
    New(TrackId),
}

impl Sighting {
    /// The id, either way.
    pub const fn track(self) -> TrackId {
        match self {
            Sighting::Known(track) | Sighting::New(track) => track,
        }
    }
}

/// More tracks than a dense id can number. Segue stops: the catalogue needs pruning.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the catalogue is full: {0} tracks")]
pub struct CatalogueFull(pub u32);

impl Default for Directory {
    fn default() -> Self {
        Self {
            ids: DashMap::with_hasher(FixedState::default()),
            next: AtomicU32::new(0),
        }
    }
}

impl Directory {
    /// The id of `key`; given now if nobody saw it before. Ids have no gaps.
    ///
    /// # Errors
    /// [`CatalogueFull`] at 2^32 - 1 tracks.
    pub fn sight(&self, key: TrackKey) -> Result<Sighting, CatalogueFull> {
        if let Some(track) = self.ids.get(&key) {
            return Ok(Sighting::Known(*track));
        }
        match self.ids.entry(key) {
            dashmap::Entry::Occupied(entry) => Ok(Sighting::Known(*entry.get())),
            dashmap::Entry::Vacant(entry) => {
                // The shard's lock is held: no other thread can give this key an id.
                let id = self.next.fetch_add(1, Ordering::Relaxed);
                if id == u32::MAX {
                    self.next.store(u32::MAX, Ordering::Relaxed);
                    return Err(CatalogueFull(id));
                }
                entry.insert(TrackId(id));
                Ok(Sighting::New(TrackId(id)))
            }
        }
    }

    /// The id of `key`, if it has one.
    pub fn get(&self, key: TrackKey) -> Option<TrackId> {
        self.ids.get(&key).map(|track| *track)
    }

    /// How many tracks there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_dense_and_each_track_is_new_once_whoever_asks() {
        let directory = Directory::default();
        let new = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..1_000u128)
                            .filter(|key| {
                                matches!(directory.sight(TrackKey(*key)), Ok(Sighting::New(_)))
                            })
                            .count()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|t| t.join().unwrap())
                .sum::<usize>()
        });
        assert_eq!(new, 1_000);
        let mut ids: Vec<_> = (0..1_000u128)
            .map(|key| directory.get(TrackKey(key)).unwrap().0)
            .collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..1_000).collect::<Vec<_>>());
    }
}
