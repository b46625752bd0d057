//! Where the lanes of one instance go on, when several share a topic.
//!
//! What is committed of a lane says in which instance's checkpoint of which epoch its state is. So a lane
//! is found wherever it was held last: the checkpoint that has most of our lanes is taken up as it is,
//! the other lanes are taken over from theirs. Instances write apart, below the one place of
//! `checkpoint.url`, and read what the others wrote.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use segue_flow::checkpoint::{CheckpointStore, Manifest};
use segue_flow::{Epoch, LaneId, Offset};
use segue_recommend::stage::{Moved, Origin, Restored, STAGE_PART, lane_part};

use crate::config::Config;
use crate::recovery::{Committed, Standing, check_fixed};

/// The checkpoints of one instance.
struct Holder<'a> {
    instance: Option<&'a str>,
    store: CheckpointStore,
}

/// A checkpoint, and the lanes that go on from it.
struct Found {
    lanes: Vec<LaneId>,
    holder: usize,
    manifest: Manifest,
}

/// Finds where `lanes` go on; `None` if nothing of them was ever committed. `own` are the checkpoints of
/// this instance, which goes by the name of `me`; of them is kept what `committed` (of all lanes) still
/// points at.
///
/// # Errors
/// A checkpoint that is pointed at is not there, not whole, or was taken under other settings.
pub fn find(
    own: &mut CheckpointStore,
    me: Option<&str>,
    lanes: &[LaneId],
    committed: &Committed,
    config: &Config,
) -> Result<Option<Restored>> {
    let committed = &committed.lanes;
    let topic = &config.stream.topic;
    let standing = |lane: &LaneId| committed.get(lane.0 as usize)?.as_ref();
    let listed = own.list()?.into_iter();
    let ours: Vec<Manifest> = listed.filter_map(|listed| listed.manifest.ok()).collect();
    own.keep_also(pointed_at(&ours, me, topic, committed));

    let mut groups: BTreeMap<(Option<&str>, Option<Epoch>), Vec<LaneId>> = BTreeMap::new();
    for lane in lanes {
        if let Some(standing) = standing(lane) {
            let holder = (standing.instance.as_deref(), standing.epoch);
            groups.entry(holder).or_default().push(*lane);
        }
    }
    let mut holders: Vec<Holder<'_>> = Vec::new();
    let mut found = Vec::new();
    for ((instance, epoch), lanes) in groups {
        let holder = match holders
            .iter()
            .position(|holder| holder.instance == instance)
        {
            Some(holder) => holder,
            None => {
                let store = CheckpointStore::open(&match instance {
                    Some(name) => config.checkpoint.of_instance(name),
                    None => config.checkpoint.clone(),
                })?;
                holders.push(Holder { instance, store });
                holders.len() - 1
            }
        };
        let has_all = |manifest: &Manifest| {
            let has = |lane| standing(lane).is_some_and(|s| holds(manifest, topic, *lane, s));
            lanes.iter().all(has)
        };
        let looked = holders[holder].store.newest_good_that(has_all);
        let missing = || missing(&lanes, instance, epoch, config);
        let Some(manifest) = looked.with_context(missing)? else {
            bail!(missing());
        };
        if manifest.body.partitions as usize != committed.len() {
            bail!(
                "checkpoint {} is of {} partitions of {topic}, which has {} now: listeners lie in other \
                 lanes; begin anew under another kafka.group",
                manifest.number,
                manifest.body.partitions,
                committed.len()
            );
        }
        check_fixed(&manifest, config)?;
        found.push(Found {
            lanes,
            holder,
            manifest,
        });
    }
    // Most lanes first; of equals our own.
    let is_own = |found: &Found| holders[found.holder].instance == me;
    found.sort_by_key(|found| (Reverse(found.lanes.len()), !is_own(found)));
    let Some(first) = found.first() else {
        return Ok(None);
    };
    let mut restored = Restored {
        // Never an epoch that this instance has used: what is committed names it.
        epoch: ours.iter().map(|m| m.epoch).max().unwrap_or_default(),
        positions: BTreeMap::new(),
        parts: BTreeMap::new(),
        origin: match is_own(first) {
            true => Origin::Own,
            false => Origin::Another,
        },
        moved: Vec::new(),
    };
    for (place, found) in found.iter().enumerate() {
        let store = &holders[found.holder].store;
        let load = |name: &str| {
            let part = store.load_part(&found.manifest, name)?;
            part.with_context(|| format!("checkpoint {} has no part {name}", found.manifest.number))
        };
        for lane in &found.lanes {
            let position = standing(lane).map_or(Offset(0), |standing| standing.offset);
            restored.positions.insert(*lane, position);
            restored
                .parts
                .insert(lane_part(*lane), load(&lane_part(*lane))?);
        }
        if place == 0 {
            let of_lanes: BTreeSet<String> = (0..found.manifest.body.partitions)
                .map(|lane| lane_part(LaneId(lane)))
                .collect();
            for part in &found.manifest.parts {
                if !of_lanes.contains(&part.name) {
                    restored.parts.insert(part.name.clone(), load(&part.name)?);
                }
            }
        } else {
            restored.moved.push(Moved {
                lanes: found.lanes.clone(),
                epoch: found.manifest.epoch,
                stage: load(STAGE_PART)?,
            });
        }
        tracing::info!(
            lanes = ?found.lanes,
            from = holders[found.holder].instance.unwrap_or("a run alone"),
            checkpoint = found.manifest.number,
            epoch = found.manifest.epoch.0,
            "lanes go on from a checkpoint"
        );
    }
    Ok(Some(restored))
}

/// Checkpoints of ours that hold what is committed of some lane.
fn pointed_at(
    ours: &[Manifest],
    me: Option<&str>,
    topic: &str,
    committed: &[Option<Standing>],
) -> BTreeSet<u64> {
    let lanes = || (0u32..).map(LaneId).zip(committed);
    let holds_one = |manifest: &&Manifest| {
        lanes().any(|(lane, standing)| {
            standing.as_ref().is_some_and(|standing| {
                standing.instance.as_deref() == me && holds(manifest, topic, lane, standing)
            })
        })
    };
    ours.iter().filter(holds_one).map(|m| m.number).collect()
}

/// Whether a checkpoint is the one in which a lane's committed state is.
fn holds(manifest: &Manifest, topic: &str, lane: LaneId, standing: &Standing) -> bool {
    let of_epoch = standing.epoch.is_none_or(|epoch| epoch == manifest.epoch);
    of_epoch
        && manifest.body.positions.iter().any(|position| {
            position.topic == topic
                && position.partition == lane.0
                && position.offset == standing.offset
        })
}

fn missing(
    lanes: &[LaneId],
    instance: Option<&str>,
    epoch: Option<Epoch>,
    config: &Config,
) -> String {
    let lanes: Vec<String> = lanes.iter().map(|lane| lane.0.to_string()).collect();
    let epoch = epoch.map_or(String::new(), |epoch| format!(" of epoch {}", epoch.0));
    let whose = match instance {
        Some(name) => format!(
            "of instance {name}, in {}",
            config.checkpoint.of_instance(name).url
        ),
        None => format!("of a run alone, in {}", config.checkpoint.url),
    };
    format!(
        "what is committed of lanes {} of {} is in the checkpoint{epoch} {whose}, and there is no whole \
         one: all instances need the same checkpoint.url, which each of them can read",
        lanes.join(", "),
        config.stream.topic
    )
}
