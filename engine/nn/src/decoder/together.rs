//! Passes through one cache, several at once: a pass of few rows leaves threads without work, which the next
//! one has for them, and the weights are read once for all.

use rayon::ThreadPool;
use tch::{Device, Tensor};

use super::Decoder;
use super::layer::Layer;
use super::portions::{self, Portion, Stretch};
use crate::NnError;
use crate::attention::additive;
use crate::kv_slots::{CacheRows, KvSlots};
use crate::lora::Mode;
use crate::threads;

/// A pass through a cache in which nothing is learnt.
#[derive(Debug)]
pub struct CachedPass {
    /// `[batch, length, hidden]`
    pub embeds: Tensor,
    /// `[batch, length]`
    pub positions: Tensor,
    /// Boolean, `[batch or 1, 1, length, total]`.
    pub mask: Tensor,
    /// Where its rows write, and what they see.
    pub rows: CacheRows,
}

impl Decoder {
    /// Final hidden states after the last norm, `[batch, length, hidden]` of each pass, in order. The
    /// passes may have no slot in common.
    ///
    /// # Errors
    /// As of [`Decoder::forward`]; no slot is longer then than it was.
    pub fn forward_together(
        &self,
        slots: &mut KvSlots,
        passes: &[CachedPass],
    ) -> Result<Vec<Tensor>, NnError> {
        let parts: Vec<Part<'_>> = passes
            .iter()
            .map(|pass| (&pass.embeds, &pass.positions, &pass.mask, &pass.rows))
            .collect();
        let x = self.through_cache(&self.layers, slots, &parts, Mode::Infer)?;
        let normed = self.norm.forward(&x)?;
        let found = apart(&normed, &parts)?;
        for pass in passes {
            slots.commit(&pass.rows);
        }
        Ok(found)
    }

    /// The tokens of all passes behind the layers, one behind the other, `[tokens, hidden]`.
    pub(super) fn through_cache(
        &self,
        layers: &[Layer],
        slots: &KvSlots,
        passes: &[Part<'_>],
        mode: Mode,
    ) -> Result<Tensor, NnError> {
        let (mut embeds, mut positions) = (Vec::new(), Vec::new());
        let (mut masks, mut sizes) = (Vec::new(), Vec::new());
        for &(x, at, mask, rows) in passes {
            let (batch, length) = self.check((x, at, mask), Some(rows.total()))?;
            embeds.push(x.f_reshape([batch * length, -1])?);
            positions.push(at.f_reshape([-1])?);
            masks.push(additive(&mask.f_to_device(self.device)?, self.kind)?);
            sizes.push((batch, length));
        }
        let embeds = Tensor::f_cat(&embeds, 0)?;
        // A value that is not a number would stay in the slot behind its length and reach the
        // slot's next owner: masks add to scores, and NaN plus anything is NaN.
        if embeds.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
            return Err(NnError::Input(
                "embeddings with values that are not finite".into(),
            ));
        }
        let x = embeds.f_to_device(self.device)?.f_to_kind(self.kind)?;
        let positions = Tensor::f_cat(&positions, 0)?;
        let angles = self.rotary.angles(&positions.f_to_device(self.device)?)?;
        let own_threads = mode == Mode::Infer && self.device == Device::Cpu && !x.requires_grad();
        let pool = threads::pool().filter(|_| own_threads);
        let threads = pool.map_or(1, ThreadPool::current_num_threads);
        let mut from = 0;
        let mut portions = Vec::new();
        for rows in portions::cut(&sizes, threads) {
            let (mut stretches, mut tokens) = (Vec::new(), 0);
            for (pass, first, count) in rows {
                let (Some(&(.., rows)), Some(mask), Some(&(_, length))) =
                    (passes.get(pass), masks.get(pass), sizes.get(pass))
                else {
                    continue;
                };
                stretches.push(Stretch {
                    count,
                    length,
                    mask: match mask.size()[0] {
                        1 => mask.shallow_clone(),
                        _ => mask.f_narrow(0, first, count)?,
                    },
                    cache: slots.of(rows).part(first, count, length)?,
                });
                tokens += count * length;
            }
            portions.push(Portion {
                layers: layers.iter().map(Layer::view).collect(),
                x: x.f_narrow(0, from, tokens)?,
                angles: angles.part(from, tokens)?,
                stretches,
            });
            from += tokens;
        }
        let apart = own_threads && (portions.len() > 1 || from <= portions::FEW_TOKENS);
        let found: Vec<Tensor> = match apart {
            true => threads::on_each(portions, |portion| portion.run(mode))?,
            false => {
                let each = portions.into_iter().map(|portion| portion.run(mode));
                each.collect::<Result<_, _>>()?
            }
        };
        Ok(Tensor::f_cat(&found, 0)?)
    }
}

/// What a pass goes in with: embeddings, positions, mask, and its rows in the cache.
pub(super) type Part<'a> = (&'a Tensor, &'a Tensor, &'a Tensor, &'a CacheRows);

/// Tokens of passes, one behind the other, `[tokens, hidden]`, as each pass's own `[batch, length, hidden]`.
fn apart(x: &Tensor, passes: &[Part<'_>]) -> Result<Vec<Tensor>, NnError> {
    let mut from = 0;
    let each = passes.iter().map(|(embeds, ..)| {
        let (batch, length, _) = embeds.size3()?;
        let own = x.f_narrow(0, from, batch * length)?;
        from += batch * length;
        Ok(own.f_reshape([batch, length, -1])?)
    });
    each.collect()
}
