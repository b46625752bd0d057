//! Reads one partition: records are visited in the buffer their bytes were read into.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use segue_flow::{ContentType, Offset, RawRecord, Readiness, Replay, Source, SourceError};
use segue_listen::EventTime;

use crate::commits::End;
use crate::error::LogError;
use crate::frame::{self, Parsed};
use crate::log::Log;
use crate::segment;

/// Bytes asked of the system at once; the buffer grows over it only for a larger record.
const READ_BYTES: usize = 256 << 10;
/// Records visited in one call at most, so that a lane comes to its barriers.
const VISIT_AT_MOST: usize = 4096;

/// Where a reader stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Never: it waits for what will be committed.
    Forever,
    /// At what was committed when the reader was made.
    Now,
    /// At what is committed once the writer has sealed the topic
    /// ([`LogSink::seal`](crate::LogSink::seal)).
    Sealed,
}

/// A reader of one partition's committed records, in order.
pub struct LogSource {
    log: Log,
    topic: String,
    partition: u32,
    until: Until,
    folder: PathBuf,
    /// For [`Until::Now`]: the first offset not to be read.
    stop: Option<u64>,
    ended: bool,
    /// Offset of the next record.
    position: u64,
    /// Committed end as last heard of.
    end: End,
    open: Option<OpenSegment>,
}

impl LogSource {
    pub(crate) fn new(
        log: Log,
        topic: &str,
        partition: u32,
        until: Until,
    ) -> Result<Self, LogError> {
        let folder = log.folder(topic)?.join(partition.to_string());
        log.look()?;
        let (end, _) = log.wait(topic, partition, 0, false, Duration::ZERO)?;
        let stop = (until == Until::Now).then_some(end.offset);
        let (topic, position) = (topic.to_owned(), 0);
        Ok(Self {
            log,
            topic,
            partition,
            until,
            folder,
            stop,
            ended: false,
            position,
            end,
            open: None,
        })
    }

    /// Waits for records after the position; `None` if there are some.
    fn wait(&mut self, patience: Duration) -> Result<Option<Readiness>, LogError> {
        if self.stop.is_some_and(|stop| self.position >= stop) {
            return Ok(Some(Readiness::Ended));
        }
        if self.position < self.end.offset {
            return Ok(None);
        }
        let (end, sealed) = self.log.wait(
            &self.topic,
            self.partition,
            self.position,
            self.until == Until::Sealed,
            patience,
        )?;
        self.end = end;
        Ok(if self.position < end.offset {
            None
        } else if sealed && self.until == Until::Sealed {
            Some(Readiness::Ended)
        } else {
            Some(Readiness::Idle)
        })
    }

    fn visit(&mut self, visit: &mut dyn FnMut(&[RawRecord<'_>])) -> Result<(), LogError> {
        let longest = self.log.settings().max_record_bytes;
        let stop = self.stop.unwrap_or(u64::MAX).min(self.end.offset);
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.locate(self.position)?,
        };
        let mut visited = 0;
        while visited < VISIT_AT_MOST && self.position < stop {
            match open.next(self.position, longest, self.end)? {
                Step::Record(frame) => {
                    visit(&[raw(&frame)]);
                    self.position += 1;
                    visited += 1;
                }
                Step::EndOfSegment => open = OpenSegment::open(&self.folder, self.position)?,
            }
        }
        // After an error nothing is kept: the next call finds its place anew.
        self.open = Some(open);
        Ok(())
    }

    /// Opens the segment that holds `offset` and passes over the records before it.
    fn locate(&self, offset: u64) -> Result<OpenSegment, LogError> {
        let bases = segment::list(&self.folder)?;
        let Some(&base) = bases.iter().rev().find(|base| **base <= offset) else {
            let why = "the segment that should hold it is missing".to_owned();
            let path = segment::path_of(&self.folder, offset);
            return Err(LogError::Damaged {
                path,
                offset,
                at: 0,
                why,
            });
        };
        let longest = self.log.settings().max_record_bytes;
        let mut open = OpenSegment::open(&self.folder, base)?;
        let mut at = base;
        while at < offset {
            match open.next(at, longest, self.end)? {
                Step::Record(_) => at += 1,
                Step::EndOfSegment => return Err(open.damaged(at, "the file ends before it")),
            }
        }
        Ok(open)
    }
}

impl Source for LogSource {
    fn replay(&self) -> Replay {
        Replay::Exact
    }

    fn position(&self) -> Offset {
        Offset(self.position)
    }

    fn end(&mut self) -> Option<Offset> {
        // A reader that is behind has no reason of its own to look at what others have committed.
        self.log.look().ok()?;
        let end = self
            .log
            .wait(&self.topic, self.partition, 0, false, Duration::ZERO);
        let known = end.ok()?.0.offset;
        Some(Offset(self.stop.map_or(known, |stop| stop.min(known))))
    }

    fn seek(&mut self, to: Offset) -> Result<(), SourceError> {
        let (end, _) = self.log.wait(
            &self.topic,
            self.partition,
            self.end.offset,
            false,
            Duration::ZERO,
        )?;
        self.end = end;
        if to.0 > end.offset {
            let (topic, partition, end) = (self.topic.clone(), self.partition, end.offset);
            return Err(LogError::PastEnd {
                topic,
                partition,
                to: to.0,
                end,
            }
            .into());
        }
        self.open = None;
        self.position = to.0;
        Ok(())
    }

    fn read_runs(
        &mut self,
        patience: Duration,
        visit: &mut dyn FnMut(&[RawRecord<'_>]),
    ) -> Result<Readiness, SourceError> {
        if self.ended {
            return Ok(Readiness::Ended);
        }
        if let Some(readiness) = self.wait(patience)? {
            self.ended = readiness == Readiness::Ended;
            return Ok(readiness);
        }
        self.visit(visit)?;
        Ok(Readiness::More)
    }
}

fn raw<'a>(frame: &frame::Frame<'a>) -> RawRecord<'a> {
    let mut headers = frame.headers;
    RawRecord {
        offset: Offset(frame.offset),
        key: frame.key,
        value: frame.value,
        content_type: ContentType::Known(
            headers
                .find(|(name, _)| *name == "content-type")
                .map(|(_, value)| value),
        ),
        logged_at: (frame.timestamp != frame::NO_TIMESTAMP)
            .then_some(EventTime::from_millis(frame.timestamp)),
    }
}

/// A segment being read from front to back.
struct OpenSegment {
    path: PathBuf,
    base: u64,
    file: File,
    buffer: Vec<u8>,
    /// The unread part of `buffer`, and where its first byte is in the file.
    start: usize,
    filled: usize,
    at: u64,
}

enum Step<'a> {
    Record(frame::Frame<'a>),
    EndOfSegment,
}

impl OpenSegment {
    fn open(folder: &std::path::Path, base: u64) -> Result<Self, LogError> {
        let path = segment::path_of(folder, base);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                let why = "the segment that should hold it is missing".to_owned();
                return Err(LogError::Damaged {
                    path,
                    offset: base,
                    at: 0,
                    why,
                });
            }
            Err(cause) => return Err(LogError::io("open", &path)(cause)),
        };
        let mut header = [0; segment::HEADER.len()];
        let read = file.read_exact(&mut header);
        if read.is_err() || header != segment::HEADER {
            let why = "the file does not begin as a segment of this version does".to_owned();
            return Err(LogError::Damaged {
                path,
                offset: base,
                at: 0,
                why,
            });
        }
        file.seek(SeekFrom::Start(header.len() as u64))
            .map_err(LogError::io("seek in", &path))?;
        let (start, filled, at) = (0, 0, header.len() as u64);
        Ok(Self {
            path,
            base,
            file,
            buffer: Vec::new(),
            start,
            filled,
            at,
        })
    }

    /// The record that should be `offset`. Nothing past the committed `end` is ever looked at: it
    /// may yet be taken back and replaced.
    fn next(&mut self, offset: u64, longest: usize, end: End) -> Result<Step<'_>, LogError> {
        let (size, bad) = loop {
            let unread = self.buffer.get(self.start..self.filled).unwrap_or_default();
            match frame::parse(unread, longest) {
                Parsed::Whole(found, size) if found.offset == offset => break (size, None),
                Parsed::Whole(..) => break (0, Some("another offset stands there")),
                Parsed::Damaged(why) => break (0, Some(why)),
                Parsed::Short(needed) => {
                    let was_empty = unread.is_empty();
                    if self.fill(needed, end)? {
                        continue;
                    }
                    if was_empty && self.base < end.segment {
                        return Ok(Step::EndOfSegment);
                    }
                    break (0, Some("the file ends before it does"));
                }
            }
        };
        if let Some(why) = bad {
            return Err(self.damaged(offset, why));
        }
        let place = self.start..self.start + size;
        self.start += size;
        self.at += size as u64;
        // Parsed a second time only as far as its fields: the borrow checker cannot see that the
        // record found above may leave the loop.
        match self.buffer.get(place).and_then(frame::parse_again) {
            Some(found) => Ok(Step::Record(found)),
            None => Err(self.damaged(offset, "its fields do not add up")),
        }
    }

    /// Reads on until `needed` bytes are unread; `false` if there are not so many.
    fn fill(&mut self, needed: usize, end: End) -> Result<bool, LogError> {
        self.buffer.copy_within(self.start..self.filled, 0);
        self.filled -= self.start;
        self.start = 0;
        let read_to = self.at + self.filled as u64;
        let room = needed.max(READ_BYTES);
        if self.buffer.len() < room {
            self.buffer.resize(room, 0);
        }
        let mut allowed = usize::MAX;
        if self.base >= end.segment {
            allowed = usize::try_from(end.bytes.saturating_sub(read_to)).unwrap_or(usize::MAX);
        }
        while self.filled < needed && allowed > 0 {
            let limit = self.buffer.len().min(self.filled.saturating_add(allowed));
            let Some(free) = self.buffer.get_mut(self.filled..limit) else {
                break;
            };
            match self.file.read(free) {
                Ok(0) => break,
                Ok(count) => {
                    self.filled += count;
                    allowed = allowed.saturating_sub(count);
                }
                Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(LogError::io("read", &self.path)(cause)),
            }
        }
        Ok(self.filled >= needed)
    }

    fn damaged(&self, offset: u64, why: &str) -> LogError {
        LogError::Damaged {
            path: self.path.clone(),
            offset,
            at: self.at,
            why: why.to_owned(),
        }
    }
}
