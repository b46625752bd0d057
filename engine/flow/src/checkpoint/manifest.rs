//! What a checkpoint says of itself, in JSON that people can read.
//!
//! ```text
//! {"v": 1, "xxh3": "<of the text after manifest, seeded with v>", "manifest": { … }}
//! ```
//!
//! This envelope is the same in all versions, so that a damaged manifest is told from a newer one.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::error::CheckpointError;
use crate::epoch::{Epoch, Offset};

/// Under which name it lies beside its parts.
pub(super) const FILE: &str = "manifest.json";

/// The version that is written, and the newest that is read.
pub(super) const VERSION: u32 = 1;

/// Makes a manifest of one version into one of the next.
type Upgrade = fn(Value) -> Result<Value, String>;

/// The step from version 1, from version 2, and so on up to [`VERSION`]. Who raises that writes the
/// step, or this does not compile.
const UPGRADES: [Upgrade; VERSION as usize - 1] = [];

/// The next record of one partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The topic.
    pub topic: String,
    /// Its partition.
    pub partition: u32,
    /// The next record to read: all before it are in the state.
    pub offset: Offset,
}

/// What the caller says of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestBody {
    /// Where reading goes on, one per lane.
    pub positions: Vec<Position>,
    /// How many partitions the input has: with another number, keys lie in other lanes.
    pub partitions: u32,
    /// The version in which each room wrote its state.
    pub formats: BTreeMap<String, u16>,
    /// Settings that may not change under a state, by key, as text.
    pub fixed: BTreeMap<String, String>,
}

/// A part, as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartEntry {
    /// Its name: lower-case letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its XXH3-128, in hexadecimal.
    pub xxh3: String,
}

/// What a sealed checkpoint holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Counts the checkpoints of one store; later ones have higher numbers.
    pub number: u64,
    /// The epoch whose end it is the state of. May come twice, where an epoch was run again.
    pub epoch: Epoch,
    /// The program that wrote it.
    pub created_by: String,
    /// What the caller said.
    pub body: ManifestBody,
    /// Its parts, in the order in which they were written.
    pub parts: Vec<PartEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    v: u32,
    xxh3: String,
    #[serde(borrow)]
    manifest: &'a RawValue,
}

impl Manifest {
    /// Bytes of all parts.
    pub fn bytes(&self) -> u64 {
        // A forged one may claim any length.
        let parts = self.parts.iter();
        parts.fold(0, |all, part| all.saturating_add(part.bytes))
    }

    /// The part of this name.
    pub fn part(&self, name: &str) -> Option<&PartEntry> {
        self.parts.iter().find(|part| part.name == name)
    }

    pub(super) fn to_text(&self) -> Result<String, CheckpointError> {
        serde_json::to_string_pretty(self)
            .map(|text| sealed(VERSION, &text))
            .map_err(|error| CheckpointError::Internal {
                detail: format!("manifest {} cannot be written: {error}", self.number),
            })
    }

    /// Reads what lies at `path` as the manifest of checkpoint `number`.
    pub(super) fn parse(path: &str, number: u64, text: &[u8]) -> Result<Self, CheckpointError> {
        let value = current(path, text, &UPGRADES)?;
        let damaged = |expected: &str, found: String| CheckpointError::Damaged {
            path: path.to_owned(),
            expected: expected.to_owned(),
            found,
        };
        let manifest: Self = serde_json::from_value(value)
            .map_err(|error| damaged("a manifest", error.to_string()))?;
        if manifest.number != number {
            let found = format!("that of checkpoint {}", manifest.number);
            return Err(damaged(&format!("that of checkpoint {number}"), found));
        }
        if let Some(part) = manifest.parts.iter().find(|part| !is_name(&part.name)) {
            return Err(damaged("names of parts", format!("{:?}", part.name)));
        }
        let mut names = BTreeSet::new();
        match manifest.parts.iter().find(|part| !names.insert(&part.name)) {
            Some(part) => Err(damaged("each part once", format!("{:?} twice", part.name))),
            None => Ok(manifest),
        }
    }
}

/// Whether a part may have this name: it is that of a file, on any file system.
pub(super) fn is_name(name: &str) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-_.".contains(&c);
    (1..=128).contains(&name.len())
        && !name.starts_with('.')
        && name != FILE
        && name.bytes().all(plain)
}

/// The checksum of a part.
pub(super) fn hex(sum: u128) -> String {
    format!("{sum:032x}")
}

fn sealed(version: u32, manifest: &str) -> String {
    let sum = hex(xxh3_128_with_seed(manifest.as_bytes(), version.into()));
    format!("{{\"v\": {version}, \"xxh3\": \"{sum}\", \"manifest\": {manifest}}}\n")
}

/// Opens the envelope and brings the manifest to the newest version, which is one more than there are
/// upgrades.
fn current(path: &str, text: &[u8], upgrades: &[Upgrade]) -> Result<Value, CheckpointError> {
    let damaged = |expected: String, found: String| CheckpointError::Damaged {
        path: path.to_owned(),
        expected,
        found,
    };
    let envelope: Envelope<'_> = serde_json::from_slice(text)
        .map_err(|error| damaged("a manifest".to_owned(), error.to_string()))?;
    let raw = envelope.manifest.get();
    let sum = hex(xxh3_128_with_seed(raw.as_bytes(), envelope.v.into()));
    if sum != envelope.xxh3 {
        return Err(damaged(format!("checksum {}", envelope.xxh3), sum));
    }
    let newest = upgrades.len() as u32 + 1;
    if envelope.v > newest {
        return Err(CheckpointError::Newer {
            path: path.to_owned(),
            found: envelope.v,
            newest,
        });
    }
    let steps = (envelope.v as usize)
        .checked_sub(1)
        .and_then(|from| upgrades.get(from..))
        .ok_or_else(|| damaged("a version from 1 on".to_owned(), "version 0".to_owned()))?;
    let value = serde_json::from_str(raw)
        .map_err(|error| damaged("a manifest".to_owned(), error.to_string()))?;
    (envelope.v..)
        .zip(steps)
        .try_fold(value, |value, (version, upgrade)| {
            upgrade(value)
                .map_err(|error| damaged(format!("a manifest of version {version}"), error))
        })
}

#[cfg(test)]
mod tests;
