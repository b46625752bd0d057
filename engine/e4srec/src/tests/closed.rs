//! The closed head learns what follows what, and knows nothing of what came later.

use std::sync::Arc;

use segue_flow::Remedy;
use segue_nn::tch::Device;

use super::*;
use crate::{ClosedE4SRec, ClosedSettings};

fn closed_settings(keys: &[TrackKey]) -> ClosedSettings {
    let mut e4srec = settings();
    e4srec.offline.epochs = 40;
    e4srec.offline.lora_rate = 1e-2;
    let vector = |at: usize| (0..8).map(|c| ((at * 5 + c * 3) as f32).sin()).collect();
    let vectors = keys.iter().copied().zip((0..).map(vector)).collect();
    ClosedSettings {
        e4srec,
        foundation: foundation(&[]),
        vectors: Arc::new(vectors),
        dimensions: 8,
    }
}

fn taught(keys: &[TrackKey]) -> ClosedE4SRec {
    let (model, report) =
        ClosedE4SRec::fit(&log(20), keys, &closed_settings(keys), Device::Cpu, &mut ()).unwrap();
    assert!(report.training_loss < report.training[0].1);
    model
}

fn ranks(model: &mut ClosedE4SRec, plays: &[ContextPlay]) -> Vec<Option<u32>> {
    let asks: Vec<Ask<'_>> = (40..60).map(|read| ask(0, plays, read)).collect();
    let actual: Vec<TrackId> = (40..60).map(|read| plays[read].track).collect();
    let mut ranks = Vec::new();
    model.rank_of(&asks, &actual, &mut ranks).unwrap();
    ranks
}

#[test]
fn it_ranks_what_it_was_taught_and_nothing_else() {
    let keys = keys(22);
    let mut model = taught(&keys[..20]);
    model.admit(&admitted(&keys, &[])).unwrap();
    let plays = walk(0, 20, 70);
    let found = ranks(&mut model, &plays);
    let hits = found.iter().filter(|rank| **rank == Some(1)).count();
    assert!(hits >= 16, "{found:?}");
    let mut new = Vec::new();
    let question = [ask(0, &plays, 40)];
    model.rank_of(&question, &[TrackId(21)], &mut new).unwrap();
    assert_eq!(new, [None], "a closed head has no row for it");
    let mut answers = Vec::new();
    model.recommend(&question, 30, &mut answers).unwrap();
    assert_eq!(answers[0].tracks.len(), 20);
}

#[test]
fn it_goes_on_from_a_checkpoint_of_the_same_language_model_only() {
    let keys = keys(20);
    let mut model = taught(&keys);
    model.admit(&admitted(&keys, &[])).unwrap();
    let state = model.snapshot().unwrap();
    let mut settings = closed_settings(&[]);
    let mut other = ClosedE4SRec::untaught(&settings, Device::Cpu).unwrap();
    other.restore(&state, &admitted(&keys, &[])).unwrap();
    let plays = walk(0, 20, 70);
    assert_eq!(ranks(&mut model, &plays), ranks(&mut other, &plays));
    settings.foundation = foundation_in(Kind::BFloat16, &[]);
    let mut other = ClosedE4SRec::untaught(&settings, Device::Cpu).unwrap();
    let error = other.restore(&state, &admitted(&keys, &[])).unwrap_err();
    assert_eq!(error.remedy, Remedy::Configure);
}
