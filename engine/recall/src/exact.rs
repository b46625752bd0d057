//! The exact index: every row is looked at. It misses nothing, so it is the oracle for the graph; and
//! for some ten thousand rows it is also the fastest.

use std::sync::Arc;

use segue_listen::TrackId;

use crate::best::Best;
use crate::index::{Hit, Index, IndexVersion, IndexWriter, RecallError};
use crate::settings::{Metric, Settings, SettingsError};
use crate::vectors::{Vector, VectorError, VectorTable, score};

/// The writer of exact indexes; also the part of the graph's writer that keeps the rows.
pub struct ExactWriter {
    metric: Metric,
    max_tracks: usize,
    table: VectorTable,
    changes: u64,
}

/// A snapshot that is searched row by row.
pub(crate) struct ExactIndex {
    metric: Metric,
    table: VectorTable,
    version: IndexVersion,
}

impl ExactWriter {
    /// An empty index of vectors of `dimensions` components.
    ///
    /// # Errors
    /// If a setting is out of range, or there are no dimensions.
    pub fn new(dimensions: usize, settings: &Settings) -> Result<Self, SettingsError> {
        settings.check()?;
        if dimensions == 0 || dimensions > MAX_DIMENSIONS {
            return Err(SettingsError {
                key: "dimensions",
                value: dimensions.to_string(),
                range: "to what the encoder gives, from 1 to 65536",
            });
        }
        Ok(Self {
            metric: settings.metric,
            max_tracks: settings.max_tracks,
            table: VectorTable::new(dimensions),
            changes: 0,
        })
    }

    /// The rows as they are now.
    pub(crate) fn table(&self) -> &VectorTable {
        &self.table
    }

    pub(crate) fn snapshot(&self, epoch: u64) -> ExactIndex {
        let version = IndexVersion {
            epoch,
            changes: self.changes,
        };
        ExactIndex {
            metric: self.metric,
            table: self.table.clone(),
            version,
        }
    }
}

/// A guard: no encoder of today gives a tenth of it.
const MAX_DIMENSIONS: usize = 65_536;

impl IndexWriter for ExactWriter {
    fn upsert(&mut self, track: TrackId, vector: Vector<'_>) -> Result<(), RecallError> {
        if track.row() >= self.max_tracks {
            return Err(RecallError::TooManyTracks {
                track,
                max_tracks: self.max_tracks,
            });
        }
        let factor = match self.metric {
            Metric::Cosine => 1.0 / vector.norm(),
            Metric::InnerProduct => 1.0,
        };
        self.table
            .set(track, vector, factor)
            .map_err(|source| RecallError::Vector { track, source })?;
        self.changes += 1;
        Ok(())
    }

    fn remove(&mut self, track: TrackId) {
        if self.table.clear(track) {
            self.changes += 1;
        }
    }

    fn publish(&mut self, epoch: u64) -> Arc<dyn Index> {
        Arc::new(self.snapshot(epoch))
    }
}

impl ExactIndex {
    /// What ⟨query, row⟩ is multiplied with to give the score.
    pub(crate) fn factor(&self, query: Vector<'_>) -> f32 {
        match self.metric {
            Metric::Cosine => (1.0 / query.norm()) as f32,
            Metric::InnerProduct => 1.0,
        }
    }

    /// Offers one track, if it is there; whether it is among the best so far.
    pub(crate) fn offer(
        &self,
        track: TrackId,
        query: &[f32],
        factor: f32,
        best: &mut Best<'_>,
    ) -> bool {
        let Some(row) = self.table.row(track) else {
            return false;
        };
        best.offer(Hit {
            track,
            score: score(query, row, factor),
        })
    }
}

impl Index for ExactIndex {
    fn version(&self) -> IndexVersion {
        self.version
    }

    fn dimensions(&self) -> usize {
        self.table.dimensions()
    }

    fn len(&self) -> usize {
        self.table.len()
    }

    fn row(&self, track: TrackId) -> Option<&[f32]> {
        self.table.row(track)
    }

    fn search(
        &self,
        query: Vector<'_>,
        limit: usize,
        keep: &dyn Fn(TrackId) -> bool,
        hits: &mut Vec<Hit>,
    ) -> Result<(), VectorError> {
        let mut best = Best::new(hits, limit);
        let query = query.of_length(self.table.dimensions())?;
        let factor = self.factor(query);
        if limit > 0 {
            for (track, row) in self.table.iter() {
                let hit = Hit {
                    track,
                    score: score(query.components(), row, factor),
                };
                // The filter is asked last: most rows never get that far.
                if best.wants(&hit) && keep(track) {
                    best.offer(hit);
                }
            }
        }
        best.finish();
        Ok(())
    }
}
