//! What can be set about Kafka.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// Settings of all Kafka connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Brokers to begin with, `host:port`, separated by commas.
    pub brokers: String,
    /// Consumer group under which input offsets are committed.
    pub group: String,
    /// The name under which this instance shares the topic with the others of its group: a-z, 0-9, `-`
    /// and `_`. Empty: it reads all partitions, and is alone.
    pub instance: String,
    /// How long an instance may be silent before the others of its group get its partitions. The
    /// brokers set bounds, usually 6 s to 30 min.
    #[serde(with = "humantime_serde")]
    pub session_timeout: Duration,
    /// The largest record, in bytes of key, value and headers; topics made here take as much.
    pub max_record_bytes: usize,
    /// How long a broker may take to answer the first questions before it counts as not there.
    #[serde(with = "humantime_serde")]
    pub connect_within: Duration,
    /// How long a record may take to be acknowledged before its epoch counts as failed.
    #[serde(with = "humantime_serde")]
    pub deliver_within: Duration,
    /// Replicas of topics made here; -1 leaves it to the broker.
    pub replication: i32,
    /// Encryption and identity.
    pub security: Security,
    /// Topic settings (`cleanup.policy`, ...) of topics made here, over Segue's own: records are
    /// kept for ever and may carry time stamps of any year, since listens do.
    pub topic: BTreeMap<String, String>,
    /// Further librdkafka options, as named in its CONFIGURATION.md.
    pub client: BTreeMap<String, String>,
    /// Further librdkafka options whose values are secrets.
    pub client_secrets: BTreeMap<String, Secret>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".to_owned(),
            group: "segue".to_owned(),
            instance: String::new(),
            session_timeout: Duration::from_secs(20),
            max_record_bytes: 2 << 20,
            connect_within: Duration::from_secs(10),
            deliver_within: Duration::from_secs(30),
            replication: -1,
            security: Security::default(),
            topic: BTreeMap::new(),
            client: BTreeMap::new(),
            client_secrets: BTreeMap::new(),
        }
    }
}

/// Encryption and identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Security {
    /// How to speak to the brokers.
    pub protocol: Protocol,
    /// How to say who we are, where the protocol begins with `sasl`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mechanism: Option<Mechanism>,
    /// The user's name for SASL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The user's password for SASL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// PEM file of the authorities that may sign the brokers' certificates; else the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// PEM file of our own certificate, where brokers ask for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_file: Option<PathBuf>,
    /// PEM file of that certificate's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// The password of that key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_password: Option<Secret>,
}

/// How to speak to the brokers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// In the clear, as nobody.
    #[default]
    Plaintext,
    /// Encrypted.
    Ssl,
    /// In the clear, as someone.
    SaslPlaintext,
    /// Encrypted, as someone.
    SaslSsl,
}

impl Protocol {
    /// As librdkafka names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Ssl => "ssl",
            Self::SaslPlaintext => "sasl_plaintext",
            Self::SaslSsl => "sasl_ssl",
        }
    }
}

/// How to say who we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mechanism {
    /// Name and password as they are.
    #[serde(rename = "PLAIN")]
    Plain,
    /// Challenge and response, SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// Challenge and response, SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl Mechanism {
    /// As Kafka names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_toml_and_unknown_keys_do_not() {
        let text = toml::to_string(&Settings::default()).unwrap();
        assert_eq!(
            toml::from_str::<Settings>(&text).unwrap(),
            Settings::default()
        );
        let error = toml::from_str::<Settings>("brokerz = 'x'")
            .unwrap_err()
            .to_string();
        assert!(error.contains("brokerz"), "{error}");
    }

    #[test]
    fn a_password_is_named_not_written() {
        let text = "[security]\nprotocol = 'sasl_ssl'\nmechanism = 'SCRAM-SHA-512'\n\
                    username = 'u'\npassword = { env = 'SEGUE_NO_SUCH_VARIABLE' }";
        let settings: Settings = toml::from_str(text).unwrap();
        let password = settings.security.password.unwrap();
        let error = password
            .reveal("security.password")
            .unwrap_err()
            .to_string();
        assert!(error.contains("kafka.security.password"), "{error}");
        assert!(error.contains("SEGUE_NO_SUCH_VARIABLE"), "{error}");
        assert!(toml::from_str::<Settings>("[security]\npassword = 'hunter2'").is_err());
    }

    #[test]
    fn a_secret_comes_from_its_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "open sesame\r\n").unwrap();
        let secret = Secret::File(file.path().to_owned());
        assert_eq!(secret.reveal("k").unwrap(), "open sesame");
        let missing = Secret::File("/no/such/file".into())
            .reveal("k")
            .unwrap_err()
            .to_string();
        assert!(missing.contains("/no/such/file"), "{missing}");
    }
}
