//! What librdkafka complains of while it works: remembered for error messages, and passed on to our log.
//!
//! What it answers to a question is often only that no answer came. Why is in its log and among its
//! events, said by threads of its own.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};

/// What librdkafka's log calls a connection that failed, at whatever level.
const FAILED: &str = "FAIL";

/// Remembers librdkafka's last complaint.
#[derive(Clone, Default)]
pub struct Complaints {
    last: Arc<Mutex<String>>,
}

impl Complaints {
    /// The last complaint; empty if there was none.
    pub fn last(&self) -> String {
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What was said before is no reason for what comes after: an answer came.
    pub fn forget(&self) {
        self.remember("");
    }

    fn remember(&self, complaint: &str) {
        complaint.clone_into(&mut self.last.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl ClientContext for Complaints {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => {
                self.remember(line);
                tracing::debug!(target: "librdkafka", facility, "{line}");
            }
            // A connection that was closed is told in passing, since it may have been an idle one.
            // While a question waits for its answer it may be the reason.
            RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info
                if facility == FAILED =>
            {
                self.remember(line);
                tracing::debug!(target: "librdkafka", facility, "{line}");
            }
            RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, "{line}"),
            _ => tracing::debug!(target: "librdkafka", facility, "{line}"),
        }
    }

    fn error(&self, error: ClientError, reason: &str) {
        // That no broker is left follows from what was said of the last one.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            self.remember(reason);
        }
        tracing::debug!(target: "librdkafka", "{error}: {reason}");
    }
}

impl ConsumerContext for Complaints {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_reason_is_kept_and_what_follows_from_it_is_not() {
        let complaints = Complaints::default();
        complaints.log(RDKafkaLogLevel::Info, "FAIL", "closed");
        assert_eq!(complaints.last(), "closed");
        complaints.log(RDKafkaLogLevel::Info, "OTHER", "chatter");
        let down = ClientError::Global(RDKafkaErrorCode::AllBrokersDown);
        complaints.error(down, "1/1 brokers are down");
        assert_eq!(complaints.last(), "closed");
        complaints.error(ClientError::Global(RDKafkaErrorCode::SSL), "handshake");
        assert_eq!(complaints.last(), "handshake");
        complaints.forget();
        assert_eq!(complaints.last(), "");
    }
}
