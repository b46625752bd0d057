//! E4SRec as it was published, by transformers: a program in Python that reads the same prompts.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use segue_nn::tch::Device;
use segue_nn::weights::Weights;
use serde::Deserialize;
use serde_json::json;

use super::world::{Ground, LIMIT, World};
use crate::binary::ask_python;

/// The plays that it reads, at most (finetune.py of HestiaSky/E4SRec).
const NEWEST: usize = 50;
const PROGRAM: &str = include_str!("official.py");

/// What it found.
#[derive(Deserialize)]
pub struct Found {
    /// Answers a second, by what it computed in.
    pub by_kind: BTreeMap<String, f64>,
    /// Versions and device.
    pub about: String,
}

impl Found {
    /// The faster of its ways.
    pub fn best(&self) -> f64 {
        self.by_kind.values().copied().fold(f64::NAN, f64::max)
    }
}

/// Answers after `stops` plays of the sessions of some listeners, in batches.
pub fn measure(
    ground: &Ground,
    world: &World,
    listeners: &[usize],
    stops: &[usize],
    batch: usize,
) -> anyhow::Result<Found> {
    let mut batches = Vec::new();
    for &plays in stops {
        for listeners in listeners.chunks(batch) {
            let asks = listeners.iter().map(|&one| world.ask(one, 0, plays));
            let items: Vec<Vec<u32>> = asks
                .map(|ask| {
                    ask.last(NEWEST)
                        .iter()
                        .map(|play| play.track.0 + 1)
                        .collect()
                })
                .collect();
            batches.push(items);
        }
    }
    let asked = json!({
        "folder": ground.weights,
        "gguf": gguf(&ground.weights)?,
        "depth": ground.settings.backbone.depth,
        "items": world.tracks(),
        "limit": LIMIT,
        "cuda": matches!(ground.device, Device::Cuda(_)),
        "threads": std::thread::available_parallelism().map_or(1, usize::from),
        "batches": batches,
    });
    let needs = "torch, transformers, peft and gguf";
    ask_python(("E4SRec as published", needs), PROGRAM, &asked)
}

/// The name of the checkpoint's file.
fn gguf(folder: &Path) -> anyhow::Result<String> {
    let weights = Weights::open(folder)?;
    let name = weights.path().file_name().and_then(|name| name.to_str());
    Ok(name.context("a checkpoint without a name")?.to_owned())
}
