//! SASRec's network: causal self-attention over items, output tied to the item embedding.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use segue_listen::TrackKey;
use segue_nn::attention::{additive, attend, causal};
use segue_nn::lora::Mode;
use tch::{Device, Kind, Tensor};

use crate::chance::{keyed_normals, normals};
use crate::error::ModelError;
use crate::settings::SasRecSettings;
use crate::windows::BLOCK;

const EPSILON: f64 = 1e-8;

/// Layer norm's scale and shift.
#[derive(Debug)]
struct Norm {
    weight: Tensor,
    bias: Tensor,
}

#[derive(Debug)]
struct Block {
    attention_norm: Norm,
    /// Queries, keys and values, `[3 d, d]`.
    qkv: Tensor,
    out: Tensor,
    forward_norm: Norm,
    inner: Tensor,
    inner_bias: Tensor,
    outer: Tensor,
    outer_bias: Tensor,
}

/// All parameters; leaves that require gradients.
#[derive(Debug)]
pub(super) struct Network {
    /// `[items + 2, d]`: the items, then "some track", then "nothing yet".
    table: Tensor,
    /// `[lookback + 50, d]`
    positions: Tensor,
    blocks: Vec<Block>,
    norm: Norm,
    items: i64,
    heads: i64,
    dropout: f64,
}

impl Network {
    /// A fresh network; an item's first vector follows from its key and the seed.
    pub fn new(
        settings: &SasRecSettings,
        keys: &[TrackKey],
        device: Device,
    ) -> Result<Self, ModelError> {
        let d = settings.dimensions;
        let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
        let mut rows = Vec::with_capacity((keys.len() + 2) * d as usize);
        for &key in keys {
            keyed_normals(key, settings.seed, d as usize, settings.init, &mut rows);
        }
        let items = keys.len() as i64;
        let own = Tensor::f_from_slice(&rows)?
            .f_reshape([items, d])?
            .f_to_device(device)?;
        let mut leaf = |shape: &[i64]| -> Result<Tensor, ModelError> {
            Ok(normals(shape, settings.init, &mut rng, device)?.f_set_requires_grad(true)?)
        };
        let special = leaf(&[2, d])?.f_detach()?;
        let positions = leaf(&[(settings.lookback + BLOCK) as i64, d])?;
        let constant = |value: f64| -> Result<Tensor, ModelError> {
            Ok(Tensor::f_full([d], value, (Kind::Float, device))?.f_set_requires_grad(true)?)
        };
        let norm = || -> Result<Norm, ModelError> {
            Ok(Norm {
                weight: constant(1.0)?,
                bias: constant(0.0)?,
            })
        };
        let blocks = (0..settings.blocks)
            .map(|_| {
                Ok(Block {
                    attention_norm: norm()?,
                    qkv: leaf(&[3 * d, d])?,
                    out: leaf(&[d, d])?,
                    forward_norm: norm()?,
                    inner: leaf(&[d, d])?,
                    inner_bias: constant(0.0)?,
                    outer: leaf(&[d, d])?,
                    outer_bias: constant(0.0)?,
                })
            })
            .collect::<Result<_, ModelError>>()?;
        Ok(Self {
            table: Tensor::f_cat(&[&own, &special], 0)?.f_set_requires_grad(true)?,
            positions,
            blocks,
            norm: norm()?,
            items,
            heads: settings.heads,
            dropout: settings.dropout,
        })
    }

    /// The row that stands for a track without a vector.
    pub fn unknown(&self) -> i64 {
        self.items
    }

    /// The row that every window begins with.
    pub fn nothing_yet(&self) -> i64 {
        self.items + 1
    }

    /// The items' vectors, `[items, d]`.
    pub fn item_table(&self) -> Result<Tensor, ModelError> {
        Ok(self.table.f_narrow(0, 0, self.items)?)
    }

    /// All parameters, in a fixed order.
    pub fn parameters(&self) -> Vec<Tensor> {
        let mut all = vec![&self.table, &self.positions];
        for block in &self.blocks {
            all.extend([
                &block.attention_norm.weight,
                &block.attention_norm.bias,
                &block.qkv,
                &block.out,
                &block.forward_norm.weight,
                &block.forward_norm.bias,
                &block.inner,
                &block.inner_bias,
                &block.outer,
                &block.outer_bias,
            ]);
        }
        all.extend([&self.norm.weight, &self.norm.bias]);
        all.into_iter().map(Tensor::shallow_clone).collect()
    }

    /// `rows` `[batch, length]` of the table to query vectors `[batch, length, d]`: the one at a
    /// place ranks what comes after it. Padding is on the right; causal attention never sees it.
    pub fn forward(&self, rows: &Tensor, mode: Mode) -> Result<Tensor, ModelError> {
        let (_, length) = rows.size2()?;
        let d = self.table.size2()?.1;
        let drop = |x: Tensor| -> Result<Tensor, ModelError> {
            Ok(match mode {
                Mode::Train if self.dropout > 0.0 => x.f_dropout(self.dropout, true)?,
                _ => x,
            })
        };
        let x = Tensor::f_embedding(&self.table, rows, -1, false, false)?
            .f_mul_scalar((d as f64).sqrt())?
            .f_add(&self.positions.f_narrow(0, 0, length)?)?;
        let mut x = drop(x)?;
        let mask = causal(&[length], length)?.f_to_device(self.table.device())?;
        let mask = additive(&mask, Kind::Float)?;
        for block in &self.blocks {
            let seen = block.attention_norm.apply(&x)?;
            let mixed = self.attention(block, &seen, &mask)?;
            x = x.f_add(&drop(mixed)?)?;
            let seen = block.forward_norm.apply(&x)?;
            let inner = seen
                .f_linear(&block.inner, Some(&block.inner_bias))?
                .f_relu()?;
            let outer = drop(inner)?.f_linear(&block.outer, Some(&block.outer_bias))?;
            x = x.f_add(&drop(outer)?)?;
        }
        self.norm.apply(&x)
    }

    /// `[batch, length, d]` to the same.
    fn attention(&self, block: &Block, x: &Tensor, mask: &Tensor) -> Result<Tensor, ModelError> {
        let (batch, length, d) = x.size3()?;
        let parts = x
            .f_linear(&block.qkv, None::<&Tensor>)?
            .f_reshape([batch, length, 3, self.heads, d / self.heads])?
            .f_permute([2, 0, 3, 1, 4])?; // [3, batch, heads, length, head]
        let [query, key, value] = [0, 1, 2].map(|part| parts.f_select(0, part));
        let mixed = attend(&query?, &key?, &value?, Some(mask))?
            .f_transpose(1, 2)?
            .f_reshape([batch, length, d])?;
        Ok(mixed.f_linear(&block.out, None::<&Tensor>)?)
    }
}

impl Norm {
    fn apply(&self, x: &Tensor) -> Result<Tensor, ModelError> {
        let d = self.weight.numel() as i64;
        Ok(x.f_layer_norm([d], Some(&self.weight), Some(&self.bias), EPSILON, false)?)
    }
}
