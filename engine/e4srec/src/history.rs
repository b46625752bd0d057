//! The adapters that a model has published, a folder each, for people to look at and to go back to.
//!
//! `000012/` holds the twelfth: the adapter in PEFT's own format, in `segue.safetensors` what learns
//! beside it (the projection, the heads), in `publication.json` when and from what it was learnt, written
//! last: a folder without it is none. `back-to` holds the version that somebody asks to go back to; the
//! model takes it up at the next barrier and publishes it as a new version, so that versions only grow.
//!
//! A checkpoint does not need any of it. What cannot be written is told and left out: answers go on.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use segue_nn::decoder::Decoder;
use segue_nn::peft::{self, PeftAbout, PeftTask};
use segue_nn::weights::Weights;
use tch::Tensor;
use thiserror::Error;

use crate::adapter::Publication;
use crate::error::ModelError;

const ABOUT: &str = "publication.json";
const BESIDE: &str = "segue.safetensors";
const BACK_TO: &str = "back-to";

/// What of the history cannot be read or written.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// A file that the system does not give or take.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A version that is not there.
    #[error(
        "{folder}: there is no adapter {version}: `segue adapters list` shows those that are kept"
    )]
    Missing {
        /// The history's folder.
        folder: PathBuf,
        /// What was asked for.
        version: u64,
    },
    /// What stands in a file is not what should.
    #[error("{path}: {problem}; remove this version's folder")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// By how much two versions of one layer's adapter differ.
#[derive(Clone, PartialEq, Debug, serde::Serialize)]
pub struct LayerDifference {
    /// The layer, as PEFT names it.
    pub layer: String,
    /// Frobenius norms of what each adds to the weight, `‖scale · B A‖`.
    pub norms: [f64; 2],
    /// The norm of the difference of the two.
    pub apart: f64,
    /// The cosine between them; `None` where one adds nothing.
    pub cosine: Option<f64>,
}

/// The folder of one model's adapters.
#[derive(Clone, Debug)]
pub struct AdapterHistory {
    folder: PathBuf,
    keep: usize,
}

impl AdapterHistory {
    /// In this folder, which need not be there yet; the newest `keep` versions stay.
    pub fn new(folder: &Path, keep: usize) -> Self {
        Self {
            folder: folder.to_path_buf(),
            keep: keep.max(1),
        }
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The adapters that are kept, oldest first.
    ///
    /// # Errors
    /// A folder or a `publication.json` that cannot be read. A folder that is not there holds none.
    pub fn list(&self) -> Result<Vec<Publication>, HistoryError> {
        let mut found = Vec::new();
        for version in self.versions()? {
            let path = self.of(version).join(ABOUT);
            let text = match std::fs::read(&path) {
                Ok(text) => text,
                // Its writing was interrupted.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(HistoryError::File { path, error }),
            };
            let publication = serde_json::from_slice(&text);
            found.push(publication.map_err(|error| HistoryError::Damaged {
                path,
                problem: error.to_string(),
            })?);
        }
        Ok(found)
    }

    /// What the second of two versions adds to each layer beside the first.
    ///
    /// # Errors
    /// A version that is not kept, or whose files cannot be read.
    pub fn difference(&self, a: u64, b: u64) -> Result<Vec<LayerDifference>, HistoryError> {
        let (before, after) = (self.additions(a)?, self.additions(b)?);
        let mut layers: Vec<&String> = before.keys().chain(after.keys()).collect();
        layers.sort_unstable();
        layers.dedup();
        let measured = layers.into_iter().map(|layer| {
            let norm = |tensor: &Tensor| tensor.f_norm()?.f_double_value(&[]);
            let (first, second) = (before.get(layer), after.get(layer));
            let of = |tensor: Option<&Tensor>| tensor.map_or(Ok(0.0), norm);
            let norms = [of(first)?, of(second)?];
            let (apart, product) = match (first, second) {
                (Some(first), Some(second)) => {
                    let product = first.f_mul(second)?.f_sum(tch::Kind::Float)?;
                    (norm(&second.f_sub(first)?)?, product.f_double_value(&[])?)
                }
                _ => (norms[0] + norms[1], 0.0),
            };
            let lengths = norms[0] * norms[1];
            Ok(LayerDifference {
                layer: layer.clone(),
                norms,
                apart,
                cosine: (lengths > 0.0).then(|| product / lengths),
            })
        });
        measured
            .collect::<Result<_, tch::TchError>>()
            .map_err(|error| self.damaged(b, error.to_string()))
    }

    /// Asks whoever keeps this history to go back to a version at the next barrier; a run that begins
    /// later is asked too.
    ///
    /// # Errors
    /// A version that is not kept, or a folder that cannot be written.
    pub fn ask_back(&self, version: u64) -> Result<(), HistoryError> {
        if !self.list()?.iter().any(|kept| kept.version == version) {
            return Err(self.missing(version));
        }
        self.put(&self.folder.join(BACK_TO), version.to_string().as_bytes())
    }

    /// The version that somebody asked to go back to, once.
    pub(crate) fn asked_back(&self) -> Result<Option<u64>, HistoryError> {
        let path = self.folder.join(BACK_TO);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(HistoryError::File { path, error }),
        };
        std::fs::remove_file(&path).map_err(|error| HistoryError::File {
            path: path.clone(),
            error,
        })?;
        let version = text.trim().parse().map_err(|_| HistoryError::Damaged {
            path,
            problem: format!("`{}` is no version", text.trim()),
        })?;
        Ok(Some(version))
    }

    /// Keeps what was published: the decoder's adapter, and `beside` what learns beside it.
    pub(crate) fn keep(
        &self,
        publication: &Publication,
        decoder: &Decoder,
        beside: &[(String, Tensor)],
    ) -> Result<(), ModelError> {
        let folder = self.of(publication.version);
        let about = PeftAbout {
            task: PeftTask::FeatureExtraction,
            base_model: None,
        };
        peft::write(&folder, decoder, &about)?;
        let path = folder.join(BESIDE);
        let tensors: Vec<(&str, Tensor)> = beside
            .iter()
            .map(|(name, tensor)| Ok((name.as_str(), tensor.f_detach()?.f_contiguous()?)))
            .collect::<Result<_, tch::TchError>>()?;
        Tensor::write_safetensors(&tensors, &path)?;
        let text = serde_json::to_vec_pretty(publication);
        let text = text.map_err(|error| self.damaged(publication.version, error.to_string()))?;
        self.put(&folder.join(ABOUT), &text)?;
        // Those that come after it are of a run that was given up: this one goes its own way.
        let (mut gone, later): (Vec<u64>, Vec<u64>) = self
            .versions()?
            .into_iter()
            .partition(|&version| version <= publication.version);
        gone.truncate(gone.len().saturating_sub(self.keep));
        gone.extend(later);
        for version in gone {
            let path = self.of(version);
            std::fs::remove_dir_all(&path).map_err(|error| HistoryError::File { path, error })?;
        }
        Ok(())
    }

    /// Reads a version's adapter into a decoder, and gives what was kept beside it.
    pub(crate) fn read(
        &self,
        version: u64,
        decoder: &mut Decoder,
    ) -> Result<HashMap<String, Tensor>, ModelError> {
        let folder = self.of(version);
        if !folder.join(ABOUT).is_file() {
            return Err(self.missing(version).into());
        }
        peft::read(&folder, decoder)?;
        Ok(Tensor::read_safetensors(folder.join(BESIDE))?
            .into_iter()
            .collect())
    }

    /// What a version adds to each layer, `scale · B A`, `[output, input]`.
    fn additions(&self, version: u64) -> Result<HashMap<String, Tensor>, HistoryError> {
        let folder = self.of(version);
        if !folder.join(ABOUT).is_file() {
            return Err(self.missing(version));
        }
        let wrong = |problem: String| self.damaged(version, problem);
        let scale = peft::scale(&folder).map_err(|error| wrong(error.to_string()))?;
        let weights = Weights::open(&folder.join("adapter_model.safetensors"));
        let weights = weights.map_err(|error| wrong(error.to_string()))?;
        let mut additions = HashMap::new();
        for name in weights.names() {
            let Some(layer) = name.strip_suffix(".lora_A.weight") else {
                continue;
            };
            let b = format!("{layer}.lora_B.weight");
            let (a, b) = match (weights.get(&name), weights.get(&b)) {
                (Ok(a), Ok(b)) => (a, b),
                (Err(error), _) | (_, Err(error)) => return Err(wrong(error.to_string())),
            };
            let product = b
                .f_matmul(&a)
                .and_then(|product| product.f_mul_scalar(scale));
            let product = product.map_err(|error| wrong(error.to_string()))?;
            additions.insert(layer.to_owned(), product);
        }
        Ok(additions)
    }

    /// The folders with a version's name, ascending.
    fn versions(&self) -> Result<Vec<u64>, HistoryError> {
        let read = match std::fs::read_dir(&self.folder) {
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.file(error)),
        };
        let mut versions = Vec::new();
        for entry in read {
            let entry = entry.map_err(|error| self.file(error))?;
            let version = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            versions.extend(version.filter(|&version| entry.path() == self.of(version)));
        }
        versions.sort_unstable();
        Ok(versions)
    }

    fn of(&self, version: u64) -> PathBuf {
        self.folder.join(format!("{version:06}"))
    }

    /// Writes a file so that it is there whole or not at all.
    fn put(&self, path: &Path, bytes: &[u8]) -> Result<(), HistoryError> {
        let part = path.with_extension("part");
        let written = std::fs::write(&part, bytes).and_then(|()| std::fs::rename(&part, path));
        written.map_err(|error| HistoryError::File {
            path: path.to_path_buf(),
            error,
        })
    }

    fn file(&self, error: std::io::Error) -> HistoryError {
        HistoryError::File {
            path: self.folder.clone(),
            error,
        }
    }

    fn missing(&self, version: u64) -> HistoryError {
        HistoryError::Missing {
            folder: self.folder.clone(),
            version,
        }
    }

    fn damaged(&self, version: u64, problem: String) -> HistoryError {
        HistoryError::Damaged {
            path: self.of(version),
            problem,
        }
    }
}
