//! The peers, by a program in Python: hnswlib, faiss and usearch over the same vectors.

use serde::Deserialize;
use serde_json::json;

use super::curve::{BREADTHS, Point};
use super::world::{K, World, write};
use crate::binary::ask_python;

const PROGRAM: &str = include_str!("peers.py");

/// What one of them did.
#[derive(Clone, Debug, Deserialize)]
pub struct Peer {
    pub name: String,
    pub version: String,
    pub inserts_per_s: f64,
    pub memory_bytes: f64,
    pub self_recall: f64,
    pub curve: Vec<Point>,
}

fn bytes(numbers: &[f32]) -> impl Iterator<Item = [u8; 4]> + '_ {
    numbers.iter().map(|number| number.to_le_bytes())
}

/// The vectors as files, for as long as this is held.
pub struct Files {
    /// Removes them when it goes.
    _folder: tempfile::TempDir,
    task: serde_json::Value,
}

impl Files {
    /// Writes a world and what exact search finds in it.
    pub fn write(world: &World, truth: &[u32]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        write(&at("rows"), bytes(&world.rows))?;
        write(&at("queries"), bytes(&world.queries))?;
        write(&at("truth"), truth.iter().map(|id| id.to_le_bytes()))?;
        let task = json!({
            "rows": at("rows"),
            "queries": at("queries"),
            "truth": at("truth"),
            "dimensions": world.dimensions,
            "count": world.count(),
            "k": K,
            "breadths": BREADTHS,
        });
        Ok(Self {
            _folder: folder,
            task,
        })
    }

    /// Builds and asks each of `peers`, one after the other.
    pub fn measure(
        &self,
        peers: &[&str],
        m: usize,
        ef_construction: usize,
        repeats: usize,
    ) -> anyhow::Result<Vec<Peer>> {
        let mut task = self.task.clone();
        task["peers"] = json!(peers);
        task["m"] = json!(m);
        task["ef_construction"] = json!(ef_construction);
        task["repeats"] = json!(repeats);
        let needs = "hnswlib, faiss-cpu, usearch and psutil";
        ask_python(("the peers", needs), PROGRAM, &task)
    }
}
