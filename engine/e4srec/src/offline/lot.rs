//! The windows that go through the language model at once, and the questions that they ask.

use segue_nn::lora::Mode;
use segue_recommend::ContextPlay;
use segue_recommend::training::TrainingLog;
use tch::Tensor;

use super::plan::{Part, Plan, Window};
use crate::backbone::{Backbone, NOTHING_YET, SPECIAL, UNKNOWN};
use crate::error::ModelError;
use crate::head::{QueryInputs, levelled};
use crate::item_tower::ItemTower;
use crate::memory::Recalled;
use crate::model::newest_vectors;
use crate::objective::Questions;
use crate::personal::{Personal, context_before};
use crate::prompt::TokenBatch;
use crate::windows::tokens;

/// Some windows, each a row.
#[derive(Debug)]
pub(super) struct Lot<'a> {
    pub questions: Questions,
    batch: TokenBatch,
    /// Tokens of each row, and those behind which it is asked.
    reads: Vec<(i64, Vec<i64>)>,
    /// What each question's listener had played.
    before: Vec<&'a [ContextPlay]>,
    /// Tokens of plays of each row, padding among them.
    length: usize,
}

impl<'a> Lot<'a> {
    /// `rows`: how many tracks have one.
    pub fn of(
        windows: &[Window],
        part: Part,
        (plan, log): (&Plan, &'a TrainingLog),
        rows: usize,
    ) -> Self {
        let length = windows.iter().map(Window::length).max().unwrap_or(0);
        let mut lot = Self {
            questions: Questions::default(),
            batch: TokenBatch::default(),
            reads: Vec::with_capacity(windows.len()),
            before: Vec::new(),
            length,
        };
        let mut personal = Personal::default();
        for (number, &window) in (1..).zip(windows) {
            let plays = log.of(window.listener);
            let range = window.begin..window.end;
            lot.batch.push(NOTHING_YET, None);
            // The last play is a target only.
            for token in tokens(plays, range.clone()).take(range.len().saturating_sub(1)) {
                let item = i64::from(token.track.0) + SPECIAL;
                lot.batch.push(item, Some(&token));
            }
            lot.batch.pad(number * length, UNKNOWN);
            let mut reads = Vec::with_capacity(range.len());
            for at in plan.targets(log, window, part) {
                let Some(play) = plays.get(at) else { continue };
                reads.push((at - window.begin) as i64);
                personal.read(context_before(plays, at), Recalled::default(), at as u64);
                lot.questions.push(play.track, &personal, rows);
                lot.before.push(plays.get(..at).unwrap_or(&[]));
            }
            lot.reads.push((length as i64, reads));
        }
        lot
    }

    /// How many questions it asks.
    pub fn asks(&self) -> usize {
        self.questions.targets.len()
    }

    /// Tokens that go through the language model.
    pub fn tokens(&self, backbone: &Backbone) -> u64 {
        let response = backbone.response() as u64;
        let row = backbone.instruction() as u64 + self.length as u64 * (1 + response);
        self.reads.len() as u64 * row
    }

    /// What the queries are made of; `vectors` `[tracks, d]` are the tower's at unit mean square.
    pub fn inputs(
        &self,
        backbone: &Backbone,
        tower: &ItemTower,
        vectors: &Tensor,
        mode: Mode,
    ) -> Result<QueryInputs, ModelError> {
        let hidden = backbone.read_whole(&self.batch, &self.reads, vectors, mode)?;
        let before = self
            .before
            .iter()
            .map(|plays| plays.iter().rev().map(|play| play.track));
        let (newest, lately) = newest_vectors(tower, before, self.asks())?;
        Ok(QueryInputs {
            hidden: levelled(&hidden)?,
            newest,
            lately,
        })
    }
}
