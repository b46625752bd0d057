//! The stage behind a lane, without tensors: what is counted, measured and written.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use segue_catalog::current_library::CurrentLibrary;
use segue_catalog::directory::Directory;
use segue_catalog::durations::DurationEstimates;
use segue_flow::clock::MachineClock;
use segue_flow::lane::{Lane, LaneSettings, LaneState};
use segue_flow::memory::{Line, ScriptedSource};
use segue_flow::partition::partition_of;
use segue_flow::queue::{QueueSettings, WhenFull, queue};
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

mod encoder;
mod known;
mod old_plays;
mod slow;

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
        assert!(log.plays.len() >= 200);
        assert!(!content.is_empty());
        let mut rules = SequentialRules::new(100, 1.0);
        rules.train(log);
        Ok(vec![Box::new(rules), Box::new(PersonalMostPop::new())])
    }

    fn untaught(self: Box<Self>, _: &Content) -> Result<Vec<Box<dyn Recommender>>, RecommendError> {
        let rules = SequentialRules::new(100, 1.0);
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
            // Every other track states its length, so that stated and estimated ones both occur.
            duration: (n % 2 == 0).then(|| Span::from_seconds(200)),
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

const fn holds(capacity: usize) -> QueueSettings {
    QueueSettings {
        capacity,
        when_full: WhenFull::Block,
    }
}

/// What one lane makes of its script.
fn batches(id: LaneId, lanes: u32, script: Vec<Line>, batch: usize) -> VecDeque<Batch<Update>> {
    let clock = Arc::new(MachineClock::start());
    let (inlet, outlet) = queue("lanes", holds(10_000), clock.clone());
    let sessions = SessionSettings {
        gap: SessionGap::default(),
        lateness: Span::from_minutes(60),
    };
    let mut lane = Lane::new(
        id,
        ScriptedSource::new(script),
        ListenDecoder::new(id, lanes),
        ListeningStage::new(sessions),
        inlet,
        LaneSettings {
            batch,
            in_order: true,
            ..LaneSettings::default()
        },
    );
    assert_eq!(lane.run(&*clock, &|| false).unwrap(), LaneState::Ended);
    drop(lane);
    std::iter::from_fn(|| outlet.next()).collect()
}

fn stage(lanes: u32, encoder: Option<EncoderLink>) -> (RecommendStage, Committed) {
    stage_with(lanes, encoder, |_| {})
}

fn stage_with(
    lanes: u32,
    encoder: Option<EncoderLink>,
    change: impl FnOnce(&mut Parts),
) -> (RecommendStage, Committed) {
    let committed = Committed::default();
    let settings = StageSettings {
        epoch: 64,
        lanes,
        held: (0..lanes).map(LaneId).collect(),
        train_plays: 200,
        exact: true,
        top: 3,
        topics: Topics::default(),
        format: Format::Json,
        prequential: PrequentialSettings::default(),
        answer_within: None,
        measure_within: None,
        unmeasured: Vec::new(),
        compare: vec![(
            "sequential-rules".to_owned(),
            "personal-most-pop".to_owned(),
        )],
    };
    let mut parts = Parts {
        recommenders: Vec::new(),
        curriculum: Some(Box::new(Counting)),
        known: None,
        encoders: encoder.into_iter().collect(),
        library: CurrentLibrary::default(),
        checkpointing: None,
        restored: None,
        directory: Arc::new(Directory::default()),
        durations: DurationEstimates::default(),
        sink: Box::new(Keep {
            open: Vec::new(),
            committed: committed.clone(),
        }),
        watcher: Box::new(()),
        clock: Arc::new(MachineClock::start()),
    };
    change(&mut parts);
    (RecommendStage::new(settings, parts).unwrap(), committed)
}

fn run(script: Vec<Line>, lane_batch: usize) -> (RunSummary, Vec<Record>) {
    let (mut stage, committed) = stage(1, None);
    for batch in batches(LaneId(0), 1, script, lane_batch) {
        stage.take(batch).unwrap();
        stage.caught_up().unwrap();
    }
    let summary = stage.finish().unwrap();
    let written = std::mem::take(&mut *committed.lock().unwrap());
    (summary, written)
}

/// The same records over several lanes, whose batches come in an order drawn from `seed`.
fn run_lanes(lanes: u32, script: Vec<Line>, seed: u64) -> (RunSummary, Vec<Record>) {
    let mut scripts = vec![Vec::new(); lanes as usize];
    for line in script {
        match &line {
            Line::Record(key, _) => scripts[partition_of(key, lanes) as usize].push(line),
            pause => scripts.iter_mut().for_each(|s| s.push(pause.clone())),
        }
    }
    let mut queues: Vec<_> = (0u32..)
        .zip(scripts)
        .map(|(lane, script)| batches(LaneId(lane), lanes, script, 7))
        .collect();
    let (mut stage, committed) = stage(lanes, None);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    while queues.iter().any(|queue| !queue.is_empty()) {
        let lane = rng.random_range(0..queues.len());
        if let Some(batch) = queues[lane].pop_front() {
            stage.take(batch).unwrap();
        }
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
fn who_is_waited_for_is_answered_before_the_round_closes_and_once() {
    let (mut stage, _) = stage(1, None);
    stage.settings.exact = false;
    stage.merge = None;
    let mut answered = Vec::new();
    for batch in batches(LaneId(0), 1, script(300), 1) {
        stage.take(batch).unwrap();
        let (round, open) = (stage.round, stage.chunk.len());
        let before = stage.predictions;
        stage.caught_up().unwrap();
        assert_eq!((stage.round, stage.chunk.len()), (round, open));
        if open > 0 {
            answered.push(stage.predictions - before);
        }
        assert!(stage.waiting.is_empty() && stage.asked.is_empty());
    }
    assert!(answered.iter().sum::<u64>() >= 3, "{answered:?}");
    let round = stage.round;
    stage.idle().unwrap();
    assert_eq!(
        stage.round,
        round.next(),
        "what was answered is learnt from"
    );
    stage.idle().unwrap();
    assert_eq!(stage.round, round.next());
    let summary = stage.finish().unwrap();
    let measured = &summary.prequential.unwrap().recommenders[0].parts.overall;
    assert_eq!(measured.events, 100);
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

#[test]
fn neither_lanes_nor_threads_nor_disorder_change_what_is_said() {
    let whole = script(1_000);
    let of = |topic: &str, written: &[Record]| -> Vec<Record> {
        written.iter().filter(|r| r.0 == topic).cloned().collect()
    };
    let (summary, expected) = run(whole.clone(), 64);
    assert!(summary.stream.ratios.by_estimated_length > 100);
    let mut sessions = of("sessions", &expected);
    sessions.sort();
    // Records swapped within the lateness: 20 places of a minute each.
    let mut disordered = whole.clone();
    for start in (10..disordered.len() - 20).step_by(23) {
        disordered.swap(start, start + 20);
    }
    assert_ne!(
        format!("{disordered:?}"),
        format!("{whole:?}"),
        "there is disorder"
    );
    for (lanes, seed, script) in [(3, 1, &whole), (3, 2, &whole), (2, 3, &disordered)] {
        let (other, written) = run_lanes(lanes, script.clone(), seed);
        assert_eq!(of("predictions", &written), of("predictions", &expected));
        let mut finals = of("sessions", &written);
        finals.sort();
        assert_eq!(finals, sessions);
        assert_eq!(other.stream.ratios, summary.stream.ratios);
        assert_eq!(other.stream.retractions, 0);
    }
}

#[test]
fn a_track_can_be_ranked_from_its_second_play_on_and_never_at_its_first() {
    // After the training part one listener plays new songs, each twice in a row.
    let mut lines = script(200);
    lines.retain(|line| matches!(line, Line::Record(_, value) if value != b"rubbish"));
    for n in 0..40i64 {
        let title = format!("new {}", n / 2);
        let listen = ListenRef {
            user: "user-0",
            track: TrackKey::from_names("artist", &title),
            artist: "artist",
            title: &title,
            at: EventTime::from_millis(1_100_000_000 + n * 60_000),
            duration: None,
            played: None,
        };
        let mut value = Vec::new();
        wire::encode(listen, Format::MessagePack, &mut value).unwrap();
        lines.push(Line::Record(b"user-0".to_vec(), value));
    }
    let (summary, _) = run(lines, 500);
    let report = summary.prequential.unwrap();
    let favourites = &report.recommenders[1];
    assert_eq!(favourites.parts.overall.events, 40);
    assert_eq!(favourites.unranked, 20, "each first play of a song");
    assert_eq!(favourites.parts.cold_tracks.events, 20);
    assert_eq!(favourites.parts.repeats.events, 20);
}
