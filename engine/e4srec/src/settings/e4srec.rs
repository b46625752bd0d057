//! What can be tuned of E4SRec.
//!
//! The defaults are for two CPU cores: a backbone of four layers, no response tokens, few passes.

use segue_nn::decoder::Projection;
use segue_nn::device::Precision;
use segue_nn::lora::{LoraConfig, LoraInit};
use segue_nn::packed::WeightFormat;
use serde::{Deserialize, Serialize};

use super::{TowerSettings, count, rate, share};
use crate::error::ModelError;

/// All of E4SRec.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct E4SRecSettings {
    /// The language model and the text around the plays.
    pub backbone: BackboneSettings,
    /// What learns inside the language model.
    pub lora: LoraSettings,
    /// How items get their vectors.
    pub tower: TowerSettings,
    /// Training on the first part of a log.
    pub offline: OfflineSettings,
    /// Learning from the stream.
    pub online: OnlineSettings,
    /// How the language model is told how much of the play before was heard.
    pub completion: Completion,
    /// Plays before the last multiple of 50 that are read, 0 to 50: with it a window holds up to
    /// `lookback + 49` plays. What a listener costs per play is `1 + lookback / 50` tokens.
    pub lookback: usize,
    /// Listeners whose keys and values are kept between batches. One takes
    /// `4 · layers · kv_heads · head_dim` bytes per token in bf16: about 0.5 MiB by default.
    pub cached_listeners: usize,
    /// Whether a checkpoint keeps these keys and values. With them answers after a restart are to the
    /// last bit what they would have been; without, the listeners' windows are read anew, and answers
    /// agree to rounding. A run with `recommend.exact` keeps them whatever it says here.
    pub keep_caches: bool,
    /// Tokens of one forward pass, at most.
    pub batch_tokens: usize,
    /// What everything random is derived from.
    pub seed: u64,
}

/// How completion ratios reach the language model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Completion {
    /// Not at all.
    None,
    /// In words, `[completion: 0.87]`, at the end of the play's line: for [`Prompt::History`].
    Prompt,
    /// As a number: the ratio times a learnt vector is added to the play's token, and another vector
    /// where the ratio is not known. That is the paper's concatenation, since a linear map of two things
    /// side by side is the sum of a map of each, but for its missing ratio, which is a zero there.
    ///
    /// A ratio belongs to a play and not to a track, which is why it is fused here and not by
    /// [`Fusion`](super::Fusion).
    Embedded,
}

/// The language model and the text around the plays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BackboneSettings {
    /// Layers that are used; a cut backbone keeps most of its accuracy here (SLMRec, 2024). 0: all.
    pub depth: usize,
    /// What the frozen weights are multiplied in; what learns is `f32` in any case. In Segue's own
    /// configuration `auto` follows `models.precision`.
    pub precision: Precision,
    /// How the weights of the layers' projections are kept: `as_computed`, or `packed4`, which takes a
    /// third of `bf16` and unpacks them for each product.
    pub weights: WeightFormat,
    /// What the language model reads of a play.
    pub prompt: Prompt,
    /// With [`Prompt::History`]: tokens of a track's own part of a line, at most. What is longer is cut,
    /// features first. It counts in the memory for listeners' keys and values: a listener's takes up to
    /// `17 + line_tokens` times that of the original prompt.
    pub line_tokens: usize,
    /// The text before the plays; computed once per adapter.
    pub instruction: String,
    /// The text after the plays, `### Response:` in E4SRec. Each question pays for its tokens, in
    /// training each play does; empty reads the answer off the play itself.
    pub response: String,
}

/// What the language model reads of a play.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prompt {
    /// Its item's vector, as in E4SRec.
    Original,
    /// Behind that a line of words as in arXiv 2606.00125: title, artist, the track's features that are
    /// rated above 0.4 where ratings are known, and how much was heard, if `completion` says so.
    History,
}

/// What learns inside the language model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraSettings {
    /// Width of the bottleneck.
    pub rank: i64,
    /// The adapter's share is scaled by `alpha / rank`.
    pub alpha: f64,
    /// Share of inputs dropped while learning, in [0, 1).
    pub dropout: f64,
    /// The layers that get an adapter.
    pub projections: Vec<Projection>,
}

/// Training on a log or its first part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OfflineSettings {
    /// Passes over the windows, at most.
    pub epochs: usize,
    /// Windows at most, the newest of every listener first. Each has `lookback + 50` plays.
    pub windows: usize,
    /// The share of the windows whose newest 50 plays are never a target of training and judge each
    /// epoch, in [0, 0.5); drawn by listener and seed. With one epoch there is nothing to choose and
    /// none is held out.
    pub validation: f64,
    /// Epochs without a better loss on what is held out after which training stops. The values of the
    /// best epoch are kept.
    pub patience: usize,
    /// Windows in a step.
    pub batch: usize,
    /// Windows that go through the language model at once, where memory does not suffice for a whole
    /// step: their gradients are gathered, and the step is the same up to rounding. 0: all of a step.
    pub micro_batch: usize,
    /// Steps from one time that progress is kept to the next, where it is; it is also kept when
    /// training is stopped.
    pub keep_every: u64,
    /// AdamW's rate for the adapter.
    pub lora_rate: f64,
    /// AdamW's rate for everything else.
    pub head_rate: f64,
    /// AdamW's decay.
    pub weight_decay: f64,
    /// Tracks up to which the softmax is full; above it, so many are drawn.
    pub candidates: usize,
}

/// Learning from the stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OnlineSettings {
    /// Examples in a step of the fast learners.
    pub batch: usize,
    /// Tracks up to which the softmax is full; above it, so many are drawn and corrected.
    pub candidates: usize,
    /// AdamW's rate for the matrices that make queries.
    pub head_rate: f64,
    /// AdamW's rate for the weights of the personal logit and of popularity.
    pub term_rate: f64,
    /// Row-wise Adagrad's rate for the items' own vectors.
    pub row_rate: f64,
    /// The map of contents takes steps every so many epochs, since all vectors follow from it; 0
    /// for never. Over the same plays as at `lora_every` recall@20 was 35.37 % with 4, and 35.35 % with 8.
    pub content_every: u64,
    /// AdamW's rate for the map of contents.
    pub content_rate: f64,
    /// The adapter takes a step every so many epochs; 0 for never. Each step is a new version. Over 93,080
    /// real plays recall@20 was 35.37 % with a step every 8 epochs at a rate of 1e-3, 35.30 % with one every
    /// 16, and 35.20 % with none (NDCG@20 21.07 and 21.13 % with the first two).
    pub lora_every: u64,
    /// Adapters that what has been read of a listener may be behind. Until then a listener's window is gone
    /// on from as an older adapter has read it; it begins anew, with the newest, after 50 plays at most. So
    /// a new adapter costs no listener an answer that takes longer. What is evicted meanwhile is read anew
    /// all the same, so that an answer may then depend on who else was there. 0: all windows are read anew
    /// with each.
    pub adapters_behind: u64,
    /// Examples of a step of the adapter, half of them of all time and half of them new; with each
    /// come the plays of its window's newest block, which cost nothing more.
    pub lora_batch: usize,
    /// AdamW's rate for the adapter.
    pub lora_rate: f64,
    /// Examples of all time that are kept.
    pub reservoir: usize,
    /// Newest examples that are kept, for the adapter and for the popularity that negatives are
    /// drawn from.
    pub recent: usize,
    /// Tracks that are remembered of each listener beyond the context, at least (at most twice as
    /// many); 0 for none.
    pub remembered: usize,
    /// Plays after which a play counts half for a track's popularity.
    pub half_life: f64,
    /// Plays of a window in which the model's own answers are watched: where their mean reciprocal
    /// rank falls, what was learnt since the last window that held is taken back. 0: not watched. For
    /// streams of many listeners at a time: where whole windows are of other listeners than the ones
    /// before, the mean falls without any fault of what was learnt. Over 93,080 real plays of 290
    /// listeners, who come one after the other, windows of 2,048 took back seven times what was right
    /// (recall@20 33.4 instead of 35.4 %).
    pub watched: u64,
    /// The share of the expected mean reciprocal rank by which a window has to fall below it, in
    /// (0, 1).
    pub fall: f64,
}

impl Default for E4SRecSettings {
    fn default() -> Self {
        Self {
            backbone: BackboneSettings::default(),
            lora: LoraSettings::default(),
            tower: TowerSettings::default(),
            offline: OfflineSettings::default(),
            online: OnlineSettings::default(),
            completion: Completion::Embedded,
            lookback: 10,
            cached_listeners: 512,
            keep_caches: false,
            batch_tokens: 2_048,
            seed: 0,
        }
    }
}

impl BackboneSettings {
    /// Layers that are used; `None`: all.
    pub fn layers(&self) -> Option<usize> {
        (self.depth > 0).then_some(self.depth)
    }
}

impl Default for BackboneSettings {
    fn default() -> Self {
        Self {
            depth: 4,
            precision: Precision::Auto,
            weights: WeightFormat::AsComputed,
            prompt: Prompt::Original,
            line_tokens: 24,
            instruction: "### Instruction:\nGiven the listening history, predict the next track.\n\n### Input:\n".into(),
            response: String::new(),
        }
    }
}

impl Default for LoraSettings {
    fn default() -> Self {
        Self {
            rank: 16,
            alpha: 16.0,
            dropout: 0.05,
            projections: vec![
                Projection::GateProj,
                Projection::UpProj,
                Projection::DownProj,
            ],
        }
    }
}

impl Default for OfflineSettings {
    fn default() -> Self {
        Self {
            epochs: 1,
            windows: 800,
            validation: 0.1,
            patience: 1,
            batch: 16,
            micro_batch: 0,
            keep_every: 50,
            lora_rate: 5e-4,
            head_rate: 2e-3,
            weight_decay: 0.01,
            candidates: 4_096,
        }
    }
}

impl Default for OnlineSettings {
    fn default() -> Self {
        Self {
            batch: 256,
            candidates: 2_048,
            head_rate: 2e-4,
            term_rate: 5e-3,
            row_rate: 0.05,
            content_every: 8,
            content_rate: 2e-4,
            lora_every: 16,
            adapters_behind: 0,
            lora_batch: 16,
            lora_rate: 1e-3,
            reservoir: 4_096,
            recent: 4_096,
            remembered: 256,
            half_life: 50_000.0,
            watched: 0,
            fall: 0.3,
        }
    }
}

impl LoraSettings {
    pub(crate) fn config(&self) -> LoraConfig {
        LoraConfig {
            rank: self.rank,
            alpha: self.alpha,
            rank_stabilised: false,
            dropout: self.dropout,
            init: LoraInit::Kaiming,
        }
    }
}

impl E4SRecSettings {
    /// Refuses what no model can be built from.
    ///
    /// # Errors
    /// The first setting out of its range.
    pub fn check(&self) -> Result<(), ModelError> {
        if self.lookback > 50 {
            return Err(ModelError::setting(
                "e4srec.lookback",
                self.lookback,
                "from 0 to 50",
            ));
        }
        count("e4srec.cached_listeners", self.cached_listeners, 1)?;
        count("e4srec.batch_tokens", self.batch_tokens, 1)?;
        count("e4srec.backbone.depth", self.backbone.depth, 0)?;
        if !(1..=256).contains(&self.backbone.line_tokens) {
            return Err(ModelError::setting(
                "e4srec.backbone.line_tokens",
                self.backbone.line_tokens,
                "from 1 to 256",
            ));
        }
        if self.completion == Completion::Prompt && self.backbone.prompt == Prompt::Original {
            return Err(ModelError::setting(
                "e4srec.completion",
                "prompt",
                "to none or embedded, or e4srec.backbone.prompt to history: the original prompt has no \
                 words of a play",
            ));
        }
        self.tower.check()?;
        self.lora.config().validate().map_err(ModelError::Nn)?;
        count("e4srec.offline.batch", self.offline.batch, 1)?;
        count("e4srec.offline.windows", self.offline.windows, 0)?;
        count("e4srec.offline.micro_batch", self.offline.micro_batch, 0)?;
        share("e4srec.offline.validation", self.offline.validation, 0.5)?;
        if self.offline.keep_every == 0 {
            return Err(ModelError::setting(
                "e4srec.offline.keep_every",
                self.offline.keep_every,
                "to at least 1",
            ));
        }
        count("e4srec.offline.candidates", self.offline.candidates, 1)?;
        rate("e4srec.offline.lora_rate", self.offline.lora_rate)?;
        rate("e4srec.offline.head_rate", self.offline.head_rate)?;
        share(
            "e4srec.offline.weight_decay",
            self.offline.weight_decay,
            1.0,
        )?;
        count("e4srec.online.batch", self.online.batch, 1)?;
        count("e4srec.online.candidates", self.online.candidates, 1)?;
        count("e4srec.online.lora_batch", self.online.lora_batch, 1)?;
        count("e4srec.online.reservoir", self.online.reservoir, 0)?;
        count("e4srec.online.recent", self.online.recent, 1)?;
        count("e4srec.online.remembered", self.online.remembered, 0)?;
        rate("e4srec.online.head_rate", self.online.head_rate)?;
        rate("e4srec.online.term_rate", self.online.term_rate)?;
        rate("e4srec.online.row_rate", self.online.row_rate)?;
        rate("e4srec.online.lora_rate", self.online.lora_rate)?;
        rate("e4srec.online.content_rate", self.online.content_rate)?;
        share("e4srec.online.fall", self.online.fall, 1.0)?;
        if !(self.online.half_life >= 1.0 && self.online.half_life.is_finite()) {
            return Err(ModelError::setting(
                "e4srec.online.half_life",
                self.online.half_life,
                "to at least 1",
            ));
        }
        Ok(())
    }
}
