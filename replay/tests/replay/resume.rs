use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use segue_flow::clock::WallClock;
use segue_flow::partition::partition_of;
use segue_listen::wire::{self, Decoded, Format};
use segue_replay::{
    DeliverySettings, Inputs, Outcome, Pace, Progress, Reason, Replay, ReplayReport, ReplaySettings,
};

use crate::sinks::Kept;
use crate::{log, write};

/// Moves only when someone sleeps on it.
#[derive(Default)]
struct StillClock(Mutex<Duration>);

impl WallClock for StillClock {
    fn now(&self) -> Duration {
        *self.0.lock().unwrap()
    }

    fn sleep(&self, duration: Duration) {
        *self.0.lock().unwrap() += duration;
    }
}

struct Bench {
    folder: tempfile::TempDir,
    settings: ReplaySettings,
    clock: Arc<StillClock>,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "log.tsv", log(5, 400).as_bytes());
        let settings = ReplaySettings {
            state: Some(folder.path().join("state.json")),
            deliver: DeliverySettings {
                partitions: 3,
                // An epoch ends where a heartbeat is due: the next run must know of it.
                listens_per_epoch: 150,
                ..DeliverySettings::default()
            },
            ..ReplaySettings::default()
        };
        Self {
            folder,
            settings,
            clock: Arc::default(),
        }
    }

    fn run(&self, sink: &mut Kept, stop: &AtomicBool) -> Result<ReplayReport, String> {
        let inputs = Inputs::find(&[self.folder.path().join("log.tsv")]).unwrap();
        Replay::new(inputs, self.settings.clone())
            .with_clock(self.clock.clone())
            .run(sink, stop, |_| {})
            .map_err(|error| error.to_string())
    }

    fn whole(&self) -> Kept {
        let mut sink = Kept::default();
        let settings = ReplaySettings {
            state: None,
            ..self.settings.clone()
        };
        let inputs = Inputs::find(&[self.folder.path().join("log.tsv")]).unwrap();
        let report = Replay::new(inputs, settings)
            .run(&mut sink, &AtomicBool::new(false), |_| {})
            .unwrap();
        assert_eq!(report.delivered.unwrap().outcome, Outcome::Finished);
        sink
    }
}

#[test]
fn a_run_is_keyed_covered_and_closed() {
    let sink = Bench::new().whole();
    let mut listens = 0;
    let mut last_heartbeat = [0; 3];
    let mut seen = [0; 3];
    for (partition, key, value) in &sink.committed {
        let partition = partition.unwrap() as usize;
        match wire::decode(value, Format::MessagePack).unwrap() {
            Decoded::Listen(listen) => {
                let listen = listen.listen();
                assert_eq!(key.as_deref(), Some(listen.user.as_bytes()));
                assert_eq!(partition_of(listen.user.as_bytes(), 3), partition as u32);
                assert!(listen.at.millis() >= last_heartbeat[partition], "in time");
                seen[partition] = listen.at.millis();
                listens += 1;
            }
            Decoded::Heartbeat(at) => {
                assert!(key.is_none());
                assert!(at.millis() >= seen[partition] && at.millis() > last_heartbeat[partition]);
                last_heartbeat[partition] = at.millis();
            }
        }
    }
    assert_eq!(listens, 2_000);
    let end = *seen.iter().max().unwrap();
    assert_eq!(last_heartbeat, [end; 3], "every partition hears of the end");
    let mut next = 0;
    for range in &sink.covers {
        assert_eq!(range.from.0, next);
        next = range.to.0;
    }
    assert_eq!(next, 2_000);
}

#[test]
fn stopping_and_going_on_is_running_through() {
    let bench = Bench::new();
    let expected = bench.whole().committed;
    let mut sink = Kept::default();
    let stop = Arc::new(AtomicBool::new(false));
    let mut outcomes = Vec::new();
    for _ in 0..20 {
        stop.store(false, Ordering::Relaxed);
        let until = sink.commits + 2;
        let asked = stop.clone();
        sink.after_commit = Some(Box::new(move |commit| {
            if commit >= until {
                asked.store(true, Ordering::Relaxed);
            }
        }));
        let report = bench.run(&mut sink, &stop).unwrap();
        outcomes.push(report.delivered.unwrap().outcome);
        if outcomes.last() == Some(&Outcome::FinishedBefore) {
            break;
        }
    }
    assert!(
        outcomes.iter().filter(|o| **o == Outcome::Stopped).count() > 2,
        "{outcomes:?}"
    );
    assert_eq!(outcomes.last(), Some(&Outcome::FinishedBefore));
    assert!(sink.committed == expected, "what was written differs");
}

#[test]
fn a_sink_that_comes_back_gets_every_record_once() {
    let bench = Bench::new();
    let expected = bench.whole().committed;
    let mut sink = Kept {
        failures: vec![(0, false), (3, false), (4, false), (5, false)],
        ..Kept::default()
    };
    bench.run(&mut sink, &AtomicBool::new(false)).unwrap();
    assert!(sink.committed == expected);
}

#[test]
fn a_sink_that_refuses_ends_the_run_which_can_go_on_later() {
    let bench = Bench::new();
    let expected = bench.whole().committed;
    let mut sink = Kept {
        failures: vec![(4, true)],
        ..Kept::default()
    };
    let error = bench.run(&mut sink, &AtomicBool::new(false)).unwrap_err();
    assert!(error.contains("topic listens: was deleted"), "{error}");
    sink.failures = (5..100).map(|call| (call, false)).collect();
    let error = bench.run(&mut sink, &AtomicBool::new(false)).unwrap_err();
    assert!(error.contains("localhost:1 cannot be reached"), "{error}");
    sink.failures.clear();
    bench.run(&mut sink, &AtomicBool::new(false)).unwrap();
    assert!(sink.committed == expected);
}

#[test]
fn a_record_that_is_too_large_is_rejected_and_kept_over_a_stop_too() {
    let mut bench = Bench::new();
    let large = |minute: u32| {
        let artist = "a".repeat(5_000);
        format!("u\t2009-01-01T00:{minute}:01Z\t\t{artist}\t\tx\n")
    };
    // Two plays an epoch: the fourth in time order is too large, and so is the last but one.
    let text = log(1, 10) + &large(11) + "no listen\n" + &large(35);
    write(bench.folder.path(), "log.tsv", text.as_bytes());
    let rejects = bench.folder.path().join("kept/rejects.tsv");
    bench.settings.read.rejects = Some(rejects.clone());
    bench.settings.deliver.listens_per_epoch = 2;
    let stop = Arc::new(AtomicBool::new(false));
    let asked = stop.clone();
    let mut sink = Kept {
        limit: Some(1_000),
        failures: vec![(1, false)],
        after_commit: Some(Box::new(move |call| {
            asked.store(call == 3, Ordering::Relaxed);
        })),
        ..Kept::default()
    };
    let first = bench.run(&mut sink, &stop).unwrap();
    let delivered = first.delivered.unwrap();
    assert_eq!(delivered.outcome, Outcome::Stopped);
    assert_eq!((delivered.too_large, delivered.listens), (1, 5));
    assert_eq!(first.rejected(), 2);
    stop.store(false, Ordering::Relaxed);
    let second = bench.run(&mut sink, &stop).unwrap().delivered.unwrap();
    assert_eq!((second.too_large, second.listens), (1, 5));
    let listens = sink.committed.iter().filter(|(_, key, _)| key.is_some());
    assert_eq!(listens.count(), 10);

    let kept = std::fs::read_to_string(rejects).unwrap();
    let kept: Vec<_> = kept.lines().collect();
    assert_eq!(
        kept.len(),
        3,
        "the second run keeps what the first one kept"
    );
    assert!(kept[0].ends_with("log.tsv:12\tnot 6 columns\tno listen"));
    for (row, number) in [(kept[1], 4), (kept[2], 11)] {
        let begins = format!("listens:{number}\t{}\t{{\"v\":", Reason::TooLarge);
        assert!(row.starts_with(&begins), "{}", &row[..80]);
    }
}

#[test]
fn another_input_is_refused() {
    let bench = Bench::new();
    let mut sink = Kept {
        failures: vec![(4, true)],
        ..Kept::default()
    };
    bench.run(&mut sink, &AtomicBool::new(false)).unwrap_err();
    write(bench.folder.path(), "log.tsv", log(4, 400).as_bytes());
    let error = bench.run(&mut sink, &AtomicBool::new(false)).unwrap_err();
    assert!(
        error.contains("state.json") && error.contains("another input"),
        "{error}"
    );
}

#[test]
fn the_pace_is_kept_and_said() {
    let mut bench = Bench::new();
    for (pace, least, most) in [
        (Pace::EventsPerSecond(NonZeroU32::new(100).unwrap()), 19, 20),
        // 399 plays, 4 minutes apart, at 600 times the speed.
        (Pace::RealTime(600.0), 159, 160),
    ] {
        bench.settings.state = None;
        bench.settings.deliver.pace = pace;
        bench.clock = Arc::default();
        let mut sink = Kept::default();
        let inputs = Inputs::find(&[bench.folder.path().join("log.tsv")]).unwrap();
        let mut sent = Vec::new();
        Replay::new(inputs, bench.settings.clone())
            .with_clock(bench.clock.clone())
            .run(&mut sink, &AtomicBool::new(false), |progress| {
                if let Progress::Sending(send) = progress {
                    sent.push(*send);
                }
            })
            .unwrap();
        let took = bench.clock.now().as_secs();
        assert!((least..=most).contains(&took), "{pace:?}: {took} s");
        let last = sent.last().unwrap();
        assert_eq!((last.position, last.total), (2_000, Some(2_000)));
        assert!(
            sent.iter()
                .all(|s| s.lag.unwrap() <= Duration::from_millis(200))
        );
        assert!(sent[0].left.unwrap().as_secs() > least / 2);
    }
}
