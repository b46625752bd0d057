//! Simulated rows in the format of LastFM-1K: users in blocks, each with the newest play first, as
//! the file is published.

use std::io::{self, Write};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use segue_listen::EventTime;

/// 2005-02-14T00:00:00Z in seconds.
const ORIGIN: i64 = 1_108_339_200;

/// Artists in the catalogue.
const ARTISTS: u64 = 20_000;

/// Tracks of each.
const TRACKS: u64 = 25;

const WORDS: [&str; 24] = [
    "night", "blue", "river", "glass", "echo", "winter", "machine", "golden", "silence", "horses",
    "paper", "ghost", "summer", "signal", "velvet", "stone", "dancing", "lights", "broken",
    "ocean", "déjà", "señor", "東京", "love",
];

/// Writes `rows` rows of `users` users to `out`.
///
/// # Errors
/// What `out` says.
pub fn write(out: &mut impl Write, rows: u64, users: u64, seed: u64) -> io::Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let users = users.clamp(1, rows.max(1));
    for user in 0..users {
        let of_user = rows / users + u64::from(user < rows % users);
        // Five minutes from play to play on average: with 20,000 rows some two months.
        let mut at = ORIGIN + of_user as i64 * 600 + rng.random_range(0..86_400);
        for _ in 0..of_user {
            at -= rng.random_range(30..570);
            row(out, &mut rng, user, at)?;
        }
    }
    Ok(())
}

fn row(out: &mut impl Write, rng: &mut ChaCha8Rng, user: u64, at: i64) -> io::Result<()> {
    // The least of two draws: some artists and tracks are played more than others.
    let mut pick = |of: u64| rng.random_range(0..of).min(rng.random_range(0..of));
    let artist = pick(ARTISTS);
    let track = artist * TRACKS + pick(TRACKS);
    let number = user + 1;
    write!(out, "user_{number:06}\t")?;
    let time = EventTime::from_millis(at * 1_000).to_rfc3339();
    write!(out, "{time}\t{}\t", Mbid(artist))?;
    name(out, artist)?;
    out.write_all(b"\t")?;
    // In the published log about one row in nine has no id for its track.
    if !track.is_multiple_of(9) {
        write!(out, "{}", Mbid(track + (1 << 40)))?;
    }
    out.write_all(b"\t")?;
    name(out, track + 7)?;
    out.write_all(b"\n")
}

/// Two or three words and a number: as long as names are.
fn name(out: &mut impl Write, of: u64) -> io::Result<()> {
    let words = WORDS.len() as u64;
    for place in 0..2 + of % 2 {
        let word = (of / words.pow(place as u32)) % words;
        write!(out, "{} ", WORDS[word as usize])?;
    }
    write!(out, "{}", of % 1_000)
}

/// A version-4 UUID that stands for a number.
struct Mbid(u64);

impl std::fmt::Display for Mbid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mixed = self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (high, low) = (mixed >> 32, mixed & 0xffff_ffff);
        write!(
            f,
            "{high:08x}-{:04x}-4{:03x}-8{:03x}-{low:08x}{:04x}",
            low & 0xffff,
            high & 0xfff,
            low & 0xfff,
            self.0 & 0xffff
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_as_published() {
        let mut text = Vec::new();
        write(&mut text, 1_000, 7, 1).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.lines().count(), 1_000);
        let (mut last, mut blocks) = (("", ""), 0);
        for line in text.lines() {
            let columns: Vec<_> = line.split('\t').collect();
            assert_eq!(columns.len(), 6, "{line}");
            let [user, time, artist, ..] = columns[..] else {
                unreachable!()
            };
            assert_eq!((user.len(), time.len(), artist.len()), (11, 20, 36));
            assert!(columns[4].is_empty() || columns[4].len() == 36);
            if user == last.0 {
                assert!(time < last.1, "newest first");
            } else {
                blocks += 1;
            }
            last = (user, time);
        }
        assert_eq!(blocks, 7);
    }
}
