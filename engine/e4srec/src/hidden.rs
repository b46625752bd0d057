//! What the language model says behind each listener's newest play, asked once.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::PoisonError;

use foldhash::quality::{FixedState, FoldHasher};
use segue_listen::UserId;
use segue_recommend::Ask;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::error::ModelError;
use crate::head::levelled;
use crate::inputs::InputTable;
use crate::kept::{Named, Tensors};
use crate::model::E4SRec;
use crate::windows::{Run, runs};

/// Hidden states that are remembered between barriers, at most.
const MEMO: usize = 16_384;

/// Hidden states of questions that were answered since the last barrier: learning from them costs
/// no second pass.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    /// Print of what was read, and row.
    rows: HashMap<Question, (Print, i64)>,
    /// `[n, hidden]` each, at unit mean square, in order.
    chunks: Vec<Tensor>,
    count: i64,
}

/// What was read: the plays, and the versions of their inputs.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
struct Print {
    plays: u64,
    versions: u64,
}

/// A question: listener, beginning of the window, plays read.
type Question = (UserId, u64, usize);

/// What of the memory is not a tensor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MemoFacts {
    rows: Vec<(Question, (Print, i64))>,
    count: i64,
}

impl Memo {
    /// What belongs into a checkpoint, where answers have to be the same to the last bit.
    pub fn kept(&self, named: &mut Named) -> Result<MemoFacts, ModelError> {
        let mut rows: Vec<_> = self.rows.iter().map(|(key, row)| (*key, *row)).collect();
        rows.sort_unstable_by_key(|(key, _)| *key);
        if !self.chunks.is_empty() {
            named.push(("hidden".to_owned(), Tensor::f_cat(&self.chunks, 0)?));
        }
        Ok(MemoFacts {
            rows,
            count: self.count,
        })
    }

    /// What was kept, of states `hidden` wide.
    pub fn taken_up(
        facts: MemoFacts,
        (hidden, device): (i64, Device),
        tensors: &mut Tensors<'_>,
    ) -> Result<Self, ModelError> {
        let MemoFacts { rows, count } = facts;
        if let Some((_, (_, row))) = rows.iter().find(|(_, (_, row))| !(0..count).contains(row)) {
            return Err(ModelError::State(format!("hidden state {row} of {count}")));
        }
        let mut chunks = Vec::new();
        if count > 0 {
            let all = tensors.take("hidden", Kind::Float, &[count, hidden])?;
            chunks.push(all.f_to_device(device)?);
        }
        Ok(Self {
            rows: rows.into_iter().collect(),
            chunks,
            count,
        })
    }
}

/// Whether a hidden state will do that was read before newer content came.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Freshness {
    /// It must be of the inputs as they are: for answers.
    Now,
    /// It may be what the answer was given from: for learning from that answer.
    AsAsked,
}

impl E4SRec {
    /// Hidden states behind the newest plays, `[asks, hidden]`, at unit mean square.
    pub(crate) fn hidden(
        &mut self,
        asks: &[Ask<'_>],
        freshness: Freshness,
    ) -> Result<Tensor, ModelError> {
        let _guard = tch::no_grad_guard();
        let shared = self.memo.clone();
        let mut memo = shared.lock().unwrap_or_else(PoisonError::into_inner);
        if memo.rows.len() > MEMO {
            *memo = Memo::default();
        }
        let mut runs = runs(asks, self.settings.lookback);
        let mut place_of = vec![0i64; asks.len()];
        for run in &mut runs {
            let prints = prints(run, &self.inputs);
            let key = (run.user, run.begin);
            run.reads.retain(|&(ask, read)| {
                let print = prints.get(read).copied().unwrap_or_default();
                match memo.rows.get(&(key.0, key.1, read)) {
                    Some(&(known, row))
                        if known == print
                            || (freshness == Freshness::AsAsked && known.plays == print.plays) =>
                    {
                        if let Some(place) = place_of.get_mut(ask) {
                            *place = row;
                        }
                        false
                    }
                    _ => true,
                }
            });
        }
        runs.retain(|run| !run.reads.is_empty());
        if !runs.is_empty() {
            let mut cache = match self.cache.take() {
                Some(cache) => cache,
                None => self.empty_cache(self.adapter_version)?,
            };
            // If a pass fails, the cache is dropped with whatever state it is in.
            let (answers, order) = cache.answers(&self.backbone, &self.inputs, &runs)?;
            self.cache = Some(cache);
            for (row, &ask) in (memo.count..).zip(&order) {
                if let Some(place) = place_of.get_mut(ask) {
                    *place = row;
                }
            }
            for run in &runs {
                let prints = prints(run, &self.inputs);
                for &(ask, read) in &run.reads {
                    let row = place_of.get(ask).copied().unwrap_or(0);
                    let print = prints.get(read).copied().unwrap_or_default();
                    let key = (run.user, run.begin, read);
                    memo.rows.insert(key, (print, row));
                }
            }
            memo.count += order.len() as i64;
            memo.chunks.push(levelled(&answers)?);
        }
        // Most often all that is asked for has just been read; to join what was read before would copy all
        // of it for each batch.
        let newest = memo.chunks.last().map_or(0, |chunk| chunk.size()[0]);
        let before = memo.count - newest;
        if place_of.iter().all(|&place| place >= before) {
            place_of.iter_mut().for_each(|place| *place -= before);
        } else if memo.chunks.len() > 1 {
            memo.chunks = vec![Tensor::f_cat(&memo.chunks, 0)?];
        }
        let place_of = Tensor::f_from_slice(&place_of)?.f_to_device(self.device())?;
        match memo.chunks.last() {
            Some(all) => Ok(all.f_index_select(0, &place_of)?),
            None => Ok(Tensor::f_zeros(
                [0, self.backbone.hidden()],
                (Kind::Float, self.device()),
            )?),
        }
    }

    /// Forgets the hidden states of the last epoch.
    pub(crate) fn forget_memo(&mut self) {
        *self.memo.lock().unwrap_or_else(PoisonError::into_inner) = Memo::default();
    }
}

/// Prints of what each number of plays of a run is read as: equal prints, equal hidden states.
fn prints(run: &Run, inputs: &InputTable) -> Vec<Print> {
    let hashing = FixedState::with_seed(0);
    let (mut plays, mut versions) = (hashing.build_hasher(), hashing.build_hasher());
    let print = |plays: &FoldHasher<'_>, versions: &FoldHasher<'_>| Print {
        plays: plays.finish(),
        versions: versions.finish(),
    };
    let mut prints = vec![print(&plays, &versions)];
    for token in &run.tokens {
        inputs.version(token.track.row()).hash(&mut versions);
        token.track.0.hash(&mut plays);
        token.opens_session.hash(&mut plays);
        let ratio = token.ratio_before.map(|ratio| ratio.value().to_bits());
        ratio.hash(&mut plays);
        prints.push(print(&plays, &versions));
    }
    prints
}
