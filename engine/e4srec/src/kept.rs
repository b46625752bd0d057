//! A model's state as the bytes of a checkpoint's part: facts as MessagePack, tensors as safetensors
//! beside them.
//!
//! Values are kept bit by bit in their own kind: what is not a number stays what it is. What reads
//! them trusts nothing: a tensor has to be there by its name, in the kind and shape that the model
//! has it in; nothing is allocated for what a header merely claims, and what nobody asked for is an
//! error too.

use std::collections::BTreeSet;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use segue_flow::checkpoint::{Encoded, EncodingError, encode};
use serde::{Deserialize, Serialize, Serializer};
use tch::{Kind, Tensor};

use crate::error::ModelError;

/// The version of all states in this room: they change together.
const VERSION: u16 = 3;

/// Tensors by name, on their way into a checkpoint.
pub(crate) type Named = Vec<(String, Tensor)>;

struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

fn dtype(kind: Kind) -> Option<Dtype> {
    Some(match kind {
        Kind::Float => Dtype::F32,
        Kind::BFloat16 => Dtype::BF16,
        Kind::Half => Dtype::F16,
        Kind::Double => Dtype::F64,
        _ => return None,
    })
}

/// The part of `room`.
pub(crate) fn part<T: Serialize>(
    room: &str,
    facts: &T,
    tensors: Named,
) -> Result<Vec<u8>, ModelError> {
    let mut kept = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let kind = tensor.f_kind()?;
        let dtype = dtype(kind)
            .ok_or_else(|| ModelError::Data(format!("tensor {name} of {kind:?} is not kept")))?;
        let shape: Vec<usize> = tensor.size().iter().map(|&size| size as usize).collect();
        let mut bytes = vec![0; tensor.numel() * kind.elt_size_in_bytes()];
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
        kept.push((name, dtype, shape, bytes));
    }
    let unwritable = |error| ModelError::Data(format!("tensors cannot be written: {error:?}"));
    let views = kept.iter().map(|(name, dtype, shape, bytes)| {
        let view = TensorView::new(*dtype, shape.clone(), bytes);
        view.map(|view| (name, view)).map_err(unwritable)
    });
    let views: Vec<(&String, TensorView<'_>)> = views.collect::<Result<_, _>>()?;
    let bytes = safetensors::serialize(views, None).map_err(unwritable)?;
    Ok(encode(room, VERSION, &(facts, Bytes(bytes)))?)
}

/// The facts of a part of `room`, and its tensors.
pub(crate) fn read<'a, T: Deserialize<'a>>(
    room: &'static str,
    bytes: &'a [u8],
) -> Result<(T, Tensors<'a>), ModelError> {
    let encoded = Encoded::open(room, VERSION, bytes)?;
    if encoded.version() < VERSION {
        return Err(ModelError::Encoding(EncodingError::Older {
            room: room.to_owned(),
            found: encoded.version(),
            reads: VERSION,
        }));
    }
    let (facts, tensors): (T, &[u8]) = encoded.read()?;
    let file = SafeTensors::deserialize(tensors)
        .map_err(|error| ModelError::State(format!("its tensors: {error:?}")))?;
    let left = file.names().into_iter().map(str::to_owned).collect();
    Ok((facts, Tensors { file, left }))
}

/// The tensors of a part, each to be asked for once.
pub(crate) struct Tensors<'a> {
    file: SafeTensors<'a>,
    left: BTreeSet<String>,
}

impl Tensors<'_> {
    /// The tensor of this name, which must be of this kind and shape; on the CPU.
    pub fn take(&mut self, name: &str, kind: Kind, shape: &[i64]) -> Result<Tensor, ModelError> {
        if !self.left.remove(name) {
            return Err(ModelError::State(format!("tensor {name} is not there")));
        }
        let found = self
            .file
            .tensor(name)
            .map_err(|error| ModelError::State(format!("tensor {name}: {error:?}")))?;
        let right_shape = found.shape().len() == shape.len()
            && shape
                .iter()
                .zip(found.shape())
                .all(|(a, b)| usize::try_from(*a) == Ok(*b));
        if !right_shape || Some(found.dtype()) != dtype(kind) {
            return Err(ModelError::State(format!(
                "tensor {name} is {:?} of {:?}, where the model has {shape:?} of {kind:?}",
                found.shape(),
                found.dtype()
            )));
        }
        Ok(Tensor::f_from_data_size(found.data(), shape, kind)?)
    }

    /// The tensor of this name, which must be such as `of`.
    pub fn like(&mut self, name: &str, of: &Tensor) -> Result<Tensor, ModelError> {
        self.take(name, of.f_kind()?, &of.size())
    }

    /// New values for each of `of`, which [`numbered`] named.
    pub fn all(&mut self, name: &str, of: &[Tensor]) -> Result<Vec<Tensor>, ModelError> {
        let numbers = of.iter().enumerate();
        numbers
            .map(|(number, of)| self.like(&format!("{name}.{number}"), of))
            .collect()
    }

    /// Whether all have been asked for.
    pub fn finish(self) -> Result<(), ModelError> {
        match self.left.first() {
            None => Ok(()),
            Some(name) => Err(ModelError::State(format!("tensor {name} is nobody's"))),
        }
    }
}

/// Names for the tensors of a list in a fixed order.
pub(crate) fn numbered(name: &str, tensors: &[Tensor], named: &mut Named) {
    for (number, tensor) in tensors.iter().enumerate() {
        named.push((format!("{name}.{number}"), tensor.shallow_clone()));
    }
}

/// A number that something is added to again and again: no state has come near its end.
pub(crate) fn counted(name: &str, count: u64) -> Result<u64, ModelError> {
    if count < 1 << 48 {
        return Ok(count);
    }
    Err(ModelError::State(format!("{name} is {count}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A part whose tensors are these bytes.
    fn holding(tensors: &[u8]) -> Vec<u8> {
        encode("test", VERSION, &(7_u64, Bytes(tensors.to_vec()))).unwrap()
    }

    fn weights() -> Tensor {
        Tensor::from_slice(&[1.0_f32, f32::NAN, -0.0, f32::INFINITY, 1e-40, 6.0]).reshape([2, 3])
    }

    fn bytes_of(tensor: &Tensor) -> Vec<u8> {
        let mut bytes = vec![0; tensor.numel() * 4];
        tensor.f_copy_data_u8(&mut bytes, tensor.numel()).unwrap();
        bytes
    }

    fn taken(part: &[u8]) -> Result<Tensor, ModelError> {
        let (_, mut tensors) = read::<u64>("test", part)?;
        let tensor = tensors.take("w", Kind::Float, &[2, 3])?;
        tensors.finish()?;
        Ok(tensor)
    }

    #[test]
    fn values_are_kept_bit_by_bit() {
        let part = part("test", &7_u64, vec![("w".to_owned(), weights())]).unwrap();
        assert_eq!(bytes_of(&taken(&part).unwrap()), bytes_of(&weights()));
    }

    #[test]
    fn a_tensor_that_is_not_what_the_model_has_is_named() {
        let two = vec![("w".to_owned(), weights()), ("x".to_owned(), weights())];
        let part = part("test", &7_u64, two).unwrap();
        let said = |take: fn(&mut Tensors<'_>) -> Result<Tensor, ModelError>| {
            let (_, mut tensors) = read::<u64>("test", &part).unwrap();
            let error = take(&mut tensors).map(|_| ()).unwrap_err();
            error.to_string()
        };
        for (error, wanted) in [
            (
                said(|t| t.take("y", Kind::Float, &[2, 3])),
                "tensor y is not there",
            ),
            (
                said(|t| t.take("w", Kind::Float, &[3, 2])),
                "tensor w is [2, 3]",
            ),
            (
                said(|t| t.take("w", Kind::Float, &[6])),
                "tensor w is [2, 3]",
            ),
            (
                said(|t| t.take("w", Kind::Float, &[2, -3])),
                "tensor w is [2, 3]",
            ),
            (said(|t| t.take("w", Kind::Double, &[2, 3])), "of Double"),
        ] {
            assert!(error.contains(wanted), "{error}");
        }
        assert!(
            taken(&part)
                .unwrap_err()
                .to_string()
                .contains("tensor x is nobody's")
        );
    }

    /// The checksum of a part says nothing about who wrote it: whatever its tensors are, they are read
    /// in the shape that was asked for, or refused.
    #[test]
    fn tensors_that_lie_are_refused_and_nothing_is_allocated_for_them() {
        let data = bytes_of(&weights());
        let view = TensorView::new(Dtype::F32, vec![2, 3], &data).unwrap();
        let good = safetensors::serialize([("w", view)], None).unwrap();
        assert!(taken(&holding(&good)).is_ok());
        for cut in 0..good.len() {
            assert!(taken(&holding(&good[..cut])).is_err(), "cut at {cut}");
        }
        for place in 0..good.len() - data.len() {
            for flipped in [1, 4, 16, 64, 128, 255] {
                let mut bad = good.clone();
                bad[place] ^= flipped;
                if let Ok(tensor) = taken(&holding(&bad)) {
                    assert_eq!(tensor.size(), [2, 3], "byte {place} changed by {flipped}");
                }
            }
        }
        let header = |text: &str| {
            let mut file = (text.len() as u64).to_le_bytes().to_vec();
            file.extend_from_slice(text.as_bytes());
            file.extend_from_slice(&data);
            taken(&holding(&file)).map(|_| ()).unwrap_err().to_string()
        };
        let huge = u64::MAX;
        for lie in [
            format!(r#"{{"w":{{"dtype":"F32","shape":[{huge},{huge}],"data_offsets":[0,24]}}}}"#),
            format!(r#"{{"w":{{"dtype":"F32","shape":[2,3],"data_offsets":[0,{huge}]}}}}"#),
            r#"{"w":{"dtype":"F32","shape":[2,3],"data_offsets":[24,0]}}"#.to_owned(),
            r#"{"w":{"dtype":"F32","shape":[1,6],"data_offsets":[0,24]}}"#.to_owned(),
            r#"{"w":{"dtype":"I64","shape":[3],"data_offsets":[0,24]}}"#.to_owned(),
            "{}".to_owned(),
        ] {
            assert!(header(&lie).contains("tensor"), "{lie}: {}", header(&lie));
        }
        let mut endless = u64::MAX.to_le_bytes().to_vec();
        endless.extend_from_slice(&good[8..]);
        assert!(taken(&holding(&endless)).is_err());
    }
}
