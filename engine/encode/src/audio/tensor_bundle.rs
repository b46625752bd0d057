//! Checkpoints of TensorFlow ("tensor bundles", its version 2 format), without TensorFlow.
//!
//! Two files: `<name>.index`, a sorted table of LevelDB whose values are messages of protocol buffers
//! that say where a tensor lies, and `<name>.data-00000-of-00001`, the numbers themselves, `f32` and
//! little-endian. Only what such a file of `f32` has is read: one shard, blocks that are not packed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use segue_nn::tch::Tensor;
use segue_nn::weights::Weights;

use crate::EncodeError;

/// The last eight bytes of an index.
const MAGIC: u64 = 0xdb47_7524_8b80_fb57;
/// Bytes of the footer: two handles, padded, and the magic number.
const FOOTER: usize = 48;
/// TensorFlow's number for `f32`.
const FLOAT: u64 = 1;
/// No index of a model is larger; a wrong file need not be read whole.
const INDEX_AT_MOST: u64 = 16 * 1024 * 1024;

/// The `f32` variables of a checkpoint but for what only its optimiser needs (Adam's moments).
/// `prefix` is the path without `.index`.
pub fn read(prefix: &Path) -> Result<Weights, EncodeError> {
    let index = with_suffix(prefix, ".index");
    let data = with_suffix(prefix, ".data-00000-of-00001");
    let too_large = std::fs::metadata(&index).is_ok_and(|about| about.len() > INDEX_AT_MOST);
    if too_large {
        return Err(wrong(&index, "far larger than any index"));
    }
    let table = bytes(&index)?;
    let numbers = bytes(&data)?;
    let entries = entries(&table).ok_or_else(|| wrong(&index, "not an index of tensors"))?;
    let mut tensors = HashMap::new();
    for (name, entry) in entries {
        let for_optimiser = name.contains("Adam") || name.starts_with("beta");
        if for_optimiser {
            continue;
        }
        let place = entry.place(numbers.len());
        let place = place.and_then(|place| numbers.get(place));
        let place =
            place.ok_or_else(|| wrong(&data, &format!("no tensor `{name}` where it says")))?;
        let values: Vec<f32> = place
            .chunks_exact(4)
            .filter_map(|four| Some(f32::from_le_bytes(four.try_into().ok()?)))
            .collect();
        let tensor = Tensor::f_from_slice(&values)?.f_reshape(entry.shape)?;
        tensors.insert(name, tensor);
    }
    Ok(Weights::from_memory(&index.to_string_lossy(), tensors))
}

fn with_suffix(prefix: &Path, suffix: &str) -> PathBuf {
    let mut path = prefix.as_os_str().to_owned();
    path.push(suffix);
    PathBuf::from(path)
}

fn bytes(path: &Path) -> Result<Vec<u8>, EncodeError> {
    std::fs::read(path).map_err(|error| wrong(path, &error.to_string()))
}

fn wrong(path: &Path, problem: &str) -> EncodeError {
    EncodeError::File {
        path: path.to_path_buf(),
        problem: problem.into(),
    }
}

/// Where a tensor lies.
#[derive(Debug, Default)]
struct Entry {
    kind: u64,
    shape: Vec<i64>,
    shard: u64,
    offset: u64,
    size: u64,
}

impl Entry {
    /// Its bytes, if it is of `f32`, in the one file there is, and as large as its shape says.
    fn place(&self, bytes: usize) -> Option<std::ops::Range<usize>> {
        let elements = self.shape.iter().try_fold(1u64, |product, &side| {
            product.checked_mul(u64::try_from(side).ok()?)
        })?;
        let fits = self.kind == FLOAT && self.shard == 0 && elements.checked_mul(4)? == self.size;
        let begin = usize::try_from(self.offset).ok()?;
        let end = begin.checked_add(usize::try_from(self.size).ok()?)?;
        (fits && end <= bytes).then_some(begin..end)
    }
}

/// All entries of an index but its header.
fn entries(table: &[u8]) -> Option<Vec<(String, Entry)>> {
    let footer = table.get(table.len().checked_sub(FOOTER)?..)?;
    let magic = footer
        .last_chunk::<8>()
        .map(|bytes| u64::from_le_bytes(*bytes));
    if magic != Some(MAGIC) {
        return None;
    }
    let mut footer = Reader(footer);
    // The handle of the meta index, which holds nothing here, stands before that of the index.
    footer.handle()?;
    let index = block(table, footer.handle()?)?;
    let mut found = Vec::new();
    for (_, handle) in pairs(index)? {
        let data = block(table, Reader(handle).handle()?)?;
        for (name, value) in pairs(data)? {
            if !name.is_empty() {
                found.push((String::from_utf8(name).ok()?, entry(value)?));
            }
        }
    }
    Some(found)
}

/// A block that is not packed: behind it stand a byte that says so, and a checksum.
fn block(table: &[u8], (offset, size): (u64, u64)) -> Option<&[u8]> {
    let begin = usize::try_from(offset).ok()?;
    let end = begin.checked_add(usize::try_from(size).ok()?)?;
    let plain = table.get(end) == Some(&0);
    table.get(begin..end).filter(|_| plain)
}

/// Keys and values of a block. A key says how much of the one before it begins with.
fn pairs(block: &[u8]) -> Option<Vec<(Vec<u8>, &[u8])>> {
    let restarts = block
        .last_chunk::<4>()
        .map(|bytes| u32::from_le_bytes(*bytes))? as usize;
    let end = block
        .len()
        .checked_sub(restarts.checked_mul(4)?.checked_add(4)?)?;
    let mut rest = Reader(block.get(..end)?);
    let mut key: Vec<u8> = Vec::new();
    let mut found = Vec::new();
    while !rest.0.is_empty() {
        let (shared, own, length) = (rest.varint()?, rest.varint()?, rest.varint()?);
        let shared = usize::try_from(shared).ok()?;
        if shared > key.len() {
            return None;
        }
        key.truncate(shared);
        key.extend_from_slice(rest.take(own)?);
        found.push((key.clone(), rest.take(length)?));
    }
    Some(found)
}

/// A `BundleEntryProto`.
fn entry(message: &[u8]) -> Option<Entry> {
    let mut entry = Entry::default();
    for (field, value) in fields(message)? {
        match (field, value) {
            (1, Field::Number(kind)) => entry.kind = kind,
            (2, Field::Bytes(shape)) => entry.shape = sides(shape)?,
            (3, Field::Number(shard)) => entry.shard = shard,
            (4, Field::Number(offset)) => entry.offset = offset,
            (5, Field::Number(size)) => entry.size = size,
            _ => {}
        }
    }
    Some(entry)
}

/// A `TensorShapeProto`: a message per dimension, whose first field is its size.
fn sides(message: &[u8]) -> Option<Vec<i64>> {
    let dimensions = fields(message)?
        .into_iter()
        .filter_map(|field| match field {
            (2, Field::Bytes(dimension)) => Some(dimension),
            _ => None,
        });
    let side = |dimension: &[u8]| {
        let fields = fields(dimension)?;
        let size = fields.iter().find_map(|field| match field {
            (1, Field::Number(size)) => i64::try_from(*size).ok(),
            _ => None,
        });
        Some(size.unwrap_or(0))
    };
    dimensions.map(side).collect()
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message of protocol buffers, by their numbers.
fn fields(message: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
    let mut rest = Reader(message);
    let mut found = Vec::new();
    while !rest.0.is_empty() {
        let tag = rest.varint()?;
        let value = match tag & 7 {
            0 => Field::Number(rest.varint()?),
            1 => Field::Bytes(rest.take(8)?),
            2 => {
                let length = rest.varint()?;
                Field::Bytes(rest.take(length)?)
            }
            5 => Field::Bytes(rest.take(4)?),
            _ => return None,
        };
        found.push((tag >> 3, value));
    }
    Some(found)
}

/// What is left of some bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Seven bits a byte, the lowest first; the eighth says that it goes on.
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 127).checked_shl(shift)?;
            if byte < 128 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, count: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(count).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    /// Offset and size of a block.
    fn handle(&mut self) -> Option<(u64, u64)> {
        Some((self.varint()?, self.varint()?))
    }
}
