//! Where a run goes on: the newest whole checkpoint whose positions the output has committed.
//!
//! A checkpoint is sealed before results and offsets are committed. After a crash in between the
//! newest checkpoint is one that nobody saw the results of: what the output committed says which one
//! counts. Where that one is damaged, an older one will do: what lies between is read again, with
//! nothing written.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};
use segue_flow::checkpoint::{CheckpointError, CheckpointStore, Manifest, Position};
use segue_flow::{Epoch, LaneId, Offset, RawRecord, Readiness, Replay, Source, SourceError};
use segue_recommend::stage::{Origin, Restored};

use crate::config::Config;
use crate::shares;

/// Settings that a state depends on, by key: with others it would be another state.
pub fn fixed(config: &Config) -> BTreeMap<String, String> {
    let (stream, recommend) = (&config.stream, &config.recommend);
    let entry = |key: &str, value: String| (key.to_owned(), value);
    let settings = [
        entry("stream.disorder", format!("{:?}", stream.disorder)),
        entry("stream.lateness", format!("{:?}", stream.lateness)),
        entry("stream.tick", format!("{:?}", stream.tick)),
        entry("sessions.gap", format!("{:?}", config.sessions.gap)),
        entry("recommend.exact", recommend.exact.to_string()),
        entry("recommend.train_plays", recommend.train_plays.to_string()),
        entry("models.trained", trained(config)),
    ];
    settings.into_iter().chain(content(config)).collect()
}

/// What tracks' vectors are made of.
fn content(_config: &Config) -> Vec<(String, String)> {
    #[cfg(feature = "torch")]
    let models = &_config.models;
    #[cfg(feature = "torch")]
    let keys = vec![
        ("albums", models.albums.to_string()),
        ("lyrics", models.lyrics.to_string()),
        ("audio_encoder", models.audio_encoder.clone()),
        ("audio_layers", models.audio_layers.clone()),
        ("audio_seconds", models.audio_seconds.to_string()),
        ("audio_count", models.audio_count.to_string()),
        ("encode_ratings", models.encode_ratings.to_string()),
    ];
    #[cfg(not(feature = "torch"))]
    let keys: Vec<(&str, String)> = Vec::new();
    let entry = |(key, value)| (format!("models.{key}"), value);
    keys.into_iter().map(entry).collect()
}

/// What stands in `models.trained`.
fn trained(_config: &Config) -> String {
    #[cfg(feature = "torch")]
    let folder = &_config.models.trained;
    #[cfg(not(feature = "torch"))]
    let folder = "";
    format!("{folder:?}")
}

/// What is committed of a lane.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The next record.
    pub offset: Offset,
    /// Of which epoch that is the end, where it was noted. Two epochs may end at the same positions:
    /// time goes on without records too.
    pub epoch: Option<Epoch>,
    /// The instance of a group that had the lane; `None` if it was read alone.
    pub instance: Option<String>,
}

/// What the output has committed last.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Committed {
    /// Where each partition of the input stands; `None` where nothing ever was.
    pub lanes: Vec<Option<Standing>>,
}

impl Committed {
    /// Whether nothing was, ever.
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(Option::is_none)
    }

    /// Where each partition stands; at its beginning where nothing was committed.
    pub fn positions(&self) -> impl Iterator<Item = Offset> {
        let offset = |lane: &Option<Standing>| lane.as_ref().map(|lane| lane.offset);
        self.lanes
            .iter()
            .map(move |lane| offset(lane).unwrap_or_default())
    }

    /// The epoch that a run which reads alone has committed.
    fn epoch(&self) -> Option<Epoch> {
        self.lanes.iter().flatten().find_map(|lane| lane.epoch)
    }

    fn is_of_instances(&self) -> bool {
        let mut lanes = self.lanes.iter().flatten();
        lanes.any(|lane| lane.instance.is_some())
    }
}

/// Where a run goes on.
pub enum Start {
    /// With nothing.
    Anew,
    /// From the checkpoint of what is committed.
    From(Restored),
    /// That one is damaged, and this is an older one. What lies between is to be read again, with
    /// nothing written, and kept as the checkpoint that is missing.
    Before(Restored),
}

/// Finds where to go on. `committed` is what the output has committed of `topic`.
///
/// # Errors
/// Something was committed and no whole checkpoint is of those positions or before them, or the one
/// that is was taken under other settings or of another number of partitions.
pub fn find(
    store: &mut CheckpointStore,
    topic: &str,
    committed: &Committed,
    config: &Config,
) -> Result<Start> {
    if committed.is_empty() {
        return Ok(Start::Anew);
    }
    if committed.is_of_instances() {
        let lanes: Vec<LaneId> = (0u32..).map(LaneId).take(committed.lanes.len()).collect();
        let restored = shares::find(store, None, &lanes, committed, config)?;
        return Ok(restored.map_or(Start::Anew, Start::From));
    }
    let damage = match store.newest_good_that(|manifest| fits(manifest, topic, committed)) {
        Ok(Some(manifest)) => return Ok(Start::From(restored(store, &manifest, config)?)),
        Ok(None) => None,
        Err(error @ CheckpointError::AllDamaged { .. }) => Some(error),
        Err(error) => return Err(error.into()),
    };
    let older = store.newest_good_that(|manifest| lies_before(manifest, topic, committed));
    if let (Ok(Some(manifest)), Some(epoch)) = (&older, committed.epoch()) {
        tracing::warn!(
            checkpoint = manifest.number,
            "the checkpoint of what is committed is not whole: reading again from an older one"
        );
        let mut restored = restored(store, manifest, config)?;
        // What is caught up with is the end of the committed epoch.
        restored.epoch = Epoch(epoch.0.saturating_sub(1));
        return Ok(Start::Before(restored));
    }
    let partitions = committed.lanes.len();
    if let Ok(Some(newest)) = store.newest_good()
        && newest.body.partitions as usize != partitions
    {
        bail!(
            "checkpoint {} is of {} partitions of {topic}, which has {partitions} now: listeners lie \
             in other lanes; begin anew with --from earliest",
            newest.number,
            newest.body.partitions
        );
    }
    let why = damage.map_or_else(String::new, |damage| format!(" ({damage})"));
    bail!(
        "results of {topic} up to {} are committed, and no whole checkpoint in {} is of those \
         positions or before them{why}: give the right checkpoint.url, or begin anew with --from \
         earliest (what is read again is then written again)",
        told(committed),
        config.checkpoint.url
    )
}

fn restored(store: &CheckpointStore, manifest: &Manifest, config: &Config) -> Result<Restored> {
    check_fixed(manifest, config)?;
    tracing::info!(
        checkpoint = manifest.number,
        epoch = manifest.epoch.0,
        bytes = manifest.bytes(),
        "going on from a checkpoint"
    );
    let position = |p: &Position| (LaneId(p.partition), p.offset);
    Ok(Restored {
        epoch: manifest.epoch,
        positions: manifest.body.positions.iter().map(position).collect(),
        parts: store.load(manifest)?,
        origin: Origin::Own,
        moved: Vec::new(),
    })
}

/// A state goes on only under the settings that it came of.
///
/// # Errors
/// The first setting that is another now.
pub fn check_fixed(manifest: &Manifest, config: &Config) -> Result<()> {
    for (key, now) in fixed(config) {
        match manifest.body.fixed.get(&key) {
            Some(was) if *was != now => bail!(
                "{key} is {now} and was {was} when checkpoint {} was taken: set it back, or begin anew \
                 with --from earliest",
                manifest.number
            ),
            _ => {}
        }
    }
    Ok(())
}

fn fits(manifest: &Manifest, topic: &str, committed: &Committed) -> bool {
    let of_epoch = committed
        .epoch()
        .is_none_or(|epoch| epoch == manifest.epoch);
    of_epoch
        && each(manifest, topic, committed, |stands, committed| {
            stands == committed
        })
}

fn lies_before(manifest: &Manifest, topic: &str, committed: &Committed) -> bool {
    let before = committed
        .epoch()
        .is_some_and(|epoch| manifest.epoch < epoch);
    before
        && each(manifest, topic, committed, |stands, committed| {
            stands <= committed
        })
}

/// Whether every position of a checkpoint stands so to what is committed of its partition. A
/// partition that was never committed stands at its beginning.
fn each(
    manifest: &Manifest,
    topic: &str,
    committed: &Committed,
    stands: impl Fn(Offset, Offset) -> bool,
) -> bool {
    let positions = &manifest.body.positions;
    positions.len() == committed.lanes.len()
        && positions.iter().all(|position| {
            let of = committed.positions().nth(position.partition as usize);
            position.topic == topic && of.is_some_and(|of| stands(position.offset, of))
        })
}

fn told(committed: &Committed) -> String {
    let one = |lane: &Option<Standing>| {
        let lane = lane.as_ref();
        lane.map_or("-".to_owned(), |lane| lane.offset.0.to_string())
    };
    committed
        .lanes
        .iter()
        .map(one)
        .collect::<Vec<_>>()
        .join(", ")
}

/// A source that ends before an offset.
pub struct Until {
    source: Box<dyn Source>,
    end: Offset,
}

impl Until {
    /// The source's records before `end`.
    pub fn new(source: Box<dyn Source>, end: Offset) -> Self {
        Self { source, end }
    }
}

impl Source for Until {
    fn replay(&self) -> Replay {
        self.source.replay()
    }

    fn position(&self) -> Offset {
        self.source.position().min(self.end)
    }

    fn end(&mut self) -> Option<Offset> {
        Some(self.end)
    }

    fn seek(&mut self, to: Offset) -> Result<(), SourceError> {
        self.source.seek(to)
    }

    fn read_runs(
        &mut self,
        patience: Duration,
        visit: &mut dyn FnMut(&[RawRecord<'_>]),
    ) -> Result<Readiness, SourceError> {
        if self.source.position() >= self.end {
            return Ok(Readiness::Ended);
        }
        let end = self.end;
        self.source.read_runs(patience, &mut |run| {
            let before = run.partition_point(|record| record.offset < end);
            visit(run.get(..before).unwrap_or_default());
        })
    }
}
