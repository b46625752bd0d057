//! SASRec: gives items their vectors, and is a recommender of its own that does not learn online.

use std::collections::HashMap;

use segue_flow::Epoch;
use segue_listen::{TrackId, TrackKey};
use segue_nn::lora::Mode;
use segue_recommend::catalogue::{Catalogue, check_paired};
use segue_recommend::recommender::{
    Admitted, Ask, Example, LearnReport, Ranking, RecommendError, Recommender, Tier,
};
use segue_recommend::training::{Progress, TrainingLog};
use tch::{Device, Tensor};

use self::network::Network;
pub use self::training::SasRecReport;
use crate::error::ModelError;
use crate::scoring::{best, chunk_rows, conservative_ranks};
use crate::settings::SasRecSettings;
use crate::windows::{Run, runs};

mod network;
mod state;
mod training;

const NAME: &str = "sasrec";
/// Windows of a forward pass.
const BATCH: usize = 128;

/// A trained SASRec. Frozen: [`Recommender::learn`] does nothing. Tracks that were not in its
/// training log have no rank.
#[derive(Debug)]
pub struct SasRec {
    network: Network,
    settings: SasRecSettings,
    device: Device,
    /// Row of the network's table by key.
    rows: HashMap<TrackKey, i64>,
    catalogue: Catalogue,
    /// Row of the network's table by dense id; "some track" where there is none.
    row_of: Vec<i64>,
    scored: Scored,
}

/// The tracks that can be ranked: admitted, and trained on.
#[derive(Debug, Default)]
struct Scored {
    /// `[tracks, d]`
    table: Option<Tensor>,
    tracks: Vec<TrackId>,
    column: HashMap<TrackId, i64>,
}

impl SasRec {
    /// Trains on a log. `keys` gives the key of each track in it, by dense id.
    ///
    /// # Errors
    /// Settings out of range, a log with a track that has no key, or libtorch's own.
    pub fn fit(
        log: &TrainingLog,
        keys: &[TrackKey],
        settings: &SasRecSettings,
        device: Device,
        progress: &mut dyn Progress,
    ) -> Result<(Self, SasRecReport), ModelError> {
        settings.check()?;
        let mut trained: Vec<TrackKey> = Vec::new();
        for (id, &count) in log.play_counts().iter().enumerate() {
            if count > 0 {
                let key = keys.get(id).ok_or_else(|| {
                    ModelError::Data(format!(
                        "track id {id} is in the training log but only {} keys were given: give one per id",
                        keys.len()
                    ))
                })?;
                trained.push(*key);
            }
        }
        // Rows in the order of keys: dense ids must not decide anything.
        trained.sort_unstable_by_key(|key| (key.digest(), *key));
        trained.dedup();
        let rows: HashMap<TrackKey, i64> = trained.iter().copied().zip(0i64..).collect();
        let network = Network::new(settings, &trained, device)?;
        let row_of: HashMap<TrackId, i64> = keys
            .iter()
            .zip(0u32..)
            .filter_map(|(key, id)| Some((TrackId(id), *rows.get(key)?)))
            .collect();
        let report = training::train(&network, log, &row_of, settings, device, progress)?;
        let model = Self {
            network,
            settings: settings.clone(),
            device,
            rows,
            catalogue: Catalogue::default(),
            row_of: Vec::new(),
            scored: Scored::default(),
        };
        Ok((model, report))
    }

    /// Components of an item's vector.
    pub fn dimensions(&self) -> usize {
        usize::try_from(self.settings.dimensions).unwrap_or(0)
    }

    /// The vectors of the tracks in the training log, by key.
    ///
    /// # Errors
    /// libtorch's own.
    pub fn item_vectors(&self) -> Result<HashMap<TrackKey, Vec<f32>>, ModelError> {
        let table = self.network.item_table()?.f_to_device(Device::Cpu)?;
        self.rows
            .iter()
            .map(|(&key, &row)| {
                let values: Vec<f32> = Vec::try_from(table.f_select(0, row)?.f_detach()?)?;
                Ok((key, values))
            })
            .collect()
    }

    /// Takes in the tracks of the catalogue from `before` on.
    fn take_in(&mut self, before: usize) -> Result<(), ModelError> {
        let mut changed = false;
        for (key, id) in self.catalogue.keys().iter().zip(0u32..).skip(before) {
            let row = self.rows.get(key).copied();
            self.row_of.push(row.unwrap_or(self.network.unknown()));
            if row.is_some() {
                changed = true;
                self.scored
                    .column
                    .insert(TrackId(id), self.scored.tracks.len() as i64);
                self.scored.tracks.push(TrackId(id));
            }
        }
        if changed {
            let tracks = self.scored.tracks.iter();
            let rows: Vec<i64> = tracks
                .filter_map(|track| self.row_of.get(track.row()).copied())
                .collect();
            let rows = Tensor::f_from_slice(&rows)?.f_to_device(self.device)?;
            let table = self.network.item_table()?.f_detach()?;
            self.scored.table = Some(table.f_index_select(0, &rows)?);
        }
        Ok(())
    }

    /// Query vectors, one per ask, `[asks, d]`.
    fn queries(&self, asks: &[Ask<'_>]) -> Result<Tensor, ModelError> {
        let d = self.settings.dimensions;
        let mut runs = runs(asks, self.settings.lookback);
        // Windows of like length together: less padding.
        runs.sort_by_key(|run| run.tokens.len());
        let mut found = Vec::new();
        let mut order = Vec::with_capacity(asks.len());
        for batch in runs.chunks(BATCH) {
            let length = batch.last().map_or(0, |run| run.tokens.len()) + 1;
            let mut inputs = Vec::with_capacity(batch.len() * length);
            let mut places = Vec::new();
            for (number, run) in batch.iter().enumerate() {
                self.inputs(run, (number + 1) * length, &mut inputs);
                for &(ask, read) in &run.reads {
                    order.push(ask);
                    places.push((number * length + read) as i64);
                }
            }
            let inputs = Tensor::f_from_slice(&inputs)?
                .f_reshape([batch.len() as i64, length as i64])?
                .f_to_device(self.device)?;
            let hidden = self.network.forward(&inputs, Mode::Infer)?;
            let places = Tensor::f_from_slice(&places)?.f_to_device(self.device)?;
            found.push(hidden.f_reshape([-1, d])?.f_index_select(0, &places)?);
        }
        // Back into the order of the asks.
        let mut place_of = vec![0i64; asks.len()];
        for (at, ask) in (0i64..).zip(order) {
            if let Some(place) = place_of.get_mut(ask) {
                *place = at;
            }
        }
        let place_of = Tensor::f_from_slice(&place_of)?.f_to_device(self.device)?;
        Ok(Tensor::f_cat(&found, 0)?.f_index_select(0, &place_of)?)
    }

    fn inputs(&self, run: &Run, until: usize, inputs: &mut Vec<i64>) {
        inputs.push(self.network.nothing_yet());
        inputs.extend(run.tokens.iter().map(|token| {
            let row = self.row_of.get(token.track.row()).copied();
            row.unwrap_or(self.network.unknown())
        }));
        inputs.resize(until, self.network.unknown());
    }

    /// Calls `each` with the scores of chunks of asks, `[n, tracks]`.
    fn scores(
        &self,
        asks: &[Ask<'_>],
        mut each: impl FnMut(&[usize], Tensor) -> Result<(), ModelError>,
        wanted: &[usize],
    ) -> Result<(), ModelError> {
        let Some(table) = self.scored.table.as_ref().filter(|_| !wanted.is_empty()) else {
            return Ok(());
        };
        tch::no_grad(|| {
            let subset: Vec<Ask<'_>> = wanted
                .iter()
                .filter_map(|&at| asks.get(at).copied())
                .collect();
            let queries = self.queries(&subset)?;
            let rows = chunk_rows(table.size2()?.0);
            let mut at = 0i64;
            for chunk in wanted.chunks(rows as usize) {
                let length = chunk.len() as i64;
                let scores = queries.f_narrow(0, at, length)?.f_matmul(&table.f_tr()?)?;
                each(chunk, scores)?;
                at += length;
            }
            Ok(())
        })
    }
}

impl Recommender for SasRec {
    fn name(&self) -> &'static str {
        NAME
    }

    fn tier(&self) -> Tier {
        Tier::ItemEncoder
    }

    fn admit(&mut self, tracks: &[Admitted<'_>]) -> Result<(), RecommendError> {
        let before = self.catalogue.len();
        self.catalogue.admit(NAME, tracks)?;
        self.take_in(before).map_err(|error| error.of(NAME))
    }

    fn recommend(
        &mut self,
        asks: &[Ask<'_>],
        limit: usize,
        out: &mut Vec<Ranking>,
    ) -> Result<(), RecommendError> {
        let mut lists = vec![Ranking::default(); asks.len()];
        let all: Vec<usize> = (0..asks.len()).collect();
        let fill = |chunk: &[usize], scores: Tensor| -> Result<(), ModelError> {
            for (row, &ask) in (0i64..).zip(chunk) {
                let values: Vec<f32> =
                    Vec::try_from(scores.f_select(0, row)?.f_to_device(Device::Cpu)?)?;
                let track = |column: usize| self.scored.tracks.get(column).copied();
                if let Some(list) = lists.get_mut(ask) {
                    *list = best(&values, track, &self.catalogue, limit);
                }
            }
            Ok(())
        };
        self.scores(asks, fill, &all)
            .map_err(|error| error.of(NAME))?;
        out.append(&mut lists);
        Ok(())
    }

    fn rank_of(
        &mut self,
        asks: &[Ask<'_>],
        actual: &[TrackId],
        ranks: &mut Vec<Option<u32>>,
    ) -> Result<(), RecommendError> {
        check_paired(NAME, asks, actual)?;
        let mut found = vec![None; asks.len()];
        let column = |ask: usize| {
            actual
                .get(ask)
                .and_then(|t| self.scored.column.get(t))
                .copied()
        };
        // A track without a vector costs no forward pass.
        let wanted: Vec<usize> = (0..asks.len())
            .filter(|&ask| column(ask).is_some())
            .collect();
        let fill = |chunk: &[usize], scores: Tensor| -> Result<(), ModelError> {
            let targets: Vec<i64> = chunk.iter().filter_map(|&ask| column(ask)).collect();
            let targets = Tensor::f_from_slice(&targets)?.f_to_device(self.device)?;
            for (&ask, rank) in chunk.iter().zip(conservative_ranks(&scores, &targets)?) {
                if let Some(place) = found.get_mut(ask) {
                    *place = u32::try_from(rank).ok();
                }
            }
            Ok(())
        };
        self.scores(asks, fill, &wanted)
            .map_err(|error| error.of(NAME))?;
        ranks.append(&mut found);
        Ok(())
    }

    fn learn(&mut self, _: Epoch, examples: &[Example<'_>]) -> Result<LearnReport, RecommendError> {
        Ok(LearnReport {
            examples: examples.len() as u64,
            loss: None,
        })
    }

    fn snapshot(&self) -> Result<Vec<u8>, RecommendError> {
        self.kept().map_err(|error| error.of(NAME))
    }

    fn restore(&mut self, state: &[u8], tracks: &[Admitted<'_>]) -> Result<(), RecommendError> {
        self.take_up(state, tracks).map_err(|error| error.of(NAME))
    }
}

#[cfg(test)]
mod tests;
