//! What a user may tune, and the limits that hnsw_rs enforces by ending the process.

use serde::{Deserialize, Serialize};

use crate::vectors::Vector;

/// How the nearness of a query and a track is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The cosine of the angle between them, in [-1, 1]: lengths do not matter.
    #[default]
    Cosine,
    /// The inner product: a longer track vector scores higher.
    InnerProduct,
}

impl Metric {
    /// What a track's vector is multiplied with to be stored.
    pub(crate) fn row_factor(self, vector: Vector<'_>) -> f64 {
        match self {
            Metric::Cosine => 1.0 / vector.norm(),
            Metric::InnerProduct => 1.0,
        }
    }

    /// What ⟨query, row⟩ is multiplied with to give the score.
    pub(crate) fn score_factor(self, query: Vector<'_>) -> f32 {
        match self {
            Metric::Cosine => (1.0 / query.norm()) as f32,
            Metric::InnerProduct => 1.0,
        }
    }
}

/// Who links the points of the graph.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Builder {
    /// Segue itself, on the flat graph that is served: nothing is kept twice, and the next search finds what
    /// was linked. How the two compare is measured by the scenario `recall`.
    #[default]
    Segue,
    /// The crate hnsw_rs, from whose graph the flat one is copied.
    HnswRs,
}

/// In how many bits a component is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// 32: vectors are kept as they came.
    #[default]
    F32,
    /// 16: half the memory. Components are rounded by at most 1/2048 of themselves, scores by about
    /// that; what is found is scored with the rounded ones.
    F16,
}

/// The settings of an index.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How nearness is measured: `cosine` or `inner_product`.
    pub metric: Metric,
    /// Who links the points of the graph: `segue` or `hnsw_rs`.
    pub builder: Builder,
    /// In how many bits a component is stored: `f32` or `f16`, in half the memory.
    pub storage: Storage,
    /// Of the levels that points are drawn to. The same tracks in the same order under the same seed
    /// are the same graph.
    pub seed: u64,
    /// Links of a graph point per layer (twice that on the ground layer), 2 to 256. More: better
    /// recall, more memory, slower inserts.
    pub m: usize,
    /// Candidates considered when a point is linked, at least `m`, at most 4096.
    pub ef_construction: usize,
    /// Candidates considered by a search, 1 to 65536. More: better recall, slower searches.
    pub ef_search: usize,
    /// A search considers at least this many candidates per hit asked for, 1 to 64.
    pub oversampling: usize,
    /// Up to this many tracks no graph is asked: looking at every row is as fast and misses nothing.
    pub exact_below: usize,
    /// Tracks linked into the graph at each publication; the others wait in the exact tail, where
    /// searches find them just as well. Bounds the time that a publication takes.
    pub links_per_publish: usize,
    /// The exact tail's greatest length; beyond it, publications link more than `links_per_publish`.
    pub tail_limit: usize,
    /// When dead points (of removed and updated tracks) exceed this share of the graph, in (0, 1], they
    /// are swept out, some at each publication. A graph of `hnsw_rs`, which cannot forget, is grown anew
    /// beside the old one.
    pub dead_share: f64,
    /// A filter that lets through less than this share of what a search met, in [0, 1], is answered
    /// by looking at every row instead of wandering through the graph.
    pub exact_selectivity: f64,
    /// Tracks that an index can hold. A guard against runaway ids.
    pub max_tracks: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            metric: Metric::Cosine,
            builder: Builder::Segue,
            storage: Storage::F32,
            seed: 0,
            m: 16,
            ef_construction: 200,
            ef_search: 128,
            oversampling: 3,
            exact_below: 10_000,
            links_per_publish: 256,
            tail_limit: 4096,
            dead_share: 0.1,
            exact_selectivity: 0.05,
            max_tracks: 1 << 26,
        }
    }
}

/// A setting out of its range. Segue stops at start and names the key.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[error("recall.{key} = {value} is out of range: set it {range}")]
pub struct SettingsError {
    /// The key under `recall`.
    pub key: &'static str,
    /// The value given.
    pub value: String,
    /// What is allowed, in words.
    pub range: &'static str,
}

impl Settings {
    /// Refuses what would make hnsw_rs panic, end the process or degenerate.
    pub fn check(&self) -> Result<(), SettingsError> {
        let within = |key, value: usize, ok: bool, range| {
            if ok {
                Ok(())
            } else {
                Err(SettingsError {
                    key,
                    value: value.to_string(),
                    range,
                })
            }
        };
        let share = |key, value: f64, ok: bool, range| {
            if ok {
                Ok(())
            } else {
                Err(SettingsError {
                    key,
                    value: value.to_string(),
                    range,
                })
            }
        };
        within("m", self.m, (2..=256).contains(&self.m), "from 2 to 256")?;
        within(
            "ef_construction",
            self.ef_construction,
            (self.m..=4096).contains(&self.ef_construction),
            "from m to 4096",
        )?;
        within(
            "ef_search",
            self.ef_search,
            (1..=65_536).contains(&self.ef_search),
            "from 1 to 65536",
        )?;
        within(
            "oversampling",
            self.oversampling,
            (1..=64).contains(&self.oversampling),
            "from 1 to 64",
        )?;
        within(
            "max_tracks",
            self.max_tracks,
            (1..=1 << 30).contains(&self.max_tracks),
            "from 1 to 1073741824",
        )?;
        share(
            "dead_share",
            self.dead_share,
            self.dead_share > 0.0 && self.dead_share <= 1.0,
            "above 0, at most 1",
        )?;
        share(
            "exact_selectivity",
            self.exact_selectivity,
            (0.0..=1.0).contains(&self.exact_selectivity),
            "from 0 to 1",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_allowed_and_what_would_end_the_process_is_not() {
        assert_eq!(Settings::default().check(), Ok(()));
        let error = Settings {
            m: 257,
            ..Settings::default()
        }
        .check()
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "recall.m = 257 is out of range: set it from 2 to 256"
        );
        for bad in [
            Settings {
                m: 1,
                ..Settings::default()
            },
            Settings {
                ef_construction: 8,
                ..Settings::default()
            },
            Settings {
                ef_search: 0,
                ..Settings::default()
            },
            Settings {
                oversampling: 0,
                ..Settings::default()
            },
            Settings {
                max_tracks: 0,
                ..Settings::default()
            },
            Settings {
                dead_share: f64::NAN,
                ..Settings::default()
            },
            Settings {
                exact_selectivity: 1.5,
                ..Settings::default()
            },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let read = toml::from_str::<Settings>("m = 8\nmetric = \"inner_product\"").unwrap();
        assert_eq!((read.m, read.metric), (8, Metric::InnerProduct));
        let error = toml::from_str::<Settings>("ef_serach = 8")
            .unwrap_err()
            .to_string();
        assert!(error.contains("ef_serach"), "{error}");
    }
}
