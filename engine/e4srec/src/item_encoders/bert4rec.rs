//! BERT4Rec's network: self-attention in both directions over items of which some are hidden, output
//! tied to the item embedding through one more layer, with a level per item.
//!
//! Places are counted from the newest one: a question is the newest place of its window however long
//! that is, and has to be what it was while learning.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use segue_listen::TrackKey;
use segue_nn::attention::additive;
use segue_nn::lora::Mode;
use tch::{Device, Kind, Tensor};

use super::network::{Course, ItemTable, Levels, SequenceNetwork, Windows, dropped};
use super::transformer::{Attention, Bend, Bias, FeedForward, Leaves, Linear, Norm};
use crate::error::ModelError;
use crate::settings::Bert4RecSettings;
use crate::windows::BLOCK;

/// As in BERT.
const EPSILON: f64 = 1e-12;
/// How much wider a feed-forward is inside, as in BERT.
const WIDER: i64 = 4;

#[derive(Debug)]
struct Block {
    attention: Attention,
    attention_norm: Norm,
    forward: FeedForward,
    forward_norm: Norm,
}

/// All parameters.
#[derive(Debug)]
pub struct Network {
    table: ItemTable,
    /// `[lookback + 50, d]`, the newest place first.
    positions: Tensor,
    norm: Norm,
    blocks: Vec<Block>,
    out: Linear,
    out_norm: Norm,
    levels: Levels,
    dropout: f64,
}

impl SequenceNetwork for Network {
    type Settings = Bert4RecSettings;
    const NAME: &'static str = "bert4rec";

    fn check(settings: &Bert4RecSettings) -> Result<(), ModelError> {
        settings.check()
    }

    fn course(settings: &Bert4RecSettings) -> Course {
        settings.course()
    }

    fn made(settings: &Bert4RecSettings) -> String {
        format!(
            "{} components, {} blocks of {} heads, lookback {}",
            settings.dimensions, settings.blocks, settings.heads, settings.lookback
        )
    }

    fn new(
        settings: &Bert4RecSettings,
        keys: &[TrackKey],
        device: Device,
    ) -> Result<Self, ModelError> {
        let (d, init, dropout) = (settings.dimensions, settings.init, settings.dropout);
        let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
        let table = ItemTable::new(keys, (d, init, settings.seed), &mut rng, device)?;
        let mut leaves = Leaves {
            init,
            rng: &mut rng,
            device,
        };
        let positions = leaves.normal(&[(settings.lookback + BLOCK) as i64, d])?;
        let blocks = (0..settings.blocks)
            .map(|_| {
                let inner = (d, WIDER * d);
                Ok(Block {
                    attention: Attention::new(&mut leaves, d, settings.heads, Bias::Zero)?,
                    attention_norm: leaves.norm(d, EPSILON)?,
                    forward: FeedForward::new(&mut leaves, inner, Bend::Gelu, 0.0)?,
                    forward_norm: leaves.norm(d, EPSILON)?,
                })
            })
            .collect::<Result<_, ModelError>>()?;
        Ok(Self {
            positions,
            norm: leaves.norm(d, EPSILON)?,
            blocks,
            out: leaves.linear(d, d, Bias::Zero)?,
            out_norm: leaves.norm(d, EPSILON)?,
            levels: Levels::new(table.count(), device)?,
            table,
            dropout,
        })
    }

    fn table(&self) -> &ItemTable {
        &self.table
    }

    fn output_table(&self) -> Result<Tensor, ModelError> {
        self.levels.beside(&self.table.items()?)
    }

    fn parameters(&self) -> Vec<Tensor> {
        let mut all = vec![&self.table.values, &self.positions];
        all.extend(self.norm.parameters());
        for block in &self.blocks {
            all.extend(block.attention.parameters());
            all.extend(block.attention_norm.parameters());
            all.extend(block.forward.parameters());
            all.extend(block.forward_norm.parameters());
        }
        all.extend(self.out.parameters());
        all.extend(self.out_norm.parameters());
        all.push(&self.levels.values);
        all.into_iter().map(Tensor::shallow_clone).collect()
    }

    /// The query at a place ranks what may stand there.
    fn forward(&self, windows: &Windows, mode: Mode) -> Result<Tensor, ModelError> {
        let (places, mask) = self.places(windows)?;
        let x = self.table.read(&windows.rows)?;
        let x = x.f_add(&Tensor::f_embedding(
            &self.positions,
            &places,
            -1,
            false,
            false,
        )?)?;
        let mut x = dropped(self.norm.apply(&x)?, self.dropout, mode)?;
        for block in &self.blocks {
            let mixed = dropped(block.attention.apply(&x, &mask)?, self.dropout, mode)?;
            x = block.attention_norm.apply(&x.f_add(&mixed)?)?;
            let outer = dropped(block.forward.apply(&x, mode)?, self.dropout, mode)?;
            x = block.forward_norm.apply(&x.f_add(&outer)?)?;
        }
        let out = Bend::Gelu.apply(&self.out.apply(&x)?)?;
        self.levels.asked(&self.out_norm.apply(&out)?)
    }
}

impl Network {
    /// How far each place is from its window's newest, `[batch, length]`, and who may be seen, as
    /// numbers to add, `[batch, 1, 1, length]`.
    fn places(&self, windows: &Windows) -> Result<(Tensor, Tensor), ModelError> {
        let (batch, length) = windows.rows.size2()?;
        let device = self.positions.device();
        let lengths = Tensor::f_from_slice(&windows.lengths)?.f_to_device(device)?;
        let place = Tensor::f_arange(length, (Kind::Int64, device))?;
        let from_end = lengths
            .f_sub_scalar(1)?
            .f_unsqueeze(-1)?
            .f_sub(&place.f_unsqueeze(0)?)?;
        let inside = from_end.f_ge(0)?.f_reshape([batch, 1, 1, length])?;
        Ok((from_end.f_clamp_min(0)?, additive(&inside, Kind::Float)?))
    }
}
