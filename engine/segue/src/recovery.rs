//! Where a run goes on: the newest whole checkpoint whose positions the output has committed.
//!
//! A checkpoint is sealed before results and offsets are committed. After a crash in between the
//! newest checkpoint is one that nobody saw the results of: what the output committed says which one
//! counts.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use segue_flow::checkpoint::{CheckpointStore, Manifest};
use segue_flow::{Epoch, Offset};
use segue_recommend::stage::Restored;

use crate::config::Config;

/// Settings that a state depends on, by key: with others it would be another state.
pub fn fixed(config: &Config) -> BTreeMap<String, String> {
    let (stream, recommend) = (&config.stream, &config.recommend);
    let entry = |key: &str, value: String| (key.to_owned(), value);
    BTreeMap::from([
        entry("stream.disorder", format!("{:?}", stream.disorder)),
        entry("stream.lateness", format!("{:?}", stream.lateness)),
        entry("stream.tick", format!("{:?}", stream.tick)),
        entry("sessions.gap", format!("{:?}", config.sessions.gap)),
        entry("recommend.exact", recommend.exact.to_string()),
    ])
}

/// What the output has committed last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Committed {
    /// Where each partition of the input stands; `None` where nothing ever was.
    pub positions: Vec<Option<Offset>>,
    /// Of which epoch that is the end, where it was noted. Two epochs may end at the same positions:
    /// time goes on without records too.
    pub epoch: Option<Epoch>,
}

/// The checkpoint to go on from.
///
/// # Errors
/// Something was committed and no whole checkpoint is of those positions, or the one that is was
/// taken under other settings or of another number of partitions.
pub fn find(
    store: &CheckpointStore,
    topic: &str,
    committed: &Committed,
    config: &Config,
) -> Result<Option<Restored>> {
    if committed.positions.iter().all(Option::is_none) {
        return Ok(None);
    }
    let Some(manifest) = store.newest_good_that(|manifest| fits(manifest, topic, committed))?
    else {
        bail!(
            "results of {topic} up to {} are committed, and no checkpoint in {} is of those \
             positions: give the right checkpoint.url, or begin anew with --from earliest (what is \
             read again is then written again)",
            told(&committed.positions),
            config.checkpoint.url
        );
    };
    let partitions = committed.positions.len();
    if manifest.body.partitions as usize != partitions {
        bail!(
            "checkpoint {} is of {} partitions of {topic}, which has {partitions} now: listeners lie \
             in other lanes; begin anew with --from earliest",
            manifest.number,
            manifest.body.partitions
        );
    }
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
    tracing::info!(
        checkpoint = manifest.number,
        epoch = manifest.epoch.0,
        bytes = manifest.bytes(),
        "going on from a checkpoint"
    );
    Ok(Some(Restored {
        epoch: manifest.epoch,
        positions: manifest.body.positions.iter().map(|p| p.offset).collect(),
        parts: store.load(&manifest)?,
    }))
}

fn fits(manifest: &Manifest, topic: &str, committed: &Committed) -> bool {
    let positions = &manifest.body.positions;
    // A partition that was never committed stands at its beginning.
    let stands = |position: &segue_flow::checkpoint::Position| {
        position.topic == topic
            && committed
                .positions
                .get(position.partition as usize)
                .is_some_and(|committed| committed.unwrap_or_default() == position.offset)
    };
    let of_epoch = committed.epoch.is_none_or(|epoch| epoch == manifest.epoch);
    of_epoch && !positions.is_empty() && positions.iter().all(stands)
}

fn told(committed: &[Option<Offset>]) -> String {
    let one =
        |offset: &Option<Offset>| offset.map_or("-".to_owned(), |offset| offset.0.to_string());
    committed.iter().map(one).collect::<Vec<_>>().join(", ")
}
