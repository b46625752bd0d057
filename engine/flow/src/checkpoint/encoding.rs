//! A room's state as the bytes of a part: a small header, then MessagePack.
//!
//! ```text
//! "SGUE"  1 byte: length of the room's name, the name  2 bytes: version  8 bytes: length  body
//! ```
//!
//! Numbers are little-endian. What reads it trusts nothing: a body is as long as the bytes that are
//! there, and nothing is allocated for what a length merely claims.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::remedy::Remedy;

const MAGIC: &[u8; 4] = b"SGUE";

/// Why bytes are not a room's state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodingError {
    /// Not written by [`encode`], or cut short. The checkpoint before is taken.
    #[error("not a state of {room}: {detail}")]
    Torn {
        /// The room that reads.
        room: String,
        /// Where reading ended.
        detail: &'static str,
    },
    /// The state of another room. The checkpoint before is taken.
    #[error("a state of {found:?} where one of {room} was expected")]
    OtherRoom {
        /// The room that reads.
        room: String,
        /// The room that wrote, as far as its name can be read.
        found: String,
    },
    /// Written by a later Segue, which stops.
    #[error("a state of {room} in version {found}, and this program reads up to {newest}")]
    Newer {
        /// The room.
        room: String,
        /// The version it was written in.
        found: u16,
        /// The newest that is read.
        newest: u16,
    },
    /// Of a version that the room no longer reads. Segue stops.
    #[error("a state of {room} in version {found}, and this program reads only {reads}")]
    Older {
        /// The room.
        room: String,
        /// The version it was written in.
        found: u16,
        /// The version that is read.
        reads: u16,
    },
    /// The body is not what this version holds. The checkpoint before is taken.
    #[error("state of {room} in version {version}: {detail}")]
    Body {
        /// The room.
        room: String,
        /// The version.
        version: u16,
        /// What the decoder said.
        detail: String,
    },
    /// A state that cannot be written. A bug.
    #[error("state of {room} cannot be written: {detail}")]
    Unwritable {
        /// The room.
        room: String,
        /// What the encoder said.
        detail: String,
    },
}

impl EncodingError {
    /// What Segue does about it.
    pub const fn remedy(&self) -> Remedy {
        match self {
            Self::Torn { .. } | Self::OtherRoom { .. } | Self::Body { .. } => Remedy::Restore,
            Self::Newer { .. } | Self::Older { .. } => Remedy::Configure,
            Self::Unwritable { .. } => Remedy::Bug,
        }
    }
}

/// The state of `room` in `version` of its format.
///
/// # Errors
/// [`EncodingError::Unwritable`]: serde cannot write this type, or the room's name is too long.
pub fn encode<T: Serialize + ?Sized>(
    room: &str,
    version: u16,
    state: &T,
) -> Result<Vec<u8>, EncodingError> {
    encode_in(Vec::new(), room, version, state)
}

/// The same in memory that there is already; what is in it is lost.
///
/// # Errors
/// As [`encode`].
pub(crate) fn encode_in<T: Serialize + ?Sized>(
    mut bytes: Vec<u8>,
    room: &str,
    version: u16,
    state: &T,
) -> Result<Vec<u8>, EncodingError> {
    let unwritable = |detail: String| EncodingError::Unwritable {
        room: room.to_owned(),
        detail,
    };
    let name = u8::try_from(room.len()).map_err(|_| unwritable("its name is too long".into()))?;
    bytes.clear();
    bytes.extend_from_slice(MAGIC);
    bytes.push(name);
    bytes.extend_from_slice(room.as_bytes());
    bytes.extend_from_slice(&version.to_le_bytes());
    let length = bytes.len();
    bytes.extend_from_slice(&[0; 8]);
    let body = bytes.len();
    rmp_serde::encode::write(&mut bytes, state).map_err(|error| unwritable(error.to_string()))?;
    let written = (bytes.len() - body) as u64;
    if let Some(length) = bytes.get_mut(length..body) {
        length.copy_from_slice(&written.to_le_bytes());
    }
    Ok(bytes)
}

/// The state of a room that reads one version alone. A room that reads older ones too goes through
/// [`Encoded`].
///
/// # Errors
/// See [`EncodingError`].
pub fn decode<T: DeserializeOwned>(
    room: &str,
    version: u16,
    bytes: &[u8],
) -> Result<T, EncodingError> {
    let encoded = Encoded::open(room, version, bytes)?;
    if encoded.version() < version {
        return Err(EncodingError::Older {
            room: room.to_owned(),
            found: encoded.version(),
            reads: version,
        });
    }
    encoded.read()
}

/// A part whose header was read. What its body is depends on its version:
///
/// ```
/// # use segue_flow::checkpoint::{Encoded, EncodingError, encode};
/// # fn main() -> Result<(), EncodingError> {
/// // Version 1 had a number, version 2 has a name beside it.
/// let bytes = encode("listeners", 1, &7u32)?;
/// let encoded = Encoded::open("listeners", 2, &bytes)?;
/// let state: (u32, String) = match encoded.version() {
///     1 => (encoded.read()?, "nobody".to_owned()),
///     _ => encoded.read()?,
/// };
/// assert_eq!(state, (7, "nobody".to_owned()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Encoded<'a> {
    room: &'a str,
    version: u16,
    body: &'a [u8],
}

impl<'a> Encoded<'a> {
    /// Reads the header of a part of `room`, which reads versions up to `newest`.
    ///
    /// # Errors
    /// [`EncodingError::Torn`], [`EncodingError::OtherRoom`] or [`EncodingError::Newer`].
    pub fn open(room: &'a str, newest: u16, bytes: &'a [u8]) -> Result<Self, EncodingError> {
        let torn = |detail| EncodingError::Torn {
            room: room.to_owned(),
            detail,
        };
        let rest = bytes
            .strip_prefix(MAGIC)
            .ok_or_else(|| torn("it does not begin as one"))?;
        let cut = || torn("it ends within its header");
        let (name, rest) = rest
            .split_first()
            .and_then(|(length, rest)| rest.split_at_checked(usize::from(*length)))
            .ok_or_else(cut)?;
        if name != room.as_bytes() {
            return Err(EncodingError::OtherRoom {
                room: room.to_owned(),
                found: String::from_utf8_lossy(name).into_owned(),
            });
        }
        let (version, rest) = rest.split_first_chunk().ok_or_else(cut)?;
        let (length, body) = rest.split_first_chunk().ok_or_else(cut)?;
        let version = u16::from_le_bytes(*version);
        if version > newest {
            return Err(EncodingError::Newer {
                room: room.to_owned(),
                found: version,
                newest,
            });
        }
        if u64::from_le_bytes(*length) != body.len() as u64 {
            return Err(torn("its body is not as long as its header says"));
        }
        Ok(Self {
            room,
            version,
            body,
        })
    }

    /// The version it was written in.
    pub const fn version(&self) -> u16 {
        self.version
    }

    /// The state. All of the body has to be read by it.
    ///
    /// # Errors
    /// [`EncodingError::Body`].
    pub fn read<T: Deserialize<'a>>(&self) -> Result<T, EncodingError> {
        let wrong = |detail: String| EncodingError::Body {
            room: self.room.to_owned(),
            version: self.version,
            detail,
        };
        let mut reader = rmp_serde::Deserializer::from_read_ref(self.body);
        let state = T::deserialize(&mut reader).map_err(|error| wrong(error.to_string()))?;
        // No marker is left to be read exactly where the body ends.
        match bool::deserialize(&mut reader) {
            Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => Ok(state),
            _ => Err(wrong("bytes are left after its end".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests;
