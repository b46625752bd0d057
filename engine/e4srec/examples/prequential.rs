//! Trains on the first half of the real logs, then tests and trains over the second half, and
//! prints recall and time of every model: the numbers behind the default settings.
//!
//! `cargo run --release -p segue-e4srec --example prequential -- [per epoch] [events] [trained on]`
//!
//! Reads `lastfm1k/genuine_merged.tsv.zst` and `converted/*_as_lastfm1k.tsv.zst` below the folder
//! `SEGUE_DATA`; `SEGUE_CONTENT_CACHE` names a file that keeps the encoded titles between runs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use segue_e4srec::item_encoders::sasrec::SasRec;
use segue_e4srec::settings::{E4SRecSettings, SasRecSettings};
use segue_e4srec::{E4SRec, Foundation};
use segue_encode::text::TextEncoder;
use segue_encode::track_text::track_text;
use segue_flow::Epoch;
use segue_flow::clock::{MachineClock, WallClock};
use segue_listen::{EventTime, TrackId, TrackKey, UserId};
use segue_nn::device::Precision;
use segue_recommend::listeners::{Chunk, Listeners, PlayEvent};
use segue_recommend::popularity::PersonalMostPop;
use segue_recommend::recommender::{Admitted, Recommender};
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

fn world(data: &Path) -> World {
    let (mut users, mut user_ids) = (Vec::new(), HashMap::new());
    let (mut keys, mut texts, mut track_ids) = (Vec::new(), Vec::new(), HashMap::new());
    let mut newest: HashMap<UserId, i64> = HashMap::new();
    let mut events = Vec::new();
    for row in rows(data) {
        let user = *user_ids.entry(row.user.clone()).or_insert_with(|| {
            users.push(row.user.clone());
            UserId(users.len() as u32 - 1)
        });
        let key = TrackKey::of(Some(&row.mbid), &row.artist, &row.title);
        let track = *track_ids.entry(key).or_insert_with(|| {
            keys.push(key);
            texts.push(track_text(&row.title, &row.artist).unwrap_or_default());
            TrackId(keys.len() as u32 - 1)
        });
        let at = millis(&row.at);
        let before = newest.insert(user, at);
        events.push(PlayEvent {
            user,
            track,
            at: EventTime::from_millis(at),
            opens_session: before.is_none_or(|before| at - before > 20 * 60_000),
            ratio_of_previous: None,
        });
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

/// Hits at 20 and plays, by model and part of the log.
type Table = BTreeMap<(&'static str, &'static str), (u64, u64)>;

fn main() {
    let argument = |at: usize| {
        std::env::args()
            .nth(at)
            .and_then(|a| a.parse::<usize>().ok())
    };
    let per_epoch = argument(1).unwrap_or(1000);
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
    let world = world(&data);
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
    let mut by_user: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for event in &world.events[..half] {
        listeners.absorb(event);
        by_user
            .entry(&world.users[event.user.0 as usize])
            .or_default()
            .push(*listeners.ask(event.user).context.last().unwrap());
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
    let admitted = |from: usize, to: usize, with_content: bool| -> Vec<Admitted<'_>> {
        (from..to)
            .map(|row| Admitted {
                track: TrackId(row as u32),
                key: world.keys[row],
                content: world.content[row].as_deref().filter(|_| with_content),
            })
            .collect()
    };

    let mut models: Vec<Box<dyn Recommender>> = Vec::new();
    let began = clock.now();
    // Other settings can be tried as JSON, such as {"epochs": 5}.
    let text = std::env::var("SASREC").unwrap_or_else(|_| "{}".into());
    let settings: SasRecSettings = serde_json::from_str(&text).unwrap();
    let (sasrec, report) = SasRec::fit(&log, &world.keys, &settings, Device::Cpu, &mut ()).unwrap();
    println!("sasrec: {:.1} s, {report:?}", seconds(began));
    let mut popular = PersonalMostPop::new();
    popular.train(&log);
    let mut rules = SequentialRules::new(50, 0.999);
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
        &admitted(0, seen, true),
        &vectors,
        &settings,
        &mut (),
    )
    .unwrap();
    let took = seconds(began);
    println!(
        "e4srec: {took:.1} s, {:.0} tokens/s, {report:?}",
        report.tokens as f64 / took
    );
    models.push(Box::new(sasrec));
    models.push(Box::new(e4srec.frozen().unwrap()));
    models.push(Box::new(e4srec.online().unwrap()));

    for model in &mut models {
        model.admit(&admitted(0, seen, true)).unwrap();
    }
    let mut table = Table::new();
    let mut spent: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    let mut chunk = Chunk::new();
    let end = world.events.len().min(half.saturating_add(most));
    let mut fresh = seen;
    for (number, events) in (1u64..).zip(world.events[half..end].chunks(per_epoch)) {
        chunk.clear();
        for event in events {
            chunk.push(&mut listeners, event);
        }
        let (asks, examples) = (chunk.asks(), chunk.examples());
        let newest = events
            .iter()
            .map(|e| e.track.row() + 1)
            .max()
            .unwrap()
            .max(seen);
        for model in &mut models {
            let began = clock.now();
            let mut ranks = Vec::new();
            model.rank_of(&asks, chunk.actual(), &mut ranks).unwrap();
            let entry = spent.entry(model.name()).or_default();
            entry.0 += seconds(began);
            for (rank, ask) in ranks.iter().zip(&asks) {
                let jodie = world.users[ask.user.0 as usize].starts_with("user_97");
                for part in ["all", if jodie { "dense" } else { "named" }] {
                    let cell = table.entry((model.name(), part)).or_default();
                    cell.0 += u64::from(rank.is_some_and(|rank| rank <= 20));
                    cell.1 += 1;
                }
            }
            let began = clock.now();
            // Titles are encoded an epoch after they were first seen.
            model.admit(&admitted(fresh, seen, true)).unwrap();
            model.admit(&admitted(seen, newest, false)).unwrap();
            model.learn(Epoch(number), &examples).unwrap();
            entry.1 += seconds(began);
        }
        (fresh, seen) = (seen, newest);
        if number % 10 == 0 {
            let recall = |name| {
                let (hits, plays): (u64, u64) = table[&(name, "all")];
                format!("{name} {:.4}", hits as f64 / plays as f64)
            };
            let line: Vec<String> = models.iter().map(|m| recall(m.name())).collect();
            println!("{:>7} {}", number as usize * per_epoch, line.join("  "));
        }
    }
    for ((name, part), (hits, plays)) in &table {
        println!(
            "{name:>22} {part}: recall@20 {:.4} of {plays}",
            *hits as f64 / *plays as f64
        );
    }
    for (name, (asking, learning)) in &spent {
        println!("{name:>22}: asked {asking:.1} s, learnt and admitted {learning:.1} s");
    }
}
