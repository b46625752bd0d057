use proptest::prelude::*;
use segue_listen::{EventTime, Listen, Span, TrackKey};

use super::*;

fn small(fan_in: usize) -> MergeSettings {
    MergeSettings {
        run_bytes: 64 * 1024,
        fan_in,
        temp_dir: None,
    }
}

fn sorted(listens: &[Listen], settings: &MergeSettings) -> Vec<Listen> {
    let mut sorter = Sorter::new(settings).unwrap();
    for listen in listens {
        sorter.push(&listen.borrowed()).unwrap();
    }
    assert_eq!(sorter.listens(), listens.len() as u64);
    let mut sorted = sorter.finish().unwrap();
    let mut seen = Vec::new();
    while let Some(listen) = sorted.next_listen().unwrap() {
        seen.push(listen.to_owned());
    }
    seen
}

fn listen(user: u8, at: i64, arrival: usize, padding: usize) -> Listen {
    Listen {
        user: format!("user_{user}"),
        track: TrackKey(arrival as u128 + 1),
        artist: "é".repeat(padding),
        title: format!("{arrival}"),
        at: EventTime::from_millis(at),
        duration: arrival
            .is_multiple_of(3)
            .then(|| Span::from_millis(arrival as i64)),
        played: arrival.is_multiple_of(5).then_some(Span::ZERO),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Few users and few instants, so that ties are common; rows so long that runs are spilled and
    /// merged in several passes.
    #[test]
    fn merging_is_sorting(
        rows in prop::collection::vec((0u8..4, 0i64..50), 0..300), padding in 0usize..2_000,
        fan_in in 2usize..5,
    ) {
        let listens: Vec<Listen> = rows.iter().enumerate()
            .map(|(arrival, (user, at))| listen(*user, *at, arrival, padding))
            .collect();
        let mut expected = listens.clone();
        expected.sort_by(|a, b| (a.at, &a.user).cmp(&(b.at, &b.user)));
        prop_assert_eq!(sorted(&listens, &small(fan_in)), expected);
    }
}

#[test]
fn a_row_larger_than_a_run_is_a_run() {
    let listens = [
        listen(1, 5, 0, 100_000),
        listen(1, 4, 1, 1),
        listen(1, 3, 2, 100_000),
    ];
    let titles: Vec<_> = sorted(&listens, &small(2))
        .into_iter()
        .map(|l| l.title)
        .collect();
    assert_eq!(titles, ["2", "1", "0"]);
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let settings = MergeSettings {
        temp_dir: Some("/no/such/folder".into()),
        ..small(2)
    };
    let mut sorter = Sorter::new(&settings).unwrap();
    let failed = (0..3).find_map(|i| sorter.push(&listen(1, 5, i, 30_000).borrowed()).err());
    let error = failed.unwrap().to_string();
    assert!(
        error.contains("/no/such/folder") && error.contains("temp_dir"),
        "{error}"
    );
}

#[test]
fn settings_that_make_no_sense_are_named() {
    for (settings, key) in [
        (
            MergeSettings {
                run_bytes: 5,
                ..MergeSettings::default()
            },
            "run_bytes",
        ),
        (
            MergeSettings {
                fan_in: 1,
                ..MergeSettings::default()
            },
            "fan_in",
        ),
    ] {
        let error = Sorter::new(&settings).err().unwrap().to_string();
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn temporary_files_have_no_name_to_leave_behind() {
    let folder = tempfile::tempdir().unwrap();
    let settings = MergeSettings {
        temp_dir: Some(folder.path().to_owned()),
        ..small(2)
    };
    let mut sorter = Sorter::new(&settings).unwrap();
    for arrival in 0..20 {
        sorter
            .push(&listen(1, 5, arrival, 5_000).borrowed())
            .unwrap();
    }
    assert!(!sorter.levels.is_empty(), "something was spilled");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
