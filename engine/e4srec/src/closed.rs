//! E4SRec with the head that it was published with: `Linear(hidden, items)` over the items of the training
//! log, none of which can be added later.
//!
//! A baseline. It reads the item encoder's vectors, frozen, through a projection of its own, as E4SRec
//! does (HestiaSky/E4SRec, model.py), and scores items by the hidden state alone: no vector of an item's
//! content, no personal logit, no popularity. What the open vocabulary is worth is what is ahead of this.
//! Training, answering and checkpoints are those of [`crate::item_encoders::SequenceEncoder`].

use std::collections::HashMap;
use std::sync::Arc;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use segue_listen::TrackKey;
use segue_nn::attention::causal;
use segue_nn::decoder::{Decoder, Pass};
use segue_nn::lora::Mode;
use segue_recommend::recommender::Tier;
use tch::{Device, Kind, Tensor};

use crate::backbone::Foundation;
use crate::chance::normals;
use crate::error::ModelError;
use crate::head::levelled;
use crate::item_encoders::{Course, ItemTable, Reading, SequenceEncoder, SequenceNetwork, Windows};
use crate::settings::E4SRecSettings;

/// E4SRec with a closed head. Frozen: it does not learn online, and a track that was not in the training
/// log has no rank.
pub type ClosedE4SRec = SequenceEncoder<Network>;

/// What it is made from.
#[derive(Debug)]
pub struct ClosedSettings {
    /// The settings of E4SRec; those of the tower and of online learning have no meaning here.
    pub e4srec: E4SRecSettings,
    /// The language model.
    pub foundation: Foundation,
    /// The item encoder's vectors, of `dimensions` components each.
    pub vectors: Arc<HashMap<TrackKey, Vec<f32>>>,
    /// Components of a vector.
    pub dimensions: i64,
}

impl Clone for ClosedSettings {
    fn clone(&self) -> Self {
        Self {
            e4srec: self.e4srec.clone(),
            foundation: self.foundation.share(),
            vectors: self.vectors.clone(),
            dimensions: self.dimensions,
        }
    }
}

/// The language model between the vectors and the head.
#[derive(Debug)]
pub struct Network {
    /// The item encoder's vectors, which do not learn.
    table: ItemTable,
    decoder: Decoder,
    /// `[1, instruction, hidden]`
    instruction: Tensor,
    /// `[hidden, d]`
    projection: Tensor,
    /// `[hidden]`
    bias: Tensor,
    /// `[items, hidden]`
    head: Tensor,
}

impl SequenceNetwork for Network {
    type Settings = ClosedSettings;
    const NAME: &'static str = "e4srec-closed";
    const TIER: Tier = Tier::LanguageModel;

    fn check(settings: &ClosedSettings) -> Result<(), ModelError> {
        settings.e4srec.check()
    }

    fn course(settings: &ClosedSettings) -> Course {
        let (e4srec, offline) = (&settings.e4srec, &settings.e4srec.offline);
        Course {
            reading: Reading::Causal,
            lookback: e4srec.lookback,
            unknown: 0.0,
            epochs: offline.epochs,
            patience: 0,
            validation: 0.0,
            batch: offline.batch,
            learning_rate: offline.lora_rate,
            full_softmax_limit: offline.candidates,
            draws: offline.candidates,
            seed: e4srec.seed,
        }
    }

    fn made(settings: &ClosedSettings) -> String {
        let lora = &settings.e4srec.lora;
        format!(
            "{}, {} components, lookback {}, lora of rank {} and alpha {} on {:?}",
            settings
                .foundation
                .described()
                .unwrap_or_else(|error| error.to_string()),
            settings.dimensions,
            settings.e4srec.lookback,
            lora.rank,
            lora.alpha,
            lora.projections
        )
    }

    fn new(
        settings: &ClosedSettings,
        keys: &[TrackKey],
        device: Device,
    ) -> Result<Self, ModelError> {
        let (lora, d) = (&settings.e4srec.lora, settings.dimensions);
        let mut rng = ChaCha8Rng::seed_from_u64(settings.e4srec.seed);
        rng.set_stream(6);
        let (mut decoder, instruction) = settings.foundation.begin()?;
        decoder.attach_lora(&lora.projections, &lora.config(), &mut rng)?;
        let hidden = decoder.config().hidden_size;
        let width = usize::try_from(d).unwrap_or(0);
        let mut vectors = vec![0f32; keys.len() * width];
        for (key, row) in keys.iter().zip(vectors.chunks_exact_mut(width.max(1))) {
            if let Some(vector) = settings.vectors.get(key) {
                row.iter_mut()
                    .zip(vector)
                    .for_each(|(to, from)| *to = *from);
            }
        }
        let items = keys.len() as i64;
        let own = Tensor::f_from_slice(&vectors)?.f_reshape([items, d])?;
        let special = normals(&[2, d], 1.0, &mut rng, device)?;
        let table = Tensor::f_cat(&[&own.f_to_device(device)?, &special], 0)?;
        let mut leaf = |shape: &[i64], deviation: f32| -> Result<Tensor, ModelError> {
            Ok(normals(shape, deviation, &mut rng, device)?.f_set_requires_grad(true)?)
        };
        Ok(Self {
            table: ItemTable::of(table, items),
            projection: leaf(&[hidden, d], 0.1 / (d as f32).sqrt())?,
            bias: leaf(&[hidden], 0.0)?,
            head: leaf(&[items, hidden], 0.2 / (hidden as f32).sqrt())?,
            decoder,
            instruction,
        })
    }

    fn table(&self) -> &ItemTable {
        &self.table
    }

    fn output_table(&self) -> Result<Tensor, ModelError> {
        Ok(self.head.shallow_clone())
    }

    fn parameters(&self) -> Vec<Tensor> {
        let own = [&self.table.values, &self.projection, &self.bias, &self.head];
        let adapter = self.decoder.lora_tensors().into_iter();
        own.map(Tensor::shallow_clone)
            .into_iter()
            .chain(adapter.map(|(_, tensor)| tensor))
            .collect()
    }

    fn forward(&self, windows: &Windows, mode: Mode) -> Result<Tensor, ModelError> {
        let (batch, length) = windows.rows.size2()?;
        let (_, before, hidden) = self.instruction.size3()?;
        let plays = self
            .table
            .read(&windows.rows)?
            .f_linear(&self.projection, Some(&self.bias))?;
        let instruction = self.instruction.f_expand([batch, before, hidden], false)?;
        let total = before + length;
        let places = Tensor::f_arange(total, (Kind::Int64, Device::Cpu))?;
        let lengths: Vec<i64> = windows.lengths.iter().map(|own| before + own).collect();
        let read = self.decoder.forward(Pass {
            embeds: &Tensor::f_cat(&[&instruction, &plays], 1)?,
            positions: &places.f_expand([batch, total], false)?,
            mask: &causal(&lengths, total)?,
            cache: None,
            mode,
        })?;
        levelled(&read.f_narrow(1, before, length)?)
    }
}
