//! What the language model is told of a play in words, behind the play's vector: the history prompt.
//!
//! ```text
//! ▮ 'Blue in Green' by Miles Davis [Acoustic Sonority, Sad Lyrics] [completion: 0.87]
//! ▮ 'Naima' by John Coltrane
//! ```
//!
//! `▮` is the play's vector, which E4SRec reads alone. A track's own part of its line (title, artist,
//! features that are rated above 0.4 of 1) is always the same, so it is made into tokens once, when the
//! track is admitted, and kept: at most `line_tokens` of them for each track of the catalogue, which is
//! less than its vector takes. What is longer is cut: the features first, from the last one on, then the
//! end of the text.
//!
//! How much was heard of a play is known with the next one only. So it is written in front of the next
//! play's vector, and ends the line before: whatever predicts the next play has read up to the end of a
//! track's own part and not beyond, and what was once read stays as it is, so that a cache of keys and
//! values is appended to. That is also why lines have no numbers: those of the paper count from the newest
//! ten, and would all change with each play. The pieces are made into tokens each by itself, which gives
//! here and there other tokens than the text as a whole, in training as in answering.
//!
//! After the prompt of arXiv 2606.00125, which lists the last ten plays so and gives the vectors of the
//! last fifty behind them.

use std::fmt;
use std::sync::Arc;

use segue_listen::{Ratio, TrackKey};
use segue_nn::tokenizer::Tokenizer;
use segue_recommend::recommender::TrackNames;
use xxhash_rust::xxh3::Xxh3;

use crate::backbone::SPECIAL;
use crate::error::ModelError;
use crate::prompt::TokenBatch;
use crate::settings::{BackboneSettings, Completion, E4SRecSettings, Prompt};
use crate::windows::Token;

/// Tokens that the end of a line takes at most: how much was heard, and the line break.
pub(crate) const ENDING: usize = 16;
/// Ratings go from 0 to so much.
const MOST: f32 = 5.0;
/// The share of it above which a feature is told.
const TOLD_ABOVE: f32 = 0.4;

/// Ratings of tracks by people or by a model, such as the genes of MGPHot.
pub trait TrackFeatures: fmt::Debug + Send + Sync {
    /// What is rated, in the order of the ratings.
    fn names(&self) -> &[String];

    /// A track's ratings, each from 0 to 5; `None` where it has not been rated. One that is no number
    /// is not told.
    fn ratings(&self, track: TrackKey, names: TrackNames<'_>) -> Option<&[f32]>;
}

/// Words into tokens.
#[derive(Debug)]
struct Writer {
    tokenizer: Arc<Tokenizer>,
    features: Option<Arc<dyn TrackFeatures>>,
    /// Tokens of a track's own part, at most.
    line_tokens: usize,
    /// What ends a line, by hundredths heard; the last one where that is not known. One alone where
    /// nothing is told of it.
    endings: Vec<Vec<i64>>,
}

/// The tracks' lines. Without a writer a play is its vector alone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines {
    writer: Option<Arc<Writer>>,
    /// By row.
    rows: Vec<Arc<[i64]>>,
}

/// What stands around a play's vector.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Around<'a> {
    before: &'a [i64],
    behind: &'a [i64],
}

impl Around<'_> {
    /// Tokens of the play, its vector among them.
    pub fn length(&self) -> usize {
        self.before.len() + 1 + self.behind.len()
    }
}

impl Lines {
    /// As the settings say; `tokenizer` is the language model's.
    pub fn new(
        settings: &E4SRecSettings,
        tokenizer: Option<&Arc<Tokenizer>>,
        features: Option<&Arc<dyn TrackFeatures>>,
    ) -> Result<Self, ModelError> {
        if settings.backbone.prompt == Prompt::Original {
            return Ok(Self::default());
        }
        let tokenizer = tokenizer.ok_or_else(|| {
            ModelError::setting(
                "e4srec.backbone.prompt",
                "history",
                "to original: this language model came without a tokenizer",
            )
        })?;
        let encode = |text: &str| -> Result<Vec<i64>, ModelError> {
            let mut tokens = tokenizer.encode(text)?;
            tokens.truncate(ENDING);
            Ok(tokens)
        };
        let endings = match settings.completion {
            Completion::Prompt => {
                let heard =
                    (0..=100).map(|h| format!(" [completion: {}.{:02}]\n", h / 100, h % 100));
                let texts = heard.chain([" [completion: ?]\n".to_owned()]);
                texts.map(|text| encode(&text)).collect::<Result<_, _>>()?
            }
            Completion::None | Completion::Embedded => vec![encode("\n")?],
        };
        let writer = Writer {
            tokenizer: tokenizer.clone(),
            features: features.cloned(),
            line_tokens: settings.backbone.line_tokens,
            endings,
        };
        Ok(Self {
            writer: Some(Arc::new(writer)),
            rows: Vec::new(),
        })
    }

    /// The same without any track.
    pub fn emptied(&self) -> Self {
        Self {
            writer: self.writer.clone(),
            rows: Vec::new(),
        }
    }

    /// Makes the line of the next row.
    pub fn admit(
        &mut self,
        key: TrackKey,
        names: Option<TrackNames<'_>>,
    ) -> Result<(), ModelError> {
        if let Some(writer) = &self.writer {
            let line = match names {
                Some(names) => writer.line(key, names)?,
                None => Vec::new(),
            };
            self.rows.push(line.into());
        }
        Ok(())
    }

    /// What tells these lines from others, such as those that other ratings make.
    pub fn print(&self) -> u64 {
        let mut print = Xxh3::new();
        for line in &self.rows {
            print.update(&(line.len() as u64).to_le_bytes());
            line.iter().for_each(|id| print.update(&id.to_le_bytes()));
        }
        print.digest()
    }

    /// What stands around the vector of a play that is the `number`th of its window, from 1; `item` is
    /// its row of inputs. A track that is read as "some track" has no line.
    pub fn around(&self, number: usize, item: i64, token: &Token) -> Around<'_> {
        let Some(writer) = &self.writer else {
            return Around::default();
        };
        let before = match number {
            0 | 1 => &[],
            _ => writer.ending(token.ratio_before),
        };
        let row = usize::try_from(item - SPECIAL).ok();
        let behind = row.and_then(|row| self.rows.get(row));
        Around {
            before,
            behind: behind.map_or(&[], |line| line),
        }
    }

    /// Feeds a play with what stands around its vector.
    pub fn feed(&self, batch: &mut TokenBatch, number: usize, item: i64, token: &Token) {
        let around = self.around(number, item, token);
        around.before.iter().for_each(|&id| batch.push_word(id));
        batch.push(item, Some(token));
        around.behind.iter().for_each(|&id| batch.push_word(id));
    }
}

impl Writer {
    fn ending(&self, heard: Option<Ratio>) -> &[i64] {
        let unknown = self.endings.len().saturating_sub(1);
        let place = heard.map_or(unknown, |ratio| {
            // Ratios are within [0, 1].
            ((ratio.value() * 100.0).round() as usize).min(unknown)
        });
        self.endings.get(place).map_or(&[], Vec::as_slice)
    }

    fn line(&self, key: TrackKey, names: TrackNames<'_>) -> Result<Vec<i64>, ModelError> {
        let TrackNames { artist, title } = names;
        if artist.is_empty() && title.is_empty() {
            return Ok(Vec::new());
        }
        let mut line = self.tokenizer.encode(&format!(" '{title}' by {artist}"))?;
        let told = self.told(key, names);
        for many in (1..=told.len()).rev() {
            let features = told.get(..many).unwrap_or(&[]).join(", ");
            let features = self.tokenizer.encode(&format!(" [{features}]"))?;
            if line.len() + features.len() <= self.line_tokens {
                line.extend(features);
                break;
            }
        }
        line.truncate(self.line_tokens);
        Ok(line)
    }

    /// The features that are told of a track.
    fn told(&self, key: TrackKey, names: TrackNames<'_>) -> Vec<&str> {
        let Some(features) = &self.features else {
            return Vec::new();
        };
        let ratings = features.ratings(key, names).unwrap_or(&[]);
        let rated = features.names().iter().zip(ratings);
        let above = rated.filter(|(_, rating)| **rating / MOST > TOLD_ABOVE);
        above.map(|(name, _)| name.as_str()).collect()
    }
}

impl BackboneSettings {
    /// Tokens that a play takes, at most.
    pub(crate) fn play_tokens(&self) -> usize {
        match self.prompt {
            Prompt::Original => 1,
            Prompt::History => ENDING + 1 + self.line_tokens,
        }
    }
}
