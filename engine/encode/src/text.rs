//! Texts as normalised vectors: sentence-transformers over BERT (all-MiniLM-L6-v2) and MPNet
//! (all-mpnet-base-v2).
//!
//! Tokenise, run the network, average the hidden states of a text's own tokens, scale to length 1.
//! Texts are sorted by length and go through in micro-batches of a bounded number of tokens, so that
//! little is spent on padding; the order of the results is that of the texts. A text that is longer
//! than the network takes is cut, or, as lyrics are, taken in chunks whose vectors are averaged.

use std::path::Path;

use segue_catalog::content::TrackContent;
use segue_catalog::current_library::CurrentLibrary;
use segue_catalog::encoder::{ContentError, Encoder, EncoderError};
use segue_flow::Remedy;
use segue_nn::attention::additive;
use segue_nn::device::Precision;
use segue_nn::tch::{self, Device, Kind, Tensor};
use serde::{Deserialize, Serialize};
use tokenizers::{Encoding, Tokenizer, TruncationParams};

use crate::EncodeError;
use crate::text_model::TextModel;
use crate::track_text::track_text;

/// Bytes of a text that are looked at. Far more than a title or a chunk takes, and than nearly all
/// lyrics; a text of megabytes (the tokenizer's time grows with it) costs no more than this.
const BYTES_AT_MOST: usize = 16 * 1024;
/// Tokens in one micro-batch, padding included: enough to keep the matrix products busy, few
/// enough that the activations (6 KB a token in the feed-forward part) stay near the caches.
const BATCH_TOKENS: usize = 2048;

/// Which texts of a track make its vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextOf {
    /// Title, artist and, where a library knows it, album, as one line.
    #[default]
    Names,
    /// The lyrics that a library knows; a track without has no vector.
    Lyrics,
    /// The mean of the two, or the one that is known.
    Both,
}

/// A text encoder on one device, for one thread.
#[derive(Debug)]
pub struct TextEncoder {
    model: TextModel,
    library: CurrentLibrary,
    of: TextOf,
    tokenizer: Tokenizer,
    padding: i64,
    tokens_at_most: usize,
    kind: Kind,
    device: Device,
}

impl TextEncoder {
    /// Loads `model.safetensors`, `config.json` and `tokenizer.json` of a folder.
    pub fn load(folder: &Path, device: Device, precision: Precision) -> Result<Self, EncodeError> {
        let kind = precision.kind(device);
        let model = TextModel::load(folder, (kind, device))?;
        let wrong = |name: &str, problem: String| EncodeError::File {
            path: folder.join(name),
            problem,
        };
        let mut tokenizer = Tokenizer::from_file(folder.join("tokenizer.json"))
            .map_err(|e| wrong("tokenizer.json", e.to_string()))?;
        let tokens_at_most = model.tokens_at_most(folder)?;
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(Some(TruncationParams {
                max_length: tokens_at_most,
                ..TruncationParams::default()
            }))
            .map_err(|e| wrong("tokenizer.json", e.to_string()))?;
        // Every id the tokenizer can say must be a row of the embedding; checked once, here.
        let largest = tokenizer.get_vocab(true).into_values().max().unwrap_or(0);
        if i64::from(largest) >= model.vocab_size() {
            return Err(wrong(
                "tokenizer.json",
                format!("token id {largest}, the model has {}", model.vocab_size()),
            ));
        }
        let padding = i64::from(tokenizer.token_to_id(model.padding()).unwrap_or(0));
        tracing::debug!(folder = %folder.display(), ?kind, ?device, "text encoder loaded");
        Ok(Self {
            model,
            library: CurrentLibrary::default(),
            of: TextOf::default(),
            tokenizer,
            padding,
            tokens_at_most,
            kind,
            device,
        })
    }

    /// The same with what a library knows of tracks, and a say in which texts count.
    pub fn with_library(self, library: impl Into<CurrentLibrary>, of: TextOf) -> Self {
        Self {
            library: library.into(),
            of,
            ..self
        }
    }

    /// What its vectors depend on beside weights and texts, to the last bits: number format and device.
    pub fn arithmetic(&self) -> String {
        format!("{:?} {:?}", self.kind, self.device)
    }

    /// Length of a vector.
    pub fn dimensions(&self) -> usize {
        usize::try_from(self.model.hidden_size()).unwrap_or(0)
    }

    /// One unit vector per text, row-major `[texts, dimensions]`.
    ///
    /// The empty text has one too. Texts beyond what the network takes, or 16 KiB, are cut.
    pub fn embed(&mut self, texts: &[&str]) -> Result<Vec<f32>, EncodeError> {
        let tokens = texts.iter().map(|text| {
            let chunks = self.chunks(text)?;
            Ok(chunks.into_iter().next().unwrap_or_default())
        });
        self.vectors(&tokens.collect::<Result<Vec<_>, EncodeError>>()?)
    }

    /// The same for long texts, of which nothing below 16 KiB is lost: the mean of the vectors of
    /// consecutive chunks, scaled to length 1.
    pub fn embed_long(&mut self, texts: &[&str]) -> Result<Vec<f32>, EncodeError> {
        let mut tokens = Vec::with_capacity(texts.len());
        let mut counts = Vec::with_capacity(texts.len());
        for text in texts {
            let chunks = self.chunks(text)?;
            counts.push(chunks.len());
            tokens.extend(chunks);
        }
        let width = self.dimensions();
        let vectors = self.vectors(&tokens)?;
        let mut chunks = vectors.chunks_exact(width);
        let mut rows = Vec::with_capacity(texts.len() * width);
        for count in counts {
            let mut sum = vec![0f32; width];
            for chunk in chunks.by_ref().take(count) {
                add(&mut sum, chunk);
            }
            to_unit(&mut sum);
            rows.extend(sum);
        }
        Ok(rows)
    }

    /// One unit vector for each list of tokens, in order.
    fn vectors(&self, tokens: &[Vec<i64>]) -> Result<Vec<f32>, EncodeError> {
        let mut order: Vec<usize> = (0..tokens.len()).collect();
        order.sort_by_key(|&row| tokens.get(row).map_or(0, Vec::len));

        let width = self.dimensions();
        let mut rows = vec![0f32; tokens.len() * width];
        let mut rest = order.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(batch_size(rest, tokens));
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

    /// A text's tokens, in chunks that the network takes, each between the marks of a text.
    fn chunks(&self, text: &str) -> Result<Vec<Vec<i64>>, EncodeError> {
        let mut end = BYTES_AT_MOST.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let text = text.get(..end).unwrap_or(text);
        let encoding = self
            .tokenizer
            .encode_fast(text, true)
            .map_err(|e| EncodeError::Tokenizer(e.to_string()))?;
        let ids = |encoding: &Encoding| -> Vec<i64> {
            let ids = encoding.get_ids().iter().take(self.tokens_at_most);
            ids.map(|&id| i64::from(id)).collect()
        };
        let rest = encoding.get_overflowing().iter();
        Ok(std::iter::once(&encoding).chain(rest).map(ids).collect())
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
            let hidden = self.model.forward(&ids, Some(&mask))?;
            let hidden = hidden.f_to_kind(Kind::Float)?;
            let share = real.f_to_kind(Kind::Float)?;
            let share = share.f_div(&share.f_sum_dim_intlist([1i64].as_slice(), true, None)?)?;
            // [batch, 1, length] × [batch, length, hidden]
            share.f_unsqueeze(1)?.f_bmm(&hidden)?.f_squeeze_dim(1)?
        } else {
            let hidden = self.model.forward(&ids, None)?;
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
        // Whose text is it, and is it one to be taken whole?
        let mut texts: Vec<(usize, String)> = Vec::new();
        let (names, lyrics) = (self.of != TextOf::Lyrics, self.of != TextOf::Names);
        let library = self.library.now();
        for (row, track) in tracks.iter().enumerate() {
            let media = library.of(track.key, &track.artist, &track.title);
            let album = media.and_then(|media| media.album.as_deref());
            let line = track_text(&track.title, &track.artist, album.unwrap_or_default());
            texts.extend(line.filter(|_| names).map(|line| (row, line)));
            let sung = media
                .and_then(|media| media.lyrics.as_deref())
                .map(str::trim);
            let sung = sung.filter(|sung| lyrics && !sung.is_empty());
            texts.extend(sung.map(|sung| (row, sung.to_owned())));
        }
        let all: Vec<&str> = texts.iter().map(|(_, text)| text.as_str()).collect();
        let vectors = match lyrics {
            // Each for itself: in another company the last bits are others, and what is kept by its
            // content has to be what would be made.
            true => {
                let each = all.iter().map(|text| self.embed_long(&[*text]));
                each.collect::<Result<Vec<_>, _>>()
                    .map(|rows| rows.concat())
            }
            false => self.embed(&all),
        };
        let vectors = vectors.map_err(|error| EncoderError {
            encoder: "text",
            detail: error.to_string(),
            remedy: Remedy::Retry,
        })?;
        let width = TextEncoder::dimensions(self);
        let mut sums: Vec<Option<Vec<f32>>> = vec![None; tracks.len()];
        for ((row, _), vector) in texts.iter().zip(vectors.chunks_exact(width)) {
            if let Some(sum) = sums.get_mut(*row) {
                add(sum.get_or_insert_with(|| vec![0.0; width]), vector);
            }
        }
        let missing = match self.of {
            TextOf::Names => "it has neither a title nor an artist",
            TextOf::Lyrics => "the library knows no lyrics of it",
            TextOf::Both => "it has neither a title nor an artist, and no lyrics",
        };
        let outcomes = tracks.iter().zip(sums).map(|(track, sum)| {
            let problem = match sum {
                Some(mut vector) if vector.iter().all(|v| v.is_finite()) => {
                    if self.of == TextOf::Both {
                        to_unit(&mut vector);
                    }
                    rows.extend(vector);
                    return Ok(());
                }
                Some(_) => "its text has no finite vector",
                None => missing,
            };
            rows.resize(rows.len() + width, 0.0);
            Err(ContentError {
                track: track.key.to_string(),
                detail: problem.into(),
            })
        });
        Ok(outcomes.collect())
    }
}

fn add(sum: &mut [f32], vector: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(vector) {
        *sum += value;
    }
}

/// Scales to length 1.
pub(crate) fn to_unit(vector: &mut [f32]) {
    let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-12);
    for value in vector {
        *value /= length;
    }
}
