//! SASRec learns what there is to learn, and keeps the contract.

use segue_listen::{EventTime, TrackId, TrackKey};
use segue_recommend::ContextPlay;
use segue_recommend::contract::{Fixture, recommender_contract};
use segue_recommend::recommender::{Admitted, Recommender};
use segue_recommend::training::TrainingLog;
use tch::Device;

use super::SasRec;
use crate::settings::SasRecSettings;
use crate::windows::tests_support::{ask_of, plays_of};

fn settings() -> SasRecSettings {
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
    }
}

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
            content: None,
        })
        .collect()
}

fn fit(log: &TrainingLog, keys: &[TrackKey], settings: &SasRecSettings) -> SasRec {
    SasRec::fit(log, keys, settings, Device::Cpu, &mut ())
        .unwrap()
        .0
}

fn hits(model: &mut SasRec, log: &TrainingLog) -> usize {
    let mut hits = 0;
    for plays in log.sequences() {
        for read in [1usize, 9, 33, 49] {
            let mut ranks = Vec::new();
            model
                .rank_of(&[ask_of(plays, read)], &[plays[read].track], &mut ranks)
                .unwrap();
            hits += usize::from(ranks[0] == Some(1));
        }
    }
    hits
}

#[test]
fn what_follows_is_learnt() {
    let log = circle(20, 6, 60);
    for full_softmax_limit in [100, 5] {
        let settings = SasRecSettings {
            full_softmax_limit,
            draws: 12,
            ..settings()
        };
        let mut model = fit(&log, &keys(20), &settings);
        model.admit(&admitted(&keys(20))).unwrap();
        let hits = hits(&mut model, &log);
        assert!(hits >= 22, "{hits} of 24 with limit {full_softmax_limit}");
    }
}

#[test]
fn dense_ids_decide_nothing() {
    let keys = keys(12);
    let log = circle(12, 4, 55);
    let mut model = fit(&log, &keys, &settings());
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
    let mut other = fit(&other_log, &turned, &settings());
    other.admit(&admitted(&turned)).unwrap();
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

#[test]
fn a_track_outside_the_log_has_no_rank() {
    let log = circle(10, 3, 40);
    let mut model = fit(&log, &keys(10), &settings());
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

#[test]
fn an_empty_log_ranks_nothing() {
    let mut model = fit(&TrainingLog::default(), &[], &settings());
    model.admit(&admitted(&keys(3))).unwrap();
    let mut ranks = Vec::new();
    model
        .rank_of(&[ask_of(&[], 0)], &[TrackId(0)], &mut ranks)
        .unwrap();
    assert_eq!(ranks, [None]);
}

#[test]
fn the_contract_is_kept() {
    let log = circle(40, 3, 60);
    let fixture = Fixture {
        rank_tolerance: 1,
        score_tolerance: 1e-4,
        ..Fixture::default()
    };
    let short = SasRecSettings {
        epochs: 2,
        ..settings()
    };
    let make = || -> Box<dyn Recommender> { Box::new(fit(&log, &keys(40), &short)) };
    recommender_contract(make, &fixture).unwrap();
}

#[test]
fn times_do_not_matter_to_it() {
    let log = circle(10, 3, 40);
    let mut model = fit(&log, &keys(10), &settings());
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
