//! GGUF, the single-file format of llama.cpp: metadata, then tensors in quantised blocks.
//!
//! The parser trusts nothing: every count is held against the bytes that are left before anything
//! is reserved for it, every tensor against the end of the file, so that a cut or forged file is an
//! error and not a panic or a huge allocation. Format: `docs/gguf.md` of ggml, versions 2 and 3.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use tch::{Kind, Tensor};

use super::dequantise::Format;
use super::gguf_names::{Interleaved, interleaved, published};
use super::{WeightsError, mapped};
use crate::NnError;
use crate::packed::Packed;

const MAGIC: &[u8] = b"GGUF";
/// ggml's own limit on the dimensions of a tensor.
const DIMENSIONS_AT_MOST: u32 = 4;
/// Where tensors start unless the file says otherwise.
const ALIGNMENT: u64 = 32;

/// A value of the metadata; numbers of all widths are widened.
#[derive(Debug, Clone, PartialEq)]
pub enum GgufValue {
    /// Any integer or boolean.
    Integer(i64),
    /// Any floating point number.
    Float(f64),
    /// A text.
    Text(String),
    /// An array of integers or booleans.
    Integers(Vec<i64>),
    /// An array of floating point numbers.
    Floats(Vec<f64>),
    /// An array of texts.
    Texts(Vec<String>),
}

/// An open GGUF file. Tensors go by their published (Hugging Face) names.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    bytes: Mmap,
    metadata: HashMap<String, GgufValue>,
    tensors: HashMap<String, Entry>,
    data_start: usize,
}

#[derive(Debug)]
struct Entry {
    stored_name: String,
    /// Outermost first, as libtorch has it; the file has it the other way round.
    shape: Vec<i64>,
    format: Result<Format, u32>,
    offset: u64,
}

impl Gguf {
    /// Maps and parses a file; tensors are decoded when they are asked for.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let bytes = mapped::map(path)?;
        let damaged = |problem| WeightsError::Damaged {
            path: path.to_path_buf(),
            problem,
        };
        let (metadata, tensors, data_start) = parse(&bytes).map_err(damaged)?;
        let gguf = Self {
            path: path.to_path_buf(),
            bytes,
            metadata,
            tensors,
            data_start,
        };
        for (name, entry) in &gguf.tensors {
            // What is not supported may lie anywhere; what is must lie within the file.
            if entry.format.is_ok() {
                gguf.data(name, entry)?;
            }
        }
        Ok(gguf)
    }

    /// All tensor names, as published.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether a tensor is there.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// A value of the metadata, such as `general.architecture`.
    pub fn metadata(&self, key: &str) -> Option<&GgufValue> {
        self.metadata.get(key)
    }

    /// A text of the metadata; an error names the key if it is missing or something else.
    pub fn text(&self, key: &str) -> Result<&str, WeightsError> {
        match self.metadata.get(key) {
            Some(GgufValue::Text(text)) => Ok(text),
            _ => Err(self.lacks(key, "a text")),
        }
    }

    /// A whole number of the metadata.
    pub fn integer(&self, key: &str) -> Result<i64, WeightsError> {
        match self.metadata.get(key) {
            Some(GgufValue::Integer(number)) => Ok(*number),
            _ => Err(self.lacks(key, "a whole number")),
        }
    }

    /// A number of the metadata.
    pub fn float(&self, key: &str) -> Result<f64, WeightsError> {
        match self.metadata.get(key) {
            Some(GgufValue::Float(number)) => Ok(*number),
            _ => Err(self.lacks(key, "a number")),
        }
    }

    /// A list of texts of the metadata, such as the tokens.
    pub fn texts(&self, key: &str) -> Result<&[String], WeightsError> {
        match self.metadata.get(key) {
            Some(GgufValue::Texts(texts)) => Ok(texts),
            _ => Err(self.lacks(key, "a list of texts")),
        }
    }

    /// A list of whole numbers of the metadata, such as the token types.
    pub fn integers(&self, key: &str) -> Result<&[i64], WeightsError> {
        match self.metadata.get(key) {
            Some(GgufValue::Integers(numbers)) => Ok(numbers),
            _ => Err(self.lacks(key, "a list of whole numbers")),
        }
    }

    /// The shape of a tensor, outermost dimension first.
    pub fn shape(&self, name: &str) -> Option<&[i64]> {
        self.tensors.get(name).map(|entry| entry.shape.as_slice())
    }

    /// A tensor as `f32` with its rows in published order, if the file has it.
    pub(super) fn get(&self, name: &str) -> Result<Option<Tensor>, WeightsError> {
        let Some(entry) = self.tensors.get(name) else {
            return Ok(None);
        };
        let (format, data) = self.data(name, entry)?;
        let torch = |error| WeightsError::Torch {
            path: self.path.clone(),
            tensor: name.into(),
            error,
        };
        let tensor = if format == Format::F32 {
            Tensor::f_from_data_size(data, &entry.shape, Kind::Float).map_err(torch)?
        } else {
            let values = Tensor::f_from_slice(&format.values(data)).map_err(torch)?;
            values.f_reshape(&entry.shape[..]).map_err(torch)?
        };
        self.in_published_order(entry, tensor).map(Some)
    }

    /// A matrix in its own blocks of four bits with its rows in published order, if the file has it
    /// and in such a format.
    pub(super) fn packed(&self, name: &str) -> Result<Option<Packed>, NnError> {
        let Some(entry) = self.tensors.get(name) else {
            return Ok(None);
        };
        let (format, data) = self.data(name, entry)?;
        let (&[output, input], Some(blocks)) = (&entry.shape[..], format.packed(data)) else {
            return Ok(None);
        };
        let packed = Packed::of_blocks(&blocks, (output, input))?;
        let ordered = |part: &Tensor| {
            let part = part.shallow_clone();
            self.in_published_order(entry, part).map_err(NnError::from)
        };
        packed.each(ordered).map(Some)
    }

    /// The bytes of a tensor and how to read them.
    fn data(&self, name: &str, entry: &Entry) -> Result<(Format, &[u8]), WeightsError> {
        let format = entry.format.map_err(|number| WeightsError::Format {
            path: self.path.clone(),
            tensor: name.into(),
            format: format!("ggml type {number}"),
        })?;
        let beyond = || WeightsError::Damaged {
            path: self.path.clone(),
            problem: format!("tensor `{name}` {:?} lies beyond its end", entry.shape),
        };
        let values = count(&entry.shape).ok_or_else(beyond)?;
        let row = entry
            .shape
            .last()
            .and_then(|&d| usize::try_from(d).ok())
            .unwrap_or(1);
        let size = format.size(row, values).ok_or_else(beyond)?;
        let offset = usize::try_from(entry.offset).map_err(|_| beyond())?;
        let from = self.data_start.checked_add(offset).ok_or_else(beyond)?;
        let to = from.checked_add(size).ok_or_else(beyond)?;
        Ok((format, self.bytes.get(from..to).ok_or_else(beyond)?))
    }

    /// Puts the rows of interleaved projections back: `[heads, head_dim/2, 2, …]` in the file is
    /// `[heads, 2, head_dim/2, …]` as published.
    fn in_published_order(&self, entry: &Entry, tensor: Tensor) -> Result<Tensor, WeightsError> {
        let architecture = self.text("general.architecture").unwrap_or("");
        let key = match interleaved(architecture, &entry.stored_name) {
            None => return Ok(tensor),
            Some(Interleaved::Query) => "llama.attention.head_count",
            Some(Interleaved::Key) => "llama.attention.head_count_kv",
        };
        let heads = self.integer(key)?;
        let rows = entry.shape.first().copied().unwrap_or(0);
        if heads <= 0 || rows <= 0 || rows % (heads * 2) != 0 {
            return Err(self.lacks(key, "a number of heads that divides the projection"));
        }
        let size = tensor.size();
        tensor
            .f_reshape([heads, rows / heads / 2, 2, -1])
            .and_then(|t| t.f_transpose(1, 2))
            .and_then(|t| t.f_reshape(&size[..]))
            .map_err(|error| WeightsError::Torch {
                path: self.path.clone(),
                tensor: entry.stored_name.clone(),
                error,
            })
    }

    fn lacks(&self, key: &str, what: &str) -> WeightsError {
        WeightsError::Damaged {
            path: self.path.clone(),
            problem: format!("metadata `{key}` is not {what}"),
        }
    }
}

/// The product of a shape, if a machine can count that far.
fn count(shape: &[i64]) -> Option<usize> {
    shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?))
}

type Parsed = (HashMap<String, GgufValue>, HashMap<String, Entry>, usize);

/// Header, metadata, tensor table.
fn parse(bytes: &[u8]) -> Result<Parsed, String> {
    let mut reader = Reader { bytes, at: 0 };
    if reader.take(4)? != MAGIC {
        return Err("not a GGUF file".into());
    }
    let version = reader.u32()?;
    if !(2..=3).contains(&version) {
        return Err(format!("GGUF version {version}; 2 and 3 are supported"));
    }
    let tensors = reader.u64()?;
    let keys = reader.u64()?;
    // The least a key and a tensor can take: their length fields, a type, one byte or number.
    let keys = reader.at_most(keys, 8 + 4 + 1, "metadata keys")?;
    let tensors = reader.at_most(tensors, 8 + 4 + 4 + 8, "tensors")?;

    let mut metadata = HashMap::with_capacity(keys);
    for _ in 0..keys {
        let key = reader.text()?;
        let kind = reader.u32()?;
        let value = reader
            .value(kind)
            .map_err(|e| format!("metadata `{key}`: {e}"))?;
        metadata.insert(key, value);
    }
    let mut table = HashMap::with_capacity(tensors);
    for _ in 0..tensors {
        let stored_name = reader.text()?;
        let entry = reader.entry(stored_name)?;
        let name = published(&entry.stored_name);
        if table.contains_key(&name) {
            return Err(format!("tensor `{name}` is there twice"));
        }
        table.insert(name, entry);
    }
    let alignment = match metadata.get("general.alignment") {
        None => ALIGNMENT,
        Some(GgufValue::Integer(n)) if *n > 0 && *n <= 1 << 20 => n.unsigned_abs(),
        Some(other) => return Err(format!("metadata `general.alignment` is {other:?}")),
    };
    let data_start = (reader.at as u64).next_multiple_of(alignment);
    let data_start = usize::try_from(data_start).map_err(|_| "it is too large".to_string())?;
    Ok((metadata, table, data_start))
}

/// A position in the file that never goes past its end.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(count);
        let slice = end.and_then(|end| self.bytes.get(self.at..end));
        let slice = slice.ok_or_else(|| format!("it ends at byte {}", self.bytes.len()))?;
        self.at += count;
        Ok(slice)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    /// A count of things of at least `size` bytes, if so many can still come.
    fn at_most(&self, count: u64, size: usize, what: &str) -> Result<usize, String> {
        let left = self.bytes.len() - self.at;
        usize::try_from(count)
            .ok()
            .filter(|&count| count <= left / size)
            .ok_or_else(|| format!("it promises {count} {what} in its last {left} bytes"))
    }

    fn text(&mut self) -> Result<String, String> {
        let length = self.u64()?;
        let length = self.at_most(length, 1, "bytes of text")?;
        let bytes = self.take(length)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| "a text is not UTF-8".to_string())
    }

    fn entry(&mut self, stored_name: String) -> Result<Entry, String> {
        let dimensions = self.u32()?;
        if dimensions == 0 || dimensions > DIMENSIONS_AT_MOST {
            return Err(format!(
                "tensor `{stored_name}` has {dimensions} dimensions"
            ));
        }
        let mut shape = Vec::with_capacity(DIMENSIONS_AT_MOST as usize);
        for _ in 0..dimensions {
            let size = self.u64()?;
            let size = i64::try_from(size).ok().filter(|&size| size > 0);
            shape.push(size.ok_or_else(|| format!("tensor `{stored_name}` has no size"))?);
        }
        shape.reverse();
        let number = self.u32()?;
        let format = Format::of(number).ok_or(number);
        Ok(Entry {
            stored_name,
            shape,
            format,
            offset: self.u64()?,
        })
    }

    fn value(&mut self, kind: u32) -> Result<GgufValue, String> {
        Ok(match kind {
            6 | 12 => GgufValue::Float(self.float(kind)?),
            8 => GgufValue::Text(self.text()?),
            9 => {
                let kind = self.u32()?;
                let count = self.u64()?;
                self.list(kind, count)?
            }
            _ => GgufValue::Integer(self.integer(kind)?),
        })
    }

    fn list(&mut self, kind: u32, count: u64) -> Result<GgufValue, String> {
        let size = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            9 => return Err("an array of arrays".into()),
            _ => return Err(format!("value type {kind}")),
        };
        let count = self.at_most(count, size, "array elements")?;
        Ok(match kind {
            6 | 12 => GgufValue::Floats(
                (0..count)
                    .map(|_| self.float(kind))
                    .collect::<Result<_, _>>()?,
            ),
            8 => GgufValue::Texts((0..count).map(|_| self.text()).collect::<Result<_, _>>()?),
            _ => GgufValue::Integers(
                (0..count)
                    .map(|_| self.integer(kind))
                    .collect::<Result<_, _>>()?,
            ),
        })
    }

    fn float(&mut self, kind: u32) -> Result<f64, String> {
        match kind {
            6 => self.array().map(f32::from_le_bytes).map(f64::from),
            _ => self.array().map(f64::from_le_bytes),
        }
    }

    fn integer(&mut self, kind: u32) -> Result<i64, String> {
        Ok(match kind {
            0 | 7 => i64::from(u8::from_le_bytes(self.array()?)),
            1 => i64::from(i8::from_le_bytes(self.array()?)),
            2 => i64::from(u16::from_le_bytes(self.array()?)),
            3 => i64::from(i16::from_le_bytes(self.array()?)),
            4 => i64::from(self.u32()?),
            5 => i64::from(i32::from_le_bytes(self.array()?)),
            10 => i64::try_from(self.u64()?).map_err(|_| "a number beyond 63 bits".to_string())?,
            11 => i64::from_le_bytes(self.array()?),
            _ => return Err(format!("value type {kind}")),
        })
    }
}
