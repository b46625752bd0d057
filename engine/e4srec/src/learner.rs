//! Learning from the stream: test, then train.
//!
//! Fast learners (the heads and the tracks' own vectors) take steps every epoch on the hidden
//! states that the test has left behind, which costs almost nothing; the adapter, if it is asked
//! to, takes a step every few epochs on a batch that is half of all time and half new, and is then
//! published: the version grows, the caches empty. All at barriers; nothing changes inside an
//! epoch.

use std::collections::{HashMap, HashSet};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use segue_flow::Epoch;
use segue_listen::UserId;
use segue_recommend::recommender::{Ask, Example, LearnReport};
use segue_recommend::reservoir::Reservoir;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::error::ModelError;
use crate::guard::{Guard, GuardFacts};
use crate::hidden::Freshness;
use crate::item_tower::{Content, ItemTower};
use crate::kept::{Named, Tensors, counted};
use crate::model::E4SRec;
use crate::objective::{Candidates, Questions};
use crate::optimise::{AdamFacts, AdamW};
use crate::personal::Personal;

pub(crate) const CLIP: f64 = 1.0;

/// What learning keeps between epochs.
#[derive(Debug)]
pub(crate) struct Learner {
    head: AdamW,
    terms: AdamW,
    content: AdamW,
    pub adapter: AdamW,
    pub memory: Reservoir,
    pub rng: ChaCha8Rng,
    pub epochs: u64,
    /// Where the answers are watched.
    pub guard: Option<Guard>,
    /// Listeners and how many plays they had behind them: answers that are not learnt from any more.
    pub held_out: HashSet<(UserId, u64)>,
}

/// What of it is not a tensor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LearnerFacts {
    head: AdamFacts,
    terms: AdamFacts,
    content: AdamFacts,
    adapter: AdamFacts,
    memory: Reservoir,
    rng: ChaCha8Rng,
    epochs: u64,
    guard: Option<GuardFacts>,
}

impl Learner {
    /// What belongs into a checkpoint: the optimisers' moments and steps, both memories, generators,
    /// and what can be gone back to.
    pub fn kept(&self, named: &mut Named) -> Result<LearnerFacts, ModelError> {
        Ok(LearnerFacts {
            head: self.head.kept("adam.head", named),
            terms: self.terms.kept("adam.terms", named),
            content: self.content.kept("adam.content", named),
            adapter: self.adapter.kept("adam.adapter", named),
            memory: self.memory.clone(),
            rng: self.rng.clone(),
            epochs: self.epochs,
            guard: match &self.guard {
                Some(guard) => Some(guard.kept(named)?),
                None => None,
            },
        })
    }

    /// Takes up what was kept of a model with these shared parameters, whose tower has been taken up.
    pub fn take_up(
        &mut self,
        facts: LearnerFacts,
        (shared, tower, version): (&[Tensor], &ItemTower, u64),
        tensors: &mut Tensors<'_>,
    ) -> Result<(), ModelError> {
        self.head.take_up("adam.head", &facts.head, tensors)?;
        self.terms.take_up("adam.terms", &facts.terms, tensors)?;
        self.content
            .take_up("adam.content", &facts.content, tensors)?;
        self.adapter
            .take_up("adam.adapter", &facts.adapter, tensors)?;
        self.epochs = counted("epochs of learning", facts.epochs)?;
        counted("examples seen", facts.memory.seen())?;
        self.memory = facts.memory;
        self.rng = facts.rng;
        let kept = facts.guard;
        let kept = kept.map(|kept| Guard::taken_up(kept, shared, tower, tensors));
        // Whether the answers are watched may be another matter than it was: what was kept is then not
        // needed, or what there is to go back to begins here.
        match (&mut self.guard, kept.transpose()?) {
            (Some(guard), Some(kept)) => *guard = kept,
            (Some(guard), None) => *guard = Guard::new(shared, self.memory.seen(), version)?,
            (None, _) => {}
        }
        Ok(())
    }

    /// Optimisers that know of no step yet: what led astray must not go on by its momentum.
    pub fn begin_steps_anew(&mut self, model: &E4SRec) -> Result<(), ModelError> {
        [self.head, self.terms, self.content, self.adapter] = optimisers(model)?;
        Ok(())
    }

    pub fn new(model: &E4SRec) -> Result<Self, ModelError> {
        let settings = &model.settings.online;
        let mut rng = ChaCha8Rng::seed_from_u64(model.settings.seed);
        rng.set_stream(4);
        let [head, terms, content, adapter] = optimisers(model)?;
        Ok(Self {
            head,
            terms,
            content,
            adapter,
            memory: Reservoir::new(settings.reservoir, settings.recent, model.settings.seed),
            rng,
            epochs: 0,
            guard: Guard::of(model, 0)?,
            held_out: HashSet::new(),
        })
    }

    /// The answers of these questions are not learnt from any more: not as examples that are kept, nor
    /// as plays of others' windows.
    pub fn hold_out(&mut self, asks: &[Ask<'_>]) {
        self.held_out = asks.iter().map(|ask| (ask.user, ask.plays)).collect();
        let held_out = &self.held_out;
        self.memory
            .let_go(|ask| held_out.contains(&(ask.user, ask.plays)));
    }
}

/// Of the heads' matrices, of their terms, of the map of contents, and of the adapter with what is in
/// front of the language model.
fn optimisers(model: &E4SRec) -> Result<[AdamW; 4], ModelError> {
    let mut slow = model.backbone.adapter();
    slow.extend(model.backbone.front());
    Ok([
        AdamW::new(model.head.matrices(), 0.0)?,
        AdamW::new(model.head.terms(), 0.0)?,
        AdamW::new(model.tower.map.parameters(), 0.0)?,
        AdamW::new(slow, 0.0)?,
    ])
}

/// An example, and which of its epoch it is.
struct Asked<'a> {
    at: i64,
    example: Example<'a>,
}

impl E4SRec {
    /// One epoch of learning. Without a learner no parameter changes; where the state is followed,
    /// plays are counted and remembered all the same.
    pub(crate) fn learn_from(
        &mut self,
        epoch: Epoch,
        examples: &[Example<'_>],
    ) -> Result<LearnReport, ModelError> {
        let mut learner = self.learner.take();
        let loss = match &mut learner {
            Some(learner) if !examples.is_empty() => self.learn_fast(learner, examples),
            None if self.follows => self.count(examples).map(|()| None),
            _ => Ok(None),
        };
        self.learner = learner;
        let loss = loss?;
        if self.learner.is_some() || self.follows {
            for example in examples {
                self.memory.learn(example);
            }
        }
        self.settled = self.catalogue.len();
        self.forget_memo();
        if let Some(mut learner) = self.learner.take() {
            let every = self.settings.online.lora_every;
            let due = !examples.is_empty() && every > 0 && learner.epochs.is_multiple_of(every);
            let result = if due {
                self.slow_step(&mut learner, epoch)
            } else {
                Ok(())
            };
            let result = result
                .and_then(|()| self.watch(&mut learner, epoch))
                .and_then(|()| self.go_back_if_asked(&mut learner, epoch));
            self.learner = Some(learner);
            result?;
        }
        Ok(LearnReport {
            examples: examples.len() as u64,
            loss,
        })
    }

    /// Steps of the fast learners, and the count of the plays; the mean loss before them.
    fn learn_fast(
        &mut self,
        learner: &mut Learner,
        examples: &[Example<'_>],
    ) -> Result<Option<f32>, ModelError> {
        learner.epochs += 1;
        let settings = self.settings.online.clone();
        // Only what could have been answered teaches how to answer, and each question among the
        // tracks that had been played when it was asked. With the first plays of tracks the model
        // would learn to rank what is new above what people replay, since whatever came today was
        // played today; among yesterday's tracks alone, that what is new is never replayed.
        let mut came_at = HashMap::new();
        let mut answerable = Vec::with_capacity(examples.len());
        for (at, &example) in (0..).zip(examples) {
            let track = example.actual;
            if !self.catalogue.contains(track) {
                continue;
            }
            if track.row() >= self.settled && !came_at.contains_key(&track.0) {
                came_at.insert(track.0, at);
                continue;
            }
            answerable.push(Asked { at, example });
        }
        let with_content =
            settings.content_every > 0 && learner.epochs.is_multiple_of(settings.content_every);
        let (mut sum, mut steps) = (0.0, 0.0);
        for chunk in answerable.chunks(settings.batch) {
            let loss = self.fast_step(learner, chunk, with_content, &came_at)?;
            sum += loss * chunk.len() as f64;
            steps += chunk.len() as f64;
        }
        if with_content {
            self.tower.refresh_all()?;
        }
        self.count(examples)?;
        for asked in &answerable {
            learner.memory.push(&asked.example);
        }
        Ok((steps > 0.0).then_some((sum / steps) as f32))
    }

    /// A step of the heads and the tracks' own vectors, and of the map of contents or not, on hidden
    /// states as they are; `came_at` tells of which of the epoch's examples a track's first play was.
    fn fast_step(
        &mut self,
        learner: &mut Learner,
        examples: &[Asked<'_>],
        with_content: bool,
        came_at: &HashMap<u32, i64>,
    ) -> Result<f64, ModelError> {
        let settings = self.settings.online.clone();
        let among = self.catalogue.len();
        let asks: Vec<Ask<'_>> = examples.iter().map(|asked| asked.example.ask).collect();
        let hidden = self.hidden(&asks, Freshness::AsAsked)?;
        let inputs = self.query_inputs(&asks, hidden)?;
        let questions = self.questions(examples, among);
        let limits = (among, settings.candidates);
        let mut candidates = self.candidates(&questions, limits, &mut learner.rng)?;
        candidates.tell_when(came_at)?;
        let rows = &candidates.rows;
        let own = self.tower.residuals(rows)?.f_set_requires_grad(true)?;
        let keys = self.catalogue.keys();
        let key = |row: usize| keys.get(row).copied();
        let parts = match with_content {
            true => self.tower.dropout(rows, key, &mut learner.rng)?,
            false => None,
        };
        let content = match with_content {
            true => Content::Anew(parts.as_ref()),
            false => Content::AsMapped,
        };
        let trusted = own.f_mul(&self.tower.gates(rows)?)?;
        let vectors = self.tower.fused(rows, &trusted, content)?;
        let loss = candidates.loss(&self.head, &inputs, &vectors, &questions)?;
        loss.f_backward()?;
        learner.terms.step(settings.term_rate, CLIP)?;
        let finite = learner.head.step(settings.head_rate, CLIP)?;
        if with_content {
            learner.content.step(settings.content_rate, CLIP)?;
        } else {
            learner.content.forget_gradients()?;
        }
        if finite {
            // The loss is a mean; a track's own vector should learn from a play alike in a large
            // and in a small batch.
            let gradient = own.f_grad()?.f_mul_scalar(examples.len() as f64)?;
            if let Some(guard) = &mut learner.guard {
                guard.note_rows(&self.tower, rows)?;
            }
            self.tower
                .learn_residuals(rows, &gradient, settings.row_rate)?;
            self.tower.refresh(rows)?;
        }
        Ok(loss.f_double_value(&[])?)
    }

    pub(crate) fn forget_head_gradients(&self) {
        for parameter in &mut self.head.parameters() {
            parameter.zero_grad();
        }
    }

    fn questions(&self, examples: &[Asked<'_>], among: usize) -> Questions {
        let mut questions = Questions::default();
        let mut personal = Personal::default();
        for Asked { at, example } in examples {
            let ask = &example.ask;
            personal.read(ask.context, self.memory.of(ask.user), ask.plays);
            questions.push(example.actual, &personal, among);
            questions.asked_at.push(*at);
        }
        questions
    }

    pub(crate) fn candidates(
        &mut self,
        questions: &Questions,
        limits: (usize, usize),
        rng: &mut ChaCha8Rng,
    ) -> Result<Candidates, ModelError> {
        let device = self.device();
        Candidates::choose(
            &[questions],
            &mut self.popularity,
            &self.levels,
            limits,
            rng,
            device,
        )
    }

    /// Counts the plays: popularity, and the trust in each track's own vector.
    fn count(&mut self, examples: &[Example<'_>]) -> Result<(), ModelError> {
        let mut rows = Vec::new();
        for example in examples {
            let row = example.actual.row();
            match self.popularity.play(row) {
                Some(_) => rows.push(row as i64),
                None => {
                    let plays = self.pending.entry(example.actual).or_default();
                    *plays = plays.saturating_add(1);
                }
            }
        }
        rows.sort_unstable();
        rows.dedup();
        self.levels = self.popularity.levels();
        if rows.is_empty() {
            return Ok(());
        }
        let plays: Vec<u32> = rows
            .iter()
            .map(|&row| self.popularity.plays(row as usize))
            .collect();
        let rows = Tensor::f_from_slice(&rows)?.f_to_device(self.device())?;
        self.tower.set_plays(&rows, &plays)?;
        self.tower.refresh(&rows)
    }
}
