//! Vectors for every track there is, new ones included: `v_i = f(content_i) + g(n_i) · e_i`.
//!
//! `f` is a linear map of the content that begins as a random projection (which keeps likeness;
//! Johnson and Lindenstrauss) plus a perceptron that begins at zero; a track whose content is not
//! known yet has a learnt stand-in. `e_i` begins at zero, or at the item encoder's vector, and is
//! trusted more the more often the track was played: `g(n) = ln(1+n) / (1 + ln(1+n))`. A fixed
//! output layer could not score a track that came after it was trained; this can.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use crate::chance::normals;
use crate::coarse::Coarse;
use crate::error::ModelError;
use crate::optimise::{ADAGRAD_BEGIN, adagrad_rows};
use crate::settings::TowerSettings;

/// The trust in a track's own vector after `plays` plays, in [0, 1).
pub(crate) fn gate(plays: u32) -> f32 {
    let level = (plays as f32).ln_1p();
    level / (1.0 + level)
}

/// What every item shares: the parameters of `f`. Leaves that require gradients.
#[derive(Debug)]
pub(crate) struct ContentMap {
    /// `[d, content]`
    linear: Tensor,
    /// `[hidden, content]`
    inner: Tensor,
    inner_bias: Tensor,
    /// `[d, hidden]`
    outer: Tensor,
    /// `[d]`, for a track without content.
    stand_in: Tensor,
}

impl ContentMap {
    fn new(settings: &TowerSettings, seed: u64, device: Device) -> Result<Self, ModelError> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let content = settings.content as i64;
        let (d, half) = (settings.dimensions, settings.dimensions / 2);
        let projection = normals(&[half, content], (half as f32).powf(-0.5), &mut rng, device)?;
        let rest = Tensor::f_zeros([d - half, content], (Kind::Float, device))?;
        let deviation = (content as f32).powf(-0.5);
        let zeros = |shape: &[i64]| Tensor::f_zeros(shape, (Kind::Float, device));
        let leaf = |tensor: Tensor| tensor.f_set_requires_grad(true);
        Ok(Self {
            linear: leaf(Tensor::f_cat(&[&projection, &rest], 0)?)?,
            inner: leaf(normals(
                &[settings.hidden, content],
                deviation,
                &mut rng,
                device,
            )?)?,
            inner_bias: leaf(zeros(&[settings.hidden])?)?,
            outer: leaf(zeros(&[d, settings.hidden])?)?,
            stand_in: leaf(zeros(&[d])?)?,
        })
    }

    pub fn parameters(&self) -> Vec<Tensor> {
        [
            &self.linear,
            &self.inner,
            &self.inner_bias,
            &self.outer,
            &self.stand_in,
        ]
        .map(Tensor::shallow_clone)
        .into()
    }

    /// `content` `[n, content]`, `known` `[n, 1]` (1 where there is content) to `[n, d]`.
    fn apply(&self, content: &Tensor, known: &Tensor) -> Result<Tensor, ModelError> {
        let wide = content
            .f_linear(&self.inner, Some(&self.inner_bias))?
            .f_relu()?;
        let mapped = content
            .f_linear(&self.linear, None::<&Tensor>)?
            .f_add(&wide.f_linear(&self.outer, None::<&Tensor>)?)?;
        let unknown = known.f_neg()?.f_add_scalar(1.0)?;
        Ok(mapped
            .f_mul(known)?
            .f_add(&unknown.f_mul(&self.stand_in)?)?)
    }
}

/// The tables, one row per admitted track, and the vectors that follow from them.
#[derive(Debug)]
pub(crate) struct ItemTower {
    pub map: ContentMap,
    settings: TowerSettings,
    device: Device,
    rows: i64,
    /// `[capacity, content]`
    content: Tensor,
    /// `[capacity, 1]`
    known: Tensor,
    /// `[capacity, d]`
    residual: Tensor,
    /// Adagrad's sums, `[capacity]`
    squares: Tensor,
    /// `[capacity, 1]`
    gates: Tensor,
    /// `f(content)`, `[capacity, d]`
    mapped: Tensor,
    /// The vectors as of the last refresh, `[capacity, d]`
    vectors: Tensor,
    /// The same in eight bits, once somebody has asked for them.
    coarse: Option<Coarse>,
}

/// What is known of a track when it gets its row.
#[derive(Clone, Debug, Default)]
pub(crate) struct NewRow {
    pub content: Option<Vec<f32>>,
    pub residual: Option<Vec<f32>>,
    pub plays: u32,
}

impl ItemTower {
    pub fn new(settings: &TowerSettings, seed: u64, device: Device) -> Result<Self, ModelError> {
        let zeros = |width: i64| Tensor::f_zeros([0, width], (Kind::Float, device));
        let d = settings.dimensions;
        Ok(Self {
            map: ContentMap::new(settings, seed, device)?,
            settings: settings.clone(),
            device,
            rows: 0,
            content: zeros(settings.content as i64)?,
            known: zeros(1)?,
            residual: zeros(d)?,
            squares: Tensor::f_zeros([0], (Kind::Float, device))?,
            gates: zeros(1)?,
            mapped: zeros(d)?,
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
        if self.known.f_double_value(&[row, 0])? == 0.0 {
            return Ok(false);
        }
        let held: Vec<f32> = Vec::try_from(self.content.f_get(row)?.f_to_device(Device::Cpu)?)?;
        Ok(held == values)
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
        let known: Vec<f32> = new
            .iter()
            .map(|row| f32::from(u8::from(row.content.is_some())))
            .collect();
        let gates: Vec<f32> = new.iter().map(|row| gate(row.plays)).collect();
        let put = |table: &Tensor, values: &[f32]| -> Result<(), ModelError> {
            let mut place = table.f_narrow(0, self.rows, count)?;
            let values = Tensor::f_from_slice(values)?.f_reshape(place.size())?;
            place.f_copy_(&values)?;
            Ok(())
        };
        tch::no_grad(|| {
            put(&self.content, &contents)?;
            put(&self.known, &known)?;
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
        tch::no_grad(|| {
            let values = Tensor::f_from_slice(values)?;
            self.content.f_get(row)?.f_copy_(&values)?;
            let _ = self.known.f_get(row)?.f_fill_(1.0)?;
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
                &mut self.known,
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

    /// `f(content)` of some rows, differentiable in the map's parameters, `[len(rows), d]`.
    pub fn mapped(&self, rows: &Tensor) -> Result<Tensor, ModelError> {
        self.map.apply(
            &self.content.f_index_select(0, rows)?,
            &self.known.f_index_select(0, rows)?,
        )
    }

    /// `f(content)` of some rows as of the last refresh.
    pub fn mapped_as_is(&self, rows: &Tensor) -> Result<Tensor, ModelError> {
        Ok(self.mapped.f_index_select(0, rows)?)
    }

    /// Recomputes the content's part and the vectors of some rows.
    pub fn refresh_content(&mut self, rows: &Tensor) -> Result<(), ModelError> {
        tch::no_grad(|| {
            let mapped = self.mapped(rows)?;
            let _ = self.mapped.f_index_copy_(0, rows, &mapped)?;
            self.refresh(rows)
        })
    }

    /// Recomputes everything: the map has learnt.
    pub fn refresh_all(&mut self) -> Result<(), ModelError> {
        const CHUNK: i64 = 8_192;
        let mut from = 0;
        while from < self.rows {
            let until = (from + CHUNK).min(self.rows);
            let rows = Tensor::f_arange_start(from, until, (Kind::Int64, self.device))?;
            self.refresh_content(&rows)?;
            from = until;
        }
        Ok(())
    }

    /// Recomputes the vectors of some rows: their own parts have changed.
    pub fn refresh(&mut self, rows: &Tensor) -> Result<(), ModelError> {
        tch::no_grad(|| {
            let own = self.residuals(rows)?.f_mul(&self.gates(rows)?)?;
            let vectors = self.mapped_as_is(rows)?.f_add(&own)?;
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
        let mut empty = Self::new(&self.settings, 0, self.device)?;
        empty.map = self.map;
        Ok(empty)
    }

    /// The same tower on memory of its own.
    pub fn copy(&self) -> Result<Self, ModelError> {
        let mut copy = Self::new(&self.settings, 0, self.device)?;
        let pairs = [
            (&mut copy.content, &self.content),
            (&mut copy.known, &self.known),
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
mod tests {
    use super::*;

    fn settings() -> TowerSettings {
        TowerSettings {
            dimensions: 8,
            hidden: 4,
            content: 3,
            id_dropout: 0.0,
        }
    }

    fn values(tower: &ItemTower, row: i64) -> Vec<f32> {
        Vec::try_from(tower.vectors().unwrap().get(row)).unwrap()
    }

    #[test]
    fn rows_survive_growth_and_content_comes_late() {
        let mut tower = ItemTower::new(&settings(), 1, Device::Cpu).unwrap();
        let known = NewRow {
            content: Some(vec![1.0, 0.0, 0.0]),
            ..NewRow::default()
        };
        let encoded = NewRow {
            content: None,
            residual: Some(vec![2.0, 4.0]),
            plays: 10,
        };
        tower.grow(&[known, NewRow::default(), encoded]).unwrap();
        let before: Vec<Vec<f32>> = (0..3).map(|row| values(&tower, row)).collect();
        assert!(before[0].iter().any(|&x| x != 0.0));
        assert_eq!(before[1], [0.0; 8]);
        assert!((before[2][7] - 4.0 * gate(10)).abs() < 1e-5);
        assert_eq!(before[2][5], 0.0);
        for _ in 0..5 {
            tower.grow(&vec![NewRow::default(); 40]).unwrap();
        }
        for (row, before) in (0i64..).zip(&before) {
            assert_eq!(&values(&tower, row), before);
        }
        tower.set_content(1, &[1.0, 0.0, 0.0]).unwrap();
        tower.refresh_content(&Tensor::from_slice(&[1i64])).unwrap();
        assert_eq!(values(&tower, 1), before[0]);
    }

    #[test]
    fn trust_grows_with_plays() {
        assert_eq!(gate(0), 0.0);
        assert!(gate(1) > 0.4 && gate(1) < gate(2) && gate(u32::MAX) < 1.0);
    }

    #[test]
    fn a_copy_learns_alone() {
        let mut tower = ItemTower::new(&settings(), 1, Device::Cpu).unwrap();
        let row = NewRow {
            residual: Some(vec![1.0; 8]),
            plays: 3,
            ..NewRow::default()
        };
        tower.grow(&[row]).unwrap();
        let before = values(&tower, 0);
        let mut copy = tower.copy().unwrap();
        let rows = Tensor::from_slice(&[0i64]);
        let gradient = Tensor::ones([1, 8], (Kind::Float, Device::Cpu));
        copy.learn_residuals(&rows, &gradient, 0.1).unwrap();
        copy.refresh(&rows).unwrap();
        assert_ne!(values(&copy, 0), before);
        assert_eq!(values(&tower, 0), before);
    }
}
