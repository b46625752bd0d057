//! Tables in a checkpoint: rows of one width, one after the other, as bytes.
//!
//! A lane's state is mostly plays and keys, hundreds of thousands of each. Written field by field they
//! take five times as long, and a lane stands still meanwhile.
//!
//! ```
//! # use segue_listen::{TrackKey, rows};
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Known(#[serde(with = "rows")] Vec<TrackKey>);
//! ```

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};

use crate::track::TrackKey;

/// A row of a table.
pub trait Row: Sized {
    /// Its bytes, numbers in them little-endian.
    type Bytes: AsRef<[u8]> + for<'a> TryFrom<&'a [u8]>;

    /// As bytes.
    fn to_bytes(&self) -> Self::Bytes;

    /// From bytes, whatever they are.
    fn from_bytes(bytes: Self::Bytes) -> Self;
}

impl Row for TrackKey {
    type Bytes = [u8; 16];

    fn to_bytes(&self) -> Self::Bytes {
        self.0.to_le_bytes()
    }

    fn from_bytes(bytes: Self::Bytes) -> Self {
        Self(u128::from_le_bytes(bytes))
    }
}

/// Writes a table.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<T: Row, S: Serializer>(rows: &[T], serializer: S) -> Result<S::Ok, S::Error> {
    let mut bytes = Vec::with_capacity(size_of_val(rows));
    for row in rows {
        bytes.extend_from_slice(row.to_bytes().as_ref());
    }
    serializer.serialize_bytes(&bytes)
}

/// Reads a table.
///
/// # Errors
/// Those of the deserializer; bytes that are no whole number of rows.
pub fn deserialize<'de, T: Row, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_bytes(Rows(PhantomData))
}

struct Rows<T>(PhantomData<T>);

impl<T: Row> Visitor<'_> for Rows<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rows of {} bytes", size_of::<T::Bytes>())
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<T>, E> {
        let rows = bytes.chunks(size_of::<T::Bytes>());
        rows.map(|row| T::Bytes::try_from(row).map(T::from_bytes))
            .collect::<Result<_, _>>()
            .map_err(|_| E::invalid_length(bytes.len(), &self))
    }
}

#[cfg(all(test, feature = "wire"))]
mod tests {
    use super::*;
    use crate::history::Play;
    use crate::time::{EventTime, Span};
    use crate::track::TrackId;

    #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
    struct Tables {
        #[serde(with = "crate::rows")]
        keys: Vec<TrackKey>,
        #[serde(with = "crate::rows")]
        plays: Vec<Play>,
    }

    #[test]
    fn tables_are_read_as_they_were_written_or_not_at_all() {
        let mut play = Play::with_tie(EventTime::from_millis(-7), TrackId(3), 9);
        play.set_played(Span::from_millis(1_234));
        let tables = Tables {
            keys: vec![TrackKey(1), TrackKey(u128::MAX - 1)],
            plays: vec![play, play],
        };
        let bytes = rmp_serde::to_vec_named(&tables).unwrap();
        assert_eq!(rmp_serde::from_slice::<Tables>(&bytes).unwrap(), tables);

        #[derive(serde::Serialize)]
        struct Torn {
            #[serde(serialize_with = "torn")]
            keys: (),
        }
        fn torn<S: Serializer>((): &(), serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(&[0; 33])
        }
        let bytes = rmp_serde::to_vec_named(&Torn { keys: () }).unwrap();
        let error = rmp_serde::from_slice::<Tables>(&bytes).unwrap_err();
        assert!(error.to_string().contains("rows of 16 bytes"), "{error}");
    }
}
