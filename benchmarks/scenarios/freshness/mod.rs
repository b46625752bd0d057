//! How soon a track that nobody has ever played can be recommended: new tracks come at a steady pace, whether
//! or not the engine keeps up, among plays of tracks that are known.
//!
//! From the moment before a track's first event is handed over, to the first prediction after recall has the
//! track's vector: taken from outside of the engine, by who writes and by a recommender that looks on.

mod onlooker;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use segue::commands::run::{counting, counting_recommenders};
use segue::config::Config;
use segue::models::Models;
use segue::pipeline::{self, Pipeline};
use segue::watch::RunWatcher;
use segue_benchmarks::outcome::{Metric, Outcome};
use segue_flow::clock::{MachineClock, WallClock};
use segue_flow::memory::{MemorySink, memory_topic};
use segue_flow::{Epoch, Nowhere, OutRecord, Sink, SinkError};
use segue_listen::wire::{self, Format};
use segue_listen::{EventTime, ListenRef, Span, TrackKey};
use segue_recall::GraphWriter;
use segue_recommend::centroid::CentroidRecall;
use segue_recommend::recommender::Recommender;

use self::onlooker::{Onlooker, Predictable};
use crate::Ask;

const SEED: u64 = 20_261_128;
const TOPIC: &str = "listens";
/// Plays go on for so long after the last new track, so that there is a prediction that could contain it.
const AFTERWARDS: Duration = Duration::from_secs(5);
/// Titles are made of these, so that texts differ in length and likeness.
const WORDS: [&str; 16] = [
    "river", "glass", "northern", "lights", "slow", "machine", "summer", "ghost", "paper", "city",
    "of", "the", "last", "waltz", "electric", "garden",
];

/// How plays come.
#[derive(Clone, Copy)]
struct Pace {
    seconds: u64,
    new_per_s: u64,
    plays_per_s: u64,
    listeners: u64,
    known: u64,
}

pub fn run(ask: &Ask) -> anyhow::Result<Outcome> {
    let size = |key| ask.config.size(key, ask.quick);
    let pace = Pace {
        seconds: ask
            .minutes
            .map_or_else(|| size("seconds"), |m| Ok(60 * m))?,
        new_per_s: size("new_per_s")?,
        plays_per_s: size("plays_per_s")?,
        listeners: size("listeners")?,
        known: size("known")?,
    };
    ensure!(
        pace.new_per_s > 0 && pace.plays_per_s > pace.new_per_s,
        "of {} plays a second {} cannot be of new tracks",
        pace.plays_per_s,
        pace.new_per_s
    );
    let lanes = u32::try_from(size("lanes")?)?;
    let mut config = Config::load(None)?;
    config.stream.lanes = lanes;
    let encoders = Models::load(&config)?.encoders(&config)?;
    let dimensions = encoders.dimensions();
    let clock: Arc<dyn WallClock> = Arc::new(MachineClock::start());
    let (watcher, seen) = RunWatcher::new(0, clock.clone())?;
    let predictable = Arc::new(Mutex::new(Predictable::default()));
    let writer = GraphWriter::new(dimensions, config.recall.clone())?;
    let recall = CentroidRecall::new(dimensions, Box::new(writer));
    let onlooker = Onlooker::around(recall, clock.clone(), predictable.clone());
    let mut recommenders: Vec<Box<dyn Recommender>> = vec![Box::new(onlooker)];
    recommenders.extend(counting_recommenders());

    let (sink, sources) = memory_topic(TOPIC, lanes);
    let sources = sources.into_iter().map(|source| Box::new(source) as _);
    let pipeline = Pipeline {
        recommenders,
        encoders: Some(encoders),
        watcher: Box::new(watcher),
        clock: clock.clone(),
        ..counting(&config, sources.collect(), Box::new(Nowhere))
    };
    let (summary, sent) = std::thread::scope(|scope| {
        let (clock, seen) = (&*clock, &seen);
        let begins = || lock(seen).freshness.reset();
        let feeding = scope.spawn(move || feed(sink, pace, clock, begins));
        let summary = pipeline::run(pipeline);
        let sent = feeding.join().map_err(|_| anyhow!("the feeder panicked"))?;
        anyhow::Ok((summary?, sent?))
    })?;

    let predictable = lock(&predictable);
    let mut took = Vec::with_capacity(sent.len());
    for (track, sent_at) in &sent {
        let at = predictable.first.get(track);
        let at = at.with_context(|| format!("track {track} could never be predicted"))?;
        took.push(at.saturating_sub(*sent_at).as_secs_f64());
    }
    took.sort_by(f64::total_cmp);
    let seen = lock(&seen);
    let own = |share| seen.freshness.value_at_quantile(share) as f64 / 1e6;
    let seconds = |key, value| Metric::single(key, value, "s");
    Ok(Outcome {
        name: "freshness",
        quick: ask.quick || ask.minutes.is_some(),
        simulated: true,
        metrics: vec![
            seconds("p50_s", quantile(&took, 0.5)),
            seconds("p99_s", quantile(&took, 0.99)),
            seconds("longest_s", quantile(&took, 1.0)),
            Metric::single("tracks", took.len() as f64, "new tracks"),
            Metric::single("plays", summary.stream.plays as f64, "plays"),
            Metric::single("predictions", summary.predictions as f64, "predictions"),
            seconds("own_metric_p50_s", own(0.5)),
            seconds("own_metric_p99_s", own(0.99)),
        ],
        repeats: 1,
        workload: format!(
            "{} s of {} simulated plays a second (seed {SEED}), {} of them of a new track, {} tracks known \
             before, in {lanes} lanes of this process; MiniLM on titles and artists, recall and counts \
             answer",
            pace.seconds, pace.plays_per_s, pace.new_per_s, pace.known
        ),
    })
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The value that a share does not exceed.
fn quantile(ascending: &[f64], share: f64) -> f64 {
    let place = (share * ascending.len() as f64).ceil() as usize;
    let found = ascending.get(place.saturating_sub(1));
    found.copied().unwrap_or(f64::NAN)
}

/// A track by its number: always the same names.
fn names(number: u64) -> (String, String) {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED ^ number);
    let words = rng.random_range(1..7);
    let title: Vec<&str> = (0..words)
        .map(|_| WORDS[rng.random_range(0..WORDS.len())])
        .collect();
    let artist = WORDS[rng.random_range(0..WORDS.len())];
    (
        format!("the {artist}s {}", number % 500),
        format!("{} {number}", title.join(" ")),
    )
}

/// Writes plays as they are due, and tells when each new track's first one was; `begins` is called before
/// the first of these.
fn feed(
    mut sink: MemorySink,
    pace: Pace,
    clock: &dyn WallClock,
    begins: impl FnOnce(),
) -> anyhow::Result<HashMap<TrackKey, Duration>> {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let mut writer = Writer {
        sink: &mut sink,
        listeners: pace.listeners,
        value: Vec::new(),
        plays: 0,
    };
    // What is known before: no pace, and some time for it to be encoded.
    for number in 0..pace.known {
        writer.write(&mut rng, number)?;
    }
    writer.commit()?;
    clock.sleep(AFTERWARDS.mul_f64(1.0 + pace.known as f64 / 500.0));
    // The predictions that could contain them.
    for _ in 0..pace.plays_per_s {
        let number = rng.random_range(0..pace.known);
        writer.write(&mut rng, number)?;
    }
    writer.commit()?;
    clock.sleep(AFTERWARDS);
    begins();
    let begun = clock.now();
    let mut sent = HashMap::new();
    let every = pace.plays_per_s / pace.new_per_s;
    let new_until = pace.seconds * pace.plays_per_s;
    let plays = new_until + AFTERWARDS.as_secs() * pace.plays_per_s;
    let mut known = pace.known;
    for play in 0..plays {
        let due = begun + Duration::from_secs_f64(play as f64 / pace.plays_per_s as f64);
        let now = clock.now();
        if due > now {
            clock.sleep(due - now);
        }
        let is_new = play < new_until && play.is_multiple_of(every);
        let number = match is_new {
            true => known,
            false => rng.random_range(0..known),
        };
        if is_new {
            let (artist, title) = names(number);
            sent.insert(TrackKey::from_names(&artist, &title), clock.now());
            known += 1;
        }
        writer.write(&mut rng, number)?;
        writer.commit()?;
    }
    Ok(sent)
}

struct Writer<'a> {
    sink: &'a mut MemorySink,
    listeners: u64,
    value: Vec<u8>,
    plays: u64,
}

impl Writer<'_> {
    /// A play of a listener drawn by chance, a moment after the one before.
    fn write(&mut self, rng: &mut ChaCha8Rng, track: u64) -> anyhow::Result<()> {
        let user = format!("listener-{}", rng.random_range(0..self.listeners));
        let (artist, title) = names(track);
        self.plays += 1;
        let at = EventTime::from_millis(1_700_000_000_000 + 5 * i64::try_from(self.plays)?);
        let listen = ListenRef {
            user: &user,
            track: TrackKey::from_names(&artist, &title),
            artist: &artist,
            title: &title,
            at,
            duration: Some(Span::from_seconds(200)),
            played: None,
        };
        self.value.clear();
        wire::encode(listen, Format::MessagePack, &mut self.value)?;
        self.sink.write(OutRecord {
            topic: TOPIC,
            partition: None,
            key: Some(user.as_bytes()),
            value: Some(&self.value),
            headers: &[(
                "content-type",
                Format::MessagePack.content_type().as_bytes(),
            )],
            at: Some(at),
        })?;
        Ok(())
    }

    fn commit(&mut self) -> Result<(), SinkError> {
        self.sink.commit(Epoch(0), &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_there() {
        let values = [1.0, 2.0, 3.0, 4.0];
        let found = [0.0, 0.5, 0.99, 1.0].map(|share| quantile(&values, share));
        assert_eq!(found, [1.0, 2.0, 4.0, 4.0]);
        assert!(quantile(&[], 0.5).is_nan());
        assert_eq!(names(7), names(7));
        assert_ne!(names(7), names(8));
    }
}
