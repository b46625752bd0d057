//! What identifies a track and a listener: stable keys, and the dense ids that stand for them inside
//! one run.

use std::fmt;

/// A listener's address in this run. Not an identity: it differs from run to run, and nothing that
/// decides a result may depend on it.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct UserId(pub u32);

/// A track's dense address in this run, given in order of first sight. Not an identity: initial
/// vectors, negative samples and tie-breaks come from the [`TrackKey`].
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct TrackId(pub u32);

impl TrackId {
    /// The id as an index into a table with a row per track.
    pub const fn row(self) -> usize {
        self.0 as usize
    }
}

/// A track's identity, the same in every run and on every machine: its MusicBrainz id where the log
/// has one, else a hash of the normalised artist and title.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TrackKey(pub u128);

/// The version nibble that RFC 9562 leaves to custom schemes (8). MusicBrainz ids are of version 3
/// or 4, so a hashed key is never taken for one.
const CUSTOM_UUID_VERSION: u128 = 0x8 << 76;
const UUID_VERSION_MASK: u128 = 0xf << 76;

impl TrackKey {
    /// The key of a track that has a MusicBrainz id: the id's 128 bits. `None` if `mbid` is not a
    /// UUID in its hyphenated form.
    pub fn from_mbid(mbid: &str) -> Option<Self> {
        let bytes = mbid.as_bytes();
        if bytes.len() != 36 {
            return None;
        }
        let mut key: u128 = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            if matches!(at, 8 | 13 | 18 | 23) {
                if byte != b'-' {
                    return None;
                }
                continue;
            }
            key = (key << 4) | u128::from((byte as char).to_digit(16)?);
        }
        // The nil UUID is what broken taggers write for "unknown".
        (key != 0).then_some(Self(key))
    }

    /// The key of a track known by name only: a hash of artist and title as [`normalised`].
    pub fn from_names(artist: &str, title: &str) -> Self {
        let mut hash = Fnv128::new();
        hash.write_name(artist);
        // A separator that normalisation cannot produce: ("a b", "c") is not ("a", "b c").
        hash.write(0);
        hash.write_name(title);
        Self((hash.0 & !UUID_VERSION_MASK) | CUSTOM_UUID_VERSION)
    }

    /// The MusicBrainz id if it is a good one, else the names.
    pub fn of(mbid: Option<&str>, artist: &str, title: &str) -> Self {
        mbid.and_then(Self::from_mbid)
            .unwrap_or_else(|| Self::from_names(artist, title))
    }

    /// A 64-bit digest, evenly spread: for seeds and tie-breaks that must not depend on dense ids.
    pub const fn digest(self) -> u64 {
        // SplitMix64's finaliser over both halves (Steele, Lea, Flood 2014).
        let mut x = (self.0 as u64) ^ ((self.0 >> 64) as u64).rotate_left(32);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
}

impl fmt::Display for TrackKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let k = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            k >> 96,
            (k >> 80) & 0xffff,
            (k >> 64) & 0xffff,
            (k >> 48) & 0xffff,
            k & 0xffff_ffff_ffff
        )
    }
}

impl fmt::Debug for TrackKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The UTF-8 bytes of `name` in lower case, each run of characters that are neither letters nor
/// digits as one space, none at the ends. A name made of signs alone ("!!!", "???") stays as it is,
/// in lower case, so that such artists do not fall together.
pub fn normalised(name: &str) -> impl Iterator<Item = u8> + '_ {
    let signs_only = !name.chars().any(char::is_alphanumeric);
    let mut wrote = false;
    let mut pending_space = false;
    name.trim()
        .chars()
        .flat_map(char::to_lowercase)
        .flat_map(move |c| {
            let mut bytes = [0u8; 5];
            let mut len = 0;
            if signs_only || c.is_alphanumeric() {
                if pending_space && wrote && !signs_only {
                    bytes[0] = b' ';
                    len = 1;
                }
                pending_space = false;
                wrote = true;
                len += c.encode_utf8(&mut bytes[len..]).len();
            } else {
                pending_space = true;
            }
            bytes.into_iter().take(len)
        })
}

/// FNV-1a with 128 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>): stable by definition, short,
/// and wide enough that a catalogue of 10^8 tracks expects no collision.
struct Fnv128(u128);

impl Fnv128 {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

    const fn new() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    const fn write(&mut self, byte: u8) {
        self.0 = (self.0 ^ byte as u128).wrapping_mul(Self::PRIME);
    }

    /// Writes a name as [`normalised`].
    fn write_name(&mut self, name: &str) {
        if name.is_ascii() {
            self.write_ascii(name.trim().as_bytes());
        } else {
            normalised(name).for_each(|byte| self.write(byte));
        }
    }

    /// The same for the names that logs mostly hold, where a table tells all: six times faster rows.
    fn write_ascii(&mut self, name: &[u8]) {
        let mut wrote = false;
        let mut space = false;
        for byte in name {
            match FOLDED[*byte as usize] {
                0 => space = wrote,
                folded => {
                    if space {
                        self.write(b' ');
                        space = false;
                    }
                    self.write(folded);
                    wrote = true;
                }
            }
        }
        if !wrote {
            // Signs alone stay as they are.
            name.iter().for_each(|byte| self.write(*byte));
        }
    }
}

/// ASCII letters and digits in lower case; 0 for all else.
const FOLDED: [u8; 256] = {
    let mut folded = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        if (byte as u8).is_ascii_alphanumeric() {
            folded[byte] = (byte as u8).to_ascii_lowercase();
        }
        byte += 1;
    }
    folded
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn the_short_cut_for_ascii_hashes_what_normalisation_says(
            name in "[ -~\t\u{b}]{0,12}", signs in "[ -/]{0,5}",
        ) {
            for name in [&name, &signs] {
                let mut short_cut = Fnv128::new();
                short_cut.write_ascii(name.trim().as_bytes());
                let mut plain = Fnv128::new();
                normalised(name).for_each(|byte| plain.write(byte));
                prop_assert_eq!(short_cut.0, plain.0);
            }
        }
    }

    fn text(name: &str) -> String {
        String::from_utf8(normalised(name).collect()).unwrap()
    }

    #[test]
    fn names_are_normalised_the_way_listeners_mistype_them() {
        assert_eq!(text("  The   BEATLES! "), "the beatles");
        assert_eq!(text("Sigur Rós"), "sigur rós");
        assert_eq!(text("AC/DC"), "ac dc");
        assert_eq!(text("!!!"), "!!!");
        assert_eq!(text("東京事変"), "東京事変");
        assert_eq!(text(""), "");
    }

    #[test]
    fn a_key_is_the_mbid_or_the_names() {
        let mbid = "f1b1cf71-bd35-4e99-8624-24a6e15f133a";
        assert_eq!(TrackKey::from_mbid(mbid).unwrap().to_string(), mbid);
        assert_eq!(
            TrackKey::of(Some(mbid), "x", "y"),
            TrackKey::from_mbid(mbid).unwrap()
        );
        for bad in [
            "",
            "f1b1cf71",
            "f1b1cf71xbd35-4e99-8624-24a6e15f133a",
            &"0".repeat(36),
        ] {
            assert_eq!(
                TrackKey::of(Some(bad), "x", "y"),
                TrackKey::from_names("x", "y")
            );
        }
        let nil = "00000000-0000-0000-0000-000000000000";
        assert_eq!(TrackKey::from_mbid(nil), None);
    }

    #[test]
    fn artist_and_title_do_not_run_into_each_other() {
        assert_ne!(
            TrackKey::from_names("a b", "c"),
            TrackKey::from_names("a", "b c")
        );
        assert_ne!(
            TrackKey::from_names("!!!", "x"),
            TrackKey::from_names("???", "x")
        );
        assert_eq!(
            TrackKey::from_names("AC/DC", "T.N.T."),
            TrackKey::from_names("ac dc", "t n t")
        );
    }

    #[test]
    fn a_hashed_key_is_the_same_for_ever() {
        // Stored logs and adapters refer to it: this value may not change.
        let key = TrackKey::from_names("Radiohead", "Karma Police").to_string();
        assert_eq!(key.as_bytes()[14], b'8', "{key}");
        assert_eq!(
            key,
            TrackKey::from_names(" radiohead", "karma  police ").to_string()
        );
    }
}
