//! Texts as normalised vectors: sentence-transformers over BERT (all-MiniLM-L6-v2).
//!
//! Tokenise, run BERT, average the hidden states of a text's own tokens, scale to length 1. Texts
//! are sorted by length and go through in micro-batches of a bounded number of tokens, so that
//! little is spent on padding; the order of the results is that of the texts.

use std::path::Path;

use segue_catalog::content::TrackContent;
use segue_catalog::encoder::{ContentError, Encoder, EncoderError};
use segue_flow::Remedy;
use segue_nn::attention::additive;
use segue_nn::device::Precision;
use segue_nn::tch::{self, Device, Kind, Tensor};
use segue_nn::weights::Weights;
use tokenizers::{Tokenizer, TruncationParams};

use crate::EncodeError;
use crate::bert::{Bert, BertConfig};
use crate::track_text::track_text;

/// The longest text in tokens: what sentence-transformers publishes this family with
/// (`max_seq_length`); its `tokenizer.json` says 128, and would pad every title to that.
const TOKENS_AT_MOST: usize = 256;
/// Bytes of a text that are looked at. Far more than 256 tokens of any real text take, and a text
/// of megabytes (the tokenizer's time grows with it) costs no more than this.
const BYTES_AT_MOST: usize = 16 * 1024;
/// Tokens in one micro-batch, padding included: enough to keep the matrix products busy, few
/// enough that the activations (6 KB a token in the feed-forward part) stay near the caches.
const BATCH_TOKENS: usize = 2048;

/// A text encoder on one device, for one thread.
#[derive(Debug)]
pub struct TextEncoder {
    bert: Bert,
    tokenizer: Tokenizer,
    padding: i64,
    tokens_at_most: usize,
    kind: Kind,
    device: Device,
}

impl TextEncoder {
    /// Loads `model.safetensors`, `config.json` and `tokenizer.json` of a folder.
    pub fn load(folder: &Path, device: Device, precision: Precision) -> Result<Self, EncodeError> {
        let weights = Weights::open(folder)?;
        let wrong = |name: &str, problem: String| EncodeError::File {
            path: folder.join(name),
            problem,
        };
        let config = BertConfig::of_folder(folder)?;
        let mut tokenizer = Tokenizer::from_file(folder.join("tokenizer.json"))
            .map_err(|e| wrong("tokenizer.json", e.to_string()))?;
        let tokens_at_most =
            TOKENS_AT_MOST.min(usize::try_from(config.max_position_embeddings).unwrap_or(0));
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(Some(TruncationParams {
                max_length: tokens_at_most,
                ..TruncationParams::default()
            }))
            .map_err(|e| wrong("tokenizer.json", e.to_string()))?;
        // Every id the tokenizer can say must be a row of the embedding; checked once, here.
        let largest = tokenizer.get_vocab(true).into_values().max().unwrap_or(0);
        if i64::from(largest) >= config.vocab_size {
            return Err(wrong(
                "tokenizer.json",
                format!("token id {largest}, the model has {}", config.vocab_size),
            ));
        }
        let padding = i64::from(tokenizer.token_to_id("[PAD]").unwrap_or(0));
        let kind = precision.kind(device);
        let bert = Bert::load(&weights, &config, (kind, device))?;
        tracing::debug!(folder = %folder.display(), ?kind, ?device, "text encoder loaded");
        Ok(Self {
            bert,
            tokenizer,
            padding,
            tokens_at_most,
            kind,
            device,
        })
    }

    /// Length of a vector.
    pub fn dimensions(&self) -> usize {
        usize::try_from(self.bert.config().hidden_size).unwrap_or(0)
    }

    /// One unit vector per text, row-major `[texts, dimensions]`.
    ///
    /// The empty text has one too. Texts beyond 256 tokens or 16 KiB are cut.
    pub fn embed(&mut self, texts: &[&str]) -> Result<Vec<f32>, EncodeError> {
        let tokens = texts
            .iter()
            .map(|text| self.tokens(text))
            .collect::<Result<Vec<_>, _>>()?;
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&row| tokens.get(row).map_or(0, Vec::len));

        let width = self.dimensions();
        let mut rows = vec![0f32; texts.len() * width];
        let mut rest = order.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(batch_size(rest, &tokens));
            let batch: Vec<&[i64]> = now
                .iter()
                .filter_map(|&row| tokens.get(row).map(Vec::as_slice))
                .collect();
            let vectors = tch::no_grad(|| self.run(&batch))?;
            for (&row, vector) in now.iter().zip(vectors.chunks_exact(width)) {
                if let Some(place) = rows.get_mut(row * width..(row + 1) * width) {
                    place.copy_from_slice(vector);
                }
            }
            rest = later;
        }
        Ok(rows)
    }

    fn tokens(&self, text: &str) -> Result<Vec<i64>, EncodeError> {
        let mut end = BYTES_AT_MOST.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let text = text.get(..end).unwrap_or(text);
        let encoding = self
            .tokenizer
            .encode_fast(text, true)
            .map_err(|e| EncodeError::Tokenizer(e.to_string()))?;
        let ids = encoding.get_ids().iter().take(self.tokens_at_most);
        Ok(ids.map(|&id| i64::from(id)).collect())
    }

    /// One micro-batch, `[batch · dimensions]` values.
    fn run(&self, batch: &[&[i64]]) -> Result<Vec<f32>, EncodeError> {
        let length = batch.iter().map(|ids| ids.len()).max().unwrap_or(0);
        let shape = [batch.len() as i64, length as i64];
        let mut ids = Vec::with_capacity(batch.len() * length);
        for row in batch {
            ids.extend_from_slice(row);
            ids.resize(ids.len() + length - row.len(), self.padding);
        }
        let ids = Tensor::f_from_slice(&ids)?
            .f_reshape(shape)?
            .f_to_device(self.device)?;
        let padded = batch.iter().any(|row| row.len() < length);
        let pooled = if padded {
            let lengths: Vec<i64> = batch.iter().map(|row| row.len() as i64).collect();
            let lengths = Tensor::f_from_slice(&lengths)?.f_reshape([-1, 1])?;
            let place = Tensor::f_arange(length as i64, (Kind::Int64, Device::Cpu))?;
            let real = place.f_lt_tensor(&lengths)?.f_to_device(self.device)?; // [batch, length]
            let mask = additive(&real.f_reshape([shape[0], 1, 1, shape[1]])?, self.kind)?;
            // Expanded, since the fast kernels want a mask of the scores' own shape.
            let mask = mask.f_expand([shape[0], 1, shape[1], shape[1]], false)?;
            let hidden = self
                .bert
                .forward(&ids, Some(&mask))?
                .f_to_kind(Kind::Float)?;
            let share = real.f_to_kind(Kind::Float)?;
            let share = share.f_div(&share.f_sum_dim_intlist([1i64].as_slice(), true, None)?)?;
            // [batch, 1, length] × [batch, length, hidden]
            share.f_unsqueeze(1)?.f_bmm(&hidden)?.f_squeeze_dim(1)?
        } else {
            let hidden = self.bert.forward(&ids, None)?;
            hidden.f_mean_dim([1i64].as_slice(), false, Kind::Float)?
        };
        let length = pooled.f_norm_scalaropt_dim(2.0, [1i64].as_slice(), true)?;
        let unit = pooled
            .f_div(&length.f_clamp_min(1e-12)?)?
            .f_to_device(Device::Cpu)?;
        let mut values = vec![0f32; unit.numel()];
        unit.f_contiguous()?
            .f_copy_data(&mut values, unit.numel())?;
        Ok(values)
    }
}

/// How many of the shortest-first rest go into the next micro-batch; at least one.
fn batch_size(rest: &[usize], tokens: &[Vec<i64>]) -> usize {
    let longest = |count: usize| {
        let last = rest.get(count - 1).and_then(|&row| tokens.get(row));
        last.map_or(0, Vec::len)
    };
    let mut count = 1;
    while count < rest.len() && (count + 1) * longest(count + 1) <= BATCH_TOKENS {
        count += 1;
    }
    count
}

impl Encoder for TextEncoder {
    fn name(&self) -> &'static str {
        "text"
    }

    fn dimensions(&self) -> usize {
        TextEncoder::dimensions(self)
    }

    fn encode(
        &mut self,
        tracks: &[TrackContent],
        rows: &mut Vec<f32>,
    ) -> Result<Vec<Result<(), ContentError>>, EncoderError> {
        let lines: Vec<Option<String>> = tracks
            .iter()
            .map(|track| track_text(&track.title, &track.artist))
            .collect();
        let texts: Vec<&str> = lines.iter().flatten().map(String::as_str).collect();
        let vectors = self.embed(&texts).map_err(|error| EncoderError {
            encoder: "text",
            detail: error.to_string(),
            remedy: Remedy::Retry,
        })?;
        let width = TextEncoder::dimensions(self);
        let mut vectors = vectors.chunks_exact(width);
        let outcomes = tracks.iter().zip(&lines).map(|(track, line)| {
            let vector = line.as_ref().and_then(|_| vectors.next());
            match vector {
                Some(vector) if vector.iter().all(|v| v.is_finite()) => {
                    rows.extend_from_slice(vector);
                    Ok(())
                }
                other => {
                    rows.resize(rows.len() + width, 0.0);
                    let detail = match other {
                        Some(_) => "its text has no finite vector",
                        None => "it has neither a title nor an artist",
                    };
                    Err(ContentError {
                        track: track.key.to_string(),
                        detail: detail.into(),
                    })
                }
            }
        });
        Ok(outcomes.collect())
    }
}
