//! Secrets are named in the configuration, never written in it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::KafkaError;

/// Where a secret is kept: `{ env = "KAFKA_PASSWORD" }` or `{ file = "/run/secrets/kafka" }`.
/// Printing it prints the place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Secret {
    /// In an environment variable of this name.
    Env(String),
    /// In a file, whose last line break does not count.
    File(PathBuf),
}

impl Secret {
    /// The secret itself.
    ///
    /// # Errors
    /// [`KafkaError::Refused`], naming the variable or file and the key that asked for it.
    pub fn reveal(&self, key: &str) -> Result<String, KafkaError> {
        let refused = |detail: String| KafkaError::Refused {
            what: format!("kafka.{key}"),
            detail,
        };
        match self {
            Self::Env(name) => std::env::var(name).map_err(|error| {
                refused(format!(
                    "environment variable {name}: {error}; set it, or name another"
                ))
            }),
            Self::File(path) => std::fs::read_to_string(path)
                .map(|text| text.trim_end_matches(['\n', '\r']).to_owned())
                .map_err(|error| {
                    refused(format!(
                        "file {}: {error}; make it readable",
                        path.display()
                    ))
                }),
        }
    }
}
