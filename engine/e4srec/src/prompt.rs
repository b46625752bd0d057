//! What the language model reads: instruction tokens, one vector per play, response tokens.
//!
//! As in E4SRec (Li et al. 2023) a play is its item's vector, projected to the model's width; to it
//! come the completion ratio of the play before (absent has its own vector) and a mark on plays
//! that open a session. All plays of a sequence are answered in one causal pass: the response
//! tokens of each play branch off behind it and see the past up to it and their own branch only. With
//! the history prompt words stand around each play's vector ([`crate::lines`]).

use tch::{Device, Kind, Tensor};

use crate::error::ModelError;
use crate::windows::Token;

/// One row of a pass: what the cache holds already, what is fed, where answers are read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RowPlan {
    /// Tokens in the cache.
    pub past: i64,
    /// Tokens that are fed.
    pub fed: i64,
    /// Fed tokens, by place, behind which an answer is read.
    pub reads: Vec<i64>,
}

/// How rows are laid out in one pass: the fed tokens, padded, then a branch of response tokens for
/// each read, padded.
#[derive(Debug)]
pub(crate) struct Layout {
    /// Branches of the row with the most.
    pub branches: i64,
    /// `[rows, length]`
    pub positions: Tensor,
    /// `[rows, 1, length, total]`
    pub mask: Tensor,
    /// Where in the flattened `[rows · length]` the answers stand, rows in order, each row's reads
    /// in order.
    pub answers: Vec<i64>,
    /// `fed + branches · response`
    pub length: i64,
}

impl Layout {
    /// For rows over a cache, or (all `past` 0) without one; `response` tokens to a branch.
    pub fn new(rows: &[RowPlan], response: i64) -> Result<Self, ModelError> {
        let fed = rows.iter().map(|row| row.fed).max().unwrap_or(0);
        let branches = match response {
            0 => 0,
            _ => rows.iter().map(|row| row.reads.len()).max().unwrap_or(0) as i64,
        };
        let length = fed + branches * response;
        let total = rows.iter().map(|row| row.past).max().unwrap_or(0) + length;
        let mut positions = Vec::with_capacity(rows.len() * length as usize);
        let mut mask = vec![false; rows.len() * (length * total) as usize];
        let mut answers = Vec::new();
        let mut lines = mask.chunks_exact_mut(total.max(1) as usize);
        for (number, row) in (0i64..).zip(rows) {
            for place in 0..fed {
                positions.push(row.past + place);
                if let Some(line) = lines.next() {
                    allow(line, 0, row.past + place + 1);
                }
            }
            for branch in 0..branches {
                // A row with fewer reads repeats its last one, unread.
                let read = row.reads.get(branch as usize).or(row.reads.last());
                let read = read.copied().unwrap_or(0);
                let own = row.past + fed + branch * response;
                for step in 0..response {
                    positions.push(row.past + read + 1 + step);
                    if let Some(line) = lines.next() {
                        allow(line, 0, row.past + read + 1);
                        allow(line, own, own + step + 1);
                    }
                }
            }
            for (branch, &read) in (0i64..).zip(&row.reads) {
                let place = match response {
                    0 => read,
                    _ => fed + (branch + 1) * response - 1,
                };
                answers.push(number * length + place);
            }
        }
        let count = rows.len() as i64;
        Ok(Self {
            branches,
            positions: Tensor::f_from_slice(&positions)?.f_reshape([count, length])?,
            mask: Tensor::f_from_slice(&mask)?.f_reshape([count, 1, length, total])?,
            answers,
            length,
        })
    }
}

fn allow(line: &mut [bool], from: i64, until: i64) {
    if let Some(part) = line.get_mut(from as usize..until as usize) {
        part.fill(true);
    }
}

/// What a batch of play tokens is made of, before it is projected; `[rows, length]` each.
#[derive(Debug, Default)]
pub(crate) struct TokenBatch {
    /// Row of the input table: a track's, or one of the special ones. Below 0 a word: `-1 - id`.
    pub items: Vec<i64>,
    /// The ratio of the play before; 0 where absent.
    pub ratios: Vec<f32>,
    pub absent: Vec<f32>,
    pub opens: Vec<f32>,
}

impl TokenBatch {
    pub fn push(&mut self, item: i64, token: Option<&Token>) {
        let ratio = token.and_then(|token| token.ratio_before);
        self.items.push(item);
        self.ratios.push(ratio.map_or(0.0, |ratio| ratio.value()));
        self.absent.push(f32::from(u8::from(ratio.is_none())));
        let opens = token.is_some_and(|token| token.opens_session);
        self.opens.push(f32::from(u8::from(opens)));
    }

    /// A word of the language model's own vocabulary.
    pub fn push_word(&mut self, id: i64) {
        self.items.push(-1 - id);
        self.ratios.push(0.0);
        self.absent.push(0.0);
        self.opens.push(0.0);
    }

    /// Rows as one batch, each filled up with `padding` to the length of the longest; and that length.
    pub fn joined(rows: Vec<Self>, padding: i64) -> (Self, usize) {
        let length = rows.iter().map(|row| row.items.len()).max().unwrap_or(0);
        let mut all = Self::default();
        for mut row in rows {
            while row.items.len() < length {
                row.push(padding, None);
            }
            all.items.append(&mut row.items);
            all.ratios.append(&mut row.ratios);
            all.absent.append(&mut row.absent);
            all.opens.append(&mut row.opens);
        }
        (all, length)
    }

    /// Ids of the words among the tokens, in order, 0 elsewhere, and where they are; `[rows, length]`
    /// each. `None` where there are none.
    pub fn words(&self, rows: i64) -> Result<Option<(Tensor, Tensor)>, ModelError> {
        if self.items.iter().all(|item| *item >= 0) {
            return Ok(None);
        }
        let shape = [rows, -1];
        let ids: Vec<i64> = self.items.iter().map(|item| (-1 - item).max(0)).collect();
        let are: Vec<bool> = self.items.iter().map(|item| *item < 0).collect();
        let ids = Tensor::f_from_slice(&ids)?.f_reshape(shape)?;
        Ok(Some((ids, Tensor::f_from_slice(&are)?.f_reshape(shape)?)))
    }

    /// Items `[rows, length]` and marks `[rows, length, 3]`.
    pub fn tensors(&self, rows: i64, device: Device) -> Result<(Tensor, Tensor), ModelError> {
        let shape = [rows, -1];
        let items = Tensor::f_from_slice(&self.items)?.f_reshape(shape)?;
        let column = |values: &[f32]| -> Result<Tensor, ModelError> {
            Ok(Tensor::f_from_slice(values)?.f_reshape(shape)?)
        };
        let marks = [
            column(&self.ratios)?,
            column(&self.absent)?,
            column(&self.opens)?,
        ];
        let marks = Tensor::f_stack(&marks, -1)?;
        Ok((
            items.f_to_device(device)?,
            marks.f_to_kind(Kind::Float)?.f_to_device(device)?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(layout: &Layout, row: i64, token: i64) -> Vec<i64> {
        let line: Vec<bool> = Vec::try_from(layout.mask.get(row).get(0).get(token)).unwrap();
        (0i64..)
            .zip(line)
            .filter(|(_, may)| *may)
            .map(|(at, _)| at)
            .collect()
    }

    #[test]
    fn branches_see_the_past_up_to_their_play_and_themselves() {
        let row = RowPlan {
            past: 2,
            fed: 3,
            reads: vec![0, 2],
        };
        let layout = Layout::new(&[row], 2).unwrap();
        assert_eq!((layout.branches, layout.length), (2, 7));
        assert_eq!(seen(&layout, 0, 1), [0, 1, 2, 3]);
        assert_eq!(seen(&layout, 0, 3), [0, 1, 2, 5]);
        assert_eq!(seen(&layout, 0, 4), [0, 1, 2, 5, 6]);
        assert_eq!(seen(&layout, 0, 6), [0, 1, 2, 3, 4, 7, 8]);
        let positions: Vec<i64> = Vec::try_from(layout.positions.get(0)).unwrap();
        assert_eq!(positions, [2, 3, 4, 3, 4, 5, 6]);
        assert_eq!(layout.answers, [4, 6]);
    }

    #[test]
    fn without_response_the_play_answers() {
        let rows = [
            RowPlan {
                past: 0,
                fed: 2,
                reads: vec![1],
            },
            RowPlan {
                past: 4,
                fed: 1,
                reads: vec![0],
            },
        ];
        let layout = Layout::new(&rows, 0).unwrap();
        assert_eq!(layout.answers, [1, 2]);
        assert_eq!(layout.mask.size(), [2, 1, 2, 6]);
        assert_eq!(seen(&layout, 1, 0), [0, 1, 2, 3, 4]);
        assert_eq!(seen(&layout, 0, 0), [0]);
    }
}
