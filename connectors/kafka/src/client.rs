//! Our settings as librdkafka wants them, and a client for questions.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as ClientError, KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;

use segue_flow::clock::{MachineClock, WallClock};

use crate::complaints::Complaints;
use crate::error::{KafkaError, may_pass};
use crate::security::secure;
use crate::settings::Settings;

/// Options that carry the promises of [`crate::KafkaSource`] and [`crate::KafkaSink`], or have a
/// setting of their own; `kafka.client` may not contradict them.
const OURS: [&str; 20] = [
    "bootstrap.servers",
    "metadata.broker.list",
    "group.id",
    "group.protocol",
    "session.timeout.ms",
    "partition.assignment.strategy",
    "security.protocol",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.username",
    "sasl.password",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "auto.offset.reset",
    "enable.idempotence",
    "transactional.id",
    "partitioner",
    "message.max.bytes",
    "delivery.report.only.error",
];

/// How long one question may take, within [`Settings::connect_within`]: between two, an
/// authentication that failed is noticed.
const ASK: Duration = Duration::from_millis(500);

/// How long to wait between two.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// How many events are looked at between two questions.
const EVENTS_AT_MOST: usize = 100;

/// Room for what surrounds the largest record in its batch, in bytes.
const BATCH_OVERHEAD: usize = 64 << 10;

/// Bytes that a batch with the largest record may take.
pub fn largest_batch(settings: &Settings) -> usize {
    settings.max_record_bytes.saturating_add(BATCH_OVERHEAD)
}

/// What is common to all clients.
pub fn config(settings: &Settings) -> Result<ClientConfig, KafkaError> {
    let mut config = ClientConfig::new();
    // Its complaints are what our error messages quote; `Complaints` says what is printed.
    config.set_log_level(RDKafkaLogLevel::Info);
    for (key, value) in &settings.client {
        check_free(key)?;
        config.set(key, value);
    }
    for (key, secret) in &settings.client_secrets {
        check_free(key)?;
        let value = secret.reveal().map_err(|error| KafkaError::Refused {
            what: format!("kafka.client_secrets.{key}"),
            detail: error.to_string(),
        })?;
        config.set(key, value);
    }
    config.set("bootstrap.servers", &settings.brokers);
    config.set("group.id", &settings.group);
    config.set("message.max.bytes", largest_batch(settings).to_string());
    for (key, value) in [
        ("client.id", "segue"),
        ("reconnect.backoff.ms", "50"),
        ("reconnect.backoff.max.ms", "2000"),
    ] {
        if config.get(key).is_none() {
            config.set(key, value);
        }
    }
    secure(&settings.security, &mut config)?;
    Ok(config)
}

fn check_free(key: &str) -> Result<(), KafkaError> {
    if !OURS.contains(&key) {
        return Ok(());
    }
    let detail = "is set by segue itself or has a setting of its own; remove it here".to_owned();
    Err(KafkaError::Refused {
        what: format!("kafka.client.{key}"),
        detail,
    })
}

/// A client for questions: metadata, watermarks, committed offsets.
pub struct Asker {
    pub consumer: BaseConsumer<Complaints>,
    pub complaints: Complaints,
    address: String,
    attempts: u32,
}

impl Asker {
    pub fn new(settings: &Settings) -> Result<Self, KafkaError> {
        let mut config = config(settings)?;
        config
            .set("enable.auto.commit", "false")
            .set("allow.auto.create.topics", "false")
            // An end counts records of open transactions too: what was written, seen or not.
            .set("isolation.level", "read_uncommitted");
        Self::over(settings, &config)
    }

    /// Wraps a consumer that also reads.
    pub fn over(settings: &Settings, config: &ClientConfig) -> Result<Self, KafkaError> {
        let complaints = Complaints::default();
        let address = settings.brokers.clone();
        let consumer = config
            .create_with_context(complaints.clone())
            .map_err(|error| KafkaError::sort(&error, &address, "kafka.client", ""))?;
        Ok(Self {
            consumer,
            complaints,
            address,
            attempts: attempts(settings.connect_within),
        })
    }

    /// What the cluster says about a topic that must be there.
    pub fn partitions(&self, topic: &str) -> Result<u32, KafkaError> {
        let metadata = self.ask(topic, |patience| {
            self.consumer.fetch_metadata(Some(topic), patience)
        })?;
        count_partitions(&metadata, topic)
            .map_err(|code| self.sort(&ClientError::MetadataFetch(code), topic))
    }

    /// First offset there is, and the one after the last.
    pub fn watermarks(&self, topic: &str, partition: u32) -> Result<(u64, u64), KafkaError> {
        let number = partition.cast_signed();
        let place = format!("{topic} partition {partition}");
        let (low, high) = self.ask(&place, |patience| {
            self.consumer.fetch_watermarks(topic, number, patience)
        })?;
        Ok((
            u64::try_from(low).unwrap_or(0),
            u64::try_from(high).unwrap_or(0),
        ))
    }

    /// Asks until there is an answer, within the time that is set; an answer that will not change
    /// is taken at once.
    pub fn ask<T>(
        &self,
        place: &str,
        question: impl Fn(Duration) -> KafkaResult<T>,
    ) -> Result<T, KafkaError> {
        let mut answer = question(ASK);
        for _ in 1..self.attempts {
            match &answer {
                Err(error) if is_transient(error) => self.check_hopeless(place)?,
                _ => break,
            }
            MachineClock::start().sleep(ASK_AGAIN);
            answer = question(ASK);
        }
        match answer {
            Ok(answer) => {
                self.complaints.forget();
                Ok(answer)
            }
            Err(error) => Err(self.sort(&error, place)),
        }
    }

    /// An identity or certificate that was turned down ends the asking: it will be again. These
    /// come as events beside the answers; a record among them is dropped, so that a reader has to
    /// be assigned anew after an answer that was slow.
    fn check_hopeless(&self, place: &str) -> Result<(), KafkaError> {
        for _ in 0..EVENTS_AT_MOST {
            match self.consumer.poll(Duration::ZERO) {
                None => break,
                Some(Ok(_)) => {}
                Some(Err(error)) => match error.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL)
                        if !may_pass(&self.complaints.last()) =>
                    {
                        return Err(self.sort(&error, place));
                    }
                    // Their reasons are among the complaints.
                    _ => {}
                },
            }
        }
        Ok(())
    }

    /// An error of the client, with its last complaint.
    pub fn sort(&self, error: &ClientError, place: &str) -> KafkaError {
        KafkaError::sort(error, &self.address, place, &self.complaints.last())
    }
}

/// How many questions of [`ASK`] fit into a time.
pub fn attempts(within: Duration) -> u32 {
    u32::try_from(within.as_millis().div_ceil(ASK.as_millis()))
        .unwrap_or(u32::MAX)
        .max(1)
}

/// Number of partitions in an answer about one topic.
pub fn count_partitions(metadata: &Metadata, topic: &str) -> Result<u32, RDKafkaErrorCode> {
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let found = found.ok_or(RDKafkaErrorCode::UnknownTopicOrPartition)?;
    if let Some(error) = found.error() {
        return Err(error.into());
    }
    match found.partitions().len() {
        0 => Err(RDKafkaErrorCode::UnknownTopicOrPartition),
        count => Ok(count as u32),
    }
}

fn is_transient(error: &ClientError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::RequestTimedOut
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::CoordinatorLoadInProgress
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::NotCoordinator
                | RDKafkaErrorCode::WaitingForCoordinator
                | RDKafkaErrorCode::UnstableOffsetCommit
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use segue_flow::secret::Secret;

    fn said(settings: &Settings) -> String {
        Asker::new(settings)
            .err()
            .map(|error| error.to_string())
            .unwrap()
    }

    #[test]
    fn options_that_carry_promises_cannot_be_overridden() {
        let mut settings = Settings::default();
        settings
            .client
            .insert("partitioner".into(), "random".into());
        let message = said(&settings);
        assert!(message.contains("kafka.client.partitioner"), "{message}");
    }

    #[test]
    fn a_wrong_option_is_named_and_a_secret_value_is_not() {
        let mut settings = Settings::default();
        settings
            .client
            .insert("fetch.wait.max.milliseconds".into(), "5".into());
        assert!(
            said(&settings).contains("fetch.wait.max.milliseconds"),
            "{}",
            said(&settings)
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hunter2").unwrap();
        let mut settings = Settings::default();
        let secret = Secret::File(file.path().to_owned());
        settings
            .client_secrets
            .insert("socket.timeout.ms".into(), secret);
        let message = said(&settings);
        assert!(
            message.contains("socket.timeout.ms") && !message.contains("hunter2"),
            "{message}"
        );
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
