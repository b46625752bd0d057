//! Mutations of inputs, the same in every run.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What decoders trip over: lengths that claim the most, edges of integers, markers and brackets.
const HOSTILE: [&[u8]; 16] = [
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x00\x00\x00\x80",
    b"\x00",
    b"\xdb\xff\xff\xff\xff",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00",
    b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",
    b"9223372036854775807",
    b"-1e400",
    b"[[[[[[[[",
    b"{\"",
    b"\n",
    b"\t",
];

/// Mutates the inputs of one corpus.
pub struct Mutator<'a> {
    corpus: &'a [Vec<u8>],
    rng: ChaCha8Rng,
}

impl<'a> Mutator<'a> {
    /// A mutator whose mutations depend on the corpus and on nothing else.
    pub fn new(corpus: &'a [Vec<u8>]) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(corpus.len() as u64);
        Self { corpus, rng }
    }

    fn pick(&mut self) -> &'a [u8] {
        &self.corpus[self.rng.random_range(0..self.corpus.len())]
    }

    /// The next input: one of the corpus, changed in one place, seldom in more: most changes are
    /// refused at once and hide what a second one would do.
    pub fn mutated(&mut self) -> Vec<u8> {
        let mut bytes = self.pick().to_vec();
        self.change(&mut bytes);
        while self.rng.random_ratio(1, 4) {
            self.change(&mut bytes);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.rng.random_range(0..=bytes.len());
        let to = self.rng.random_range(at..=bytes.len().min(at + 32));
        match self.rng.random_range(0..7) {
            0 => bytes.truncate(at),
            1 => {
                let hostile = HOSTILE[self.rng.random_range(0..HOSTILE.len())];
                bytes.splice(at..to, hostile.iter().copied());
            }
            2 => {
                let other = self.pick();
                let from = self.rng.random_range(0..=other.len());
                bytes.splice(at.., other[from..].iter().copied());
            }
            3 => {
                let again = bytes[at..to].to_vec();
                bytes.splice(at..at, again);
            }
            4 => {
                bytes.drain(at..to);
            }
            5 => bytes.insert(at, self.rng.random()),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << self.rng.random_range(0..8);
                }
            }
        }
    }
}
