//! The listeners' keys and values in a checkpoint: only where answers have to be the same to the last
//! bit after a restart as without one. Otherwise they are read anew, and agree to rounding.

use tch::Tensor;

use super::{CacheFacts, Entry, EntryFacts, ListenerCache};
use crate::backbone::Backbone;
use crate::error::ModelError;
use crate::kept::{Named, Tensors, counted};

impl ListenerCache {
    /// Everybody's keys and values, one listener behind the other.
    pub fn kept(&self, named: &mut Named) -> Result<CacheFacts, ModelError> {
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_unstable_by_key(|(user, _)| **user);
        let mut layers: Vec<(Vec<Tensor>, Vec<Tensor>)> = Vec::new();
        for (_, entry) in &entries {
            let held = self.slots.held(entry.slot)?;
            layers.resize_with(held.len(), Default::default);
            for ((keys, values), (key, value)) in layers.iter_mut().zip(held) {
                keys.push(key);
                values.push(value);
            }
        }
        for (layer, (keys, values)) in layers.iter().enumerate() {
            named.push((format!("cache.{layer}.keys"), Tensor::f_cat(keys, 0)?));
            named.push((format!("cache.{layer}.values"), Tensor::f_cat(values, 0)?));
        }
        let facts = entries.into_iter().map(|(&user, entry)| {
            Ok(EntryFacts {
                user,
                begin: entry.begin,
                held: entry.held,
                tokens: self.slots.length(entry.slot)?,
                plays: entry.plays.clone(),
                used: entry.used,
                adapter: entry.adapter,
            })
        });
        Ok(CacheFacts {
            listeners: self.batch_rows,
            turn: self.turn,
            entries: facts.collect::<Result<_, ModelError>>()?,
        })
    }

    /// Takes up what was kept of a cache for as many listeners; one for others stays empty.
    pub fn take_up(
        &mut self,
        facts: CacheFacts,
        backbone: &Backbone,
        tensors: &mut Tensors<'_>,
    ) -> Result<(), ModelError> {
        let shape = self.slots.shape();
        let before = backbone.instruction();
        let lengths = facts.entries.iter().map(|entry| {
            let held = i64::try_from(entry.held).unwrap_or(i64::MAX);
            let least = before.saturating_add(held);
            let fits = (least..=shape.capacity).contains(&entry.tokens)
                && entry.plays.len() + 1 >= entry.held;
            match fits {
                true => Ok(entry.tokens),
                false => Err(ModelError::State(format!(
                    "the cache of listener {} holds {held} tokens of {} plays",
                    entry.user.0,
                    entry.plays.len()
                ))),
            }
        });
        let lengths: Vec<i64> = lengths.collect::<Result<_, ModelError>>()?;
        let total: i64 = lengths.iter().sum();
        let (kind, device) = backbone.decoder.place();
        let size = [total, shape.kv_heads, shape.head_dim];
        let mut layers = Vec::new();
        if !facts.entries.is_empty() {
            for layer in 0..shape.layers {
                let mut take = |part: &str| -> Result<Tensor, ModelError> {
                    let kept = tensors.take(&format!("cache.{layer}.{part}"), kind, &size)?;
                    Ok(kept.f_to_device(device)?)
                };
                layers.push((take("keys")?, take("values")?));
            }
        }
        if facts.listeners != self.batch_rows {
            return Ok(());
        }
        self.turn = counted("turns of the cache", facts.turn)?;
        let mut from = 0;
        for (entry, length) in facts.entries.into_iter().zip(lengths) {
            let none = || ModelError::State("the cache has more listeners than slots".to_owned());
            let slot = self.slots.claim(0).ok_or_else(none)?;
            let part = |all: &Tensor| all.f_narrow(0, from, length);
            let held = layers
                .iter()
                .map(|(keys, values)| Ok((part(keys)?, part(values)?)))
                .collect::<Result<Vec<_>, ModelError>>()?;
            self.slots.fill(slot, &held)?;
            let taken = Entry {
                slot,
                begin: entry.begin,
                held: entry.held,
                plays: entry.plays,
                used: entry.used,
                adapter: entry.adapter,
            };
            if self.entries.insert(entry.user, taken).is_some() {
                let detail = format!("the cache has listener {} twice", entry.user.0);
                return Err(ModelError::State(detail));
            }
            from += length;
        }
        Ok(())
    }
}
