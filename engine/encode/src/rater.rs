//! A language model that runs here and rates tracks by the attributes of MGPHot, by constrained decoding.
//!
//! It reads the schema, the anchors and `Track: Mrs. Robinson by Simon & Garfunkel`, then `Tempo=`. What
//! it may say next is one of six tokens, `0` to `5`; of all others the scores are not even computed. So
//! there is nothing to parse and no answer that is none.
//!
//! The rating is not the likeliest digit but the expectation over the six, `Σ d · p(d)`. The digit that a
//! small model likes best is the same for nearly every track; how much it leans to the next one is what
//! it knows, and it is a number that can be ranked.
//!
//! Ratings are as good as the model. SmolLM2-135M, told artist and title alone and shown no anchors, knows
//! nothing that helps: all its ratings lie near 2, and for 50 well-known tracks their ranks do not agree with
//! Spotify's mode, tempo, danceability, energy, acousticness and liveness (Spearman −0.10, 95 % −0.20 to
//! 0.00). It shows that the way works, and what it costs: 1.2 s of a CPU for each track.
//!
//! Each attribute is asked for by itself, right behind the track: no rating depends on those before it,
//! nor on the order of the schema, and one pass rates all 58. The schema and the anchors are read once and
//! kept as keys and values; behind them a pass feeds a tree, in which each track sees what is kept, and
//! each of its attributes sees that and the track, and nobody else. Afterwards the tree is cut off again.

use std::path::Path;

use segue_catalog::ratings::MOST;
use segue_catalog::ratings::prompt::{Anchor, instruction};
use segue_catalog::ratings::schema::{ATTRIBUTES, COUNT};
use segue_nn::NnError;
use segue_nn::decoder::{Decoder, DecoderOptions, Pass};
use segue_nn::decoder_config::DecoderConfig;
use segue_nn::device::Precision;
use segue_nn::kv_slots::{KvSlots, SlotId};
use segue_nn::lora::Mode;
use segue_nn::packed::WeightFormat;
use segue_nn::tch::{self, Device, Kind, Tensor};
use segue_nn::tokenizer::Tokenizer;
use segue_nn::weights::Weights;

use crate::EncodeError;

/// Tokens of a pass, about: enough for the matrices, and few enough for the mask.
const TOKENS_AT_ONCE: usize = 1_024;
/// Tokens of a track's names, at most; what is longer is cut.
const TRACK_TOKENS: usize = 64;
/// What can be said.
const DIGITS: [&str; 6] = ["0", "1", "2", "3", "4", "5"];

/// A language model that rates.
#[derive(Debug)]
pub struct LocalRater {
    decoder: Decoder,
    tokenizer: Tokenizer,
    slots: KvSlots,
    slot: SlotId,
    /// Tokens that are kept: the schema and the anchors.
    kept: i64,
    /// What asks for each attribute.
    questions: Vec<Vec<i64>>,
    /// The rows of the output layer for the digits, `[hidden, 6]`.
    digits: Tensor,
}

/// A tree as it is fed: for each token its place in the text, and which stretches of the tree it sees.
#[derive(Debug, Default)]
struct Tree {
    tokens: Vec<i64>,
    positions: Vec<i64>,
    /// From and to, of the track and of the branch; the latter ends with the token itself.
    sees: Vec<[(usize, usize); 2]>,
    /// Where a digit is to be said.
    asked: Vec<i64>,
}

impl LocalRater {
    /// Loads a language model from a folder or file, with all of its layers, and reads the schema and the
    /// anchors.
    ///
    /// # Errors
    /// A checkpoint that is missing or damaged, or has no tokenizer that says digits one by one; anchors
    /// that leave no room for a track.
    pub fn load(
        path: &Path,
        anchors: &[Anchor],
        (device, precision, weights): (Device, Precision, WeightFormat),
    ) -> Result<Self, EncodeError> {
        let published = Weights::open(path)?;
        let config = DecoderConfig::of(&published)?;
        let options = DecoderOptions {
            depth: None,
            kind: precision.kind(device),
            weights,
            device,
        };
        let decoder = Decoder::load(&published, &config, options)?;
        Self::new(decoder, Tokenizer::of(&published)?, anchors)
    }

    /// On a decoder that is loaded already.
    ///
    /// # Errors
    /// As [`LocalRater::load`].
    pub fn new(
        decoder: Decoder,
        tokenizer: Tokenizer,
        anchors: &[Anchor],
    ) -> Result<Self, EncodeError> {
        let questions: Vec<Vec<i64>> = ATTRIBUTES
            .iter()
            .map(|attribute| tokenizer.encode(&question(attribute.name)))
            .collect::<Result<_, _>>()?;
        let digits = digit_ids(&tokenizer, &questions)?;
        let mut kept = tokenizer.encode(&instruction())?;
        for anchor in anchors {
            kept.extend(tokenizer.encode(&track_text(&anchor.track))?);
            for (question, rating) in questions.iter().zip(anchor.ratings) {
                kept.extend(question);
                kept.extend(digits.get(usize::from(rating)));
            }
            kept.extend(tokenizer.encode("\n")?);
        }
        let of_a_track = TRACK_TOKENS + questions.iter().map(Vec::len).sum::<usize>();
        let longest = questions.iter().map(Vec::len).max().unwrap_or(0);
        let context = decoder.config().max_position_embeddings;
        let needed = kept.len() + TRACK_TOKENS + longest;
        if i64::try_from(needed).is_ok_and(|needed| needed > context) {
            return Err(EncodeError::Model(NnError::Input(format!(
                "the schema, the anchors and a track take {needed} tokens, and the model reads {context}: \
                 name fewer anchors"
            ))));
        }
        let _guard = tch::no_grad_guard();
        let capacity = kept.len() + of_a_track.max(TOKENS_AT_ONCE);
        let mut slots = decoder.kv_slots(1, i64::try_from(capacity).unwrap_or(i64::MAX))?;
        let slot = slots
            .claim(0)
            .ok_or_else(|| NnError::Input("a cache without a slot".to_owned()))?;
        for piece in kept.chunks(TOKENS_AT_ONCE) {
            let length = piece.len() as i64;
            let past = slots.length(slot)?;
            let mask = slots.causal_mask(&[slot], length)?;
            let rows = slots.rows(&[slot], &[length], length)?;
            let embeds = decoder.embed(&Tensor::f_from_slice(piece)?.f_unsqueeze(0)?)?;
            let positions: Vec<i64> = (past..past + length).collect();
            let _read = decoder.forward(Pass {
                embeds: &embeds,
                positions: &Tensor::f_from_slice(&positions)?.f_unsqueeze(0)?,
                mask: &mask,
                cache: Some((&mut slots, &rows)),
                mode: Mode::Infer,
            })?;
        }
        let digits = decoder.unembed(&Tensor::f_from_slice(&digits)?)?;
        Ok(Self {
            digits: digits.f_to_kind(Kind::Float)?.f_tr()?,
            kept: kept.len() as i64,
            decoder,
            tokenizer,
            slots,
            slot,
            questions,
        })
    }

    /// What tells its model from others: a hash of the weights as they are computed with.
    ///
    /// # Errors
    /// libtorch's own.
    pub fn fingerprint(&self) -> Result<u128, EncodeError> {
        Ok(self.decoder.fingerprint()?)
    }

    /// Tokens that are read once: the schema and the anchors.
    pub fn kept(&self) -> i64 {
        self.kept
    }

    /// How many tracks of usual names go into one pass.
    pub fn tracks_at_once(&self) -> usize {
        let of_a_track: usize = self.questions.iter().map(Vec::len).sum();
        (TOKENS_AT_ONCE / (of_a_track + TRACK_TOKENS / 4)).max(1)
    }

    /// Ratings of tracks by the schema, each from 0 to 5; a track is a line of
    /// [`segue_catalog::ratings::prompt::track_line`].
    ///
    /// # Errors
    /// libtorch's own; the model computes what is no number.
    pub fn rate(&mut self, tracks: &[&str]) -> Result<Vec<[f32; COUNT]>, EncodeError> {
        let _guard = tch::no_grad_guard();
        let mut texts = Vec::with_capacity(tracks.len());
        for track in tracks {
            let mut tokens = self.tokenizer.encode(&track_text(track))?;
            tokens.truncate(TRACK_TOKENS);
            texts.push(tokens);
        }
        let of_questions: usize = self.questions.iter().map(Vec::len).sum();
        let mut ratings = Vec::with_capacity(tracks.len());
        let mut rest = texts.as_slice();
        while !rest.is_empty() {
            let (mut tokens, mut count) = (0, 0);
            for text in rest {
                tokens += text.len() + of_questions;
                if count > 0 && tokens > TOKENS_AT_ONCE {
                    break;
                }
                count += 1;
            }
            let (now, later) = rest.split_at(count);
            ratings.extend(self.pass(now)?);
            rest = later;
        }
        Ok(ratings)
    }

    /// Rates some tracks in one pass.
    fn pass(&mut self, texts: &[Vec<i64>]) -> Result<Vec<[f32; COUNT]>, EncodeError> {
        let mut tree = Tree::default();
        for text in texts {
            tree.grow(self.kept, text, &self.questions);
        }
        let length = tree.tokens.len() as i64;
        let rows = self.slots.rows(&[self.slot], &[length], length)?;
        let device = self.decoder.place().1;
        let tokens = Tensor::f_from_slice(&tree.tokens)?.f_unsqueeze(0)?;
        let read = self.decoder.forward(Pass {
            embeds: &self.decoder.embed(&tokens)?,
            positions: &Tensor::f_from_slice(&tree.positions)?.f_unsqueeze(0)?,
            mask: &tree.mask(self.kept)?,
            cache: Some((&mut self.slots, &rows)),
            mode: Mode::Infer,
        });
        // Whatever became of it: the next pass begins behind the anchors again.
        self.slots.truncate(self.slot, self.kept)?;
        let places = Tensor::f_from_slice(&tree.asked)?.f_to_device(device)?;
        let states = read?.f_squeeze_dim(0)?.f_index_select(0, &places)?;
        let scores = states.f_to_kind(Kind::Float)?.f_matmul(&self.digits)?;
        let chances = scores.f_softmax(-1, Kind::Float)?;
        let values = Tensor::f_arange(DIGITS.len() as i64, (Kind::Float, device))?;
        let expected = chances.f_matmul(&values)?.f_to_device(Device::Cpu)?;
        let mut all = vec![0f32; tree.asked.len()];
        expected.f_copy_data(&mut all, tree.asked.len())?;
        let tracks = all.chunks_exact(COUNT).map(|ratings| {
            let mut of_a_track = [0f32; COUNT];
            for (place, &rating) in of_a_track.iter_mut().zip(ratings) {
                if !rating.is_finite() {
                    return Err(EncodeError::Model(NnError::Input(
                        "the model's scores are no numbers: its weights are damaged, or too large for \
                         this precision"
                            .to_owned(),
                    )));
                }
                // The last bits of six chances may add up to more than one.
                *place = rating.clamp(0.0, MOST);
            }
            Ok(of_a_track)
        });
        tracks.collect()
    }
}

impl Tree {
    /// Adds a track with a branch for each question, behind so many tokens that are kept.
    fn grow(&mut self, kept: i64, text: &[i64], questions: &[Vec<i64>]) {
        let start = self.tokens.len();
        for (position, &token) in (kept..).zip(text) {
            self.push(token, position, (start, start), start);
        }
        let track = (start, self.tokens.len());
        let behind = kept + text.len() as i64;
        for question in questions {
            let branch = self.tokens.len();
            for (position, &token) in (behind..).zip(question) {
                self.push(token, position, track, branch);
            }
            self.asked.push(self.tokens.len() as i64 - 1);
        }
    }

    /// Adds a token that sees a track, and from `own` on what there is, itself included.
    fn push(&mut self, token: i64, position: i64, track: (usize, usize), own: usize) {
        self.tokens.push(token);
        self.positions.push(position);
        self.sees.push([track, (own, self.tokens.len())]);
    }

    /// Who sees whom, `[1, 1, length, kept + length]`: all see what is kept.
    fn mask(&self, kept: i64) -> Result<Tensor, EncodeError> {
        let length = self.tokens.len();
        let mut seen = vec![false; length * length];
        for (row, stretches) in seen.chunks_exact_mut(length.max(1)).zip(&self.sees) {
            for &(from, to) in stretches {
                if let Some(stretch) = row.get_mut(from..to) {
                    stretch.fill(true);
                }
            }
        }
        let size = length as i64;
        let seen = Tensor::f_from_slice(&seen)?.f_reshape([1, 1, size, size])?;
        let all = Tensor::f_ones([1, 1, size, kept], (Kind::Bool, Device::Cpu))?;
        Ok(Tensor::f_cat(&[all, seen], 3)?)
    }
}

fn track_text(line: &str) -> String {
    format!("\nTrack: {line}")
}

fn question(attribute: &str) -> String {
    format!("\n{attribute}=")
}

/// The token of each digit as it is said behind a question.
fn digit_ids(tokenizer: &Tokenizer, questions: &[Vec<i64>]) -> Result<Vec<i64>, EncodeError> {
    let mut ids = Vec::with_capacity(DIGITS.len());
    for digit in DIGITS {
        let mut said = None;
        for (attribute, question) in ATTRIBUTES.iter().zip(questions) {
            let whole = tokenizer.encode(&format!("{}{digit}", self::question(attribute.name)))?;
            // The digit is one token more, the same behind every question.
            match whole.split_last() {
                Some((id, before)) if before == question && said.is_none_or(|was| was == *id) => {
                    said = Some(*id);
                }
                _ => {
                    return Err(EncodeError::Tokenizer(format!(
                        "it has no token of its own for {digit} behind `{}=`: ratings cannot be asked of \
                         this language model",
                        attribute.name
                    )));
                }
            }
        }
        ids.extend(said);
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_sees_its_track_and_itself() {
        let mut tree = Tree::default();
        let questions = vec![vec![7, 8], vec![9]];
        tree.grow(100, &[1, 2], &questions);
        tree.grow(100, &[3], &questions);
        assert_eq!(tree.tokens, [1, 2, 7, 8, 9, 3, 7, 8, 9]);
        assert_eq!(
            tree.positions,
            [100, 101, 102, 103, 102, 100, 101, 102, 101]
        );
        assert_eq!(tree.asked, [3, 4, 7, 8]);
        let mask = tree.mask(2).unwrap();
        assert_eq!(mask.size(), [1, 1, 9, 11]);
        let mut seen = vec![0u8; 99];
        mask.to_kind(Kind::Uint8).copy_data(&mut seen, 99);
        let rows: Vec<String> = seen
            .chunks(11)
            .map(|row| {
                row.iter()
                    .map(|seen| if *seen > 0 { '1' } else { '.' })
                    .collect()
            })
            .collect();
        assert_eq!(
            rows,
            [
                "111........",
                "1111.......",
                "11111......",
                "111111.....",
                "1111..1....",
                "11.....1...",
                "11.....11..",
                "11.....111.",
                "11.....1..1",
            ]
        );
    }
}
