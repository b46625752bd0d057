//! What is minimised, offline and online alike: the softmax over all tracks, or over a sample of
//! them in which each listener's own tracks are always present.

use std::collections::HashMap;

use rand_chacha::ChaCha8Rng;
use segue_listen::TrackId;
use tch::{Device, Tensor};

use crate::error::ModelError;
use crate::head::{Head, QueryInputs};
use crate::loss::{draw_sample, full_softmax};
use crate::personal::{FEATURES, Personal};
use crate::popularity::Popularity;

/// The questions of one step.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    /// Row of what was played.
    pub targets: Vec<u32>,
    /// Each question's place in time: tracks that came after it are not compared. Empty where none
    /// did.
    pub asked_at: Vec<i64>,
    /// Question, row and features of each track in the questions' contexts.
    own: Vec<(i64, u32)>,
    features: Vec<f32>,
    /// Questions whose answer is not in their context.
    surprised: Vec<i64>,
}

impl Questions {
    /// A question with the tracks of its context; those without a row are left out.
    pub fn push(&mut self, target: TrackId, personal: &Personal, rows: usize) {
        let question = self.targets.len() as i64;
        self.targets.push(target.0);
        let mut expected = false;
        for (track, features) in personal.tracks.iter().zip(&personal.features) {
            if track.row() < rows {
                self.own.push((question, track.0));
                self.features.extend_from_slice(features);
                expected |= *track == target;
            }
        }
        if !expected {
            self.surprised.push(question);
        }
    }
}

/// The tracks that a step compares.
#[derive(Debug)]
pub(crate) struct Candidates {
    /// `[candidates]`
    pub rows: Tensor,
    /// What is added to each logit: `[candidates]`, `None` if these are all tracks.
    correction: Option<Tensor>,
    /// Column by row; `u32::MAX` for none.
    column: Vec<u32>,
    levels: Tensor,
    /// Columns of those that came after the first question, and when: `[late]` each.
    came_at: Option<(Tensor, Tensor)>,
}

impl Candidates {
    /// The first `all` tracks if they are at most `limit`, else a sample of `limit` draws with all
    /// that the questions name.
    pub fn choose(
        questions: &[&Questions],
        popularity: &mut Popularity,
        levels: &[f32],
        (all, limit): (usize, usize),
        rng: &mut ChaCha8Rng,
        device: Device,
    ) -> Result<Self, ModelError> {
        let mut column = vec![u32::MAX; all];
        let mut rows: Vec<i64> = Vec::new();
        let mut correction = None;
        if all <= limit {
            rows.extend(0..all as i64);
        } else {
            let mut order = popularity.order();
            order.retain(|&row| (row as usize) < all);
            let counts = popularity.clone_counts();
            let count = |row: u32| counts.get(row as usize).copied().unwrap_or(0);
            let sample = draw_sample(&order, popularity.recent(), count, limit, rng);
            let mut values = Vec::new();
            for (&row, &log) in sample.items.iter().zip(&sample.log_inclusion) {
                if let Some(place) = column.get_mut(row as usize) {
                    *place = rows.len() as u32;
                    rows.push(i64::from(row));
                    values.push(-log);
                }
            }
            let own = questions.iter().flat_map(|some| &some.own);
            let targets = questions.iter().flat_map(|some| &some.targets);
            for row in own.map(|&(_, row)| row).chain(targets.copied()) {
                if let Some(place) = column.get_mut(row as usize)
                    && *place == u32::MAX
                {
                    *place = rows.len() as u32;
                    rows.push(i64::from(row));
                    values.push(f32::NEG_INFINITY);
                }
            }
            correction = Some(Tensor::f_from_slice(&values)?.f_to_device(device)?);
        }
        if correction.is_none() {
            for (place, row) in column.iter_mut().zip(0u32..) {
                *place = row;
            }
        }
        let levels: Vec<f32> = rows
            .iter()
            .map(|&row| levels.get(row as usize).copied().unwrap_or(0.0))
            .collect();
        Ok(Self {
            rows: Tensor::f_from_slice(&rows)?.f_to_device(device)?,
            correction,
            column,
            levels: Tensor::f_from_slice(&levels)?.f_to_device(device)?,
            came_at: None,
        })
    }

    /// Tells when those candidates came that came after the first question, by row.
    pub fn tell_when(&mut self, came_at: &HashMap<u32, i64>) -> Result<(), ModelError> {
        let mut late: Vec<(i64, i64)> = came_at
            .iter()
            .filter_map(|(&row, &when)| Some((self.column(row)?, when)))
            .collect();
        late.sort_unstable();
        let (columns, when): (Vec<i64>, Vec<i64>) = late.into_iter().unzip();
        let device = self.rows.device();
        let index = |values: &[i64]| Tensor::f_from_slice(values)?.f_to_device(device);
        self.came_at = match columns.is_empty() {
            true => None,
            false => Some((index(&columns)?, index(&when)?)),
        };
        Ok(())
    }

    fn column(&self, row: u32) -> Option<i64> {
        let column = self.column.get(row as usize).copied()?;
        (column != u32::MAX).then(|| i64::from(column))
    }

    /// The mean loss of the questions. `vectors` `[candidates, d]` are the candidates'.
    pub fn loss(
        &self,
        head: &Head,
        inputs: &QueryInputs,
        vectors: &Tensor,
        questions: &Questions,
    ) -> Result<Tensor, ModelError> {
        let device = vectors.device();
        let index = |values: &[i64]| -> Result<Tensor, ModelError> {
            Ok(Tensor::f_from_slice(values)?.f_to_device(device)?)
        };
        let (mut at, mut columns) = (Vec::new(), Vec::new());
        let mut features = Vec::with_capacity(questions.features.len());
        let chunks = questions.features.chunks_exact(FEATURES);
        for (&(question, row), values) in questions.own.iter().zip(chunks) {
            if let Some(column) = self.column(row) {
                at.push(question);
                columns.push(column);
                features.extend_from_slice(values);
            }
        }
        let targets: Vec<i64> = questions
            .targets
            .iter()
            .filter_map(|&row| self.column(row))
            .collect();
        if targets.len() != questions.targets.len() {
            return Err(ModelError::Data(
                "a target is not among the candidates".into(),
            ));
        }
        for &question in &questions.surprised {
            at.push(question);
            columns.extend(targets.get(question as usize));
            features.extend_from_slice(&[0.0; FEATURES]);
        }
        // The table of logits is large: it is gone through as few times as can be.
        let products = head.query(inputs)?.f_matmul(&vectors.f_tr()?)?;
        let levels = head.popularity(&self.levels)?;
        // What a question names is in its sample for certain: it is not corrected.
        let (at, columns) = (index(&at)?, index(&columns)?);
        let certain = products
            .f_index(&[Some(&at), Some(&columns)])?
            .f_add(&levels.f_index_select(0, &columns)?)?
            .f_add(&head.personal(&features)?)?;
        let base = match &self.correction {
            None => levels,
            Some(correction) => levels.f_add(correction)?,
        };
        let mut logits = products.f_add(&base)?;
        let _ = logits.f_index_put_(&[Some(at), Some(columns)], &certain, false)?;
        if let Some((columns, came_at)) = &self.came_at {
            let asked_at = index(&questions.asked_at)?.f_unsqueeze(-1)?;
            let later = came_at.f_gt_tensor(&asked_at)?;
            let masked = logits
                .f_index_select(1, columns)?
                .f_masked_fill(&later, f64::NEG_INFINITY)?;
            let _ = logits.f_index_copy_(1, columns, &masked)?;
        }
        full_softmax(&logits, &index(&targets)?)
    }
}
