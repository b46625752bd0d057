//! The contracts: readers and the writer are different people.
//!
//! A reader holds an [`Index`], an immutable snapshot: it answers the same for as long as it is held,
//! whatever the writer does. The writer, of whom there is one, changes vectors, and what it changed
//! becomes visible with the snapshot that its next [`IndexWriter::publish`] returns: all of it, at
//! once.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use segue_listen::TrackId;

use crate::explain::Explanation;
use crate::vectors::{Vector, VectorError};

/// An immutable snapshot of the vectors of all tracks.
pub trait Index: Send + Sync {
    /// Which snapshot this is.
    fn version(&self) -> IndexVersion;

    /// Components of every vector in it.
    fn dimensions(&self) -> usize;

    /// Tracks in it.
    fn len(&self) -> usize;

    /// Whether it holds no track.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A track's vector as it is stored: of length 1 under the cosine metric, as given under inner
    /// product; in place, or unpacked if it is stored in 16 bits. `None` if the snapshot does not hold the track.
    fn row(&self, track: TrackId) -> Option<Cow<'_, [f32]>>;

    /// Replaces `hits` with the tracks nearest to `query` for which `keep` is true, best first (see
    /// [`Hit::order`]): as many as `limit`, or all there are. `keep` may be called for any track, in
    /// any order, more than once.
    ///
    /// # Errors
    /// [`VectorError::Length`] if the query has not [`Index::dimensions`] components; `hits` is then
    /// empty.
    fn search(
        &self,
        query: Vector<'_>,
        limit: usize,
        keep: &dyn Fn(TrackId) -> bool,
        hits: &mut Vec<Hit>,
    ) -> Result<(), VectorError>;

    /// A search that also tells how it came to its answer, which is the same.
    ///
    /// # Errors
    /// As [`Index::search`].
    fn explain(
        &self,
        query: Vector<'_>,
        limit: usize,
        keep: &dyn Fn(TrackId) -> bool,
        hits: &mut Vec<Hit>,
    ) -> Result<Explanation, VectorError>;
}

/// The one that changes vectors and publishes snapshots.
pub trait IndexWriter: Send {
    /// Gives a track its vector, or another one.
    ///
    /// # Errors
    /// If the vector has the wrong length or the track's id is beyond the index's limit; nothing is
    /// changed then.
    fn upsert(&mut self, track: TrackId, vector: Vector<'_>) -> Result<(), RecallError>;

    /// Takes a track out. An unknown track is no error.
    fn remove(&mut self, track: TrackId);

    /// The snapshot of everything up to here, labelled with the epoch at whose barrier it is taken.
    fn publish(&mut self, epoch: u64) -> Arc<dyn Index>;
}

/// Which snapshot an answer came from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct IndexVersion {
    /// The epoch at whose barrier it was published.
    pub epoch: u64,
    /// Upserts and removals that it has seen.
    pub changes: u64,
}

impl fmt::Display for IndexVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {} change {}", self.epoch, self.changes)
    }
}

/// A track found, and how near it is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Hit {
    /// The track.
    pub track: TrackId,
    /// Its nearness under the index's metric; greater is nearer, always finite. It is computed from
    /// the stored row, by every kind of index with the same bits.
    pub score: f32,
}

impl Hit {
    /// The order of results: greater score first, equal scores by dense id. Dense ids are addresses
    /// and differ between runs with several lanes: who must give the same answer there asks for a few
    /// more and breaks ties by the stable track key.
    pub fn order(&self, other: &Self) -> Ordering {
        other
            .score
            .total_cmp(&self.score)
            .then(self.track.cmp(&other.track))
    }
}

/// Why a vector was not taken. Segue keeps the track without it (its row only is spoiled) and counts.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum RecallError {
    /// The vector does not fit.
    #[error("vector of track {}: {source}", track.0)]
    Vector {
        /// The track it was for.
        track: TrackId,
        /// What is wrong with it.
        source: VectorError,
    },
    /// The id is beyond what the index may hold.
    #[error("track id {} is beyond recall.max_tracks = {max_tracks}: raise it", track.0)]
    TooManyTracks {
        /// The id.
        track: TrackId,
        /// The limit.
        max_tracks: usize,
    },
}
