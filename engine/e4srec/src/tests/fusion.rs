//! What a model learns from several modalities, and how it does without one.

use segue_catalog::modality::{Modality, ModalityKind};

use super::online::{examples, round};
use super::*;
use crate::FitReport;
use crate::chance::normal;
use crate::settings::Fusion;

const KINDS: [Fusion; 4] = [
    Fusion::Concat,
    Fusion::WeightedSum,
    Fusion::CrossAttention,
    Fusion::Film,
];
/// Components of each segment.
const WIDTH: usize = 4;
/// Tracks of the log, and new ones.
const PLAYED: u32 = 32;
const ALL: u32 = 48;

fn several() -> Foundation {
    let modality = |kind| Modality {
        kind,
        dimensions: WIDTH,
    };
    foundation(&[]).with_content(vec![
        modality(ModalityKind::Text),
        modality(ModalityKind::Audio),
    ])
}

fn fused(fusion: Fusion) -> E4SRecSettings {
    let mut settings = settings();
    settings.tower.content = 2 * WIDTH;
    settings.tower.fusion = fusion;
    settings.tower.modality_dropout = 0.3;
    settings.tower.id_dropout = 0.7;
    settings.offline.epochs = 16;
    settings.offline.batch = 2;
    settings.offline.validation = 0.0;
    settings.offline.head_rate = 1e-2;
    settings
}

/// One of four ways a track can be.
fn kind_of(track: u32) -> u32 {
    track % 4
}

/// How a track reads and how it sounds: the sound tells what kind it is, the words hardly.
fn segments(track: u32) -> [Vec<f32>; 2] {
    let mut rng = ChaCha8Rng::seed_from_u64(u64::from(track));
    let mut tell = |noise: f32| -> Vec<f32> {
        let one = |at: u32| f32::from(u8::from(at == kind_of(track)));
        (0u32..)
            .take(WIDTH)
            .map(|at| one(at) + noise * normal(&mut rng))
            .collect()
    };
    [tell(0.5), tell(0.05)]
}

/// Contents in which track *i* sounds like track `sounds(i)`; `None`: not at all.
fn contents_that(sounds: impl Fn(u32) -> Option<u32>) -> Vec<Vec<f32>> {
    let content = |track| {
        let [mut content, _] = segments(track);
        match sounds(track) {
            Some(like) => content.extend(&segments(like)[1]),
            None => content.extend([0.0; WIDTH]),
        }
        content
    };
    (0..ALL).map(content).collect()
}

/// Sounds of others, of whatever kind those are.
fn mixed_up(track: u32) -> Option<u32> {
    Some((track * 5 + track / 4 * 7 + 3) % ALL)
}

/// What kind comes next follows from the kind of what was played; which of them is chance.
fn chains() -> Vec<Vec<ContextPlay>> {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let chain = |listener: u32| {
        let mut any = || (normal(&mut rng).abs() * 1e3) as u32 % (PLAYED / 4);
        plays_of((0..110).map(|at: u32| any() * 4 + (listener + 3 * at) % 4))
    };
    (0..6).map(chain).collect()
}

fn taught(settings: &E4SRecSettings, content: &[Vec<f32>]) -> (E4SRec, FitReport) {
    let mut log = TrainingLog::default();
    for plays in chains() {
        log.push(plays);
    }
    let admitted = admitted(&keys(PLAYED), content);
    let none = HashMap::new();
    E4SRec::fit(&several(), &log, &admitted, &none, settings, &mut ()).unwrap()
}

/// How often a new track of the kind that comes next is scored above a new one of another kind.
fn tells_new_tracks(model: &E4SRec, content: &[Vec<f32>]) -> f64 {
    let mut model = model.frozen().unwrap();
    model.admit(&admitted(&keys(ALL), content)).unwrap();
    let (mut right, mut pairs) = (0.0, 0.0);
    for (user, plays) in (0u32..).zip(&chains()) {
        for read in 100..110 {
            let mut lists = Vec::new();
            let asks = [ask(user, plays, read)];
            model.recommend(&asks, ALL as usize, &mut lists).unwrap();
            let new: Vec<u32> = lists[0]
                .tracks
                .iter()
                .map(|scored| scored.track.0)
                .filter(|&track| track >= PLAYED)
                .collect();
            let next = |track: u32| kind_of(track) == kind_of(plays[read].track.0);
            for (place, &better) in new.iter().enumerate() {
                for &worse in &new[place + 1..] {
                    if next(better) != next(worse) {
                        pairs += 1.0;
                        right += f64::from(u8::from(next(better)));
                    }
                }
            }
        }
    }
    right / pairs
}

#[test]
fn the_sound_that_decides_is_learnt_and_without_it_the_words_must_do() {
    let whole = contents_that(Some);
    for kind in KINDS {
        let (model, report) = taught(&fused(kind), &whole);
        let heard = tells_new_tracks(&model, &whole);
        let silent = tells_new_tracks(&model, &contents_that(|_| None));
        let mixed = tells_new_tracks(&model, &contents_that(mixed_up));
        assert!(heard > 0.9, "{kind:?}: {heard} with its sound");
        assert!(
            silent > 0.6 && silent < heard,
            "{kind:?}: {silent} of the words"
        );
        assert!(mixed < heard - 0.2, "{kind:?}: {mixed} of others' sounds");
        // Sounds that tell nothing teach less.
        let (_, other) = taught(&fused(kind), &contents_that(mixed_up));
        let (told, untold) = (report.last_loss.unwrap(), other.last_loss.unwrap());
        assert!(told < untold - 0.02, "{kind:?}: {told} and {untold}");
    }
}

#[test]
fn the_contract_is_kept_by_each_fusion() {
    let fixture = Fixture {
        rank_tolerance: 1,
        score_tolerance: 1e-3,
        ..Fixture::with_content(2 * WIDTH)
    };
    let content = contents_that(|track| Some(track).filter(|track| track % 3 > 0));
    for kind in KINDS {
        let mut settings = fused(kind);
        settings.offline.epochs = 1;
        let (model, _) = taught(&settings, &content);
        recommender_contract(|| Box::new(model.online().unwrap()), &fixture).unwrap();
    }
}

#[test]
fn what_is_kept_goes_on_to_the_last_bit() {
    let content = contents_that(|track| Some(track).filter(|track| track % 3 > 0));
    let chains = chains();
    for kind in KINDS {
        let mut settings = fused(kind);
        settings.offline.epochs = 1;
        let learn = |model: &mut E4SRec, epochs: std::ops::Range<u64>| {
            for epoch in epochs {
                let from = epoch as usize * 8 + 2;
                let all: Vec<Example<'_>> = (0u32..)
                    .zip(&chains)
                    .flat_map(|(user, plays)| examples(user, plays, from..from + 8))
                    .collect();
                round(model, epoch, &all);
            }
        };
        let tracks = admitted(&keys(ALL), &content);
        let mut model = taught(&settings, &content).0.online().unwrap();
        model.admit(&tracks).unwrap();
        let before = model.tower.map.parameters();
        let before: Vec<Tensor> = before.iter().map(|value| value.detach().copy()).collect();
        learn(&mut model, 0..5);
        let moved = |(now, before): (&Tensor, &Tensor)| furthest(&now.detach(), before) > 1e-7;
        let now = model.tower.map.parameters();
        let moved = now.iter().zip(&before).filter(|&pair| moved(pair)).count();
        // All but the stand-in, whose tracks nobody plays.
        assert!(moved + 2 > now.len(), "{kind:?}: {moved} of {}", now.len());
        let state = model.snapshot().unwrap();
        let mut again = E4SRec::untaught(&several(), &settings)
            .unwrap()
            .online()
            .unwrap();
        again.restore(&state, &tracks).unwrap();
        assert!(again.snapshot().unwrap() == state, "{kind:?} as kept");
        learn(&mut model, 5..9);
        learn(&mut again, 5..9);
        let same = again.snapshot().unwrap() == model.snapshot().unwrap();
        assert!(same, "{kind:?} gone on");
        // Another fusion is another model.
        let other = KINDS.into_iter().find(|&other| other != kind).unwrap();
        let other = E4SRec::untaught(&several(), &fused(other)).unwrap();
        let mut other = other.online().unwrap();
        let error = other.restore(&state, &tracks).unwrap_err();
        assert_eq!(error.remedy, segue_flow::Remedy::Configure);
        assert!(error.detail.contains(&format!("{kind:?} of text of 4")));
    }
}

#[test]
fn a_corrected_sound_is_heard_and_no_content_is_no_modality() {
    let content = contents_that(Some);
    for kind in KINDS {
        let mut settings = fused(kind);
        settings.offline.epochs = 1;
        let (model, _) = taught(&settings, &content);
        let row = |model: &E4SRec, track: u32| model.tower.vectors().unwrap().get(i64::from(track));
        let with = |content: &[Vec<f32>]| {
            let mut model = model.frozen().unwrap();
            model.admit(&admitted(&keys(ALL), content)).unwrap();
            model
        };
        let right = with(&content);
        let mut corrected = with(&contents_that(mixed_up));
        assert!(furthest(&row(&corrected, 40), &row(&right, 40)) > 1e-3);
        corrected.admit(&admitted(&keys(ALL), &content)).unwrap();
        for track in [0, 31, 40] {
            let apart = furthest(&row(&corrected, track), &row(&right, track));
            assert!(apart < 1e-6, "{kind:?}, track {track}: {apart}");
        }
        // Without any content, or with nothing in it, a new track is what all such tracks are.
        let mut nothing = content.clone();
        nothing[47] = vec![0.0; 2 * WIDTH];
        let empty = with(&nothing);
        let unknown = with(&content[..47]);
        assert_eq!(furthest(&row(&empty, 47), &row(&unknown, 47)), 0.0);
        assert!(furthest(&row(&empty, 47), &row(&right, 47)) > 1e-3);
    }
}

#[test]
fn settings_of_fusion_are_checked() {
    let parsed: E4SRecSettings = serde_json::from_str(
        r#"{"tower": {"fusion": "weighted_sum", "modalities": ["audio"], "modality_dropout": 0.2}}"#,
    )
    .unwrap();
    parsed.check().unwrap();
    assert_eq!(parsed.tower.fusion, Fusion::WeightedSum);
    let unknown = r#"{"tower": {"modalities": ["text", "smell"]}}"#;
    let error = serde_json::from_str::<E4SRecSettings>(unknown).unwrap_err();
    assert!(error.to_string().contains("smell"), "{error}");
    let refused = |change: fn(&mut E4SRecSettings)| {
        let mut settings = E4SRecSettings::default();
        change(&mut settings);
        settings.check().unwrap_err().to_string()
    };
    let error = refused(|settings| settings.tower.modality_dropout = 1.0);
    assert!(
        error.contains("e4srec.tower.modality_dropout = 1"),
        "{error}"
    );
    let error = refused(|settings| settings.tower.modality_dropout = 0.2);
    assert!(error.contains("tells modalities apart"), "{error}");
    let error = refused(|settings| settings.tower.modalities = vec![ModalityKind::Audio]);
    assert!(error.contains("e4srec.tower.modalities = audio"), "{error}");
    let mut rated = fused(Fusion::Film);
    rated.tower.modalities = vec![ModalityKind::Ratings];
    let error = E4SRec::untaught(&several(), &rated).unwrap_err();
    assert!(error.to_string().contains("names ratings"), "{error}");
}
