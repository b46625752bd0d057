//! Keys and values of many conversations, each in a slot of its own, apart from the layers.
//!
//! One model serves many sessions: a batch names the slots of its rows, the model writes the new
//! keys and values behind what each slot holds, and reads the whole of it. A slot can be claimed,
//! cut back, filled from another (a common prefix) and released alone. Every slot carries a version
//! of its owner's choosing (which adapter it was computed with), so that stale ones are not used.

use tch::{Device, Kind, Tensor};

use crate::NnError;

/// A slot that is claimed. Only meaningful for the [`KvSlots`] that gave it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId(usize);

/// What a slot is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    claimed: bool,
    length: i64,
    version: u64,
}

/// The sizes of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvShape {
    /// Layers of the model.
    pub layers: usize,
    /// Heads of keys and values.
    pub kv_heads: i64,
    /// Width of a head.
    pub head_dim: i64,
    /// Tokens one slot can hold.
    pub capacity: i64,
}

/// A fixed number of slots, allocated once.
#[derive(Debug)]
pub struct KvSlots {
    /// Keys and values per layer, each `[slots, capacity, kv_heads, head_dim]`.
    layers: Vec<(Tensor, Tensor)>,
    slots: Vec<Slot>,
    free: Vec<usize>,
    shape: KvShape,
    device: Device,
}

/// The rows of one batch: where each writes and how much of it counts.
#[derive(Debug)]
pub struct CacheRows {
    /// `[batch]`, for gathering.
    slots: Tensor,
    /// `[batch · length]`, rows of the flattened cache to write.
    places: Tensor,
    total: i64,
    /// Slot and its length after this batch.
    after: Vec<(usize, i64)>,
}

impl CacheRows {
    /// Keys each row is shown: the longest slot of the batch with its new tokens. The mask of the
    /// pass is `[batch, 1, length, total]`.
    pub fn total(&self) -> i64 {
        self.total
    }
}

/// What the rows of a pass, or some of them, write and see; shares its memory with the slots.
#[derive(Debug)]
pub(crate) struct KvRows {
    layers: Vec<(Tensor, Tensor)>,
    shape: KvShape,
    /// As in [`CacheRows`].
    slots: Tensor,
    places: Tensor,
    total: i64,
}

impl KvRows {
    /// Some of the rows of a pass of `length` tokens.
    pub(crate) fn part(&self, from: i64, count: i64, length: i64) -> Result<Self, NnError> {
        Ok(Self {
            layers: shared(&self.layers),
            shape: self.shape,
            slots: self.slots.f_narrow(0, from, count)?,
            places: self.places.f_narrow(0, from * length, count * length)?,
            total: self.total,
        })
    }

    /// Writes one layer's new keys and values, `[rows, length, kv_heads, head_dim]`, and returns all that
    /// the rows may see, `[rows, kv_heads, total, head_dim]`.
    pub(crate) fn append(
        &self,
        layer: usize,
        key: &Tensor,
        value: &Tensor,
    ) -> Result<(Tensor, Tensor), NnError> {
        let KvShape {
            kv_heads, head_dim, ..
        } = self.shape;
        let (keys, values) = self
            .layers
            .get(layer)
            .ok_or_else(|| NnError::Input(format!("the cache has no layer {layer}")))?;
        let through = |store: &Tensor, new: &Tensor| -> Result<Tensor, NnError> {
            let new = new.f_detach()?.f_reshape([-1, kv_heads, head_dim])?;
            let mut flat = store.f_view([-1, kv_heads, head_dim])?;
            let _written = tch::no_grad(|| flat.f_index_copy_(0, &self.places, &new))?;
            let seen = store
                .f_narrow(1, 0, self.total)?
                .f_index_select(0, &self.slots)?;
            Ok(seen.f_transpose(1, 2)?)
        };
        Ok((through(keys, key)?, through(values, value)?))
    }
}

fn shared(layers: &[(Tensor, Tensor)]) -> Vec<(Tensor, Tensor)> {
    let both = |(keys, values): &(Tensor, Tensor)| (keys.shallow_clone(), values.shallow_clone());
    layers.iter().map(both).collect()
}

impl KvSlots {
    /// Room for `slots` conversations; takes
    /// `2 · layers · slots · capacity · kv_heads · head_dim` values of `kind` at once.
    pub fn new(
        shape: KvShape,
        slots: usize,
        (kind, device): (Kind, Device),
    ) -> Result<Self, NnError> {
        let count = i64::try_from(slots).unwrap_or(i64::MAX);
        let size = [count, shape.capacity, shape.kv_heads, shape.head_dim];
        if size.iter().any(|&n| n < 1) || shape.layers == 0 {
            return Err(NnError::Config(format!(
                "a cache of {slots} slots of {shape:?}"
            )));
        }
        let mut layers = Vec::with_capacity(shape.layers);
        for _ in 0..shape.layers {
            let room = || Tensor::f_zeros(size, (kind, device));
            layers.push((room()?, room()?));
        }
        let slot = Slot {
            claimed: false,
            length: 0,
            version: 0,
        };
        Ok(Self {
            layers,
            slots: vec![slot; slots],
            free: (0..slots).rev().collect(),
            shape,
            device,
        })
    }

    /// The sizes this was made with.
    pub fn shape(&self) -> KvShape {
        self.shape
    }

    /// Bytes that the keys and values take.
    pub fn bytes(&self) -> u64 {
        let bytes = |tensor: &Tensor| tensor.numel() * tensor.kind().elt_size_in_bytes();
        let layers = self.layers.iter();
        layers.map(|(k, v)| (bytes(k) + bytes(v)) as u64).sum()
    }

    /// Slots in all, and those that are free.
    pub fn occupancy(&self) -> (usize, usize) {
        (self.slots.len(), self.free.len())
    }

    /// An empty slot, if one is free. Whom to evict is for the caller to say.
    pub fn claim(&mut self, version: u64) -> Option<SlotId> {
        let index = self.free.pop()?;
        *self.slots.get_mut(index)? = Slot {
            claimed: true,
            length: 0,
            version,
        };
        Some(SlotId(index))
    }

    /// Gives a slot back.
    pub fn release(&mut self, slot: SlotId) {
        if let Some(found) = self.slots.get_mut(slot.0)
            && found.claimed
        {
            found.claimed = false;
            found.length = 0;
            self.free.push(slot.0);
        }
    }

    /// Empties a slot and gives it another version; its neighbours are untouched.
    pub fn reset(&mut self, slot: SlotId, version: u64) -> Result<(), NnError> {
        let found = self.claimed_mut(slot)?;
        found.length = 0;
        found.version = version;
        Ok(())
    }

    /// Forgets all but the first `length` tokens: what followed can be said anew.
    pub fn truncate(&mut self, slot: SlotId, length: i64) -> Result<(), NnError> {
        let found = self.claimed_mut(slot)?;
        if length < 0 || length > found.length {
            return Err(NnError::Input(format!(
                "slot {} holds {} tokens and cannot be cut to {length}",
                slot.0, found.length
            )));
        }
        found.length = length;
        Ok(())
    }

    /// Makes `to` hold the first `length` tokens of `from`, with its version.
    pub fn copy_prefix(&mut self, from: SlotId, to: SlotId, length: i64) -> Result<(), NnError> {
        let source = *self.claimed(from)?;
        self.claimed(to)?;
        if length < 0 || length > source.length {
            return Err(NnError::Input(format!(
                "slot {} holds {} tokens, {length} were to be copied",
                from.0, source.length
            )));
        }
        let (from, to) = (from.0 as i64, to.0 as i64);
        tch::no_grad(|| {
            for (keys, values) in &self.layers {
                for part in [keys, values] {
                    let prefix = part.f_select(0, from)?.f_narrow(0, 0, length)?;
                    part.f_select(0, to)?
                        .f_narrow(0, 0, length)?
                        .f_copy_(&prefix)?;
                }
            }
            Ok::<(), NnError>(())
        })?;
        let slot = self.claimed_mut(SlotId(to as usize))?;
        slot.length = length;
        slot.version = source.version;
        Ok(())
    }

    /// What a slot holds: keys and values per layer, `[length, kv_heads, head_dim]` each, which share
    /// their memory with it.
    pub fn held(&self, slot: SlotId) -> Result<Vec<(Tensor, Tensor)>, NnError> {
        let length = self.claimed(slot)?.length;
        let part = |store: &Tensor| store.f_select(0, slot.0 as i64)?.f_narrow(0, 0, length);
        let layers = self.layers.iter();
        layers
            .map(|(keys, values)| Ok((part(keys)?, part(values)?)))
            .collect()
    }

    /// Makes a slot hold what another of the same sizes held.
    pub fn fill(&mut self, slot: SlotId, held: &[(Tensor, Tensor)]) -> Result<(), NnError> {
        self.claimed(slot)?;
        let length = held
            .first()
            .map_or(0, |(keys, _)| keys.size().first().copied().unwrap_or(0));
        let size = [length, self.shape.kv_heads, self.shape.head_dim];
        let fits = |(keys, values): &(Tensor, Tensor)| keys.size() == size && values.size() == size;
        if length > self.shape.capacity || held.len() != self.layers.len() || !held.iter().all(fits)
        {
            return Err(NnError::Input(format!(
                "keys and values of {length} tokens in {} layers do not fit {:?}",
                held.len(),
                self.shape
            )));
        }
        tch::no_grad(|| {
            for ((keys, values), (new_keys, new_values)) in self.layers.iter().zip(held) {
                for (store, new) in [(keys, new_keys), (values, new_values)] {
                    store
                        .f_select(0, slot.0 as i64)?
                        .f_narrow(0, 0, length)?
                        .f_copy_(new)?;
                }
            }
            Ok::<(), NnError>(())
        })?;
        self.claimed_mut(slot)?.length = length;
        Ok(())
    }

    /// Tokens a slot holds.
    pub fn length(&self, slot: SlotId) -> Result<i64, NnError> {
        Ok(self.claimed(slot)?.length)
    }

    /// The version a slot was claimed or reset with.
    pub fn version(&self, slot: SlotId) -> Result<u64, NnError> {
        Ok(self.claimed(slot)?.version)
    }

    /// Plans a pass of `length` tokens for each of `rows`, of which the first `counts[row]` are
    /// real and the others padding. Nothing is changed yet.
    ///
    /// Padding needs room too: it is written behind the real tokens and overwritten by the next.
    pub fn rows(&self, rows: &[SlotId], counts: &[i64], length: i64) -> Result<CacheRows, NnError> {
        if rows.is_empty() || rows.len() != counts.len() || length < 1 {
            return Err(NnError::Input(format!(
                "{} slots with {} lengths of at most {length}",
                rows.len(),
                counts.len()
            )));
        }
        let mut total = 0;
        let mut places = Vec::with_capacity(rows.len() * length as usize);
        let mut after: Vec<(usize, i64)> = Vec::with_capacity(rows.len());
        let mut seen = vec![false; self.slots.len()];
        for (&row, &count) in rows.iter().zip(counts) {
            let slot = self.claimed(row)?;
            if std::mem::replace(&mut seen[row.0], true) {
                return Err(NnError::Input(format!(
                    "slot {} is twice in one batch",
                    row.0
                )));
            }
            if !(1..=length).contains(&count) {
                return Err(NnError::Input(format!(
                    "row of {count} tokens in a pass of {length}"
                )));
            }
            if slot.length + length > self.shape.capacity {
                return Err(NnError::Input(format!(
                    "slot {} holds {} of {} tokens and cannot take {length} more",
                    row.0, slot.length, self.shape.capacity
                )));
            }
            let first = row.0 as i64 * self.shape.capacity + slot.length;
            places.extend(first..first + length);
            total = total.max(slot.length + length);
            after.push((row.0, slot.length + count));
        }
        let slots: Vec<i64> = rows.iter().map(|row| row.0 as i64).collect();
        Ok(CacheRows {
            slots: Tensor::f_from_slice(&slots)?.f_to_device(self.device)?,
            places: Tensor::f_from_slice(&places)?.f_to_device(self.device)?,
            total,
            after,
        })
    }

    /// The plain mask of a pass: every real token sees its slot's past, the real tokens before it
    /// and itself. Boolean, `[batch, 1, length, total]`, on the CPU.
    pub fn causal_mask(&self, rows: &[SlotId], length: i64) -> Result<Tensor, NnError> {
        let mut last = Vec::with_capacity(rows.len() * length.max(0) as usize);
        let mut total = 0;
        for &row in rows {
            let past = self.claimed(row)?.length;
            last.extend(past..past + length);
            total = total.max(past + length);
        }
        let last = Tensor::f_from_slice(&last)?.f_reshape([rows.len() as i64, 1, length, 1])?;
        let place = Tensor::f_arange(total, (Kind::Int64, Device::Cpu))?;
        Ok(place.f_reshape([1, 1, 1, total])?.f_le_tensor(&last)?)
    }

    /// The keys and values that the rows of a pass write and see.
    pub(crate) fn of(&self, rows: &CacheRows) -> KvRows {
        KvRows {
            layers: shared(&self.layers),
            shape: self.shape,
            slots: rows.slots.shallow_clone(),
            places: rows.places.shallow_clone(),
            total: rows.total,
        }
    }

    /// The pass is over: the slots are as long as planned.
    pub(crate) fn commit(&mut self, rows: &CacheRows) {
        for &(index, length) in &rows.after {
            if let Some(slot) = self.slots.get_mut(index) {
                slot.length = length;
            }
        }
    }

    fn claimed(&self, slot: SlotId) -> Result<&Slot, NnError> {
        let found = self.slots.get(slot.0).filter(|slot| slot.claimed);
        found.ok_or_else(|| NnError::Input(format!("slot {} is not claimed", slot.0)))
    }

    fn claimed_mut(&mut self, slot: SlotId) -> Result<&mut Slot, NnError> {
        let found = self.slots.get_mut(slot.0).filter(|slot| slot.claimed);
        found.ok_or_else(|| NnError::Input(format!("slot {} is not claimed", slot.0)))
    }
}
