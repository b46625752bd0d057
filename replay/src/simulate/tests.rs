use std::collections::{HashMap, HashSet};

use segue_listen::TrackKey;

use super::*;
use crate::file_sink::write_row;

fn settings() -> SimulatorSettings {
    SimulatorSettings {
        users: 60,
        tracks: 2_000,
        days: 90,
        lengths: Lengths::DurationAndPlayed,
        ..SimulatorSettings::default()
    }
}

fn bytes(settings: SimulatorSettings) -> Vec<u8> {
    let mut out = Vec::new();
    for listen in Simulator::new(settings).unwrap() {
        write_row(listen.borrowed(), &mut out);
    }
    out
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_others() {
    let again = bytes(settings());
    assert!(bytes(settings()) == again);
    let other = SimulatorSettings {
        seed: 2,
        ..settings()
    };
    assert!(bytes(other) != again);
}

#[test]
fn the_log_looks_like_one() {
    let listens: Vec<Listen> = Simulator::new(settings()).unwrap().collect();
    let expected = settings().expected_listens() as f64;
    let count = listens.len() as f64;
    assert!(
        (0.6..1.4).contains(&(count / expected)),
        "{count} of {expected}"
    );
    assert!(listens.is_sorted_by_key(|l| (l.at, l.user.clone())));
    let (start, end) = (settings().start(), settings().end());
    assert!(listens.iter().all(|l| l.at >= start && l.at < end));

    // Completion: as far from the real one as the share of repeats is from one half.
    let ratios: Vec<f64> = listens
        .iter()
        .map(|l| l.played.unwrap().seconds() / l.duration.unwrap().seconds())
        .collect();
    let share =
        |test: &dyn Fn(f64) -> bool| ratios.iter().filter(|r| test(**r)).count() as f64 / count;
    let (heard, skipped) = (share(&|r| r >= 0.95), share(&|r| r < 0.10));
    assert!((0.53..0.65).contains(&heard), "{heard}");
    assert!((0.22..0.34).contains(&skipped), "{skipped}");

    // Repeats, Zipf's head, and tracks that appear only later.
    let mut seen = HashSet::new();
    let mut plays: HashMap<TrackKey, u32> = HashMap::new();
    let mut repeats = 0;
    let mut new_late = 0;
    for (index, listen) in listens.iter().enumerate() {
        repeats += u32::from(!seen.insert((&listen.user, listen.track)));
        let known = plays.entry(listen.track).or_default();
        new_late += u32::from(*known == 0 && index > listens.len() / 2);
        *known += 1;
    }
    let repeats = f64::from(repeats) / count;
    assert!((0.35..0.85).contains(&repeats), "{repeats}");
    assert!(new_late > 50, "{new_late}");
    let mut by_plays: Vec<u32> = plays.values().copied().collect();
    by_plays.sort_unstable_by(|a, b| b.cmp(a));
    let head: u32 = by_plays.iter().take(by_plays.len() / 10).sum();
    assert!(f64::from(head) / count > 0.3, "{head}");
}

#[test]
fn an_artist_stays_in_its_genre_and_a_track_keeps_its_length() {
    let mut lengths = HashMap::new();
    for listen in Simulator::new(settings()).unwrap() {
        let length = lengths.entry(listen.track).or_insert(listen.duration);
        assert_eq!(
            *length, listen.duration,
            "{} {}",
            listen.artist, listen.title
        );
        let genres = words::GENRES.iter().filter(|genre| {
            let has = |text: &str, words: &[&str]| words.iter().any(|w| text.contains(w));
            has(&listen.artist, &genre.nouns) && has(&listen.title, &genre.nouns)
        });
        assert!(genres.count() >= 1, "{} / {}", listen.artist, listen.title);
    }
}

#[test]
fn lengths_are_told_only_if_asked_for() {
    for (lengths, duration, played) in [
        (Lengths::Unknown, false, false),
        (Lengths::Duration, true, false),
        (Lengths::DurationAndPlayed, true, true),
    ] {
        let one = SimulatorSettings {
            lengths,
            ..settings()
        };
        let one = Simulator::new(one).unwrap().next().unwrap();
        assert_eq!(
            (one.duration.is_some(), one.played.is_some()),
            (duration, played)
        );
    }
}

#[test]
fn the_smallest_and_oddest_worlds_hold() {
    for (users, tracks, days) in [(1, 1, 30), (2, 3, 30), (3, 9, 1), (1, 1, 0)] {
        let odd = SimulatorSettings {
            users,
            tracks,
            days,
            repeat_share: 1.0,
            new_release_share: 1.0,
            popularity_exponent: 0.0,
            ..settings()
        };
        assert!(Simulator::new(odd).unwrap().count() < 5_000);
    }
    for (bad, key) in [
        (
            SimulatorSettings {
                users: 0,
                ..settings()
            },
            "users",
        ),
        (
            SimulatorSettings {
                repeat_share: 1.5,
                ..settings()
            },
            "repeat_share",
        ),
        (
            SimulatorSettings {
                taste_days: f64::NAN,
                ..settings()
            },
            "taste_days",
        ),
        (
            SimulatorSettings {
                start_ms: -5,
                ..settings()
            },
            "start_ms",
        ),
        (
            SimulatorSettings {
                plays_per_user_per_day: 1e9,
                ..settings()
            },
            "plays_per_user",
        ),
    ] {
        let error = Simulator::new(bad).err().unwrap().to_string();
        assert!(error.contains(key), "{error}");
    }
}
