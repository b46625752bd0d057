//! The slow learner: a step of the adapter and the projection, and its publication.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use segue_flow::Epoch;
use segue_nn::lora::Mode;
use segue_recommend::recommender::{Ask, CONTEXT_BLOCK, Example};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::backbone::{NOTHING_YET, UNKNOWN};
use crate::error::ModelError;
use crate::guard::{Guard, Verdict};
use crate::head::levelled;
use crate::history::AdapterHistory;
use crate::item_tower::copy_into;
use crate::kept::{Named, numbered};
use crate::learner::{CLIP, Learner};
use crate::listener_cache::item;
use crate::memory::Recalled;
use crate::model::E4SRec;
use crate::objective::Questions;
use crate::personal::Personal;
use crate::prompt::TokenBatch;
use crate::windows::runs;

/// An adapter that came into use.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Publication {
    /// Counts from 1; 0 is the one that training left.
    pub version: u64,
    /// At whose barrier.
    pub epoch: Epoch,
    /// Examples of the stream that its steps drew from.
    pub examples: u64,
    /// The mean loss of its step, before it. `None` where it was not learnt but gone back to.
    pub loss: Option<f64>,
    /// The version whose values these are, where what was learnt since has been taken back.
    pub back_to: Option<u64>,
}

/// How an adapter came to be what it is.
#[derive(Clone, Copy, Debug)]
enum Came {
    /// By a step of this loss.
    Learnt(f64),
    /// By going back to this version.
    Back(u64),
}

/// The adapters that a model has published, readable from elsewhere while it runs.
#[derive(Clone, Debug, Default)]
pub struct Journal(Arc<Mutex<Vec<Publication>>>);

impl Journal {
    /// What was published so far, in order.
    pub fn publications(&self) -> Vec<Publication> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Goes on behind what was published before.
    pub(crate) fn go_on(&self, published: Vec<Publication>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = published;
    }

    fn note(&self, publication: Publication) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.push(publication);
    }
}

impl E4SRec {
    /// A step of the adapter and the projection, and their publication.
    pub(crate) fn slow_step(
        &mut self,
        learner: &mut Learner,
        epoch: Epoch,
    ) -> Result<(), ModelError> {
        let settings = self.settings.online.clone();
        let held_out = &learner.held_out;
        let batch: Vec<Example<'_>> = learner
            .memory
            .mixed_batch(settings.lora_batch)
            .iter()
            .flat_map(unfolded)
            .filter(|example| self.catalogue.contains(example.actual))
            .filter(|Example { ask, .. }| !held_out.contains(&(ask.user, ask.plays)))
            .collect();
        if batch.is_empty() {
            return Ok(());
        }
        let seed = self.settings.seed.wrapping_add(learner.epochs);
        tch::manual_seed(seed as i64);
        let asks: Vec<Ask<'_>> = batch.iter().map(|example| example.ask).collect();
        let runs = runs(&asks, self.settings.lookback);
        let mut fed = Vec::with_capacity(runs.len());
        let (mut places, mut order) = (Vec::new(), Vec::new());
        for run in &runs {
            let mut tokens = TokenBatch::default();
            tokens.push(NOTHING_YET, None);
            // Behind the beginning, and behind each play.
            let mut ends = vec![0];
            for (number, token) in (1..).zip(&run.tokens) {
                let version = self.inputs.version(token.track.row());
                let item = item(token, version);
                self.inputs.lines.feed(&mut tokens, number, item, token);
                ends.push(tokens.items.len() as i64 - 1);
            }
            fed.push(tokens);
            let reads = run.reads.iter();
            let behind = reads.filter_map(|&(_, read)| ends.get(read).copied());
            places.push(behind.collect());
            order.extend(run.reads.iter().map(|&(ask, _)| ask));
        }
        let (tokens, length) = TokenBatch::joined(fed, UNKNOWN);
        let places = places.into_iter();
        let reads: Vec<_> = places.map(|places| (length as i64, places)).collect();
        self.backbone.decoder.unmerge_lora();
        let table = self.inputs.table();
        let hidden = self
            .backbone
            .read_whole(&tokens, &reads, table, Mode::Train)?;
        let examples: Vec<Example<'_>> = order
            .iter()
            .filter_map(|&ask| batch.get(ask).copied())
            .collect();
        let asks: Vec<Ask<'_>> = examples.iter().map(|example| example.ask).collect();
        let inputs = self.query_inputs(&asks, levelled(&hidden)?)?;
        let all = self.catalogue.len();
        let questions = told_by_context(&examples, all);
        let limits = (all, settings.candidates);
        let candidates = self.candidates(&questions, limits, &mut learner.rng)?;
        let vectors = self.tower.vectors()?.f_index_select(0, &candidates.rows)?;
        let loss = candidates.loss(&self.head, &inputs, &vectors, &questions)?;
        loss.f_backward()?;
        let finite = learner.adapter.step(settings.lora_rate, CLIP)?;
        // The heads have learnt from these examples already, and learn every epoch.
        self.forget_head_gradients();
        if !finite {
            return Ok(self.backbone.decoder.merge_lora()?);
        }
        self.announce(learner, epoch, Came::Learnt(loss.f_double_value(&[])?))
    }

    /// Publishes the adapter as it is now, notes it and keeps it.
    fn announce(&mut self, learner: &Learner, epoch: Epoch, came: Came) -> Result<(), ModelError> {
        let (loss, back_to, behind) = match came {
            Came::Learnt(loss) => (Some(loss), None, self.settings.online.adapters_behind),
            // What has been taken back has read nothing that may stay.
            Came::Back(version) => (None, Some(version), 0),
        };
        self.publish(behind)?;
        let publication = Publication {
            version: self.adapter_version,
            epoch,
            examples: learner.memory.seen(),
            loss,
            back_to,
        };
        self.journal.note(publication);
        if let Some(history) = &self.history
            && let Err(error) = history.keep(&publication, &self.backbone.decoder, &self.beside())
        {
            let version = publication.version;
            tracing::warn!(version, %error, "an adapter is missing in the history");
        }
        Ok(())
    }

    /// What learns beside the adapter and belongs to its version.
    fn beside(&self) -> Named {
        let mut named = Named::new();
        numbered("front", &self.backbone.front(), &mut named);
        numbered("head", &self.head.parameters(), &mut named);
        named
    }

    /// Goes back to a version that somebody asks for. One that cannot be had is told, and changes nothing.
    pub(crate) fn go_back_if_asked(
        &mut self,
        learner: &mut Learner,
        epoch: Epoch,
    ) -> Result<(), ModelError> {
        let Some(history) = self.history.clone() else {
            return Ok(());
        };
        let version = match history.asked_back() {
            Ok(None) => return Ok(()),
            Ok(Some(version)) => version,
            Err(error) => {
                tracing::warn!(%error, "whether to go back to an adapter cannot be read");
                return Ok(());
            }
        };
        if let Err(error) = self.take_values(&history, version) {
            tracing::warn!(version, %error, "the adapter is not gone back to");
            return Ok(());
        }
        learner.begin_steps_anew(self)?;
        self.announce(learner, epoch, Came::Back(version))?;
        learner.guard = Guard::of(self, learner.memory.seen())?;
        tracing::info!(
            version,
            now = self.adapter_version,
            "gone back to an adapter as asked"
        );
        Ok(())
    }

    /// Takes a kept version's values over; all of them fit or none is taken.
    fn take_values(&mut self, history: &AdapterHistory, version: u64) -> Result<(), ModelError> {
        let mut decoder = self.backbone.decoder.share();
        let kept_beside = history.read(version, &mut decoder)?;
        let kept: HashMap<String, Tensor> = decoder.lora_tensors().into_iter().collect();
        let mut pairs = Vec::new();
        let own = self.backbone.decoder.lora_tensors();
        let all = own.into_iter().map(|own| (own, &kept));
        let beside = self.beside().into_iter().map(|own| (own, &kept_beside));
        for ((name, to), kept) in all.chain(beside) {
            let from = kept.get(&name).filter(|from| from.size() == to.size());
            let from = from.ok_or_else(|| {
                ModelError::OtherModel(format!("its {name} is missing or of another shape"))
            })?;
            pairs.push((to, from.f_to_device(self.device())?));
        }
        let (to, from): (Vec<Tensor>, Vec<Tensor>) = pairs.into_iter().unzip();
        copy_into(&to, &from)
    }

    /// Looks at how the answers have been, and takes back what has made them worse.
    pub(crate) fn watch(&mut self, learner: &mut Learner, epoch: Epoch) -> Result<(), ModelError> {
        let Some(guard) = &mut learner.guard else {
            return Ok(());
        };
        match guard.judge(&self.settings.online) {
            Verdict::Open => Ok(()),
            Verdict::Held => {
                let examples = learner.memory.seen();
                guard.turn(&self.shared(), examples, self.adapter_version)
            }
            Verdict::Fell { expected, found } => {
                let back = guard.take_back(&self.shared(), &mut self.tower)?;
                learner.memory.forget_since(back.examples);
                learner.begin_steps_anew(self)?;
                self.tower.refresh_all()?;
                tracing::warn!(
                    epoch = epoch.0,
                    expected,
                    found,
                    version = back.version,
                    "the answers have become worse: what was learnt since this version is taken back"
                );
                self.announce(learner, epoch, Came::Back(back.version))
            }
        }
    }
}

/// An example, and before it each play of its newest block as an example of its own: one reading
/// answers all of them.
fn unfolded<'a>(example: &Example<'a>) -> impl Iterator<Item = Example<'a>> + use<'a> {
    let Example { ask, actual } = *example;
    let length = ask.context.len();
    let in_block = usize::try_from(ask.plays % CONTEXT_BLOCK).map_or(0, |n| n.min(length));
    (length - in_block..=length).map(move |at| Example {
        ask: Ask {
            plays: ask.plays - (length - at) as u64,
            context: ask.context.get(..at).unwrap_or(&[]),
            ..ask
        },
        actual: ask.context.get(at).map_or(actual, |play| play.track),
    })
}

/// The questions as their contexts alone tell them, which is how the adapter was trained. Whatever
/// else is remembered of a listener has come to know the answers by now.
fn told_by_context(examples: &[Example<'_>], among: usize) -> Questions {
    let mut questions = Questions::default();
    let mut personal = Personal::default();
    for Example { ask, actual } in examples {
        personal.read(ask.context, Recalled::default(), ask.plays);
        questions.push(*actual, &personal, among);
    }
    questions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::windows::tests_support::{ask_of, plays_of};

    #[test]
    fn plays_of_the_newest_block_are_questions_as_they_were_asked() {
        let plays = plays_of(0..130);
        let example = |read: usize| Example {
            ask: ask_of(&plays, read),
            actual: plays[read].track,
        };
        for (read, first) in [(120, 100), (100, 100), (7, 0)] {
            let all: Vec<Example<'_>> = unfolded(&example(read)).collect();
            assert_eq!(all.len(), read - first + 1);
            for (found, at) in all.iter().zip(first..) {
                let asked = example(at);
                assert_eq!(found.ask.plays, asked.ask.plays);
                assert_eq!(found.ask.context, asked.ask.context);
                assert_eq!(found.actual, asked.actual);
            }
        }
    }
}
