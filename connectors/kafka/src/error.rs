//! What can go wrong with Kafka, sorted by what Segue does next.

use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use segue_flow::{Remedy, SinkError, SourceError};

/// A failure of Kafka or of our use of it.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// No broker answers. Segue tries again.
    #[error("kafka at {address} cannot be reached: {detail}")]
    Unreachable {
        /// The brokers, as configured.
        address: String,
        /// What the client said, and what to check.
        detail: String,
    },
    /// A setting, topic or credential is not right. Segue stops.
    #[error("{what}: {detail}")]
    Refused {
        /// The setting or topic.
        what: String,
        /// What is wrong with it and what to do.
        detail: String,
    },
    /// What the broker sent cannot be what was written. Segue stops.
    #[error("{place} is corrupt: {detail}")]
    Corrupt {
        /// Topic and partition.
        place: String,
        /// What the client said.
        detail: String,
    },
    /// The offset is not in the log. Segue stops.
    #[error("offset {offset} is outside {place}, which holds {held}")]
    OutOfRange {
        /// The offset.
        offset: u64,
        /// Topic and partition.
        place: String,
        /// The offsets there are.
        held: String,
    },
    /// A record larger than the topic or the settings allow.
    #[error("a record of {size} bytes for {topic} exceeds kafka.max_record_bytes {limit}")]
    TooLarge {
        /// The topic.
        topic: String,
        /// The record's size in bytes.
        size: usize,
        /// The bound.
        limit: usize,
    },
    /// The group has given the partitions to another instance. The epoch is aborted, and the share of
    /// the partitions given up.
    #[error("the group has given the partitions to others: {0}")]
    Revoked(String),
    /// Another instance with the same transactional id has taken over. Segue stops.
    #[error("fenced off: {0}; another instance runs with the same transactional id")]
    Fenced(String),
}

impl KafkaError {
    /// What Segue does about it.
    pub const fn remedy(&self) -> Remedy {
        match self {
            Self::Unreachable { .. } => Remedy::Retry,
            Self::Refused { .. } | Self::Fenced(_) => Remedy::Configure,
            Self::Corrupt { .. } | Self::OutOfRange { .. } | Self::Revoked(_) => Remedy::Restore,
            Self::TooLarge { .. } => Remedy::DeadLetter,
        }
    }

    /// Sorts what librdkafka said about `place` (a topic, a partition, a setting).
    pub(crate) fn sort(error: &ClientError, address: &str, place: &str, said: &str) -> Self {
        let detail = if said.is_empty() {
            error.to_string()
        } else {
            format!("{error} ({said})")
        };
        if let ClientError::ClientConfig(_, why, key, _) = error {
            // The value is left out: it may be a secret.
            return Self::Refused {
                what: format!("kafka option {key}"),
                detail: why.clone(),
            };
        }
        let place = place.to_owned();
        match error.rdkafka_error_code() {
            Some(Code::Authentication | Code::SaslAuthenticationFailed) => Self::Refused {
                what: format!("kafka at {address}"),
                detail: format!("{detail}; check kafka.security: mechanism, username, password"),
            },
            Some(Code::SSL) => Self::Refused {
                what: format!("kafka at {address}"),
                detail: format!("{detail}; check kafka.security: protocol, ca_file"),
            },
            Some(
                Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::TransactionalIdAuthorizationFailed,
            ) => Self::Refused {
                what: place,
                detail: format!("{detail}; the broker does not grant this user access to it"),
            },
            Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition) => {
                Self::Refused {
                    what: place,
                    detail: format!("{detail}; create the topic first, or correct its name"),
                }
            }
            Some(Code::InvalidTopic) => Self::Refused {
                what: place,
                detail: format!("{detail}; names are 1 to 249 of a-z A-Z 0-9 . _ -; change it"),
            },
            Some(Code::MessageSizeTooLarge) => Self::Refused {
                what: place,
                detail: format!(
                    "{detail}; raise the topic's max.message.bytes, or lower kafka.max_record_bytes"
                ),
            },
            Some(Code::InvalidTimestamp) => Self::Refused {
                what: place,
                detail: format!(
                    "{detail}; set the topic's message.timestamp.before.max.ms and \
                     message.timestamp.after.max.ms to 9223372036854775807"
                ),
            },
            Some(Code::BadMessage | Code::InvalidMessage | Code::BadCompression) => {
                Self::Corrupt { place, detail }
            }
            Some(
                Code::Fenced
                | Code::ProducerFenced
                | Code::InvalidProducerEpoch
                | Code::FencedInstanceId,
            ) => Self::Fenced(detail),
            Some(Code::IllegalGeneration | Code::UnknownMemberId) => Self::Revoked(detail),
            _ => Self::Unreachable {
                address: address.to_owned(),
                detail: format!("{detail}; check that the broker runs and kafka.brokers is right"),
            },
        }
    }
}

impl From<KafkaError> for SourceError {
    fn from(error: KafkaError) -> Self {
        match error {
            KafkaError::Unreachable { address, detail } => Self::Unreachable { address, detail },
            KafkaError::Refused { what, detail } => Self::Refused { what, detail },
            KafkaError::Corrupt { place, detail } => Self::Corrupt { place, detail },
            KafkaError::OutOfRange {
                offset,
                place,
                held,
            } => Self::OutOfRange {
                offset,
                place,
                held,
            },
            other @ (KafkaError::TooLarge { .. }
            | KafkaError::Fenced(_)
            | KafkaError::Revoked(_)) => Self::Refused {
                what: "kafka".to_owned(),
                detail: other.to_string(),
            },
        }
    }
}

impl From<KafkaError> for SinkError {
    fn from(error: KafkaError) -> Self {
        match error {
            KafkaError::Unreachable { address, detail } => Self::Unreachable { address, detail },
            KafkaError::Refused { what, detail } => Self::Refused { what, detail },
            KafkaError::TooLarge { topic, size, limit } => Self::TooLarge { topic, size, limit },
            KafkaError::Fenced(detail) => Self::Fenced { detail },
            KafkaError::Revoked(detail) => Self::Revoked { detail },
            other @ (KafkaError::Corrupt { .. } | KafkaError::OutOfRange { .. }) => Self::Refused {
                what: "kafka".to_owned(),
                detail: other.to_string(),
            },
        }
    }
}
