//! The best hits of many, in their final order, with room for little more than them.

use crate::index::Hit;

/// Collects into the caller's buffer; nothing is allocated once that has grown.
pub struct Best<'a> {
    hits: &'a mut Vec<Hit>,
    limit: usize,
    /// Once `limit` hits are held: the worst of them. What is not before it cannot enter.
    floor: Option<Hit>,
}

impl<'a> Best<'a> {
    /// Empties `hits` and collects at most `limit` there.
    pub fn new(hits: &'a mut Vec<Hit>, limit: usize) -> Self {
        hits.clear();
        Self {
            hits,
            limit,
            floor: None,
        }
    }

    /// Whether a hit of this score may still matter: saves the filter's call.
    pub fn wants(&self, hit: &Hit) -> bool {
        self.limit > 0 && self.floor.is_none_or(|floor| hit.order(&floor).is_lt())
    }

    /// Offers a hit; whether it is among the best so far, as far as is known.
    pub fn offer(&mut self, hit: Hit) -> bool {
        if !self.wants(&hit) {
            return false;
        }
        self.hits.push(hit);
        // Cut back when the buffer is double: constant work per hit, on average.
        if self.hits.len() >= self.limit.saturating_mul(2).max(64) {
            self.cut();
        }
        true
    }

    /// Sorts what is left.
    pub fn finish(mut self) {
        self.cut();
        self.hits.sort_unstable_by(Hit::order);
    }

    fn cut(&mut self) {
        if self.limit == 0 {
            self.hits.clear();
        } else if self.hits.len() > self.limit {
            let (_, &mut worst, _) = self.hits.select_nth_unstable_by(self.limit - 1, Hit::order);
            self.floor = Some(worst);
            self.hits.truncate(self.limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use segue_listen::TrackId;

    #[test]
    fn equals_sorting_everything() {
        let all: Vec<Hit> = (0..5000u32)
            .map(|i| Hit {
                track: TrackId(i),
                score: (i.wrapping_mul(2_654_435_761) >> 22) as f32,
            })
            .collect();
        let mut sorted = all.clone();
        sorted.sort_by(Hit::order);
        let mut hits = vec![all[0]; 3];
        for limit in [0, 1, 10, 63, 64, 4999, 5000, 6000, usize::MAX] {
            let mut best = Best::new(&mut hits, limit);
            for &hit in &all {
                best.offer(hit);
            }
            best.finish();
            assert_eq!(hits, sorted[..limit.min(all.len())], "limit {limit}");
        }
    }
}
