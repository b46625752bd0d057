//! SASRec's network: causal self-attention over items, output tied to the item embedding.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use segue_listen::TrackKey;
use segue_nn::attention::{additive, causal};
use segue_nn::lora::Mode;
use tch::{Device, Kind, Tensor};

use super::network::{Course, ItemTable, SequenceNetwork, Windows, dropped};
use super::transformer::{Attention, Bend, Bias, FeedForward, Leaves, Norm};
use crate::error::ModelError;
use crate::settings::SasRecSettings;
use crate::windows::BLOCK;

const EPSILON: f64 = 1e-8;

#[derive(Debug)]
struct Block {
    attention_norm: Norm,
    attention: Attention,
    forward_norm: Norm,
    forward: FeedForward,
}

/// All parameters.
#[derive(Debug)]
pub struct Network {
    table: ItemTable,
    /// `[lookback + 50, d]`
    positions: Tensor,
    blocks: Vec<Block>,
    norm: Norm,
    dropout: f64,
}

impl SequenceNetwork for Network {
    type Settings = SasRecSettings;
    const NAME: &'static str = "sasrec";

    fn check(settings: &SasRecSettings) -> Result<(), ModelError> {
        settings.check()
    }

    fn course(settings: &SasRecSettings) -> Course {
        settings.course()
    }

    fn made(settings: &SasRecSettings) -> String {
        format!(
            "{} components, {} blocks of {} heads, lookback {}",
            settings.dimensions, settings.blocks, settings.heads, settings.lookback
        )
    }

    fn new(
        settings: &SasRecSettings,
        keys: &[TrackKey],
        device: Device,
    ) -> Result<Self, ModelError> {
        let (d, init) = (settings.dimensions, settings.init);
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
                Ok(Block {
                    attention_norm: leaves.norm(d, EPSILON)?,
                    attention: Attention::new(&mut leaves, d, settings.heads, Bias::None)?,
                    forward_norm: leaves.norm(d, EPSILON)?,
                    forward: FeedForward::new(&mut leaves, (d, d), Bend::Relu, settings.dropout)?,
                })
            })
            .collect::<Result<_, ModelError>>()?;
        Ok(Self {
            table,
            positions,
            blocks,
            norm: leaves.norm(d, EPSILON)?,
            dropout: settings.dropout,
        })
    }

    fn table(&self) -> &ItemTable {
        &self.table
    }

    fn parameters(&self) -> Vec<Tensor> {
        let mut all = vec![&self.table.values, &self.positions];
        for block in &self.blocks {
            all.extend(block.attention_norm.parameters());
            all.extend(block.attention.parameters());
            all.extend(block.forward_norm.parameters());
            all.extend(block.forward.parameters());
        }
        all.extend(self.norm.parameters());
        all.into_iter().map(Tensor::shallow_clone).collect()
    }

    /// The query at a place ranks what comes after it. Padding is on the right; causal attention
    /// never sees it.
    fn forward(&self, windows: &Windows, mode: Mode) -> Result<Tensor, ModelError> {
        let (_, length) = windows.rows.size2()?;
        let d = self.table.values.size2()?.1;
        let x = self
            .table
            .read(&windows.rows)?
            .f_mul_scalar((d as f64).sqrt())?
            .f_add(&self.positions.f_narrow(0, 0, length)?)?;
        let mut x = dropped(x, self.dropout, mode)?;
        let mask = causal(&[length], length)?.f_to_device(self.positions.device())?;
        let mask = additive(&mask, Kind::Float)?;
        for block in &self.blocks {
            let seen = block.attention_norm.apply(&x)?;
            let mixed = block.attention.apply(&seen, &mask)?;
            x = x.f_add(&dropped(mixed, self.dropout, mode)?)?;
            let seen = block.forward_norm.apply(&x)?;
            let outer = block.forward.apply(&seen, mode)?;
            x = x.f_add(&dropped(outer, self.dropout, mode)?)?;
        }
        self.norm.apply(&x)
    }
}
