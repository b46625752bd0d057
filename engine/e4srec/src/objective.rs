//! What is minimised, offline and online alike: the softmax over all tracks, or over a sample of
//! them in which each listener's own tracks are always present.

use std::collections::HashMap;

use rand_chacha::ChaCha8Rng;
use segue_listen::TrackId;
use tch::{Device, Kind, Tensor};

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
    /// What is added to the logits of the first so many, which were drawn, `[drawn]`; the others are only
    /// named by questions. `None` if these are all tracks.
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
        let query = head.query(inputs)?;
        let named = self.named(questions, &targets);
        let asked_at = &questions.asked_at;
        match &self.correction {
            None => {
                let targets = self.index(&targets)?;
                let logits = self.among_all(head, &query, vectors, &named)?;
                full_softmax(&self.without_later(logits, asked_at)?, &targets)
            }
            Some(correction) => {
                let drawn = self.among_drawn(head, (&query, vectors), correction, &named)?;
                let drawn = self.without_later(drawn, asked_at)?;
                let (beside, targets) = self.beside(head, (&query, vectors), &named, &targets)?;
                let targets = self
                    .index(&targets)?
                    .f_add_scalar(correction.numel() as i64)?;
                full_softmax(&Tensor::f_cat(&[drawn, beside], 1)?, &targets)
            }
        }
    }

    fn index(&self, values: &[i64]) -> Result<Tensor, ModelError> {
        Ok(Tensor::f_from_slice(values)?.f_to_device(self.rows.device())?)
    }

    /// What the questions name, their answers among it.
    fn named(&self, questions: &Questions, targets: &[i64]) -> NamedTracks {
        let mut named = NamedTracks::default();
        let chunks = questions.features.chunks_exact(FEATURES);
        for (&(question, row), features) in questions.own.iter().zip(chunks) {
            if let Some(column) = self.column(row) {
                named.push(question, column, features);
            }
        }
        for &question in &questions.surprised {
            if let Some(&target) = targets.get(question as usize) {
                named.push(question, target, &[0.0; FEATURES]);
            }
        }
        named
    }

    /// Logits of all candidates, `[questions, candidates]`.
    fn among_all(
        &self,
        head: &Head,
        query: &Tensor,
        vectors: &Tensor,
        named: &NamedTracks,
    ) -> Result<Tensor, ModelError> {
        // The table of logits is large: it is gone through as few times as can be.
        let products = query.f_matmul(&vectors.f_tr()?)?;
        let levels = head.popularity(&self.levels)?;
        let (at, columns) = (self.index(&named.at)?, self.index(&named.columns)?);
        let personal = products
            .f_index(&[Some(&at), Some(&columns)])?
            .f_add(&levels.f_index_select(0, &columns)?)?
            .f_add(&head.personal(&named.features)?)?;
        let mut logits = products.f_add(&levels)?;
        let _ = logits.f_index_put_(&[Some(at), Some(columns)], &personal, false)?;
        Ok(logits)
    }

    /// Corrected logits of what was drawn, `[questions, drawn]`, without what the question names: that is in its
    /// sample for certain.
    fn among_drawn(
        &self,
        head: &Head,
        (query, vectors): (&Tensor, &Tensor),
        correction: &Tensor,
        named: &NamedTracks,
    ) -> Result<Tensor, ModelError> {
        let drawn = correction.numel() as i64;
        let levels = head.popularity(&self.levels.f_narrow(0, 0, drawn)?)?;
        let mut logits = query
            .f_matmul(&vectors.f_narrow(0, 0, drawn)?.f_tr()?)?
            .f_add(&levels.f_add(correction)?)?;
        let both = named.at.iter().zip(&named.columns);
        let both = both.filter(|&(_, &column)| column < drawn);
        let (at, columns): (Vec<i64>, Vec<i64>) = both.map(|(&at, &column)| (at, column)).unzip();
        if !at.is_empty() {
            let at = [Some(self.index(&at)?), Some(self.index(&columns)?)];
            let nothing = f64::from(f32::NEG_INFINITY);
            let nothing = Tensor::f_full([1], nothing, (Kind::Float, query.device()))?;
            let _ = logits.f_index_put_(&at, &nothing, false)?;
        }
        Ok(logits)
    }

    /// Logits of what each question names, `[questions, most]`, and the columns of the answers there. One
    /// question names few of what all name together: a table of all would be mostly empty.
    fn beside(
        &self,
        head: &Head,
        (query, vectors): (&Tensor, &Tensor),
        named: &NamedTracks,
        targets: &[i64],
    ) -> Result<(Tensor, Vec<i64>), ModelError> {
        let Places {
            most,
            places,
            answers,
        } = named.places(targets);
        let (at, columns) = (self.index(&named.at)?, self.index(&named.columns)?);
        // Rows that are taken many times: the gradient of an embedding adds them up fastest.
        let taken =
            |table: &Tensor, rows: &Tensor| Tensor::f_embedding(table, rows, -1, false, false);
        let levels = head.popularity(&self.levels.f_index_select(0, &columns)?)?;
        let logits = taken(query, &at)?
            .f_mul(&taken(vectors, &columns)?)?
            .f_sum_dim_intlist(&[-1i64][..], false, Kind::Float)?
            .f_add(&levels)?
            .f_add(&head.personal(&named.features)?)?;
        let questions = targets.len() as i64;
        let nothing = f64::from(f32::NEG_INFINITY);
        let logits = Tensor::f_full([questions * most], nothing, (Kind::Float, query.device()))?
            .f_index_put(&[Some(self.index(&places)?)], &logits, false)?;
        Ok((logits.f_reshape([questions, most])?, answers))
    }

    /// Logits `[questions, columns]` without the tracks that came after their question was asked.
    fn without_later(&self, mut logits: Tensor, asked_at: &[i64]) -> Result<Tensor, ModelError> {
        let Some((columns, came_at)) = &self.came_at else {
            return Ok(logits);
        };
        let (_, width) = logits.size2()?;
        let there = columns.f_lt(width)?;
        let (columns, came_at) = (
            columns.f_masked_select(&there)?,
            came_at.f_masked_select(&there)?,
        );
        let later = came_at.f_gt_tensor(&self.index(asked_at)?.f_unsqueeze(-1)?)?;
        let masked = logits
            .f_index_select(1, &columns)?
            .f_masked_fill(&later, f64::NEG_INFINITY)?;
        let _ = logits.f_index_copy_(1, &columns, &masked)?;
        Ok(logits)
    }
}

/// What questions name: one question, one column and its features each.
#[derive(Debug, Default)]
struct NamedTracks {
    at: Vec<i64>,
    columns: Vec<i64>,
    features: Vec<f32>,
}

/// Where what is named stands in a table with a row for each question.
struct Places {
    /// Columns of the table: as many as one question names at most.
    most: i64,
    places: Vec<i64>,
    /// The column of each question's answer.
    answers: Vec<i64>,
}

impl NamedTracks {
    fn push(&mut self, question: i64, column: i64, features: &[f32]) {
        self.at.push(question);
        self.columns.push(column);
        self.features.extend_from_slice(features);
    }

    fn places(&self, targets: &[i64]) -> Places {
        let mut counts = vec![0i64; targets.len()];
        let mut answers = vec![0; targets.len()];
        let mut columns = Vec::with_capacity(self.at.len());
        for (&question, &column) in self.at.iter().zip(&self.columns) {
            let question = question as usize;
            let (Some(count), Some(answer)) = (counts.get_mut(question), answers.get_mut(question))
            else {
                continue;
            };
            if targets.get(question) == Some(&column) {
                *answer = *count;
            }
            columns.push(*count);
            *count += 1;
        }
        let most = counts.into_iter().max().unwrap_or(0);
        let places = self.at.iter().zip(columns);
        Places {
            most,
            places: places
                .map(|(question, column)| question * most + column)
                .collect(),
            answers,
        }
    }
}

#[cfg(test)]
mod tests;
