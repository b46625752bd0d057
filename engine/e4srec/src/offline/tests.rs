//! Training: the same in parts as in one go, in small passes as in large ones; what it leaves out, and
//! what it refuses.

use std::collections::HashMap;
use std::io;

use segue_catalog::modality::{Modality, ModalityKind};
use segue_listen::{TrackId, TrackKey, UserId};
use segue_recommend::recommender::{Admitted, Recommender};
use segue_recommend::training::{Progress, TrainingLog};
use tch::{Device, Kind, Tensor};

use super::course::Course;
use super::{FitReport, Keeper, Material};
use crate::backbone::{Backbone, Foundation};
use crate::error::ModelError;
use crate::head::Head;
use crate::model::E4SRec;
use crate::settings::{E4SRecSettings, Fusion};
use crate::tests::{admitted, contents, foundation, foundation_in, keys, log};
use crate::windows::tests_support::{ask_of, plays_of};

const TRACKS: u32 = 20;

/// With everything that is drawn by chance but dropout: its generator is libtorch's, which tests that
/// run beside this one draw from too. The binary's own tests train with it.
fn settings() -> E4SRecSettings {
    let mut settings = crate::tests::settings();
    settings.seed = 3;
    settings.offline.batch = 3;
    settings.offline.epochs = 3;
    settings.offline.validation = 0.3;
    settings.offline.patience = 9;
    settings.offline.candidates = 12;
    settings
}

/// Progress in memory, and how often it was kept.
#[derive(Default)]
struct Kept {
    progress: Option<Vec<u8>>,
    times: usize,
}

impl Keeper for Kept {
    fn kept(&mut self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.progress.clone())
    }

    fn keep(&mut self, progress: &[u8]) -> io::Result<()> {
        self.progress = Some(progress.to_vec());
        self.times += 1;
        Ok(())
    }
}

/// Stops after so many steps; so many are done.
struct StopAt(u64, u64);

impl Progress for StopAt {
    fn step(&mut self, done: u64, _: u64, _: &str) {
        self.1 = done;
    }

    fn stopped(&self) -> bool {
        self.1 >= self.0
    }
}

fn fit_kept(
    settings: &E4SRecSettings,
    stop_at: u64,
    kept: &mut Kept,
) -> Result<(E4SRec, FitReport), ModelError> {
    fit_of(&foundation(&[]), &log(TRACKS), settings, stop_at, kept)
}

fn fit_of(
    foundation: &Foundation,
    log: &TrainingLog,
    settings: &E4SRecSettings,
    stop_at: u64,
    kept: &mut Kept,
) -> Result<(E4SRec, FitReport), ModelError> {
    let content = contents(TRACKS as usize);
    let admitted = admitted(&keys(TRACKS), &content);
    let mut progress = StopAt(stop_at, 0);
    let encoded = HashMap::new();
    E4SRec::fit_kept(
        foundation,
        log,
        &admitted,
        &encoded,
        settings,
        &mut progress,
        kept,
    )
}

/// A course over the tests' log, which is left to `look`.
fn with_course<T>(
    foundation: &Foundation,
    encoded: &HashMap<TrackKey, Vec<f32>>,
    settings: &E4SRecSettings,
    look: impl FnOnce(&mut Course<'_>) -> T,
) -> T {
    let content = contents(TRACKS as usize);
    let admitted = admitted(&keys(TRACKS), &content);
    let d = settings.tower.dimensions;
    let backbone = Backbone::new(foundation, settings).unwrap();
    let head = Head::new(backbone.hidden(), d, settings.seed, Device::Cpu).unwrap();
    let mut material =
        Material::new(foundation, &log(TRACKS), &admitted, encoded, settings).unwrap();
    let mut course = Course::new(&backbone, &head, &mut material, settings).unwrap();
    look(&mut course)
}

#[test]
fn stopped_and_gone_on_ends_with_the_same_values_to_the_last_bit() {
    let (whole, told) = fit_kept(&settings(), u64::MAX, &mut Kept::default()).unwrap();
    assert!(told.held_out > 0 && told.windows > 0);
    assert_eq!(told.windows + told.held_out, 10);
    assert_eq!(told.validation.len(), told.epochs);
    let steps = told.training.len() as u64;
    assert!(steps >= 6, "{steps}");
    // In the middle of an epoch, at its end, and again and again.
    for stops in [vec![1], vec![steps / 3], (1..steps).collect::<Vec<_>>()] {
        let mut kept = Kept::default();
        for &stop in &stops {
            let error = fit_kept(&settings(), stop, &mut kept)
                .map(|_| ())
                .unwrap_err();
            let right = matches!(error, ModelError::Stopped { step, total }
                if (step, total) == (stop, steps));
            assert!(right, "{error}");
        }
        let (model, again) = fit_kept(&settings(), u64::MAX, &mut kept).unwrap();
        assert_eq!(again, told, "{stops:?}");
        let same = model.snapshot().unwrap() == whole.snapshot().unwrap();
        assert!(same, "other values after stops at {stops:?}");
    }
    let mut often = settings();
    often.offline.keep_every = 2;
    let mut kept = Kept::default();
    fit_kept(&often, u64::MAX, &mut kept).unwrap();
    assert_eq!(kept.times as u64, steps / 2);
}

#[test]
fn modalities_that_steps_go_without_are_the_same_after_a_stop() {
    let modality = |kind, dimensions| Modality { kind, dimensions };
    let foundation = foundation(&[]).with_content(vec![
        modality(ModalityKind::Text, 2),
        modality(ModalityKind::Audio, 4),
    ]);
    let mut settings = settings();
    settings.tower.fusion = Fusion::Film;
    settings.tower.modality_dropout = 0.4;
    let fitted = |settings: &E4SRecSettings, stop_at, kept: &mut Kept| {
        fit_of(&foundation, &log(TRACKS), settings, stop_at, kept)
    };
    let state = |settings: &E4SRecSettings, kept: &mut Kept| {
        let (model, _) = fitted(settings, u64::MAX, kept).unwrap();
        model.snapshot().unwrap()
    };
    let whole = state(&settings, &mut Kept::default());
    let mut kept = Kept::default();
    fitted(&settings, 2, &mut kept).map(|_| ()).unwrap_err();
    assert!(state(&settings, &mut kept) == whole);
    settings.tower.modality_dropout = 0.0;
    assert!(state(&settings, &mut Kept::default()) != whole);
}

#[test]
fn another_training_is_refused_by_name_and_a_torn_one_too() {
    let mut kept = Kept::default();
    fit_kept(&settings(), 2, &mut kept).map(|_| ()).unwrap_err();
    let whole = kept.progress.clone().unwrap();
    let said =
        |error: Result<(E4SRec, FitReport), ModelError>| error.map(|_| ()).unwrap_err().to_string();
    let mut other = settings();
    other.offline.head_rate *= 2.0;
    let error = said(fit_kept(&other, 9, &mut kept));
    assert!(error.contains("other settings (models.e4srec)"), "{error}");
    assert!(error.contains("begin anew"), "{error}");
    let mut longer = log(TRACKS);
    longer.push(plays_of(0..9));
    let error = said(fit_of(&foundation(&[]), &longer, &settings(), 9, &mut kept));
    assert!(error.contains("of another log"), "{error}");
    let error = said(fit_of(
        &foundation(&[5]),
        &log(TRACKS),
        &settings(),
        9,
        &mut kept,
    ));
    assert!(error.contains("language model"), "{error}");
    // What decides nothing may be another.
    let mut same = settings();
    same.cached_listeners += 1;
    same.offline.keep_every += 1;
    same.online.lora_every += 1;
    let error = said(fit_kept(&same, 3, &mut kept));
    assert!(error.contains("stopped after step 3"), "{error}");
    for cut in (0..whole.len()).step_by(whole.len() / 97) {
        kept.progress = Some(whole[..cut].to_vec());
        assert!(fit_kept(&settings(), 9, &mut kept).is_err(), "cut at {cut}");
    }
}

#[test]
fn small_passes_make_the_step_of_a_large_one() {
    let values = |micro_batch: usize| {
        let mut settings = settings();
        settings.offline.batch = 5;
        settings.offline.epochs = 2;
        settings.offline.micro_batch = micro_batch;
        with_course(&foundation(&[5]), &HashMap::new(), &settings, |course| {
            let fresh = copies(course);
            let told = course.run(&mut (), None).unwrap();
            (fresh, copies(course), told)
        })
    };
    let (fresh, whole, told) = values(0);
    for micro_batch in [1, 2, 5, 50] {
        let (_, gathered, again) = values(micro_batch);
        assert_eq!(again.training.len(), told.training.len());
        for ((_, one), (_, other)) in again.training.iter().zip(&told.training) {
            assert!((one - other).abs() < 1e-4, "{micro_batch}: {one} {other}");
        }
        let share = apart(&gathered, &whole) / apart(&fresh, &whole);
        assert!(share < 0.02, "{micro_batch}: {share}");
    }
}

fn copies(course: &Course<'_>) -> Vec<Tensor> {
    let shared = course.values().unwrap().shared;
    shared.iter().map(|value| value.detach().copy()).collect()
}

/// The sum of all differences.
fn apart(some: &[Tensor], others: &[Tensor]) -> f64 {
    let pairs = some.iter().zip(others);
    let apart = pairs.map(|(one, other)| (one - other).abs().sum(Kind::Double).double_value(&[]));
    apart.sum()
}

#[test]
fn it_ends_where_nothing_gets_better_and_keeps_the_best() {
    let mut rash = settings();
    rash.offline.epochs = 30;
    rash.offline.patience = 1;
    rash.offline.head_rate = 0.3;
    rash.offline.lora_rate = 0.1;
    with_course(&foundation(&[]), &HashMap::new(), &rash, |course| {
        let told = course.run(&mut (), None).unwrap();
        assert!(told.epochs < 30, "{:?}", told.validation);
        assert_eq!(told.validation.len(), told.epochs);
        let best = told.best_epoch.unwrap();
        assert_eq!(best + 2, told.epochs, "{:?}", told.validation);
        let losses: Vec<f64> = told.validation.iter().map(|&(_, loss)| loss).collect();
        let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
        assert_eq!(losses[best - 1], least);
        assert_eq!(course.judge().unwrap(), Some(least));
    });
}

#[test]
fn steps_that_are_not_finite_change_nothing_and_too_many_are_an_error() {
    let nan = HashMap::from([(keys(TRACKS)[7], vec![f32::NAN; 16])]);
    let mut few = settings();
    few.offline.candidates = 1;
    few.offline.batch = 1;
    few.lookback = 0;
    // Only some windows have the track that is no number, so only some steps meet it.
    let mut log = TrainingLog::default();
    for listener in 0..12u32 {
        let tracks = if listener % 4 == 0 { 5..9 } else { 12..18 };
        log.push(plays_of(tracks));
    }
    let content = contents(TRACKS as usize);
    let all = admitted(&keys(TRACKS), &content);
    let fit = |log: &TrainingLog, all: &[Admitted<'_>], settings: &E4SRecSettings| {
        E4SRec::fit(&foundation(&[]), log, all, &nan, settings, &mut ())
    };
    let (mut model, told) = fit(&log, &all, &few).unwrap();
    let steps = told.training.len() as u64;
    assert!(
        (1..steps / 2).contains(&told.skipped),
        "{} of {steps}",
        told.skipped
    );
    let lost = told.training.iter().filter(|(_, loss)| !loss.is_finite());
    assert_eq!(lost.count() as u64, told.skipped);
    assert!(told.last_loss.is_some_and(f64::is_finite));
    for tensor in model.shared() {
        assert!(tensor.isfinite().all().int64_value(&[]) == 1);
    }
    model.admit(&all).unwrap();
    // In a full softmax every step meets it.
    few.offline.candidates = 4_096;
    let error = fit(&log, &all, &few).map(|_| ()).unwrap_err();
    let right = matches!(
        error,
        ModelError::Diverged {
            step: 10,
            skipped: 10,
            ..
        }
    );
    assert!(right, "{error}");
}

#[test]
fn what_learns_and_what_is_lost_are_f32_over_frozen_bf16() {
    let first = |kind: Kind| {
        let foundation = foundation_in(kind, &[]);
        with_course(&foundation, &HashMap::new(), &settings(), |course| {
            let told = course.run(&mut (), None).unwrap();
            let values = course.values().unwrap();
            assert!(
                values
                    .shared
                    .iter()
                    .all(|value| value.kind() == Kind::Float)
            );
            assert_eq!(values.own.0.kind(), Kind::Float);
            told.training
                .iter()
                .map(|&(_, loss)| loss)
                .collect::<Vec<_>>()
        })
    };
    let (half, full) = (first(Kind::BFloat16), first(Kind::Float));
    assert_eq!(half.len(), full.len());
    for (half, full) in half.iter().zip(&full) {
        assert!((half / full - 1.0).abs() < 0.02, "{half} {full}");
        // A loss in bf16 would have eight bits.
        assert!(half.is_finite());
    }
    assert!(
        half.iter()
            .any(|&loss| f64::from(loss as f32) == loss && !in_bf16(loss))
    );
}

fn in_bf16(value: f64) -> bool {
    (value as f32).to_bits().trailing_zeros() >= 16
}

#[test]
fn a_model_that_was_just_trained_is_taken_up_with_no_tracks() {
    let (mut model, _) = fit_kept(&settings(), u64::MAX, &mut Kept::default()).unwrap();
    let state = model.snapshot().unwrap();
    let mut again = E4SRec::untaught(&foundation(&[]), &settings()).unwrap();
    again.restore(&state, &[]).unwrap();
    assert_eq!(again.snapshot().unwrap(), state);
    // Tracks get other numbers in the stream that it answers.
    let turned: Vec<TrackKey> = keys(TRACKS).into_iter().rev().collect();
    let content = contents(TRACKS as usize);
    let back: Vec<Vec<f32>> = content.iter().rev().cloned().collect();
    model.admit(&admitted(&keys(TRACKS), &content)).unwrap();
    again.admit(&admitted(&turned, &back)).unwrap();
    let plays = log(TRACKS).of(1).to_vec();
    let mut other = plays.clone();
    for play in &mut other {
        play.track = TrackId(TRACKS - 1 - play.track.0);
    }
    for read in [3, 20, 60] {
        let (mut one, mut two) = (Vec::new(), Vec::new());
        let mut ask = ask_of(&plays, read);
        ask.user = UserId(9);
        model
            .rank_of(&[ask], &[plays[read].track], &mut one)
            .unwrap();
        ask = ask_of(&other, read);
        ask.user = UserId(9);
        again
            .rank_of(&[ask], &[other[read].track], &mut two)
            .unwrap();
        assert_eq!(one, two);
    }
}
