//! One decoder for LLaMA 2 and 3, SmolLM2, Qwen2 and Qwen2.5.
//!
//! The fields are named as the checkpoint names its tensors (`model.layers.3.self_attn.q_proj`).
//! The decoder holds weights only: positions, masks and caches are handed in, so that one model
//! serves many sessions, trees of continuations included. Gradients flow to the inputs and to
//! adapters, never to the published weights.

use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};
use xxhash_rust::xxh3::Xxh3;

use crate::NnError;
use crate::attention::additive;
use crate::decoder_config::DecoderConfig;
use crate::kv_slots::{CacheRows, KvShape, KvSlots};
use crate::linear::Linear;
use crate::lora::{Lora, LoraConfig, Mode};
use crate::norm::RmsNorm;
use crate::packed::WeightFormat;
use crate::rotary::Rotary;
use crate::weights::Weights;

mod layer;
mod portions;
mod together;

use self::layer::Layer;
pub use self::layer::Projection;
pub use self::together::CachedPass;

/// How to load a decoder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DecoderOptions {
    /// Only the first so many layers, if given: a cut backbone keeps most of its use here.
    pub depth: Option<usize>,
    /// What to compute in: `f32`, `bf16` or `f16`.
    pub kind: Kind,
    /// How the weights of the layers' projections are kept.
    pub weights: WeightFormat,
    /// Where.
    pub device: Device,
}

/// A loaded decoder.
#[derive(Debug)]
pub struct Decoder {
    config: DecoderConfig,
    embed_tokens: Tensor,
    layers: Vec<Layer>,
    norm: RmsNorm,
    /// `None` if the output layer is the embedding.
    lm_head: Option<Tensor>,
    rotary: Rotary,
    kind: Kind,
    device: Device,
}

/// One pass through the decoder.
#[derive(Debug)]
pub struct Pass<'a> {
    /// `[batch, length, hidden]`, any floating kind.
    pub embeds: &'a Tensor,
    /// `[batch, length]`, whole numbers from 0.
    pub positions: &'a Tensor,
    /// `[batch or 1, 1, length, total]`: boolean with `true` = may see, or numbers to add to the
    /// scores. `total` is `length` without a cache, else [`CacheRows::total`].
    pub mask: &'a Tensor,
    /// The slots of the rows; without, every row begins here.
    pub cache: Option<(&'a mut KvSlots, &'a CacheRows)>,
    /// Learning or answering.
    pub mode: Mode,
}

impl Decoder {
    /// Builds the decoder that `config` describes from a checkpoint.
    pub fn load(
        weights: &Weights,
        config: &DecoderConfig,
        options: DecoderOptions,
    ) -> Result<Self, NnError> {
        config.validate()?;
        let place = (options.kind, options.device);
        let depth = config.depth(options.depth)?;
        let (hidden, vocab) = (config.hidden_size, config.vocab_size);
        let table = |name: &str| -> Result<Tensor, NnError> {
            let tensor = weights.get_shaped(name, &[vocab, hidden])?;
            // Narrowed first: a GPU need not have room for the table in `f32`.
            Ok(tensor.f_to_kind(place.0)?.f_to_device(place.1)?)
        };
        let factors = match weights.contains("rope_freqs.weight") {
            true => Some(weights.get("rope_freqs.weight")?),
            false => None,
        };
        let layers = (0..depth)
            .map(|number| {
                let name = format!("model.layers.{number}");
                Layer::load(weights, &name, config, options.weights, place)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            embed_tokens: table("model.embed_tokens.weight")?,
            layers,
            norm: RmsNorm::load(weights, "model.norm", hidden, config.rms_norm_eps, place)?,
            lm_head: match config.tie_word_embeddings {
                true => None,
                false => Some(table("lm_head.weight")?),
            },
            rotary: Rotary::new(
                config.head_dim(),
                config.rope_theta,
                config.rope_scaling.as_ref(),
                factors.as_ref(),
                options.device,
            )?,
            config: config.clone(),
            kind: options.kind,
            device: options.device,
        })
    }

    /// Token ids, `[batch, length]`, to `[batch, length, hidden]`; an unknown id is an error.
    pub fn embed(&self, ids: &Tensor) -> Result<Tensor, NnError> {
        self.rows(&self.embed_tokens, ids)
    }

    /// Rows of the output layer for token ids, `[batch, length]` to `[batch, length, hidden]`: a final
    /// hidden state times one of them is that token's score. An unknown id is an error.
    pub fn unembed(&self, ids: &Tensor) -> Result<Tensor, NnError> {
        let head = self.lm_head.as_ref().unwrap_or(&self.embed_tokens);
        self.rows(head, ids)
    }

    fn rows(&self, table: &Tensor, ids: &Tensor) -> Result<Tensor, NnError> {
        let ids = ids.f_to_kind(Kind::Int64)?;
        if ids.numel() == 0 {
            return Err(NnError::Input("no token ids".into()));
        }
        // Asked beforehand: on CUDA a wrong index takes the whole context down.
        let (least, most) = ids.f_aminmax(None, false)?;
        let (least, most) = (least.f_int64_value(&[])?, most.f_int64_value(&[])?);
        if least < 0 || most >= self.config.vocab_size {
            return Err(NnError::Input(format!(
                "token ids from {least} to {most}, the model has {}",
                self.config.vocab_size
            )));
        }
        let ids = ids.f_to_device(self.device)?;
        Ok(Tensor::f_embedding(table, &ids, -1, false, false)?)
    }

    /// Final hidden states after the last norm, `[batch, length, hidden]`.
    pub fn forward(&self, pass: Pass<'_>) -> Result<Tensor, NnError> {
        self.norm
            .forward(&self.hidden_after(self.layers.len(), pass)?)
    }

    /// The residual stream behind the first `depth` layers, `[batch, length, hidden]`, without the
    /// last norm.
    pub fn hidden_after(&self, depth: usize, pass: Pass<'_>) -> Result<Tensor, NnError> {
        let layers = self.layers.get(..depth).unwrap_or(&self.layers);
        let Pass {
            embeds,
            positions,
            mask,
            cache,
            mode,
        } = pass;
        if let Some((slots, rows)) = cache {
            let parts = [(embeds, positions, mask, rows)];
            let x = self.through_cache(layers, slots, &parts, mode)?;
            let x = x.f_reshape(embeds.size().as_slice())?;
            slots.commit(rows);
            return Ok(x);
        }
        self.check((embeds, positions, mask), None)?;
        let mut x = embeds.f_to_device(self.device)?.f_to_kind(self.kind)?;
        let angles = self.rotary.angles(&positions.f_to_device(self.device)?)?;
        let mask = additive(&mask.f_to_device(self.device)?, self.kind)?;
        for layer in layers {
            x = layer.forward(&x, &angles, &mask, mode)?;
        }
        Ok(x)
    }

    /// Batch and length of a pass whose parts fit each other. `total` are the tokens that its rows see in a
    /// cache.
    fn check(
        &self,
        (embeds, positions, mask): (&Tensor, &Tensor, &Tensor),
        total: Option<i64>,
    ) -> Result<(i64, i64), NnError> {
        let (batch, length, hidden) = embeds.size3()?;
        if hidden != self.config.hidden_size || positions.size() != [batch, length] {
            return Err(NnError::Input(format!(
                "embeddings {:?} and positions {:?}; the model is {} wide",
                embeds.size(),
                positions.size(),
                self.config.hidden_size
            )));
        }
        let size = mask.size();
        let seen = total.unwrap_or(length);
        let fits =
            size.len() == 4 && (size[0] == batch || size[0] == 1) && size[1..] == [1, length, seen];
        if !fits {
            return Err(NnError::Input(format!(
                "mask {size:?} for {batch} rows of {length} tokens that see {seen}"
            )));
        }
        Ok((batch, length))
    }

    /// Scores of all tokens, `[…, vocab]`, for final hidden states, `[…, hidden]`.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor, NnError> {
        let head = self.lm_head.as_ref().unwrap_or(&self.embed_tokens);
        Ok(hidden.f_linear(head, None::<&Tensor>)?)
    }

    /// A cache that fits this decoder, for `slots` sessions of at most `capacity` tokens.
    pub fn kv_slots(&self, slots: usize, capacity: i64) -> Result<KvSlots, NnError> {
        let shape = KvShape {
            layers: self.layers.len(),
            kv_heads: self.config.kv_heads(),
            head_dim: self.config.head_dim(),
            capacity,
        };
        KvSlots::new(shape, slots, (self.kind, self.device))
    }

    /// Puts a fresh adapter on each of `projections` in every layer.
    pub fn attach_lora(
        &mut self,
        projections: &[Projection],
        config: &LoraConfig,
        rng: &mut ChaCha8Rng,
    ) -> Result<(), NnError> {
        let device = self.device;
        for layer in &mut self.layers {
            for &projection in projections {
                let dense = layer.dense_mut(projection);
                let lora = Lora::new(config, dense.sizes()?, rng, device)?;
                dense.attach(lora);
            }
        }
        Ok(())
    }

    /// Takes all adapters off.
    pub fn detach_lora(&mut self) {
        for layer in &mut self.layers {
            for projection in Projection::ALL {
                drop(layer.dense_mut(projection).detach());
            }
        }
    }

    /// A dense layer, if the layer of that number is in use.
    pub(crate) fn dense(&self, layer: usize, projection: Projection) -> Option<&Linear> {
        Some(self.layers.get(layer)?.dense(projection))
    }

    /// A dense layer, to be changed.
    pub(crate) fn dense_mut(
        &mut self,
        layer: usize,
        projection: Projection,
    ) -> Option<&mut Linear> {
        Some(self.layers.get_mut(layer)?.dense_mut(projection))
    }

    /// All that learns, by name (`model.layers.0.self_attn.q_proj.lora_A.weight`), in a fixed
    /// order. The tensors share their memory with the adapters.
    pub fn lora_tensors(&self) -> Vec<(String, Tensor)> {
        let mut tensors = Vec::new();
        for (number, layer) in self.layers.iter().enumerate() {
            for projection in Projection::ALL {
                if let Some(lora) = layer.dense(projection).lora() {
                    for (part, tensor) in lora.tensors() {
                        let name = projection.name();
                        tensors.push((format!("model.layers.{number}.{name}.{part}"), tensor));
                    }
                }
            }
        }
        tensors
    }

    /// Overwrites the adapters with tensors of another decoder's [`Decoder::lora_tensors`] (or a
    /// file of them). Every attached adapter must be there. Merged layers are taken apart.
    pub fn load_lora(&mut self, weights: &Weights) -> Result<(), NnError> {
        for (number, layer) in self.layers.iter_mut().enumerate() {
            for projection in Projection::ALL {
                if let Some(lora) = layer.dense_mut(projection).lora_mut() {
                    let name = format!("model.layers.{number}.{}", projection.name());
                    let a = weights.get(&format!("{name}.lora_A.weight"))?;
                    let b = weights.get(&format!("{name}.lora_B.weight"))?;
                    lora.copy_from(&a, &b)?;
                }
            }
        }
        Ok(())
    }

    /// Folds all adapters into their layers, for inference.
    pub fn merge_lora(&mut self) -> Result<(), NnError> {
        for layer in &mut self.layers {
            for projection in Projection::ALL {
                layer.dense_mut(projection).merge()?;
            }
        }
        Ok(())
    }

    /// Undoes [`Decoder::merge_lora`], exactly.
    pub fn unmerge_lora(&mut self) {
        for layer in &mut self.layers {
            for projection in Projection::ALL {
                layer.dense_mut(projection).unmerge();
            }
        }
    }

    /// A second decoder on the same published weights, without adapters: for a learner beside the
    /// one that answers. Nothing ever writes to those weights.
    pub fn share(&self) -> Self {
        Self {
            config: self.config.clone(),
            embed_tokens: self.embed_tokens.shallow_clone(),
            layers: self.layers.iter().map(Layer::share).collect(),
            norm: self.norm.share(),
            lm_head: self.lm_head.as_ref().map(Tensor::shallow_clone),
            rotary: self.rotary.share(),
            kind: self.kind,
            device: self.device,
        }
    }

    /// What tells this decoder from another: a hash (XXH3) of its published weights as it computes
    /// with them, of the sizes and constants they are used with, and of how many layers are in use.
    /// Adapters do not count. Reads all weights once.
    pub fn fingerprint(&self) -> Result<u128, NnError> {
        let config = &self.config;
        let mut hash = Xxh3::new();
        let sizes = [
            self.layers.len() as i64,
            config.num_attention_heads,
            config.kv_heads(),
            config.head_dim(),
        ];
        for size in sizes {
            hash.update(&size.to_le_bytes());
        }
        hash.update(format!("{:?}", self.kind).as_bytes());
        for constant in [config.rms_norm_eps, config.rope_theta] {
            hash.update(&constant.to_bits().to_le_bytes());
        }
        let mut bytes = Vec::new();
        for tensor in self.published() {
            for size in tensor.size() {
                hash.update(&size.to_le_bytes());
            }
            bytes.resize(tensor.numel() * tensor.kind().elt_size_in_bytes(), 0);
            tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
            hash.update(&bytes);
        }
        Ok(hash.digest128())
    }

    /// What was published, in a fixed order.
    fn published(&self) -> impl Iterator<Item = &Tensor> {
        let layers = self.layers.iter().flat_map(Layer::published);
        let ends = [&self.embed_tokens, self.norm.weight()];
        layers.chain(ends).chain(&self.lm_head)
    }

    /// Bytes that its published weights take.
    pub fn bytes(&self) -> u64 {
        let bytes = |tensor: &Tensor| tensor.numel() * tensor.kind().elt_size_in_bytes();
        self.published().map(|tensor| bytes(tensor) as u64).sum()
    }

    /// What it was built from; `num_hidden_layers` is the checkpoint's.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Layers that are in use.
    pub fn depth(&self) -> usize {
        self.layers.len()
    }

    /// What it computes in, and where.
    pub fn place(&self) -> (Kind, Device) {
        (self.kind, self.device)
    }
}
