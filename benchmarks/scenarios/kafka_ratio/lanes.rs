//! The lanes over the topic, as a run has them, up to the end of the queue that a run's recommending
//! stage stands behind.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, ensure};
use segue_benchmarks::timing::timed;
use segue_flow::barrier::{BarrierCall, LAST};
use segue_flow::checkpoint::{
    CheckpointSettings, CheckpointStore, CheckpointWriter, ManifestBody, Position, Whole,
};
use segue_flow::clock::{MachineClock, WallClock};
use segue_flow::lane::{Batch, Lane, LaneSettings};
use segue_flow::queue::{Outlet, QueueSettings, Received, WhenFull, queue};
use segue_flow::{Epoch, LaneId, Offset, OffsetRange, OutRecord, Sink};
use segue_kafka::{Guarantee, KafkaSink, KafkaSource, Until};
use segue_listen::SessionGap;
use segue_sessions::{ListenDecoder, ListeningStage, SessionSettings, Update};

use super::{SESSIONS, Topic};

/// Batches in flight, as in a run.
const QUEUE: QueueSettings = QueueSettings {
    capacity: 16,
    when_full: WhenFull::Block,
};
const IDLE: Duration = Duration::from_millis(100);
/// Batches that may wait for a checkpoint to be written, as in a run.
const HELD: usize = 512;
const EVERY: Duration = Duration::from_secs(1);
/// How long a transaction may stay open.
const OPEN_FOR: Duration = Duration::from_secs(60);

/// What came out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    plays: u64,
    ratios: u64,
    sessions: u64,
    /// Transactions committed.
    pub commits: u64,
}

/// How long it takes to read the topic to its end and drop what comes out.
pub fn run(topic: &Topic) -> anyhow::Result<(Duration, Seen)> {
    through(topic, None)
}

/// The same with a checkpoint every second, and a transaction with the sessions' finals and the
/// offsets for each.
pub fn run_transactional(topic: &Topic, folder: &Path) -> anyhow::Result<(Duration, Seen)> {
    let store = CheckpointStore::open(&CheckpointSettings {
        url: folder.display().to_string(),
        ..CheckpointSettings::default()
    })?;
    let guarantee = Guarantee::Transactional {
        id: "kafka-ratio".to_owned(),
        open_for: OPEN_FOR,
    };
    let sink = KafkaSink::open(&topic.settings, &guarantee, Some(topic.name))?;
    through(topic, Some(Committer::new(topic, store, sink)?))
}

fn through(
    topic: &Topic,
    mut committer: Option<Committer<'_>>,
) -> anyhow::Result<(Duration, Seen)> {
    let clock = Arc::new(MachineClock::start());
    let (inlet, outlet) = queue("lanes", QUEUE, clock.clone());
    let settings = LaneSettings::default();
    let sessions = SessionSettings {
        gap: SessionGap::default(),
        lateness: settings.lateness,
    };
    let mut lanes = Vec::new();
    for id in 0..topic.partitions {
        let source = KafkaSource::open(&topic.settings, topic.name, id, Until::Now)?;
        let decoder = ListenDecoder::new(LaneId(id), topic.partitions);
        let stage = ListeningStage::new(sessions);
        let lane = Lane::new(
            LaneId(id),
            source,
            decoder,
            stage,
            inlet.another(),
            settings,
        );
        lanes.push(match &committer {
            Some(committer) => lane.answering(committer.call.clone()),
            None => lane,
        });
    }
    drop(inlet);
    let (took, seen) = timed(|| {
        std::thread::scope(|scope| {
            let clock = &*clock;
            let running: Vec<_> = lanes
                .into_iter()
                // With its thread the lane ends, and so does its side of the queue.
                .map(|mut lane| scope.spawn(move || lane.run(clock, &|| false)))
                .collect();
            let seen = receive(&outlet, committer.as_mut());
            // A lane that waits for room is not to wait for ever.
            drop(outlet);
            for lane in running {
                lane.join().map_err(|_| anyhow!("a lane panicked"))??;
            }
            seen
        })
    });
    let seen = seen?;
    ensure!(
        seen.plays == topic.listens && seen.ratios > 0 && seen.sessions > 0,
        "of {} listens came {seen:?}",
        topic.listens
    );
    Ok((took, seen))
}

/// The end of the queue.
fn receive(
    outlet: &Outlet<Batch<Update>>,
    mut committer: Option<&mut Committer<'_>>,
) -> anyhow::Result<Seen> {
    let mut seen = Seen::default();
    loop {
        match outlet.receive(IDLE) {
            Received::Batch(batch) => {
                seen.note(&batch);
                if let Some(committer) = &mut committer {
                    committer.take(batch)?;
                }
            }
            Received::Nothing => {
                if let Some(committer) = &mut committer {
                    committer.go_on(false)?;
                }
            }
            Received::Over => break,
        }
    }
    if let Some(committer) = committer {
        committer.finish()?;
        seen.commits = committer.epoch.0 - 1;
    }
    Ok(seen)
}

impl Seen {
    fn note(&mut self, batch: &Batch<Update>) {
        for update in &batch.outputs {
            match update {
                Update::Play(play) => {
                    self.plays += 1;
                    self.ratios += u64::from(play.previous.is_some());
                }
                Update::Closed { .. } => self.sessions += 1,
                _ => {}
            }
        }
    }
}

/// Takes checkpoints and commits, as a run's recommending stage does.
struct Committer<'a> {
    topic: &'a Topic,
    writer: CheckpointWriter,
    /// The inputs of the checkpoint that is being written.
    writing: Option<Vec<OffsetRange>>,
    sink: KafkaSink,
    call: BarrierCall,
    clock: MachineClock,
    called: Option<u64>,
    called_at: Duration,
    epoch: Epoch,
    answers: BTreeMap<LaneId, (Offset, Vec<u8>)>,
    stopped: BTreeMap<LaneId, (Offset, Vec<u8>)>,
    /// What lanes handed over after their answer.
    held: Vec<Batch<Update>>,
    committed: BTreeMap<LaneId, Offset>,
    /// Listeners' names by lane and slot.
    names: Vec<Vec<Box<str>>>,
    /// The record that is being written.
    value: Vec<u8>,
}

impl<'a> Committer<'a> {
    fn new(topic: &'a Topic, store: CheckpointStore, mut sink: KafkaSink) -> anyhow::Result<Self> {
        let epoch = Epoch(1);
        sink.begin(epoch)?;
        Ok(Self {
            topic,
            writer: CheckpointWriter::start(store)?,
            writing: None,
            sink,
            call: BarrierCall::default(),
            clock: MachineClock::start(),
            called: None,
            called_at: Duration::ZERO,
            epoch,
            answers: BTreeMap::new(),
            stopped: BTreeMap::new(),
            held: Vec::new(),
            committed: BTreeMap::new(),
            names: (0..topic.partitions).map(|_| Vec::new()).collect(),
            value: Vec::new(),
        })
    }

    fn take(&mut self, mut batch: Batch<Update>) -> anyhow::Result<()> {
        let lane = batch.covers.lane;
        if self.writing.is_some() {
            self.held.push(batch);
            return self.go_on(self.held.len() >= HELD);
        }
        if self.answers.contains_key(&lane) {
            self.held.push(batch);
            return Ok(());
        }
        let barrier = batch.barrier.take();
        let at = batch.covers.to;
        self.write(batch)?;
        match barrier {
            Some(barrier) if barrier.number == LAST => {
                self.stopped.insert(lane, (at, barrier.state));
            }
            Some(barrier) if self.called == Some(barrier.number) => {
                self.answers.insert(lane, (at, barrier.state));
            }
            _ => {}
        }
        let now = self.clock.now();
        if self.called.is_none() && now >= self.called_at + EVERY {
            self.called = Some(self.call.call());
            self.called_at = now;
        }
        let lanes = self.topic.partitions as usize;
        if self.called.is_some() && self.answers.len() + self.stopped.len() == lanes {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// The finals of sessions; what else there is in a batch is dropped.
    fn write(&mut self, batch: Batch<Update>) -> anyhow::Result<()> {
        let Some(names) = self.names.get_mut(batch.covers.lane.0 as usize) else {
            return Ok(());
        };
        for update in &batch.outputs {
            match update {
                Update::Listener { name, .. } => names.push(name.clone()),
                Update::Closed { slot, session } => {
                    let user = names.get(*slot as usize).map_or("", |name| name);
                    self.value.clear();
                    rmp_serde::encode::write_named(&mut self.value, &(user, session))?;
                    self.sink.write(OutRecord {
                        topic: SESSIONS,
                        partition: None,
                        key: Some(user.as_bytes()),
                        value: Some(&self.value),
                        headers: &[],
                        at: Some(session.last),
                    })?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// All that lanes read before their answers is written, and nothing after it.
    fn checkpoint(&mut self) -> anyhow::Result<()> {
        self.called = None;
        let answers = std::mem::take(&mut self.answers);
        let lanes = || answers.iter().chain(&self.stopped);
        let positions = lanes().map(|(lane, (offset, _))| Position {
            topic: self.topic.name.to_owned(),
            partition: lane.0,
            offset: *offset,
        });
        let body = ManifestBody {
            positions: positions.collect(),
            partitions: self.topic.partitions,
            formats: BTreeMap::new(),
            fixed: BTreeMap::new(),
        };
        let inputs: Vec<OffsetRange> = lanes()
            .map(|(lane, (to, _))| OffsetRange {
                lane: *lane,
                from: self.committed.get(lane).copied().unwrap_or_default(),
                to: *to,
            })
            .collect();
        let parts = answers.into_iter().chain(self.stopped.clone());
        let parts = parts.map(|(lane, (_, state))| (format!("lane-{}", lane.0), state));
        self.writer.write(Whole {
            epoch: self.epoch,
            parts: parts.collect(),
            body,
        });
        self.writing = Some(inputs);
        Ok(())
    }

    /// Commits what is written, and takes what has waited for that.
    fn go_on(&mut self, wait: bool) -> anyhow::Result<()> {
        let Some(inputs) = self.writing.take() else {
            return Ok(());
        };
        let outcome = match wait {
            true => Some(self.writer.wait()),
            false => self.writer.outcome(),
        };
        let Some(outcome) = outcome else {
            self.writing = Some(inputs);
            return Ok(());
        };
        for (range, memory) in inputs.iter().zip(outcome?) {
            self.call.give_back(range.lane, memory);
        }
        self.committed = inputs.iter().map(|range| (range.lane, range.to)).collect();
        self.sink.commit(self.epoch, &inputs)?;
        self.writer.prune();
        self.epoch = self.epoch.next();
        self.sink.begin(self.epoch)?;
        let held = std::mem::take(&mut self.held);
        held.into_iter().try_for_each(|batch| self.take(batch))
    }

    /// All lanes have stopped.
    fn finish(&mut self) -> anyhow::Result<()> {
        self.go_on(true)?;
        self.answers.clear();
        self.called = None;
        for batch in std::mem::take(&mut self.held) {
            self.take(batch)?;
        }
        self.answers.clear();
        self.checkpoint()?;
        self.go_on(true)?;
        Ok(self.sink.abort(self.epoch)?)
    }
}
