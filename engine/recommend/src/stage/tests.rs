//! The stage behind a lane, without tensors: what is counted, measured and written.

use std::sync::{Arc, Mutex};

use segue_catalog::directory::Directory;
use segue_catalog::durations::DurationEstimates;
use segue_flow::clock::MachineClock;
use segue_flow::lane::{Lane, LaneSettings, LaneState};
use segue_flow::memory::{Line, ScriptedSource};
use segue_flow::queue::{WhenFull, queue};
use segue_flow::{LaneId, OutRecord, Sink, SinkError};
use segue_listen::wire::{self, Format};
use segue_listen::{EventTime, ListenRef, SessionGap, Span, TrackKey};
use segue_sessions::{ListenDecoder, ListeningStage, SessionSettings};

use super::*;
use crate::popularity::PersonalMostPop;
use crate::prequential::PrequentialSettings;
use crate::recommender::{RecommendError, Recommender};
use crate::rules::SequentialRules;
use crate::training::TrainingLog;

/// Topic, key, value.
type Record = (String, Vec<u8>, Vec<u8>);
type Committed = Arc<Mutex<Vec<Record>>>;

/// Keeps what is committed, drops what is aborted.
struct Keep {
    open: Vec<Record>,
    committed: Committed,
}

impl Sink for Keep {
    fn begin(&mut self, _: Epoch) -> Result<(), SinkError> {
        self.open.clear();
        Ok(())
    }
    fn write(&mut self, record: OutRecord<'_>) -> Result<(), SinkError> {
        self.open.push((
            record.topic.to_owned(),
            record.key.unwrap_or_default().to_vec(),
            record.value.unwrap_or_default().to_vec(),
        ));
        Ok(())
    }
    fn commit(&mut self, _: Epoch, _: &[OffsetRange]) -> Result<(), SinkError> {
        self.committed.lock().unwrap().append(&mut self.open);
        Ok(())
    }
    fn abort(&mut self, _: Epoch) -> Result<(), SinkError> {
        self.open.clear();
        Ok(())
    }
}

/// Trains what needs no tensors.
struct Counting;

impl Curriculum for Counting {
    fn teach(
        self: Box<Self>,
        log: &TrainingLog,
        content: &Content,
    ) -> Result<Vec<Box<dyn Recommender>>, RecommendError> {
        assert_eq!(log.plays.len(), 200);
        assert!(!content.is_empty());
        let mut rules = SequentialRules::new(100, 1.0);
        rules.train(log);
        Ok(vec![Box::new(rules), Box::new(PersonalMostPop::new())])
    }
}

/// Three listeners who go round their own ten songs; one play in a hundred is said twice, one record
/// is rubbish.
fn script(plays: u64) -> Vec<Line> {
    let mut lines = Vec::new();
    for n in 0..plays {
        let user = format!("user-{}", n % 3);
        let title = format!("song {} of {user}", (n / 3) % 10);
        let listen = ListenRef {
            user: &user,
            track: TrackKey::from_names("artist", &title),
            artist: "artist",
            title: &title,
            at: EventTime::from_millis(1_000_000_000 + n as i64 * 60_000),
            duration: Some(Span::from_seconds(200)),
            played: None,
        };
        let mut value = Vec::new();
        wire::encode(listen, Format::MessagePack, &mut value).unwrap();
        let record = Line::Record(user.clone().into_bytes(), value);
        if n % 100 == 50 {
            lines.push(record.clone());
        }
        lines.push(record);
    }
    lines.insert(7, Line::Record(b"user-0".to_vec(), b"rubbish".to_vec()));
    lines.insert(9, Line::Pause);
    lines
}

fn run(script: Vec<Line>, lane_batch: usize) -> (RunSummary, Vec<Record>) {
    let clock = Arc::new(MachineClock::start());
    let durations = DurationEstimates::default();
    let (inlet, outlet) = queue("lanes", 10_000, WhenFull::Block, clock.clone());
    let sessions = SessionSettings {
        gap: SessionGap::default(),
        lateness: Span::from_minutes(60),
    };
    let mut lane = Lane::new(
        LaneId(0),
        ScriptedSource::new(script),
        ListenDecoder::new(
            LaneId(0),
            1,
            Format::MessagePack,
            Arc::new(Directory::default()),
        ),
        ListeningStage::new(LaneId(0), 1, sessions, durations.published()),
        inlet,
        LaneSettings {
            batch: lane_batch,
            ..LaneSettings::default()
        },
    );
    assert_eq!(lane.run(&*clock, &|| false).unwrap(), LaneState::Ended);
    drop(lane);
    let committed = Committed::default();
    let settings = StageSettings {
        epoch: 64,
        train_plays: 200,
        exact: true,
        top: 3,
        topics: Topics::default(),
        format: Format::Json,
        prequential: PrequentialSettings::default(),
        answer_within: None,
        unmeasured: Vec::new(),
        compare: vec![(
            "sequential-rules".to_owned(),
            "personal-most-pop".to_owned(),
        )],
    };
    let parts = Parts {
        recommenders: Vec::new(),
        curriculum: Some(Box::new(Counting)),
        encoder: None,
        durations,
        sink: Box::new(Keep {
            open: Vec::new(),
            committed: committed.clone(),
        }),
        watcher: Box::new(()),
        clock,
    };
    let mut stage = RecommendStage::new(settings, parts).unwrap();
    while let Some(batch) = outlet.next() {
        stage.take(batch).unwrap();
    }
    let summary = stage.finish().unwrap();
    let written = std::mem::take(&mut *committed.lock().unwrap());
    (summary, written)
}

#[test]
fn a_log_is_learnt_measured_answered_and_written() {
    let (summary, written) = run(script(1_000), 1);
    assert_eq!(summary.stream.plays, 1_000);
    assert_eq!(summary.stream.duplicates, 10);
    assert_eq!(summary.stream.dead_letters, 1);
    assert_eq!(summary.stream.sessions, 3);
    assert_eq!((summary.tracks, summary.trained_on), (30, 200));
    let report = summary.prequential.unwrap();
    let rules = &report.recommenders[0];
    assert_eq!(rules.parts.overall.events, 800);
    let recall = rules.parts.overall.per_event.recall_10.mean.unwrap();
    assert!(
        recall > 0.99,
        "a circle is all that first-order rules need: {recall}"
    );

    let topic = |name: &str| written.iter().filter(|r| r.0 == name).collect::<Vec<_>>();
    assert_eq!(topic("sessions").len(), 3);
    assert_eq!(topic("listens.dead-letters")[0].2, b"rubbish");
    let predictions = topic("predictions");
    assert_eq!(predictions.len() as u64, summary.predictions);
    let last: serde_json::Value = serde_json::from_slice(&predictions[0].2).unwrap();
    assert_eq!(last["recommender"], "sequential-rules");
    assert_eq!(last["tracks"].as_array().unwrap().len(), 3);
    assert!(
        last["tracks"][0]["title"]
            .as_str()
            .unwrap()
            .starts_with("song ")
    );
}

#[test]
fn the_same_log_gives_the_same_bytes_wherever_batches_are_cut() {
    let (_, one) = run(script(1_000), 1);
    let (_, other) = run(script(1_000), 500);
    assert_eq!(one.len(), other.len());
    let differs = one.iter().zip(&other).position(|(a, b)| a != b);
    assert_eq!(differs, None);
    let (_, longer) = run(script(1_003), 500);
    assert_ne!(one, longer, "the comparison can fail");
}
