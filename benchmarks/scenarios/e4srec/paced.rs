//! Plays that come at a given rate whether or not the model keeps up: what a listener waits for an
//! answer, waiting in line included.

use std::time::Duration;

use anyhow::Context;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use segue_e4srec::E4SRec;
use segue_flow::clock::{MachineClock, WallClock};
use segue_recommend::recommender::{Ask as Question, Ranking, Recommender};

use super::world::{LIMIT, SESSION, World};

/// How plays come.
#[derive(Clone, Copy)]
pub struct Pace {
    /// Plays a second; the times between them are exponential.
    pub rate: f64,
    /// Plays in all.
    pub answers: usize,
    /// Plays that are answered at once, at most.
    pub batch: usize,
}

/// Times from plays to their answers, ascending.
pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// The time that a share of the plays did not exceed, in milliseconds.
    pub fn millis(&self, share: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        let place = (share * self.0.len() as f64).ceil() as usize;
        let found = self.0.get(place.saturating_sub(1).min(last));
        found.map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    }
}

/// Each play is of a listener drawn by chance; after 50 plays another listener takes their place.
pub fn measure(
    world: &World,
    model: &mut E4SRec,
    first_visit: usize,
    pace: Pace,
) -> anyhow::Result<Latencies> {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    // Listeners are in the middle of their sessions, and known; later ones begin at their first play.
    let mut heard: Vec<usize> = (0..world.sessions.len())
        .map(|_| rng.random_range(1..SESSION))
        .collect();
    let known: Vec<Question<'_>> = (0..)
        .zip(&heard)
        .map(|(listener, &read)| world.ask(listener, first_visit, read))
        .collect();
    world.answers(model, &known, pace.batch)?;
    let mut due = Duration::ZERO;
    let mut plays = Vec::with_capacity(pace.answers);
    for _ in 0..pace.answers {
        let listener = rng.random_range(0..heard.len());
        let count = heard.get_mut(listener).context("a listener of the world")?;
        let (visit, read) = (first_visit + *count / SESSION, *count % SESSION + 1);
        *count += 1;
        plays.push((due, world.ask(listener, visit, read)));
        due += Duration::from_secs_f64(-(1.0 - rng.random::<f64>()).ln() / pace.rate);
    }
    let clock = MachineClock::start();
    let mut latencies = Vec::with_capacity(plays.len());
    let mut answers: Vec<Ranking> = Vec::new();
    let mut rest = plays.as_slice();
    while let Some(&(next, _)) = rest.first() {
        let now = clock.now();
        if next > now {
            clock.sleep(next - now);
            continue;
        }
        let waiting = rest.iter().take(pace.batch);
        let waiting = waiting.take_while(|(due, _)| *due <= now).count();
        let (batch, later) = rest.split_at(waiting);
        let asks: Vec<Question<'_>> = batch.iter().map(|(_, ask)| *ask).collect();
        answers.clear();
        model.recommend(&asks, LIMIT, &mut answers)?;
        let answered = clock.now();
        latencies.extend(batch.iter().map(|(due, _)| answered - *due));
        rest = later;
    }
    latencies.sort_unstable();
    Ok(Latencies(latencies))
}
