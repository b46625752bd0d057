//! What can be set about checkpoints.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::CheckpointError;
use crate::secret::Secret;

/// Settings of checkpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointSettings {
    /// Where they are: a folder (made if it is not there), `file:///folder` or
    /// `s3://bucket/prefix`. One engine writes there.
    pub url: String,
    /// How often one is taken, at the next barrier.
    #[serde(with = "humantime_serde")]
    pub every: Duration,
    /// How many are kept, at least 2: where the newest is damaged, the one before is taken.
    pub keep: usize,
    /// How long the object store may take for one request, attempts included, before the
    /// checkpoint counts as failed.
    #[serde(with = "humantime_serde")]
    pub answer_within: Duration,
    /// How an `s3://` store is reached.
    pub s3: S3Settings,
}

impl Default for CheckpointSettings {
    fn default() -> Self {
        Self {
            url: "out/checkpoints".to_owned(),
            every: Duration::from_secs(10),
            keep: 3,
            answer_within: Duration::from_secs(30),
            s3: S3Settings::default(),
        }
    }
}

impl CheckpointSettings {
    /// # Errors
    /// [`CheckpointError::Settings`], naming the first key that cannot be.
    pub fn check(&self) -> Result<(), CheckpointError> {
        let wrong = |key, detail: &str| {
            Err(CheckpointError::Settings {
                key,
                detail: detail.to_owned(),
            })
        };
        if self.url.is_empty() {
            return wrong("url", "empty; give a folder or s3://bucket/prefix");
        }
        if self.every.is_zero() {
            return wrong("every", "is zero; give a duration such as 10s");
        }
        if self.keep < 2 {
            return wrong("keep", "below 2, so a damaged one would leave none");
        }
        if self.answer_within.is_zero() {
            return wrong("answer_within", "is zero; give a duration such as 30s");
        }
        Ok(())
    }

    /// The same for one of several engines that share the place: each writes below a name of its own,
    /// and reads what the others wrote.
    #[must_use]
    pub fn of_instance(&self, name: &str) -> Self {
        Self {
            url: format!("{}/instance-{name}", self.url.trim_end_matches('/')),
            ..self.clone()
        }
    }
}

/// How an `s3://` store is reached. What is not set here is looked for where Amazon's own tools look:
/// `AWS_*` variables, web identity, instance metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3Settings {
    /// Address of a server other than Amazon's, e.g. `https://minio.example:9000`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The bucket's region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Id of the access key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<Secret>,
    /// The access key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<Secret>,
    /// Token of a temporary access key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_token: Option<Secret>,
    /// Whether the endpoint may be spoken to without encryption: for one on this machine.
    pub allow_http: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_pass_and_what_cannot_be_is_named() {
        CheckpointSettings::default().check().unwrap();
        let with = |text: &str| toml::from_str::<CheckpointSettings>(text).unwrap();
        for (text, key) in [
            ("url = ''", "checkpoint.url"),
            ("every = '0s'", "checkpoint.every"),
            ("keep = 1", "checkpoint.keep"),
            ("answer_within = '0s'", "checkpoint.answer_within"),
        ] {
            let error = with(text).check().unwrap_err().to_string();
            assert!(error.starts_with(key), "{error}");
        }
    }

    #[test]
    fn an_unknown_key_is_an_error_and_a_secret_prints_its_place() {
        let error = toml::from_str::<CheckpointSettings>("evry = '1s'").unwrap_err();
        assert!(error.to_string().contains("evry"), "{error}");
        let text = "[s3]\nsecret_access_key = { env = \"KEY_VARIABLE\" }";
        let settings: CheckpointSettings = toml::from_str(text).unwrap();
        assert!(format!("{settings:?}").contains("KEY_VARIABLE"));
        let back = toml::to_string(&settings).unwrap();
        assert_eq!(
            toml::from_str::<CheckpointSettings>(&back).unwrap(),
            settings
        );
    }
}
