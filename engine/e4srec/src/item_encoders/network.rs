//! What a network has to offer to become an item encoder, and the table that all of them have.

use std::fmt::Debug;

use rand_chacha::ChaCha8Rng;
use segue_listen::TrackKey;
use segue_nn::lora::Mode;
use segue_recommend::recommender::Tier;
use tch::{Device, Tensor};

use crate::chance::{keyed_normals, normals};
use crate::error::ModelError;

/// How a network is taught and asked.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Reading {
    /// The query at a place follows from that place and those before it, and ranks what comes next:
    /// every play is a target, and one reading answers all questions of a window.
    Causal,
    /// The query at a place follows from the whole window: plays are hidden to be targets, and a
    /// question is a hidden play at the end of a window of its own.
    Cloze {
        /// Share of plays that are hidden.
        hidden: f64,
        /// Share of windows that are cut at any play, which alone is hidden.
        newest_only: f64,
    },
}

/// What of the settings has nothing to do with the network's insides.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Course {
    pub reading: Reading,
    pub lookback: usize,
    pub unknown: f64,
    pub epochs: usize,
    pub patience: usize,
    pub validation: f64,
    pub batch: usize,
    pub learning_rate: f64,
    pub full_softmax_limit: usize,
    pub draws: usize,
    pub seed: u64,
}

/// A batch of windows, padded on the right.
#[derive(Debug)]
pub struct Windows {
    /// Rows of the table, `[batch, length]`.
    pub rows: Tensor,
    /// How many of a window's rows are not padding.
    pub lengths: Vec<i64>,
}

/// A network that reads rows of a table of items and says what is near to them. Its parameters are
/// leaves that require gradients.
pub trait SequenceNetwork: Debug + Send + Sized {
    /// What it is made from.
    type Settings: Clone + Debug + Send;
    /// Its name in reports, checkpoints and settings.
    const NAME: &'static str;
    /// Its rung of the ladder.
    const TIER: Tier = Tier::ItemEncoder;

    /// The first setting out of its range.
    fn check(settings: &Self::Settings) -> Result<(), ModelError>;

    /// How it is taught and asked.
    fn course(settings: &Self::Settings) -> Course;

    /// What the settings say of its sizes, in words: other words are another model.
    fn made(settings: &Self::Settings) -> String;

    /// A fresh network over the items of `keys`; an item's first vector follows from its key and the
    /// seed.
    fn new(
        settings: &Self::Settings,
        keys: &[TrackKey],
        device: Device,
    ) -> Result<Self, ModelError>;

    /// The items.
    fn table(&self) -> &ItemTable;

    /// What a query is multiplied with to rank the items, `[items, q]`.
    fn output_table(&self) -> Result<Tensor, ModelError> {
        self.table().items()
    }

    /// All parameters, in a fixed order.
    fn parameters(&self) -> Vec<Tensor>;

    /// Query vectors `[batch, length, q]`, one per place. What stands in the padding changes none
    /// outside it.
    fn forward(&self, windows: &Windows, mode: Mode) -> Result<Tensor, ModelError>;
}

/// The items' vectors, and two more.
#[derive(Debug)]
pub struct ItemTable {
    /// `[items + 2, d]`: the items, then "some track", then "nothing told".
    pub values: Tensor,
    items: i64,
}

impl ItemTable {
    /// A fresh one, of normal values with deviation `init`.
    pub fn new(
        keys: &[TrackKey],
        (d, init, seed): (i64, f32, u64),
        rng: &mut ChaCha8Rng,
        device: Device,
    ) -> Result<Self, ModelError> {
        let mut rows = Vec::with_capacity((keys.len() + 2) * d as usize);
        for &key in keys {
            keyed_normals(key, seed, d as usize, init, &mut rows);
        }
        let items = keys.len() as i64;
        let own = Tensor::f_from_slice(&rows)?
            .f_reshape([items, d])?
            .f_to_device(device)?;
        let special = normals(&[2, d], init, rng, device)?;
        let values = Tensor::f_cat(&[&own, &special], 0)?;
        Ok(Self {
            values: values.f_set_requires_grad(true)?,
            items,
        })
    }

    /// Of values `[items + 2, d]` that are there, which may not learn.
    pub fn of(values: Tensor, items: i64) -> Self {
        Self { values, items }
    }

    /// How many items there are.
    pub fn count(&self) -> i64 {
        self.items
    }

    /// The row that stands for a track without a vector.
    pub fn unknown(&self) -> i64 {
        self.items
    }

    /// The row that stands where nothing is told: what a causal network's windows begin with, and
    /// what stands in the place of a hidden play.
    pub fn untold(&self) -> i64 {
        self.items + 1
    }

    /// The items' vectors, `[items, d]`.
    pub fn items(&self) -> Result<Tensor, ModelError> {
        Ok(self.values.f_narrow(0, 0, self.items)?)
    }

    /// The vectors of `rows` `[batch, length]`, `[batch, length, d]`.
    pub fn read(&self, rows: &Tensor) -> Result<Tensor, ModelError> {
        Ok(Tensor::f_embedding(&self.values, rows, -1, false, false)?)
    }
}

/// The output side of a table that serves as input too: a level per item, as one more component
/// which is 1 in every query.
#[derive(Debug)]
pub struct Levels {
    /// `[items]`
    pub values: Tensor,
}

impl Levels {
    /// All 0.
    pub fn new(items: i64, device: Device) -> Result<Self, ModelError> {
        let zeros = Tensor::f_zeros([items], (tch::Kind::Float, device))?;
        Ok(Self {
            values: zeros.f_set_requires_grad(true)?,
        })
    }

    /// `[items, d]` to `[items, d + 1]`.
    pub fn beside(&self, items: &Tensor) -> Result<Tensor, ModelError> {
        Ok(Tensor::f_cat(&[items, &self.values.f_unsqueeze(-1)?], 1)?)
    }

    /// Queries `[batch, length, d]` to `[batch, length, d + 1]`.
    pub fn asked(&self, queries: &Tensor) -> Result<Tensor, ModelError> {
        let one = queries.f_narrow(-1, 0, 1)?.f_detach()?.f_ones_like()?;
        Ok(Tensor::f_cat(&[queries, &one], -1)?)
    }
}

/// Some of the values set to 0 and the others made up for it, while learning.
pub fn dropped(x: Tensor, share: f64, mode: Mode) -> Result<Tensor, ModelError> {
    Ok(match mode {
        Mode::Train if share > 0.0 => x.f_dropout(share, true)?,
        _ => x,
    })
}
