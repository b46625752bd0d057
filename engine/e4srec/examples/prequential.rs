//! Trains on the first half of the real logs, then tests and trains over the second half, and
//! prints recall and time of every model: the numbers behind the default settings.
//!
//! It keeps the protocol of the recommending stage: at the end of each epoch its new tracks are
//! admitted with their vectors, its plays ranked, then learnt from; a play of a track that nobody
//! had played is a miss for everyone; ratios rest on lengths as estimated by the epoch before.
//!
//! `cargo run --release -p segue-e4srec --example prequential -- [per epoch] [events] [trained on]`
//!
//! Reads `lastfm1k/genuine_merged.tsv.zst` and `converted/*_as_lastfm1k.tsv.zst` below the folder
//! `SEGUE_DATA`; `SEGUE_CONTENT_CACHE` names a file that keeps the encoded titles between runs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use segue_e4srec::item_encoders::{ItemEncoder, SasRec};
use segue_e4srec::settings::{E4SRecSettings, SasRecSettings};
use segue_e4srec::{E4SRec, Foundation};
use segue_encode::text::TextEncoder;
use segue_encode::track_text::track_text;
use segue_flow::Epoch;
use segue_flow::clock::{MachineClock, WallClock};
use segue_listen::completion::{Heard, ratio};
use segue_listen::duration::GapSketch;
use segue_listen::{EventTime, Span, TrackId, TrackKey, UserId};
use segue_nn::device::Precision;
use segue_recommend::listeners::{Chunk, Listeners, PlayEvent};
use segue_recommend::popularity::PersonalMostPop;
use segue_recommend::prequential::{Prequential, PrequentialSettings, Slice};
use segue_recommend::recommender::{Admitted, ContextPlay, Recommender};
use segue_recommend::rules::SequentialRules;
use segue_recommend::training::TrainingLog;
use tch::Device;

const CONTENT: usize = 384;

struct Row {
    at: String,
    user: String,
    artist: String,
    title: String,
    mbid: String,
}

fn rows(data: &Path) -> Vec<Row> {
    let files = [
        "converted/jodie_as_lastfm1k.tsv.zst",
        "lastfm1k/genuine_merged.tsv.zst",
        "converted/lfm1b_as_lastfm1k.tsv.zst",
    ];
    let mut rows = Vec::new();
    for name in files {
        let bytes = std::fs::read(data.join(name)).unwrap();
        let text = String::from_utf8(zstd::decode_all(&bytes[..]).unwrap()).unwrap();
        let from = rows.len();
        rows.extend(text.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            (fields.len() == 6).then(|| Row {
                user: fields[0].into(),
                at: fields[1].into(),
                artist: fields[3].into(),
                mbid: fields[4].into(),
                title: fields[5].into(),
            })
        }));
        // Newest first as published: equal times keep the order of the log.
        rows[from..].reverse();
    }
    rows.sort_by(|a, b| a.at.cmp(&b.at));
    rows
}

/// Seconds since 1970 of `YYYY-MM-DDTHH:MM:SSZ` (days from civil, Hinnant).
fn millis(at: &str) -> i64 {
    let number = |range: std::ops::Range<usize>| at[range].parse::<i64>().unwrap();
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468;
    1000 * (days * 86_400 + number(11..13) * 3600 + number(14..16) * 60 + number(17..19))
}

struct World {
    events: Vec<PlayEvent>,
    users: Vec<String>,
    keys: Vec<TrackKey>,
    content: Vec<Option<Vec<f32>>>,
}

/// Lengths of tracks as the stage estimates them: published at the end of an epoch.
#[derive(Default)]
struct Lengths {
    sketches: Vec<GapSketch>,
    published: Vec<Option<Span>>,
}

impl Lengths {
    fn note(&mut self, track: TrackId, gap: Span) {
        if track.row() >= self.sketches.len() {
            self.sketches.resize(track.row() + 1, GapSketch::default());
        }
        self.sketches[track.row()].note(gap);
    }

    fn publish(&mut self) {
        let estimates = self.sketches.iter().map(|sketch| sketch.estimate());
        let sure = estimates.map(|e| Some(e.filter(|e| e.confidence >= 0.3)?.duration));
        self.published = sure.collect();
    }

    fn get(&self, track: TrackId) -> Option<Span> {
        self.published.get(track.row()).copied().flatten()
    }
}

fn world(data: &Path, per_epoch: usize) -> World {
    let (mut users, mut user_ids) = (Vec::new(), HashMap::new());
    let (mut keys, mut texts, mut track_ids) = (Vec::new(), Vec::new(), HashMap::new());
    let mut newest: HashMap<UserId, (TrackId, EventTime)> = HashMap::new();
    let mut lengths = Lengths::default();
    let mut events = Vec::new();
    for row in rows(data) {
        let user = *user_ids.entry(row.user.clone()).or_insert_with(|| {
            users.push(row.user.clone());
            UserId(users.len() as u32 - 1)
        });
        let key = TrackKey::of(Some(&row.mbid), &row.artist, &row.title);
        let track = *track_ids.entry(key).or_insert_with(|| {
            keys.push(key);
            texts.push(track_text(&row.title, &row.artist, "").unwrap_or_default());
            TrackId(keys.len() as u32 - 1)
        });
        let at = EventTime::from_millis(millis(&row.at));
        let before = newest.insert(user, (track, at));
        let before = before.filter(|(_, before)| at.since(*before) <= Span::from_minutes(20));
        let ratio_of_previous = before.and_then(|(track, before)| {
            lengths.note(track, at.since(before));
            ratio(Heard {
                at: before,
                next: Some(at),
                played: None,
                duration: lengths.get(track),
            })
        });
        events.push(PlayEvent {
            user,
            track,
            at,
            opens_session: before.is_none(),
            own_ratio: None,
            ratio_of_previous,
        });
        if events.len().is_multiple_of(per_epoch) {
            lengths.publish();
        }
    }
    let content = contents(&texts);
    World {
        events,
        users,
        keys,
        content,
    }
}

fn contents(texts: &[String]) -> Vec<Option<Vec<f32>>> {
    let cache = std::env::var_os("SEGUE_CONTENT_CACHE").map(PathBuf::from);
    if let Some(bytes) = cache.as_ref().and_then(|path| std::fs::read(path).ok())
        && bytes.len() == texts.len() * CONTENT * 4
    {
        let values: Vec<f32> = bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect();
        return values
            .chunks(CONTENT)
            .map(|row| Some(row.to_vec()))
            .collect();
    }
    let folder = models_folder().join("minilm");
    let mut encoder = TextEncoder::load(&folder, Device::Cpu, Precision::Auto).unwrap();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let values = encoder.embed(&texts).unwrap();
    if let Some(path) = cache {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        std::fs::write(path, bytes).unwrap();
    }
    values
        .chunks(CONTENT)
        .map(|row| Some(row.to_vec()))
        .collect()
}

fn models_folder() -> PathBuf {
    std::env::var_os("SEGUE_MODELS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.models"),
        PathBuf::from,
    )
}

/// recall@20, or NDCG@10, with its interval.
fn figures(slice: &Slice) -> String {
    let metrics = &slice.per_event;
    let written = [metrics.recall_20, metrics.ndcg_10].map(|estimate| {
        let value = |value: Option<f64>| value.unwrap_or(f64::NAN);
        let [mean, low, high] = [estimate.mean, estimate.low, estimate.high].map(value);
        format!("{mean:.4} [{low:.4}, {high:.4}]")
    });
    format!("recall@20 {}  NDCG@10 {}", written[0], written[1])
}

fn main() {
    let argument = |at: usize| {
        std::env::args()
            .nth(at)
            .and_then(|a| a.parse::<usize>().ok())
    };
    let per_epoch = argument(1).unwrap_or(512);
    let most = argument(2).unwrap_or(usize::MAX);
    let data = std::env::var_os("SEGUE_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    if !data.join("converted").is_dir() {
        println!("skipped: no data in {} (set SEGUE_DATA)", data.display());
        return;
    }
    let clock = MachineClock::start();
    let seconds = |since: Duration| (clock.now() - since).as_secs_f64();
    let began = clock.now();
    let world = world(&data, per_epoch);
    println!(
        "{} events, {} users, {} tracks, read and encoded in {:.1} s",
        world.events.len(),
        world.users.len(),
        world.keys.len(),
        seconds(began)
    );
    // Training on more than half makes a run shorter.
    let half = argument(3).unwrap_or(world.events.len() / 2);
    let mut listeners = Listeners::new();
    let mut by_user: BTreeMap<&str, Vec<ContextPlay>> = BTreeMap::new();
    for event in &world.events[..half] {
        listeners.absorb(event);
        let plays = by_user
            .entry(&world.users[event.user.0 as usize])
            .or_default();
        if let Some(before) = plays.last_mut() {
            before.ratio = event.ratio_of_previous;
        }
        plays.push(*listeners.ask(event.user).context.last().unwrap());
    }
    let mut log = TrainingLog::default();
    for plays in by_user.into_values() {
        log.push(plays);
    }
    let mut seen = world.events[..half]
        .iter()
        .map(|e| e.track.row() + 1)
        .max()
        .unwrap();
    let admitted = |from: usize, to: usize| -> Vec<Admitted<'_>> {
        (from..to)
            .map(|row| Admitted {
                track: TrackId(row as u32),
                key: world.keys[row],
                names: None,
                content: world.content[row].as_deref(),
            })
            .collect()
    };

    let mut models: Vec<Box<dyn Recommender>> = Vec::new();
    let began = clock.now();
    // Other settings can be tried as JSON, such as {"epochs": 5}.
    let text = std::env::var("SASREC").unwrap_or_else(|_| "{}".into());
    let settings: SasRecSettings = serde_json::from_str(&text).unwrap();
    let (sasrec, report) = SasRec::fit(&log, &world.keys, &settings, Device::Cpu, &mut ()).unwrap();
    let (epochs, loss) = (report.epochs, report.training_loss);
    println!(
        "sasrec: {:.1} s, {epochs} epochs, loss {loss:.3}",
        seconds(began)
    );
    let mut popular = PersonalMostPop::new();
    popular.train(&log);
    let mut rules = SequentialRules::default();
    rules.train(&log);
    models.push(Box::new(popular));
    models.push(Box::new(rules));
    // Other settings can be tried as JSON, such as {"online": {"row_rate": 0.2}}.
    let text = std::env::var("E4SREC").unwrap_or_else(|_| "{}".into());
    let settings: E4SRecSettings = serde_json::from_str(&text).unwrap();
    let began = clock.now();
    let path = models_folder().join("smollm2-135m");
    let foundation = Foundation::load(&path, &settings.backbone, Device::Cpu).unwrap();
    println!("language model loaded in {:.1} s", seconds(began));
    let vectors = sasrec.item_vectors().unwrap();
    let began = clock.now();
    let (e4srec, report) = E4SRec::fit(
        &foundation,
        &log,
        &admitted(0, seen),
        &vectors,
        &settings,
        &mut (),
    )
    .unwrap();
    let took = seconds(began);
    println!(
        "e4srec: {took:.1} s, {:.0} tokens/s, loss {:?} to {:?}",
        report.tokens as f64 / took,
        report.first_loss,
        report.last_loss
    );
    models.push(Box::new(sasrec));
    let frozen = e4srec.frozen().unwrap();
    models.push(Box::new(frozen.following().unwrap()));
    models.push(Box::new(frozen));
    let learning = e4srec.online().unwrap();
    let journal = learning.journal();
    models.push(Box::new(learning));
    let mut names: Vec<&str> = models.iter().map(|model| model.name()).collect();
    // Other ways of learning can be measured beside it, such as [{"row_rate": 0.2}].
    let text = std::env::var("VARIANTS").unwrap_or_else(|_| "[]".into());
    let variants: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    for variant in &variants {
        let mut online = serde_json::to_value(&settings.online).unwrap();
        for (key, value) in variant.as_object().unwrap() {
            online[key] = value.clone();
        }
        let mut model = e4srec.online().unwrap();
        model.set_online(serde_json::from_value(online).unwrap());
        models.push(Box::new(model));
        names.push(variant.to_string().leak());
    }

    for model in &mut models {
        model.admit(&admitted(0, seen)).unwrap();
    }
    let online = "e4srec-online";
    let pairs: Vec<(&str, &str)> = names
        .iter()
        .filter(|&&name| name != online)
        .map(|&name| (online, name))
        .collect();
    let mut prequential = Prequential::new(&names, &pairs, PrequentialSettings::default()).unwrap();
    let mut spent: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    let mut chunk = Chunk::new();
    let end = world.events.len().min(half.saturating_add(most));
    for (number, events) in (1u64..).zip(world.events[half..end].chunks(per_epoch)) {
        chunk.clear();
        for event in events {
            chunk.push(&mut listeners, event);
        }
        let (asks, examples) = (chunk.asks(), chunk.examples());
        let newest = events.iter().map(|e| e.track.row() + 1).max().unwrap();
        let newest = newest.max(seen);
        let mut columns = Vec::new();
        for (model, name) in models.iter_mut().zip(&names) {
            let entry = spent.entry(name).or_default();
            let began = clock.now();
            model.admit(&admitted(seen, newest)).unwrap();
            let mut ranks = Vec::new();
            model.rank_of(&asks, chunk.actual(), &mut ranks).unwrap();
            entry.0 += seconds(began);
            for (rank, facts) in ranks.iter_mut().zip(chunk.facts()) {
                *rank = rank.filter(|_| !facts.cold_track);
            }
            columns.push(ranks);
        }
        for (model, name) in models.iter_mut().zip(&names) {
            let began = clock.now();
            model.learn(Epoch(number), &examples).unwrap();
            spent.entry(name).or_default().1 += seconds(began);
        }
        seen = newest;
        let columns: Vec<&[Option<u32>]> = columns.iter().map(Vec::as_slice).collect();
        prequential.record(chunk.facts(), &columns).unwrap();
        if number % 20 == 0 {
            let report = prequential.report();
            let recall = report.recommenders.iter().map(|r| {
                let mean = r.parts.overall.per_event.recall_20.mean;
                format!("{} {:.4}", r.name, mean.unwrap_or(f64::NAN))
            });
            let line: Vec<String> = recall.collect();
            println!("{:>7} {}", number as usize * per_epoch, line.join("  "));
        }
    }
    let report = prequential.report();
    for one in &report.recommenders {
        let overall = &one.parts.overall;
        println!("{:>22}: {}", one.name, figures(overall));
    }
    for one in &report.differences {
        let overall = &one.parts.overall;
        println!("{:>22} less {}: {}", one.name, one.minus, figures(overall));
    }
    if let Some(one) = report.recommenders.first() {
        let overall = &one.parts.overall;
        println!("{} plays of {} listeners", overall.events, overall.users);
    }
    let published = journal.publications();
    if let (Some(first), Some(last)) = (published.first(), published.last()) {
        println!("adapters: {first:?} to {last:?}");
    }
    for (name, (asking, learning)) in &spent {
        println!("{name:>22}: admitted and asked {asking:.1} s, learnt {learning:.1} s");
    }
}
