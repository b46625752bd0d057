//! The log as a whole: its directory, its topics, and what is committed at the moment.
//!
//! ```text
//! <dir>/<topic>/topic.json                     number of partitions; never changes
//! <dir>/<topic>/writer.lock                    held by the topic's one writer
//! <dir>/<topic>/<partition>/<offset>.segment   records, see `frame`
//! <dir>/commits/<writer>.json                  what is committed, see `commits`
//! ```

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::commits::{self, Commit, End, TopicEnd};
use crate::error::LogError;
use crate::settings::Settings;
use crate::sink::LogSink;
use crate::source::{LogSource, Until};

/// How long a reader waits before it looks for commits of other processes. Commits of this one
/// wake it at once.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The folder that holds commit files, and so cannot be a topic.
const RESERVED: &str = "commits";

/// A log in one directory. Clones share what they know of its state.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    committed: Mutex<Committed>,
    changed: Condvar,
    cut: AtomicU64,
}

#[derive(Default)]
struct Committed {
    topics: BTreeMap<String, TopicEnd>,
    /// Counts looks at the commit files, so that of many waiting readers one looks.
    looks: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    version: u32,
    partitions: u32,
}

impl Log {
    /// Opens the log, making its directory if need be.
    ///
    /// # Errors
    /// The directory cannot be made or read, or a commit file is not one.
    pub fn open(settings: &Settings) -> Result<Self, LogError> {
        let folder = settings.dir.join(RESERVED);
        std::fs::create_dir_all(&folder).map_err(LogError::io("create", &folder))?;
        let log = Self {
            shared: Arc::new(Shared {
                settings: settings.clone(),
                committed: Mutex::default(),
                changed: Condvar::new(),
                cut: AtomicU64::new(0),
            }),
        };
        log.look()?;
        Ok(log)
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// Makes a topic of so many partitions, or checks that it has as many.
    ///
    /// # Errors
    /// [`LogError::Partitions`] if it has another number; [`LogError::BadName`]; or the disk's.
    pub fn ensure_topic(&self, topic: &str, partitions: u32) -> Result<(), LogError> {
        let folder = self.folder(topic)?;
        let path = folder.join("topic.json");
        if !path.try_exists().map_err(LogError::io("look for", &path))? {
            std::fs::create_dir_all(&folder).map_err(LogError::io("create", &folder))?;
            let lock = Self::lock(&folder, topic)?;
            if !path.try_exists().map_err(LogError::io("look for", &path))? {
                let description = Description {
                    version: 1,
                    partitions: partitions.max(1),
                };
                let bytes =
                    serde_json::to_vec(&description).map_err(|error| LogError::Description {
                        path: path.clone(),
                        why: error.to_string(),
                    })?;
                commits::replace(&path, &bytes, self.settings().sync)?;
            }
            drop(lock);
        }
        let has = self.partitions(topic)?;
        if has == partitions.max(1) {
            return Ok(());
        }
        Err(LogError::Partitions {
            topic: topic.to_owned(),
            has,
            wanted: partitions,
        })
    }

    /// How many partitions a topic has.
    ///
    /// # Errors
    /// [`LogError::UnknownTopic`], or its description cannot be read.
    pub fn partitions(&self, topic: &str) -> Result<u32, LogError> {
        let path = self.folder(topic)?.join("topic.json");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                let dir = self.settings().dir.clone();
                return Err(LogError::UnknownTopic {
                    topic: topic.to_owned(),
                    dir,
                });
            }
            Err(cause) => return Err(LogError::io("read", &path)(cause)),
        };
        match serde_json::from_slice::<Description>(&bytes) {
            Ok(Description {
                version: 1,
                partitions,
            }) if partitions > 0 => Ok(partitions),
            Ok(Description {
                version,
                partitions,
            }) => {
                let why = format!("version {version} with {partitions} partitions is not known");
                Err(LogError::Description { path, why })
            }
            Err(error) => Err(LogError::Description {
                path,
                why: error.to_string(),
            }),
        }
    }

    /// The offset after the last committed record, for each partition of a topic.
    ///
    /// # Errors
    /// As [`Log::partitions`]; or a commit file cannot be read.
    pub fn ends(&self, topic: &str) -> Result<Vec<u64>, LogError> {
        let partitions = self.partitions(topic)? as usize;
        self.look()?;
        let committed = self.committed();
        let known = committed
            .topics
            .get(topic)
            .map_or(&[][..], |end| &end.partitions);
        let end = |partition| known.get(partition).map_or(0, |end: &End| end.offset);
        Ok((0..partitions).map(end).collect())
    }

    /// A reader of one partition, at its beginning.
    ///
    /// # Errors
    /// The topic or partition is not there, or a commit file cannot be read.
    pub fn source(&self, topic: &str, partition: u32, until: Until) -> Result<LogSource, LogError> {
        let has = self.partitions(topic)?;
        if partition >= has {
            return Err(LogError::UnknownPartition {
                topic: topic.to_owned(),
                partition,
                has,
            });
        }
        LogSource::new(self.clone(), topic, partition, until)
    }

    /// A writer. Its name is that of its commits: the same name goes on where it stopped.
    ///
    /// # Errors
    /// Another writer of that name is open, or its commits cannot be read.
    pub fn sink(&self, writer: &str) -> Result<LogSink, LogError> {
        LogSink::new(self.clone(), writer)
    }

    /// What a writer committed last: where to go on after a restart.
    ///
    /// # Errors
    /// The commit file cannot be read.
    pub fn last_commit(&self, writer: &str) -> Result<Option<Commit>, LogError> {
        check_name(writer)?;
        Commit::load(&commits::path_of(&self.settings().dir, writer))
    }

    /// Bytes that writers opened through this value found after the last commit and cut off: what
    /// a crash left behind.
    pub fn cut_bytes(&self) -> u64 {
        self.shared.cut.load(Ordering::Relaxed)
    }

    pub(crate) fn count_cut(&self, bytes: u64) {
        self.shared.cut.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Folder of a topic, its name checked first: a name must not lead out of the directory.
    pub(crate) fn folder(&self, topic: &str) -> Result<PathBuf, LogError> {
        check_name(topic)?;
        Ok(self.settings().dir.join(topic))
    }

    /// Takes the right to write a topic.
    pub(crate) fn lock(folder: &Path, topic: &str) -> Result<File, LogError> {
        let path = folder.join("writer.lock");
        let file = File::create(&path).map_err(LogError::io("create", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(LogError::Busy {
                topic: topic.to_owned(),
                lock: path,
            }),
            Err(TryLockError::Error(cause)) => Err(LogError::io("lock", &path)(cause)),
        }
    }

    /// The state of a topic as far as this process knows.
    pub(crate) fn known(&self, topic: &str) -> TopicEnd {
        self.committed()
            .topics
            .get(topic)
            .cloned()
            .unwrap_or_default()
    }

    /// Tells readers of this process what was just committed.
    pub(crate) fn publish(&self, topics: &BTreeMap<String, TopicEnd>) {
        self.committed().merge(topics);
        self.shared.changed.notify_all();
    }

    /// Reads what other processes have committed.
    pub(crate) fn look(&self) -> Result<(), LogError> {
        let topics = commits::load_all(&self.settings().dir)?;
        let mut committed = self.committed();
        committed.merge(&topics);
        committed.looks += 1;
        Ok(())
    }

    /// The committed end of a partition and whether the topic is sealed: as soon as the end is past
    /// `beyond`, or the topic is sealed and that is what is waited for, else after `patience`.
    pub(crate) fn wait(
        &self,
        topic: &str,
        partition: u32,
        beyond: u64,
        until_sealed: bool,
        mut patience: Duration,
    ) -> Result<(End, bool), LogError> {
        loop {
            let mut committed = self.committed();
            let (end, sealed) = committed.end(topic, partition);
            if end.offset > beyond {
                return Ok((end, sealed));
            }
            let slice = patience.min(LOOK_EVERY);
            let looks = committed.looks;
            let final_already = until_sealed && sealed;
            if !(slice.is_zero() || final_already) {
                let waited = self.shared.changed.wait_timeout(committed, slice);
                committed = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            let nobody_looked = committed.looks == looks;
            drop(committed);
            if nobody_looked {
                self.look()?;
            }
            patience -= slice;
            let (end, sealed) = self.committed().end(topic, partition);
            if end.offset > beyond || (until_sealed && sealed) || patience.is_zero() {
                return Ok((end, sealed));
            }
        }
    }

    fn committed(&self) -> MutexGuard<'_, Committed> {
        // Merging cannot stop half-way, so what a panicking thread leaves is whole.
        self.shared
            .committed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Committed {
    fn end(&self, topic: &str, partition: u32) -> (End, bool) {
        let Some(end) = self.topics.get(topic) else {
            return (End::default(), false);
        };
        let offset = end
            .partitions
            .get(partition as usize)
            .copied()
            .unwrap_or_default();
        (offset, end.sealed)
    }

    /// Takes in what is newer. A look may be older than a commit of our own: ends only grow.
    fn merge(&mut self, topics: &BTreeMap<String, TopicEnd>) {
        for (topic, new) in topics {
            let Some(known) = self.topics.get_mut(topic) else {
                self.topics.insert(topic.clone(), new.clone());
                continue;
            };
            if new.generation > known.generation {
                known.clone_from(new);
            } else if new.generation == known.generation {
                known.sealed |= new.sealed;
                for (known, new) in known.partitions.iter_mut().zip(&new.partitions) {
                    if new.offset > known.offset {
                        *known = *new;
                    }
                }
            }
        }
    }
}

/// Kafka's rule for topic names; also for writers, whose names are file names.
pub(crate) fn check_name(name: &str) -> Result<(), LogError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let good = (1..=249).contains(&name.len())
        && name.bytes().all(allowed)
        && !name.bytes().all(|byte| byte == b'.')
        && name != RESERVED;
    if good {
        Ok(())
    } else {
        Err(LogError::BadName(name.to_owned()))
    }
}
