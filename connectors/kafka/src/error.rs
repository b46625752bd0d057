//! What can go wrong with Kafka, sorted by what Segue does next.

use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use segue_flow::{Remedy, SinkError, SourceError};

use crate::security::FILES;

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
        match error {
            ClientError::ClientConfig(_, why, key, value) => {
                // The value is left out: it may be a secret.
                let detail = match value.is_empty() {
                    true => why.clone(),
                    false => why.replace(value.as_str(), "..."),
                };
                let what = format!("kafka option {key}");
                return Self::Refused { what, detail };
            }
            // Nobody was asked yet: what is set does not go together.
            ClientError::ClientCreation(why) => {
                return Self::Refused {
                    what: "kafka".to_owned(),
                    detail: format!("{why}; {}", check_files(why)),
                };
            }
            _ => {}
        }
        let place = place.to_owned();
        match error.rdkafka_error_code() {
            Some(Code::Authentication | Code::SaslAuthenticationFailed) => Self::Refused {
                what: format!("kafka at {address}"),
                detail: format!("{detail}; {CHECK_IDENTITY}"),
            },
            Some(Code::SSL) => Self::Refused {
                what: format!("kafka at {address}"),
                detail: format!("{detail}; {}", blame(&detail).unwrap_or(CHECK_ENCRYPTION)),
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
            _ => match blame(said) {
                Some(check) => Self::Refused {
                    what: format!("kafka at {address}"),
                    detail: format!("{detail}; {check}"),
                },
                None => Self::Unreachable {
                    address: address.to_owned(),
                    detail: format!("{detail}; {}", check_reach(said)),
                },
            },
        }
    }
}

const CHECK_IDENTITY: &str = "check kafka.security: mechanism, username, password";
const CHECK_ENCRYPTION: &str = "check kafka.security: protocol, ca_file";

/// Which setting a complaint of librdkafka's speaks of, if it does. Where there was no more than
/// silence for an answer, the complaint is all there is to go by; `connectors/kafka/tests/secured.rs`
/// brings each of them about.
fn blame(said: &str) -> Option<&'static str> {
    let any = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if any(&["certificate required", "bad certificate", "unknown ca"]) {
        // The broker's alert: it is ours that it turns down.
        return Some("check kafka.security: certificate_file, key_file");
    }
    if any(&["certificate verify failed", "verify broker certificate"]) {
        return Some(
            "check that kafka.security.ca_file holds the authority that signed the brokers' \
             certificates, and that kafka.brokers names the hosts as these do",
        );
    }
    if any(&["SASL authentication", "mechanism handshake failed"]) {
        return Some(CHECK_IDENTITY);
    }
    // Both ends wait for the other to speak as they do, or take its words for a length.
    let other_protocol = [
        "PLAINTEXT broker listener",
        "SSL listener",
        "security.protocol",
        "Invalid response size",
        "SSL handshake",
        "SSL connection handshake",
    ];
    any(&other_protocol).then_some(
        "check kafka.security.protocol: this listener seems to speak another one than is set here",
    )
}

/// What to look at where nobody answers. A listener that takes a connection and hangs up may speak
/// another protocol, or its broker is on its way down: from here both look the same.
fn check_reach(said: &str) -> &'static str {
    let hung_up = ["Disconnected", "Broken pipe", "Connection reset"];
    if hung_up.iter().any(|words| said.contains(words)) {
        "check that the broker runs and stays up, and that kafka.security.protocol is what this \
         listener speaks"
    } else {
        "check that the broker runs and kafka.brokers is right"
    }
}

/// Whether a broker that goes away would look the same: then it is too early to give up.
pub(crate) fn may_pass(said: &str) -> bool {
    said.contains("Disconnected") || said.contains("SSL transport error")
}

/// Which of our settings the option is that librdkafka could not use.
fn check_files(why: &str) -> String {
    let of = FILES.iter().filter(|(option, _)| why.contains(option));
    let settings: Vec<_> = of.map(|(_, key)| *key).collect();
    match &*settings {
        [] => "check kafka.client and kafka.security".to_owned(),
        ["key_file"] => "check kafka.security: key_file, key_password".to_owned(),
        keys => format!("check kafka.security: {}", keys.join(", ")),
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
