//! HTTP with the machine's proxies and certificates, and addresses that print without what is secret
//! in them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use segue_flow::clock::{MachineClock, WallClock};
use segue_flow::secret::{Secret, SecretError};
use ureq::config::RedirectAuthHeaders;
use ureq::http::Response;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};
use url::{Host, Url};

/// How often in a row an address may fail without having brought anything.
pub(crate) const ATTEMPTS: u32 = 4;
/// Before the second attempt; twice as long before each further one.
const PAUSE: Duration = Duration::from_secs(1);

const CONNECT_WITHIN: Duration = Duration::from_secs(30);
/// A server that is silent for so long is given up.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Bytes of a reply that is read as a whole.
const LONGEST_REPLY: u64 = 16 << 20;

/// Variables that name a file of certificates, as other programs read them; the first that is set.
const CERTIFICATES: [&str; 3] = ["SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE"];

/// Where something is to be had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    url: String,
    token: Option<Secret>,
}

impl Address {
    /// An address that wants no token.
    pub fn open(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            token: None,
        }
    }

    /// An address that a token may be shown to.
    pub fn with_token(url: impl Into<String>, token: Option<Secret>) -> Self {
        Self {
            url: url.into(),
            token,
        }
    }

    /// Whether it is a server on this machine.
    pub fn is_local(&self) -> bool {
        loopback(&self.url)
    }

    /// A text without the token, where a server repeats it.
    pub fn masked(&self, text: &str) -> String {
        match self.token.as_ref().map(Secret::reveal) {
            Some(Ok(token)) => text.replace(&token, "***"),
            _ => text.to_owned(),
        }
    }

    /// What goes into the request.
    fn authorization(&self) -> Result<Option<String>, ClientError> {
        let Some(token) = &self.token else {
            return Ok(None);
        };
        if !private(&self.url) {
            return Err(ClientError::Eavesdropped(self.to_string()));
        }
        Ok(Some(format!("Bearer {}", token.reveal()?)))
    }
}

/// Nobody on the way can read what is sent there: it is encrypted, or does not leave the machine.
fn private(url: &str) -> bool {
    loopback(url) || Url::parse(url).is_ok_and(|url| url.scheme() == "https")
}

fn loopback(url: &str) -> bool {
    match Url::parse(url).as_ref().map(Url::host) {
        Ok(Some(Host::Ipv4(ip))) => ip.is_loopback(),
        Ok(Some(Host::Ipv6(ip))) => ip.is_loopback(),
        Ok(Some(Host::Domain(name))) => name == "localhost",
        _ => false,
    }
}

/// Without user, password and query, any of which may be secret.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Url::parse(&self.url) {
            Ok(mut url) => {
                // An address that has no place for them has none.
                _ = url.set_username("");
                _ = url.set_password(None);
                url.set_query(None);
                url.set_fragment(None);
                write!(f, "{url}")
            }
            Err(_) => f.write_str("an address that is none"),
        }
    }
}

/// A request that is not even sent.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The token is not where it should be.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A token would go over the network for everybody to read.
    #[error("a token is not sent to {0} without encryption: use https, or go without the token")]
    Eavesdropped(String),
    /// The certificates of this machine cannot be used.
    #[error("{variable} names {path} as the file of certificates: {detail}; correct or unset it")]
    Certificates {
        /// The variable that names the file.
        variable: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
}

/// What became of a request.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The connection broke, or the server is busy: worth another attempt.
    #[error("{0}")]
    Broken(String),
    /// It was not sent.
    #[error(transparent)]
    NotSent(ClientError),
}

/// What a server said to something that was sent there.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// The status, whatever it is.
    pub status: u16,
    /// When to ask again (`Retry-After`), as it was written.
    pub retry_after: Option<String>,
    /// The server's own time of day (`Date`).
    pub date: Option<String>,
    /// The text; bytes that are none are replaced.
    pub text: String,
}

/// An HTTP client.
#[derive(Clone)]
pub struct Client {
    agent: Agent,
    clock: Arc<dyn WallClock>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// A client that goes through the proxy that the environment names (`HTTPS_PROXY`, `NO_PROXY`, …)
    /// and trusts the certificates that `SSL_CERT_FILE`, `PIP_CERT` or `REQUESTS_CA_BUNDLE` names,
    /// else Mozilla's.
    ///
    /// # Errors
    /// A file of certificates that cannot be read or holds none.
    pub fn from_environment() -> Result<Self, ClientError> {
        let roots = match certificates()? {
            Some(roots) => roots,
            None => RootCerts::WebPki,
        };
        let clock = Arc::new(MachineClock::start());
        Ok(Self::new(ureq::Proxy::try_from_env(), roots, clock))
    }

    /// A client without a proxy, for servers on this machine.
    pub fn straight() -> Self {
        let clock = Arc::new(MachineClock::start());
        Self::new(None, RootCerts::WebPki, clock)
    }

    pub(crate) fn new(
        proxy: Option<ureq::Proxy>,
        roots: RootCerts,
        clock: Arc<dyn WallClock>,
    ) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_WITHIN))
            .timeout_recv_response(Some(ANSWER_WITHIN))
            .timeout_per_read(Some(ANSWER_WITHIN))
            // The hub sends large files on to another host, which must not see the token.
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .user_agent(concat!("segue/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .proxy(proxy)
            .build()
            .new_agent();
        Self { agent, clock }
    }

    /// What lies at `address` from a byte on, redirections followed.
    pub(crate) fn get(&self, address: &Address, from: u64) -> Result<Response<Body>, Failure> {
        let authorization = address.authorization().map_err(Failure::NotSent)?;
        let mut request = self.agent.get(&address.url);
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        request.call().map_err(|error| broken(&error))
    }

    /// What a server says of `address`, redirections not followed.
    pub(crate) fn head(&self, address: &Address) -> Result<Response<Body>, Failure> {
        let authorization = address.authorization().map_err(Failure::NotSent)?;
        let request = self.agent.head(&address.url);
        let mut request = request.config().max_redirects(0).build();
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        request.call().map_err(|error| broken(&error))
    }

    /// Sends JSON to `address` and reads the whole reply, redirections not followed: what is sent is for
    /// that address.
    ///
    /// # Errors
    /// It was not sent; or no whole reply of up to 16 MiB came `within` so long.
    pub fn post_json(
        &self,
        address: &Address,
        json: &str,
        within: Duration,
    ) -> Result<Reply, Failure> {
        let authorization = address.authorization().map_err(Failure::NotSent)?;
        let request = self.agent.post(&address.url);
        let mut request = request
            .config()
            .max_redirects(0)
            .timeout_global(Some(within))
            .timeout_recv_response(Some(within))
            .timeout_per_read(Some(within))
            .build()
            .header("content-type", "application/json");
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        let mut response = request.send(json).map_err(|error| broken(&error))?;
        let body = response.body_mut().with_config().limit(LONGEST_REPLY);
        let text = body.lossy_utf8(true).read_to_string();
        Ok(Reply {
            status: response.status().as_u16(),
            retry_after: header(&response, "retry-after"),
            date: header(&response, "date"),
            text: text.map_err(|error| broken(&error))?,
        })
    }

    /// Asks again and again while the answer is that it is worth it.
    pub(crate) fn patiently(
        &self,
        ask: impl Fn() -> Result<Response<Body>, Failure>,
    ) -> Result<Response<Body>, Failure> {
        let mut failures = 0;
        loop {
            let detail = match ask() {
                Ok(response) if !busy(response.status().as_u16()) => return Ok(response),
                Ok(response) => format!("answered with status {}", response.status().as_u16()),
                Err(Failure::Broken(detail)) => detail,
                Err(other) => return Err(other),
            };
            failures += 1;
            if failures >= ATTEMPTS {
                return Err(Failure::Broken(detail));
            }
            self.pause_before(failures);
        }
    }

    /// Waits before an attempt that follows so many failures in a row.
    pub(crate) fn pause_before(&self, failures: u32) {
        if failures > 0 {
            self.clock.sleep(PAUSE * 2u32.saturating_pow(failures - 1));
        }
    }
}

/// Statuses that another attempt may change.
pub fn busy(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..=599)
}

/// A header's text.
pub(crate) fn header(response: &Response<Body>, name: &str) -> Option<String> {
    let value = response.headers().get(name)?;
    value.to_str().ok().map(str::to_owned)
}

fn broken(error: &ureq::Error) -> Failure {
    Failure::Broken(error.to_string())
}

fn certificates() -> Result<Option<RootCerts>, ClientError> {
    let named = |variable| {
        let path = std::env::var_os(variable).filter(|path| !path.is_empty())?;
        Some((variable, PathBuf::from(path)))
    };
    let Some((variable, path)) = CERTIFICATES.into_iter().find_map(named) else {
        return Ok(None);
    };
    let wrong = |detail: String| ClientError::Certificates {
        variable,
        path: path.clone(),
        detail,
    };
    let text = std::fs::read(&path).map_err(|error| wrong(error.to_string()))?;
    let mut found = Vec::new();
    for item in parse_pem(&text) {
        if let PemItem::Certificate(one) = item.map_err(|error| wrong(error.to_string()))? {
            found.push(one);
        }
    }
    if found.is_empty() {
        return Err(wrong("there is no certificate in it".to_owned()));
    }
    Ok(Some(found.into_iter().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_prints_without_its_secrets() {
        let address = Address::with_token(
            "https://me:hunter2@example.org/a/b?signature=hunter3#hunter4",
            Some(Secret::Env("SEGUE_NO_SUCH_TOKEN".to_owned())),
        );
        let printed = address.to_string();
        assert_eq!(printed, "https://example.org/a/b");
    }

    #[test]
    fn a_token_that_a_server_repeats_is_masked() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hunter2\n").unwrap();
        let token = Some(Secret::File(file.path().to_owned()));
        let address = Address::with_token("https://example.org/", token);
        let said = address.masked("wrong key: hunter2 (hunter2)");
        assert_eq!(said, "wrong key: *** (***)");
        assert_eq!(Address::open("http://x/").masked("hunter2"), "hunter2");
    }

    #[test]
    fn a_token_is_not_shown_to_everybody() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hunter2\n").unwrap();
        let token = || Some(Secret::File(file.path().to_owned()));
        for (url, sent) in [
            ("https://example.org/", true),
            ("http://127.0.0.1:8080/", true),
            ("http://localhost/", true),
            ("http://[::1]/", true),
            ("http://example.org/", false),
            ("http://127.0.0.1.example.org/", false),
        ] {
            let address = Address::with_token(url, token());
            match address.authorization() {
                Ok(value) => assert_eq!(value.as_deref(), sent.then_some("Bearer hunter2")),
                Err(error) => {
                    let said = format!("{error} {error:?}");
                    assert!(!sent && said.contains("https"), "{url}: {said}");
                    assert!(!said.contains("hunter2"), "{said}");
                }
            }
        }
        assert_eq!(Address::open("http://x/").authorization().unwrap(), None);
    }
}
