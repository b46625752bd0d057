//! Simulated plays, decoded already: listeners who come for a session, hear some tracks, and go.
//!
//! Times between plays, lengths of sessions and pauses have the shape of LastFM-1K's (a dozen plays a
//! session, hours between sessions), so that sessions open and close at a real rate, which is what
//! timers cost. Every play states its track's length, so that completion ratios are the lane's work.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, LogNormal, Zipf};
use segue_listen::{EventTime, Span, TrackId};
use segue_sessions::Arrival;

/// How large a workload is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    /// Listeners, all of whom play.
    pub listeners: u32,
    /// Tracks in the catalogue.
    pub tracks: u32,
    /// Plays in one pass.
    pub plays: usize,
}

/// 2005-02-14, where LastFM-1K begins, in milliseconds.
const ORIGIN: i64 = 1_108_339_200_000;

/// One pass of plays in event-time order.
pub struct Plays {
    arrivals: Vec<Arrival>,
    period: Span,
}

impl Plays {
    /// A workload, the same for the same size and seed.
    pub fn simulate(size: Size, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let tracks = size.tracks.max(1);
        // Exponent of track popularity in listening logs: about 1 at the head.
        let popularity = Zipf::new(f64::from(tracks), 1.0).ok();
        // Medians: 3 min 40 s from play to play, 6 h from session to session.
        let between = LogNormal::new(220_f64.ln(), 0.35).ok();
        let pause = LogNormal::new((6.0 * 3_600_f64).ln(), 1.0).ok();
        let seconds = |of: &Option<LogNormal<f64>>, rng: &mut ChaCha8Rng| {
            of.map_or(220.0, |of| of.sample(rng))
                .clamp(5.0, 30.0 * 86_400.0)
        };
        let lengths: Vec<i64> = (0..tracks).map(|_| rng.random_range(150..300)).collect();
        let mut due: BinaryHeap<Reverse<(i64, u32)>> = (0..size.listeners.max(1))
            .map(|slot| Reverse((rng.random_range(0..6 * 3_600_000), slot)))
            .collect();
        let mut arrivals = Vec::with_capacity(size.plays);
        while arrivals.len() < size.plays {
            let Some(Reverse((at, slot))) = due.pop() else {
                break;
            };
            let track = popularity.map_or(1.0, |of| of.sample(&mut rng)) as u32 - 1;
            arrivals.push(Arrival {
                slot,
                track: TrackId(track),
                tie: track.wrapping_mul(0x9e37_79b9),
                at: EventTime::from_millis(ORIGIN + at),
                duration: lengths
                    .get(track as usize)
                    .map(|seconds| Span::from_seconds(*seconds)),
                played: None,
            });
            // A dozen plays a session on average.
            let gone = rng.random_ratio(1, 12);
            let wait = seconds(if gone { &pause } else { &between }, &mut rng);
            due.push(Reverse((at + (wait * 1_000.0) as i64, slot)));
        }
        let period = match (arrivals.first(), arrivals.last()) {
            (Some(first), Some(last)) => last.at.since(first.at).plus(Span::from_millis(1)),
            _ => Span::ZERO,
        };
        Self { arrivals, period }
    }

    /// The plays, in order of time.
    pub fn arrivals(&self) -> &[Arrival] {
        &self.arrivals
    }

    /// The same plays again, later: time goes on, so that another pass is no pass of duplicates.
    pub fn go_on(&mut self) {
        for arrival in &mut self.arrivals {
            arrival.at = arrival.at.plus(self.period);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size {
        listeners: 50,
        tracks: 100,
        plays: 5_000,
    };

    #[test]
    fn plays_are_in_order_and_go_on_without_overlap() {
        let mut plays = Plays::simulate(SIZE, 7);
        let times: Vec<_> = plays.arrivals().iter().map(|a| a.at).collect();
        assert_eq!(times.len(), SIZE.plays);
        assert!(times.is_sorted());
        plays.go_on();
        assert!(plays.arrivals()[0].at > times[SIZE.plays - 1]);
    }

    #[test]
    fn the_seed_is_the_workload() {
        let tracks = |seed| -> Vec<u32> {
            let plays = Plays::simulate(SIZE, seed);
            plays.arrivals().iter().map(|a| a.track.0).collect()
        };
        assert_eq!(tracks(1), tracks(1));
        assert_ne!(tracks(1), tracks(2));
    }
}
