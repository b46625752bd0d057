//! Taking checkpoints, and finding the newest one that is whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use object_store::path::Path;
use xxhash_rust::xxh3::xxh3_128;

use super::age::CheckpointAge;
use super::error::CheckpointError;
use super::manifest::{FILE, Manifest, ManifestBody, PartEntry, hex, is_name};
use super::objects::{Found, Objects};
use super::settings::CheckpointSettings;
use crate::clock::{MachineClock, WallClock};
use crate::epoch::Epoch;
use crate::names::{self, Name};

/// The checkpoints of one engine.
#[derive(Debug)]
pub struct CheckpointStore {
    objects: Objects,
    keep: usize,
    /// Those that are kept however old they are.
    kept: BTreeSet<u64>,
    /// The lowest number that was never used by this process.
    next: u64,
    /// Sealed checkpoints that this process has read and found whole.
    whole: BTreeSet<u64>,
    clock: MachineClock,
    age: CheckpointAge,
}

/// A sealed checkpoint, or why its manifest cannot be read.
#[derive(Debug)]
pub struct Listed {
    /// Its number.
    pub number: u64,
    /// What it says of itself. Its parts were not looked at.
    pub manifest: Result<Manifest, CheckpointError>,
}

impl CheckpointStore {
    /// The store that the settings name. A folder is made if it is not there.
    ///
    /// # Errors
    /// Settings that cannot be, a secret that is not there, a folder that cannot be made. An object
    /// store is not asked before the first call.
    pub fn open(settings: &CheckpointSettings) -> Result<Self, CheckpointError> {
        let objects = Objects::open(settings)?;
        Ok(Self::of(objects, settings.keep))
    }

    /// A store over any objects, which `address` names to people.
    ///
    /// # Errors
    /// [`CheckpointError::Internal`].
    pub fn over(
        objects: Arc<dyn ObjectStore>,
        address: &str,
        keep: usize,
    ) -> Result<Self, CheckpointError> {
        let objects = Objects::over(objects, Path::default(), address)?;
        Ok(Self::of(objects, keep))
    }

    fn of(objects: Objects, keep: usize) -> Self {
        let clock = MachineClock::start();
        Self {
            objects,
            keep: keep.max(2),
            kept: BTreeSet::new(),
            next: 1,
            whole: BTreeSet::new(),
            clock,
            age: CheckpointAge::begins(clock),
        }
    }

    /// Begins the checkpoint of `epoch`; what crashed or failed drafts left is removed.
    ///
    /// # Errors
    /// See [`CheckpointError`].
    pub fn begin(&mut self, epoch: Epoch) -> Result<Draft<'_>, CheckpointError> {
        let begun = self.clock.now();
        let number = self
            .make_room()
            .inspect_err(|_| names::count(Name::CheckpointFailures, 1))?;
        Ok(Draft {
            store: self,
            number,
            epoch,
            begun,
            parts: Vec::new(),
            sealed: false,
        })
    }

    fn make_room(&mut self) -> Result<u64, CheckpointError> {
        self.objects.claim()?;
        let found = self.objects.list()?;
        for (number, found) in found.iter().filter(|(_, found)| !found.manifest) {
            self.objects.remove(*number, found)?;
        }
        let last = found.last_key_value().map_or(0, |(number, _)| *number);
        let number = self.next.max(last.saturating_add(1));
        self.next = number.saturating_add(1);
        Ok(number)
    }

    /// All sealed checkpoints, newest first.
    ///
    /// # Errors
    /// The place cannot be listed, or a manifest that is there cannot be got at.
    pub fn list(&self) -> Result<Vec<Listed>, CheckpointError> {
        self.sealed()?
            .into_iter()
            .map(|number| match self.manifest(number) {
                Err(error @ CheckpointError::Unavailable { .. }) => Err(error),
                manifest => Ok(Listed { number, manifest }),
            })
            .collect()
    }

    /// The newest checkpoint all of whose parts are as they were written. Damaged ones are skipped
    /// with a warning.
    ///
    /// # Errors
    /// [`CheckpointError::Newer`]; [`CheckpointError::AllDamaged`], where `None` would mean to begin
    /// from nothing; and what keeps us from looking.
    pub fn newest_good(&self) -> Result<Option<Manifest>, CheckpointError> {
        self.newest_good_that(|_| true)
    }

    /// As [`CheckpointStore::newest_good`], among those that `fits`: whose positions a broker has
    /// committed, say.
    ///
    /// # Errors
    /// As there.
    pub fn newest_good_that(
        &self,
        mut fits: impl FnMut(&Manifest) -> bool,
    ) -> Result<Option<Manifest>, CheckpointError> {
        let mut damaged: Vec<CheckpointError> = Vec::new();
        for number in self.sealed()? {
            let good = match self.manifest(number) {
                Ok(manifest) if !fits(&manifest) => continue,
                Ok(manifest) => self.verify(&manifest).map(|()| manifest),
                Err(error) => Err(error),
            };
            match good {
                Ok(manifest) => return Ok(Some(manifest)),
                Err(error) if error.is_damage() => {
                    tracing::warn!(checkpoint = number, "skipped: {error}");
                    damaged.push(error);
                }
                Err(error) => return Err(error),
            }
        }
        let count = damaged.len();
        match damaged.into_iter().next() {
            None => Ok(None),
            Some(newest) => Err(CheckpointError::AllDamaged {
                address: self.objects.address().to_owned(),
                count,
                newest: Box::new(newest),
            }),
        }
    }

    /// Reads all parts of a checkpoint, and checks them against its manifest.
    ///
    /// # Errors
    /// [`CheckpointError::Damaged`] names the first part that is not as it was written.
    pub fn verify(&self, manifest: &Manifest) -> Result<(), CheckpointError> {
        let mut parts = manifest.parts.iter();
        parts.try_for_each(|part| self.objects.read(manifest.number, part, |_| ()))
    }

    /// All parts of a checkpoint, by name, checked.
    ///
    /// # Errors
    /// As [`CheckpointStore::verify`].
    pub fn load(&self, manifest: &Manifest) -> Result<BTreeMap<String, Vec<u8>>, CheckpointError> {
        let load = |part: &PartEntry| Ok((part.name.clone(), self.read(manifest.number, part)?));
        manifest.parts.iter().map(load).collect()
    }

    /// One part of a checkpoint, checked; `None` if it has none of this name.
    ///
    /// # Errors
    /// As [`CheckpointStore::verify`].
    pub fn load_part(
        &self,
        manifest: &Manifest,
        name: &str,
    ) -> Result<Option<Vec<u8>>, CheckpointError> {
        let part = manifest.part(name);
        part.map(|part| self.read(manifest.number, part))
            .transpose()
    }

    /// Keeps these checkpoints, however old they get, until others are named: what a broker has
    /// committed of lanes that are another's by now still lies in them.
    pub fn keep_also(&mut self, numbers: BTreeSet<u64>) {
        self.kept = numbers;
    }

    /// Removes what is older than the newest `keep` checkpoints that are whole and is not kept for a
    /// reason of its own ([`CheckpointStore::keep_also`]), and returns how many went. A checkpoint counts as whole once this process has read it back; damaged ones do not
    /// count, and go when they are older than those kept.
    ///
    /// # Errors
    /// See [`CheckpointError`]; what is left is then to be pruned another time.
    pub fn prune(&mut self) -> Result<usize, CheckpointError> {
        self.objects.claim()?;
        let found = self.objects.list()?;
        let sealed = || found.iter().rev().filter(|(_, found)| found.manifest);
        if sealed().count() <= self.keep {
            return Ok(0);
        }
        let (mut kept, mut oldest_kept) = (0, 0);
        for (number, found) in sealed() {
            if self.is_whole(*number, found)? {
                (kept, oldest_kept) = (kept + 1, *number);
            }
            if kept == self.keep {
                break;
            }
        }
        if kept < self.keep {
            return Ok(0);
        }
        let old = found.range(..oldest_kept);
        let old: Vec<_> = old.filter(|(n, _)| !self.kept.contains(n)).collect();
        for (number, found) in &old {
            self.objects.remove(**number, found)?;
        }
        self.whole = self.whole.split_off(&oldest_kept);
        Ok(old.len())
    }

    /// Whether a checkpoint can be counted on. Each is read in full once; later a look at what is
    /// listed has to do.
    fn is_whole(&mut self, number: u64, found: &Found) -> Result<bool, CheckpointError> {
        let checked = self.manifest(number).and_then(|manifest| {
            let whole = has_all(&manifest, found);
            if whole && !self.whole.contains(&number) {
                self.verify(&manifest)?;
            }
            Ok(whole)
        });
        match checked {
            Ok(true) => {
                self.whole.insert(number);
                Ok(true)
            }
            Ok(false) | Err(CheckpointError::Newer { .. }) => Ok(false),
            Err(error) if error.is_damage() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// How old the newest checkpoint is, for another thread to tell.
    pub fn age(&self) -> CheckpointAge {
        self.age.clone()
    }

    fn sealed(&self) -> Result<Vec<u64>, CheckpointError> {
        let found = self.objects.list()?.into_iter().rev();
        let sealed = found.filter(|(_, found)| found.manifest);
        Ok(sealed.map(|(number, _)| number).collect())
    }

    fn manifest(&self, number: u64) -> Result<Manifest, CheckpointError> {
        let text = self.objects.read_manifest(number)?;
        Manifest::parse(&self.objects.name_of(number, FILE), number, &text)
    }

    fn read(&self, number: u64, part: &PartEntry) -> Result<Vec<u8>, CheckpointError> {
        let mut bytes = Vec::new();
        self.objects
            .read(number, part, |block| bytes.extend_from_slice(block))?;
        Ok(bytes)
    }
}

fn has_all(manifest: &Manifest, found: &Found) -> bool {
    let has = |part: &PartEntry| found.parts.get(&part.name) == Some(&part.bytes);
    manifest.parts.iter().all(has)
}

/// A checkpoint that is being taken. Nobody sees it before it is sealed; one that is dropped counts
/// as failed, and the next one removes what it left.
#[derive(Debug)]
pub struct Draft<'a> {
    store: &'a mut CheckpointStore,
    number: u64,
    epoch: Epoch,
    begun: Duration,
    parts: Vec<PartEntry>,
    sealed: bool,
}

impl Draft<'_> {
    /// Writes a part; when this returns, it is durable.
    ///
    /// # Errors
    /// See [`CheckpointError`]. The draft is then to be dropped.
    pub fn part(&mut self, name: &str, bytes: Vec<u8>) -> Result<(), CheckpointError> {
        self.parts(vec![(name.to_owned(), bytes)]).map(drop)
    }

    /// Writes parts, a few at a time; when this returns, all are durable. Returns their memory, in order.
    ///
    /// # Errors
    /// See [`CheckpointError`]. The draft is then to be dropped.
    pub fn parts(
        &mut self,
        parts: Vec<(String, Vec<u8>)>,
    ) -> Result<Vec<Vec<u8>>, CheckpointError> {
        let before = self.parts.len();
        for (name, bytes) in &parts {
            let bad = |detail| CheckpointError::BadPart {
                name: name.clone(),
                detail,
            };
            if !is_name(name) {
                return Err(bad("a name is made of a-z, 0-9, '-', '_' and '.'"));
            }
            if self.parts.iter().any(|part| part.name == *name) {
                return Err(bad("written twice"));
            }
            self.parts.push(PartEntry {
                name: name.clone(),
                bytes: bytes.len() as u64,
                xxh3: hex(xxh3_128(bytes)),
            });
        }
        let names = self.parts.get(before..).unwrap_or_default().iter();
        let bytes = parts.into_iter().map(|(_, bytes)| bytes);
        let objects = names.map(|part| part.name.as_str()).zip(bytes).collect();
        self.store.objects.create_all(self.number, objects)
    }

    /// Writes the manifest: from then on this is the newest checkpoint.
    ///
    /// # Errors
    /// See [`CheckpointError`]. Whether it was sealed is then not known: either it is whole, or the
    /// one before is still the newest.
    pub fn seal(mut self, body: ManifestBody) -> Result<Manifest, CheckpointError> {
        let manifest = Manifest {
            number: self.number,
            epoch: self.epoch,
            created_by: concat!("segue ", env!("CARGO_PKG_VERSION")).to_owned(),
            body,
            parts: std::mem::take(&mut self.parts),
        };
        let text = manifest.to_text()?;
        self.store
            .objects
            .create(self.number, FILE, text.into_bytes())?;
        self.sealed = true;
        let took = self.store.clock.now().saturating_sub(self.begun);
        names::observe(Name::CheckpointTaken, took);
        names::gauge(Name::CheckpointBytes, manifest.bytes() as f64);
        self.store.age.sealed();
        Ok(manifest)
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if !self.sealed {
            names::count(Name::CheckpointFailures, 1);
        }
    }
}
