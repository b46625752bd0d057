//! How tracks are spelt, and which track each spelling stands for: a track's key is a normalised hash
//! of its names, worked out byte by byte; a spelling that was seen before does not need it again.
//!
//! Only a short cut: what it answers is what the key would have, and nothing of it is in a checkpoint.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use segue_listen::TrackId;
use segue_memory::LargePages;
use xxhash_rust::xxh3::xxh3_128;

/// Spellings longer than this, all parts together, are not remembered: bytes.
const LONGEST: usize = 512;

/// What the cache may hold beyond twice the number of tracks: a log in which everyone spells
/// differently makes it begin anew, not grow.
const SPARE: usize = 1 << 16;

/// Between the parts; not a byte of any UTF-8 text, and what is not is never remembered.
const SEPARATOR: u8 = 0xff;

/// A spelling's hash: 96 bits are wide enough that a catalogue of 10^8 tracks expects no collision, and
/// with what is known of it they fit into 20 bytes. The narrower the table, the more of it is in the
/// processor's cache.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Spelling([u32; 3]);

/// What is known of a spelling's track.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Spelt {
    pub(crate) track: TrackId,
    /// Low bits of its key's digest.
    pub(crate) tie: u32,
}

/// Spellings seen.
#[derive(Default)]
pub(crate) struct Spellings {
    known: HashMap<Spelling, Spelt, FixedState, LargePages>,
    /// The parts of the one that is being hashed.
    parts: Vec<u8>,
}

impl Spellings {
    /// Of a track's MusicBrainz id, artist and title; `None` if it is too long to be remembered.
    pub(crate) fn of(&mut self, parts: [&[u8]; 3]) -> Option<Spelling> {
        self.parts.clear();
        for part in parts {
            if self.parts.len() + part.len() >= LONGEST {
                return None;
            }
            self.parts.extend_from_slice(part);
            self.parts.push(SEPARATOR);
        }
        let hash = xxh3_128(&self.parts);
        Some(Spelling([0, 32, 64].map(|bits| (hash >> bits) as u32)))
    }

    pub(crate) fn get(&self, spelling: Spelling) -> Option<Spelt> {
        self.known.get(&spelling).copied()
    }

    /// Remembers a spelling, where `tracks` are known.
    pub(crate) fn put(&mut self, spelling: Spelling, spelt: Spelt, tracks: usize) {
        if self.known.len() >= 2 * tracks + SPARE {
            self.known.clear();
        }
        self.known.insert(spelling, spelt);
    }

    pub(crate) fn clear(&mut self) {
        self.known.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let mut spellings = Spellings::default();
        let mut of = |parts: [&str; 3]| spellings.of(parts.map(str::as_bytes));
        let one = of(["", "a b", "c"]);
        assert_ne!(one, of(["", "a", "b c"]));
        assert_ne!(one, of(["a b", "", "c"]));
        assert_eq!(one, of(["", "a b", "c"]));
        let long = "x".repeat(LONGEST);
        assert_eq!(of(["", &long, ""]), None);
        assert!(of(["", &long[..LONGEST - 3], ""]).is_some());
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut spellings = Spellings::default();
        let spelt = Spelt {
            track: TrackId(0),
            tie: 0,
        };
        for number in 0..3 * SPARE as u32 {
            spellings.put(Spelling([number, 0, 0]), spelt, 1);
            assert!(spellings.known.len() <= SPARE + 2);
        }
    }
}
