//! Vectors for every track there is, new ones included: `v_i = f(content_i) + g(n_i) · e_i`, or what
//! [`crate::fusion`] makes of the two.
//!
//! `f` is a linear map of the content that begins as a random projection (which keeps likeness;
//! Johnson and Lindenstrauss) plus a perceptron that begins at zero; a track whose content is not
//! known yet has a learnt stand-in. `e_i` begins at zero, or at the item encoder's vector, and is
//! trusted more the more often the track was played: `g(n) = ln(1+n) / (1 + ln(1+n))`. A fixed
//! output layer could not score a track that came after it was trained; this can.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use segue_listen::TrackKey;
use segue_nn::threads;
use tch::{Device, Kind, Tensor};

use crate::coarse::Coarse;
use crate::error::ModelError;
use crate::fusion::{Fuser, ModalityDropout, Parts};
use crate::optimise::{ADAGRAD_BEGIN, adagrad_rows};
use crate::settings::TowerSettings;

/// The trust in a track's own vector after `plays` plays, in [0, 1).
pub(crate) fn gate(plays: u32) -> f32 {
    let level = (plays as f32).ln_1p();
    level / (1.0 + level)
}

/// The tables, one row per admitted track, and the vectors that follow from them.
#[derive(Debug)]
pub(crate) struct ItemTower {
    pub map: Fuser,
    settings: TowerSettings,
    device: Device,
    rows: i64,
    /// `[capacity, content]`
    content: Tensor,
    /// Which parts of it are there, `[capacity, parts]`; of the content as a whole, whether it is known.
    present: Tensor,
    /// `[capacity, d]`
    residual: Tensor,
    /// Adagrad's sums, `[capacity]`
    squares: Tensor,
    /// `[capacity, 1]`
    gates: Tensor,
    /// `f(content)`, or the vectors of its parts, `[capacity, parts · d]`
    mapped: Tensor,
    /// The vectors as of the last refresh, `[capacity, d]`
    vectors: Tensor,
    /// The same in eight bits, once somebody has asked for them.
    coarse: Option<Coarse>,
}

/// How content comes into the vectors that a step learns from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content<'a> {
    /// Mapped as of the last refresh: what is learnt are the tracks' own vectors.
    AsMapped,
    /// Anew, so that the maps learn, with only those parts `[n, parts]` that are 1, or all there are.
    Anew(Option<&'a Tensor>),
}

/// What is known of a track when it gets its row.
#[derive(Clone, Debug, Default)]
pub(crate) struct NewRow {
    pub content: Option<Vec<f32>>,
    pub residual: Option<Vec<f32>>,
    pub plays: u32,
}

/// Rows that one thread recomputes: few enough that what is between content and vector stays in its core's cache.
const STRETCH: i64 = 1_024;

/// Rows of the tables, on the same memory.
struct Stretch {
    map: Fuser,
    content: Tensor,
    present: Tensor,
    residual: Tensor,
    gates: Tensor,
    mapped: Tensor,
    vectors: Tensor,
}

impl Stretch {
    fn refresh(mut self) -> Result<(), ModelError> {
        tch::no_grad(|| {
            let mapped = self.map.map(&self.content, &self.present)?;
            let own = self.residual.f_mul(&self.gates)?;
            let vectors = self.map.fuse(&mapped, &self.present, &own)?;
            self.mapped.f_copy_(&mapped)?;
            self.vectors.f_copy_(&vectors)?;
            Ok(())
        })
    }
}

impl ItemTower {
    pub fn new(
        settings: &TowerSettings,
        parts: Parts,
        seed: u64,
        device: Device,
    ) -> Result<Self, ModelError> {
        let zeros = |width: i64| Tensor::f_zeros([0, width], (Kind::Float, device));
        let (d, count) = (settings.dimensions, parts.all().len() as i64);
        Ok(Self {
            map: Fuser::new(settings, parts, seed, device)?,
            settings: settings.clone(),
            device,
            rows: 0,
            content: zeros(settings.content as i64)?,
            present: zeros(count)?,
            residual: zeros(d)?,
            squares: Tensor::f_zeros([0], (Kind::Float, device))?,
            gates: zeros(1)?,
            mapped: zeros(count * d)?,
            vectors: zeros(d)?,
            coarse: None,
        })
    }

    pub fn rows(&self) -> i64 {
        self.rows
    }

    pub fn device(&self) -> Device {
        self.device
    }

    pub fn dimensions(&self) -> i64 {
        self.settings.dimensions
    }

    /// Whether a track has exactly this content.
    pub fn has_content(&self, row: i64, values: &[f32]) -> Result<bool, ModelError> {
        let mut present = Vec::new();
        self.map.parts().present(Some(values), &mut present);
        let same = |table: &Tensor, values: &[f32]| -> Result<bool, ModelError> {
            let held: Vec<f32> = Vec::try_from(table.f_get(row)?.f_to_device(Device::Cpu)?)?;
            Ok(held == values)
        };
        Ok(same(&self.present, &present)? && same(&self.content, values)?)
    }

    /// Vectors of all tracks, `[rows, d]`.
    pub fn vectors(&self) -> Result<Tensor, ModelError> {
        Ok(self.vectors.f_narrow(0, 0, self.rows)?)
    }

    /// Has the vectors in eight bits at hand from now on.
    pub fn make_coarse(&mut self) -> Result<(), ModelError> {
        if self.coarse.is_none() {
            self.coarse = Some(Coarse::of(&self.vectors)?);
        }
        Ok(())
    }

    /// The vectors in eight bits, `[capacity, d]`, if they are at hand.
    pub fn coarse(&self) -> Option<&Coarse> {
        self.coarse.as_ref()
    }

    /// A track's own vectors, `[len(rows), d]`, not yet gated.
    pub fn residuals(&self, rows: &Tensor) -> Result<Tensor, ModelError> {
        Ok(self.residual.f_index_select(0, rows)?)
    }

    /// `[len(rows), 1]`
    pub fn gates(&self, rows: &Tensor) -> Result<Tensor, ModelError> {
        Ok(self.gates.f_index_select(0, rows)?)
    }

    /// Appends rows and computes their vectors.
    pub fn grow(&mut self, new: &[NewRow]) -> Result<(), ModelError> {
        if new.is_empty() {
            return Ok(());
        }
        let count = new.len() as i64;
        self.reserve(self.rows + count)?;
        let (content, d) = (self.settings.content, self.settings.dimensions as usize);
        let mut contents = Vec::with_capacity(new.len() * content);
        let mut residuals = Vec::with_capacity(new.len() * d);
        for row in new {
            contents.extend_from_slice(row.content.as_deref().unwrap_or(&[]));
            contents.resize(contents.len().next_multiple_of(content), 0.0);
            if row.content.is_none() {
                contents.resize(contents.len() + content, 0.0);
            }
            // The item encoder's vector takes the last components.
            let own = row.residual.as_deref().unwrap_or(&[]);
            residuals.resize(residuals.len() + d.saturating_sub(own.len()), 0.0);
            residuals.extend(own.iter().take(d));
        }
        let mut present = Vec::new();
        for row in new {
            self.map
                .parts()
                .present(row.content.as_deref(), &mut present);
        }
        let gates: Vec<f32> = new.iter().map(|row| gate(row.plays)).collect();
        let put = |table: &Tensor, values: &[f32]| -> Result<(), ModelError> {
            let mut place = table.f_narrow(0, self.rows, count)?;
            let values = Tensor::f_from_slice(values)?.f_reshape(place.size())?;
            place.f_copy_(&values)?;
            Ok(())
        };
        tch::no_grad(|| {
            put(&self.content, &contents)?;
            put(&self.present, &present)?;
            put(&self.residual, &residuals)?;
            put(&self.gates, &gates)?;
            let _ = self
                .squares
                .f_narrow(0, self.rows, count)?
                .f_fill_(ADAGRAD_BEGIN)?;
            Ok::<(), ModelError>(())
        })?;
        let from = self.rows;
        self.rows += count;
        let rows = Tensor::f_arange_start(from, self.rows, (Kind::Int64, self.device))?;
        self.refresh_content(&rows)
    }

    /// Content that came later than its track.
    pub fn set_content(&mut self, row: i64, values: &[f32]) -> Result<(), ModelError> {
        let mut present = Vec::new();
        self.map.parts().present(Some(values), &mut present);
        tch::no_grad(|| {
            for (table, values) in [(&self.content, values), (&self.present, &present)] {
                let values = Tensor::f_from_slice(values)?;
                table.f_get(row)?.f_copy_(&values)?;
            }
            Ok(())
        })
    }

    fn reserve(&mut self, rows: i64) -> Result<(), ModelError> {
        let capacity = self.squares.numel() as i64;
        if rows <= capacity {
            return Ok(());
        }
        let capacity = rows.max(capacity * 2).max(64);
        self.coarse = None;
        let used = self.rows;
        tch::no_grad(|| {
            let mut tables = [
                &mut self.content,
                &mut self.present,
                &mut self.residual,
                &mut self.squares,
                &mut self.gates,
                &mut self.mapped,
                &mut self.vectors,
            ];
            for table in &mut tables {
                let mut size = table.size();
                if let Some(first) = size.first_mut() {
                    *first = capacity;
                }
                let larger = Tensor::f_zeros(size, (Kind::Float, self.device))?;
                larger
                    .f_narrow(0, 0, used)?
                    .f_copy_(&table.f_narrow(0, 0, used)?)?;
                **table = larger;
            }
            Ok(())
        })
    }

    /// Vectors of some rows as a step learns from them, with `own` `[len(rows), d]` for their own ones,
    /// gated; differentiable in `own` and in the parameters that `content` asks for, and in those of
    /// the fusion.
    pub fn fused(
        &self,
        rows: &Tensor,
        own: &Tensor,
        content: Content<'_>,
    ) -> Result<Tensor, ModelError> {
        let present = self.present.f_index_select(0, rows)?;
        let (mapped, present) = match content {
            Content::AsMapped => (self.mapped.f_index_select(0, rows)?, present),
            Content::Anew(kept) => {
                let present = match kept {
                    Some(kept) => present.f_mul(kept)?,
                    None => present,
                };
                let content = self.content.f_index_select(0, rows)?;
                (self.map.map(&content, &present)?, present)
            }
        };
        self.map.fuse(&mapped, &present, own)
    }

    /// Which parts of some rows a step of training learns from, `[len(rows), parts]`; `None`: all.
    /// `key` has the key of a row.
    pub fn dropout(
        &self,
        rows: &Tensor,
        key: impl Fn(usize) -> Option<TrackKey>,
        rng: &mut ChaCha8Rng,
    ) -> Result<Option<Tensor>, ModelError> {
        let share = self.settings.modality_dropout;
        if share == 0.0 || !self.map.parts().is_apart() {
            return Ok(None);
        }
        let dropout = ModalityDropout {
            share,
            step: rng.random(),
        };
        let present = self.present.f_index_select(0, rows)?;
        let (count, parts) = present.size2()?;
        let present = present.f_reshape([-1])?.f_to_device(Device::Cpu)?;
        let present = Vec::<f32>::try_from(present)?;
        let rows = Vec::<i64>::try_from(rows.f_to_device(Device::Cpu)?)?;
        let mut kept = Vec::with_capacity(present.len());
        for (row, present) in rows.iter().zip(present.chunks_exact(parts as usize)) {
            let key = key(*row as usize).unwrap_or(TrackKey(0));
            dropout.keep(key, present, &mut kept);
        }
        let kept = Tensor::f_from_slice(&kept)?.f_reshape([count, parts])?;
        Ok(Some(kept.f_to_device(self.device)?))
    }

    /// Recomputes the content's part and the vectors of some rows.
    pub fn refresh_content(&mut self, rows: &Tensor) -> Result<(), ModelError> {
        tch::no_grad(|| {
            let content = self.content.f_index_select(0, rows)?;
            let present = self.present.f_index_select(0, rows)?;
            let mapped = self.map.map(&content, &present)?;
            let _ = self.mapped.f_index_copy_(0, rows, &mapped)?;
            self.refresh(rows)
        })
    }

    /// Recomputes everything: the map has learnt.
    pub fn refresh_all(&mut self) -> Result<(), ModelError> {
        let mut stretches = Vec::new();
        let mut from = 0;
        while from < self.rows {
            let count = STRETCH.min(self.rows - from);
            let part = |table: &Tensor| table.f_narrow(0, from, count);
            stretches.push(Stretch {
                map: self.map.share(),
                content: part(&self.content)?,
                present: part(&self.present)?,
                residual: part(&self.residual)?,
                gates: part(&self.gates)?,
                mapped: part(&self.mapped)?,
                vectors: part(&self.vectors)?,
            });
            from += count;
        }
        threads::on_each(stretches, Stretch::refresh)?;
        let vectors = self.vectors()?;
        match &mut self.coarse {
            Some(coarse) => coarse.set_from(0, &vectors),
            None => Ok(()),
        }
    }

    /// Recomputes the vectors of some rows: their own parts have changed.
    pub fn refresh(&mut self, rows: &Tensor) -> Result<(), ModelError> {
        tch::no_grad(|| {
            let own = self.residuals(rows)?.f_mul(&self.gates(rows)?)?;
            let vectors = self.fused(rows, &own, Content::AsMapped)?;
            let _ = self.vectors.f_index_copy_(0, rows, &vectors)?;
            if let Some(coarse) = &mut self.coarse {
                coarse.set(rows, &vectors)?;
            }
            Ok(())
        })
    }

    /// What is learnt of some tracks alone: their own vectors `[len(rows), d]`, and Adagrad's sums
    /// `[len(rows)]`.
    pub fn learnt(&self, rows: &Tensor) -> Result<(Tensor, Tensor), ModelError> {
        Ok((self.residuals(rows)?, self.squares.f_index_select(0, rows)?))
    }

    /// Overwrites what was learnt of some tracks alone; their vectors are as they were until they are
    /// refreshed.
    pub fn put_back(
        &mut self,
        rows: &Tensor,
        residuals: &Tensor,
        squares: &Tensor,
    ) -> Result<(), ModelError> {
        tch::no_grad(|| {
            let _ = self.residual.f_index_copy_(0, rows, residuals)?;
            let _ = self.squares.f_index_copy_(0, rows, squares)?;
            Ok(())
        })
    }

    /// A step of row-wise Adagrad on tracks' own vectors.
    pub fn learn_residuals(
        &mut self,
        rows: &Tensor,
        gradient: &Tensor,
        learning_rate: f64,
    ) -> Result<(), ModelError> {
        adagrad_rows(
            &mut self.residual,
            &mut self.squares,
            rows,
            gradient,
            learning_rate,
            0.5,
        )
    }

    /// Tracks were played: `plays` are their new counts.
    pub fn set_plays(&mut self, rows: &Tensor, plays: &[u32]) -> Result<(), ModelError> {
        let gates: Vec<f32> = plays.iter().map(|&n| gate(n)).collect();
        tch::no_grad(|| {
            let gates = Tensor::f_from_slice(&gates)?
                .f_unsqueeze(-1)?
                .f_to_device(self.device)?;
            let _ = self.gates.f_index_copy_(0, rows, &gates)?;
            Ok(())
        })
    }

    /// The same map without rows.
    pub fn emptied(self) -> Result<Self, ModelError> {
        let parts = self.map.parts().clone();
        let mut empty = Self::new(&self.settings, parts, 0, self.device)?;
        empty.map = self.map;
        Ok(empty)
    }

    /// The same tower on memory of its own.
    pub fn copy(&self) -> Result<Self, ModelError> {
        let parts = self.map.parts().clone();
        let mut copy = Self::new(&self.settings, parts, 0, self.device)?;
        let pairs = [
            (&mut copy.content, &self.content),
            (&mut copy.present, &self.present),
            (&mut copy.residual, &self.residual),
            (&mut copy.squares, &self.squares),
            (&mut copy.gates, &self.gates),
            (&mut copy.mapped, &self.mapped),
            (&mut copy.vectors, &self.vectors),
        ];
        for (to, from) in pairs {
            *to = copied(from)?;
        }
        copy.rows = self.rows;
        copy_into(&copy.map.parameters(), &self.map.parameters())?;
        Ok(copy)
    }
}

/// The values on memory of their own, outside of any graph.
pub(crate) fn copied(tensor: &Tensor) -> Result<Tensor, ModelError> {
    tch::no_grad(|| {
        let mut copy = tensor.f_detach()?.f_empty_like()?;
        copy.f_copy_(tensor)?;
        Ok(copy)
    })
}

/// Overwrites the values of leaves.
pub(crate) fn copy_into(to: &[Tensor], from: &[Tensor]) -> Result<(), ModelError> {
    tch::no_grad(|| {
        for (to, from) in to.iter().zip(from) {
            to.f_detach()?.f_copy_(from)?;
        }
        Ok(())
    })
}

mod state;
#[cfg(test)]
mod tests;
