//! A run in which nothing moves says so, says what stands, and takes it back when it goes on.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use segue::commands::run::counting;
use segue::config::Config;
use segue::http::{self, Phase};
use segue::input;
use segue::pipeline::{self, Pipeline};
use segue::stuck::Attendance;
use segue_flow::barrier::BarrierCall;
use segue_flow::checkpoint::CheckpointStore;
use segue_flow::clock::{MachineClock, WallClock};
use segue_flow::memory::memory_topic;
use segue_flow::{Epoch, Offset, RawRecord, Readiness, Replay, Source, SourceError};
use segue_listen::TrackId;
use segue_recommend::recommender::{
    Admitted, Ask, Example, LearnReport, Ranking, RecommendError, Recommender, Tier,
};
use segue_recommend::stage::Checkpointing;
use segue_replay::InOrder;

use crate::rig;

const PLAYS: usize = 2_000;
const STUCK_AFTER: Duration = Duration::from_millis(400);

/// A model that never comes back is a fault put in: it learns as soon as it is let.
struct Blocked(Arc<Mutex<()>>);

impl Recommender for Blocked {
    fn name(&self) -> &'static str {
        "blocked"
    }
    fn tier(&self) -> Tier {
        Tier::LanguageModel
    }
    fn admit(&mut self, _: &[Admitted<'_>]) -> Result<(), RecommendError> {
        Ok(())
    }
    fn recommend(
        &mut self,
        asks: &[Ask<'_>],
        _: usize,
        out: &mut Vec<Ranking>,
    ) -> Result<(), RecommendError> {
        out.extend(asks.iter().map(|_| Ranking::default()));
        Ok(())
    }
    fn rank_of(
        &mut self,
        asks: &[Ask<'_>],
        _: &[TrackId],
        ranks: &mut Vec<Option<u32>>,
    ) -> Result<(), RecommendError> {
        ranks.extend(asks.iter().map(|_| None));
        Ok(())
    }
    fn learn(&mut self, _: Epoch, _: &[Example<'_>]) -> Result<LearnReport, RecommendError> {
        drop(self.0.lock().unwrap());
        Ok(LearnReport::default())
    }
    fn snapshot(&self) -> Result<Vec<u8>, RecommendError> {
        Ok(Vec::new())
    }
}

/// Holds records that nobody can get at.
struct OutOfReach;

impl Source for OutOfReach {
    fn replay(&self) -> Replay {
        Replay::Never
    }
    fn position(&self) -> Offset {
        Offset(0)
    }
    fn end(&mut self) -> Option<Offset> {
        Some(Offset(77))
    }
    fn seek(&mut self, _: Offset) -> Result<(), SourceError> {
        Ok(())
    }
    fn read_runs(
        &mut self,
        _: Duration,
        _: &mut dyn FnMut(&[RawRecord<'_>]),
    ) -> Result<Readiness, SourceError> {
        Err(SourceError::Unreachable {
            address: "nowhere".to_owned(),
            detail: "nobody answers".to_owned(),
        })
    }
}

fn get(address: SocketAddr, path: &str) -> String {
    rig::ask(address, path).unwrap()
}

/// Asks until the answer is as it should be.
#[track_caller]
fn await_answer(address: SocketAddr, path: &str, is: impl Fn(&str) -> bool) -> String {
    let clock = MachineClock::start();
    loop {
        let answer = get(address, path);
        if is(&answer) {
            return answer;
        }
        assert!(clock.now() < Duration::from_secs(30), "{path}: {answer}");
        clock.sleep(Duration::from_millis(20));
    }
}

fn checkpoint_age(metrics: &str) -> f64 {
    rig::metric(metrics, "segue_checkpoint_age_seconds").unwrap()
}

fn attended(config: &Config, phase: &Phase, pipeline: Pipeline) -> Pipeline {
    assert!(config.attendance().stuck_after.is_some());
    Pipeline {
        attendance: Attendance {
            phase: phase.clone(),
            stuck_after: Some(STUCK_AFTER),
        },
        ..pipeline
    }
}

#[test]
fn a_blocked_stage_and_a_source_out_of_reach_are_told_until_they_move() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = rig::config(folder.path());
    config.recommend.exact = false;
    let metrics = http::record_metrics().unwrap();
    let phase = Phase::default();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let address = http::serve(any, phase.clone(), metrics).unwrap();

    // A stage that is blocked.
    let (sink, sources) = memory_topic(&config.stream.topic, 1);
    let clock = Arc::new(MachineClock::start());
    let replay = input::spawn(
        Box::new(InOrder::new(rig::listens(PLAYS).into_iter(), None)),
        input::delivery(&config, 1),
        Box::new(sink),
        clock.clone(),
        Arc::default(),
    )
    .unwrap();
    let sources = sources.into_iter().map(|source| Box::new(source) as _);
    let (out, _sources) = memory_topic("out", 1);
    let blocks = Arc::new(Mutex::new(()));
    let held = blocks.lock().unwrap();
    let run = Pipeline {
        recommenders: vec![Box::new(Blocked(blocks.clone()))],
        checkpointing: Some(Checkpointing {
            store: CheckpointStore::open(&config.checkpoint).unwrap(),
            call: BarrierCall::default(),
            every: Duration::from_secs(3_600),
            topic: config.stream.topic.clone(),
            fixed: std::collections::BTreeMap::new(),
        }),
        ..counting(&config, sources.collect(), Box::new(out))
    };
    let run = attended(&config, &phase, run);
    let summary = std::thread::scope(|scope| {
        let run = scope.spawn(|| pipeline::run(run));
        phase.running();
        for path in ["/health", "/ready"] {
            let stuck = await_answer(address, path, |answer| answer.contains("stuck"));
            assert!(stuck.starts_with("HTTP/1.1 503"), "{stuck}");
            assert!(
                stuck.contains("stuck since 20") && stuck.contains("the recommending stage"),
                "{stuck}"
            );
        }
        let age = checkpoint_age(&get(address, "/metrics"));
        assert!(age > 0.0);
        let older = |metrics: &str| checkpoint_age(metrics) > age + 0.3;
        await_answer(address, "/metrics", older);
        drop(held);
        await_answer(address, "/health", |answer| answer.ends_with("running"));
        assert!(get(address, "/ready").starts_with("HTTP/1.1 200"));
        run.join().unwrap().unwrap()
    });
    replay.join().unwrap().unwrap();
    assert_eq!(summary.stream.plays, PLAYS as u64, "nothing is lost");

    // A source that holds records and cannot be reached.
    let (out, _sources) = memory_topic("out", 1);
    let run = counting(&config, vec![Box::new(OutOfReach)], Box::new(out));
    let stop = Arc::new(AtomicBool::new(false));
    let run = Pipeline {
        stop: stop.clone(),
        ..attended(&config, &phase, run)
    };
    std::thread::scope(|scope| {
        let run = scope.spawn(|| pipeline::run(run));
        let stuck = await_answer(address, "/health", |answer| answer.contains("stuck"));
        assert!(
            stuck.contains("lane 0 stands at offset 0, 77 records wait"),
            "{stuck}"
        );
        stop.store(true, Ordering::Relaxed);
        run.join().unwrap().unwrap();
    });
    let well = get(address, "/health");
    assert!(well.ends_with("running"), "a run that is over: {well}");
}
