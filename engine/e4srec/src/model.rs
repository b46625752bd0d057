//! E4SRec: a language model that reads plays as tokens and ranks any track there is.
//!
//! `score(i) = ⟨q, v_i⟩ + w · personal(i) + b · ln(1 + plays(i))`, where the query `q` is made of the
//! hidden state behind the newest play and of the vectors of the newest plays ([`crate::head`]),
//! `v_i` comes from the tower ([`crate::item_tower`]), and the personal logit from the context
//! ([`crate::personal`]).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use segue_listen::{TrackId, TrackKey};
use segue_recommend::Ask;
use segue_recommend::catalogue::Catalogue;
use segue_recommend::recommender::Admitted;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::adapter::Journal;
use crate::backbone::Backbone;
use crate::error::ModelError;
use crate::head::{Head, QueryInputs};
use crate::hidden::{Freshness, Memo};
use crate::history::AdapterHistory;
use crate::inputs::InputTable;
use crate::item_tower::{ItemTower, NewRow};
use crate::learner::Learner;
use crate::lines::Lines;
use crate::listener_cache::ListenerCache;
use crate::memory::Memory;
use crate::offline::check_content;
use crate::personal::Personal;
use crate::popularity::Popularity;
use crate::scoring::chunk_rows;
use crate::settings::{E4SRecSettings, OnlineSettings};

/// Newest plays in their fading mean, and what each keeps of the weight of the next.
const LATELY: usize = 16;
const FADE: f32 = 0.8;

/// What training found out about a track.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Trained {
    pub residual: Vec<f32>,
    pub plays: u32,
    pub fading: f64,
}

/// E4SRec, frozen or learning online.
#[derive(Debug)]
pub struct E4SRec {
    pub(crate) settings: E4SRecSettings,
    /// Whether it has been trained. One that has not takes up the state of one that has, and refuses to
    /// answer: E4SRec without training is chance, whatever its language model knows.
    pub(crate) taught: bool,
    pub(crate) backbone: Backbone,
    pub(crate) head: Head,
    pub(crate) tower: ItemTower,
    pub(crate) inputs: InputTable,
    pub(crate) popularity: Popularity,
    /// `ln(1 + plays)` by row, as of the last barrier.
    pub(crate) levels: Vec<f32>,
    pub(crate) catalogue: Catalogue,
    pub(crate) learner: Option<Learner>,
    pub(crate) cache: Option<ListenerCache>,
    pub(crate) adapter_version: u64,
    /// Whether plays are counted and remembered where nothing is learnt.
    pub(crate) follows: bool,
    /// Tracks, the first of the catalogue, that were there before the epoch that is going on: those
    /// of the training, then those that had been admitted when the last epoch was learnt.
    pub(crate) settled: usize,
    pub(crate) journal: Journal,
    /// Where published adapters are kept, if anywhere.
    pub(crate) history: Option<AdapterHistory>,
    /// What training found out about tracks that are still to come.
    pub(crate) trained: HashMap<TrackKey, Trained>,
    /// Plays of tracks that were not admitted yet.
    pub(crate) pending: BTreeMap<TrackId, u32>,
    /// What each listener has played, as far as this model has learnt it.
    pub(crate) memory: Memory,
    pub(crate) memo: Arc<Mutex<Memo>>,
}

impl E4SRec {
    pub(crate) fn assemble(
        settings: &E4SRecSettings,
        backbone: Backbone,
        head: Head,
        (tower, lines): (ItemTower, Lines),
        trained: HashMap<TrackKey, Trained>,
    ) -> Result<Self, ModelError> {
        let device = backbone.device();
        Ok(Self {
            inputs: InputTable::new(settings.tower.dimensions, device, lines)?,
            popularity: Popularity::new(settings.online.half_life, settings.online.recent),
            levels: Vec::new(),
            catalogue: Catalogue::default(),
            learner: None,
            cache: None,
            adapter_version: 0,
            follows: false,
            settled: 0,
            journal: Journal::default(),
            history: None,
            pending: BTreeMap::new(),
            memory: Memory::new(settings.online.remembered),
            memo: Arc::default(),
            settings: settings.clone(),
            taught: false,
            backbone,
            head,
            tower,
            trained,
        })
    }

    /// Refuses to answer from chance.
    pub(crate) fn check_taught(&self) -> Result<(), ModelError> {
        if self.taught {
            Ok(())
        } else {
            Err(ModelError::Untaught)
        }
    }

    /// The same model with the same values on the same frozen weights, not learning.
    ///
    /// # Errors
    /// libtorch's own.
    pub fn frozen(&self) -> Result<Self, ModelError> {
        let mut backbone = self.backbone.copy()?;
        backbone.decoder.merge_lora()?;
        Ok(Self {
            settings: self.settings.clone(),
            taught: self.taught,
            head: self.head.copy()?,
            tower: self.tower.copy()?,
            inputs: self.inputs.copy()?,
            popularity: self.popularity.clone(),
            levels: self.levels.clone(),
            catalogue: self.catalogue.clone(),
            learner: None,
            cache: None,
            adapter_version: self.adapter_version,
            follows: false,
            settled: self.settled,
            journal: Journal::default(),
            history: None,
            trained: self.trained.clone(),
            pending: self.pending.clone(),
            memory: self.memory.clone(),
            memo: Arc::default(),
            backbone,
        })
    }

    /// The same model with its parameters as they are, whose state follows the stream: plays are
    /// counted and each listener's are remembered. What [`E4SRec::online`] is ahead of it, is
    /// learnt; what it is ahead of [`E4SRec::frozen`], is only known.
    ///
    /// It shares the hidden states of `self` between two barriers, so that where both are asked
    /// the same the language model reads once; if `self` learns, it shares nothing.
    ///
    /// # Errors
    /// libtorch's own.
    pub fn following(&self) -> Result<Self, ModelError> {
        let mut model = self.frozen()?;
        model.follows = true;
        if self.learner.is_none() {
            model.memo = self.memo.clone();
        }
        Ok(model)
    }

    /// The same model, learning from now on.
    ///
    /// # Errors
    /// libtorch's own.
    pub fn online(&self) -> Result<Self, ModelError> {
        let mut model = self.frozen()?;
        model.learner = Some(Learner::new(&model)?);
        Ok(model)
    }

    /// The version of the adapter that answers; it grows by one with each that is published.
    pub fn adapter_version(&self) -> u64 {
        self.adapter_version
    }

    /// The adapters that it publishes.
    pub fn journal(&self) -> Journal {
        self.journal.clone()
    }

    /// Keeps the adapters that it publishes from now on.
    pub fn keep_history(&mut self, history: AdapterHistory) {
        self.history = Some(history);
    }

    /// Learns otherwise from now on; for measurements.
    pub fn set_online(&mut self, settings: OnlineSettings) {
        self.settings.online = settings;
    }

    /// Forgets all that was computed of listeners, so that each window is read whole; for measurements.
    pub fn forget_listeners(&mut self) {
        self.forget_memo();
        if let Some(cache) = &mut self.cache {
            cache.clear();
        }
    }

    /// The parameters that all tracks share; they share their memory with the model.
    pub(crate) fn shared(&self) -> Vec<Tensor> {
        let mut shared = self.backbone.adapter();
        shared.extend(self.backbone.front());
        shared.extend(self.head.parameters());
        shared.extend(self.tower.map.parameters());
        shared
    }

    pub(crate) fn device(&self) -> Device {
        self.backbone.device()
    }

    pub(crate) fn admit_tracks(
        &mut self,
        name: &'static str,
        tracks: &[Admitted<'_>],
    ) -> Result<(), ModelError> {
        let width = self.settings.tower.content;
        for admitted in tracks {
            check_content(admitted, width)?;
        }
        let before = self.catalogue.len();
        self.catalogue
            .admit(name, tracks)
            .map_err(|error| ModelError::Data(error.detail))?;
        let mut new_rows: Vec<NewRow> = Vec::new();
        let mut late = Vec::new();
        for admitted in tracks {
            let row = admitted.track.row();
            let content = admitted.content.map(<[f32]>::to_vec);
            if row >= before + new_rows.len() {
                self.inputs.lines.admit(admitted.key, admitted.names)?;
                let trained = self.trained.remove(&admitted.key);
                let pending = self.pending.remove(&admitted.track).unwrap_or(0);
                let known = trained.as_ref();
                let plays = known.map_or(0, |known| known.plays).saturating_add(pending);
                let fading = known.map_or(0.0, |known| known.fading) + f64::from(pending);
                self.popularity.admit(admitted.key, plays, fading);
                if trained.is_some() {
                    self.settled = row + 1;
                }
                new_rows.push(NewRow {
                    content,
                    residual: trained.map(|trained| trained.residual),
                    plays,
                });
            } else if let Some(content) = content {
                match row.checked_sub(before).and_then(|at| new_rows.get_mut(at)) {
                    Some(new) => new.content = Some(content),
                    None if !self.tower.has_content(row as i64, &content)? => {
                        late.push((row as i64, content));
                    }
                    None => {}
                }
            }
        }
        self.tower.grow(&new_rows)?;
        let mut rows: Vec<i64> = (before as i64..self.tower.rows()).collect();
        for (row, content) in &late {
            self.tower.set_content(*row, content)?;
            rows.push(*row);
        }
        rows.dedup();
        if rows.is_empty() {
            return Ok(());
        }
        let device = self.device();
        let index = |rows: &[i64]| -> Result<Tensor, ModelError> {
            Ok(Tensor::f_from_slice(rows)?.f_to_device(device)?)
        };
        let changed = index(&rows)?;
        // A track of which only the key is known is read as "some track" until there is more.
        rows.retain(|&row| {
            let new = usize::try_from(row - before as i64).ok();
            new.and_then(|at| new_rows.get(at))
                .is_none_or(|new| new.content.is_some() || new.residual.is_some())
        });
        self.tower.refresh_content(&changed)?;
        if !rows.is_empty() {
            let vectors = self.tower.vectors()?.f_index_select(0, &index(&rows)?)?;
            self.inputs.set(&rows, &vectors)?;
        }
        self.popularity.sort();
        self.levels = self.popularity.levels();
        Ok(())
    }

    /// A new adapter answers from now on. What those before it have read of listeners stays as long as `behind`
    /// adapters say, and is void where there is none of them any more.
    pub(crate) fn publish(&mut self, behind: u64) -> Result<(), ModelError> {
        self.backbone.decoder.merge_lora()?;
        self.adapter_version += 1;
        self.forget_memo();
        let version = self.adapter_version;
        if let Some(cache) = &mut self.cache {
            cache.change_adapter(version, version.saturating_sub(behind));
        }
        self.inputs.set_all(&self.tower.vectors()?)
    }

    /// The parts of the queries, for hidden states `[asks, hidden]`.
    pub(crate) fn query_inputs(
        &self,
        asks: &[Ask<'_>],
        hidden: Tensor,
    ) -> Result<QueryInputs, ModelError> {
        let plays = asks.iter().map(|ask| ask.last(LATELY));
        let rows = plays.map(|plays| plays.iter().rev().map(|play| play.track));
        let (newest, lately) = newest_vectors(&self.tower, rows, asks.len())?;
        Ok(QueryInputs {
            hidden,
            newest,
            lately,
        })
    }

    /// Calls `each` with the scores of chunks of the wanted asks, `[n, tracks]`.
    pub(crate) fn scores(
        &mut self,
        asks: &[Ask<'_>],
        wanted: &[usize],
        mut each: impl FnMut(&Catalogue, &[usize], Tensor) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        if wanted.is_empty() || self.catalogue.is_empty() {
            return Ok(());
        }
        let subset: Vec<Ask<'_>> = wanted
            .iter()
            .filter_map(|&at| asks.get(at).copied())
            .collect();
        let hidden = self.hidden(&subset, Freshness::Now)?;
        let _guard = tch::no_grad_guard();
        let vectors = self.tower.vectors()?;
        let levels = Tensor::f_from_slice(&self.levels)?.f_to_device(self.device())?;
        let levels = self.head.popularity(&levels)?;
        let rows = chunk_rows(self.tower.rows()) as usize;
        let mut personal = Personal::default();
        let mut from = 0i64;
        for (chunk, asks) in wanted.chunks(rows).zip(subset.chunks(rows)) {
            let length = chunk.len() as i64;
            let inputs = self.query_inputs(asks, hidden.f_narrow(0, from, length)?)?;
            let query = self.head.query(&inputs)?;
            let mut scores = query.f_matmul(&vectors.f_tr()?)?.f_add(&levels)?;
            let (mut at, mut columns, mut features) = (Vec::new(), Vec::new(), Vec::new());
            for (question, ask) in (0i64..).zip(asks) {
                personal.read(ask.context, self.memory.of(ask.user), ask.plays);
                for (track, values) in personal.tracks.iter().zip(&personal.features) {
                    if self.catalogue.contains(*track) {
                        at.push(question);
                        columns.push(i64::from(track.0));
                        features.extend_from_slice(values);
                    }
                }
            }
            if !at.is_empty() {
                let index = |values: &[i64]| -> Result<Tensor, ModelError> {
                    Ok(Tensor::f_from_slice(values)?.f_to_device(self.device())?)
                };
                let places = [Some(index(&at)?), Some(index(&columns)?)];
                let personal = self.head.personal(&features)?;
                let _ = scores.f_index_put_(&places, &personal, true)?;
            }
            each(&self.catalogue, chunk, scores)?;
            from += length;
        }
        Ok(())
    }
}

/// The vector of each question's newest play and the fading mean of the newest ones, `[n, d]`
/// each; `tracks` newest first. Tracks without a row count as nothing.
pub(crate) fn newest_vectors<T>(
    tower: &ItemTower,
    questions: impl Iterator<Item = T>,
    count: usize,
) -> Result<(Tensor, Tensor), ModelError>
where
    T: Iterator<Item = TrackId>,
{
    let known = usize::try_from(tower.rows()).unwrap_or(0);
    let device = tower.device();
    let mut rows = vec![0i64; count * LATELY];
    let mut first = vec![0f32; count];
    let mut weights = vec![0f32; count * LATELY];
    let lines = rows
        .chunks_exact_mut(LATELY)
        .zip(weights.chunks_exact_mut(LATELY));
    for ((question, (rows, weights)), first) in questions.zip(lines).zip(&mut first) {
        let mut weight = 1.0 - FADE;
        for (age, ((track, row), place)) in question.zip(rows).zip(weights).enumerate() {
            if track.row() < known {
                *row = i64::from(track.0);
                *place = weight;
                if age == 0 {
                    *first = 1.0;
                }
            }
            weight *= FADE;
        }
    }
    let _guard = tch::no_grad_guard();
    let (n, k) = (count as i64, LATELY as i64);
    let d = tower.dimensions();
    if known == 0 {
        let nothing = || Tensor::f_zeros([n, d], (Kind::Float, device));
        return Ok((nothing()?, nothing()?));
    }
    let rows = Tensor::f_from_slice(&rows)?.f_to_device(device)?;
    let vectors = tower
        .vectors()?
        .f_index_select(0, &rows)?
        .f_reshape([n, k, d])?;
    let first = Tensor::f_from_slice(&first)?
        .f_unsqueeze(-1)?
        .f_to_device(device)?;
    let weights = Tensor::f_from_slice(&weights)?
        .f_reshape([n, 1, k])?
        .f_to_device(device)?;
    let newest = vectors.f_select(1, 0)?.f_mul(&first)?;
    let lately = weights.f_bmm(&vectors)?.f_squeeze_dim(1)?;
    Ok((newest, lately))
}
