//! Each item encoder learns what there is to learn, and keeps the contract.

use segue_listen::{EventTime, TrackId, TrackKey};
use segue_recommend::ContextPlay;
use segue_recommend::contract::{Fixture, recommender_contract};
use segue_recommend::recommender::{Admitted, Recommender};
use segue_recommend::training::TrainingLog;
use tch::Device;

use super::{ItemEncoder, ItemEncoderSettings};
use crate::settings::{Bert4RecSettings, Gru4RecSettings, SasRecSettings};
use crate::windows::tests_support::{ask_of, plays_of};

/// Every listener walks around a circle of tracks.
fn circle(tracks: u32, listeners: u32, length: u32) -> TrainingLog {
    let mut log = TrainingLog::default();
    for listener in 0..listeners {
        log.push(plays_of((0..length).map(|at| (listener * 3 + at) % tracks)));
    }
    log
}

fn keys(tracks: u32) -> Vec<TrackKey> {
    (0..tracks)
        .map(|id| TrackKey::from_names("contract", &id.to_string()))
        .collect()
}

fn admitted(keys: &[TrackKey]) -> Vec<Admitted<'static>> {
    keys.iter()
        .zip(0u32..)
        .map(|(&key, id)| Admitted {
            track: TrackId(id),
            key,
            names: None,
            content: None,
        })
        .collect()
}

fn fit(
    log: &TrainingLog,
    keys: &[TrackKey],
    settings: &ItemEncoderSettings,
) -> Box<dyn ItemEncoder> {
    settings.fit(log, keys, Device::Cpu, &mut ()).unwrap().0
}

/// Of some questions, how many there are, and of how many the answer is the best guess.
fn hits(model: &mut dyn Recommender, log: &TrainingLog) -> (usize, usize) {
    let (mut asked, mut hits) = (0, 0);
    for plays in log.sequences() {
        for read in [1usize, 9, 33, 49] {
            let Some(actual) = plays.get(read) else {
                continue;
            };
            let mut ranks = Vec::new();
            model
                .rank_of(&[ask_of(plays, read)], &[actual.track], &mut ranks)
                .unwrap();
            asked += 1;
            hits += usize::from(ranks[0] == Some(1));
        }
    }
    (asked, hits)
}

fn what_follows_is_learnt(settings: &ItemEncoderSettings, log: &TrainingLog) {
    let mut model = fit(log, &keys(20), settings);
    model.admit(&admitted(&keys(20))).unwrap();
    let (asked, hits) = hits(&mut *model, log);
    assert!(12 * hits >= 11 * asked, "{hits} of {asked}");
}

fn dense_ids_decide_nothing(settings: &ItemEncoderSettings) {
    let keys = keys(12);
    let log = circle(12, 4, 55);
    let mut model = fit(&log, &keys, settings);
    model.admit(&admitted(&keys)).unwrap();
    // The same tracks in the same plays, numbered the other way round.
    let turned: Vec<TrackKey> = keys.iter().rev().copied().collect();
    let mut other_log = TrainingLog::default();
    for plays in log.sequences() {
        other_log.push(plays.iter().map(|play| ContextPlay {
            track: TrackId(11 - play.track.0),
            ..*play
        }));
    }
    let mut other = fit(&other_log, &turned, settings);
    other.admit(&admitted(&turned)).unwrap();
    assert_eq!(model.item_vectors().unwrap(), other.item_vectors().unwrap());
    for (plays, turned) in log.sequences().zip(other_log.sequences()) {
        let (mut one, mut two) = (Vec::new(), Vec::new());
        model.recommend(&[ask_of(plays, 20)], 12, &mut one).unwrap();
        other
            .recommend(&[ask_of(turned, 20)], 12, &mut two)
            .unwrap();
        let one: Vec<_> = one[0].tracks.iter().map(|s| (s.track.0, s.score)).collect();
        let two: Vec<_> = two[0]
            .tracks
            .iter()
            .map(|s| (11 - s.track.0, s.score))
            .collect();
        assert_eq!(one, two);
    }
}

fn a_track_outside_the_log_has_no_rank(settings: &ItemEncoderSettings) {
    let log = circle(10, 3, 40);
    let mut model = fit(&log, &keys(10), settings);
    model.admit(&admitted(&keys(12))).unwrap();
    let plays = log.sequences().next().unwrap();
    let mut ranks = Vec::new();
    let asks = [ask_of(plays, 5); 3];
    model
        .rank_of(&asks, &[TrackId(11), TrackId(3), TrackId(77)], &mut ranks)
        .unwrap();
    assert_eq!((ranks[0], ranks[2]), (None, None));
    assert!(ranks[1].is_some_and(|rank| (1..=10).contains(&rank)));
    // Nor does one in the context disturb: it is read as "some track".
    let mut strange: Vec<ContextPlay> = plays[..5].to_vec();
    strange[4].track = TrackId(11);
    strange[3].track = TrackId(4_000_000_000);
    model
        .rank_of(&[ask_of(&strange, 5)], &[TrackId(3)], &mut ranks)
        .unwrap();
    assert!(ranks[3].is_some());
}

fn an_empty_log_ranks_nothing(settings: &ItemEncoderSettings) {
    let mut model = fit(&TrainingLog::default(), &[], settings);
    model.admit(&admitted(&keys(3))).unwrap();
    let mut ranks = Vec::new();
    model
        .rank_of(&[ask_of(&[], 0)], &[TrackId(0)], &mut ranks)
        .unwrap();
    assert_eq!(ranks, [None]);
    assert!(model.item_vectors().unwrap().is_empty());
}

fn the_contract_is_kept(settings: &ItemEncoderSettings) {
    let log = circle(40, 3, 60);
    let fixture = Fixture {
        rank_tolerance: 1,
        score_tolerance: 1e-4,
        ..Fixture::default()
    };
    let make = || -> Box<dyn Recommender> { fit(&log, &keys(40), settings) };
    recommender_contract(make, &fixture).unwrap();
}

fn times_do_not_matter_to_it(settings: &ItemEncoderSettings) {
    let log = circle(10, 3, 40);
    let mut model = fit(&log, &keys(10), settings);
    model.admit(&admitted(&keys(10))).unwrap();
    let plays = log.sequences().next().unwrap();
    let mut later = plays.to_vec();
    for play in &mut later {
        play.at = EventTime::from_millis(play.at.millis() + 1_000_000);
    }
    let (mut one, mut two) = (Vec::new(), Vec::new());
    model.recommend(&[ask_of(plays, 7)], 3, &mut one).unwrap();
    model.recommend(&[ask_of(&later, 7)], 3, &mut two).unwrap();
    assert_eq!(one, two);
}

/// Questions of several lengths in one batch are padded, and answered as each alone.
fn padding_changes_nothing(settings: &ItemEncoderSettings) {
    let log = circle(20, 6, 60);
    let mut model = fit(&log, &keys(20), settings);
    model.admit(&admitted(&keys(20))).unwrap();
    let sequences: Vec<&[ContextPlay]> = log.sequences().collect();
    let asks = [(0, 0), (1, 3), (2, 17), (3, 49), (4, 50), (5, 59)]
        .map(|(listener, read): (usize, usize)| ask_of(sequences[listener], read));
    let mut together = Vec::new();
    model.recommend(&asks, 20, &mut together).unwrap();
    for (ask, together) in asks.iter().zip(&together) {
        let mut alone = Vec::new();
        model.recommend(&[*ask], 20, &mut alone).unwrap();
        for one in &alone[0].tracks {
            let other = together.tracks.iter().find(|s| s.track == one.track);
            assert!((other.unwrap().score - one.score).abs() < 1e-4);
        }
    }
}

/// One that takes up a state answers to the last bit as the one that left it; a state of other
/// sizes, of another encoder, or cut short, is refused.
fn what_is_kept_is_taken_up(
    settings: &ItemEncoderSettings,
    larger: &ItemEncoderSettings,
    another: &ItemEncoderSettings,
) {
    let log = circle(20, 6, 60);
    let tracks = keys(22);
    let mut model = fit(&log, &tracks[..20], settings);
    model.admit(&admitted(&tracks)).unwrap();
    let state = model.snapshot().unwrap();
    let mut restored = settings.untaught(Device::Cpu).unwrap();
    restored.restore(&state, &admitted(&tracks)).unwrap();
    assert_eq!(
        restored.item_vectors().unwrap(),
        model.item_vectors().unwrap()
    );
    assert_eq!(restored.snapshot().unwrap(), state);
    for plays in log.sequences() {
        let (mut one, mut two) = (Vec::new(), Vec::new());
        let asks = [ask_of(plays, 7), ask_of(plays, 55)];
        model.recommend(&asks, 22, &mut one).unwrap();
        restored.recommend(&asks, 22, &mut two).unwrap();
        assert_eq!(one, two);
    }
    let refused = |by: &ItemEncoderSettings, state: &[u8]| {
        let mut by = by.untaught(Device::Cpu).unwrap();
        let error = by.restore(state, &admitted(&tracks)).unwrap_err();
        assert!(by.item_vectors().unwrap().is_empty());
        error.to_string()
    };
    let section = format!("models.{}", settings.name());
    let said = refused(larger, &state);
    assert!(said.contains(&section), "{said}");
    refused(another, &state);
    for cut in [0, 1, state.len() / 2, state.len() - 1] {
        refused(settings, &state[..cut]);
    }
}

/// The tests above, for one encoder.
macro_rules! suite {
    ($section:ident, $variant:ident($settings:ident), $log:expr, $draws:expr, $small:expr, $another:expr) => {
        mod $section {
            use super::*;

            fn with(change: impl FnOnce(&mut $settings)) -> ItemEncoderSettings {
                let mut settings = $small;
                change(&mut settings);
                ItemEncoderSettings::$variant(settings)
            }

            fn small() -> ItemEncoderSettings {
                with(|_| {})
            }

            fn short() -> ItemEncoderSettings {
                with(|settings| settings.epochs = 2)
            }

            #[test]
            fn what_follows_is_learnt() {
                super::what_follows_is_learnt(&small(), &$log);
            }

            #[test]
            fn what_follows_is_learnt_from_a_sample() {
                let sampled = with(|settings| {
                    settings.full_softmax_limit = 5;
                    settings.draws = $draws;
                });
                super::what_follows_is_learnt(&sampled, &$log);
            }

            #[test]
            fn dense_ids_decide_nothing() {
                super::dense_ids_decide_nothing(&short());
            }

            #[test]
            fn a_track_outside_the_log_has_no_rank() {
                super::a_track_outside_the_log_has_no_rank(&short());
            }

            #[test]
            fn an_empty_log_ranks_nothing() {
                super::an_empty_log_ranks_nothing(&small());
            }

            #[test]
            fn the_contract_is_kept() {
                super::the_contract_is_kept(&short());
            }

            #[test]
            fn times_do_not_matter_to_it() {
                super::times_do_not_matter_to_it(&short());
            }

            #[test]
            fn padding_changes_nothing() {
                super::padding_changes_nothing(&short());
            }

            #[test]
            fn what_is_kept_is_taken_up() {
                let larger = with(|settings| settings.dimensions *= 2);
                super::what_is_kept_is_taken_up(&short(), &larger, &$another);
            }

            #[test]
            fn settings_out_of_range_are_named() {
                let wrong = with(|settings| settings.lookback = 51);
                let error = wrong.check().unwrap_err().to_string();
                let key = concat!(stringify!($section), ".lookback = 51");
                assert!(error.starts_with(key), "{error}");
                assert!(wrong.untaught(Device::Cpu).is_err());
            }
        }
    };
}

suite!(
    sasrec,
    SasRec(SasRecSettings),
    circle(20, 6, 60),
    12,
    SasRecSettings {
        dimensions: 16,
        blocks: 1,
        dropout: 0.0,
        lookback: 5,
        epochs: 30,
        patience: 30,
        batch: 8,
        learning_rate: 1e-2,
        ..SasRecSettings::default()
    },
    ItemEncoderSettings::Gru4Rec(Gru4RecSettings::default())
);

suite!(
    bert4rec,
    Bert4Rec(Bert4RecSettings),
    // Less than a round: a hidden play must not be told from a round ago.
    circle(20, 40, 12),
    40,
    Bert4RecSettings {
        dimensions: 32,
        blocks: 1,
        newest_only: 0.3,
        dropout: 0.0,
        lookback: 5,
        epochs: 250,
        patience: 250,
        batch: 8,
        learning_rate: 1e-2,
        init: 0.2,
        ..Bert4RecSettings::default()
    },
    ItemEncoderSettings::SasRec(SasRecSettings::default())
);

suite!(
    gru4rec,
    Gru4Rec(Gru4RecSettings),
    circle(20, 6, 60),
    12,
    Gru4RecSettings {
        dimensions: 16,
        input_dropout: 0.0,
        dropout: 0.0,
        lookback: 5,
        epochs: 60,
        patience: 60,
        batch: 8,
        learning_rate: 1e-2,
        ..Gru4RecSettings::default()
    },
    ItemEncoderSettings::Bert4Rec(Bert4RecSettings::default())
);
