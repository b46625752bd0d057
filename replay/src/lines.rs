//! Lines of a byte stream, borrowed from one buffer. A line beyond the limit is passed over without
//! being held.

use std::io::{self, Read};

/// How much is read at a time.
const BLOCK_BYTES: usize = 256 * 1024;

/// How much of a line that is too long is kept, for the rejects file.
const HEAD_BYTES: usize = 1024;

/// A line without its line feed (and without a carriage return before it).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line<'a> {
    /// All of it.
    Whole(&'a [u8]),
    /// Longer than the limit: its beginning, and how many bytes it has.
    TooLong {
        /// The first bytes.
        head: &'a [u8],
        /// Its length in bytes.
        bytes: u64,
    },
}

/// A byte order mark and a carriage return, which are not counted: only a line that is longer by more
/// is surely too long before its end is seen.
const MARKS: usize = 4;

/// A reader of lines. Memory: the limit plus one block, whatever the input.
#[derive(Debug)]
pub struct Lines<R> {
    input: R,
    buffer: Vec<u8>,
    /// The unread part of the buffer.
    start: usize,
    end: usize,
    /// Where in the buffer the search for a line feed goes on.
    searched: usize,
    number: u64,
    limit: usize,
    ended: bool,
}

impl<R: Read> Lines<R> {
    /// Reads lines of at most `limit` bytes.
    pub fn new(input: R, limit: usize) -> Self {
        Self {
            input,
            buffer: vec![0; BLOCK_BYTES],
            start: 0,
            end: 0,
            searched: 0,
            number: 0,
            limit: limit.max(1),
            ended: false,
        }
    }

    /// The number of the line last returned, from 1.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The next line; `None` at the end. The last line needs no line feed.
    ///
    /// # Errors
    /// What the input says; lines returned before were read well.
    pub fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        loop {
            let unsearched = self.buffer.get(self.searched..self.end).unwrap_or(&[]);
            if let Some(at) = memchr::memchr(b'\n', unsearched) {
                let line = self.start..self.searched + at;
                self.start = line.end + 1;
                self.searched = self.start;
                return Ok(Some(self.whole(line)));
            }
            self.searched = self.end;
            if self.end - self.start > self.limit + MARKS {
                return self.pass_over().map(Some);
            }
            if self.ended {
                if self.start == self.end {
                    return Ok(None);
                }
                let line = self.start..self.end;
                self.start = self.end;
                return Ok(Some(self.whole(line)));
            }
            self.fill()?;
        }
    }

    fn whole(&mut self, range: std::ops::Range<usize>) -> Line<'_> {
        self.number += 1;
        let line = self.buffer.get(range).unwrap_or(&[]);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // A byte order mark is the editor's, not the log's.
        let line = match line.strip_prefix(b"\xef\xbb\xbf") {
            Some(rest) if self.number == 1 => rest,
            _ => line,
        };
        if line.len() > self.limit {
            let head = line.get(..HEAD_BYTES).unwrap_or(line);
            return Line::TooLong {
                head,
                bytes: line.len() as u64,
            };
        }
        Line::Whole(line)
    }

    /// Reads on to the end of a line that is too long, keeping only its head.
    fn pass_over(&mut self) -> io::Result<Line<'_>> {
        self.number += 1;
        let head = HEAD_BYTES.min(self.end - self.start);
        self.buffer.copy_within(self.start..self.start + head, 0);
        let mut bytes = (self.end - self.start) as u64;
        let tail = HEAD_BYTES.max(head);
        if self.buffer.len() < tail + BLOCK_BYTES {
            self.buffer.resize(tail + BLOCK_BYTES, 0);
        }
        loop {
            let block = self.buffer.get_mut(tail..).unwrap_or(&mut []);
            let read = read_some(&mut self.input, block)?;
            if read == 0 {
                self.ended = true;
                (self.start, self.end) = (tail, tail);
                break;
            }
            let block = self.buffer.get(tail..tail + read).unwrap_or(&[]);
            if let Some(at) = memchr::memchr(b'\n', block) {
                bytes += at as u64;
                (self.start, self.end) = (tail + at + 1, tail + read);
                break;
            }
            bytes += read as u64;
        }
        self.searched = self.start;
        Ok(Line::TooLong {
            head: self.buffer.get(..head).unwrap_or(&[]),
            bytes,
        })
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.searched -= self.start;
            self.start = 0;
        }
        if self.buffer.len() - self.end < BLOCK_BYTES / 2 {
            self.buffer.resize(self.end + BLOCK_BYTES, 0);
        }
        let free = self.buffer.get_mut(self.end..).unwrap_or(&mut []);
        let read = read_some(&mut self.input, free)?;
        self.ended = read == 0;
        self.end += read;
        Ok(())
    }
}

/// One read that is not interrupted.
pub(crate) fn read_some(input: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(into) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Gives a few bytes at a time, as a slow decoder does.
    struct Dribble<'a>(&'a [u8], usize);

    impl Read for Dribble<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let some = self.1.min(into.len()).min(self.0.len());
            into[..some].copy_from_slice(&self.0[..some]);
            self.0 = &self.0[some..];
            Ok(some)
        }
    }

    fn all(bytes: &[u8], step: usize, limit: usize) -> Vec<Result<Vec<u8>, u64>> {
        let mut lines = Lines::new(Dribble(bytes, step), limit);
        let mut seen = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            seen.push(match line {
                Line::Whole(line) => Ok(line.to_vec()),
                Line::TooLong { bytes, .. } => Err(bytes),
            });
        }
        assert_eq!(lines.number(), seen.len() as u64);
        seen
    }

    proptest! {
        #[test]
        fn as_splitting_the_whole_would(
            lines in prop::collection::vec("[a-z]{0,12}", 0..40), step in 1usize..40,
            last_ends in any::<bool>(),
        ) {
            let mut text = lines.join("\n");
            if last_ends && !text.is_empty() { text.push('\n'); }
            let expected: Vec<_> = text.lines().map(|l| {
                if l.len() > 8 { Err(l.len() as u64) } else { Ok(l.as_bytes().to_vec()) }
            }).collect();
            prop_assert_eq!(all(text.as_bytes(), step, 8), expected);
        }
    }

    #[test]
    fn ten_megabytes_in_one_line_are_passed_over_in_little_memory() {
        let mut text = b"first\n".to_vec();
        text.resize(text.len() + 10 * 1024 * 1024, b'x');
        text.extend_from_slice(b"\r\nlast");
        let mut lines = Lines::new(text.as_slice(), 64 * 1024);
        assert_eq!(lines.next_line().unwrap(), Some(Line::Whole(b"first")));
        match lines.next_line().unwrap() {
            Some(Line::TooLong { head, bytes }) => {
                assert_eq!((head.len(), bytes), (HEAD_BYTES, 10 * 1024 * 1024 + 1));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(lines.next_line().unwrap(), Some(Line::Whole(b"last")));
        assert_eq!(lines.next_line().unwrap(), None);
        assert!(lines.buffer.len() < 1024 * 1024);
    }

    #[test]
    fn marks_of_editors_are_not_part_of_a_line() {
        let expected = [Ok(b"a".to_vec()), Ok(b"b".to_vec())];
        assert_eq!(all(b"\xef\xbb\xbfa\r\nb\r\n", 3, 10), expected);
    }
}
