use super::*;
use crate::contract::{Fixture, recommender_contract};
use segue_listen::{EventTime, TrackKey, UserId};

fn rules(successors: usize, decay: f32, tracks: u32) -> SequentialRules {
    let mut rules = SequentialRules::new(successors, decay);
    let tracks: Vec<Admitted<'_>> = (0..tracks)
        .map(|id| Admitted {
            track: TrackId(id),
            key: TrackKey(u128::from(id) + 1),
            names: None,
            content: None,
        })
        .collect();
    rules.admit(&tracks).unwrap();
    rules
}

/// Plays as `(track, opens a session)`.
fn plays(tracks: &[(u32, bool)]) -> Vec<ContextPlay> {
    (0i64..)
        .zip(tracks)
        .map(|(at, &(track, opens_session))| ContextPlay {
            track: TrackId(track),
            at: EventTime::from_millis(at),
            ratio: None,
            opens_session,
        })
        .collect()
}

/// One listener's whole log, learnt play by play.
fn learn(rules: &mut SequentialRules, epoch: u64, log: &[ContextPlay], from: usize) {
    for at in from..log.len() {
        let example = Example {
            ask: Ask {
                user: UserId(0),
                plays: at as u64,
                context: &log[..at],
            },
            actual: log[at].track,
        };
        rules.learn(Epoch(epoch), &[example]).unwrap();
    }
}

fn rank(rules: &mut SequentialRules, last: u32, actual: u32) -> u32 {
    let context = plays(&[(last, false)]);
    let ask = Ask {
        user: UserId(1),
        plays: 1,
        context: &context,
    };
    let mut ranks = Vec::new();
    rules
        .rank_of(&[ask], &[TrackId(actual)], &mut ranks)
        .unwrap();
    ranks[0].unwrap()
}

#[test]
fn keeps_the_contract() {
    let fixture = Fixture::default();
    recommender_contract(|| Box::new(SequentialRules::default()), &fixture).unwrap();
    recommender_contract(|| Box::new(SequentialRules::new(3, 0.5)), &fixture).unwrap();
}

#[test]
fn transitions_inside_sessions_are_counted_once_each() {
    let log = plays(&[
        (0, true),
        (1, false),
        (0, false),
        (1, false),
        (0, false),
        (2, false),
        (0, false),
        (3, true),
        (4, false),
    ]);
    let mut rules = rules(8, 1.0, 6);
    learn(&mut rules, 1, &log, 0);
    assert_eq!(rank(&mut rules, 0, 1), 1);
    assert_eq!(rank(&mut rules, 0, 2), 2);
    assert_eq!(rank(&mut rules, 0, 3), 6, "3 opened a session");
    assert_eq!(rank(&mut rules, 5, 0), 6, "nothing follows 5");
    let weights = |rules: &SequentialRules| rules.rows[&TrackId(0)].weights.clone();
    let once = weights(&rules);
    assert_eq!(once[0].score, 2.0);
    // Trained on a part and learning on from there is learning all.
    for cut in 0..log.len() {
        let mut trained = self::rules(8, 1.0, 6);
        let mut first = TrainingLog::default();
        first.push(log[..cut].iter().copied());
        trained.train(&first);
        learn(&mut trained, 1, &log, cut);
        assert_eq!(weights(&trained), once, "cut at {cut}");
    }
}

#[test]
fn a_full_row_keeps_the_heavy_successors() {
    let mut rules = rules(3, 1.0, 50);
    for round in 0..40u32 {
        let log = plays(&[
            (0, true),
            (1, false),
            (0, false),
            (2 + round, false),
            (0, true),
        ]);
        learn(&mut rules, 1, &log, 0);
    }
    assert_eq!(rules.rows[&TrackId(0)].weights.len(), 3);
    assert_eq!(rank(&mut rules, 0, 1), 1);
}

#[test]
fn old_transitions_fade() {
    let mut rules = rules(8, 0.5, 4);
    let old = plays(&[(0, true), (1, false), (0, false), (1, false), (0, true)]);
    learn(&mut rules, 1, &old, 0);
    assert_eq!(rank(&mut rules, 0, 1), 1);
    let new = plays(&[(0, true), (2, false), (3, true)]);
    learn(&mut rules, 4, &new, 0);
    assert_eq!((rank(&mut rules, 0, 2), rank(&mut rules, 0, 1)), (1, 2));
}
