use super::*;
use crate::recommender::ContextPlay;
use segue_listen::{EventTime, UserId};

const CONTEXT: [ContextPlay; 1] = [ContextPlay {
    track: TrackId(9),
    at: EventTime::from_millis(1),
    ratio: None,
    opens_session: true,
}];

/// The `n`th play of a stream of five listeners; every tenth is of a new track.
fn play(n: u64) -> (Example<'static>, Facts) {
    let user = UserId((n % 5) as u32);
    let ask = Ask {
        user,
        plays: n / 5,
        context: &CONTEXT,
    };
    let facts = Facts {
        user,
        at: EventTime::from_millis(n as i64),
        plays: n / 5,
        first_play: false,
        cold_track: n % 10 == 3,
    };
    let actual = TrackId(n as u32);
    (Example { ask, actual }, facts)
}

fn settings(seed: u64) -> PrequentialSettings {
    PrequentialSettings {
        old_plays: 40,
        old_among: 1_000,
        old_every: 500,
        seed,
        ..PrequentialSettings::default()
    }
}

/// After a thousand plays in portions, all ranked first by `a` and second by `b`.
fn drawn(seed: u64, portion: usize) -> OldPlays {
    let names = vec!["a".to_owned(), "b".to_owned()];
    let mut old = OldPlays::new(names, &[("a", "b"), ("a", "c")], settings(seed));
    let plays: Vec<_> = (0..1_000).map(play).collect();
    for (at, plays) in plays.chunks(portion).enumerate() {
        assert!(!old.came_to((at * portion) as u64));
        let places = old.draw(plays);
        let few: Vec<_> = places.iter().map(|&at| plays[at]).collect();
        let columns = [1, 2].map(|rank| vec![Some(rank); few.len()]);
        old.tell(&few, &columns);
    }
    old
}

fn tracks(old: &OldPlays) -> Vec<u32> {
    let plays = old.plays.iter();
    plays.map(|old| old.example.as_example().actual.0).collect()
}

#[test]
fn the_sample_is_of_known_tracks_and_follows_from_the_seed_alone() {
    let old = drawn(1, 100);
    assert_eq!((old.plays.len(), old.seen), (40, 900));
    assert!(tracks(&old).iter().all(|track| track % 10 != 3));
    let late = tracks(&old).iter().filter(|&&track| track >= 500).count();
    assert!((8..=32).contains(&late), "{late} of the second half");
    assert!(old.plays.iter().all(|old| old.new == [Some(1), Some(2)]));
    assert_eq!(tracks(&old), tracks(&drawn(1, 7)));
    assert_ne!(tracks(&old), tracks(&drawn(2, 100)));
}

#[test]
fn readings_come_in_portions_and_tell_what_has_changed() {
    let mut old = drawn(1, 100);
    assert!(old.asks().is_empty() && old.due(5_000).0.is_empty());
    assert!(old.came_to(1_000) && !old.came_to(1_001));
    assert_eq!(old.asks().len(), 40);
    assert!(old.draw(&[play(7)]).is_empty(), "it stands");
    // At first `a` finds half of what it found, in the next reading nothing; `b` finds all.
    for (events, found, change) in [(1_000, 0.5, -0.5), (1_600, 0.0, -1.0)] {
        let mut whole = 0;
        for portion in [PORTION, 40 - PORTION] {
            let (asks, actual) = old.due(events);
            assert_eq!((asks.len(), actual.len()), (portion, portion));
            let finds = |at: usize| Some(1).filter(|_| at.is_multiple_of(2) && found > 0.0);
            let a = (0..portion).map(finds).collect();
            whole += usize::from(old.read(events, &[a, vec![Some(2); portion]]).is_some());
        }
        assert_eq!(whole, 1, "with its last portion a reading is over");
        assert!(old.due(events + 499).0.is_empty());
        let report = old.report().unwrap();
        let reading = report.readings.last().unwrap();
        assert_eq!(reading.after, events);
        let mean = |metrics: &crate::tally::Metrics| metrics.recall_20.mean.unwrap();
        let [a, b] = [0, 1].map(|at| &reading.recommenders[at]);
        assert_eq!(
            (mean(&a.new), mean(&a.now), mean(&a.change)),
            (1.0, found, change)
        );
        assert_eq!((mean(&b.now), mean(&b.change)), (1.0, 0.0));
        let [pair] = &reading.differences[..] else {
            panic!("c takes no part: {:?}", reading.differences)
        };
        assert_eq!((mean(&pair.now), mean(&pair.change)), (change, change));
        assert!(pair.change.recall_20.high.unwrap() < 0.0);
    }
    assert_eq!(old.report().unwrap().readings.len(), 2);
}

#[test]
fn a_checkpoint_keeps_the_sample_and_a_reading_that_is_going_on() {
    let mut old = drawn(3, 100);
    old.came_to(1_000);
    let ranks = || [vec![Some(3); PORTION], vec![None; PORTION]];
    assert!(old.read(1_000, &ranks()).is_none());
    let bytes = rmp_serde::to_vec(&old).unwrap();
    let mut other: OldPlays = rmp_serde::from_slice(&bytes).unwrap();
    for old in [&mut old, &mut other] {
        let rest = old.due(1_010).0.len();
        assert_eq!(rest, 40 - PORTION);
        let ranks = ranks().map(|column| column[..rest].to_vec());
        assert!(old.read(1_010, &ranks).is_some());
    }
    assert_eq!(old.report(), other.report());
}

#[test]
fn without_room_or_recommenders_nothing_is_drawn() {
    let none = PrequentialSettings {
        old_plays: 0,
        ..settings(1)
    };
    for (names, settings) in [(vec!["a".to_owned()], none), (Vec::new(), settings(1))] {
        let mut old = OldPlays::new(names, &[], settings);
        assert!(old.draw(&[play(1)]).is_empty());
        assert!(!old.came_to(100_000));
        assert!(old.report().is_none());
    }
}
