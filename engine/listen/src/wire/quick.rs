//! MessagePack as Segue writes it, read without a general deserialiser: three times as fast, and it
//! is what every message of a topic goes through.
//!
//! This reader only ever says "yes, these are the fields" or nothing. Whatever is out of the ordinary
//! (a field it does not know or has seen already, another type, bytes missing or left over) is
//! `rmp-serde`'s to read or to refuse, so that there is one opinion of what is a listen; a property
//! test holds the two against each other.

use std::borrow::Cow;

use super::Fields;

/// The fields of a record, if it is an ordinary one.
pub(super) fn fields(bytes: &[u8]) -> Option<Fields<'_>> {
    let mut bytes = Bytes(bytes);
    let pairs = match bytes.byte()? {
        short @ 0x80..=0x8f => usize::from(short & 0x0f),
        0xde => usize::from(u16::from_be_bytes(bytes.array()?)),
        _ => return None,
    };
    let mut fields = Fields::default();
    let mut seen = 0u16;
    for _ in 0..pairs {
        let name = bytes.text()?;
        let bit = match name {
            "v" => {
                fields.v = u16::try_from(bytes.integer()?).ok()?;
                1
            }
            "user" => {
                fields.user = bytes.optional_text()?;
                1 << 1
            }
            "mbid" => {
                fields.mbid = bytes.optional_text()?;
                1 << 2
            }
            "artist" => {
                fields.artist = bytes.optional_text()?;
                1 << 3
            }
            "title" => {
                fields.title = bytes.optional_text()?;
                1 << 4
            }
            "at_ms" => {
                fields.at_ms = bytes.optional_integer()?;
                1 << 5
            }
            "duration_ms" => {
                fields.duration_ms = bytes.optional_integer()?;
                1 << 6
            }
            "played_ms" => {
                fields.played_ms = bytes.optional_integer()?;
                1 << 7
            }
            "heartbeat_ms" => {
                fields.heartbeat_ms = bytes.optional_integer()?;
                1 << 8
            }
            _ => return None,
        };
        if seen & bit != 0 {
            return None;
        }
        seen |= bit;
    }
    // A record without a version is one that `rmp-serde` refuses.
    (seen & 1 != 0 && bytes.0.is_empty()).then_some(fields)
}

/// What is left to read. The markers are those of
/// <https://github.com/msgpack/msgpack/blob/master/spec.md>.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    #[inline]
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    #[inline]
    fn is_nil(&mut self) -> bool {
        let nil = self.0.first() == Some(&0xc0);
        if nil {
            self.0 = self.0.get(1..).unwrap_or_default();
        }
        nil
    }

    #[inline]
    fn text(&mut self) -> Option<&'a str> {
        let length = match self.byte()? {
            short @ 0xa0..=0xbf => usize::from(short & 0x1f),
            0xd9 => usize::from(self.byte()?),
            0xda => usize::from(u16::from_be_bytes(self.array()?)),
            0xdb => usize::try_from(u32::from_be_bytes(self.array()?)).ok()?,
            _ => return None,
        };
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    #[inline]
    fn integer(&mut self) -> Option<i64> {
        Some(match self.byte()? {
            small @ 0x00..=0x7f => i64::from(small),
            small @ 0xe0..=0xff => i64::from(small.cast_signed()),
            0xcc => i64::from(self.byte()?),
            0xcd => i64::from(u16::from_be_bytes(self.array()?)),
            0xce => i64::from(u32::from_be_bytes(self.array()?)),
            0xcf => i64::try_from(u64::from_be_bytes(self.array()?)).ok()?,
            0xd0 => i64::from(self.byte()?.cast_signed()),
            0xd1 => i64::from(i16::from_be_bytes(self.array()?)),
            0xd2 => i64::from(i32::from_be_bytes(self.array()?)),
            0xd3 => i64::from_be_bytes(self.array()?),
            _ => return None,
        })
    }

    #[inline]
    fn optional_text(&mut self) -> Option<Option<Cow<'a, str>>> {
        if self.is_nil() {
            return Some(None);
        }
        self.text().map(|text| Some(Cow::Borrowed(text)))
    }

    #[inline]
    fn optional_integer(&mut self) -> Option<Option<i64>> {
        if self.is_nil() {
            return Some(None);
        }
        self.integer().map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::select;

    /// Records that are nearly right: what a mutation of one of ours looks like.
    fn nearly() -> impl Strategy<Value = Vec<u8>> {
        let names = vec![
            "v",
            "user",
            "mbid",
            "artist",
            "title",
            "at_ms",
            "duration_ms",
            "played_ms",
            "heartbeat_ms",
            "mood",
        ];
        let value = prop_oneof![
            Just(vec![0xc0]),
            Just(vec![0xc3]),
            Just(vec![0x01]),
            any::<i64>().prop_map(|n| rmp_serde::to_vec(&n).unwrap()),
            any::<u64>().prop_map(|n| rmp_serde::to_vec(&n).unwrap()),
            any::<f64>().prop_map(|n| rmp_serde::to_vec(&n).unwrap()),
            ".{0,40}".prop_map(|text| rmp_serde::to_vec(&text).unwrap()),
            prop::collection::vec(any::<u8>(), 0..4),
        ];
        let pairs = prop::collection::vec((select(names), value), 0..10);
        (pairs, any::<bool>(), any::<bool>(), 0usize..3).prop_map(|(pairs, long, version, cut)| {
            let count = pairs.len() + usize::from(version);
            let mut bytes = if long {
                vec![0xde, 0, count as u8]
            } else {
                vec![0x80 | count as u8]
            };
            if version {
                bytes.extend([0xa1, b'v', 1]);
            }
            for (name, value) in pairs {
                bytes.extend(rmp_serde::to_vec(name).unwrap());
                bytes.extend(value);
            }
            bytes.truncate(bytes.len().saturating_sub(cut));
            bytes
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        #[test]
        fn what_is_read_quickly_is_what_rmp_serde_reads(bytes in nearly()) {
            if let Some(quick) = fields(&bytes) {
                let slow: Fields<'_> = rmp_serde::from_slice(&bytes).unwrap();
                prop_assert_eq!(quick, slow);
            }
        }

        #[test]
        fn what_segue_writes_is_read_quickly(
            user in ".{1,40}", artist in ".{0,300}", title in prop::option::of(".{0,40}"),
            at in any::<i64>(), duration in any::<Option<i64>>(), beat in any::<Option<i64>>(),
        ) {
            let written = Fields {
                v: 1,
                user: Some(Cow::Owned(user)),
                artist: Some(Cow::Owned(artist)),
                title: title.map(Cow::Owned),
                at_ms: Some(at),
                duration_ms: duration,
                heartbeat_ms: beat,
                ..Fields::default()
            };
            let mut bytes = Vec::new();
            rmp_serde::encode::write_named(&mut bytes, &written).unwrap();
            prop_assert_eq!(fields(&bytes), Some(written));
        }
    }
}
