//! MessagePack as Segue writes it, read without a general deserialiser: three times as fast, and it
//! is what every message of a topic goes through.
//!
//! This reader only ever says "yes, these are the fields" or nothing. Whatever is out of the ordinary
//! (a field it does not know or has seen already, another type, bytes missing or left over) is
//! `rmp-serde`'s to read or to refuse, so that there is one opinion of what is a listen; a property
//! test holds the two against each other.

use std::borrow::Cow;

use super::{Fields, LONGEST_PLAY, VERSION};
use crate::time::{EventTime, Span};

/// What an ordinary record says, before anyone has looked whether its text is text: enough to recognise
/// a listener and a track that were seen before.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Glance<'a> {
    v: u16,
    user: Option<&'a [u8]>,
    mbid: Option<&'a [u8]>,
    artist: Option<&'a [u8]>,
    title: Option<&'a [u8]>,
    /// The three fields above as they are encoded, where they follow each other.
    spelling: &'a [u8],
    at_ms: Option<i64>,
    duration_ms: Option<i64>,
    played_ms: Option<i64>,
    heartbeat_ms: Option<i64>,
}

impl<'a> Glance<'a> {
    /// The listener.
    pub fn user(&self) -> &'a [u8] {
        self.user.unwrap_or_default()
    }

    /// The encoded fields that the track's key follows from (MusicBrainz id, artist, title): the same bytes
    /// are the same track. Empty where other fields lie between them.
    pub fn spelling(&self) -> &'a [u8] {
        self.spelling
    }

    /// When it started, how long the track is, and how long it was played; `None` where any of it is
    /// nothing that a play can say, or the record no play.
    pub fn times(&self) -> Option<(EventTime, Option<Span>, Option<Span>)> {
        if self.v != VERSION || self.heartbeat_ms.is_some() {
            return None;
        }
        let length = |millis: Option<i64>| match millis {
            None => Some(None),
            Some(millis) if (0..=LONGEST_PLAY.millis()).contains(&millis) => {
                Some(Some(Span::from_millis(millis)))
            }
            Some(_) => None,
        };
        let at = EventTime::plausible(self.at_ms?).ok()?;
        Some((at, length(self.duration_ms)?, length(self.played_ms)?))
    }

    /// The fields, if their text is text.
    pub(super) fn fields(&self) -> Option<Fields<'a>> {
        let text = |bytes: Option<&'a [u8]>| match bytes {
            None => Some(None),
            Some(bytes) => Some(Some(Cow::Borrowed(std::str::from_utf8(bytes).ok()?))),
        };
        Some(Fields {
            v: self.v,
            user: text(self.user)?,
            mbid: text(self.mbid)?,
            artist: text(self.artist)?,
            title: text(self.title)?,
            at_ms: self.at_ms,
            duration_ms: self.duration_ms,
            played_ms: self.played_ms,
            heartbeat_ms: self.heartbeat_ms,
        })
    }
}

/// The fields that name the track, as bits of what was seen.
const NAMES: u16 = 1 << 2 | 1 << 3 | 1 << 4;

/// What a record says, if it is an ordinary one in MessagePack; [`super::decode`] has the say about all
/// others.
pub fn glance(bytes: &[u8]) -> Option<Glance<'_>> {
    let whole = bytes;
    let mut bytes = Bytes(bytes);
    // Where the names of the track begin and end, and whether other fields lie between them.
    let (mut names, mut torn) = (0..0, false);
    let pairs = match bytes.byte()? {
        short @ 0x80..=0x8f => usize::from(short & 0x0f),
        0xde => usize::from(u16::from_be_bytes(bytes.array()?)),
        _ => return None,
    };
    let mut glance = Glance::default();
    let mut seen = 0u16;
    for _ in 0..pairs {
        let from = whole.len() - bytes.0.len();
        let bit = match bytes.string()? {
            b"v" => {
                glance.v = u16::try_from(bytes.integer()?).ok()?;
                1
            }
            b"user" => {
                glance.user = bytes.optional(Bytes::string)?;
                1 << 1
            }
            b"mbid" => {
                glance.mbid = bytes.optional(Bytes::string)?;
                1 << 2
            }
            b"artist" => {
                glance.artist = bytes.optional(Bytes::string)?;
                1 << 3
            }
            b"title" => {
                glance.title = bytes.optional(Bytes::string)?;
                1 << 4
            }
            b"at_ms" => {
                glance.at_ms = bytes.optional(Bytes::integer)?;
                1 << 5
            }
            b"duration_ms" => {
                glance.duration_ms = bytes.optional(Bytes::integer)?;
                1 << 6
            }
            b"played_ms" => {
                glance.played_ms = bytes.optional(Bytes::integer)?;
                1 << 7
            }
            b"heartbeat_ms" => {
                glance.heartbeat_ms = bytes.optional(Bytes::integer)?;
                1 << 8
            }
            _ => return None,
        };
        if seen & bit != 0 {
            return None;
        }
        seen |= bit;
        if bit & NAMES != 0 {
            torn |= !names.is_empty() && names.end != from;
            let begin = if names.is_empty() { from } else { names.start };
            names = begin..whole.len() - bytes.0.len();
        }
    }
    if !torn {
        glance.spelling = whole.get(names)?;
    }
    // A record without a version is one that `rmp-serde` refuses.
    (seen & 1 != 0 && bytes.0.is_empty()).then_some(glance)
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

    /// The bytes of a string, whatever they are.
    #[inline]
    fn string(&mut self) -> Option<&'a [u8]> {
        let length = match self.byte()? {
            short @ 0xa0..=0xbf => usize::from(short & 0x1f),
            0xd9 => usize::from(self.byte()?),
            0xda => usize::from(u16::from_be_bytes(self.array()?)),
            0xdb => usize::try_from(u32::from_be_bytes(self.array()?)).ok()?,
            _ => return None,
        };
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(string)
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

    /// A value that may be nil.
    #[inline]
    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.is_nil() {
            return Some(None);
        }
        read(self).map(Some)
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
            if let Some(quick) = glance(&bytes).and_then(|glance| glance.fields()) {
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
            prop_assert_eq!(glance(&bytes).and_then(|glance| glance.fields()), Some(written));
        }
    }
}
