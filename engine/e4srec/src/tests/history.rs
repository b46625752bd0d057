//! Adapters that are kept: listed, compared, gone back to.

use super::online::{examples, mean_reciprocal, round};
use super::*;
use crate::AdapterHistory;

/// A model that learns and keeps its adapters, after so many rounds over these logs.
fn learnt(folder: &std::path::Path, logs: &[Vec<ContextPlay>], rounds: u64) -> E4SRec {
    let mut model = fit(&[], &settings(), 20).online().unwrap();
    model.keep_history(AdapterHistory::new(folder, 3));
    model.admit(&admitted(&keys(20), &contents(20))).unwrap();
    for epoch in 0..rounds {
        teach(&mut model, logs, epoch);
    }
    model
}

fn teach(model: &mut E4SRec, logs: &[Vec<ContextPlay>], epoch: u64) {
    let from = epoch as usize * 12 + 2;
    let all: Vec<_> = (0u32..)
        .zip(logs)
        .flat_map(|(user, plays)| examples(user, plays, from..from + 12))
        .collect();
    round(model, epoch, &all);
}

fn logs() -> Vec<Vec<ContextPlay>> {
    (0..4)
        .map(|user: u32| plays_of((0..200).map(|at: u32| (400 + user * 5 - at) % 20)))
        .collect()
}

#[test]
fn the_newest_are_kept_and_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let history = AdapterHistory::new(folder.path(), 3);
    assert_eq!(
        history.list().unwrap(),
        [],
        "a folder that is not there yet"
    );
    let model = learnt(folder.path(), &logs(), 10);
    let published = model.journal().publications();
    assert_eq!(published.len(), 5);
    assert_eq!(history.list().unwrap(), published[2..]);
    let layers = history.difference(3, 5).unwrap();
    assert_eq!(layers.len(), 2 * 3, "two layers, three projections");
    assert!(
        layers
            .iter()
            .all(|layer| layer.apart > 0.0 && layer.norms[1] > 0.0)
    );
    let same = history.difference(4, 4).unwrap();
    assert!(same.iter().all(|layer| layer.apart == 0.0));
    assert!(
        same.iter()
            .all(|layer| layer.cosine.is_none_or(|c| (c - 1.0).abs() < 1e-5))
    );
    let error = history.difference(1, 5).unwrap_err().to_string();
    assert!(error.contains("no adapter 1"), "{error}");
    // A run that begins anew goes its own way, and what was later is not its own.
    let again = learnt(folder.path(), &logs(), 2);
    assert_eq!(history.list().unwrap(), again.journal().publications());
}

#[test]
fn somebody_asks_and_the_next_barrier_goes_back() {
    let folder = tempfile::tempdir().unwrap();
    let history = AdapterHistory::new(folder.path(), 8);
    let logs = logs();
    let mut model = learnt(folder.path(), &logs, 4);
    let tensors = |model: &E4SRec| -> Vec<Tensor> {
        let all = model
            .backbone
            .adapter()
            .into_iter()
            .chain(model.head.parameters());
        all.map(|tensor| tensor.detach().copy()).collect()
    };
    let furthest_of = |a: &[Tensor], b: &[Tensor]| {
        a.iter()
            .zip(b)
            .map(|(a, b)| furthest(a, b))
            .fold(0.0, f64::max)
    };
    let (then, good) = (
        tensors(&model),
        mean_reciprocal(&mut model.frozen().unwrap(), &logs, 150..190),
    );
    let version = model.adapter_version();
    for epoch in 4..8 {
        teach(&mut model, &logs, epoch);
    }
    assert!(furthest_of(&then, &tensors(&model)) > 1e-4);
    assert!(history.ask_back(99).is_err());
    history.ask_back(version).unwrap();
    let newest = model.adapter_version();
    // A round without plays is a barrier too, and teaches nothing.
    model.learn(segue_flow::Epoch(8), &[]).unwrap();
    assert_eq!(model.adapter_version(), newest + 1);
    assert_eq!(furthest_of(&then, &tensors(&model)), 0.0);
    let last = *model.journal().publications().last().unwrap();
    assert_eq!((last.back_to, last.version), (Some(version), newest + 1));
    assert_eq!(history.list().unwrap().last(), Some(&last));
    // Asked once, it goes back once; and it answers and learns on.
    model.learn(segue_flow::Epoch(9), &[]).unwrap();
    assert_eq!(model.adapter_version(), newest + 1);
    let now = mean_reciprocal(&mut model.frozen().unwrap(), &logs, 150..190);
    assert!(now > 0.8 * good, "{good} {now}");
    teach(&mut model, &logs, 10);
}

#[test]
fn a_damaged_version_is_told_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let history = AdapterHistory::new(folder.path(), 8);
    let logs = logs();
    let mut model = learnt(folder.path(), &logs, 4);
    let version = model.adapter_version();
    history.ask_back(version).unwrap();
    let tensors = folder
        .path()
        .join(format!("{version:06}/adapter_model.safetensors"));
    std::fs::write(&tensors, b"torn").unwrap();
    model.learn(segue_flow::Epoch(4), &[]).unwrap();
    assert_eq!(model.adapter_version(), version);
    assert!(history.difference(version, version).is_err());
    std::fs::write(folder.path().join("back-to"), "yesterday").unwrap();
    model.learn(segue_flow::Epoch(5), &[]).unwrap();
    assert_eq!(model.adapter_version(), version);
    // A history that cannot be written does not stop the answers.
    std::fs::remove_dir_all(folder.path()).unwrap();
    std::fs::write(folder.path(), b"a file in its place").unwrap();
    for epoch in 4..6 {
        teach(&mut model, &logs, epoch);
    }
    assert!(model.adapter_version() > version);
}
