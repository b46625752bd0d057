//! [`TrackKey::from_names`] at the speed of a log: most names are ASCII, and for those lower case and
//! letter-or-digit are a table look-up. Three of four rows of a log without MusicBrainz ids are spent
//! here otherwise.

use segue_listen::TrackKey;

/// FNV-1a's basis and prime for 128 bits, and the version nibble of a key made of names: those of
/// [`TrackKey::from_names`], to which a property test below holds them.
const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
const VERSION: u128 = 0x8 << 76;
const VERSION_MASK: u128 = 0xf << 76;

/// Letters and digits in lower case; 0 for all else.
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

/// The key of a track known by name only: [`TrackKey::from_names`].
pub fn from_names(artist: &str, title: &str) -> TrackKey {
    if !artist.is_ascii() || !title.is_ascii() {
        return TrackKey::from_names(artist, title);
    }
    let hash = step(feed(BASIS, artist), 0);
    let hash = feed(hash, title);
    TrackKey((hash & !VERSION_MASK) | VERSION)
}

/// The key by MusicBrainz id if it is a good one, else by names; `None` if there is neither.
pub fn of(mbid: &str, artist: &str, title: &str) -> Option<TrackKey> {
    match TrackKey::from_mbid(mbid) {
        None if artist.is_empty() && title.is_empty() => None,
        None => Some(from_names(artist, title)),
        key => key,
    }
}

const fn step(hash: u128, byte: u8) -> u128 {
    (hash ^ byte as u128).wrapping_mul(PRIME)
}

/// Hashes an ASCII name as [`segue_listen::track::normalised`].
fn feed(mut hash: u128, name: &str) -> u128 {
    let name = name.trim();
    let mut wrote = false;
    let mut space = false;
    for byte in name.bytes() {
        match FOLDED[byte as usize] {
            0 => space = wrote,
            folded => {
                if space {
                    hash = step(hash, b' ');
                    space = false;
                }
                hash = step(hash, folded);
                wrote = true;
            }
        }
    }
    if !wrote {
        // Signs alone stay as they are.
        hash = name.bytes().fold(hash, step);
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn as_the_domain_has_it(
            artist in "[ -~\t\u{b}é]{0,12}", title in "[ -~]{0,6}[!?. ]{0,3}", signs in "[ -/]{0,5}",
        ) {
            for (artist, title) in [(&artist, &title), (&title, &signs), (&signs, &artist)] {
                prop_assert_eq!(from_names(artist, title), TrackKey::from_names(artist, title));
            }
        }
    }
}
