//! The wiring: who owns what, on which thread, and what lies between them.
//!
//! ```text
//! sources ─ lane threads ─ one queue ─ this thread: RecommendStage ─ sink
//!                                        │      ▲
//!                               new tracks      vectors
//!                                        ▼      │
//!                                     encoder threads
//! ```
//!
//! One encoder makes what is quick to be had of a track, another what takes its time: audio that is hard to
//! read delays nobody but its own track.
//!
//! One more thread looks on: whether anything moves, and how old the newest checkpoint is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Scope;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use segue_catalog::current_library::CurrentLibrary;
use segue_catalog::directory::Directory;
use segue_catalog::durations::DurationEstimates;
use segue_catalog::encoder::Encoder;
use segue_catalog::newcomers::{self, Encoders};
use segue_flow::clock::WallClock;
use segue_flow::lane::{Batch, Lane, LaneSettings, LaneState, run_together};
use segue_flow::queue::{Outlet, QueueSettings, Received, WhenFull, queue};
use segue_flow::{LaneId, Sink, Source};
use segue_recommend::recommender::Recommender;
use segue_recommend::stage::{
    Checkpointing, Content, Curriculum, EncoderLink, Parts, RecommendStage, Restored, RunSummary,
    StageSettings, Watcher, lane_part,
};
use segue_sessions::{ListenDecoder, ListeningStage, SessionSettings, Update};

use crate::queues::Queues;
use crate::stuck::{Attendance, Attendant, Attended, StageProgress};

/// How long the recommending stage waits for a batch before it answers what is waiting.
const IDLE: Duration = Duration::from_millis(100);

/// Everything a run is made of. Settings say how, components do the work.
pub struct Pipeline {
    /// The lanes that are read here: of how many, says the stage's setting.
    pub sources: Vec<(LaneId, Box<dyn Source>)>,
    /// Where records go.
    pub sink: Box<dyn Sink>,
    /// How lanes judge and cut.
    pub lane: LaneSettings,
    /// Threads that read lanes; 0: one for each.
    pub threads: u32,
    /// The rules of sessions.
    pub sessions: SessionSettings,
    /// How the recommending stage works.
    pub stage: StageSettings,
    /// What lies between the threads.
    pub queues: Queues,
    /// Ranks tracks, if there is no curriculum.
    pub recommenders: Vec<Box<dyn Recommender>>,
    /// Teaches recommenders on the first part of the log.
    pub curriculum: Option<Box<dyn Curriculum>>,
    /// Tracks that `recommenders` were trained on, if they were.
    pub known: Option<Content>,
    /// Encode new tracks.
    pub encoders: Option<Encoders>,
    /// Is told how it goes.
    pub watcher: Box<dyn Watcher>,
    /// Takes checkpoints; the lanes are asked by its call.
    pub checkpointing: Option<Checkpointing>,
    /// The checkpoint to go on from.
    pub restored: Option<Restored>,
    /// For latencies.
    pub clock: Arc<dyn WallClock>,
    /// Set by whoever wants the lanes to stop reading: what was read is worked off. Set by a run
    /// that fails, so that all of it ends.
    pub stop: Arc<AtomicBool>,
    /// Who is told when nothing moves.
    pub attendance: Attendance,
}

/// All lanes of a stream, each with the source in its place.
pub fn all_lanes(sources: Vec<Box<dyn Source>>) -> Vec<(LaneId, Box<dyn Source>)> {
    (0u32..).map(LaneId).zip(sources).collect()
}

/// Runs until every source ends or somebody says stop; then what was read has been worked off.
///
/// # Errors
/// The first error of any thread, with the room it came from. The others are stopped.
pub fn run(mut pipeline: Pipeline) -> Result<RunSummary> {
    let sources = std::mem::take(&mut pipeline.sources);
    let sessions = pipeline.sessions;
    let (clock, stop) = (pipeline.clock.clone(), pipeline.stop.clone());
    let stage = StageSettings {
        held: sources.iter().map(|(lane, _)| *lane).collect(),
        ..pipeline.stage
    };
    let partitions = stage.lanes;
    let lane = LaneSettings {
        in_order: stage.exact,
        ..pipeline.lane
    };
    let queues = pipeline.queues;
    queues.check(stage.exact)?;
    let (inlet, outlet) = queue("lanes", queues.lanes, clock.clone());

    std::thread::scope(|scope| {
        let mut lanes = Vec::new();
        for (id, source) in sources {
            let decoder = ListenDecoder::new(id, partitions);
            let listening = ListeningStage::new(sessions);
            let mut lane = Lane::new(id, source, decoder, listening, inlet.another(), lane);
            if let Some(restored) = &mut pipeline.restored
                && restored.positions.contains_key(&id)
            {
                let part = lane_part(id);
                let state = restored.parts.remove(&part);
                let state = state.with_context(|| format!("the checkpoint has no part {part}"))?;
                lane.restore(&state)?;
            }
            if let Some(checkpointing) = &pipeline.checkpointing {
                lane = lane.answering(checkpointing.call.clone());
            }
            lanes.push(lane);
        }
        let progress = Arc::new(StageProgress::default());
        let attendant = Attendant {
            attendance: pipeline.attendance,
            lanes: lanes.iter().map(Lane::progress).collect(),
            stage: progress.clone(),
            age: (pipeline.checkpointing.as_ref()).map(|checkpointing| checkpointing.store.age()),
            clock: clock.clone(),
        };
        // Ends with this scope, however that ends.
        let (_runs, over) = std::sync::mpsc::sync_channel(1);
        std::thread::Builder::new()
            .name("attendant".to_owned())
            .spawn_scoped(scope, move || attendant.attend(&over))
            .context("the thread that looks on cannot be started")?;
        let mut workers = Vec::new();
        for (number, lanes) in (0..).zip(dealt(lanes, pipeline.threads)) {
            let (clock, stop) = (clock.clone(), stop.clone());
            let number: usize = number;
            workers.push(
                std::thread::Builder::new()
                    .name(format!("lanes-{number}"))
                    .spawn_scoped(scope, move || run_lanes(lanes, &*clock, &stop))
                    .context("a thread of lanes cannot be started")?,
            );
        }
        drop(inlet);

        let (mut encoders, mut library) = (Vec::new(), CurrentLibrary::default());
        if let Some(given) = pipeline.encoders {
            let serving = Serving {
                scope,
                library: &given.library,
                clock: &clock,
            };
            let quick = (queues.newcomers, queues.vectors);
            let sizes = (given.batch, given.batch);
            encoders.push(serving.serve(given.quick, QUICK, quick, sizes)?);
            if let Some(thorough) = given.thorough {
                let newcomers = QueueSettings {
                    // Who takes their time is not waited for.
                    when_full: WhenFull::Coalesce,
                    ..queues.newcomers
                };
                let queues = (newcomers, queues.vectors);
                let sizes = (AHEAD, 1);
                encoders.push(serving.serve(thorough, THOROUGH, queues, sizes)?);
            }
            library = given.library;
        }

        let parts = Parts {
            recommenders: pipeline.recommenders,
            curriculum: pipeline.curriculum,
            known: pipeline.known,
            encoders,
            library,
            checkpointing: pipeline.checkpointing,
            restored: pipeline.restored,
            directory: Arc::new(Directory::default()),
            durations: DurationEstimates::default(),
            sink: pipeline.sink,
            watcher: Box::new(Attended {
                watcher: pipeline.watcher,
                stage: progress.clone(),
            }),
            clock: clock.clone(),
        };
        let sentinel = Sentinel::over(&stop);
        let outcome = sentinel.relieved(recommend(stage, parts, outlet, &progress));
        for worker in workers {
            let ran = worker
                .join()
                .map_err(|_| anyhow!("a thread of lanes panicked: a bug"))?;
            // A lane's own error comes first: the stage only saw its queue end.
            ran?;
        }
        outcome
    })
}

/// One lane alone, on a thread of its own; each of its batches goes to `take`. For whoever wants what
/// lanes say and nothing of what comes after it.
///
/// # Errors
/// The lane's own error, or the first of `take`, after which the lane ends.
pub fn lane_alone(
    source: Box<dyn Source>,
    (lane, sessions): (LaneSettings, SessionSettings),
    capacity: usize,
    clock: &Arc<dyn WallClock>,
    take: &mut dyn FnMut(Batch<Update>) -> Result<()>,
) -> Result<()> {
    let waiting = QueueSettings {
        capacity,
        // Nothing that a lane says is to be left out.
        when_full: WhenFull::Block,
    };
    let (inlet, outlet) = queue("lanes", waiting, clock.clone());
    let id = LaneId(0);
    let (decoder, stage) = (ListenDecoder::new(id, 1), ListeningStage::new(sessions));
    let lane = Lane::new(id, source, decoder, stage, inlet, lane);
    std::thread::scope(|scope| {
        let clock = clock.clone();
        let worker = std::thread::Builder::new()
            .name("lanes-0".to_owned())
            .spawn_scoped(scope, move || {
                run_lanes(vec![lane], &*clock, &AtomicBool::new(false))
            })
            .context("a thread of lanes cannot be started")?;
        let taken = std::iter::from_fn(|| outlet.next()).try_for_each(take);
        // The lane ends where nobody takes its batches any more.
        drop(outlet);
        let ran = worker.join();
        ran.map_err(|_| anyhow!("a thread of lanes panicked: a bug"))??;
        taken
    })
}

/// Starts encoders' threads.
struct Serving<'scope, 'env, 'a> {
    scope: &'scope Scope<'scope, 'env>,
    library: &'a CurrentLibrary,
    clock: &'a Arc<dyn WallClock>,
}

/// Names of an encoder's thread and of the queues to it and back.
type Names = [&'static str; 3];

const QUICK: Names = ["encoder", "newcomers", "vectors"];
const THOROUGH: Names = ["thorough", "thorough-newcomers", "thorough-vectors"];

/// Tracks that are handed over at once to who encodes them one by one.
const AHEAD: usize = 16;

impl Serving<'_, '_, '_> {
    /// Starts one; of the sizes the first is how many tracks it is handed at once, the second how many it
    /// encodes at once.
    fn serve(
        &self,
        mut encoder: Box<dyn Encoder>,
        [thread, newcomers, vectors]: Names,
        (in_queue, out_queue): (QueueSettings, QueueSettings),
        (batch, at_once): (usize, usize),
    ) -> Result<EncoderLink> {
        let (arrivals, arrived) = queue(newcomers, in_queue, self.clock.clone());
        let (mut done, encoded) = queue(vectors, out_queue, self.clock.clone());
        let dimensions = encoder.dimensions();
        let library = self.library.clone();
        std::thread::Builder::new()
            .name(thread.to_owned())
            .spawn_scoped(self.scope, move || {
                newcomers::serve(&mut *encoder, at_once, &library, &arrived, &mut done);
            })
            .context("an encoder's thread cannot be started")?;
        Ok(EncoderLink {
            arrivals,
            encoded,
            batch,
            dimensions,
        })
    }
}

/// Stops the other threads when the one that holds it fails or panics.
struct Sentinel<'a> {
    stop: &'a AtomicBool,
    well: bool,
}

impl<'a> Sentinel<'a> {
    const fn over(stop: &'a AtomicBool) -> Self {
        Self { stop, well: false }
    }

    fn relieved<T>(mut self, outcome: Result<T>) -> Result<T> {
        self.well = outcome.is_ok();
        outcome
    }
}

impl Drop for Sentinel<'_> {
    fn drop(&mut self) {
        if !self.well {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

type ListeningLane = Lane<Box<dyn Source>, ListenDecoder, ListeningStage>;

/// Lanes by thread: as many threads as are wanted, or one for each lane.
fn dealt(lanes: Vec<ListeningLane>, threads: u32) -> Vec<Vec<ListeningLane>> {
    let threads = match threads as usize {
        0 => lanes.len(),
        threads => threads.min(lanes.len()),
    };
    let mut hands: Vec<Vec<ListeningLane>> = (0..threads).map(|_| Vec::new()).collect();
    for (lane, at) in lanes.into_iter().zip((0..threads).cycle()) {
        if let Some(hand) = hands.get_mut(at) {
            hand.push(lane);
        }
    }
    hands
}

fn run_lanes(
    mut lanes: Vec<ListeningLane>,
    clock: &dyn WallClock,
    stop: &AtomicBool,
) -> Result<Vec<LaneState>> {
    let sentinel = Sentinel::over(stop);
    let outcome = run_together(&mut lanes, clock, &|| stop.load(Ordering::Relaxed));
    sentinel.relieved(outcome.map_err(Into::into))
}

fn recommend(
    settings: StageSettings,
    parts: Parts,
    outlet: Outlet<Batch<Update>>,
    progress: &StageProgress,
) -> Result<RunSummary> {
    let mut stage = RecommendStage::new(settings, parts)?;
    loop {
        match outlet.receive(stage.patience(IDLE)) {
            Received::Batch(batch) => {
                stage.behind(outlet.fill());
                progress.at(|| match outlet.depth() {
                    0 => stage.take(batch).and_then(|()| stage.caught_up()),
                    _ => stage.take(batch),
                })?;
            }
            Received::Nothing => {
                stage.behind(0.0);
                stage.idle()?;
            }
            Received::Over => return Ok(progress.at(|| stage.finish())?),
        }
    }
}
