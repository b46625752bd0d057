//! Elements of a top-level JSON array, one at a time, whatever the array's size. One that is broken
//! inside or too long costs itself only.

use std::io::{self, BufRead, BufReader, Read};

use crate::open::damage;

const BUFFER_BYTES: usize = 128 * 1024;

/// How much of an element that is too long is kept, for the rejects file.
const HEAD_BYTES: usize = 1024;

/// One element's text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Element<'a> {
    /// All of it.
    Whole(&'a [u8]),
    /// Longer than the limit: its beginning.
    TooLong {
        /// The first bytes.
        head: &'a [u8],
    },
}

/// A reader of elements. Memory: the limit plus a buffer.
pub struct Elements<R> {
    input: BufReader<R>,
    element: Vec<u8>,
    too_long: bool,
    limit: usize,
    line: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before an array's bracket.
    Outside,
    /// Between two elements.
    Between,
    /// In an element: open brackets, and whether in a string and after a backslash.
    Within {
        depth: u32,
        string: bool,
        escaped: bool,
    },
}

enum Step {
    Took,
    Ended,
    EndedBefore,
}

impl<R: Read> Elements<R> {
    /// Reads elements of at most `limit` bytes.
    pub fn new(input: R, limit: usize) -> Self {
        Self {
            input: BufReader::with_capacity(BUFFER_BYTES, input),
            element: Vec::new(),
            too_long: false,
            limit: limit.max(1),
            line: 1,
            state: State::Outside,
        }
    }

    /// The next element and the line on which it begins; `None` after the array. Several arrays in a
    /// row read as one.
    ///
    /// # Errors
    /// What the input says; text that is no array; an array that does not end.
    pub fn next_element(&mut self) -> io::Result<Option<(u64, Element<'_>)>> {
        self.element.clear();
        self.too_long = false;
        let mut begun_on = self.line;
        loop {
            let block = match self.input.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if block.is_empty() {
                return match self.state {
                    State::Outside => Ok(None),
                    _ => Err(damage(
                        "JSON",
                        format!("it ends in line {} before the array does", self.line),
                    )),
                };
            }
            let mut used = 0;
            let mut ended = false;
            for &byte in block {
                let was = self.state;
                match step(&mut self.state, byte) {
                    Err(()) => {
                        let detail = format!("line {}: text outside the array", self.line);
                        return Err(damage("JSON", detail));
                    }
                    Ok(Step::EndedBefore) => ended = true,
                    Ok(step) => {
                        used += 1;
                        if byte == b'\n' {
                            self.line += 1;
                        }
                        if matches!(self.state, State::Within { .. }) || matches!(step, Step::Ended)
                        {
                            if was == State::Between {
                                begun_on = self.line;
                            }
                            if self.element.len() < self.limit {
                                self.element.push(byte);
                            } else {
                                self.too_long = true;
                            }
                        }
                        ended = matches!(step, Step::Ended);
                    }
                }
                if ended {
                    break;
                }
            }
            self.input.consume(used);
            if ended {
                let whole = self.element.as_slice();
                let element = if self.too_long {
                    let head = whole.get(..HEAD_BYTES).unwrap_or(whole);
                    Element::TooLong { head }
                } else {
                    Element::Whole(whole)
                };
                return Ok(Some((begun_on, element)));
            }
        }
    }
}

/// What a byte does. `Err`: it may not stand there.
fn step(state: &mut State, byte: u8) -> Result<Step, ()> {
    match state {
        State::Outside => match byte {
            b'[' => *state = State::Between,
            b' ' | b'\t' | b'\r' | b'\n' | 0xef | 0xbb | 0xbf => {}
            _ => return Err(()),
        },
        State::Between => match byte {
            b']' => *state = State::Outside,
            b',' | b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => {
                *state = State::Within {
                    depth: u32::from(matches!(byte, b'{' | b'[')),
                    string: byte == b'"',
                    escaped: false,
                };
            }
        },
        State::Within {
            string: string @ true,
            escaped,
            depth,
        } => match byte {
            _ if *escaped => *escaped = false,
            b'\\' => *escaped = true,
            b'"' => {
                *string = false;
                if *depth == 0 {
                    *state = State::Between;
                    return Ok(Step::Ended);
                }
            }
            _ => {}
        },
        State::Within { depth: 0, .. }
            if matches!(byte, b',' | b']' | b' ' | b'\r' | b'\n' | b'\t') =>
        {
            *state = State::Between;
            return Ok(Step::EndedBefore);
        }
        State::Within { depth, string, .. } => match byte {
            b'"' => *string = true,
            b'{' | b'[' => *depth = depth.saturating_add(1),
            b'}' | b']' => {
                *depth = depth.saturating_sub(1);
                if *depth == 0 {
                    *state = State::Between;
                    return Ok(Step::Ended);
                }
            }
            _ => {}
        },
    }
    Ok(Step::Took)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(text: &str, limit: usize) -> io::Result<Vec<(u64, Result<String, usize>)>> {
        let mut elements = Elements::new(text.as_bytes(), limit);
        let mut seen = Vec::new();
        while let Some((line, element)) = elements.next_element()? {
            seen.push((
                line,
                match element {
                    Element::Whole(bytes) => Ok(String::from_utf8(bytes.to_vec()).unwrap()),
                    Element::TooLong { head } => Err(head.len()),
                },
            ));
        }
        Ok(seen)
    }

    #[test]
    fn elements_with_their_lines() {
        let text = "[\n {\"a\": \"]}\\\"\", \"b\": [1, {}]},\n\n 7, \"x,y\"\n]\n[{\"c\":1}]";
        let seen = all(text, 100).unwrap();
        let expected = [
            (2, "{\"a\": \"]}\\\"\", \"b\": [1, {}]}"),
            (4, "7"),
            (4, "\"x,y\""),
            (6, "{\"c\":1}"),
        ];
        assert_eq!(
            seen,
            expected.map(|(line, text)| (line, Ok(text.to_owned())))
        );
    }

    #[test]
    fn a_long_element_costs_itself_only() {
        let text = format!(
            "[{{\"a\":1}},{{\"b\":\"{}\"}},{{\"c\":3}}]",
            "x".repeat(9_000)
        );
        let seen = all(&text, 5_000).unwrap();
        assert_eq!(seen[1], (1, Err(HEAD_BYTES)));
        assert_eq!(seen[2], (1, Ok("{\"c\":3}".to_owned())));
    }

    #[test]
    fn what_is_no_array_or_does_not_end_is_said() {
        for text in ["[{\"a\":1}", "[{\"a\":\"", "[1,", "["] {
            let error = all(text, 100).unwrap_err().to_string();
            assert!(error.contains("before the array does"), "{text}: {error}");
        }
        let error = all("[1]\n x", 100).unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
        assert!(all("[]", 100).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[\\[\\]{}\",\\\\ a1\n]{0,60}") {
            let _ = all(&text, 10);
        }
    }
}
