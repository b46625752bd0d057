//! The Hugging Face hub, or a mirror that speaks as it does: which commit a revision is, what lies
//! there, and what the hub says of a file before it is fetched.

use segue_flow::secret::Secret;
use serde::Deserialize;
use ureq::Body;
use ureq::http::Response;
use url::Url;

use crate::checksum::Checksum;
use crate::client::{Address, Client, ClientError, Failure, header};

/// The hub itself.
pub const ENDPOINT: &str = "https://huggingface.co";
/// Repositories that were renamed answer with their new place; this often, at most.
const MOVES: usize = 5;

/// The hub and who asks.
#[derive(Clone, Debug)]
pub struct Hub {
    endpoint: String,
    token: Option<Secret>,
}

/// A repository at one commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// The commit, in hexadecimal.
    pub commit: String,
    /// Paths of all its files.
    pub files: Vec<String>,
}

/// What the hub says of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HubFile {
    /// Its length.
    pub bytes: Option<u64>,
    /// SHA-256 of a large file, git's hash of a small one; a mirror may leave it out.
    pub checksum: Option<Checksum>,
}

/// Why the hub says nothing.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// It could not be reached. A later attempt may do better.
    #[error(
        "{address}: {detail}; is this machine offline? Check the network or the proxy, or name a mirror by --endpoint or HF_ENDPOINT"
    )]
    Unreachable {
        /// What was asked.
        address: String,
        /// What happened.
        detail: String,
    },
    /// It wants to know who asks, or does not let them in.
    #[error("{}", denied(.repository, .endpoint, *.status, *.token))]
    Denied {
        /// The repository.
        repository: String,
        /// The hub.
        endpoint: String,
        /// 401 or 403.
        status: u16,
        /// Whether a token was shown.
        token: bool,
    },
    /// There is no such repository, revision or file.
    #[error("{address} is not there (status {status}): check the revision, or the mirror")]
    NotFound {
        /// What was asked.
        address: String,
        /// What the hub said.
        status: u16,
    },
    /// It answers as no hub does.
    #[error("{address} does not answer as a hub does: {detail}; is the endpoint right?")]
    Unexpected {
        /// What was asked.
        address: String,
        /// What is strange.
        detail: String,
    },
    /// The request was not sent.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// How to be let in.
fn denied(repository: &str, endpoint: &str, status: u16, token: bool) -> String {
    let why = match token {
        false => "without a token it gives nothing of it",
        true => {
            "it does not let the owner of this token in: access may not be granted yet, or the \
             token lacks the right to read gated repositories"
        }
    };
    format!(
        "{endpoint} answered with status {status} for {repository}: {why}. To get in: sign in at \
         {endpoint}, open {endpoint}/{repository} and accept its terms; make a token that may read \
         at {endpoint}/settings/tokens; put it into the environment as HF_TOKEN, or into a file and \
         name that by --token-file"
    )
}

#[derive(Deserialize)]
struct Told {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Hub {
    /// A hub at an endpoint such as [`ENDPOINT`]; a token opens what is not for everybody.
    pub fn new(endpoint: &str, token: Option<Secret>) -> Self {
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token,
        }
    }

    /// What a repository (`owner/name`) holds at a revision (branch, tag or commit).
    ///
    /// # Errors
    /// See [`HubError`].
    pub fn snapshot(
        &self,
        client: &Client,
        repository: &str,
        revision: &str,
    ) -> Result<Snapshot, HubError> {
        let segments = ["api", "models"].into_iter().chain(repository.split('/'));
        let address = self.address(segments.chain(["revision", revision]))?;
        let answer = client.patiently(|| client.get(&address, 0));
        let mut response = self.granted(repository, &address, answer)?;
        let unexpected = |detail: String| HubError::Unexpected {
            address: address.to_string(),
            detail,
        };
        let body = response.body_mut();
        let text = body
            .read_to_string()
            .map_err(|error| unexpected(format!("its answer cannot be read ({error})")))?;
        let told: Told = serde_json::from_str(&text)
            .map_err(|error| unexpected(format!("no commit and files ({error})")))?;
        if told.sha.is_empty() || !told.sha.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(unexpected("its commit is none".to_owned()));
        }
        let files = told.siblings.into_iter().map(|sibling| sibling.rfilename);
        Ok(Snapshot {
            commit: told.sha,
            files: files.collect(),
        })
    }

    /// What it says of a file at a commit.
    ///
    /// # Errors
    /// See [`HubError`].
    pub fn file(
        &self,
        client: &Client,
        repository: &str,
        commit: &str,
        path: &str,
    ) -> Result<HubFile, HubError> {
        let mut address = self.file_address(repository, commit, path)?;
        for _ in 0..MOVES {
            let answer = client.patiently(|| client.head(&address));
            let response = self.granted(repository, &address, answer)?;
            // To the store of large files it is another host, and what matters is said before.
            if let Some(place) = header(&response, "location").filter(|to| to.starts_with('/')) {
                let moved = Url::parse(&self.endpoint).and_then(|base| base.join(&place));
                let moved = moved.map_err(|error| HubError::Unexpected {
                    address: address.to_string(),
                    detail: format!("it leads nowhere ({error})"),
                })?;
                address = Address::with_token(moved, self.token.clone());
                continue;
            }
            let linked = header(&response, "x-linked-etag");
            let tag = linked.or_else(|| header(&response, "etag"));
            let bytes = header(&response, "x-linked-size").or_else(|| {
                // Of a redirection it would be the length of that.
                let length = header(&response, "content-length")?;
                response.status().is_success().then_some(length)
            });
            return Ok(HubFile {
                bytes: bytes.and_then(|bytes| bytes.parse().ok()),
                checksum: tag.as_deref().and_then(tagged),
            });
        }
        Err(HubError::Unexpected {
            address: address.to_string(),
            detail: "it leads on and on".to_owned(),
        })
    }

    /// Where a file at a commit is to be had, without asking.
    ///
    /// # Errors
    /// The endpoint is no address.
    pub fn file_address(
        &self,
        repository: &str,
        commit: &str,
        path: &str,
    ) -> Result<Address, HubError> {
        let segments = repository.split('/').chain(["resolve", commit]);
        self.address(segments.chain(path.split('/')))
    }

    /// An address under the endpoint; a segment may hold anything, slashes too.
    fn address<'a>(&self, segments: impl Iterator<Item = &'a str>) -> Result<Address, HubError> {
        let wrong = |detail: String| HubError::Unexpected {
            address: self.endpoint.clone(),
            detail,
        };
        let mut url = Url::parse(&self.endpoint).map_err(|error| wrong(error.to_string()))?;
        url.path_segments_mut()
            .map_err(|()| wrong("it is no address of a server".to_owned()))?
            .pop_if_empty()
            .extend(segments);
        Ok(Address::with_token(url, self.token.clone()))
    }

    fn granted(
        &self,
        repository: &str,
        address: &Address,
        answer: Result<Response<Body>, Failure>,
    ) -> Result<Response<Body>, HubError> {
        let response = answer.map_err(|failure| match failure {
            Failure::NotSent(error) => error.into(),
            Failure::Broken(detail) => HubError::Unreachable {
                address: address.to_string(),
                detail,
            },
        })?;
        match response.status().as_u16() {
            200..=399 => Ok(response),
            status @ (401 | 403) => Err(self.denied(repository, status)),
            status => Err(HubError::NotFound {
                address: address.to_string(),
                status,
            }),
        }
    }

    /// The error of somebody who is not let in.
    pub(crate) fn denied(&self, repository: &str, status: u16) -> HubError {
        HubError::Denied {
            repository: repository.to_owned(),
            endpoint: self.endpoint.clone(),
            status,
            token: self.token.is_some(),
        }
    }
}

/// The checksum in an entity tag: 64 digits are SHA-256, 40 are git's.
fn tagged(tag: &str) -> Option<Checksum> {
    let digits = tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"');
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let digits = digits.to_ascii_lowercase();
    match digits.len() {
        64 => Some(Checksum::Sha256(digits)),
        40 => Some(Checksum::GitBlob(digits)),
        _ => None,
    }
}

#[cfg(test)]
#[path = "hub_tests.rs"]
mod tests;
