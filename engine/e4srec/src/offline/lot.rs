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
use crate::lines::Lines;
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
    /// Tokens of each row, padding among them, and those behind which it is asked.
    reads: Vec<(i64, Vec<i64>)>,
    /// What each question's listener had played.
    before: Vec<&'a [ContextPlay]>,
    /// Tokens of plays of each row, padding among them.
    length: usize,
    /// Questions of the row that asks the most.
    branches: usize,
}

impl<'a> Lot<'a> {
    /// `rows`: how many tracks have one.
    pub fn of(
        windows: &[Window],
        part: Part,
        (plan, log, lines): (&Plan, &'a TrainingLog, &Lines),
        rows: usize,
    ) -> Self {
        let mut lot = Self {
            questions: Questions::default(),
            batch: TokenBatch::default(),
            reads: Vec::with_capacity(windows.len()),
            before: Vec::new(),
            length: 0,
            branches: 0,
        };
        let mut fed = Vec::with_capacity(windows.len());
        let mut personal = Personal::default();
        for &window in windows {
            let plays = log.of(window.listener);
            let range = window.begin..window.end;
            let mut batch = TokenBatch::default();
            batch.push(NOTHING_YET, None);
            // Behind the beginning, and behind each play.
            let mut ends = vec![0];
            // The last play is a target only.
            let read = tokens(plays, range.clone()).take(range.len().saturating_sub(1));
            for (number, token) in (1..).zip(read) {
                let item = i64::from(token.track.0) + SPECIAL;
                lines.feed(&mut batch, number, item, &token);
                ends.push(batch.items.len() as i64 - 1);
            }
            fed.push(batch);
            let mut reads = Vec::with_capacity(range.len());
            for at in plan.targets(log, window, part) {
                let end = at.checked_sub(window.begin).and_then(|at| ends.get(at));
                let (Some(play), Some(&end)) = (plays.get(at), end) else {
                    continue;
                };
                reads.push(end);
                personal.read(context_before(plays, at), Recalled::default(), at as u64);
                lot.questions.push(play.track, &personal, rows);
                lot.before.push(plays.get(..at).unwrap_or(&[]));
            }
            lot.branches = lot.branches.max(reads.len());
            lot.reads.push((0, reads));
        }
        (lot.batch, lot.length) = TokenBatch::joined(fed, UNKNOWN);
        for (length, _) in &mut lot.reads {
            *length = lot.length as i64;
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
        let branches = self.branches as u64 * response;
        let row = backbone.instruction() as u64 + self.length as u64 + branches;
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
