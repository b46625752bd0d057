use super::*;
use proptest::prelude::*;
use segue_listen::{EventTime, UserId};

fn facts(user: u32, at: i64, plays: u64, first_play: bool, cold_track: bool) -> Facts {
    Facts {
        user: UserId(user),
        at: EventTime::from_millis(at),
        plays,
        first_play,
        cold_track,
    }
}

fn settings(window: u64, fading: f64) -> PrequentialSettings {
    PrequentialSettings {
        window,
        fading,
        ..PrequentialSettings::default()
    }
}

fn mean(estimate: crate::interval::Estimate) -> f64 {
    estimate.mean.unwrap()
}

#[test]
fn parts_windows_and_differences_are_what_they_say() {
    let mut evaluation = Prequential::new(&["a", "b"], &[("a", "b")], settings(3, 0.5)).unwrap();
    let plays = [
        facts(1, 10, 0, true, true),
        facts(1, 20, 1, false, false),
        facts(2, 15, 70, true, false),
        facts(2, 40, 71, false, false),
    ];
    let a = [None, Some(1), Some(15), Some(1)];
    let b = [None, Some(2), Some(100), Some(1)];
    evaluation.record(&plays, &[&a, &b]).unwrap();
    assert_eq!(evaluation.events(), 4);
    let report = evaluation.report();
    let one = &report.recommenders[0];
    assert_eq!((one.name.as_str(), one.unranked), ("a", 1));
    let recall_20 = |slice: &Slice| mean(slice.per_event.recall_20);
    assert_eq!(recall_20(&one.parts.overall), 0.75);
    assert_eq!(recall_20(&one.parts.repeats), 1.0);
    assert_eq!(recall_20(&one.parts.first_plays), 0.5);
    assert_eq!(recall_20(&one.parts.cold_tracks), 0.0);
    assert_eq!(recall_20(&one.parts.warm_tracks), 1.0);
    assert_eq!(recall_20(&one.parts.cold_users), 0.5);
    assert_eq!(recall_20(&one.parts.warm_users), 1.0);
    assert_eq!(
        (one.parts.cold_users.events, one.parts.cold_users.users),
        (2, 1)
    );
    assert_eq!(mean(one.parts.overall.per_event.recall_10), 0.5);

    let windows = &one.parts.windows;
    assert_eq!(windows.len(), 2);
    assert_eq!((windows[0].from, windows[0].to), (10, 20));
    assert!(windows[0].whole && !windows[1].whole);
    assert_eq!(
        (windows[0].overall.events, windows[0].overall.users),
        (3, 2)
    );
    assert_eq!(mean(windows[0].repeats.metrics.mrr), 1.0);
    assert_eq!((windows[1].from, windows[1].overall.events), (40, 1));
    // Recall@20 of 0, 1, 1, 1 with weights 1/8, 1/4, 1/2, 1.
    let faded = evaluation.faded("a").unwrap().recall_20;
    assert!((faded - 1.75 / 1.875).abs() < 1e-12);
    assert_eq!(windows[1].faded, evaluation.faded("a").unwrap());
    assert_eq!(evaluation.last_window("a"), Some(&windows[0]));
    assert_eq!(evaluation.last_window("c"), None);

    let ahead = &report.differences[0];
    assert_eq!((ahead.name.as_str(), ahead.minus.as_str()), ("a", "b"));
    assert_eq!(recall_20(&ahead.parts.overall), 0.25);
    assert_eq!(mean(ahead.parts.repeats.per_event.mrr), 0.25);
}

#[test]
fn means_per_event_and_over_listeners_differ_when_one_listens_more() {
    let mut evaluation = Prequential::new(&["a"], &[], settings(100, 0.9)).unwrap();
    let plays: Vec<Facts> = (0..10)
        .map(|at| facts(u32::from(at == 9), at, 60, true, false))
        .collect();
    let ranks: Vec<Option<u32>> = (0..10).map(|at| (at < 9).then_some(1)).collect();
    evaluation.record(&plays, &[&ranks]).unwrap();
    let overall = evaluation.report().recommenders[0].parts.overall;
    assert_eq!(mean(overall.per_event.mrr), 0.9);
    assert_eq!(mean(overall.per_user.mrr), 0.5);
    let interval = overall.per_event.mrr;
    assert_eq!(
        (interval.low, interval.high),
        (None, None),
        "where one listener plays nearly everything there is no sample of listeners"
    );
    let interval = overall.per_user.mrr;
    assert!(interval.low.unwrap() >= 0.0 && interval.high.unwrap() <= 1.0);
}

#[test]
fn what_does_not_fit_is_refused_and_named() {
    assert!(Prequential::new(&["a"], &[], settings(0, 0.5)).is_err());
    let error = Prequential::new(&["a"], &[], settings(1, 1.0)).unwrap_err();
    assert!(error.to_string().contains("prequential.fading = 1"));
    let error = Prequential::new(&["a", "b"], &[("a", "c")], settings(1, 0.5)).unwrap_err();
    assert!(error.to_string().contains("`c`") && error.to_string().contains("a, b"));
    let mut evaluation = Prequential::new(&["a"], &[], settings(1, 0.5)).unwrap();
    let plays = [facts(0, 0, 0, true, true)];
    assert!(evaluation.record(&plays, &[]).is_err());
    assert!(evaluation.record(&plays, &[&[]]).is_err());
    assert_eq!(evaluation.events(), 0);
    let report = evaluation.report();
    assert_eq!(
        report.recommenders[0].parts.overall.per_event.mrr.mean,
        None
    );
    assert!(report.recommenders[0].parts.windows.is_empty());
}

proptest! {
    /// The parts add up to the whole, however the plays are cut into batches; the windows too.
    #[test]
    fn parts_and_windows_add_up(
        plays in prop::collection::vec(
            (0u32..6, 0u64..100, any::<bool>(), any::<bool>(), prop::option::of(1u32..60)), 1..200),
        batch in 1usize..50,
        window in 1u64..40,
    ) {
        let mut evaluation = Prequential::new(&["a"], &[("a", "a")], settings(window, 0.9)).unwrap();
        for plays in plays.chunks(batch) {
            let facts: Vec<Facts> = plays
                .iter()
                .map(|&(user, plays, first, cold, _)| facts(user, 0, plays, first, cold && first))
                .collect();
            let ranks: Vec<Option<u32>> = plays.iter().map(|play| play.4).collect();
            evaluation.record(&facts, &[&ranks]).unwrap();
        }
        let report = evaluation.report();
        let parts = &report.recommenders[0].parts;
        let total = |slice: &Slice| slice.events as f64 * slice.per_event.ndcg_20.mean.unwrap_or(0.0);
        let expected: f64 = plays.iter().map(|p| crate::ranking::ndcg_at(p.4, 20)).sum();
        prop_assert!((total(&parts.overall) - expected).abs() < 1e-9);
        for (one, other) in [
            (&parts.repeats, &parts.first_plays),
            (&parts.cold_tracks, &parts.warm_tracks),
            (&parts.cold_users, &parts.warm_users),
        ] {
            prop_assert_eq!(one.events + other.events, plays.len() as u64);
            prop_assert!((total(one) + total(other) - expected).abs() < 1e-9);
        }
        prop_assert_eq!(parts.windows.len() as u64, (plays.len() as u64).div_ceil(window));
        let windows: f64 = parts.windows.iter()
            .map(|w| w.overall.events as f64 * w.overall.metrics.ndcg_20.mean.unwrap())
            .sum();
        prop_assert!((windows - expected).abs() < 1e-9);
        let same = &report.differences[0].parts.overall;
        prop_assert_eq!(same.per_event.mrr.mean, Some(0.0));
    }
}
