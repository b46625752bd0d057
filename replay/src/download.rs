//! Fetching a published log, after its licence was accepted, from its own address or a mirror.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use segue_fetch::{Address, Checksum, Client, Consent, DownloadError, DownloadProgress, Published};

/// A log that is published.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dataset {
    /// What it is called on the command line.
    pub name: String,
    /// What its file is called.
    pub file_name: String,
    /// Where it is to be had, the first that answers is taken.
    pub addresses: Vec<String>,
    /// The file's MD5, as published with it, in hexadecimal.
    pub md5: String,
    /// Its licence and whom to cite; shown before anything is fetched.
    pub notice: String,
}

impl Dataset {
    /// The data set of that name; `None` if it is not known.
    pub fn named(name: &str) -> Option<Self> {
        (name == "lastfm-1k").then(Self::lastfm_1k)
    }

    /// LastFM-1K: 19,150,868 plays of 992 listeners, 2005 to 2009, in a .tar.gz of 673 MB that is
    /// read as it is.
    pub fn lastfm_1k() -> Self {
        Self {
            name: "lastfm-1k".to_owned(),
            file_name: "lastfm-dataset-1K.tar.gz".to_owned(),
            addresses: vec![
                "http://mtg.upf.edu/static/datasets/last.fm/lastfm-dataset-1K.tar.gz".to_owned(),
                "https://zenodo.org/records/6090214/files/lastfm-dataset-1K.tar.gz?download=1"
                    .to_owned(),
            ],
            md5: "a79a6808f54f73354789a9fb02cb1e41".to_owned(),
            notice: "LastFM-1K (http://ocelma.net/MusicRecommendationDataset/lastfm-1K.html) is \
                     distributed with permission of Last.fm and available for non-commercial use \
                     only; for commercial use ask partners [at] last [dot] fm. Cite: O. Celma, \
                     Music Recommendation and Discovery in the Long Tail, Springer 2010."
                .to_owned(),
        }
    }

    fn published(&self) -> Published {
        Published {
            name: self.name.clone(),
            file_name: self.file_name.clone(),
            addresses: self.addresses.iter().map(Address::open).collect(),
            checksum: Some(Checksum::Md5(self.md5.clone())),
        }
    }
}

/// Why a data set was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The licence was not accepted.
    #[error("{notice} To fetch it, accept this by --accept-licence")]
    LicenceNotAccepted {
        /// The notice.
        notice: String,
    },
    /// The file did not come.
    #[error(transparent)]
    Download(#[from] DownloadError),
}

/// Fetches `dataset` into `folder` and gives the file's path; if it is there already, only checks it.
///
/// # Errors
/// See [`DatasetError`].
pub fn download(
    client: &Client,
    dataset: &Dataset,
    folder: &Path,
    consent: Consent,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(DownloadProgress),
) -> Result<PathBuf, DatasetError> {
    if consent == Consent::Missing {
        return Err(DatasetError::LicenceNotAccepted {
            notice: dataset.notice.clone(),
        });
    }
    let path = segue_fetch::download(client, &dataset.published(), folder, stop, watch)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A data set that lies in `folder` and nowhere else.
    fn here(folder: &Path) -> Dataset {
        std::fs::write(folder.join("log.tar.gz"), "hello\n").unwrap();
        Dataset {
            name: "test".to_owned(),
            file_name: "log.tar.gz".to_owned(),
            addresses: Vec::new(),
            md5: "b1946ac92492d2347c6235b4d2611184".to_owned(),
            notice: "for non-commercial use only.".to_owned(),
        }
    }

    fn fetch(dataset: &Dataset, folder: &Path, consent: Consent) -> Result<PathBuf, DatasetError> {
        let client = Client::from_environment().unwrap();
        let go = AtomicBool::new(false);
        download(&client, dataset, folder, consent, &go, &mut |_| {})
    }

    #[test]
    fn nothing_is_given_before_the_licence_is_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = here(folder.path());
        let error = fetch(&dataset, folder.path(), Consent::Missing);
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("non-commercial") && error.contains("--accept-licence"),
            "{error}"
        );
        let path = fetch(&dataset, folder.path(), Consent::Given).unwrap();
        assert_eq!(path, folder.path().join("log.tar.gz"));
    }

    #[test]
    fn the_file_is_held_against_what_was_published() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = here(folder.path());
        std::fs::write(folder.path().join("log.tar.gz"), "hullo\n").unwrap();
        let error = fetch(&dataset, folder.path(), Consent::Given);
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("MD5") && error.contains(&dataset.md5),
            "{error}"
        );
    }

    #[test]
    fn the_known_data_set_is_complete() {
        let known = Dataset::named("lastfm-1k").unwrap();
        assert!(known.addresses.len() > 1 && known.md5.len() == 32);
        assert!(known.notice.contains("non-commercial") && known.notice.contains("Celma"));
        assert!(Dataset::named("netflix").is_none());
    }
}
