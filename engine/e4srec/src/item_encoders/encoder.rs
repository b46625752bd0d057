//! What every item encoder is around its network.

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

use super::choice::ItemEncoder;
use super::network::{Reading, SequenceNetwork, Windows};
use super::training::{self, ItemEncoderReport};
use crate::error::ModelError;
use crate::scoring::{chunk_rows, conservative_ranks, fill_lists};
use crate::windows::{Token, runs};

/// Windows of a forward pass.
const BATCH: usize = 128;

/// A trained network. Frozen: [`Recommender::learn`] does nothing. Tracks that were not in its
/// training log have no rank.
#[derive(Debug)]
pub struct SequenceEncoder<N: SequenceNetwork> {
    pub(super) network: N,
    pub(super) settings: N::Settings,
    pub(super) device: Device,
    /// Row of the network's table by key.
    pub(super) rows: HashMap<TrackKey, i64>,
    pub(super) catalogue: Catalogue,
    /// Row of the network's table by dense id; "some track" where there is none.
    pub(super) row_of: Vec<i64>,
    pub(super) scored: Scored,
}

/// The tracks that can be ranked: admitted, and trained on.
#[derive(Debug, Default)]
pub(super) struct Scored {
    /// `[tracks, q]`
    table: Option<Tensor>,
    tracks: Vec<TrackId>,
    column: HashMap<TrackId, i64>,
}

/// One row of a forward pass, and which of its places answer which asks.
struct Pass {
    rows: Vec<i64>,
    /// Ask and place.
    reads: Vec<(usize, usize)>,
}

impl<N: SequenceNetwork> SequenceEncoder<N> {
    /// The name of the recommender.
    pub const NAME: &'static str = N::NAME;

    /// Trains on a log. `keys` gives the key of each track in it, by dense id.
    ///
    /// # Errors
    /// Settings out of range, a log with a track that has no key, or libtorch's own.
    pub fn fit(
        log: &TrainingLog,
        keys: &[TrackKey],
        settings: &N::Settings,
        device: Device,
        progress: &mut dyn Progress,
    ) -> Result<(Self, ItemEncoderReport), ModelError> {
        N::check(settings)?;
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
        let network = N::new(settings, &trained, device)?;
        let row_of: HashMap<TrackId, i64> = keys
            .iter()
            .zip(0u32..)
            .filter_map(|(key, id)| Some((TrackId(id), *rows.get(key)?)))
            .collect();
        let course = N::course(settings);
        let report = training::train(&network, log, &row_of, &course, device, progress)?;
        let mut model = Self::around(network, settings, device);
        model.rows = rows;
        Ok((model, report))
    }

    /// A model that has not been trained, to take up a state.
    ///
    /// # Errors
    /// Settings out of range, or libtorch's own.
    pub fn untaught(settings: &N::Settings, device: Device) -> Result<Self, ModelError> {
        N::check(settings)?;
        Ok(Self::around(
            N::new(settings, &[], device)?,
            settings,
            device,
        ))
    }

    fn around(network: N, settings: &N::Settings, device: Device) -> Self {
        Self {
            network,
            settings: settings.clone(),
            device,
            rows: HashMap::new(),
            catalogue: Catalogue::default(),
            row_of: Vec::new(),
            scored: Scored::default(),
        }
    }

    /// Takes in the tracks of the catalogue from `before` on.
    pub(super) fn take_in(&mut self, before: usize) -> Result<(), ModelError> {
        let mut changed = false;
        for (key, id) in self.catalogue.keys().iter().zip(0u32..).skip(before) {
            let row = self.rows.get(key).copied();
            self.row_of
                .push(row.unwrap_or(self.network.table().unknown()));
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
            let table = self.network.output_table()?.f_detach()?;
            self.scored.table = Some(table.f_index_select(0, &rows)?);
        }
        Ok(())
    }

    /// What is read to answer: a causal network answers all of a window's questions in one pass, one
    /// that sees both ways reads each question by itself, a hidden play at its end.
    fn passes(&self, asks: &[Ask<'_>]) -> Vec<Pass> {
        let course = N::course(&self.settings);
        let untold = self.network.table().untold();
        let mut passes = Vec::new();
        for run in runs(asks, course.lookback) {
            match course.reading {
                Reading::Causal => passes.push(Pass {
                    rows: std::iter::once(untold)
                        .chain(self.rows_of(&run.tokens))
                        .collect(),
                    reads: run.reads,
                }),
                Reading::Cloze { .. } => passes.extend(run.reads.iter().map(|&(ask, read)| {
                    let read_tokens = run.tokens.get(..read).unwrap_or(&[]);
                    Pass {
                        rows: self.rows_of(read_tokens).chain([untold]).collect(),
                        reads: vec![(ask, read)],
                    }
                })),
            }
        }
        // Windows of like length together: less padding.
        passes.sort_by_key(|pass| pass.rows.len());
        passes
    }

    fn rows_of<'a>(&'a self, tokens: &'a [Token]) -> impl Iterator<Item = i64> + 'a {
        tokens.iter().map(|token| {
            let row = self.row_of.get(token.track.row()).copied();
            row.unwrap_or(self.network.table().unknown())
        })
    }

    /// Query vectors, one per ask, `[asks, q]`.
    fn queries(&self, asks: &[Ask<'_>]) -> Result<Tensor, ModelError> {
        let passes = self.passes(asks);
        let mut found = Vec::new();
        let mut order = Vec::with_capacity(asks.len());
        for batch in passes.chunks(BATCH) {
            let length = batch.last().map_or(0, |pass| pass.rows.len());
            let mut rows = Vec::with_capacity(batch.len() * length);
            let mut places = Vec::new();
            for (number, pass) in batch.iter().enumerate() {
                rows.extend(&pass.rows);
                rows.resize((number + 1) * length, self.network.table().unknown());
                for &(ask, place) in &pass.reads {
                    order.push(ask);
                    places.push((number * length + place) as i64);
                }
            }
            let windows = Windows {
                rows: Tensor::f_from_slice(&rows)?
                    .f_reshape([batch.len() as i64, length as i64])?
                    .f_to_device(self.device)?,
                lengths: batch.iter().map(|pass| pass.rows.len() as i64).collect(),
            };
            let queries = self.network.forward(&windows, Mode::Infer)?;
            let places = Tensor::f_from_slice(&places)?.f_to_device(self.device)?;
            found.push(queries.f_flatten(0, 1)?.f_index_select(0, &places)?);
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

impl<N: SequenceNetwork> ItemEncoder for SequenceEncoder<N> {
    fn item_vectors(&self) -> Result<HashMap<TrackKey, Vec<f32>>, ModelError> {
        let table = self.network.table().items()?.f_to_device(Device::Cpu)?;
        self.rows
            .iter()
            .map(|(&key, &row)| {
                let values: Vec<f32> = Vec::try_from(table.f_select(0, row)?.f_detach()?)?;
                Ok((key, values))
            })
            .collect()
    }
}

impl<N: SequenceNetwork> Recommender for SequenceEncoder<N> {
    fn name(&self) -> &'static str {
        N::NAME
    }

    fn tier(&self) -> Tier {
        N::TIER
    }

    fn admit(&mut self, tracks: &[Admitted<'_>]) -> Result<(), RecommendError> {
        let before = self.catalogue.len();
        self.catalogue.admit(N::NAME, tracks)?;
        self.take_in(before).map_err(|error| error.of(N::NAME))
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
            let track = |column: usize| self.scored.tracks.get(column).copied();
            fill_lists(&mut lists, chunk, &scores, track, (&self.catalogue, limit))
        };
        self.scores(asks, fill, &all)
            .map_err(|error| error.of(N::NAME))?;
        out.append(&mut lists);
        Ok(())
    }

    fn ranks_again(&self) -> bool {
        true
    }

    fn rank_of(
        &mut self,
        asks: &[Ask<'_>],
        actual: &[TrackId],
        ranks: &mut Vec<Option<u32>>,
    ) -> Result<(), RecommendError> {
        check_paired(N::NAME, asks, actual)?;
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
            .map_err(|error| error.of(N::NAME))?;
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
        self.kept().map_err(|error| error.of(N::NAME))
    }

    fn restore(&mut self, state: &[u8], tracks: &[Admitted<'_>]) -> Result<(), RecommendError> {
        self.take_up(state, tracks)
            .map_err(|error| error.of(N::NAME))
    }
}
