//! What a language model recommends of itself, when nobody has taught it anything.
//!
//! E4SRec without training is chance: its projection and its head are drawn, and so were the "zero-shot"
//! tables of arXiv 2606.00125 (freshly initialised `input_proj` and `score`; its recall@100 of 200
//! candidates lies between .47 and .53). Here nothing is drawn. A track's input vector is the mean of the
//! language model's own embeddings of the tokens of `title by artist`, as loud as one of its words, in the
//! place where E4SRec has its projected vector; its output vector is the mean of the rows of the language
//! model's output layer for the tokens of its title, so that `⟨h, o⟩` is the mean logit of these tokens,
//! were they all to come next. What the same state says before any play is taken away (`h − h₀`):
//! otherwise those titles would lead that are made of frequent tokens, for every listener.
//!
//! Where titles say what belongs together (the tests' Christmas songs, symphonies, blues and robots) it is
//! well above chance. On a simulated log (4,000 plays, 1,341 tracks of made-up names, 2,000 plays measured,
//! SmolLM2-135M) its recall@20 is 2.6 % (1.5 to 3.6), where chance gives about 1.4 %: it finds something in
//! repeats (4.4 %, chance 1.8 %), whose names it has just read, and nothing in first plays (1.0 %, as chance);
//! the trained model finds 44 %. So it is no way to answer, and a model without training goes on to refuse.
//!
//! It is a baseline, measured beside the others where `models.zero_shot` says so, and answers nobody.

use segue_flow::{Epoch, Remedy};
use segue_listen::TrackId;
use segue_nn::decoder::Pass;
use segue_nn::lora::Mode;
use segue_recommend::Ask;
use segue_recommend::catalogue::{Catalogue, check_paired, check_told};
use segue_recommend::recommender::{
    Admitted, Example, LearnReport, Ranking, RecommendError, Recommender, Tier, TrackNames,
};
use tch::{Kind, Tensor};

use crate::backbone::Foundation;
use crate::error::ModelError;
use crate::prompt::{Layout, RowPlan};
use crate::scoring::{chunk_rows, conservative_ranks, fill_lists};
use crate::windows::{Run, runs};

const NAME: &str = "e4srec-zero-shot";

/// A language model that ranks tracks by its own words.
#[derive(Debug)]
pub struct ZeroShot {
    foundation: Foundation,
    /// `[1, instruction, hidden]` and `[1, response, hidden]`
    around: [Tensor; 2],
    lookback: usize,
    batch_tokens: usize,
    /// The mean length of a word's embedding: what a track's input is brought to.
    loudness: f64,
    catalogue: Catalogue,
    /// `[tracks, hidden]`: what is read of a track; 0 where it has no words.
    inputs: Vec<Tensor>,
    /// `[tracks, hidden]`: what it is ranked by.
    outputs: Vec<Tensor>,
    /// Whether it has words.
    worded: Vec<bool>,
    /// The answer before any play, `[1, hidden]`.
    nothing: Option<Tensor>,
}

impl ZeroShot {
    /// Its name in reports.
    pub const NAME: &'static str = NAME;

    /// On a whole language model with its tokenizer: cut short, its last state is not what its output
    /// layer reads. Windows hold up to `lookback + 49` plays; a pass up to `batch_tokens` tokens.
    ///
    /// # Errors
    /// A foundation without a tokenizer or without words around the plays, or libtorch's own.
    pub fn new(
        foundation: Foundation,
        lookback: usize,
        batch_tokens: usize,
    ) -> Result<Self, ModelError> {
        let around = foundation.around()?;
        if around.iter().any(|text| text.numel() == 0) {
            return Err(ModelError::Data(
                "zero-shot needs words before the plays and after them".to_owned(),
            ));
        }
        let _guard = tch::no_grad_guard();
        let lengths = Tensor::f_cat(&around, 1)?.f_norm_scalaropt_dim(2, [-1], false)?;
        Ok(Self {
            loudness: lengths.f_mean(Kind::Float)?.f_double_value(&[])?,
            foundation,
            around,
            lookback,
            batch_tokens: batch_tokens.max(1),
            catalogue: Catalogue::default(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            worded: Vec::new(),
            nothing: None,
        })
    }

    /// Takes in a track's words.
    fn word(&mut self, names: Option<TrackNames<'_>>) -> Result<(), ModelError> {
        let TrackNames { artist, title } = names.unwrap_or(TrackNames {
            artist: "",
            title: "",
        });
        let (read, said) = match (title.is_empty(), artist.is_empty()) {
            (false, false) => (format!(" {title} by {artist}"), format!(" {title}")),
            (false, true) => (format!(" {title}"), format!(" {title}")),
            (true, _) => (format!(" {artist}"), format!(" {artist}")),
        };
        let [read, said] = [
            self.foundation.encode(&read)?,
            self.foundation.encode(&said)?,
        ];
        let worded = !(artist.is_empty() && title.is_empty() || read.is_empty() || said.is_empty());
        self.worded.push(worded);
        let decoder = &self.foundation.decoder;
        let place = (Kind::Float, self.foundation.device());
        if !worded {
            let none = || Tensor::f_zeros([decoder.config().hidden_size], place);
            self.inputs.push(none()?);
            self.outputs.push(none()?);
            return Ok(());
        }
        let mean = |rows: Tensor| -> Result<Tensor, ModelError> {
            let rows = rows.f_to_kind(Kind::Float)?;
            Ok(rows.f_mean_dim(&[0i64][..], false, Kind::Float)?)
        };
        let input = mean(decoder.embed(&Tensor::f_from_slice(&read)?)?)?;
        let length = input.f_norm()?.f_double_value(&[])?.max(1e-12);
        self.inputs
            .push(input.f_mul_scalar(self.loudness / length)?);
        self.outputs
            .push(mean(decoder.unembed(&Tensor::f_from_slice(&said)?)?)?);
        Ok(())
    }

    /// Final states behind the response after each read of these runs, `[reads, hidden]`, in the order
    /// of runs and of their reads.
    fn pass(&self, runs: &[Run]) -> Result<Tensor, ModelError> {
        let [instruction, response] = &self.around;
        let [(_, before, hidden), (_, after, _)] = [instruction.size3()?, response.size3()?];
        let longest = runs.iter().map(|run| run.tokens.len()).max().unwrap_or(0) as i64;
        let plans: Vec<RowPlan> = runs
            .iter()
            .map(|run| RowPlan {
                past: 0,
                fed: before + longest,
                // A read of no play is behind the instruction.
                reads: run
                    .reads
                    .iter()
                    .map(|&(_, read)| before + read as i64 - 1)
                    .collect(),
            })
            .collect();
        let layout = Layout::new(&plans, after)?;
        let device = self.foundation.device();
        let mut rows = Vec::with_capacity(runs.len());
        for run in runs {
            let mut plays: Vec<Tensor> = Vec::with_capacity(longest as usize);
            for token in &run.tokens {
                let input = self.inputs.get(token.track.row());
                plays.push(match input {
                    Some(input) => input.shallow_clone(),
                    None => Tensor::f_zeros([hidden], (Kind::Float, device))?,
                });
            }
            while (plays.len() as i64) < longest {
                plays.push(Tensor::f_zeros([hidden], (Kind::Float, device))?);
            }
            let mut parts = vec![instruction.f_squeeze_dim(0)?];
            if !plays.is_empty() {
                parts.push(Tensor::f_stack(&plays, 0)?);
            }
            parts.extend((0..layout.branches).map(|_| response.squeeze_dim(0)));
            rows.push(Tensor::f_cat(&parts, 0)?);
        }
        let read = self.foundation.decoder.forward(Pass {
            embeds: &Tensor::f_stack(&rows, 0)?,
            positions: &layout.positions,
            mask: &layout.mask,
            cache: None,
            mode: Mode::Infer,
        })?;
        let places = Tensor::f_from_slice(&layout.answers)?.f_to_device(device)?;
        let answers = read.f_reshape([-1, hidden])?.f_index_select(0, &places)?;
        Ok(answers.f_to_kind(Kind::Float)?)
    }

    /// What each question's state says beyond what is said before any play, `[asks, hidden]`.
    fn queries(&mut self, asks: &[Ask<'_>]) -> Result<Tensor, ModelError> {
        let nothing = match &self.nothing {
            Some(nothing) => nothing.shallow_clone(),
            None => {
                let user = segue_listen::UserId(0);
                let ask = Ask {
                    user,
                    plays: 0,
                    context: &[],
                };
                let nothing = self.pass(&runs(&[ask], self.lookback))?;
                self.nothing.insert(nothing).shallow_clone()
            }
        };
        let runs = runs(asks, self.lookback);
        let response = self.around[1].size()[1] as usize;
        let (mut found, mut order) = (Vec::new(), Vec::new());
        let mut rest = runs.as_slice();
        while !rest.is_empty() {
            let (mut count, mut widest) = (0, 0);
            for run in rest {
                let width = run.tokens.len() + run.reads.len() * response;
                widest = widest.max(width);
                if count > 0 && (count + 1) * widest > self.batch_tokens {
                    break;
                }
                count += 1;
            }
            let (batch, later) = rest.split_at(count);
            found.push(self.pass(batch)?);
            let reads = batch.iter().flat_map(|run| &run.reads);
            order.extend(reads.map(|&(ask, _)| ask));
            rest = later;
        }
        let mut place_of = vec![0i64; asks.len()];
        for (row, &ask) in (0i64..).zip(&order) {
            if let Some(place) = place_of.get_mut(ask) {
                *place = row;
            }
        }
        let place_of = Tensor::f_from_slice(&place_of)?.f_to_device(self.foundation.device())?;
        let all = Tensor::f_cat(&found, 0)?.f_index_select(0, &place_of)?;
        Ok(all.f_sub(&nothing)?)
    }

    /// Calls `each` with the scores of chunks of the asks, `[n, tracks]`.
    fn scores(
        &mut self,
        asks: &[Ask<'_>],
        mut each: impl FnMut(&Self, &[usize], Tensor) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        if asks.is_empty() || self.catalogue.is_empty() {
            return Ok(());
        }
        let _guard = tch::no_grad_guard();
        let queries = self.queries(asks)?;
        let outputs = Tensor::f_stack(&self.outputs, 0)?.f_tr()?;
        let silent: Vec<f32> = self
            .worded
            .iter()
            .map(|&worded| if worded { 0.0 } else { f32::NEG_INFINITY })
            .collect();
        let silent = Tensor::f_from_slice(&silent)?.f_to_device(self.foundation.device())?;
        let all: Vec<usize> = (0..asks.len()).collect();
        let mut from = 0;
        for chunk in all.chunks(chunk_rows(self.catalogue.len() as i64) as usize) {
            let length = chunk.len() as i64;
            let some = queries.f_narrow(0, from, length)?;
            each(self, chunk, some.f_matmul(&outputs)?.f_add(&silent)?)?;
            from += length;
        }
        Ok(())
    }

    fn admit_tracks(&mut self, tracks: &[Admitted<'_>]) -> Result<(), RecommendError> {
        let _guard = tch::no_grad_guard();
        self.catalogue.admit(NAME, tracks)?;
        for track in tracks {
            if track.track.row() == self.worded.len() {
                self.word(track.names).map_err(|error| error.of(NAME))?;
            }
        }
        Ok(())
    }
}

impl Recommender for ZeroShot {
    fn name(&self) -> &'static str {
        NAME
    }

    fn tier(&self) -> Tier {
        Tier::LanguageModel
    }

    fn admit(&mut self, tracks: &[Admitted<'_>]) -> Result<(), RecommendError> {
        self.admit_tracks(tracks)
    }

    fn recommend(
        &mut self,
        asks: &[Ask<'_>],
        limit: usize,
        out: &mut Vec<Ranking>,
    ) -> Result<(), RecommendError> {
        let mut lists = vec![Ranking::default(); asks.len()];
        let track = |column: usize| u32::try_from(column).ok().map(TrackId);
        let fill = |own: &Self, chunk: &[usize], scores: Tensor| {
            fill_lists(&mut lists, chunk, &scores, track, (&own.catalogue, limit))
        };
        self.scores(asks, fill).map_err(|error| error.of(NAME))?;
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
        self.scores(asks, |own, chunk, scores| {
            let row = |ask: &usize| actual.get(*ask).map_or(0, |track| track.row());
            let is_worded = |row: usize| own.worded.get(row).copied().unwrap_or(false);
            let targets: Vec<i64> = chunk
                .iter()
                .map(row)
                .map(|row| if is_worded(row) { row as i64 } else { 0 })
                .collect();
            let targets = Tensor::f_from_slice(&targets)?.f_to_device(scores.device())?;
            for (ask, rank) in chunk.iter().zip(conservative_ranks(&scores, &targets)?) {
                if let Some(place) = found.get_mut(*ask) {
                    *place = u32::try_from(rank).ok().filter(|_| is_worded(row(ask)));
                }
            }
            Ok(())
        })
        .map_err(|error| error.of(NAME))?;
        ranks.append(&mut found);
        Ok(())
    }

    fn ranks_again(&self) -> bool {
        true
    }

    fn learn(&mut self, _: Epoch, examples: &[Example<'_>]) -> Result<LearnReport, RecommendError> {
        Ok(LearnReport {
            examples: examples.len() as u64,
            loss: None,
        })
    }

    /// What tells the language model from others, and the tracks: there is nothing else.
    fn snapshot(&self) -> Result<Vec<u8>, RecommendError> {
        let described = self.foundation.described();
        let described = described.map_err(|error| error.of(NAME))?;
        let state = serde_json::to_vec(&(described, &self.catalogue));
        state.map_err(|error| ModelError::State(error.to_string()).of(NAME))
    }

    fn restore(&mut self, state: &[u8], tracks: &[Admitted<'_>]) -> Result<(), RecommendError> {
        let read: Result<(String, Catalogue), _> = serde_json::from_slice(state);
        let (was, catalogue) =
            read.map_err(|error| ModelError::State(error.to_string()).of(NAME))?;
        check_told(NAME, &catalogue, tracks)?;
        let now = self.foundation.described();
        let now = now.map_err(|error| error.of(NAME))?;
        if was != now {
            return Err(RecommendError {
                recommender: NAME,
                detail: format!("the language model is {now} and was {was}: begin anew"),
                remedy: Remedy::Configure,
            });
        }
        self.catalogue = Catalogue::default();
        self.inputs.clear();
        self.outputs.clear();
        self.worded.clear();
        self.admit_tracks(tracks)
    }
}
