//! The exact index: every row is looked at. It misses nothing, so it is the oracle for the graph; and
//! for some ten thousand rows it is also the fastest.

use std::borrow::Cow;
use std::sync::Arc;

use segue_listen::TrackId;

use crate::best::Best;
use crate::explain::{Explanation, Origin, Path, Reason};
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
        check_dimensions(dimensions)?;
        Ok(Self {
            metric: settings.metric,
            max_tracks: settings.max_tracks,
            table: VectorTable::new(dimensions),
            changes: 0,
        })
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

/// Refuses what no vector has.
pub(crate) fn check_dimensions(dimensions: usize) -> Result<(), SettingsError> {
    if (1..=MAX_DIMENSIONS).contains(&dimensions) {
        return Ok(());
    }
    Err(SettingsError {
        key: "dimensions",
        value: dimensions.to_string(),
        range: "to what the encoder gives, from 1 to 65536",
    })
}

impl IndexWriter for ExactWriter {
    fn upsert(&mut self, track: TrackId, vector: Vector<'_>) -> Result<(), RecallError> {
        if track.row() >= self.max_tracks {
            return Err(RecallError::TooManyTracks {
                track,
                max_tracks: self.max_tracks,
            });
        }
        let factor = self.metric.row_factor(vector);
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

    fn row(&self, track: TrackId) -> Option<Cow<'_, [f32]>> {
        self.table.row(track).map(Cow::Borrowed)
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
        let factor = self.metric.score_factor(query);
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

    fn explain(
        &self,
        query: Vector<'_>,
        limit: usize,
        keep: &dyn Fn(TrackId) -> bool,
        hits: &mut Vec<Hit>,
    ) -> Result<Explanation, VectorError> {
        self.search(query, limit, keep, hits)?;
        Ok(Explanation {
            version: self.version,
            path: Path::Exact(Reason::Kind),
            scanned: self.table.len(),
            origins: vec![Origin::Scan; hits.len()],
            ..Explanation::default()
        })
    }
}
