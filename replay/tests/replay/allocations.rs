use std::ops::ControlFlow;

use segue_replay::formats::{Reading, lastfm};
use segue_replay::{MergeSettings, OrderedListens, Rejects, SimulatorSettings};

use crate::counting::{Counted, measure};
use crate::log;

#[test]
fn reading_a_row_allocates_nothing() {
    let read = |text: &str| -> Counted {
        let (settings, mut rejects) = (Default::default(), Rejects::counted());
        let mut reading = Reading {
            path: "log.tsv".as_ref(),
            settings: &settings,
            rejects: &mut rejects,
        };
        let mut listens = 0;
        let counted = measure(|| {
            let flow = lastfm::read(text.as_bytes(), &mut reading, |_| {
                listens += 1;
                Ok(ControlFlow::Continue(()))
            });
            assert!(flow.is_ok());
        });
        assert_eq!(listens, text.lines().count());
        counted
    };
    let (few, many) = (read(&log(2, 400)), read(&log(40, 400)));
    assert!(few.allocations > 0, "the counter counts");
    assert_eq!(few.allocations, many.allocations);
}

#[test]
fn sorting_a_longer_log_takes_no_more_memory() {
    let merge = MergeSettings {
        run_bytes: 256 * 1024,
        fan_in: 4,
        temp_dir: None,
    };
    let sort = |days: u32| -> (Counted, u64) {
        let settings = SimulatorSettings {
            users: 50,
            tracks: 200,
            days,
            ..SimulatorSettings::default()
        };
        let mut seen = 0;
        let counted = measure(|| {
            let listens = segue_replay::Simulator::new(settings).unwrap();
            let mut ordered = OrderedListens::of(listens, &merge).unwrap();
            while ordered.next_listen().unwrap().is_some() {
                seen += 1;
            }
        });
        (counted, seen)
    };
    let ((short, few), (long, many)) = (sort(20), sort(160));
    assert!(many > 6 * few && few > 5_000, "{few} {many}");
    let growth = long.peak_bytes as f64 / short.peak_bytes as f64;
    assert!(growth < 1.3, "{short:?} {long:?}");
}
