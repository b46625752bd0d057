//! Several passes through one cache at once: a pass of few rows leaves threads without work, which the
//! next one has for them.

use tch::Tensor;

use super::{Decoder, portions, through};
use crate::NnError;
use crate::kv_slots::{CacheRows, KvSlots};
use crate::lora::Mode;

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
        let mut hidden: Vec<Option<Tensor>> = Vec::with_capacity(passes.len());
        let (mut all, mut counts, mut threads) = (Vec::new(), Vec::new(), None);
        for pass in passes {
            let begun = self.begin(
                (&pass.embeds, &pass.positions, &pass.mask),
                Some(pass.rows.total()),
            )?;
            let cache = slots.of(&pass.rows);
            match self.portions(&self.layers, &begun, &cache, Mode::Infer)? {
                Some((pool, portions)) => {
                    threads = Some(pool);
                    counts.push(portions.len());
                    all.extend(portions);
                    hidden.push(None);
                }
                None => {
                    let x = through(&self.layers, begun, &cache, Mode::Infer)?;
                    hidden.push(Some(x));
                }
            }
        }
        if let Some(pool) = threads {
            let done = portions::run(pool, all)?;
            let (mut rest, mut counts) = (done.as_slice(), counts.into_iter());
            for place in hidden.iter_mut().filter(|place| place.is_none()) {
                let (own, others) = rest.split_at(counts.next().unwrap_or(0).min(rest.len()));
                *place = Some(Tensor::f_cat(own, 0)?);
                rest = others;
            }
        }
        let normed = hidden.iter().flatten().map(|x| self.norm.forward(x));
        let normed = normed.collect::<Result<_, _>>()?;
        for pass in passes {
            slots.commit(&pass.rows);
        }
        Ok(normed)
    }
}
