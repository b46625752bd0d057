//! What became of each record that was handed to librdkafka.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError as ClientError;
use rdkafka::message::Message;
use rdkafka::producer::{DeliveryResult, ProducerContext};

use crate::complaints::Complaints;

/// Remembers the first record of an epoch that could not be delivered.
#[derive(Clone, Default)]
pub struct Deliveries {
    pub complaints: Complaints,
    failed: Arc<Mutex<Option<Failure>>>,
}

/// A record that could not be delivered.
pub struct Failure {
    pub error: ClientError,
    /// Topic and partition it was for.
    pub place: String,
}

impl Deliveries {
    /// The first failure since the last call.
    pub fn take_failure(&self) -> Option<Failure> {
        self.failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.complaints.log(level, facility, line);
    }

    fn error(&self, error: ClientError, reason: &str) {
        self.complaints.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let Err((error, record)) = result else { return };
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.is_none() {
            let place = match record.partition() {
                // No partition was chosen yet.
                -1 => format!("topic {:?}", record.topic()),
                partition => format!("topic {:?} partition {partition}", record.topic()),
            };
            *failed = Some(Failure {
                error: error.clone(),
                place,
            });
        }
    }
}
