//! Writes epochs: all records of an epoch become visible at its commit, or none.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

use segue_flow::partition::partition_of;
use segue_flow::{Epoch, OffsetRange, OutRecord, Sink, SinkError};

use crate::commits::{self, Commit, TopicEnd};
use crate::error::LogError;
use crate::frame;
use crate::log::{Log, check_name};
use crate::segment::SegmentWriter;

/// The one writer of each topic it writes to; takes a topic over at the first record for it.
pub struct LogSink {
    log: Log,
    /// Held as long as the sink lives, so that no other takes its name.
    _name: File,
    path: PathBuf,
    commit: Commit,
    open: Option<Epoch>,
    topics: BTreeMap<String, TopicWriter>,
}

struct TopicWriter {
    _lock: File,
    partitions: Vec<SegmentWriter>,
    end: TopicEnd,
    /// Where the next record without a key goes.
    turn: u32,
}

impl LogSink {
    pub(crate) fn new(log: Log, writer: &str) -> Result<Self, LogError> {
        check_name(writer)?;
        let path = commits::path_of(&log.settings().dir, writer);
        let lock = path.with_extension("lock");
        let name = File::create(&lock).map_err(LogError::io("create", &lock))?;
        match name.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(LogError::Busy {
                    topic: format!("(all of writer {writer:?})"),
                    lock,
                });
            }
            Err(std::fs::TryLockError::Error(cause)) => {
                return Err(LogError::io("lock", &lock)(cause));
            }
        }
        let commit = Commit::load(&path)?.unwrap_or_default();
        Ok(Self {
            log,
            _name: name,
            path,
            commit,
            open: None,
            topics: BTreeMap::new(),
        })
    }

    /// What it committed last, in this run or an earlier one: where to go on.
    pub fn last_commit(&self) -> &Commit {
        &self.commit
    }

    /// Says that nothing will follow in `topic` until someone writes to it again; readers
    /// [`Until::Sealed`](crate::Until::Sealed) then end. Between epochs only.
    ///
    /// # Errors
    /// An epoch is open; the topic is not there or is written by another; or the disk's.
    pub fn seal(&mut self, topic: &str) -> Result<(), SinkError> {
        if let Some(Epoch(open)) = self.open {
            return Err(SinkError::Misuse(format!(
                "seal of {topic:?} inside epoch {open}"
            )));
        }
        let writer = self.take_over(topic)?;
        writer.end.sealed = true;
        let end = writer.end.clone();
        let mut commit = self.commit.clone();
        commit.topics.insert(topic.to_owned(), end);
        self.store(commit)?;
        Ok(())
    }

    fn take_over(&mut self, topic: &str) -> Result<&mut TopicWriter, LogError> {
        // Looked up twice for the borrow checker's sake, and without an allocation when known.
        if !self.topics.contains_key(topic) {
            let writer = TopicWriter::open(&self.log, topic)?;
            self.topics.insert(topic.to_owned(), writer);
        }
        let dir = &self.log.settings().dir;
        let unknown = || LogError::UnknownTopic {
            topic: topic.to_owned(),
            dir: dir.clone(),
        };
        self.topics.get_mut(topic).ok_or_else(unknown)
    }

    /// Replaces the commit file, then tells this process's readers.
    fn store(&mut self, commit: Commit) -> Result<(), LogError> {
        commit.store(&self.path, self.log.settings().sync)?;
        self.commit = commit;
        let written = |topic: &String| self.topics.contains_key(topic);
        let topics = self
            .commit
            .topics
            .iter()
            .filter(|(topic, _)| written(topic));
        self.log.publish(
            &topics
                .map(|(topic, end)| (topic.clone(), end.clone()))
                .collect(),
        );
        Ok(())
    }

    fn check_open(&self, epoch: Epoch, call: &str) -> Result<(), SinkError> {
        if self.open == Some(epoch) {
            return Ok(());
        }
        let open = self
            .open
            .map_or("none".to_owned(), |open| open.0.to_string());
        Err(SinkError::Misuse(format!(
            "{call} of epoch {}, and {open} is open",
            epoch.0
        )))
    }
}

impl Sink for LogSink {
    fn begin(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        if let Some(open) = self.open {
            let why = format!("begin of epoch {} while epoch {} is open", epoch.0, open.0);
            return Err(SinkError::Misuse(why));
        }
        self.open = Some(epoch);
        Ok(())
    }

    fn write(&mut self, record: OutRecord<'_>) -> Result<(), SinkError> {
        if self.open.is_none() {
            return Err(SinkError::Misuse(format!(
                "write to {:?} outside epochs",
                record.topic
            )));
        }
        let limit = self.log.settings().max_record_bytes;
        self.take_over(record.topic)?.append(record, limit)?;
        Ok(())
    }

    fn commit(&mut self, epoch: Epoch, inputs: &[OffsetRange]) -> Result<(), SinkError> {
        self.check_open(epoch, "commit")?;
        let mut commit = self.commit.clone();
        commit.epoch = Some(epoch);
        commit.inputs = inputs.to_vec();
        for (topic, writer) in &mut self.topics {
            commit.topics.insert(topic.clone(), writer.flush()?);
        }
        self.store(commit)?;
        self.topics.values_mut().for_each(TopicWriter::committed);
        self.open = None;
        Ok(())
    }

    fn abort(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        self.check_open(epoch, "abort")?;
        // A commit can fail after its file was replaced: then it cannot be taken back.
        let stored = Commit::load(&self.path)?.unwrap_or_default();
        if stored != self.commit {
            return Err(SinkError::Refused {
                what: self.path.display().to_string(),
                detail: format!(
                    "epoch {} was committed after all; start again from it",
                    epoch.0
                ),
            });
        }
        for writer in self.topics.values_mut() {
            writer.roll_back()?;
        }
        self.open = None;
        Ok(())
    }
}

impl TopicWriter {
    /// Locks the topic and opens each partition at its committed end.
    fn open(log: &Log, topic: &str) -> Result<Self, LogError> {
        let count = log.partitions(topic)?;
        let folder = log.folder(topic)?;
        let lock = Log::lock(&folder, topic)?;
        log.look()?;
        let mut end = log.known(topic);
        if end.generation == 0 {
            end.partitions
                .resize(count as usize, commits::End::default());
        }
        if end.partitions.len() != count as usize {
            let why = format!("{count} partitions, and {} committed", end.partitions.len());
            return Err(LogError::Description {
                path: folder.join("topic.json"),
                why,
            });
        }
        end.generation += 1;
        end.sealed = false;
        let mut partitions = Vec::with_capacity(count as usize);
        for (partition, end) in end.partitions.iter().enumerate() {
            let folder = folder.join(partition.to_string());
            let (writer, cut) = SegmentWriter::open(folder.clone(), *end, log.settings())?;
            if cut > 0 {
                log.count_cut(cut);
                tracing::warn!(
                    bytes = cut, offset = end.offset, folder = %folder.display(),
                    "cut off what was written after the last commit"
                );
            }
            partitions.push(writer);
        }
        Ok(Self {
            _lock: lock,
            partitions,
            end,
            turn: 0,
        })
    }

    fn append(&mut self, record: OutRecord<'_>, limit: usize) -> Result<(), LogError> {
        let count = self.end.partitions.len() as u32;
        let partition = match (record.partition, record.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_of(key, count),
            (None, None) => {
                self.turn = (self.turn + 1) % count.max(1);
                self.turn
            }
        };
        let topic = || record.topic.to_owned();
        let Some(writer) = self.partitions.get_mut(partition as usize) else {
            return Err(LogError::UnknownPartition {
                topic: topic(),
                partition,
                has: count,
            });
        };
        let OutRecord {
            key,
            value,
            headers,
            at,
            ..
        } = record;
        // Checked before it is copied.
        let payload = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let bytes = frame::size(payload(key), payload(value), headers);
        if bytes > limit {
            return Err(LogError::TooLarge {
                topic: topic(),
                bytes,
                limit,
            });
        }
        if self.end.sealed {
            // A seal is broken in the open: readers of a later generation do not see it.
            self.end.sealed = false;
            self.end.generation += 1;
        }
        writer.append(|out, offset| {
            let at = at.map_or(frame::NO_TIMESTAMP, |at| at.millis());
            frame::encode(out, offset, at, key, value, headers.iter().copied()).map_err(
                |frame::TooLarge| LogError::TooLarge {
                    topic: topic(),
                    bytes,
                    limit,
                },
            )
        })
    }

    fn flush(&mut self) -> Result<TopicEnd, LogError> {
        let mut end = self.end.clone();
        for (writer, end) in self.partitions.iter_mut().zip(&mut end.partitions) {
            if writer.is_dirty() {
                *end = writer.flush()?;
            }
        }
        self.end = end;
        Ok(self.end.clone())
    }

    fn committed(&mut self) {
        for (writer, end) in self.partitions.iter_mut().zip(&self.end.partitions) {
            writer.committed(*end);
        }
    }

    fn roll_back(&mut self) -> Result<(), LogError> {
        for (writer, end) in self.partitions.iter_mut().zip(&mut self.end.partitions) {
            if writer.is_dirty() {
                writer.roll_back()?;
            }
            *end = writer.end();
        }
        Ok(())
    }
}
