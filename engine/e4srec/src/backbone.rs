//! The language model with what is learnt inside and in front of it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use segue_catalog::modality::Modality;
use segue_nn::NnError;
use segue_nn::decoder::{Decoder, DecoderOptions, Pass};
use segue_nn::decoder_config::DecoderConfig;
use segue_nn::lora::Mode;
use segue_nn::tokenizer::Tokenizer;
use segue_nn::weights::Weights;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::chance::normals;
use crate::error::ModelError;
use crate::fusion::Parts;
use crate::item_tower::{copied, copy_into};
use crate::kept::{Named, Tensors, numbered};
use crate::lines::{Lines, TrackFeatures};
use crate::prompt::{Layout, RowPlan, TokenBatch};
use crate::settings::{BackboneSettings, Completion, E4SRecSettings, LoraSettings, TowerSettings};

/// The row of an input that every window begins with.
pub(crate) const NOTHING_YET: i64 = 0;
/// The row of a track that is not in the catalogue; also of padding, which nothing sees.
pub(crate) const UNKNOWN: i64 = 1;
/// Rows of inputs that are no tracks.
pub(crate) const SPECIAL: i64 = 2;

/// A published language model and the text around the plays: frozen, shared by all models on it.
#[derive(Debug)]
pub struct Foundation {
    pub(crate) decoder: Decoder,
    instruction: Vec<i64>,
    response: Vec<i64>,
    tokenizer: Option<Arc<Tokenizer>>,
    features: Option<Arc<dyn TrackFeatures>>,
    content: Option<Vec<Modality>>,
}

/// What tells a language model and the text around the plays from others: the frozen part of a model,
/// of which a checkpoint keeps no copy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// XXH3 of the weights as they are computed with.
    weights: u128,
    layers: usize,
    width: i64,
    /// What is computed in.
    kind: String,
    /// The tokens around the plays.
    text: (Vec<i64>, Vec<i64>),
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:032x} ({} layers of {} in {}, {} tokens around the plays)",
            self.weights,
            self.layers,
            self.width,
            self.kind,
            self.text.0.len() + self.text.1.len()
        )
    }
}

impl Foundation {
    /// Loads a checkpoint with its tokenizer from a folder or file.
    ///
    /// # Errors
    /// A folder without a checkpoint, a damaged one, or a depth it does not have.
    pub fn load(
        path: &Path,
        settings: &BackboneSettings,
        device: Device,
    ) -> Result<Self, ModelError> {
        let weights = Weights::open(path).map_err(NnError::from)?;
        let config = DecoderConfig::of(&weights)?;
        let options = DecoderOptions {
            depth: settings.layers(),
            kind: settings.precision.kind(device),
            weights: settings.weights,
            device,
        };
        let decoder = Decoder::load(&weights, &config, options)?;
        let tokenizer = Tokenizer::of(&weights)?;
        let instruction = tokenizer.encode(&settings.instruction)?;
        let response = tokenizer.encode(&settings.response)?;
        tracing::debug!(
            path = %path.display(),
            depth = decoder.depth(),
            kind = ?options.kind,
            ?device,
            instruction = instruction.len(),
            response = response.len(),
            "language model loaded"
        );
        Ok(Self::new(decoder, instruction, response).with_tokenizer(tokenizer))
    }

    /// On a decoder that is loaded already; token ids before and after the plays.
    pub fn new(decoder: Decoder, instruction: Vec<i64>, response: Vec<i64>) -> Self {
        Self {
            decoder,
            instruction,
            response,
            tokenizer: None,
            features: None,
            content: None,
        }
    }

    /// With the tokenizer that makes words into its tokens: what plays are told in words by.
    #[must_use]
    pub fn with_tokenizer(self, tokenizer: Tokenizer) -> Self {
        Self {
            tokenizer: Some(Arc::new(tokenizer)),
            ..self
        }
    }

    /// With ratings of tracks, which are told in words too.
    #[must_use]
    pub fn with_features(self, features: Arc<dyn TrackFeatures>) -> Self {
        Self {
            features: Some(features),
            ..self
        }
    }

    /// With what the tracks' content vectors are made of, as their encoder has it. Untold it is text and
    /// nothing else.
    #[must_use]
    pub fn with_content(self, content: Vec<Modality>) -> Self {
        Self {
            content: Some(content),
            ..self
        }
    }

    /// Whether the settings ask for what the content vectors tell of.
    ///
    /// # Errors
    /// They name a modality that there is not, or another length than the vectors have.
    pub fn check(&self, settings: &E4SRecSettings) -> Result<(), ModelError> {
        self.parts(&settings.tower).map(|_| ())
    }

    /// Which parts of a content vector are read, as the settings say.
    pub(crate) fn parts(&self, settings: &TowerSettings) -> Result<Parts, ModelError> {
        Parts::new(settings, self.content.as_deref())
    }

    /// What is told of tracks in words, as the settings say.
    pub(crate) fn lines(&self, settings: &E4SRecSettings) -> Result<Lines, ModelError> {
        Lines::new(settings, self.tokenizer.as_ref(), self.features.as_ref())
    }

    /// The same on the same memory.
    pub fn share(&self) -> Self {
        Self {
            decoder: self.decoder.share(),
            instruction: self.instruction.clone(),
            response: self.response.clone(),
            tokenizer: self.tokenizer.clone(),
            features: self.features.clone(),
            content: self.content.clone(),
        }
    }

    /// The language model without an adapter, and the embeddings of the text before the plays,
    /// `[1, instruction, hidden]`.
    pub(crate) fn begin(&self) -> Result<(Decoder, Tensor), ModelError> {
        let [instruction, _] = self.around()?;
        Ok((self.decoder.share(), instruction))
    }

    /// Embeddings of the text before the plays and after them, `[1, instruction, hidden]` and
    /// `[1, response, hidden]`.
    pub(crate) fn around(&self) -> Result<[Tensor; 2], ModelError> {
        let hidden = self.decoder.config().hidden_size;
        let text = |ids: &[i64]| -> Result<Tensor, ModelError> {
            if ids.is_empty() {
                return Ok(Tensor::f_zeros(
                    [1, 0, hidden],
                    (Kind::Float, self.device()),
                )?);
            }
            let ids = Tensor::f_from_slice(ids)?.f_unsqueeze(0)?;
            Ok(self.decoder.embed(&ids)?.f_to_kind(Kind::Float)?)
        };
        Ok([text(&self.instruction)?, text(&self.response)?])
    }

    /// The tokens of a text.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<i64>, ModelError> {
        let tokenizer = self.tokenizer.as_ref().ok_or_else(|| {
            ModelError::Data("the language model came without a tokenizer".to_owned())
        })?;
        Ok(tokenizer.encode(text)?)
    }

    /// Where it computes.
    pub fn device(&self) -> Device {
        self.decoder.place().1
    }

    /// What tells it from others, in words: a print of its weights as they are computed with, its
    /// size, and how much text is around the plays.
    ///
    /// # Errors
    /// libtorch's own.
    pub fn described(&self) -> Result<String, ModelError> {
        Ok(self.identity()?.to_string())
    }

    fn identity(&self) -> Result<Identity, ModelError> {
        Ok(Identity {
            weights: self.decoder.fingerprint()?,
            layers: self.decoder.depth(),
            width: self.decoder.config().hidden_size,
            kind: format!("{:?}", self.decoder.place().0),
            text: (self.instruction.clone(), self.response.clone()),
        })
    }
}

/// Of the ratio, its absence and the opening of a session, which are heeded, `[3]`.
fn heeded(completion: Completion) -> Result<Tensor, ModelError> {
    let ratio = match completion {
        Completion::None | Completion::Prompt => 0.0,
        Completion::Embedded => 1.0,
    };
    Ok(Tensor::f_from_slice(&[ratio, ratio, 1.0f32])?)
}

/// A decoder with its own adapter, and the projection of items into it.
#[derive(Debug)]
pub(crate) struct Backbone {
    pub decoder: Decoder,
    pub identity: Arc<Identity>,
    lora: LoraSettings,
    /// `[1, instruction, hidden]`
    instruction: Tensor,
    /// `[1, response, hidden]`
    response: Tensor,
    /// `[hidden, d]`
    projection: Tensor,
    /// `[hidden]`
    bias: Tensor,
    /// `[3, hidden]`: the ratio, its absence, the opening of a session.
    marks: Tensor,
    /// `[3]`: which of the marks are heeded.
    heeded: Tensor,
    /// `[SPECIAL, d]`
    special: Tensor,
}

impl Backbone {
    pub fn new(foundation: &Foundation, settings: &E4SRecSettings) -> Result<Self, ModelError> {
        let (lora, d, seed) = (&settings.lora, settings.tower.dimensions, settings.seed);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(3);
        let mut decoder = foundation.decoder.share();
        decoder.attach_lora(&lora.projections, &lora.config(), &mut rng)?;
        let device = foundation.device();
        let hidden = decoder.config().hidden_size;
        let [instruction, response] = foundation.around()?;
        // Plays begin as loud as words: louder ones would drown the first layers, softer ones
        // would be drowned.
        let loudness = if instruction.numel() == 0 {
            0.1
        } else {
            let square = instruction.f_square()?.f_mean(Kind::Float)?;
            square.f_double_value(&[])?.sqrt() as f32
        };
        let mut leaf = |shape: &[i64], deviation: f32| -> Result<Tensor, ModelError> {
            Ok(normals(shape, deviation, &mut rng, device)?.f_set_requires_grad(true)?)
        };
        Ok(Self {
            projection: leaf(&[hidden, d], loudness / (d as f32).sqrt())?,
            bias: leaf(&[hidden], 0.0)?,
            marks: leaf(&[3, hidden], 0.1 * loudness)?,
            special: leaf(&[SPECIAL, d], 1.0)?,
            heeded: heeded(settings.completion)?.f_to_device(device)?,
            instruction,
            response,
            decoder,
            identity: Arc::new(foundation.identity()?),
            lora: lora.clone(),
        })
    }

    /// Tokens of the instruction.
    pub fn instruction(&self) -> i64 {
        self.instruction.size().get(1).copied().unwrap_or(0)
    }

    /// Tokens of the response.
    pub fn response(&self) -> i64 {
        self.response.size().get(1).copied().unwrap_or(0)
    }

    pub fn hidden(&self) -> i64 {
        self.decoder.config().hidden_size
    }

    pub fn device(&self) -> Device {
        self.decoder.place().1
    }

    /// What learns in front of the model.
    pub fn front(&self) -> Vec<Tensor> {
        [&self.projection, &self.bias, &self.marks, &self.special]
            .map(Tensor::shallow_clone)
            .into()
    }

    /// What learns inside the model.
    pub fn adapter(&self) -> Vec<Tensor> {
        let tensors = self.decoder.lora_tensors();
        tensors.into_iter().map(|(_, tensor)| tensor).collect()
    }

    /// What belongs into a checkpoint: the adapter and what learns in front of the model.
    pub fn kept(&self, named: &mut Named) {
        named.extend(self.decoder.lora_tensors());
        numbered("front", &self.front(), named);
    }

    /// Takes up what was kept.
    pub fn take_up(&mut self, tensors: &mut Tensors<'_>) -> Result<(), ModelError> {
        for (name, adapter) in self.decoder.lora_tensors() {
            let kept = tensors.like(&name, &adapter)?;
            copy_into(&[adapter], &[kept])?;
        }
        let front = self.front();
        copy_into(&front, &tensors.all("front", &front)?)?;
        // The fold is of the values before.
        self.decoder.unmerge_lora();
        Ok(self.decoder.merge_lora()?)
    }

    /// The instruction's embeddings, `[1, instruction, hidden]`.
    pub fn instruction_embeds(&self) -> Tensor {
        self.instruction.shallow_clone()
    }

    /// Tokens of plays, `[rows, fed, hidden]`. `table` `[tracks, d]` has the tracks' vectors at
    /// unit mean square.
    fn plays(&self, batch: &TokenBatch, rows: i64, table: &Tensor) -> Result<Tensor, ModelError> {
        let device = self.device();
        let (items, marks) = batch.tensors(rows, device)?;
        let special = Tensor::f_embedding(
            &self.special,
            &items.f_clamp(0, SPECIAL - 1)?,
            -1,
            false,
            false,
        )?;
        let vectors = if table.size2()?.0 == 0 {
            special
        } else {
            let tracks = items.f_sub_scalar(SPECIAL)?.f_clamp_min(0)?;
            let tracks = Tensor::f_embedding(table, &tracks, -1, false, false)?;
            let is_special = items.f_lt(SPECIAL)?.f_unsqueeze(-1)?;
            special.f_where_self(&is_special, &tracks)?
        };
        let plays = vectors
            .f_linear(&self.projection, Some(&self.bias))?
            .f_add(&marks.f_mul(&self.heeded)?.f_matmul(&self.marks)?)?;
        let Some((ids, are)) = batch.words(rows)? else {
            return Ok(plays);
        };
        let words = self.decoder.embed(&ids)?.f_to_kind(Kind::Float)?;
        let are = are.f_to_device(device)?.f_unsqueeze(-1)?;
        Ok(words.f_where_self(&are, &plays)?)
    }

    /// All that a pass over `layout` reads, `[rows, length, hidden]`; `instruction` says whether
    /// the rows begin with it (its tokens are then part of `layout.fed`).
    pub fn embeds(
        &self,
        batch: &TokenBatch,
        rows: i64,
        layout: &Layout,
        table: &Tensor,
        instruction: bool,
    ) -> Result<Tensor, ModelError> {
        let mut parts = Vec::new();
        if instruction {
            let size = [rows, self.instruction(), self.hidden()];
            parts.push(self.instruction.f_expand(size, false)?);
        }
        parts.push(self.plays(batch, rows, table)?);
        if layout.branches > 0 {
            let size = [rows, self.response(), self.hidden()];
            let branch = self.response.f_expand(size, false)?;
            parts.extend((0..layout.branches).map(|_| branch.shallow_clone()));
        }
        Ok(Tensor::f_cat(&parts, 1)?)
    }

    /// Answers of windows without a cache, one after the other: each row begins with the
    /// instruction. `reads` count from the row's first play token. `[reads, hidden]`
    pub fn read_whole(
        &self,
        batch: &TokenBatch,
        reads: &[(i64, Vec<i64>)],
        table: &Tensor,
        mode: Mode,
    ) -> Result<Tensor, ModelError> {
        let before = self.instruction();
        let plans: Vec<RowPlan> = reads
            .iter()
            .map(|(fed, reads)| RowPlan {
                past: 0,
                fed: before + fed,
                reads: reads.iter().map(|read| before + read).collect(),
            })
            .collect();
        let layout = Layout::new(&plans, self.response())?;
        let embeds = self.embeds(batch, plans.len() as i64, &layout, table, true)?;
        let hidden = self.decoder.forward(Pass {
            embeds: &embeds,
            positions: &layout.positions,
            mask: &layout.mask,
            cache: None,
            mode,
        })?;
        self.answers(&hidden, &layout)
    }

    /// Picks the answers out of a pass, `[answers, hidden]`.
    pub fn answers(&self, hidden: &Tensor, layout: &Layout) -> Result<Tensor, ModelError> {
        let places = Tensor::f_from_slice(&layout.answers)?.f_to_device(self.device())?;
        let flat = hidden.f_reshape([-1, self.hidden()])?;
        Ok(flat.f_index_select(0, &places)?)
    }

    /// A second one on the same published weights, with an adapter of its own of the same values.
    pub fn copy(&self) -> Result<Self, ModelError> {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut decoder = self.decoder.share();
        decoder.attach_lora(&self.lora.projections, &self.lora.config(), &mut rng)?;
        let leaf = |tensor: &Tensor| -> Result<Tensor, ModelError> {
            Ok(copied(tensor)?.f_set_requires_grad(true)?)
        };
        let copy = Self {
            decoder,
            identity: self.identity.clone(),
            lora: self.lora.clone(),
            instruction: self.instruction.shallow_clone(),
            response: self.response.shallow_clone(),
            projection: leaf(&self.projection)?,
            bias: leaf(&self.bias)?,
            marks: leaf(&self.marks)?,
            heeded: self.heeded.shallow_clone(),
            special: leaf(&self.special)?,
        };
        copy_into(&copy.adapter(), &self.adapter())?;
        Ok(copy)
    }
}
