//! How one record lies in a segment file. Knows bytes only: no files, no topics.
//!
//! ```text
//! u32  length of the body, in bytes
//! u64  xxh3-64 of the body, seeded with that length
//! body u64 offset · i64 timestamp (ms) · i32 key length · i32 value length · u16 headers
//!      each header: u16 name length · i32 value length · name · value
//!      key · value
//! ```
//! All little-endian; a length of -1 is an absent key or value (a tombstone), which is not the same
//! as an empty one. The seed makes a damaged length show in the checksum.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Stands for "no timestamp"; Kafka's -1 would be a moment of 1969.
pub const NO_TIMESTAMP: i64 = i64::MIN;
/// Bytes before the body.
pub const PREFIX: usize = 12;
/// Bytes of the body before headers, key and value.
const FIXED: usize = 26;

/// A record as it lies in a segment: borrowed from the buffer it was read into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Position of the record in its partition, from 0, without gaps.
    pub offset: u64,
    /// The producer's timestamp: milliseconds since 1970, UTC.
    pub timestamp: i64,
    /// What the partition was chosen by; absent and empty are different.
    pub key: Option<&'a [u8]>,
    /// The payload; absent in a tombstone.
    pub value: Option<&'a [u8]>,
    /// Name and value pairs.
    pub headers: Headers<'a>,
}

/// Headers of a [`Frame`], decoded as they are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headers<'a> {
    bytes: &'a [u8],
    count: u16,
}

/// What is at a place where a record should start.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A whole record and the bytes it takes.
    Whole(Frame<'a>, usize),
    /// The bytes end before the record does; so many are needed in all.
    Short(usize),
    /// Not a record, and why.
    Damaged(&'static str),
}

/// Appends one record to `out`.
pub fn encode<'h>(
    out: &mut Vec<u8>,
    offset: u64,
    timestamp: i64,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: impl Iterator<Item = (&'h str, &'h [u8])>,
) -> Result<(), TooLarge> {
    let start = out.len();
    let result = encode_body(out, offset, timestamp, key, value, headers);
    let sealed = result.and_then(|()| {
        let body = out.get(start + PREFIX..).unwrap_or_default();
        let length = u32::try_from(body.len()).map_err(|_| TooLarge)?;
        Ok((length, xxh3_64_with_seed(body, u64::from(length))))
    });
    match (sealed, out.get_mut(start..start + PREFIX)) {
        (Ok((length, checksum)), Some(prefix)) => {
            let (first, second) = prefix.split_at_mut(4);
            first.copy_from_slice(&length.to_le_bytes());
            second.copy_from_slice(&checksum.to_le_bytes());
            Ok(())
        }
        _ => {
            out.truncate(start);
            Err(TooLarge)
        }
    }
}

/// A key, value or header whose length does not fit its field.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLarge;

fn encode_body<'h>(
    out: &mut Vec<u8>,
    offset: u64,
    timestamp: i64,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: impl Iterator<Item = (&'h str, &'h [u8])>,
) -> Result<(), TooLarge> {
    out.extend_from_slice(&[0; PREFIX]);
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&timestamp.to_le_bytes());
    out.extend_from_slice(&signed_length(key)?.to_le_bytes());
    out.extend_from_slice(&signed_length(value)?.to_le_bytes());
    let count_at = out.len();
    out.extend_from_slice(&[0; 2]);
    let mut count = 0_u16;
    for (name, value) in headers {
        count = count.checked_add(1).ok_or(TooLarge)?;
        let length = u16::try_from(name.len()).map_err(|_| TooLarge)?;
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&signed_length(Some(value))?.to_le_bytes());
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(value);
    }
    if let Some(field) = out.get_mut(count_at..count_at + 2) {
        field.copy_from_slice(&count.to_le_bytes());
    }
    out.extend_from_slice(key.unwrap_or_default());
    out.extend_from_slice(value.unwrap_or_default());
    Ok(())
}

fn signed_length(bytes: Option<&[u8]>) -> Result<i32, TooLarge> {
    bytes.map_or(Ok(-1), |bytes| {
        i32::try_from(bytes.len()).map_err(|_| TooLarge)
    })
}

/// Reads the record at the start of `bytes`; `longest` bounds a body, so that a damaged length is
/// not taken for a record still to be waited for.
pub fn parse(bytes: &[u8], longest: usize) -> Parsed<'_> {
    let mut at = Cursor(bytes);
    let (Some(length), Some(checksum)) = (at.u32(), at.u64()) else {
        return Parsed::Short(PREFIX);
    };
    let body_length = length as usize;
    if body_length < FIXED || body_length > longest {
        return Parsed::Damaged("its length is impossible");
    }
    let Some(body) = at.take(body_length) else {
        return Parsed::Short(PREFIX + body_length);
    };
    if xxh3_64_with_seed(body, u64::from(length)) != checksum {
        return Parsed::Damaged("its checksum does not match");
    }
    match parse_body(body) {
        Some(frame) => Parsed::Whole(frame, PREFIX + body_length),
        None => Parsed::Damaged("its fields do not add up"),
    }
}

/// The fields of exactly one record that [`parse`] has found whole.
pub fn parse_again(record: &[u8]) -> Option<Frame<'_>> {
    parse_body(record.get(PREFIX..)?)
}

/// Bytes that a record takes in a segment.
pub fn size(key: usize, value: usize, headers: &[(&str, &[u8])]) -> usize {
    let header = |(name, value): &(&str, &[u8])| 6 + name.len() + value.len();
    PREFIX + FIXED + key + value + headers.iter().map(header).sum::<usize>()
}

fn parse_body(body: &[u8]) -> Option<Frame<'_>> {
    let mut at = Cursor(body);
    let offset = at.u64()?;
    let timestamp = at.u64()?.cast_signed();
    let key_length = at.u32()?.cast_signed();
    let value_length = at.u32()?.cast_signed();
    let count = at.u16()?;
    let after_counts = at.0;
    for _ in 0..count {
        at.header()?;
    }
    let headers = after_counts.get(..after_counts.len() - at.0.len())?;
    let key = at.optional(key_length)?;
    let value = at.optional(value_length)?;
    let headers = Headers {
        bytes: headers,
        count,
    };
    at.0.is_empty().then_some(Frame {
        offset,
        timestamp,
        key,
        value,
        headers,
    })
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        let mut at = Cursor(self.bytes);
        let header = at.header()?;
        self.bytes = at.0;
        Some(header)
    }
}

/// Takes fields off the front; `None` where the bytes end.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Bytes of a field whose length is -1 when it is absent.
    #[allow(clippy::option_option)]
    fn optional(&mut self, length: i32) -> Option<Option<&'a [u8]>> {
        if length == -1 {
            return Some(None);
        }
        self.take(usize::try_from(length).ok()?).map(Some)
    }

    fn header(&mut self) -> Option<(&'a str, &'a [u8])> {
        let name_length = self.u16()?;
        let value_length = usize::try_from(self.u32()?.cast_signed()).ok()?;
        let name = std::str::from_utf8(self.take(usize::from(name_length))?).ok()?;
        Some((name, self.take(value_length)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: usize = 1 << 20;

    fn one(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(&mut bytes, 7, -5, key, value, headers.iter().copied()).unwrap();
        bytes
    }

    #[test]
    fn every_shape_comes_back() {
        let keys = [None, Some(&b""[..]), Some(&b"user_000001"[..])];
        let values = [None, Some(&b""[..]), Some(&[0, 255, 128][..])];
        let headers: [&[(&str, &[u8])]; 2] = [&[], &[("content-type", b"x"), ("", b"")]];
        for key in keys {
            for value in values {
                for header in headers {
                    let bytes = one(key, value, header);
                    let Parsed::Whole(frame, used) = parse(&bytes, LONGEST) else {
                        panic!("{key:?} {value:?} {header:?}");
                    };
                    assert_eq!((frame.offset, frame.timestamp), (7, -5));
                    assert_eq!((frame.key, frame.value, used), (key, value, bytes.len()));
                    assert_eq!(frame.headers.collect::<Vec<_>>(), header);
                }
            }
        }
    }

    #[test]
    fn any_changed_bit_is_seen() {
        let bytes = one(Some(b"key"), Some(b"value"), &[("name", b"text")]);
        for place in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[place / 8] ^= 1 << (place % 8);
            assert!(
                !matches!(parse(&bad, LONGEST), Parsed::Whole(..)),
                "bit {place}"
            );
        }
    }

    #[test]
    fn any_cut_asks_for_more() {
        let bytes = one(Some(b"key"), Some(b"value"), &[]);
        for length in 0..bytes.len() {
            assert!(
                matches!(parse(&bytes[..length], LONGEST), Parsed::Short(_)),
                "{length}"
            );
        }
    }

    #[test]
    fn a_body_over_the_bound_is_damage_not_patience() {
        let bytes = one(None, Some(&[1; 100]), &[]);
        assert_eq!(
            parse(&bytes[..PREFIX], 100),
            Parsed::Damaged("its length is impossible")
        );
    }

    #[test]
    fn what_does_not_fit_leaves_no_trace() {
        let name = "n".repeat(70_000);
        let mut bytes = vec![1, 2, 3];
        let headers = [(name.as_str(), &b""[..])];
        assert_eq!(
            encode(&mut bytes, 0, 0, None, None, headers.into_iter()),
            Err(TooLarge)
        );
        assert_eq!(bytes, [1, 2, 3]);
    }
}
