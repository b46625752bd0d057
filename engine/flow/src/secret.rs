//! Secrets are named in the configuration, never written in it.

use std::env::VarError;
use std::path::PathBuf;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

/// Where a secret is kept: `{ env = "AWS_SECRET" }` or `{ file = "/run/secrets/aws" }`. Printing it
/// prints the place, and so does writing it out: the secret itself is never in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", try_from = "Written")]
pub enum Secret {
    /// In an environment variable of this name.
    Env(String),
    /// In a file, whose last line break does not count.
    File(PathBuf),
}

/// What stands in the configuration. Who writes the secret itself there is told so, and the message
/// does not repeat it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Place(Place),
    Other(IgnoredAny),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Place {
    Env(String),
    File(PathBuf),
}

impl TryFrom<Written> for Secret {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        match written {
            Written::Place(Place::Env(name)) => Ok(Self::Env(name)),
            Written::Place(Place::File(path)) => Ok(Self::File(path)),
            Written::Other(IgnoredAny) => Err(
                "a secret is not written here: name its place, { env = \"NAME\" } or \
                 { file = \"PATH\" }",
            ),
        }
    }
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
    /// The secret itself: for the client that needs it, and for nothing that is printed.
    ///
    /// # Errors
    /// The variable is not set, or the file cannot be read; it is empty, or no text.
    pub fn reveal(&self) -> Result<String, SecretError> {
        let wrong = |detail: String| SecretError {
            place: self.place(),
            detail,
        };
        let secret = match self {
            Self::Env(name) => std::env::var(name).map_err(|error| match error {
                VarError::NotPresent => wrong("is not set; set it, or name another".to_owned()),
                // This error would quote it.
                VarError::NotUnicode(_) => wrong("is not UTF-8; set it to text".to_owned()),
            })?,
            Self::File(path) => std::fs::read_to_string(path)
                .map(|text| text.trim_end_matches(['\n', '\r']).to_owned())
                .map_err(|error| wrong(format!("{error}; make it readable")))?,
        };
        if secret.is_empty() {
            return Err(wrong("is empty; put the secret there".to_owned()));
        }
        if secret.contains('\0') {
            return Err(wrong("holds a NUL, which no secret has".to_owned()));
        }
        Ok(secret)
    }

    fn place(&self) -> String {
        match self {
            Self::Env(name) => format!("environment variable {name}"),
            Self::File(path) => format!("file {}", path.display()),
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

    #[test]
    fn what_cannot_be_a_secret_is_refused_and_not_quoted() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let secret = Secret::File(file.path().to_owned());
        for (bytes, word) in [
            (&b"\n"[..], "empty"),
            (b"hunter2\0", "NUL"),
            (b"hunter2\xff", "UTF-8"),
        ] {
            std::fs::write(file.path(), bytes).unwrap();
            let error = secret.reveal().unwrap_err();
            let said = format!("{error} {error:?}");
            assert!(said.contains(word) && !said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn who_writes_the_secret_itself_is_told_so_and_not_quoted() {
        #[derive(Debug, Deserialize)]
        struct Settings {
            #[expect(dead_code, reason = "it is refused")]
            password: Secret,
        }
        for json in [
            r#""hunter2""#,
            "[\"hunter2\"]",
            r#"{"enviroment":"hunter2"}"#,
            r#"{"env":"A","file":"hunter2"}"#,
            r#"{"env":["hunter2"]}"#,
            "7777777",
            "true",
        ] {
            let json = format!("{{\"password\":{json}}}");
            let error = serde_json::from_str::<Settings>(&json).unwrap_err();
            let said = format!("{error} {error:?}");
            assert!(said.contains("{ env = "), "{said}");
            assert!(!said.contains("hunter2") && !said.contains("777"), "{said}");
        }
    }

    #[test]
    fn it_is_printed_and_written_as_its_place() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hunter2").unwrap();
        let secret = Secret::File(file.path().to_owned());
        assert_eq!(secret.reveal().unwrap(), "hunter2");
        let written = serde_json::to_string(&secret).unwrap();
        let printed = format!("{secret:?} {written}");
        let place = file.path().display().to_string();
        assert!(printed.contains(&place), "{printed}");
        assert!(!printed.contains("hunter2"), "{printed}");
        assert_eq!(serde_json::from_str::<Secret>(&written).unwrap(), secret);
    }
}
