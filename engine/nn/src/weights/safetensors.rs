//! Checkpoints in the safetensors format, in one file or in shards with an index.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use tch::{Kind, Tensor};

use super::{WeightsError, mapped};

/// The files of one checkpoint, and which tensor lies in which.
#[derive(Debug)]
pub(super) struct Shards {
    shards: Vec<Shard>,
    homes: HashMap<String, usize>,
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    bytes: Mmap,
    metadata: Metadata,
    data_start: usize,
}

/// `model.safetensors.index.json`: the shard of each tensor.
#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

impl Shards {
    /// Opens one file, or all the shards that an index names.
    pub(super) fn open(path: &Path) -> Result<Self, WeightsError> {
        if path.extension().is_some_and(|e| e == "json") {
            return Self::open_index(path);
        }
        let shard = Shard::open(path)?;
        let homes = shard
            .metadata
            .tensors()
            .into_keys()
            .map(|name| (name, 0))
            .collect();
        Ok(Self {
            shards: vec![shard],
            homes,
        })
    }

    fn open_index(path: &Path) -> Result<Self, WeightsError> {
        let bytes = mapped::map(path)?;
        let index: ShardIndex = serde_json::from_slice(&bytes)
            .map_err(|e| damaged(path, format!("not an index of shards: {e}")))?;
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut shards: Vec<Shard> = Vec::new();
        let mut homes = HashMap::with_capacity(index.weight_map.len());
        for (tensor, file) in index.weight_map {
            let place = match places.get(&file) {
                Some(&place) => place,
                None => {
                    // A name with a slash would leave the folder of the checkpoint.
                    if Path::new(&file)
                        .file_name()
                        .is_none_or(|name| name != file.as_str())
                    {
                        return Err(damaged(path, format!("shard `{file}` is not a file name")));
                    }
                    shards.push(Shard::open(&path.with_file_name(&file))?);
                    places.insert(file, shards.len() - 1);
                    shards.len() - 1
                }
            };
            homes.insert(tensor, place);
        }
        Ok(Self { shards, homes })
    }

    /// All names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.homes.keys().map(String::as_str)
    }

    /// Whether a tensor is there.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.homes.contains_key(name)
    }

    /// The shape of a tensor, if the checkpoint has it.
    pub(super) fn shape(&self, name: &str) -> Option<Vec<i64>> {
        let shard = self.homes.get(name).and_then(|&home| self.shards.get(home));
        shard?.metadata.info(name).map(shape)
    }

    /// The tensor as `f32`, if the checkpoint has it.
    pub(super) fn get(&self, name: &str) -> Result<Option<Tensor>, WeightsError> {
        match self.homes.get(name).and_then(|&home| self.shards.get(home)) {
            None => Ok(None),
            Some(shard) => shard.get(name).map(Some),
        }
    }
}

impl Shard {
    fn open(path: &Path) -> Result<Self, WeightsError> {
        let bytes = mapped::map(path)?;
        let (header, metadata) = SafeTensors::read_metadata(&bytes)
            .map_err(|e| damaged(path, format!("not a whole safetensors file: {e:?}")))?;
        // The header's length itself takes 8 bytes.
        Ok(Self {
            path: path.to_path_buf(),
            bytes,
            metadata,
            data_start: header + 8,
        })
    }

    fn get(&self, name: &str) -> Result<Tensor, WeightsError> {
        let info = self
            .metadata
            .info(name)
            .ok_or_else(|| damaged(&self.path, format!("its index promises tensor `{name}`")))?;
        let kind = match info.dtype {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            Dtype::F64 => Kind::Double,
            Dtype::I64 => Kind::Int64,
            Dtype::I32 => Kind::Int,
            Dtype::I16 => Kind::Int16,
            Dtype::I8 => Kind::Int8,
            Dtype::U8 => Kind::Uint8,
            Dtype::BOOL => Kind::Bool,
            other => {
                return Err(WeightsError::Format {
                    path: self.path.clone(),
                    tensor: name.to_string(),
                    format: format!("{other:?}"),
                });
            }
        };
        let (from, to) = info.data_offsets;
        let data = self
            .bytes
            .get(self.data_start.saturating_add(from)..self.data_start.saturating_add(to))
            .ok_or_else(|| damaged(&self.path, format!("tensor `{name}` lies beyond its end")))?;
        let shape = shape(info);
        // This copies, so the mapping's alignment and lifetime do not matter.
        Tensor::f_from_data_size(data, &shape, kind)
            .and_then(|tensor| tensor.f_to_kind(Kind::Float))
            .map_err(|error| WeightsError::Torch {
                path: self.path.clone(),
                tensor: name.to_string(),
                error,
            })
    }
}

fn shape(info: &TensorInfo) -> Vec<i64> {
    let sizes = info.shape.iter();
    sizes
        .map(|&size| i64::try_from(size).unwrap_or(i64::MAX))
        .collect()
}

fn damaged(path: &Path, problem: String) -> WeightsError {
    WeightsError::Damaged {
        path: path.to_path_buf(),
        problem,
    }
}
