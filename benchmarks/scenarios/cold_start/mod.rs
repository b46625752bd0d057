//! Tracks that nobody has played, at their first play in a log's second half: what the listener's own
//! plays say of them where only their names are known.
//!
//! All tracks of the log are announced up front, as a library of what is out would do it, and each
//! first play is asked for among all of them, played or not, as every play is in Segue: ties rank last.
//!
//! - *content*: near in artist and title to what the listener has just played (`content`).
//! - *ids*: sequential rules, which learn from every play and know no names. An unplayed track has no
//!   rule and no count.
//! - *the artist's most popular tracks*: of the artists that the listener has just played, the newest
//!   first, all their tracks by how often everybody has played them so far. A track that nobody has
//!   played is then behind all that somebody has: that is the weakness of the rule, and is kept. So
//!   that it is not beaten by this alone, both are asked a second time among unplayed tracks only
//!   (`_among_new`), where an artist's tracks stand in an order that means nothing (their keys'): the
//!   rule then knows the artist and no more.

mod content;
mod log;

use segue_benchmarks::outcome::{Metric, Outcome};
use segue_catalog::content::TrackContent;
use segue_flow::Epoch;
use segue_listen::TrackId;
use segue_recommend::interval::Estimate;
use segue_recommend::listeners::{Chunk, Listeners};
use segue_recommend::recommender::{Admitted, ContextPlay, Recommender};
use segue_recommend::rules::SequentialRules;

use self::content::{Contents, recent_artists};
use self::log::Log;
use crate::Ask;

/// Tracks that are recommended.
const TOP: usize = 20;
/// Plays that are learnt from together.
const TOGETHER: usize = 512;
/// Successors that rules remember per track.
const SUCCESSORS: usize = 100;

pub fn run(ask: &Ask) -> anyhow::Result<Outcome> {
    let log = Log::read(&ask.data, ask.config.size("plays", ask.quick)?)?;
    let mut contents = Contents::of(&log.tracks)?;
    let hits = measure(&log, &mut contents)?;
    let mut metrics: Vec<Metric> = KEYS
        .iter()
        .enumerate()
        .map(|(which, key)| metric(key, hits.estimate(|one| one[which]).within_unit()))
        .collect();
    let less = |one: usize, other: usize| hits.estimate(move |sums| sums[one] - sums[other]);
    metrics.push(metric("content_less_artist_popular", less(0, 2)));
    metrics.push(metric("content_less_artist_popular_among_new", less(3, 4)));
    let count = |key, value: f64, unit| Metric::single(key, value, unit);
    metrics.push(count("first_plays", hits.plays(), "plays"));
    metrics.push(count("users", hits.listeners() as f64, "listeners"));
    metrics.push(count("tracks", log.tracks.len() as f64, "tracks"));
    Ok(Outcome {
        name: "cold-start",
        quick: ask.quick,
        simulated: ask.data.is_empty(),
        metrics,
        repeats: 1,
        workload: format!(
            "{}: first plays of tracks in the second half of {} plays",
            log.description,
            log.plays.len()
        ),
    })
}

/// What is measured, in the order of a listener's sums.
const KEYS: [&str; 5] = [
    "content_recall_at_20",
    "id_recall_at_20",
    "artist_popular_recall_at_20",
    "content_recall_at_20_among_new",
    "artist_popular_recall_at_20_among_new",
];

/// Hits by listener.
struct Hits {
    /// First plays, and hits of each kind.
    listeners: Vec<(f64, [f64; KEYS.len()])>,
}

impl Hits {
    fn estimate(&self, of: impl Fn(&[f64; KEYS.len()]) -> f64 + Copy) -> Estimate {
        Estimate::per_event(self.listeners.iter().map(move |(n, sums)| (*n, of(sums))))
    }

    fn plays(&self) -> f64 {
        self.listeners.iter().map(|(n, _)| n).sum()
    }

    fn listeners(&self) -> usize {
        self.listeners.iter().filter(|(n, _)| *n > 0.0).count()
    }
}

/// Goes through the log; each first play of a track in its second half is asked for before anything is
/// learnt from it.
fn measure(log: &Log, contents: &mut Contents) -> anyhow::Result<Hits> {
    let mut hits = Hits {
        listeners: vec![(0.0, [0.0; KEYS.len()]); log.listeners],
    };
    let mut rules = SequentialRules::new(SUCCESSORS, 1.0);
    let announced = log.tracks.iter().map(|track| Admitted {
        track: track.track,
        key: track.key,
        names: None,
        content: None,
    });
    rules.admit(&announced.collect::<Vec<_>>())?;
    let bar = indicatif::ProgressBar::new(log.plays.len() as u64);
    let mut listeners = Listeners::new();
    let mut plays = vec![0u32; log.tracks.len()];
    let mut number = 0;
    for (epoch, some) in (0..).zip(log.plays.chunks(TOGETHER)) {
        let mut chunk = Chunk::new();
        for event in some {
            chunk.push(&mut listeners, event);
        }
        let asks = chunk.asks();
        for ((ask, actual), facts) in asks.iter().zip(chunk.actual()).zip(chunk.facts()) {
            let judged = number >= log.plays.len() / 2 && facts.cold_track && facts.plays > 0;
            if judged && let Some((n, sums)) = hits.listeners.get_mut(ask.user.0 as usize) {
                let mut ranks = Vec::new();
                rules.rank_of(std::slice::from_ref(ask), &[*actual], &mut ranks)?;
                let by_id = ranks.first().copied().flatten().map(|rank| rank as usize);
                let scores = contents.scores(ask.context);
                let popular = Popular::of(&log.tracks, &plays, contents.artist_of(), ask.context);
                let all = |_: usize| true;
                let new = |track: usize| plays.get(track) == Some(&0);
                let found = [
                    rank(&scores, *actual, all),
                    by_id,
                    popular.rank(*actual, all),
                    rank(&scores, *actual, new),
                    popular.rank(*actual, new),
                ];
                *n += 1.0;
                for (sum, rank) in sums.iter_mut().zip(found) {
                    *sum += f64::from(rank.is_some_and(|rank| rank <= TOP));
                }
            }
            if let Some(plays) = plays.get_mut(actual.row()) {
                *plays += 1;
            }
            number += 1;
        }
        rules.learn(Epoch(epoch), &chunk.examples())?;
        bar.inc(some.len() as u64);
    }
    bar.finish_and_clear();
    Ok(hits)
}

/// Where a track stands among those that are `asked` for, from 1; ties rank last.
fn rank(scores: &[f32], track: TrackId, asked: impl Fn(usize) -> bool) -> Option<usize> {
    let own = scores.get(track.row())?;
    let ahead = scores
        .iter()
        .enumerate()
        .filter(|(other, score)| *score >= own && asked(*other));
    Some(ahead.count())
}

/// The order of the artist's most popular tracks: smaller is earlier; `None`: of no artist that was
/// played.
struct Popular {
    places: Vec<Option<(usize, std::cmp::Reverse<u32>, u64)>>,
}

impl Popular {
    fn of(
        tracks: &[TrackContent],
        plays: &[u32],
        artist_of: &[u32],
        context: &[ContextPlay],
    ) -> Self {
        let recent = recent_artists(context, artist_of);
        let place = |((track, plays), artist): ((&TrackContent, &u32), &u32)| {
            let artist = recent.iter().position(|recent| recent == artist)?;
            Some((artist, std::cmp::Reverse(*plays), track.key.digest()))
        };
        Self {
            places: tracks.iter().zip(plays).zip(artist_of).map(place).collect(),
        }
    }

    fn rank(&self, track: TrackId, asked: impl Fn(usize) -> bool) -> Option<usize> {
        let own = self.places.get(track.row()).copied().flatten()?;
        let ahead = |(other, place): &(usize, &Option<_>)| {
            place.is_some_and(|place| place <= own) && asked(*other)
        };
        Some(self.places.iter().enumerate().filter(ahead).count())
    }
}

fn metric(key: &str, estimate: Estimate) -> Metric {
    Metric::estimated(key, estimate, "share of first plays")
}

#[cfg(test)]
mod tests {
    use super::*;
    use segue_listen::{EventTime, TrackKey};

    fn context(tracks: &[u32]) -> Vec<ContextPlay> {
        let play = |track: &u32| ContextPlay {
            track: TrackId(*track),
            at: EventTime::from_millis(0),
            ratio: None,
            opens_session: false,
        };
        tracks.iter().map(play).collect()
    }

    #[test]
    fn the_newest_artists_tracks_come_first_and_the_unplayed_last_among_them() {
        let tracks: Vec<_> = (0..6u32)
            .map(|id| TrackContent {
                track: TrackId(id),
                key: TrackKey(u128::from(id)),
                artist: "".into(),
                title: "".into(),
            })
            .collect();
        let artist_of = [0, 0, 0, 1, 1, 2];
        let plays = [5, 9, 0, 1, 0, 7];
        // Artist 1 last, artist 0 before; artist 2 not at all.
        let popular = Popular::of(&tracks, &plays, &artist_of, &context(&[0, 3]));
        let ranks = |asked: fn(usize) -> bool| {
            (0..6)
                .map(|id| popular.rank(TrackId(id), asked))
                .collect::<Vec<_>>()
        };
        let all = [Some(4), Some(3), Some(5), Some(1), Some(2), None];
        assert_eq!(ranks(|_| true), all);
        let among_new = ranks(|track| [2, 4].contains(&track));
        assert_eq!((among_new[4], among_new[2]), (Some(1), Some(2)));
    }

    #[test]
    fn ties_rank_last() {
        let scores = [0.5, 0.5, 0.9, 0.1];
        assert_eq!(rank(&scores, TrackId(0), |_| true), Some(3));
        assert_eq!(rank(&scores, TrackId(0), |track| track != 1), Some(2));
        assert_eq!(rank(&scores, TrackId(9), |_| true), None);
    }
}
