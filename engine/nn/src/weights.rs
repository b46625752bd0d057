//! Published checkpoints as named tensors.
//!
//! [`Weights`] hides what kind of file a tensor comes from: safetensors (one file or shards),
//! GGUF, or memory. Names are those of Hugging Face checkpoints in all cases, values are `f32` on
//! the CPU; the model that loads them moves and narrows them. Files are mapped, not read: a tensor
//! that nobody asks for costs nothing.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tch::{Kind, Tensor};
use thiserror::Error;

pub(crate) mod blocks;
mod dequantise;
pub mod gguf;
mod gguf_names;
mod mapped;
mod safetensors;

use self::blocks::{BLOCK, Blocks};
use self::gguf::Gguf;
use self::safetensors::Shards;
use crate::NnError;
use crate::packed::Packed;

/// A checkpoint that cannot be used, and where it is damaged.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// The file cannot be opened or mapped.
    #[error("weights {path}: {error}; for the bundled models, run `make setup`")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The folder holds no checkpoint that is understood.
    #[error(
        "weights {0}: neither model.safetensors, model.safetensors.index.json nor a .gguf file is \
         in there; for the bundled models, run `make setup`"
    )]
    NotFound(PathBuf),
    /// The file is cut short or not what its name says.
    #[error("weights {path}: {problem}; fetch the file again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and at which tensor or key.
        problem: String,
    },
    /// The checkpoint is whole but lacks a tensor.
    #[error("weights {path}: no tensor `{tensor}`; is it a checkpoint of another model?")]
    Missing {
        /// The file.
        path: PathBuf,
        /// The name that was asked for.
        tensor: String,
    },
    /// The tensor is there in another shape.
    #[error(
        "weights {path}: tensor `{tensor}` is {got:?}, the model needs {expected:?}; do the \
         configuration and the weights belong together?"
    )]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What the model needs.
        expected: Vec<i64>,
        /// What the file has.
        got: Vec<i64>,
    },
    /// The tensor is stored in a format that is not supported.
    #[error("weights {path}: tensor `{tensor}` is stored as {format}, which is not supported")]
    Format {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The name or number of the format.
        format: String,
    },
    /// libtorch could not hold the tensor.
    #[error("weights {path}: tensor `{tensor}`: {error}")]
    Torch {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What libtorch said.
        error: tch::TchError,
    },
}

/// An open checkpoint.
#[derive(Debug)]
pub struct Weights {
    path: PathBuf,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Safetensors(Shards),
    Gguf(Box<Gguf>),
    Memory(HashMap<String, Tensor>),
}

impl Weights {
    /// Opens a checkpoint: a `.safetensors` or `.gguf` file, or a folder that holds one.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let file = if path.is_dir() {
            find_in(path)?
        } else {
            path.to_path_buf()
        };
        let source = if file.extension().is_some_and(|e| e == "gguf") {
            Source::Gguf(Box::new(Gguf::open(&file)?))
        } else {
            Source::Safetensors(Shards::open(&file)?)
        };
        Ok(Self { path: file, source })
    }

    /// Tensors that are already in memory, for tests and for models that start from chance.
    pub fn from_memory(name: &str, tensors: HashMap<String, Tensor>) -> Self {
        Self {
            path: PathBuf::from(name),
            source: Source::Memory(tensors),
        }
    }

    /// The file, or the first of the shards, that this was opened from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The GGUF file behind this, whose metadata holds the configuration and the tokenizer.
    pub fn gguf(&self) -> Option<&Gguf> {
        match &self.source {
            Source::Gguf(gguf) => Some(gguf),
            _ => None,
        }
    }

    /// All names, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = match &self.source {
            Source::Safetensors(shards) => shards.names().map(String::from).collect(),
            Source::Gguf(gguf) => gguf.names().map(String::from).collect(),
            Source::Memory(tensors) => tensors.keys().cloned().collect(),
        };
        names.sort_unstable();
        names
    }

    /// Whether a tensor of this name is there.
    pub fn contains(&self, name: &str) -> bool {
        match &self.source {
            Source::Safetensors(shards) => shards.contains(name),
            Source::Gguf(gguf) => gguf.contains(name),
            Source::Memory(tensors) => tensors.contains_key(name),
        }
    }

    /// The shape of a tensor, outermost dimension first, without reading its values.
    pub fn shape(&self, name: &str) -> Option<Vec<i64>> {
        match &self.source {
            Source::Safetensors(shards) => shards.shape(name),
            Source::Gguf(gguf) => gguf.shape(name).map(<[i64]>::to_vec),
            Source::Memory(tensors) => tensors.get(name).map(Tensor::size),
        }
    }

    /// A tensor, dequantised to `f32`, on the CPU, owning its values.
    pub fn get(&self, name: &str) -> Result<Tensor, WeightsError> {
        let found = match &self.source {
            Source::Safetensors(shards) => shards.get(name)?,
            Source::Gguf(gguf) => gguf.get(name)?,
            Source::Memory(tensors) => match tensors.get(name) {
                None => None,
                Some(tensor) => {
                    let made = tensor.f_to_kind(Kind::Float).and_then(|t| t.f_copy());
                    Some(made.map_err(|error| self.torch(name, error))?)
                }
            },
        };
        found.ok_or_else(|| WeightsError::Missing {
            path: self.path.clone(),
            tensor: name.to_string(),
        })
    }

    /// A tensor of exactly this shape.
    pub fn get_shaped(&self, name: &str, shape: &[i64]) -> Result<Tensor, WeightsError> {
        let tensor = self.get(name)?;
        if tensor.size() != shape {
            return Err(WeightsError::Shape {
                path: self.path.clone(),
                tensor: name.to_string(),
                expected: shape.to_vec(),
                got: tensor.size(),
            });
        }
        Ok(tensor)
    }

    /// A matrix of exactly this shape, `[output, input]`, in blocks of four bits, on the CPU: those
    /// that the file has, if it has such, else the nearest to its values.
    pub fn get_packed(&self, name: &str, (output, input): (i64, i64)) -> Result<Packed, NnError> {
        if input % BLOCK as i64 != 0 {
            return Err(NnError::Config(format!(
                "`{name}` has rows of {input} values; packed ones are whole blocks of {BLOCK}"
            )));
        }
        if let Source::Gguf(gguf) = &self.source
            && gguf.shape(name) == Some(&[output, input][..])
            && let Some(packed) = gguf.packed(name)?
        {
            return Ok(packed);
        }
        let tensor = self.get_shaped(name, &[output, input])?;
        let mut values = vec![0f32; tensor.numel()];
        tensor.f_copy_data(&mut values, tensor.numel())?;
        let blocks = Blocks::nearest(&values).ok_or_else(|| WeightsError::Damaged {
            path: self.path.clone(),
            problem: format!("tensor `{name}` has values that are not finite or beyond f16"),
        })?;
        Packed::of_blocks(&blocks, (output, input))
    }

    fn torch(&self, name: &str, error: tch::TchError) -> WeightsError {
        WeightsError::Torch {
            path: self.path.clone(),
            tensor: name.to_string(),
            error,
        }
    }
}

/// The checkpoint in a folder; of several GGUF files the first by name, so that it is always the
/// same one.
fn find_in(folder: &Path) -> Result<PathBuf, WeightsError> {
    for name in ["model.safetensors.index.json", "model.safetensors"] {
        let file = folder.join(name);
        if file.is_file() {
            return Ok(file);
        }
    }
    let open = |error| WeightsError::Open {
        path: folder.to_path_buf(),
        error,
    };
    let mut ggufs = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(open)? {
        let path = entry.map_err(open)?.path();
        if path.extension().is_some_and(|e| e == "gguf") {
            ggufs.push(path);
        }
    }
    ggufs.sort_unstable();
    ggufs
        .into_iter()
        .next()
        .ok_or_else(|| WeightsError::NotFound(folder.to_path_buf()))
}

trait Copied {
    fn f_copy(&self) -> Result<Tensor, tch::TchError>;
}

impl Copied for Tensor {
    fn f_copy(&self) -> Result<Tensor, tch::TchError> {
        let mut copy = tch::no_grad(|| self.f_zeros_like())?;
        tch::no_grad(|| copy.f_copy_(self))?;
        Ok(copy)
    }
}
