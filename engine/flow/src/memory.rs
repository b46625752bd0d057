//! Sources and sinks in this process: the embedded default without a log, and a scripted source in
//! which a pause, a crash or the end is part of the data.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use segue_listen::EventTime;

use crate::epoch::{Epoch, Offset, OffsetRange};
use crate::partition::partition_of;
use crate::sink::{OutRecord, Sink, SinkError};
use crate::source::{ContentType, RUN, RawRecord, Readiness, Replay, Source, SourceError};

/// Records laid end to end, so that a batch of thousands is two allocations.
#[derive(Default, Debug)]
struct Arena {
    bytes: Vec<u8>,
    records: Vec<Span>,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    key: Option<(u32, u32)>,
    value: Option<(u32, u32)>,
    content_type: Option<(u32, u32)>,
    at: Option<EventTime>,
}

impl Arena {
    fn push(&mut self, record: &OutRecord<'_>) {
        let mut put = |bytes: Option<&[u8]>| {
            bytes.map(|bytes| {
                let from = self.bytes.len() as u32;
                self.bytes.extend_from_slice(bytes);
                (from, self.bytes.len() as u32)
            })
        };
        let content_type = record
            .headers
            .iter()
            .find(|(name, _)| *name == "content-type")
            .map(|(_, v)| *v);
        let span = Span {
            key: put(record.key),
            value: put(record.value),
            content_type: put(content_type),
            at: record.at,
        };
        self.records.push(span);
    }

    fn slice(&self, range: Option<(u32, u32)>) -> Option<&[u8]> {
        range.and_then(|(from, to)| self.bytes.get(from as usize..to as usize))
    }
}

/// An arena goes over when it holds so many bytes: some thousand listens.
const ARENA_BYTES: usize = 128 * 1024;

/// The largest record, as Kafka's default `max.message.bytes` has it.
pub const LARGEST_RECORD: usize = 1_048_588;

/// Arenas in flight per partition: bounds the memory between a writer and its lane to some MB.
const ARENAS_IN_FLIGHT: usize = 8;

/// The writing side: partitions by key, blocks while a lane is behind.
#[derive(Debug)]
pub struct MemorySink {
    topic: String,
    partitions: Vec<(Sender<Arena>, Arena)>,
}

/// The reading side of one partition.
#[derive(Debug)]
pub struct MemorySource {
    receiver: Receiver<Arena>,
    current: Arena,
    next_in_current: usize,
    next: Offset,
}

/// A topic of `partitions` partitions (at least 1) in this process.
pub fn memory_topic(topic: &str, partitions: u32) -> (MemorySink, Vec<MemorySource>) {
    let (senders, sources) = (0..partitions.max(1))
        .map(|_| {
            let (sender, receiver) = crossbeam_channel::bounded(ARENAS_IN_FLIGHT);
            let source = MemorySource {
                receiver,
                current: Arena::default(),
                next_in_current: 0,
                next: Offset(0),
            };
            ((sender, Arena::default()), source)
        })
        .unzip();
    (
        MemorySink {
            topic: topic.to_owned(),
            partitions: senders,
        },
        sources,
    )
}

impl MemorySink {
    fn hand_over(&mut self) -> Result<(), SinkError> {
        for (sender, arena) in &mut self.partitions {
            if !arena.records.is_empty() {
                sender
                    .send(std::mem::take(arena))
                    .map_err(|_| SinkError::Refused {
                        what: format!("topic {}", self.topic),
                        detail: "its reader has stopped".to_owned(),
                    })?;
            }
        }
        Ok(())
    }
}

impl Sink for MemorySink {
    fn begin(&mut self, _: Epoch) -> Result<(), SinkError> {
        Ok(())
    }

    fn write(&mut self, record: OutRecord<'_>) -> Result<(), SinkError> {
        let size = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        if size > LARGEST_RECORD {
            return Err(SinkError::TooLarge {
                topic: record.topic.to_owned(),
                size,
                limit: LARGEST_RECORD,
            });
        }
        let count = self.partitions.len() as u32;
        let partition = record
            .partition
            .unwrap_or_else(|| partition_of(record.key.unwrap_or(&[]), count));
        let Some((_, arena)) = self.partitions.get_mut(partition as usize) else {
            return Err(SinkError::Refused {
                what: format!("topic {} partition {partition}", self.topic),
                detail: format!("it has {count} partitions"),
            });
        };
        arena.push(&record);
        if arena.bytes.len() >= ARENA_BYTES {
            self.hand_over()?;
        }
        Ok(())
    }

    fn commit(&mut self, _: Epoch, _: &[OffsetRange]) -> Result<(), SinkError> {
        self.hand_over()
    }

    fn abort(&mut self, _: Epoch) -> Result<(), SinkError> {
        for (_, arena) in &mut self.partitions {
            *arena = Arena::default();
        }
        Ok(())
    }
}

impl Source for MemorySource {
    fn replay(&self) -> Replay {
        Replay::Never
    }

    fn position(&self) -> Offset {
        self.next
    }

    fn seek(&mut self, to: Offset) -> Result<(), SourceError> {
        if to == self.next {
            return Ok(());
        }
        Err(SourceError::OutOfRange {
            offset: to.0,
            place: "the in-process queue".to_owned(),
            held: format!("only what comes next, {}", self.next.0),
        })
    }

    fn read_runs(
        &mut self,
        patience: Duration,
        visit: &mut dyn FnMut(&[RawRecord<'_>]),
    ) -> Result<Readiness, SourceError> {
        if self.next_in_current >= self.current.records.len() {
            match self.receiver.recv_timeout(patience) {
                Ok(arena) => {
                    self.current = arena;
                    self.next_in_current = 0;
                }
                Err(RecvTimeoutError::Timeout) => return Ok(Readiness::Idle),
                Err(RecvTimeoutError::Disconnected) => return Ok(Readiness::Ended),
            }
        }
        let arena = &self.current;
        let spans = arena.records.get(self.next_in_current..);
        for spans in spans.unwrap_or_default().chunks(RUN) {
            let mut run = [RawRecord::NONE; RUN];
            for (place, span) in run.iter_mut().zip(spans) {
                *place = RawRecord {
                    offset: self.next,
                    key: arena.slice(span.key),
                    value: arena.slice(span.value),
                    content_type: ContentType::Known(arena.slice(span.content_type)),
                    logged_at: span.at,
                };
                self.next = self.next.next();
            }
            visit(run.get(..spans.len()).unwrap_or_default());
        }
        self.next_in_current = self.current.records.len();
        Ok(Readiness::More)
    }
}

/// One line of a [`ScriptedSource`].
#[derive(Clone, Debug)]
pub enum Line {
    /// A record with this key and value.
    Record(Vec<u8>, Vec<u8>),
    /// The call to `read` returns here.
    Pause,
    /// The source fails here, once.
    Crash,
}

/// A source for tests: a list in which a pause or a crash is part of the data. After a crash a new
/// one over the same script can seek anywhere.
#[derive(Clone, Debug)]
pub struct ScriptedSource {
    script: Vec<Line>,
    at: usize,
    next: Offset,
}

impl ScriptedSource {
    /// Plays `script` from its start, then says `Ended`.
    pub fn new(script: Vec<Line>) -> Self {
        Self {
            script,
            at: 0,
            next: Offset(0),
        }
    }
}

impl Source for ScriptedSource {
    fn replay(&self) -> Replay {
        Replay::Exact
    }

    fn position(&self) -> Offset {
        self.next
    }

    fn seek(&mut self, to: Offset) -> Result<(), SourceError> {
        let is_record = |line: &&Line| matches!(line, Line::Record(..));
        let held = self.script.iter().filter(is_record).count() as u64;
        if to.0 > held {
            return Err(SourceError::OutOfRange {
                offset: to.0,
                place: "the script".to_owned(),
                held: format!("0..{held}"),
            });
        }
        let mut passed = 0;
        self.at = self
            .script
            .iter()
            .position(|line| {
                if passed == to.0 {
                    return true;
                }
                passed += u64::from(matches!(line, Line::Record(..)));
                false
            })
            .unwrap_or(self.script.len());
        self.next = to;
        Ok(())
    }

    fn read_runs(
        &mut self,
        _: Duration,
        visit: &mut dyn FnMut(&[RawRecord<'_>]),
    ) -> Result<Readiness, SourceError> {
        while let Some(line) = self.script.get(self.at) {
            self.at += 1;
            match line {
                Line::Record(key, value) => {
                    visit(&[RawRecord {
                        offset: self.next,
                        key: Some(key),
                        value: Some(value),
                        content_type: ContentType::Known(None),
                        logged_at: None,
                    }]);
                    self.next = self.next.next();
                }
                Line::Pause => return Ok(Readiness::More),
                Line::Crash => {
                    return Err(SourceError::Unreachable {
                        address: "the script".to_owned(),
                        detail: format!("crash before offset {}", self.next.0),
                    });
                }
            }
        }
        Ok(Readiness::Ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record<'a>(key: &'a [u8], value: Option<&'a [u8]>) -> OutRecord<'a> {
        OutRecord {
            topic: "t",
            partition: None,
            key: Some(key),
            value,
            headers: &[("content-type", b"application/json")],
            at: None,
        }
    }

    #[test]
    fn what_is_written_is_read_in_order_by_the_keys_partition() {
        let (mut sink, mut sources) = memory_topic("t", 3);
        sink.begin(Epoch(0)).unwrap();
        for n in 0..30u8 {
            sink.write(record(&[n % 5], Some(&[n]))).unwrap();
        }
        sink.write(record(b"tomb", None)).unwrap();
        sink.commit(Epoch(0), &[]).unwrap();
        drop(sink);
        let mut seen = 0;
        for (index, source) in sources.iter_mut().enumerate() {
            let mut expected = Offset(0);
            loop {
                let readiness = source
                    .read(Duration::from_secs(5), &mut |record| {
                        assert_eq!(record.offset, expected);
                        expected = expected.next();
                        let key = record.key.unwrap();
                        assert_eq!(partition_of(key, 3) as usize, index);
                        assert_eq!(record.content_type.get(), Some(&b"application/json"[..]));
                        assert_eq!(record.value.is_none(), key == b"tomb");
                        seen += 1;
                    })
                    .unwrap();
                if readiness == Readiness::Ended {
                    break;
                }
            }
        }
        assert_eq!(seen, 31);
    }

    #[test]
    fn too_large_a_record_and_a_stopped_reader_are_named() {
        let (mut sink, sources) = memory_topic("plays", 1);
        let large = vec![0; LARGEST_RECORD + 1];
        let error = sink.write(record(b"k", Some(&large))).unwrap_err();
        assert!(matches!(error, SinkError::TooLarge { .. }), "{error}");
        drop(sources);
        sink.write(record(b"k", Some(b"v"))).unwrap();
        let error = sink.commit(Epoch(0), &[]).unwrap_err().to_string();
        assert!(
            error.contains("topic plays: its reader has stopped"),
            "{error}"
        );
    }
}
