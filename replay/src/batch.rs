//! One epoch's records, encoded and laid end to end, so that they can be written again if the sink
//! fails.

use std::ops::Range;

use segue_flow::partition::partition_of;
use segue_flow::{OutRecord, Sink, SinkError};
use segue_listen::wire::{self, Decoded, Format, WireError};
use segue_listen::{EventTime, ListenRef};

/// Records to be written as one epoch.
#[derive(Debug)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    records: Vec<Record>,
    format: Format,
    listens: u32,
}

#[derive(Debug)]
struct Record {
    partition: u32,
    key: Option<Range<u32>>,
    value: Range<u32>,
    at: EventTime,
    /// The sink takes no record so large.
    refused: bool,
}

impl Batch {
    pub(crate) fn new(format: Format) -> Self {
        Self {
            bytes: Vec::new(),
            records: Vec::new(),
            format,
            listens: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// How many listens it holds.
    pub(crate) const fn listens(&self) -> u32 {
        self.listens
    }

    /// How many heartbeats it holds.
    pub(crate) fn heartbeats(&self) -> u64 {
        (self.records.len() - self.listens as usize) as u64
    }

    /// How many bytes its records have.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
        self.listens = 0;
    }

    pub(crate) fn push(&mut self, listen: ListenRef<'_>, partitions: u32) -> Result<(), WireError> {
        let begin = self.bytes.len() as u32;
        self.bytes.extend_from_slice(listen.user.as_bytes());
        let middle = self.bytes.len() as u32;
        wire::encode(listen, self.format, &mut self.bytes)?;
        self.records.push(Record {
            partition: partition_of(listen.user.as_bytes(), partitions),
            key: Some(begin..middle),
            value: middle..self.bytes.len() as u32,
            at: listen.at,
            refused: false,
        });
        self.listens += 1;
        Ok(())
    }

    /// Tells every partition how far event time has come.
    pub(crate) fn push_heartbeat(
        &mut self,
        at: EventTime,
        partitions: u32,
    ) -> Result<(), WireError> {
        let begin = self.bytes.len() as u32;
        wire::encode_heartbeat(at, self.format, &mut self.bytes)?;
        let value = begin..self.bytes.len() as u32;
        self.records.extend((0..partitions).map(|partition| Record {
            partition,
            key: None,
            value: value.clone(),
            at,
            refused: false,
        }));
        Ok(())
    }

    /// The listens that the sink did not take because of their size: which of the batch's listens,
    /// from 0, and what it was, as JSON.
    pub(crate) fn refused(&self) -> impl Iterator<Item = (u64, Vec<u8>)> + '_ {
        let listens = self.records.iter().filter(|record| record.key.is_some());
        let refused = (0..).zip(listens).filter(|(_, record)| record.refused);
        refused.map(|(number, record)| {
            let range = record.value.start as usize..record.value.end as usize;
            let value = self.bytes.get(range).unwrap_or_default();
            let mut row = Vec::new();
            match wire::decode(value, self.format) {
                Ok(Decoded::Listen(listen))
                    if wire::encode(listen.listen(), Format::Json, &mut row).is_ok() => {}
                _ => row = value.to_vec(),
            }
            (number, row)
        })
    }

    /// Writes all records into the sink's open epoch. One that is too large is passed over, now and
    /// when the batch is written again.
    pub(crate) fn write(&mut self, topic: &str, sink: &mut dyn Sink) -> Result<(), SinkError> {
        let headers = [("content-type", self.format.content_type().as_bytes())];
        for record in &mut self.records {
            let slice =
                |range: &Range<u32>| self.bytes.get(range.start as usize..range.end as usize);
            let written = match record.refused {
                true => Ok(()),
                false => sink.write(OutRecord {
                    topic,
                    partition: Some(record.partition),
                    key: record.key.as_ref().and_then(slice),
                    value: slice(&record.value),
                    headers: &headers,
                    at: Some(record.at),
                }),
            };
            match written {
                Err(error @ SinkError::TooLarge { .. }) => {
                    record.refused = true;
                    tracing::warn!(%error, "a listen is left out");
                }
                other => other?,
            }
        }
        Ok(())
    }
}
