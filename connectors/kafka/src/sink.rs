//! Writes epochs through one idempotent producer, with or without transactions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{CommitMode, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, PurgeConfig};
use segue_flow::clock::{MachineClock, WallClock};
use segue_flow::names::{self, Name};
use segue_flow::{Epoch, OffsetRange, OutRecord, Sink, SinkError};

use crate::client::{self, Asker};
use crate::delivery::Deliveries;
use crate::error::KafkaError;
use crate::member::Fence;
use crate::settings::Settings;
use crate::topics;

/// How long to serve delivery reports between two looks at whether all have come.
const AGAIN: Duration = Duration::from_millis(1);

/// How long to serve delivery reports while the producer's queue is full, at a time.
const WHEN_FULL: Duration = Duration::from_millis(5);

/// How long the end of a transaction that was left open may take.
const AT_THE_END: Duration = Duration::from_secs(2);

/// The client's own queue of records to be sent, in the metrics.
const QUEUE: &str = "kafka-producer";

/// After so many records, what delivery reports there are get served.
const SERVE_EVERY: u32 = 256;

/// What makes writing quick; `kafka.client` may say otherwise.
const QUICK: [(&str, &str); 2] = [
    ("compression.type", "lz4"),
    ("queue.buffering.max.kbytes", "262144"),
];

/// What a sink promises of an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guarantee {
    /// Each record once and in order as long as the process lives; after a crash the records of
    /// the last epoch may be there without its input offsets, and so are written again.
    Idempotent,
    /// Records and input offsets become visible together, or neither.
    Transactional {
        /// The same for the same instance over restarts; a second holder fences the first off.
        id: String,
        /// How long an epoch may stay open before the broker gives it up.
        open_for: Duration,
    },
}

/// A writer of epochs.
pub struct KafkaSink {
    producer: BaseProducer<Deliveries>,
    deliveries: Deliveries,
    /// Asks for metadata, and commits input offsets for the group.
    asker: Asker,
    settings: Settings,
    /// The topic whose offsets the epochs' inputs are; lane *n* is its partition *n*.
    input: Option<String>,
    transactional: bool,
    /// The share of the input that the epochs are made from, where a group shares it.
    fence: Option<Fence>,
    /// Topics known to be there, with their numbers of partitions.
    topics: BTreeMap<String, u32>,
    open: Option<Epoch>,
    /// Records written since reports were served.
    unserved: u32,
}

impl KafkaSink {
    /// Connects. `input` is the topic whose offsets [`Sink::commit`] is given; without one, they
    /// are not committed here.
    ///
    /// # Errors
    /// A setting is wrong; in a transaction also: the brokers do not answer, or turn us down.
    pub fn open(
        settings: &Settings,
        guarantee: &Guarantee,
        input: Option<&str>,
    ) -> Result<Self, KafkaError> {
        let mut config = client::config(settings)?;
        let linger = match guarantee {
            Guarantee::Idempotent => "5",
            // Nobody sees a record before its transaction is committed.
            Guarantee::Transactional { .. } => "20",
        };
        for (key, value) in QUICK.into_iter().chain([("linger.ms", linger)]) {
            if config.get(key).is_none() {
                config.set(key, value);
            }
        }
        config
            .remove("group.id")
            .set("partitioner", "murmur2_random")
            .set("enable.idempotence", "true")
            .set("allow.auto.create.topics", "false")
            // Of what was delivered nothing is to be done.
            .set("delivery.report.only.error", "true")
            .set(
                "message.timeout.ms",
                settings.deliver_within.as_millis().to_string(),
            );
        let transactional = match guarantee {
            Guarantee::Idempotent => false,
            Guarantee::Transactional { id, open_for } => {
                // A record may not take longer than its transaction.
                let open_for = (*open_for).max(settings.deliver_within);
                config
                    .set("transactional.id", id)
                    .set("transaction.timeout.ms", open_for.as_millis().to_string());
                true
            }
        };
        let deliveries = Deliveries::default();
        let sort = |error: &ClientError| {
            let said = deliveries.complaints.last();
            KafkaError::sort(error, &settings.brokers, "kafka.client", &said)
        };
        let producer: BaseProducer<Deliveries> = config
            .create_with_context(deliveries.clone())
            .map_err(|error| sort(&error))?;
        let asker = Asker::new(settings)?;
        if transactional {
            // Names what is wrong with the connection better than the transaction would.
            asker.ask("kafka", |patience| {
                asker.consumer.fetch_metadata(None, patience)
            })?;
            producer
                .init_transactions(settings.connect_within)
                .map_err(|error| sort(&error))?;
        }
        Ok(Self {
            producer,
            deliveries,
            asker,
            settings: settings.clone(),
            input: input.map(str::to_owned),
            transactional,
            fence: None,
            topics: BTreeMap::new(),
            open: None,
            unserved: 0,
        })
    }

    /// The same sink for a share of the input: nothing is committed once that is another's.
    #[must_use]
    pub fn within(mut self, fence: Fence) -> Self {
        self.fence = Some(fence);
        self
    }

    /// Checks, once, that the topic is there and has the partition.
    fn check(&mut self, topic: &str, partition: Option<u32>) -> Result<(), KafkaError> {
        let has = match self.topics.get(topic) {
            Some(has) => *has,
            None => {
                let has = self.asker.partitions(topic)?;
                self.topics.insert(topic.to_owned(), has);
                has
            }
        };
        match partition {
            Some(partition) if partition >= has => Err(KafkaError::Refused {
                what: format!("topic {topic:?}"),
                detail: format!("there is no partition {partition}: it has {has}, from 0"),
            }),
            _ => Ok(()),
        }
    }

    /// Hands one record over, serving delivery reports as long as the queue is full: librdkafka
    /// gives each record up after [`Settings::deliver_within`], so this ends.
    fn send(&self, record: OutRecord<'_>) -> Result<(), KafkaError> {
        let mut message = BaseRecord::<[u8], [u8]>::to(record.topic);
        message.key = record.key;
        message.payload = record.value;
        message.partition = record.partition.map(u32::cast_signed);
        // Kafka has no time before 1970; verdicts do not come from this stamp.
        message.timestamp = record
            .at
            .map(|at| at.millis())
            .filter(|millis| *millis >= 0);
        if !record.headers.is_empty() {
            let headers = OwnedHeaders::new_with_capacity(record.headers.len());
            let add = |headers: OwnedHeaders, (key, value): &(&str, &[u8])| {
                headers.insert(Header {
                    key,
                    value: Some(*value),
                })
            };
            message.headers = Some(record.headers.iter().fold(headers, add));
        }
        let mut waits: Option<MachineClock> = None;
        loop {
            let full = match self.producer.send(message) {
                Ok(()) => {
                    if let Some(since) = waits {
                        names::observe_for(Name::QueueBlocked, "queue", QUEUE, since.now());
                    }
                    return Ok(());
                }
                Err((ClientError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => back,
                Err((error, _)) => return Err(self.sort(&error, record.topic)),
            };
            message = full;
            waits.get_or_insert_with(MachineClock::start);
            self.producer.poll(WHEN_FULL);
            self.check_deliveries()?;
        }
    }

    fn check_deliveries(&self) -> Result<(), KafkaError> {
        match self.deliveries.take_failure() {
            Some(failure) => Err(self.sort(&failure.error, &failure.place)),
            None => Ok(()),
        }
    }

    /// An error of the producer; a fatal one behind it says more.
    fn sort(&self, error: &ClientError, place: &str) -> KafkaError {
        let said = self.deliveries.complaints.last();
        match self.producer.client().fatal_error() {
            Some((code, reason)) => KafkaError::sort(
                &ClientError::Global(code),
                &self.settings.brokers,
                place,
                &reason,
            ),
            None => KafkaError::sort(error, &self.settings.brokers, place, &said),
        }
    }

    /// All that was written is acknowledged, or the first failure. rdkafka's own flush looks again only
    /// every 100 ms, and so took as long where a commit takes ten; once nothing is on its way it
    /// returns at once.
    fn flush(&self) -> Result<(), KafkaError> {
        let within = self.settings.deliver_within + self.settings.connect_within;
        let waits = MachineClock::start();
        while self.producer.in_flight_count() > 0 && waits.now() < within {
            self.producer.poll(AGAIN);
        }
        let flushed = self.producer.flush(Duration::ZERO);
        self.check_deliveries()?;
        flushed.map_err(|error| self.sort(&error, "the open epoch"))
    }

    /// The positions after the epoch's inputs.
    fn positions(
        &self,
        epoch: Epoch,
        inputs: &[OffsetRange],
    ) -> Result<Option<TopicPartitionList>, KafkaError> {
        let (Some(topic), false) = (&self.input, inputs.is_empty()) else {
            return Ok(None);
        };
        let mut list = TopicPartitionList::new();
        for range in inputs {
            let position = rdkafka::Offset::Offset(range.to.0.cast_signed());
            let mut place = list.add_partition(topic, range.lane.0.cast_signed());
            place
                .set_offset(position)
                .map_err(|error| self.sort(&error, topic))?;
            let instance = self.fence.as_ref().map(|fence| &*fence.instance);
            place.set_metadata(topics::note(epoch, instance));
        }
        Ok(Some(list))
    }

    fn commit_transaction(&self, positions: Option<TopicPartitionList>) -> Result<(), KafkaError> {
        let within = self.settings.deliver_within;
        if let Some(list) = positions {
            let group = match &self.fence {
                Some(fence) => fence.group.clone(),
                None => Arc::new(self.outside_groups()?),
            };
            self.producer
                .send_offsets_to_transaction(&list, &group, within)
                .map_err(|error| self.sort(&error, "the epoch's input offsets"))?;
        }
        self.producer
            .commit_transaction(within)
            .map_err(|error| self.sort(&error, "the epoch's transaction"))
    }

    /// Commits as no member of the group.
    fn outside_groups(&self) -> Result<ConsumerGroupMetadata, KafkaError> {
        let metadata = self.asker.consumer.group_metadata();
        metadata.ok_or_else(|| KafkaError::Refused {
            what: "kafka.group".to_owned(),
            detail: "there is no consumer group to commit input offsets for".to_owned(),
        })
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

impl Sink for KafkaSink {
    fn begin(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        if let Some(open) = self.open {
            let why = format!("begin of epoch {} while epoch {} is open", epoch.0, open.0);
            return Err(SinkError::Misuse(why));
        }
        if self.transactional {
            let begun = self.producer.begin_transaction();
            begun.map_err(|error| self.sort(&error, "a new transaction"))?;
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
        let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let headers: usize = record
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        let size = length(record.key) + length(record.value) + headers;
        let limit = self.settings.max_record_bytes;
        if size > limit {
            return Err(KafkaError::TooLarge {
                topic: record.topic.to_owned(),
                size,
                limit,
            }
            .into());
        }
        self.check(record.topic, record.partition)?;
        self.send(record)?;
        self.unserved += 1;
        if self.unserved >= SERVE_EVERY {
            self.unserved = 0;
            self.producer.poll(Duration::ZERO);
            let depth = self.producer.in_flight_count();
            names::gauge_for(Name::QueueDepth, "queue", QUEUE, f64::from(depth));
        }
        Ok(())
    }

    fn commit(&mut self, epoch: Epoch, inputs: &[OffsetRange]) -> Result<(), SinkError> {
        self.check_open(epoch, "commit")?;
        self.flush()?;
        let positions = self.positions(epoch, inputs)?;
        if self.transactional {
            self.commit_transaction(positions)?;
        } else if let Some(list) = positions {
            let committed = self.asker.consumer.commit(&list, CommitMode::Sync);
            committed.map_err(|error| self.asker.sort(&error, "the epoch's input offsets"))?;
        }
        self.open = None;
        Ok(())
    }

    /// Without transactions, what was written stays there, and will be there twice.
    fn abort(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        self.check_open(epoch, "abort")?;
        let within = self.settings.deliver_within + self.settings.connect_within;
        // Not purged: that would leave a gap in the producer's sequence, which a transaction does
        // not survive. And all reports have to be served before a transaction can end.
        let flushed = self.producer.flush(within);
        flushed.map_err(|error| self.sort(&error, "the aborted epoch"))?;
        if self.transactional {
            let aborted = self
                .producer
                .abort_transaction(self.settings.deliver_within);
            aborted.map_err(|error| self.sort(&error, "the epoch's transaction"))?;
        }
        // Failures of the epoch that is given up are not the next one's.
        let _ = self.deliveries.take_failure();
        self.open = None;
        Ok(())
    }
}

impl Drop for KafkaSink {
    /// A transaction that nobody ends would keep readers of committed records waiting until it times
    /// out. What is still on its way is thrown away: this producer writes nothing more.
    fn drop(&mut self) {
        if self.open.is_none()
            || !self.transactional
            || self.producer.client().fatal_error().is_some()
        {
            return;
        }
        self.producer
            .purge(PurgeConfig::default().queue().inflight());
        let _ = self.producer.flush(AT_THE_END);
        if let Err(error) = self.producer.abort_transaction(AT_THE_END) {
            tracing::debug!(%error, "the open transaction is left to time out");
        }
    }
}
