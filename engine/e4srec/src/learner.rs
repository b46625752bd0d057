//! Learning from the stream: test, then train.
//!
//! Fast learners (the heads and the tracks' own vectors) take steps every epoch on the hidden
//! states that the test has left behind, which costs almost nothing; the adapter, if it is asked
//! to, takes a step every few epochs on a batch that is half of all time and half new, and is then
//! published: the version grows, the caches empty. All at barriers; nothing changes inside an
//! epoch.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use segue_flow::Epoch;
use segue_nn::lora::Mode;
use segue_recommend::recommender::{Ask, Example, LearnReport};
use segue_recommend::reservoir::Reservoir;
use tch::Tensor;

use crate::backbone::{NOTHING_YET, UNKNOWN};
use crate::error::ModelError;
use crate::head::{QueryInputs, levelled};
use crate::hidden::Freshness;
use crate::listener_cache::item;
use crate::model::E4SRec;
use crate::objective::{Candidates, Questions};
use crate::optimise::AdamW;
use crate::personal::Personal;
use crate::prompt::TokenBatch;
use crate::windows::runs;

const CLIP: f64 = 1.0;

/// What learning keeps between epochs.
#[derive(Debug)]
pub(crate) struct Learner {
    head: AdamW,
    terms: AdamW,
    content: AdamW,
    adapter: AdamW,
    memory: Reservoir,
    rng: ChaCha8Rng,
    epochs: u64,
}

impl Learner {
    pub fn new(model: &E4SRec) -> Result<Self, ModelError> {
        let settings = &model.settings.online;
        let mut rng = ChaCha8Rng::seed_from_u64(model.settings.seed);
        rng.set_stream(4);
        let mut slow = model.backbone.adapter();
        slow.extend(model.backbone.front());
        Ok(Self {
            head: AdamW::new(model.head.matrices(), 0.0)?,
            terms: AdamW::new(model.head.terms(), 0.0)?,
            content: AdamW::new(model.tower.map.parameters(), 0.0)?,
            adapter: AdamW::new(slow, 0.0)?,
            memory: Reservoir::new(settings.reservoir, settings.recent, model.settings.seed),
            rng,
            epochs: 0,
        })
    }
}

/// Whether the heads take part in a step.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Heads {
    /// The map of contents as well, or not.
    Learn {
        with_content: bool,
    },
    Rest,
}

impl E4SRec {
    /// One epoch of learning; nothing for a frozen model.
    pub(crate) fn learn_from(
        &mut self,
        _epoch: Epoch,
        examples: &[Example<'_>],
    ) -> Result<LearnReport, ModelError> {
        let Some(mut learner) = self.learner.take() else {
            self.forget_memo();
            return Ok(LearnReport {
                examples: examples.len() as u64,
                loss: None,
            });
        };
        let result = self.learn_with(&mut learner, examples);
        self.learner = Some(learner);
        result
    }

    fn learn_with(
        &mut self,
        learner: &mut Learner,
        examples: &[Example<'_>],
    ) -> Result<LearnReport, ModelError> {
        if examples.is_empty() {
            return Ok(LearnReport::default());
        }
        learner.epochs += 1;
        let settings = self.settings.online.clone();
        // Only what could have been answered teaches how to answer, among the tracks that were
        // there. With the targets that came with this epoch the heads would learn to rank what is
        // new above what people replay; with the tracks alone they would learn that the newest are
        // never replayed. The new tracks' own vectors begin with these plays, though.
        let rows = self.asked_rows.take().unwrap_or(self.catalogue.len());
        let (known, cold): (Vec<Example<'_>>, Vec<Example<'_>>) = examples
            .iter()
            .filter(|example| self.catalogue.contains(example.actual))
            .partition(|example| example.actual.row() < rows);
        let with_content =
            settings.content_every > 0 && learner.epochs.is_multiple_of(settings.content_every);
        let (mut sum, mut steps) = (0.0, 0.0);
        for chunk in known.chunks(settings.batch) {
            let heads = Heads::Learn { with_content };
            let loss = self.fast_step(learner, chunk, heads, rows)?;
            sum += loss * chunk.len() as f64;
            steps += chunk.len() as f64;
        }
        for chunk in cold.chunks(settings.batch) {
            self.fast_step(learner, chunk, Heads::Rest, self.catalogue.len())?;
        }
        if with_content {
            self.tower.refresh_all()?;
        }
        self.count(examples)?;
        for example in &known {
            learner.memory.push(example);
        }
        for example in examples {
            self.memory.learn(example);
        }
        self.forget_memo();
        if settings.lora_every > 0 && learner.epochs.is_multiple_of(settings.lora_every) {
            self.slow_step(learner)?;
        }
        Ok(LearnReport {
            examples: examples.len() as u64,
            loss: (steps > 0.0).then_some((sum / steps) as f32),
        })
    }

    /// A step of the heads and the tracks' own vectors, on hidden states as they are, among the
    /// first so many tracks.
    fn fast_step(
        &mut self,
        learner: &mut Learner,
        examples: &[Example<'_>],
        heads: Heads,
        among: usize,
    ) -> Result<f64, ModelError> {
        let with_content = heads == Heads::Learn { with_content: true };
        let settings = self.settings.online.clone();
        let asks: Vec<Ask<'_>> = examples.iter().map(|example| example.ask).collect();
        let hidden = self.hidden(&asks, Freshness::AsAsked)?;
        let inputs = self.query_inputs(&asks, hidden)?;
        let questions = self.questions(examples, among);
        let limits = (among, settings.candidates);
        let candidates = self.candidates(&questions, limits, &mut learner.rng)?;
        let rows = &candidates.rows;
        let own = self.tower.residuals(rows)?.f_set_requires_grad(true)?;
        let mapped = if with_content {
            self.tower.mapped(rows)?
        } else {
            self.tower.mapped_as_is(rows)?
        };
        let vectors = mapped.f_add(&own.f_mul(&self.tower.gates(rows)?)?)?;
        let loss = candidates.loss(&self.head, &inputs, &vectors, &questions)?;
        loss.f_backward()?;
        let finite = match heads {
            Heads::Learn { .. } => {
                learner.terms.step(settings.term_rate, CLIP)?;
                learner.head.step(settings.head_rate, CLIP)?
            }
            Heads::Rest => {
                self.forget_head_gradients();
                loss.f_double_value(&[])?.is_finite()
            }
        };
        if with_content {
            learner.content.step(settings.content_rate, CLIP)?;
        }
        if finite {
            // The loss is a mean; a track's own vector should learn from a play alike in a large
            // and in a small batch.
            let gradient = own.f_grad()?.f_mul_scalar(examples.len() as f64)?;
            self.tower
                .learn_residuals(rows, &gradient, settings.row_rate)?;
            self.tower.refresh(rows)?;
        }
        Ok(loss.f_double_value(&[])?)
    }

    /// A step of the adapter and the projection, and their publication.
    fn slow_step(&mut self, learner: &mut Learner) -> Result<(), ModelError> {
        let settings = self.settings.online.clone();
        let batch: Vec<Example<'_>> = learner
            .memory
            .mixed_batch(settings.lora_batch)
            .into_iter()
            .filter(|example| self.catalogue.contains(example.actual))
            .collect();
        if batch.is_empty() {
            return Ok(());
        }
        let seed = self.settings.seed.wrapping_add(learner.epochs);
        tch::manual_seed(seed as i64);
        self.backbone.decoder.unmerge_lora();
        let asks: Vec<Ask<'_>> = batch.iter().map(|example| example.ask).collect();
        let runs = runs(&asks, self.settings.lookback);
        let length = runs
            .iter()
            .map(|run| run.tokens.len() + 1)
            .max()
            .unwrap_or(1);
        let mut tokens = TokenBatch::default();
        let (mut reads, mut order) = (Vec::new(), Vec::new());
        for (number, run) in (1..).zip(&runs) {
            tokens.push(NOTHING_YET, None);
            for token in &run.tokens {
                let version = self.inputs.version(token.track.row());
                tokens.push(item(token, version), Some(token));
            }
            tokens.pad(number * length, UNKNOWN);
            reads.push((
                length as i64,
                run.reads.iter().map(|&(_, read)| read as i64).collect(),
            ));
            order.extend(run.reads.iter().map(|&(ask, _)| ask));
        }
        let table = self.inputs.table();
        let hidden = self
            .backbone
            .read_whole(&tokens, &reads, table, Mode::Train)?;
        let examples: Vec<Example<'_>> = order
            .iter()
            .filter_map(|&ask| batch.get(ask).copied())
            .collect();
        let asks: Vec<Ask<'_>> = examples.iter().map(|example| example.ask).collect();
        let inputs: QueryInputs = self.query_inputs(&asks, levelled(&hidden)?)?;
        let all = self.catalogue.len();
        let questions = self.questions(&examples, all);
        let limits = (all, settings.candidates);
        let candidates = self.candidates(&questions, limits, &mut learner.rng)?;
        let vectors = self.tower.vectors()?.f_index_select(0, &candidates.rows)?;
        let loss = candidates.loss(&self.head, &inputs, &vectors, &questions)?;
        loss.f_backward()?;
        learner.adapter.step(settings.lora_rate, CLIP)?;
        // The heads have learnt from these examples already, and learn every epoch.
        self.forget_head_gradients();
        self.publish()
    }

    fn forget_head_gradients(&self) {
        for parameter in &mut self.head.parameters() {
            parameter.zero_grad();
        }
    }

    fn questions(&self, examples: &[Example<'_>], among: usize) -> Questions {
        let mut questions = Questions::default();
        let mut personal = Personal::default();
        for example in examples {
            let ask = &example.ask;
            personal.read(ask.context, self.memory.of(ask.user), ask.plays);
            questions.push(example.actual, &personal, among);
        }
        questions
    }

    fn candidates(
        &mut self,
        questions: &Questions,
        limits: (usize, usize),
        rng: &mut ChaCha8Rng,
    ) -> Result<Candidates, ModelError> {
        let device = self.device();
        Candidates::choose(
            questions,
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
                None => *self.pending.entry(example.actual).or_default() += 1,
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
