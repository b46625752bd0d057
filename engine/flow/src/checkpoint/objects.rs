//! The objects of checkpoints, on a disk or in an object store, for callers that are threads.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Error, GetResultPayload, ObjectStore, ObjectStoreExt, PutMode, WriteMultipart};
use tokio::runtime::Runtime;
use xxhash_rust::xxh3::Xxh3;

use super::error::CheckpointError;
use super::manifest::{FILE, PartEntry, hex};
use super::settings::CheckpointSettings;

/// Before the number, in the name of a checkpoint's folder.
const FOLDER: &str = "checkpoint-";

/// What is larger goes up in chunks: S3 takes no more than 5 GiB in one request, and a request that
/// fails is sent again as a whole.
const LARGE: usize = 32 << 20;
const CHUNK: usize = 16 << 20;
const CHUNKS_IN_FLIGHT: usize = 4;

/// Objects that are created side by side.
const CREATED_AT_ONCE: usize = 4;

/// What is read of a file at once.
const BLOCK: usize = 1 << 20;

/// What there is of one checkpoint.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Whether it is sealed.
    pub manifest: bool,
    /// Its parts and their lengths.
    pub parts: BTreeMap<String, u64>,
}

/// A place for checkpoints.
pub(super) struct Objects {
    store: Arc<dyn ObjectStore>,
    /// Before each path in the store.
    prefix: Path,
    /// The same place as a folder, if it is one.
    folder: Option<PathBuf>,
    /// As people know it.
    address: String,
    runtime: Runtime,
    lock: Option<File>,
}

impl Objects {
    pub fn open(settings: &CheckpointSettings) -> Result<Self, CheckpointError> {
        settings.check()?;
        let url = settings.url.as_str();
        if let Some(place) = url.strip_prefix("s3://") {
            let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
            let store = s3(bucket, settings)?;
            return Self::over(store, Path::from(prefix), url);
        }
        let folder = match url.strip_prefix("file://") {
            Some(path) if path.starts_with('/') => path,
            None if !url.contains("://") => url,
            _ => {
                return Err(CheckpointError::Settings {
                    key: "url",
                    detail: format!("{url}: give a folder, file:///folder or s3://bucket/prefix"),
                });
            }
        };
        let unavailable = |cause| unavailable("open", folder, cause);
        std::fs::create_dir_all(folder).map_err(|error| unavailable(error.into()))?;
        let store = LocalFileSystem::new_with_prefix(folder)
            .map_err(|error| unavailable(error.into()))?
            .with_fsync(true);
        Ok(Self {
            folder: Some(folder.into()),
            ..Self::over(Arc::new(store), Path::default(), folder)?
        })
    }

    pub fn over(
        store: Arc<dyn ObjectStore>,
        prefix: Path,
        address: &str,
    ) -> Result<Self, CheckpointError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| CheckpointError::Internal {
                detail: format!("no runtime for {address}: {error}"),
            })?;
        Ok(Self {
            store,
            prefix,
            folder: None,
            address: address.trim_end_matches('/').to_owned(),
            runtime,
            lock: None,
        })
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// As people are told of an object.
    pub fn name_of(&self, number: u64, name: &str) -> String {
        format!("{}/{FOLDER}{number:010}/{name}", self.address)
    }

    fn path_of(&self, number: u64, name: &str) -> Path {
        self.prefix
            .clone()
            .join(format!("{FOLDER}{number:010}"))
            .join(name)
    }

    /// Keeps other writers on this machine away for as long as this lives. Elsewhere a second writer
    /// is found where the two create the same object.
    pub fn claim(&mut self) -> Result<(), CheckpointError> {
        let (None, Some(folder)) = (&self.lock, &self.folder) else {
            return Ok(());
        };
        let path = folder.join("writer.lock");
        let name = path.display().to_string();
        let file = File::create(&path).map_err(|error| unavailable("lock", &name, error.into()))?;
        match file.try_lock() {
            Ok(()) => self.lock = Some(file),
            Err(TryLockError::WouldBlock) => return Err(CheckpointError::Taken { path: name }),
            Err(TryLockError::Error(error)) => {
                return Err(unavailable("lock", &name, error.into()));
            }
        }
        Ok(())
    }

    /// All checkpoints, sealed or not, by number.
    pub fn list(&self) -> Result<BTreeMap<u64, Found>, CheckpointError> {
        let mut found: BTreeMap<u64, Found> = BTreeMap::new();
        let failed = |error| refusal("list", self.address.clone(), error);
        // A file that is still being written has no name yet in a listing; its folder has.
        for entry in self.folder.iter().filter_map(|path| path.read_dir().ok()) {
            for entry in entry.flatten() {
                let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if let (true, Some(number)) = (is_folder, numbered(&entry.file_name())) {
                    found.entry(number).or_default();
                }
            }
        }
        self.runtime.block_on(async {
            let mut objects = self.store.list(Some(&self.prefix));
            while let Some(object) = objects.try_next().await.map_err(failed)? {
                let mut names = object
                    .location
                    .prefix_match(&self.prefix)
                    .into_iter()
                    .flatten();
                let (folder, name) = (names.next(), names.next());
                let number = folder.and_then(|folder| numbered(folder.as_ref().as_ref()));
                let (Some(number), Some(name), None) = (number, name, names.next()) else {
                    continue;
                };
                let found = found.entry(number).or_default();
                if name.as_ref() == FILE {
                    found.manifest = true;
                } else {
                    found.parts.insert(name.as_ref().to_owned(), object.size);
                }
            }
            Ok(found)
        })
    }

    /// Creates an object, whole and durable, or says why not. On failure it may be there or not.
    pub fn create(&self, number: u64, name: &str, bytes: Vec<u8>) -> Result<(), CheckpointError> {
        self.runtime.block_on(self.put(number, name, bytes))?;
        Ok(())
    }

    /// Creates several, a few at a time: each waits for the disk or the store by itself. Returns their memory,
    /// in order.
    ///
    /// # Errors
    /// The first failure. Any of them may be there or not.
    pub fn create_all(
        &self,
        number: u64,
        objects: Vec<(&str, Vec<u8>)>,
    ) -> Result<Vec<Vec<u8>>, CheckpointError> {
        let put = |(name, bytes)| self.put(number, name, bytes);
        let all = stream::iter(objects.into_iter().map(put)).buffered(CREATED_AT_ONCE);
        self.runtime.block_on(all.try_collect())
    }

    /// Returns the memory of the bytes.
    async fn put(
        &self,
        number: u64,
        name: &str,
        bytes: Vec<u8>,
    ) -> Result<Vec<u8>, CheckpointError> {
        let path = self.path_of(number, name);
        let bytes = Bytes::from(bytes);
        let failed = |error| refusal("write", self.name_of(number, name), error);
        if bytes.len() > LARGE {
            let up = self.upload(&path, bytes.clone()).await;
            return up.map(|()| memory_of(bytes)).map_err(failed);
        }
        let put = self
            .store
            .put_opts(&path, bytes.clone().into(), PutMode::Create.into())
            .await;
        match put {
            Ok(_) => Ok(memory_of(bytes)),
            Err(error @ Error::AlreadyExists { .. }) => {
                // The answer to a first attempt may have been lost.
                let there = self.store.get(&path).await.map_err(failed)?;
                if there.bytes().await.map_err(failed)? == bytes {
                    return Ok(memory_of(bytes));
                }
                Err(failed(error))
            }
            Err(error) => Err(failed(error)),
        }
    }

    async fn upload(&self, path: &Path, bytes: Bytes) -> Result<(), Error> {
        let upload = self.store.put_multipart(path).await?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, CHUNK);
        for from in (0..bytes.len()).step_by(CHUNK) {
            if let Err(error) = upload.wait_for_capacity(CHUNKS_IN_FLIGHT).await {
                // What is up already would be paid for, and seen by nobody.
                upload.abort().await.ok();
                return Err(error);
            }
            upload.put(bytes.slice(from..bytes.len().min(from + CHUNK)));
        }
        upload.finish().await.map(|_| ())
    }

    /// The bytes of a manifest.
    pub fn read_manifest(&self, number: u64) -> Result<Bytes, CheckpointError> {
        let failed = |error| self.unread(number, FILE, "a manifest", error);
        self.runtime.block_on(async {
            let object = self.store.get(&self.path_of(number, FILE)).await;
            object.map_err(failed)?.bytes().await.map_err(failed)
        })
    }

    /// Reads a part, block by block, to its end; fails if it is not what was written.
    pub fn read(
        &self,
        number: u64,
        part: &PartEntry,
        mut visit: impl FnMut(&[u8]),
    ) -> Result<(), CheckpointError> {
        let length = format!("{} bytes", part.bytes);
        let failed = |error| self.unread(number, &part.name, &length, error);
        let damaged = |expected, found| CheckpointError::Damaged {
            path: self.name_of(number, &part.name),
            expected,
            found,
        };
        self.runtime.block_on(async {
            let path = self.path_of(number, &part.name);
            let object = self.store.get(&path).await.map_err(failed)?;
            let there = object.meta.size;
            if there != part.bytes {
                return Err(damaged(length.clone(), format!("{there} bytes")));
            }
            let mut sum = Xxh3::new();
            let mut see = |block: &[u8]| {
                sum.update(block);
                visit(block);
            };
            match object.payload {
                // The stream would give it to another thread and back, 8 KiB at a time.
                GetResultPayload::File(file, path) => {
                    let name = path.display().to_string();
                    blocks_of(file, &mut see)
                        .map_err(|error| unavailable("read", &name, error.into()))?;
                }
                GetResultPayload::Stream(mut blocks) => {
                    while let Some(block) = blocks.try_next().await.map_err(failed)? {
                        see(&block);
                    }
                }
            }
            let sum = hex(sum.digest128());
            if sum != part.xxh3 {
                return Err(damaged(
                    format!("checksum {}", part.xxh3),
                    format!("checksum {sum}"),
                ));
            }
            Ok(())
        })
    }

    /// Removes a checkpoint: first what makes it one, so that half of it is never taken for whole.
    pub fn remove(&self, number: u64, found: &Found) -> Result<(), CheckpointError> {
        let names = found.parts.keys().map(String::as_str);
        let names = found.manifest.then_some(FILE).into_iter().chain(names);
        let paths: Vec<Path> = names.map(|name| self.path_of(number, name)).collect();
        let failed = |error| refusal("remove", self.name_of(number, ""), error);
        self.runtime.block_on(async {
            let (first, rest) = paths.split_at(usize::from(found.manifest));
            for paths in [first, rest] {
                let paths = stream::iter(paths.to_vec()).map(Ok).boxed();
                let mut removed = self.store.delete_stream(paths);
                while let Some(path) = removed.next().await {
                    match path {
                        Ok(_) | Err(Error::NotFound { .. }) => {}
                        Err(error) => return Err(failed(error)),
                    }
                }
            }
            Ok(())
        })?;
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        match std::fs::remove_dir_all(folder.join(format!("{FOLDER}{number:010}"))) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(unavailable(
                "remove",
                &self.name_of(number, ""),
                error.into(),
            )),
            _ => Ok(()),
        }
    }

    fn unread(&self, number: u64, name: &str, expected: &str, error: Error) -> CheckpointError {
        match error {
            Error::NotFound { .. } => CheckpointError::Damaged {
                path: self.name_of(number, name),
                expected: expected.to_owned(),
                found: "nothing".to_owned(),
            },
            error => refusal("read", self.name_of(number, name), error),
        }
    }
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Objects").field(&self.address).finish()
    }
}

/// Shows a file block by block.
fn blocks_of(mut file: File, see: &mut dyn FnMut(&[u8])) -> std::io::Result<()> {
    let mut block = vec![0; BLOCK];
    loop {
        match file.read(&mut block) {
            Ok(0) => return Ok(()),
            Ok(read) => see(block.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn numbered(folder: &std::ffi::OsStr) -> Option<u64> {
    let digits = folder.to_str()?.strip_prefix(FOLDER)?;
    let all_digits = digits.len() >= 10 && digits.bytes().all(|c| c.is_ascii_digit());
    all_digits.then(|| digits.parse().ok()).flatten()
}

fn unavailable(
    doing: &'static str,
    path: &str,
    cause: Box<dyn std::error::Error + Send + Sync>,
) -> CheckpointError {
    CheckpointError::Unavailable {
        doing,
        path: path.to_owned(),
        cause,
    }
}

fn refusal(doing: &'static str, path: String, error: Error) -> CheckpointError {
    if let Error::AlreadyExists { .. } = error {
        return CheckpointError::Taken { path };
    }
    let refused = is_refusal(&error);
    let cause = error.into();
    if refused {
        CheckpointError::Refused { doing, path, cause }
    } else {
        CheckpointError::Unavailable { doing, path, cause }
    }
}

/// Whether asking again is of no use. Nothing but a bucket can be missing where something is listed
/// or written.
fn is_refusal(error: &Error) -> bool {
    match error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } | Error::NotFound { .. } => {
            true
        }
        // The client has kinds for what is said of one object, and only text for lists.
        Error::Generic { source, .. } => {
            let text = source.to_string();
            [401, 403, 404]
                .iter()
                .any(|status| text.contains(&format!("status code: {status} ")))
        }
        _ => false,
    }
}

#[cfg(feature = "s3")]
use super::s3::s3;

#[cfg(not(feature = "s3"))]
fn s3(_: &str, settings: &CheckpointSettings) -> Result<Arc<dyn ObjectStore>, CheckpointError> {
    Err(CheckpointError::Settings {
        key: "url",
        detail: format!("{}: this build is without S3", settings.url),
    })
}

/// The memory of what has been written; none where somebody else still has it.
fn memory_of(bytes: Bytes) -> Vec<u8> {
    match bytes.is_unique() {
        true => bytes.into(),
        false => Vec::new(),
    }
}
