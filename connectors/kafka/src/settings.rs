//! What can be set about Kafka.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use segue_flow::secret::Secret;
use serde::{Deserialize, Deserializer, Serialize};

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
    #[serde(deserialize_with = "no_secrets")]
    pub client: BTreeMap<String, String>,
    /// Further librdkafka options whose values are secrets.
    pub client_secrets: BTreeMap<String, Secret>,
}

/// Options of librdkafka whose values are secrets, and where each belongs: in plain text they would be
/// shown with everything else.
const SECRETS: [(&str, &str); 8] = [
    ("sasl.password", "kafka.security.password"),
    ("ssl.key.password", "kafka.security.key_password"),
    ("ssl.key.pem", "kafka.client_secrets"),
    ("ssl.keystore.password", "kafka.client_secrets"),
    ("sasl.oauthbearer.config", "kafka.client_secrets"),
    ("sasl.oauthbearer.client.secret", "kafka.client_secrets"),
    (
        "sasl.oauthbearer.assertion.private.key.passphrase",
        "kafka.client_secrets",
    ),
    (
        "sasl.oauthbearer.assertion.private.key.pem",
        "kafka.client_secrets",
    ),
];

fn no_secrets<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    let options = BTreeMap::<String, String>::deserialize(from)?;
    match SECRETS.iter().find(|(key, _)| options.contains_key(*key)) {
        None => Ok(options),
        Some((key, place)) => Err(serde::de::Error::custom(format!(
            "{key} is a secret: name its place under {place}, as {{ env = \"NAME\" }} or \
             {{ file = \"PATH\" }}"
        ))),
    }
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
    fn a_secret_has_no_place_in_plain_text() {
        for text in [
            "[security]\npassword = 'hunter2'",
            "[client]\n'ssl.key.password' = 'hunter2'",
            "[client]\n'sasl.password' = 'hunter2'",
        ] {
            // The text itself, with its line, is whose it is to show: `segue config` does not.
            let error = toml::from_str::<Settings>(text).unwrap_err();
            assert!(!error.message().contains("hunter2"), "{error}");
            let names_the_place = [
                "{ env = ",
                "kafka.client_secrets",
                "kafka.security.password",
            ];
            let names = names_the_place.map(|name| error.message().contains(name));
            assert!(names.contains(&true), "{error}");
        }
    }
}
