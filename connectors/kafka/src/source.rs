//! Reads one partition: one consumer per lane, assigned and never subscribed, so that a lane's
//! position is the lane's own. Records are visited in librdkafka's buffer.

use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::{Offset as Position, TopicPartitionList};
use segue_flow::clock::{MachineClock, WallClock};
use segue_flow::source::RUN;
use segue_flow::{ContentType, Offset, RawRecord, Readiness, Replay, Source, SourceError};
use segue_listen::EventTime;

use crate::client::{self, Asker};
use crate::error::{KafkaError, may_pass};
use crate::partition_queue::{self, PartitionQueue};
use crate::settings::Settings;

/// Records visited in one call at most, so that a lane comes to its barriers.
const VISIT_AT_MOST: usize = 4096;

/// How long a seek may take, and how long to wait after one that was refused.
const SEEK: Duration = Duration::from_millis(500);
const SEEK_AGAIN: Duration = Duration::from_millis(5);

/// What makes reading quick; `kafka.client` may say otherwise.
const QUICK: [(&str, &str); 6] = [
    // After its queue was full, librdkafka waits this long before it fetches again: 1 s unless set.
    ("fetch.queue.backoff.ms", "10"),
    ("queued.min.messages", "1000000"),
    // Enough for a tenth of a second at full speed; what waits longer has left the processor's cache, and
    // its memory has to be got from the system again and again.
    ("queued.max.messages.kbytes", "16384"),
    // Each fetch is a way there and back: 1 MB unless set.
    ("fetch.message.max.bytes", "4194304"),
    // A fetch that found nothing is the longest that a seek has to wait for.
    ("fetch.wait.max.ms", "100"),
    ("check.crcs", "true"),
];

/// Where a reader stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Never: it waits for what will come.
    Forever,
    /// At what had been written when the reader was made. Where transactions were open then, it
    /// waits until they are committed, and seen, or aborted: a commit is seen a little after it was
    /// made.
    Now,
}

/// A reader of one partition, in order; of transactions only what was committed.
pub struct KafkaSource {
    queue: PartitionQueue,
    asker: Asker,
    topic: String,
    partition: u32,
    /// For [`Until::Now`]: the first offset not to be read.
    stop: Option<u64>,
    ended: bool,
    /// Everything before `stop` was seen to be stable; what is left of it is being read.
    stable: bool,
    position: u64,
    assigned: bool,
    /// How long a seek may be refused.
    within: Duration,
}

impl KafkaSource {
    /// Opens a partition at the first record that is kept.
    ///
    /// # Errors
    /// The brokers do not answer in time or turn us down, or topic or partition are not there.
    pub fn open(
        settings: &Settings,
        topic: &str,
        partition: u32,
        until: Until,
    ) -> Result<Self, KafkaError> {
        let mut config = client::config(settings)?;
        for (key, value) in QUICK {
            if config.get(key).is_none() {
                config.set(key, value);
            }
        }
        let ends = if until == Until::Now { "true" } else { "false" };
        config
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            .set("allow.auto.create.topics", "false")
            .set("enable.partition.eof", ends);
        let asker = Asker::over(settings, &config)?;
        let has = asker.partitions(topic)?;
        if partition >= has {
            let detail = format!("there is no partition {partition}: it has {has}, from 0");
            return Err(KafkaError::Refused {
                what: format!("topic {topic:?}"),
                detail,
            });
        }
        let (first, _) = asker.watermarks(topic, partition)?;
        let stop = match until {
            Until::Forever => None,
            Until::Now => Some(Asker::new(settings)?.watermarks(topic, partition)?.1),
        };
        let queue = PartitionQueue::split(&asker.consumer, topic, partition);
        let queue = queue.ok_or_else(|| KafkaError::Refused {
            what: format!("topic {topic:?}"),
            detail: "librdkafka has no queue for it".to_owned(),
        })?;
        Ok(Self {
            queue,
            asker,
            topic: topic.to_owned(),
            partition,
            stop,
            ended: false,
            stable: false,
            position: first,
            assigned: false,
            within: settings.connect_within,
        })
    }

    fn place(&self) -> String {
        format!("topic {:?} partition {}", self.topic, self.partition)
    }

    /// Begins to fetch from the position: once, at the first read. librdkafka 2.12 fails an
    /// assertion, and ends the process, when the same partition is assigned over and over.
    fn assign(&mut self) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        let partition = self.partition.cast_signed();
        list.add_partition_offset(&self.topic, partition, self.next())
            .and_then(|()| self.asker.consumer.assign(&list))
            .map_err(|error| self.asker.sort(&error, &self.place()))?;
        self.assigned = true;
        Ok(())
    }

    /// Goes on from the position; what was fetched before is thrown away. Refused in the instant
    /// after the assignment, and so tried until the time to connect is over.
    fn go_to_position(&mut self) -> Result<(), KafkaError> {
        if !self.assigned {
            return Ok(());
        }
        let clock = MachineClock::start();
        let partition = self.partition.cast_signed();
        loop {
            match self
                .asker
                .consumer
                .seek(&self.topic, partition, self.next(), SEEK)
            {
                Ok(()) => return Ok(()),
                Err(error) if clock.now() > self.within => {
                    return Err(self.asker.sort(&error, &self.place()));
                }
                Err(_) => clock.sleep(SEEK_AGAIN),
            }
        }
    }

    fn next(&self) -> Position {
        Position::Offset(self.position.min(i64::MAX as u64).cast_signed())
    }

    /// What an event that is not a record means: `None` to go on.
    fn understand(&mut self, error: &ClientError) -> Result<Option<Readiness>, SourceError> {
        if matches!(error, ClientError::PartitionEOF(_)) {
            return self.understand_end();
        }
        match error.rdkafka_error_code() {
            // One connection of several, or an idle one closed: the client mends it by itself.
            Some(RDKafkaErrorCode::BrokerTransportFailure) => Ok(None),
            // Or one that went away while it was greeted.
            Some(RDKafkaErrorCode::SSL) if may_pass(&self.asker.complaints.last()) => Ok(None),
            Some(RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset) => {
                let (first, end) = self.asker.watermarks(&self.topic, self.partition)?;
                Err(self.outside(self.position, first, end).into())
            }
            _ => Err(self.asker.sort(error, &self.place()).into()),
        }
    }

    /// The end of what is committed is that of what was written unless a transaction is open.
    fn understand_end(&mut self) -> Result<Option<Readiness>, SourceError> {
        let Some(stop) = self.stop else {
            return Ok(None);
        };
        if self.stable {
            return Ok(Some(Readiness::Ended));
        }
        let (_, stable) = self.asker.watermarks(&self.topic, self.partition)?;
        // This end may be that of what was stable before; the next one is not.
        self.stable = stable >= stop;
        // To the same place, since asking may have cost records on their way.
        self.go_to_position()?;
        Ok(Some(Readiness::Idle))
    }

    fn outside(&self, offset: u64, first: u64, end: u64) -> KafkaError {
        KafkaError::OutOfRange {
            offset,
            place: self.place(),
            held: format!("{first}..{end}"),
        }
    }
}

impl Source for KafkaSource {
    fn replay(&self) -> Replay {
        // A topic may be compacted or aged; whether it is cannot be seen from here.
        Replay::FromOffset
    }

    fn position(&self) -> Offset {
        Offset(self.position)
    }

    /// As the last answer to a fetch had it; where the last thing written is the end of a
    /// transaction, one or two past the last record.
    fn end(&mut self) -> Option<Offset> {
        partition_queue::known_end(&self.asker.consumer, &self.topic, self.partition)
            .map(|end| Offset(end.min(self.stop.unwrap_or(u64::MAX))))
    }

    fn seek(&mut self, to: Offset) -> Result<(), SourceError> {
        let (first, end) = self.asker.watermarks(&self.topic, self.partition)?;
        if !(first..=end).contains(&to.0) {
            return Err(self.outside(to.0, first, end).into());
        }
        self.position = to.0;
        self.go_to_position()?;
        Ok(())
    }

    fn read_runs(
        &mut self,
        patience: Duration,
        visit: &mut dyn FnMut(&[RawRecord<'_>]),
    ) -> Result<Readiness, SourceError> {
        if self.ended || self.stop.is_some_and(|stop| self.position >= stop) {
            self.ended = true;
            return Ok(Readiness::Ended);
        }
        if !self.assigned {
            self.assign()?;
        }
        // Before anything is waited for: an identity that was turned down is told here.
        if let Some(Err(error)) = self.asker.consumer.poll(Duration::ZERO)
            && let Some(readiness) = self.understand(&error)?
        {
            self.ended = readiness == Readiness::Ended;
            return Ok(readiness);
        }
        let (mut visited, mut patience, mut event) = (0, patience, None);
        while visited < VISIT_AT_MOST && event.is_none() && !self.ended {
            let mut taken = self.queue.next_run(patience);
            patience = Duration::ZERO;
            let before = visited;
            while let Some(few) = taken.next(RUN) {
                let few = match few {
                    Ok(few) => few,
                    Err(error) => {
                        event = Some(error);
                        break;
                    }
                };
                let mut messages = [None; RUN];
                let mut run = [RawRecord::NONE; RUN];
                let stop = self.stop.unwrap_or(u64::MAX);
                let wanted = few.iter().take_while(|message| message.offset() < stop);
                for (place, message) in messages.iter_mut().zip(wanted) {
                    *place = Some(message);
                }
                let mut count = 0;
                for (place, message) in run.iter_mut().zip(messages.iter().flatten()) {
                    *place = RawRecord {
                        offset: Offset(message.offset()),
                        key: message.key(),
                        value: message.value(),
                        content_type: ContentType::Asked(message),
                        logged_at: message.timestamp().map(EventTime::from_millis),
                    };
                    // Tombstones count too: every record seen moves the position.
                    self.position = message.offset() + 1;
                    count += 1;
                }
                visit(run.get(..count).unwrap_or_default());
                visited += count;
                // A message that is not wanted lies behind the end as well.
                if self.position >= stop || count < few.len() {
                    self.ended = true;
                    break;
                }
            }
            if visited == before {
                break;
            }
        }
        if let Some(error) = event {
            match self.understand(&error)? {
                Some(readiness) => self.ended = readiness == Readiness::Ended,
                // What came with it was thrown away, and comes again.
                None => self.go_to_position()?,
            }
        }
        Ok(match (visited, self.ended) {
            (0, true) => Readiness::Ended,
            (0, false) => Readiness::Idle,
            _ => Readiness::More,
        })
    }
}
