//! What the stage is made of: settings, components, errors, and what comes of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use segue_catalog::current_library::CurrentLibrary;
use segue_catalog::directory::{CatalogueFull, Directory};
use segue_catalog::durations::{DurationEstimates, DurationReport};
use segue_catalog::newcomers::{Arrivals, Encoded};
use segue_flow::barrier::BarrierCall;
use segue_flow::checkpoint::{CheckpointError, CheckpointStore};
use segue_flow::clock::WallClock;
use segue_flow::queue::{Inlet, Outlet};
use segue_flow::{Epoch, LaneId, Offset, Sink, SinkError};
use segue_listen::EventTime;
use segue_listen::wire::Format;
use serde::Serialize;

use super::{Content, StreamTally, Topics};
use crate::ladder::RungReport;
use crate::prequential::{PrequentialError, PrequentialReport, PrequentialSettings};
use crate::recommender::{RecommendError, Recommender};
use crate::training::TrainingLog;

/// How the stage works.
#[derive(Clone, Debug)]
pub struct StageSettings {
    /// Plays in an epoch, at least 1.
    pub epoch: usize,
    /// How many lanes the stream has.
    pub lanes: u32,
    /// Those that feed this stage; the others feed other instances.
    pub held: BTreeSet<LaneId>,
    /// How many plays are gathered before the curriculum is taught; without one it has no meaning.
    pub train_plays: u64,
    /// Take plays in by event time, whichever lane they come from, and wait at each barrier until
    /// every announced track has been encoded: what is predicted is then a function of the plays
    /// alone. The lanes must keep order. Otherwise a batch is taken in when it comes and a vector is
    /// seen when it is ready.
    pub exact: bool,
    /// Tracks in a prediction; 0 writes none.
    pub top: usize,
    /// Where records go.
    pub topics: Topics,
    /// How records are encoded.
    pub format: Format,
    /// The evaluation.
    pub prequential: PrequentialSettings,
    /// How long the answers of an epoch may take, about; `None`: as long as the first rung needs.
    /// In exact mode there is no limit whatever it says here.
    pub answer_within: Option<Duration>,
    /// How long the measuring of an epoch may take, about; `None`: until every play is measured, as
    /// in exact mode whatever it says here.
    pub measure_within: Option<Duration>,
    /// Recommenders that only answer and are not evaluated: their ranks of a whole catalogue cost
    /// too much, or say nothing.
    pub unmeasured: Vec<String>,
    /// Pairs of recommenders whose difference is reported, first − second.
    pub compare: Vec<(String, String)>,
}

/// The way to an encoder's thread and back.
pub struct EncoderLink {
    /// New tracks go in here.
    pub arrivals: Inlet<Arrivals>,
    /// Their vectors come out here.
    pub encoded: Outlet<Encoded>,
    /// So many tracks go in at once, at least 1.
    pub batch: usize,
    /// The length of its part of a vector.
    pub dimensions: usize,
}

/// Teaches recommenders on the first part of a log.
pub trait Curriculum: Send {
    /// Trains on `log`; the recommenders come back with nothing admitted. `content` tells of every
    /// track that was seen so far.
    ///
    /// # Errors
    /// See [`RecommendError`].
    fn teach(
        self: Box<Self>,
        log: &TrainingLog,
        content: &Content,
    ) -> Result<Vec<Box<dyn Recommender>>, RecommendError>;

    /// The recommenders that [`Curriculum::teach`] makes, by the same names and in the same order,
    /// untaught: each takes up what a checkpoint kept of it.
    ///
    /// # Errors
    /// See [`RecommendError`].
    fn untaught(
        self: Box<Self>,
        content: &Content,
    ) -> Result<Vec<Box<dyn Recommender>>, RecommendError>;
}

/// Is told how the stream goes: draws bars, fills histograms. Changes nothing.
pub trait Watcher: Send {
    /// `plays` more plays were taken in; event time has come to `at`.
    fn progressed(&mut self, plays: u64, at: EventTime);
    /// `plays` plays were answered `latency` after they were read.
    fn answered(&mut self, latency: Duration, plays: u64);
    /// The first prediction that could contain a new track came so long after the track's first play.
    fn fresh(&mut self, after: Duration);
    /// Teaching began (`true`) or is over.
    fn teaching(&mut self, begins: bool);
}

impl Watcher for () {
    fn progressed(&mut self, _: u64, _: EventTime) {}
    fn answered(&mut self, _: Duration, _: u64) {}
    fn fresh(&mut self, _: Duration) {}
    fn teaching(&mut self, _: bool) {}
}

/// How checkpoints are taken.
pub struct Checkpointing {
    /// Where they go.
    pub store: CheckpointStore,
    /// How the lanes are asked for their states.
    pub call: BarrierCall,
    /// From one to the next, by the machine's clock: how much is read again after a crash, and how
    /// long results wait to become visible to transactional readers.
    pub every: Duration,
    /// The topic whose partitions the lanes read.
    pub topic: String,
    /// Settings that may not change between a checkpoint and its restoration, by key.
    pub fixed: BTreeMap<String, String>,
}

/// What a run goes on from: one checkpoint, and lanes from others.
pub struct Restored {
    /// The epoch that it closed.
    pub epoch: Epoch,
    /// Where each lane stood; one that is not here begins with nothing.
    pub positions: BTreeMap<LaneId, Offset>,
    /// The checkpoint's parts by name, and a part for each lane, wherever it comes from.
    pub parts: BTreeMap<String, Vec<u8>>,
    /// Whose checkpoint it is.
    pub origin: Origin,
    /// Lanes that come from elsewhere.
    pub moved: Vec<Moved>,
}

/// Whose checkpoint a run begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// This instance's: its counts of what it has done go on.
    Own,
    /// Another's. What it knows is taken up, and what it has done is not counted again.
    Another,
}

/// Lanes that come from a checkpoint of their own.
pub struct Moved {
    /// Which.
    pub lanes: Vec<LaneId>,
    /// The epoch that the checkpoint closed.
    pub epoch: Epoch,
    /// The stage's part of it, in which their listeners are.
    pub stage: Vec<u8>,
}

/// What does the work.
pub struct Parts {
    /// Rank tracks, from the dearest to the cheapest: the ladder. With a curriculum, it brings its
    /// own instead.
    pub recommenders: Vec<Box<dyn Recommender>>,
    /// Teaches them on the first part of the log.
    pub curriculum: Option<Box<dyn Curriculum>>,
    /// Tracks that are there before the first play, with vectors as long as the encoder's: those that
    /// `recommenders` were trained on. A checkpoint has its own.
    pub known: Option<Content>,
    /// Encode new tracks, each a part of their vectors, in the order of the parts. The first one is given
    /// every track, the others those of which the library knows.
    pub encoders: Vec<EncoderLink>,
    /// What is known of tracks beside their plays.
    pub library: CurrentLibrary,
    /// Gives tracks their ids; others may look them up.
    pub directory: Arc<Directory>,
    /// Takes checkpoints: results and input offsets are then committed with one, and only so.
    pub checkpointing: Option<Checkpointing>,
    /// The state to go on from.
    pub restored: Option<Restored>,
    /// Owns the estimated durations.
    pub durations: DurationEstimates,
    /// Where records go.
    pub sink: Box<dyn Sink>,
    /// Is told how it goes.
    pub watcher: Box<dyn Watcher>,
    /// For latencies only.
    pub clock: Arc<dyn WallClock>,
}

/// Why the stage cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A recommender failed beyond what the ladder can bridge.
    #[error(transparent)]
    Recommend(#[from] RecommendError),
    /// Records cannot be written.
    #[error("the epoch's records cannot be written: {0}")]
    Sink(#[from] SinkError),
    /// The evaluation is set up wrongly.
    #[error(transparent)]
    Prequential(#[from] PrequentialError),
    /// A record cannot be encoded: a bug.
    #[error("a record for {topic} cannot be encoded: {detail}")]
    Record {
        /// The topic.
        topic: String,
        /// What the encoder said.
        detail: String,
    },
    /// A lane speaks of a listener or track that it has not announced: a bug.
    #[error("{0}")]
    Address(String),
    /// More tracks than can be numbered.
    #[error(transparent)]
    Full(#[from] CatalogueFull),
    /// A checkpoint cannot be taken or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The last checkpoint could not be taken, for a reason that was told.
    #[error(
        "what was read since the last checkpoint is not committed: the next run reads it again"
    )]
    NotCommitted,
    /// A checkpoint does not fit: another version, a part that is missing or torn.
    #[error("the checkpoint of epoch {epoch} cannot be restored: {detail}")]
    Restore {
        /// The epoch.
        epoch: u64,
        /// Which part, and what is wrong with it.
        detail: String,
    },
    /// An encoder's thread is gone.
    #[error("an encoder has stopped: see the log for its last error")]
    EncoderGone,
    /// The tracks that are there have other vectors than the encoders make. Segue stops.
    #[error(
        "the tracks that are known have vectors of {was} components, and the encoders make {now}: set \
         models.audio_encoder, models.lyrics and models.folder as they were, or begin anew with --from \
         earliest"
    )]
    OtherVectors {
        /// The length that they have.
        was: usize,
        /// The length that they would have now.
        now: usize,
    },
}

/// What came of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RunSummary {
    /// What the stream held.
    pub stream: StreamTally,
    /// Epochs committed.
    pub epochs: u64,
    /// Predictions written.
    pub predictions: u64,
    /// Plays that models were trained on before the evaluation began.
    pub trained_on: u64,
    /// Listeners seen.
    pub listeners: u64,
    /// Tracks in the catalogue.
    pub tracks: u64,
    /// Tracks with a content vector.
    pub encoded: u64,
    /// Tracks without one, since nothing of their content could be encoded.
    pub failed: u64,
    /// What could not be encoded, of these and of tracks that have a vector: each is a dead letter.
    pub content_faults: u64,
    /// Tracks with an estimated duration.
    pub durations_estimated: u64,
    /// How far estimated durations are from those that events state; absent if none does.
    pub durations: Option<DurationReport>,
    /// How well it was predicted; absent if nothing was measured.
    pub prequential: Option<PrequentialReport>,
    /// Mean losses of online learning: (recommender, epoch, loss); of a long run, means of neighbours.
    pub losses: Vec<(String, u64, f32)>,
    /// Who answered how often.
    pub rungs: Vec<RungReport>,
}
