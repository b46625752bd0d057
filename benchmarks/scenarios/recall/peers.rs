//! The peers, by a program in Python: hnswlib, faiss and usearch over the same vectors.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::json;

use super::curve::{BREADTHS, Point};
use super::world::{K, World, write};
use crate::binary::peers_python;

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
        let python = peers_python("hnswlib, faiss-cpu, usearch and psutil")?;
        let mut task = self.task.clone();
        task["peers"] = json!(peers);
        task["m"] = json!(m);
        task["ef_construction"] = json!(ef_construction);
        task["repeats"] = json!(repeats);
        let mut child = Command::new(&python)
            .args(["-B", "-c", PROGRAM])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| python.display().to_string())?;
        let mut input = child.stdin.take().context("its standard input")?;
        input.write_all(task.to_string().as_bytes())?;
        drop(input);
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "the peers: {}", output.status);
        let text = String::from_utf8_lossy(&output.stdout);
        let last = text.lines().last().unwrap_or_default();
        serde_json::from_str(last).with_context(|| format!("the peers said `{last}`"))
    }
}
