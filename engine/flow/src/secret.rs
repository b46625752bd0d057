//! Secrets are named in the configuration, never written in it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where a secret is kept: `{ env = "AWS_SECRET" }` or `{ file = "/run/secrets/aws" }`. Printing it
/// prints the place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Secret {
    /// In an environment variable of this name.
    Env(String),
    /// In a file, whose last line break does not count.
    File(PathBuf),
}

/// A secret is not where the configuration says. Segue stops and names the place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {detail}")]
pub struct SecretError {
    /// The variable or file.
    pub place: String,
    /// What is wrong with it and what to do.
    pub detail: String,
}

impl Secret {
    /// The secret itself.
    ///
    /// # Errors
    /// The variable is not set, or the file cannot be read.
    pub fn reveal(&self) -> Result<String, SecretError> {
        match self {
            Self::Env(name) => std::env::var(name).map_err(|error| SecretError {
                place: format!("environment variable {name}"),
                detail: format!("{error}; set it, or name another"),
            }),
            Self::File(path) => std::fs::read_to_string(path)
                .map(|text| text.trim_end_matches(['\n', '\r']).to_owned())
                .map_err(|error| SecretError {
                    place: format!("file {}", path.display()),
                    detail: format!("{error}; make it readable"),
                }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_is_not_there_is_named() {
        let error = Secret::Env("SEGUE_NO_SUCH_SECRET".to_owned()).reveal();
        let error = error.unwrap_err().to_string();
        assert!(error.contains("SEGUE_NO_SUCH_SECRET"), "{error}");
        let error = Secret::File("/no/such/secret".into()).reveal();
        let error = error.unwrap_err().to_string();
        assert!(error.contains("/no/such/secret"), "{error}");
    }

    #[test]
    fn the_line_break_an_editor_leaves_does_not_count() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "key \r\n").unwrap();
        let secret = Secret::File(file.path().to_owned());
        assert_eq!(secret.reveal().unwrap(), "key ");
    }
}
