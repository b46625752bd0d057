//! Keys and values of listeners between batches: a play costs one token instead of its window.
//!
//! A slot holds the instruction, the mark of beginning and the plays that were read, each with the
//! version of its track's input. What is asked again is read on from the longest common beginning;
//! so a corrected ratio, a track whose content came late or another window are simply read anew,
//! and an answer from the cache is the answer without it. A new adapter empties all slots.

use std::collections::{HashMap, HashSet, hash_map};

use segue_listen::UserId;
use segue_nn::decoder::{CachedPass, Pass};
use segue_nn::kv_slots::{KvSlots, SlotId};
use segue_nn::lora::Mode;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::backbone::{Backbone, NOTHING_YET, SPECIAL, UNKNOWN};
use crate::error::ModelError;
use crate::inputs::InputTable;
use crate::prompt::{Layout, RowPlan, TokenBatch};
use crate::settings::E4SRecSettings;
use crate::windows::{BLOCK, Run, Token};

/// Tokens of padding that cost less than another pass through the model.
const PADDING: usize = 32;

/// A play, and the version of the input that it was read with.
type Read = (Token, u32);

#[derive(Debug)]
struct Entry {
    slot: SlotId,
    /// Where in the listener's log the window begins.
    begin: u64,
    /// Tokens behind the instruction that the slot holds: the beginning, then plays.
    held: usize,
    plays: Vec<Read>,
    used: u64,
    /// The version of the adapter that began to read it.
    adapter: u64,
}

/// What has been read of listeners, each with the adapter that was the newest when their window began.
#[derive(Debug)]
pub(crate) struct ListenerCache {
    slots: KvSlots,
    /// The version of the adapter that reads now.
    adapter: u64,
    /// Holds the instruction alone, as that adapter reads it.
    instruction: Option<SlotId>,
    entries: HashMap<UserId, Entry>,
    turn: u64,
    batch_rows: usize,
    batch_tokens: usize,
}

/// What of it is not a tensor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CacheFacts {
    /// For how many listeners it is.
    listeners: usize,
    turn: u64,
    entries: Vec<EntryFacts>,
}

#[derive(Debug, Serialize, Deserialize)]
struct EntryFacts {
    user: UserId,
    begin: u64,
    held: usize,
    /// Tokens of the language model in the slot, the instruction among them.
    tokens: i64,
    plays: Vec<Read>,
    used: u64,
    #[serde(default)]
    adapter: u64,
}

/// A run with what of it is in the cache.
struct Planned<'r> {
    run: &'r Run,
    reads: Vec<Read>,
    /// Window tokens (beginning included) that are fed: `[from, until)`. One is a play, with the words
    /// around it where there are any.
    from: usize,
    until: usize,
    /// Places of the answers, distinct and ascending, in window tokens.
    places: Vec<usize>,
    /// Tokens of the language model before each window token, and before the end.
    before: Vec<i64>,
}

impl Planned<'_> {
    /// Tokens of the language model before a window token.
    fn before(&self, place: usize) -> i64 {
        self.before.get(place).copied().unwrap_or(0)
    }

    fn fed(&self) -> i64 {
        self.before(self.until) - self.before(self.from)
    }
}

/// Tokens of one listener's slot: the instruction, two windows of plays, and an answer after each of
/// one. `around` are the tokens before the plays and after each, `play` those of a play.
pub(crate) fn capacity(around: (i64, i64), lookback: usize, play: usize) -> i64 {
    let (instruction, response) = around;
    let [window, play] =
        [lookback + BLOCK, play].map(|count| i64::try_from(count).unwrap_or(i64::MAX));
    instruction + window * (2 * play + response)
}

impl ListenerCache {
    /// For as many listeners as the settings say; windows hold up to `lookback + 49` plays. The adapter that
    /// reads has this version.
    pub fn new(
        backbone: &Backbone,
        settings: &E4SRecSettings,
        adapter: u64,
    ) -> Result<Self, ModelError> {
        let around = (backbone.instruction(), backbone.response());
        let play = settings.backbone.play_tokens();
        let capacity = capacity(around, settings.lookback, play);
        let (listeners, batch_tokens) = (settings.cached_listeners, settings.batch_tokens);
        Ok(Self {
            slots: backbone.decoder.kv_slots(listeners + 1, capacity)?,
            adapter,
            instruction: None,
            entries: HashMap::new(),
            turn: 0,
            batch_rows: listeners,
            batch_tokens,
        })
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.keep_since(u64::MAX);
    }

    /// From now on another adapter reads. What has been read by one of version `since` or later stays, and
    /// is gone on from.
    pub fn change_adapter(&mut self, version: u64, since: u64) {
        self.adapter = version;
        self.keep_since(since);
    }

    fn keep_since(&mut self, since: u64) {
        let slots = &mut self.slots;
        self.entries.retain(|_, entry| {
            let stays = entry.adapter >= since;
            if !stays {
                slots.release(entry.slot);
            }
            stays
        });
        if let Some(slot) = self.instruction.take() {
            self.slots.release(slot);
        }
    }

    /// Answers of all reads of all runs, in the order of `(run, read)` given by the second part.
    pub fn answers(
        &mut self,
        backbone: &Backbone,
        inputs: &InputTable,
        runs: &[Run],
    ) -> Result<(Tensor, Vec<usize>), ModelError> {
        let mut found = Vec::new();
        let mut order = Vec::new();
        let mut waiting: Vec<&Run> = runs.iter().collect();
        while !waiting.is_empty() {
            // One run of a listener at a time, the earlier window first.
            let mut now = Vec::new();
            let mut busy = HashSet::new();
            waiting.retain(|&run| {
                let free = busy.insert(run.user);
                if free {
                    now.push(run);
                }
                !free
            });
            let mut planned: Vec<Planned<'_>> =
                now.into_iter().map(|run| self.plan(run, inputs)).collect();
            // Alike in length together: less padding. The sort is stable.
            planned.sort_by_key(Planned::fed);
            let mut rest = planned.as_slice();
            while !rest.is_empty() {
                // As many passes side by side as one may have tokens and rows.
                let (mut batches, mut rows, mut tokens) = (Vec::new(), 0, 0);
                while !rest.is_empty() {
                    let (count, padded) = self.batch(rest, backbone.response() as usize);
                    let fits =
                        rows + count <= self.batch_rows && tokens + padded <= self.batch_tokens;
                    if !batches.is_empty() && !fits {
                        break;
                    }
                    let (batch, later) = rest.split_at(count.clamp(1, rest.len()));
                    batches.push(batch);
                    (rows, tokens, rest) = (rows + count, tokens + padded, later);
                }
                found.append(&mut self.passes(backbone, inputs, &batches, &mut order)?);
            }
        }
        Ok((Tensor::f_cat(&found, 0)?, order))
    }

    /// How many of these, of ascending length, go through the model in one pass, and its tokens.
    fn batch(&self, planned: &[Planned<'_>], response: usize) -> (usize, usize) {
        let (mut count, mut tokens, mut whole) = (0, 0, 0);
        for plan in planned {
            let width = plan.fed() as usize + plan.places.len() * response;
            // A listener whose window begins anew would have all others padded to it.
            let padded = (count + 1) * width;
            tokens += width;
            let fits = count == 0
                || (count < self.batch_rows
                    && padded <= self.batch_tokens
                    && padded <= tokens + tokens / 2 + PADDING);
            if !fits {
                break;
            }
            (count, whole) = (count + 1, padded);
        }
        (count, whole)
    }

    fn plan<'r>(&self, run: &'r Run, inputs: &InputTable) -> Planned<'r> {
        let reads: Vec<Read> = run
            .tokens
            .iter()
            .map(|&token| (token, inputs.version(token.track.row())))
            .collect();
        let mut before = vec![0, 1];
        let mut tokens = 1;
        for (number, (token, version)) in (1..).zip(&reads) {
            let around = inputs.lines.around(number, item(token, *version), token);
            tokens += around.length() as i64;
            before.push(tokens);
        }
        let mut places: Vec<usize> = run.reads.iter().map(|&(_, read)| read).collect();
        places.sort_unstable();
        places.dedup();
        let first = places.first().copied().unwrap_or(0);
        let common = match self.entries.get(&run.user) {
            Some(entry) if entry.begin == run.begin && entry.held > 0 => {
                let same = entry.plays.iter().zip(&reads).take_while(|(a, b)| a == b);
                (1 + same.count()).min(entry.held)
            }
            _ => 0,
        };
        Planned {
            run,
            reads,
            from: common.min(first),
            until: places.last().copied().unwrap_or(0) + 1,
            places,
            before,
        }
    }

    /// The answers of passes side by side, of each in the order that is added to `order`.
    fn passes(
        &mut self,
        backbone: &Backbone,
        inputs: &InputTable,
        batches: &[&[Planned<'_>]],
        order: &mut Vec<usize>,
    ) -> Result<Vec<Tensor>, ModelError> {
        self.turn += 1;
        // Nobody in these is evicted by another; whoever was by earlier ones is planned anew.
        for plan in batches.iter().copied().flatten() {
            if let Some(entry) = self.entries.get_mut(&plan.run.user) {
                entry.used = self.turn;
            }
        }
        let batches: Vec<Vec<Planned<'_>>> = batches
            .iter()
            .map(|batch| batch.iter().map(|plan| self.plan(plan.run, inputs)))
            .map(Iterator::collect)
            .collect();
        let (mut passes, mut layouts) = (Vec::new(), Vec::new());
        for batch in &batches {
            let (pass, layout) = self.begin(backbone, inputs, batch)?;
            passes.push(pass);
            layouts.push(layout);
        }
        let hidden = backbone
            .decoder
            .forward_together(&mut self.slots, &passes)?;
        let mut found = Vec::with_capacity(batches.len());
        for ((batch, layout), hidden) in batches.iter().zip(&layouts).zip(&hidden) {
            let answers = backbone.answers(hidden, layout)?;
            let picked = self.end(batch, order);
            let picked = Tensor::f_from_slice(&picked)?.f_to_device(backbone.device())?;
            found.push(answers.f_index_select(0, &picked)?);
        }
        Ok(found)
    }

    /// What goes through the model for these listeners, each with a slot.
    fn begin(
        &mut self,
        backbone: &Backbone,
        inputs: &InputTable,
        batch: &[Planned<'_>],
    ) -> Result<(CachedPass, Layout), ModelError> {
        let before = backbone.instruction();
        let mut slots = Vec::with_capacity(batch.len());
        for plan in batch {
            slots.push(self.slot(backbone, plan)?);
        }
        let rows: Vec<RowPlan> = batch
            .iter()
            .map(|plan| RowPlan {
                past: before + plan.before(plan.from),
                fed: plan.fed(),
                reads: plan
                    .places
                    .iter()
                    .map(|&place| plan.before(place + 1) - 1 - plan.before(plan.from))
                    .collect(),
            })
            .collect();
        let layout = Layout::new(&rows, backbone.response())?;
        let fed = batch.iter().map(|plan| {
            let mut tokens = TokenBatch::default();
            for place in plan.from..plan.until {
                match place.checked_sub(1).and_then(|play| plan.reads.get(play)) {
                    None => tokens.push(NOTHING_YET, None),
                    Some((token, version)) => {
                        let item = item(token, *version);
                        inputs.lines.feed(&mut tokens, place, item, token);
                    }
                }
            }
            tokens
        });
        let (tokens, _) = TokenBatch::joined(fed.collect(), UNKNOWN);
        let embeds =
            backbone.embeds(&tokens, batch.len() as i64, &layout, inputs.table(), false)?;
        let counts: Vec<i64> = rows.iter().map(|row| row.fed).collect();
        let pass = CachedPass {
            embeds,
            positions: layout.positions.shallow_clone(),
            mask: layout.mask.shallow_clone(),
            rows: self.slots.rows(&slots, &counts, layout.length)?,
        };
        Ok((pass, layout))
    }

    /// Notes what the slots hold now. Which of a pass's answers are asked for, in the order of the
    /// questions that are added to `order`: several may have read equally far.
    fn end(&mut self, batch: &[Planned<'_>], order: &mut Vec<usize>) -> Vec<i64> {
        let mut picked = Vec::new();
        let mut from = 0i64;
        for plan in batch {
            if let Some(entry) = self.entries.get_mut(&plan.run.user) {
                entry.held = plan.until;
                entry.plays = plan.reads.get(..plan.until - 1).unwrap_or(&[]).to_vec();
            }
            for &(ask, read) in &plan.run.reads {
                if let Ok(place) = plan.places.binary_search(&read) {
                    order.push(ask);
                    picked.push(from + place as i64);
                }
            }
            from += plan.places.len() as i64;
        }
        picked
    }

    /// The listener's slot, cut back to what is common with the plan.
    fn slot(&mut self, backbone: &Backbone, plan: &Planned<'_>) -> Result<SlotId, ModelError> {
        let before = backbone.instruction();
        // A window that begins anew behind an instruction that another adapter has read.
        if plan.from == 0
            && let hash_map::Entry::Occupied(held) = self.entries.entry(plan.run.user)
            && held.get().adapter != self.adapter
        {
            self.slots.release(held.remove().slot);
        }
        if let Some(entry) = self.entries.get_mut(&plan.run.user) {
            self.slots
                .truncate(entry.slot, before + plan.before(plan.from))?;
            // If the pass fails, the entry says no more than the slot holds.
            entry.held = plan.from;
            entry.plays.truncate(plan.from.saturating_sub(1));
            entry.begin = plan.run.begin;
            entry.used = self.turn;
            return Ok(entry.slot);
        }
        let instruction = self.instruction(backbone)?;
        let slot = match self.slots.claim(0) {
            Some(slot) => slot,
            None => {
                let turn = self.turn;
                let oldest = self
                    .entries
                    .iter()
                    .filter(|(_, entry)| entry.used < turn)
                    .min_by_key(|(user, entry)| (entry.used, user.0))
                    .map(|(&user, _)| user);
                let evicted = oldest.and_then(|user| self.entries.remove(&user));
                let entry = evicted.ok_or_else(|| {
                    ModelError::Data("no slot is free for a listener of this batch".into())
                })?;
                self.slots.reset(entry.slot, 0)?;
                entry.slot
            }
        };
        self.slots.copy_prefix(instruction, slot, before)?;
        let entry = Entry {
            slot,
            begin: plan.run.begin,
            held: 0,
            plays: Vec::new(),
            used: self.turn,
            adapter: self.adapter,
        };
        self.entries.insert(plan.run.user, entry);
        Ok(slot)
    }

    /// The slot with the instruction, which is computed once per adapter.
    fn instruction(&mut self, backbone: &Backbone) -> Result<SlotId, ModelError> {
        if let Some(slot) = self.instruction {
            return Ok(slot);
        }
        let none = || ModelError::Data("no slot is free for the instruction".into());
        let slot = self.slots.claim(0).ok_or_else(none)?;
        let length = backbone.instruction();
        if length > 0 && self.slots.length(slot)? == 0 {
            let rows = self.slots.rows(&[slot], &[length], length)?;
            let mask = self.slots.causal_mask(&[slot], length)?;
            let positions = Tensor::f_arange(length, (Kind::Int64, Device::Cpu))?.f_unsqueeze(0)?;
            let _ = backbone.decoder.forward(Pass {
                embeds: &backbone.instruction_embeds(),
                positions: &positions,
                mask: &mask,
                cache: Some((&mut self.slots, &rows)),
                mode: Mode::Infer,
            })?;
        }
        self.instruction = Some(slot);
        Ok(slot)
    }
}

mod state;

/// The input row of a play; a track without a version has no row.
pub(crate) fn item(token: &Token, version: u32) -> i64 {
    if version == 0 {
        UNKNOWN
    } else {
        i64::from(token.track.0) + SPECIAL
    }
}
