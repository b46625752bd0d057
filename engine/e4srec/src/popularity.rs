//! How often tracks were played, as the models' features and their negative samples need it.

use std::collections::VecDeque;

use segue_listen::TrackKey;
use serde::{Deserialize, Serialize};

use crate::error::ModelError;

/// Counts by dense id, the newest plays, and the order of keys.
#[derive(Clone, Debug)]
pub(crate) struct Popularity {
    plays: Vec<u32>,
    /// Fading counts, scaled up by `scale`.
    fading: Vec<f64>,
    scale: f64,
    growth: f64,
    recent: VecDeque<u32>,
    recent_capacity: usize,
    recent_counts: Vec<u32>,
    /// Rows in the order of their keys.
    order: Vec<(u64, u32)>,
}

/// What of it is in a checkpoint; the rest follows from the settings and the tracks' keys.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Counted {
    plays: Vec<u32>,
    fading: Vec<f64>,
    scale: f64,
    recent: VecDeque<u32>,
}

impl Popularity {
    /// What belongs into a checkpoint.
    pub fn kept(&self) -> Counted {
        Counted {
            plays: self.plays.clone(),
            fading: self.fading.clone(),
            scale: self.scale,
            recent: self.recent.clone(),
        }
    }

    /// Takes up what was kept of tracks with these keys.
    pub fn take_up(&mut self, kept: Counted, keys: &[TrackKey]) -> Result<(), ModelError> {
        let rows = keys.len();
        let whole = kept.plays.len() == rows
            && kept.fading.len() == rows
            && kept.scale.is_finite()
            && kept.scale >= 1.0
            && kept.fading.iter().all(|fading| fading.is_finite())
            && kept.recent.len() <= self.recent_capacity;
        let mut recent_counts = vec![0u32; rows];
        for &row in &kept.recent {
            let count = recent_counts.get_mut(row as usize);
            *count
                .ok_or_else(|| ModelError::State(format!("a play of track {row} of {rows}")))? += 1;
        }
        if !whole {
            return Err(ModelError::State(format!(
                "popularity of {} and {} tracks of {rows}, scaled by {}, over {} newest plays",
                kept.plays.len(),
                kept.fading.len(),
                kept.scale,
                kept.recent.len()
            )));
        }
        self.order = keys.iter().map(|key| key.digest()).zip(0..).collect();
        self.sort();
        self.plays = kept.plays;
        self.fading = kept.fading;
        self.scale = kept.scale;
        self.recent = kept.recent;
        self.recent_counts = recent_counts;
        Ok(())
    }

    /// A play counts half after `half_life` more; the last `recent` plays are kept.
    pub fn new(half_life: f64, recent: usize) -> Self {
        Self {
            plays: Vec::new(),
            fading: Vec::new(),
            scale: 1.0,
            growth: (std::f64::consts::LN_2 / half_life).exp(),
            recent: VecDeque::new(),
            recent_capacity: recent,
            recent_counts: Vec::new(),
            order: Vec::new(),
        }
    }

    pub fn rows(&self) -> usize {
        self.plays.len()
    }

    /// A track with what is known of its past.
    pub fn admit(&mut self, key: TrackKey, plays: u32, fading: f64) {
        let row = self.plays.len() as u32;
        self.plays.push(plays);
        self.fading.push(fading * self.scale);
        self.recent_counts.push(0);
        self.order.push((key.digest(), row));
    }

    /// To be called when all of a batch were admitted.
    pub fn sort(&mut self) {
        self.order.sort_unstable();
    }

    /// A play; `None` for a track that is not admitted. The track's new count.
    pub fn play(&mut self, row: usize) -> Option<u32> {
        self.scale *= self.growth;
        if self.scale > 1e12 {
            for fading in &mut self.fading {
                *fading /= self.scale;
            }
            self.scale = 1.0;
        }
        let plays = self.plays.get_mut(row)?;
        *plays = plays.saturating_add(1);
        let plays = *plays;
        if let Some(fading) = self.fading.get_mut(row) {
            *fading += self.scale;
        }
        if self.recent.len() >= self.recent_capacity
            && let Some(old) = self.recent.pop_front()
            && let Some(count) = self.recent_counts.get_mut(old as usize)
        {
            *count -= 1;
        }
        self.recent.push_back(row as u32);
        if let Some(count) = self.recent_counts.get_mut(row) {
            *count += 1;
        }
        Some(plays)
    }

    /// `ln(1 + fading plays)` of all tracks.
    pub fn levels(&self) -> Vec<f32> {
        self.fading
            .iter()
            .map(|fading| (fading / self.scale).ln_1p() as f32)
            .collect()
    }

    /// The fading count of one track.
    pub fn fading(&self, row: usize) -> f64 {
        self.fading
            .get(row)
            .map_or(0.0, |fading| fading / self.scale)
    }

    /// All plays of one track.
    pub fn plays(&self, row: usize) -> u32 {
        self.plays.get(row).copied().unwrap_or(0)
    }

    /// All rows, in the order of keys.
    pub fn order(&self) -> Vec<u32> {
        self.order.iter().map(|&(_, row)| row).collect()
    }

    /// The newest plays, oldest first.
    pub fn recent(&mut self) -> &[u32] {
        self.recent.make_contiguous()
    }

    /// How often each row is among the newest plays.
    pub fn clone_counts(&self) -> Vec<u32> {
        self.recent_counts.clone()
    }

    /// How often a row is among the newest plays.
    #[cfg(test)]
    pub fn recent_count(&self, row: u32) -> u32 {
        self.recent_counts.get(row as usize).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plays_fade_and_the_newest_are_kept() {
        let mut popularity = Popularity::new(10.0, 3);
        for id in 0..3 {
            popularity.admit(TrackKey(id), 0, 0.0);
        }
        popularity.sort();
        for row in [0usize; 5].into_iter().chain([1; 10]) {
            assert!(popularity.play(row).is_some());
        }
        assert!(
            (popularity.fading(0)
                - (0..5)
                    .map(|k| 0.5f64.powf(1.0 + f64::from(k) / 10.0))
                    .sum::<f64>())
            .abs()
                < 1e-9
        );
        assert_eq!(popularity.play(9), None);
        assert_eq!((popularity.plays(0), popularity.plays(1)), (5, 10));
        assert_eq!(popularity.recent(), [1, 1, 1]);
        assert_eq!(
            (popularity.recent_count(0), popularity.recent_count(1)),
            (0, 3)
        );
        let mut order = popularity.order();
        order.sort_unstable();
        assert_eq!(order, [0, 1, 2]);
    }
}
