//! How runs end: by a signal, with everything worked off; by a failure, all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use segue::commands::run::{From, Run, counting};
use segue::http::Phase;
use segue::pipeline;
use segue_flow::clock::{MachineClock, WallClock};
use segue_flow::memory::memory_topic;
use segue_flow::{Offset, RawRecord, Readiness, Replay, Source, SourceError};
use segue_log::Log;

use crate::rig;
use crate::same_answer::deliver;

/// Gives no record, and says this to whoever reads.
struct Recordless(fn(Duration) -> Result<Readiness, SourceError>);

impl Source for Recordless {
    fn replay(&self) -> Replay {
        Replay::Never
    }
    fn position(&self) -> Offset {
        Offset(0)
    }
    fn seek(&mut self, _: Offset) -> Result<(), SourceError> {
        Ok(())
    }
    fn read_runs(
        &mut self,
        patience: Duration,
        _: &mut dyn FnMut(&[RawRecord<'_>]),
    ) -> Result<Readiness, SourceError> {
        (self.0)(patience)
    }
}

/// Has nothing, for ever.
fn silent(patience: Duration) -> Result<Readiness, SourceError> {
    MachineClock::start().sleep(patience);
    Ok(Readiness::Idle)
}

/// Finds its bytes spoilt.
fn spoilt(_: Duration) -> Result<Readiness, SourceError> {
    Err(SourceError::Corrupt {
        place: "segment 7".to_owned(),
        detail: "checksum".to_owned(),
    })
}

#[test]
fn a_lane_that_fails_ends_the_run_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = rig::config(folder.path());
    let (sink, _sources) = memory_topic("out", 1);
    let sources: Vec<Box<dyn Source>> =
        vec![Box::new(Recordless(silent)), Box::new(Recordless(spoilt))];
    let outcome = pipeline::run(counting(&config, sources, Box::new(sink)));
    let error = format!("{:#}", outcome.unwrap_err());
    assert!(
        error.contains("lane 1") && error.contains("segment 7"),
        "{error}"
    );
}

#[test]
fn a_run_that_is_stopped_has_worked_off_what_it_read_and_goes_on_from_there() {
    const PLAYS: usize = 3_000;
    let folder = tempfile::tempdir().unwrap();
    let mut config = rig::config(folder.path());
    config.recommend.exact = false;
    let log = Log::open(&config.log).unwrap();
    log.ensure_topic(&config.stream.topic, 1).unwrap();
    let mut sink = log.sink("replay").unwrap();
    let listens = rig::listens(2 * PLAYS);
    let (first, second) = listens.split_at(PLAYS);
    deliver(&config, first.to_vec(), &mut sink);

    let clock = MachineClock::start();
    let stop = Arc::new(AtomicBool::new(false));
    // No checkpoint falls due: the only one is that of the end.
    config.checkpoint.every = Duration::from_secs(3_600);
    let summary = std::thread::scope(|scope| {
        let run = scope.spawn(|| Run::default().engine(&config, stop.clone(), &Phase::default()));
        // However far it has come by then.
        clock.sleep(Duration::from_millis(50));
        stop.store(true, Ordering::Relaxed);
        run.join().unwrap().unwrap()
    });
    let inputs = log
        .last_commit("segue-run")
        .unwrap()
        .map(|commit| commit.inputs);
    let read = inputs.map_or(0, |inputs| inputs.iter().map(|range| range.to.0).sum());
    assert_eq!(
        summary.stream.records, read,
        "committed as far as it was read"
    );

    deliver(&config, second.to_vec(), &mut sink);
    let run = Run {
        until_end: true,
        ..Run::default()
    };
    let summary = run
        .engine(&config, Arc::default(), &Phase::default())
        .unwrap();
    assert_eq!(summary.stream.plays, 2 * PLAYS as u64, "each play once");
    let plays: u64 = (summary.stream.session_plays.iter())
        .map(|(plays, sessions)| u64::from(*plays) * sessions)
        .sum();
    assert_eq!(plays, 2 * PLAYS as u64);
}

#[test]
fn who_begins_at_what_comes_next_goes_on_from_there_and_not_from_the_first() {
    const PLAYS: usize = 600;
    const LANES: u32 = 3;
    let folder = tempfile::tempdir().unwrap();
    let mut config = rig::config(folder.path());
    config.stream.lanes = LANES;
    config.recommend.exact = false;
    let log = Log::open(&config.log).unwrap();
    log.ensure_topic(&config.stream.topic, LANES).unwrap();
    let mut sink = log.sink("replay").unwrap();
    let listens = rig::listens(2 * PLAYS);
    let (before, after) = listens.split_at(PLAYS);
    deliver(&config, before.to_vec(), &mut sink);
    let run = |from| {
        let run = Run {
            until_now: true,
            from,
            ..Run::default()
        };
        run.engine(&config, Arc::default(), &Phase::default())
            .unwrap()
            .stream
            .plays
    };
    assert_eq!(run(From::Latest), 0);
    // One listener only: the other lanes have read nothing when their states are kept.
    let one: Vec<_> = (after.iter())
        .filter(|listen| listen.user == after[0].user)
        .cloned()
        .collect();
    deliver(&config, one.clone(), &mut sink);
    assert_eq!(run(From::Latest), 0, "latest again is later");
    deliver(&config, one.clone(), &mut sink);
    assert_eq!(
        run(From::Earliest),
        (PLAYS + one.len()) as u64,
        "duplicates apart"
    );
    deliver(&config, one, &mut sink);
    let log_holds = log.ends(&config.stream.topic).unwrap();
    let summary = Run {
        until_now: true,
        ..Run::default()
    }
    .engine(&config, Arc::default(), &Phase::default())
    .unwrap();
    assert_eq!(summary.stream.records, log_holds.iter().sum::<u64>());
}
