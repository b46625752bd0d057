//! How tracks are spelt, and which track each spelling stands for: a track's key is a normalised hash
//! of its names, worked out byte by byte; a spelling that was seen before does not need it again.
//!
//! Only a short cut: what it answers is what the key would have, and nothing of it is in a checkpoint.

use std::hint::black_box;

use segue_listen::TrackId;
use xxhash_rust::xxh3::xxh3_128;

/// Names longer than this, all together, are not remembered: bytes.
const LONGEST: usize = 512;

/// Places of a bucket, which is one line of the processor's cache.
const PLACES: usize = 3;

/// Buckets of an empty table, a power of two.
const FEWEST: usize = 1 << 10;

/// Buckets that a table may have for each track that is known: a log in which everyone spells differently
/// makes it forget, not grow.
const PER_TRACK: usize = 4;

/// A spelling's hash: 96 bits are wide enough that a catalogue of 10^8 tracks expects no collision, and
/// with what is known of it they fit into 20 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Spelling([u32; 3]);

impl Spelling {
    /// Of the names of a track as they are encoded; `None` if there are none, or they are too long to be
    /// remembered.
    #[inline]
    pub(crate) fn of(names: &[u8]) -> Option<Self> {
        if names.is_empty() || names.len() > LONGEST {
            return None;
        }
        let hash = xxh3_128(names);
        Some(Self([0, 32, 64].map(|bits| (hash >> bits) as u32)))
    }

    /// Its bucket among so many, a power of two.
    #[inline]
    const fn bucket(self, buckets: usize) -> usize {
        (self.0[0] as usize) & (buckets - 1)
    }
}

/// What is known of a spelling's track.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Spelt {
    pub(crate) track: TrackId,
    /// Low bits of its key's digest.
    pub(crate) tie: u32,
}

/// The newest spellings of those that fall here, newest first, and how many there are.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
struct Bucket {
    places: [(Spelling, Spelt); PLACES],
    taken: u32,
}

impl Bucket {
    fn put(&mut self, spelling: Spelling, spelt: Spelt) {
        self.places.rotate_right(1);
        self.places[0] = (spelling, spelt);
        self.taken = (self.taken + 1).min(PLACES as u32);
    }

    fn known(&self) -> &[(Spelling, Spelt)] {
        self.places.get(..self.taken as usize).unwrap_or_default()
    }
}

/// Spellings seen. A look-up touches one line of memory; a full bucket forgets its oldest.
pub(crate) struct Spellings {
    buckets: Vec<Bucket>,
    /// Spellings that were put in since it has this size.
    put: usize,
}

impl Default for Spellings {
    fn default() -> Self {
        Self {
            buckets: vec![Bucket::default(); FEWEST],
            put: 0,
        }
    }
}

impl Spellings {
    /// Reads the line of memory that a look-up will need: asked for together, many come together.
    #[inline]
    pub(crate) fn touch(&self, spelling: Spelling) {
        let bucket = self.buckets.get(spelling.bucket(self.buckets.len()));
        black_box(bucket.map(|bucket| bucket.taken));
    }

    #[inline]
    pub(crate) fn get(&self, spelling: Spelling) -> Option<Spelt> {
        let bucket = self.buckets.get(spelling.bucket(self.buckets.len()))?;
        let known = bucket.known().iter().find(|known| known.0 == spelling);
        known.map(|known| known.1)
    }

    /// Remembers a spelling, where `tracks` are known.
    pub(crate) fn put(&mut self, spelling: Spelling, spelt: Spelt, tracks: usize) {
        // With one for each bucket one of fifty finds its bucket full.
        if self.put >= self.buckets.len() && self.buckets.len() < PER_TRACK * tracks {
            self.grow();
        }
        self.put += 1;
        let at = spelling.bucket(self.buckets.len());
        if let Some(bucket) = self.buckets.get_mut(at) {
            bucket.put(spelling, spelt);
        }
    }

    #[cold]
    fn grow(&mut self) {
        let mut grown = Vec::new();
        let buckets = 2 * self.buckets.len();
        segue_memory::make_room(&mut grown, buckets);
        grown.resize(buckets, Bucket::default());
        for (spelling, spelt) in self.buckets.iter().flat_map(|b| b.known().iter().rev()) {
            if let Some(bucket) = grown.get_mut(spelling.bucket(buckets)) {
                bucket.put(*spelling, *spelt);
            }
        }
        self.buckets = grown;
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_enough_is_told_apart() {
        assert_eq!(Spelling::of(b"a"), Spelling::of(b"a"));
        assert_ne!(Spelling::of(b"a"), Spelling::of(b"b"));
        let long = [b'x'; LONGEST + 1];
        assert_eq!(Spelling::of(&long), None);
        assert!(Spelling::of(&long[1..]).is_some());
        assert_eq!(Spelling::of(b""), None);
    }

    #[test]
    fn what_was_put_in_is_found_as_the_table_grows() {
        let mut spellings = Spellings::default();
        let of = |number: usize| Spelling::of(&number.to_le_bytes()).unwrap();
        let spelt = |number: usize| Spelt {
            track: TrackId(number as u32),
            tie: !(number as u32),
        };
        let many = 20 * FEWEST;
        for number in 0..many {
            assert_eq!(spellings.get(of(number)), None);
            spellings.put(of(number), spelt(number), number);
        }
        let found = (0..many).filter(|number| match spellings.get(of(*number)) {
            Some(known) => {
                assert_eq!(known, spelt(*number));
                true
            }
            None => false,
        });
        let found = found.count();
        assert!(found > many * 9 / 10, "{found} of {many}");
        assert_eq!(spellings.get(of(many)), None);
        spellings.clear();
        assert_eq!(spellings.get(of(0)), None);
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut spellings = Spellings::default();
        for number in 0..10 * FEWEST {
            let spelling = Spelling::of(&number.to_le_bytes()).unwrap();
            spellings.put(spelling, Spelt::default(), 1);
        }
        assert_eq!(spellings.buckets.len(), FEWEST);
        let newest = Spelling::of(&(10 * FEWEST - 1).to_le_bytes()).unwrap();
        assert_eq!(spellings.get(newest), Some(Spelt::default()));
    }
}
