//! The log as a model learns it: with dense ids of its own, in the order of keys.

use std::collections::HashMap;

use segue_listen::{TrackId, TrackKey};
use segue_recommend::ContextPlay;
use segue_recommend::recommender::Admitted;
use segue_recommend::training::TrainingLog;
use tch::Tensor;
use xxhash_rust::xxh3::Xxh3;

use super::check_content;
use crate::backbone::Foundation;
use crate::error::ModelError;
use crate::item_tower::{ItemTower, NewRow};
use crate::lines::Lines;
use crate::model::Trained;
use crate::popularity::Popularity;
use crate::settings::E4SRecSettings;

/// The log with its own dense ids: rows in the order of keys.
pub(super) struct Material {
    pub log: TrainingLog,
    pub keys: Vec<TrackKey>,
    pub tower: ItemTower,
    pub lines: Lines,
    pub popularity: Popularity,
    pub levels: Vec<f32>,
    /// XXH3 of the vectors that tracks begin with.
    vectors: u128,
}

impl Material {
    pub fn new(
        foundation: &Foundation,
        log: &TrainingLog,
        admitted: &[Admitted<'_>],
        encoded: &HashMap<TrackKey, Vec<f32>>,
        settings: &E4SRecSettings,
    ) -> Result<Self, ModelError> {
        let by_id: HashMap<TrackId, &Admitted<'_>> =
            admitted.iter().map(|track| (track.track, track)).collect();
        let mut tracks: Vec<&Admitted<'_>> = Vec::new();
        for (id, &count) in (0u32..).zip(&log.play_counts()) {
            if count > 0 {
                let known = by_id.get(&TrackId(id)).copied().ok_or_else(|| {
                    ModelError::Data(format!(
                        "track id {id} is in the training log but was not admitted: give its key"
                    ))
                })?;
                tracks.push(known);
            }
        }
        tracks.sort_unstable_by_key(|track| (track.key.digest(), track.key));
        tracks.dedup_by_key(|track| track.key);
        let row_of: HashMap<TrackKey, u32> =
            tracks.iter().map(|track| track.key).zip(0..).collect();
        let mut own = TrainingLog::default();
        let row = |play: &ContextPlay| {
            let key = by_id.get(&play.track)?.key;
            Some(ContextPlay {
                track: TrackId(*row_of.get(&key)?),
                ..*play
            })
        };
        for (&key, plays) in log.keys.iter().zip(log.sequences()) {
            own.push_keyed(key, plays.iter().filter_map(row));
        }
        let parts = foundation.parts(&settings.tower)?;
        let (seed, device) = (settings.seed, foundation.device());
        let mut tower = ItemTower::new(&settings.tower, parts, seed, device)?;
        let mut popularity = Popularity::new(settings.online.half_life, settings.online.recent);
        let counts = own.play_counts();
        let mut new = Vec::with_capacity(tracks.len());
        let mut lines = foundation.lines(settings)?;
        let mut vectors = Xxh3::new();
        for (at, track) in tracks.iter().enumerate() {
            check_content(track, settings.tower.content)?;
            popularity.admit(track.key, 0, 0.0);
            lines.admit(track.key, track.names)?;
            let residual = encoded.get(&track.key).cloned();
            for vector in [track.content, residual.as_deref()] {
                hash_vector(&mut vectors, vector);
            }
            new.push(NewRow {
                content: track.content.map(<[f32]>::to_vec),
                residual,
                plays: counts.get(at).copied().unwrap_or(0),
            });
        }
        popularity.sort();
        tower.grow(&new)?;
        // In the order of time, since plays fade.
        let mut plays: Vec<(i64, u32)> = own
            .plays
            .iter()
            .map(|play| (play.at.millis(), play.track.0))
            .collect();
        plays.sort_unstable();
        for (_, row) in plays {
            let _ = popularity.play(row as usize);
        }
        Ok(Self {
            log: own,
            keys: tracks.iter().map(|track| track.key).collect(),
            levels: popularity.levels(),
            lines,
            tower,
            popularity,
            vectors: vectors.digest128(),
        })
    }

    /// XXH3 of who played what and when, and of the vectors that tracks began with.
    pub fn prints(&self) -> [u128; 2] {
        let mut hash = Xxh3::new();
        for (key, plays) in self.log.keys.iter().zip(self.log.sequences()) {
            hash.update(&key.to_le_bytes());
            hash.update(&(plays.len() as u64).to_le_bytes());
            for play in plays {
                let track = self.keys.get(play.track.row()).copied();
                hash.update(&track.unwrap_or(TrackKey(0)).0.to_le_bytes());
                hash.update(&play.at.millis().to_le_bytes());
                let ratio = play.ratio.map_or(-1.0, |ratio| ratio.value());
                hash.update(&ratio.to_le_bytes());
                hash.update(&[u8::from(play.opens_session)]);
            }
        }
        [hash.digest128(), self.vectors]
    }

    pub fn trained(&self) -> Result<HashMap<TrackKey, Trained>, ModelError> {
        let rows: Vec<i64> = (0..self.tower.rows()).collect();
        if rows.is_empty() {
            return Ok(HashMap::new());
        }
        let index = Tensor::f_from_slice(&rows)?.f_to_device(self.tower.device())?;
        let residuals = self.tower.residuals(&index)?;
        let mut trained = HashMap::with_capacity(rows.len());
        for (row, &key) in self.keys.iter().enumerate() {
            let residual = residuals.f_get(row as i64)?.f_to_device(tch::Device::Cpu)?;
            let known = Trained {
                residual: Vec::try_from(residual)?,
                plays: self.popularity.plays(row),
                fading: self.popularity.fading(row),
            };
            trained.insert(key, known);
        }
        Ok(trained)
    }
}

fn hash_vector(hash: &mut Xxh3, vector: Option<&[f32]>) {
    let vector = vector.unwrap_or(&[]);
    hash.update(&(vector.len() as u64).to_le_bytes());
    for value in vector {
        hash.update(&value.to_le_bytes());
    }
}
