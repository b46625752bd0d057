//! Trains E4SRec on the first part of a real log once per fusion, and ranks the plays of the rest: what
//! each fusion is worth, beside the projection of all content as a whole and beside ids alone.
//!
//! `cargo run --release -p segue-e4srec --example fusions -- [plays ranked] [FUSION ...]`
//!
//! The log is LFM-1b's sample (`lfm1b_sample/`), in the folder `SEGUE_DATA`; its tracks have names
//! (`text`), names of albums (`text` too, a segment of its own) and, where a table of Spotify's knows
//! them (`metadata/spotify_songs_32833.csv.zst`), eleven numbers on how they sound (`ratings`): a modality
//! that most of them lack. Settings can be tried as JSON, `E4SREC='{"tower": {"modality_dropout": 0.2}}'`.
//!
//! Models follow the stream and do not learn from it. Tracks that nobody has played yet can be ranked
//! from the beginning: the figure for them is what content alone is worth. The last line is a JSON object.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use segue_catalog::modality::{Modality, ModalityKind};
use segue_e4srec::settings::{E4SRecSettings, Fusion};
use segue_e4srec::{E4SRec, Foundation};
use segue_encode::text::TextEncoder;
use segue_encode::track_text::track_text;
use segue_flow::Epoch;
use segue_listen::{EventTime, Span, TrackId, TrackKey, UserId};
use segue_nn::device::{self, DevicePreference, Precision};
use segue_recommend::listeners::{Chunk, Listeners, PlayEvent};
use segue_recommend::prequential::{Prequential, PrequentialSettings, Slice};
use segue_recommend::recommender::{Admitted, ContextPlay, Recommender};
use segue_recommend::training::TrainingLog;
use tch::Device;

const TEXT: usize = 384;
/// Columns of the table that tell how a track sounds.
const FEATURES: [&str; 11] = [
    "danceability",
    "energy",
    "key",
    "loudness",
    "mode",
    "speechiness",
    "acousticness",
    "instrumentalness",
    "liveness",
    "valence",
    "tempo",
];
/// The share of the log that is trained on.
const TRAINED: f64 = 0.8;
const PER_EPOCH: usize = 512;

struct Track {
    key: TrackKey,
    title: String,
    artist: String,
    album: String,
}

struct World {
    events: Vec<PlayEvent>,
    tracks: Vec<Track>,
}

fn lines(path: &Path) -> Vec<String> {
    let bytes = std::fs::read(path).unwrap();
    let text = zstd::decode_all(&bytes[..]).unwrap();
    let text = String::from_utf8_lossy(&text);
    text.lines().map(str::to_owned).collect()
}

/// Names by id.
fn names(path: &Path) -> HashMap<String, String> {
    let name = |line: &String| {
        let mut fields = line.split('\t');
        Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
    };
    lines(path).iter().filter_map(name).collect()
}

fn world(folder: &Path) -> World {
    let sample = |of: &str| folder.join(format!("LFM-1b_{of}-sample.txt.zst"));
    let [artists, albums, titles] = ["artists", "albums", "tracks"].map(|of| names(&sample(of)));
    let mut plays: Vec<(i64, [String; 4])> = lines(&sample("LEs"))
        .iter()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [user, artist, album, track, at] = fields[..] else {
                return None;
            };
            Some((
                at.parse().ok()?,
                [user, artist, album, track].map(str::to_owned),
            ))
        })
        .collect();
    plays.sort();
    let (mut users, mut ids) = (HashMap::new(), HashMap::new());
    let mut newest: HashMap<UserId, EventTime> = HashMap::new();
    let (mut events, mut tracks) = (Vec::new(), Vec::new());
    for (seconds, [user, artist, album, track]) in plays {
        let (Some(artist), Some(title)) = (artists.get(&artist), titles.get(&track)) else {
            continue;
        };
        let next = UserId(users.len() as u32);
        let user = *users.entry(user).or_insert(next);
        let key = TrackKey::from_names(artist, title);
        let track = *ids.entry(key).or_insert_with(|| {
            tracks.push(Track {
                key,
                title: title.clone(),
                artist: artist.clone(),
                album: albums.get(&album).cloned().unwrap_or_default(),
            });
            TrackId(tracks.len() as u32 - 1)
        });
        let at = EventTime::from_millis(seconds * 1_000);
        let before = newest.insert(user, at);
        events.push(PlayEvent {
            user,
            track,
            at,
            opens_session: before.is_none_or(|before| at.since(before) > Span::from_minutes(20)),
            own_ratio: None,
            ratio_of_previous: None,
        });
    }
    World { events, tracks }
}

/// The fields of a line of a table with commas, quoted or not.
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut quoted) = (vec![String::new()], false);
    for letter in line.chars() {
        match letter {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            letter => fields.last_mut().unwrap().push(letter),
        }
    }
    fields
}

/// What two tables may call the same track by.
fn plain(artist: &str, title: &str) -> String {
    let title = title.split(" - ").next().unwrap_or("");
    let title = title.split(['(', '[']).next().unwrap_or("");
    let both = format!("{artist}\t{title}").to_lowercase();
    both.chars()
        .filter(|c| c.is_alphanumeric() || *c == '\t')
        .collect()
}

/// How tracks sound by [`plain`] names: each number less its mean, by its deviation.
fn features(path: &Path) -> HashMap<String, Vec<f32>> {
    let lines = lines(path);
    let head = fields(&lines[0]);
    let column = |name: &str| head.iter().position(|own| own == name).unwrap();
    let (title, artist) = (column("track_name"), column("track_artist"));
    let columns = FEATURES.map(column);
    let mut known = HashMap::new();
    for line in &lines[1..] {
        let fields = fields(line);
        let value = |&at: &usize| fields.get(at)?.parse::<f32>().ok();
        let values: Option<Vec<f32>> = columns.iter().map(value).collect();
        if let Some(values) = values {
            known.insert(plain(&fields[artist], &fields[title]), values);
        }
    }
    for at in 0..FEATURES.len() {
        let values = known.values().map(|values: &Vec<f32>| values[at]);
        let mean = values.clone().sum::<f32>() / known.len() as f32;
        let spread = values.map(|value| (value - mean).powi(2)).sum::<f32>();
        let deviation = (spread / known.len() as f32).sqrt().max(1e-6);
        for values in known.values_mut() {
            values[at] = (values[at] - mean) / deviation;
        }
    }
    known
}

/// Names, names of albums, and how they sound, side by side; and how many of them are known to sound.
fn contents(world: &World, known: &HashMap<String, Vec<f32>>) -> (Vec<Vec<f32>>, usize) {
    let mut encoder = TextEncoder::load(
        &models_folder().join("minilm"),
        Device::Cpu,
        Precision::Auto,
    )
    .unwrap();
    let mut embedded = |texts: Vec<String>| -> Vec<f32> {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        encoder.embed(&texts).unwrap()
    };
    let tracks = &world.tracks;
    let named = |track: &Track| track_text(&track.title, &track.artist, "").unwrap_or_default();
    let titles = embedded(tracks.iter().map(named).collect());
    let albums = embedded(tracks.iter().map(|track| track.album.clone()).collect());
    let mut heard = 0;
    let rows = titles.chunks(TEXT).zip(albums.chunks(TEXT)).zip(tracks);
    let rows = rows.map(|((title, album), track)| {
        let mut row = title.to_vec();
        match track.album.is_empty() {
            true => row.extend([0.0; TEXT]),
            false => row.extend(album),
        }
        match known.get(&plain(&track.artist, &track.title)) {
            Some(sound) => {
                heard += 1;
                row.extend(sound);
            }
            None => row.extend([0.0; FEATURES.len()]),
        }
        row
    });
    let rows = rows.collect();
    (rows, heard)
}

fn models_folder() -> PathBuf {
    std::env::var_os("SEGUE_MODELS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.models"),
        PathBuf::from,
    )
}

fn trained(world: &World, until: usize) -> (TrainingLog, Listeners) {
    let mut listeners = Listeners::new();
    let mut by_user: BTreeMap<UserId, Vec<ContextPlay>> = BTreeMap::new();
    for event in &world.events[..until] {
        listeners.absorb(event);
        let newest = *listeners.ask(event.user).context.last().unwrap();
        by_user.entry(event.user).or_default().push(newest);
    }
    let mut log = TrainingLog::default();
    for plays in by_user.into_values() {
        log.push(plays);
    }
    (log, listeners)
}

fn estimate(slice: &Slice) -> serde_json::Value {
    let recall = slice.per_event.recall_20;
    serde_json::json!([recall.mean, recall.low, recall.high])
}

fn main() {
    let mut arguments = std::env::args().skip(1).peekable();
    let most = arguments.next().and_then(|most| most.parse().ok());
    let mut asked: Vec<String> = arguments.collect();
    if asked.is_empty() {
        let all = "id projection concat weighted_sum cross_attention film";
        asked = all.split(' ').map(str::to_owned).collect();
    }
    let data = std::env::var_os("SEGUE_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let sample = data.join("lfm1b_sample");
    if !sample.is_dir() {
        println!("skipped: no data in {} (set SEGUE_DATA)", data.display());
        return;
    }
    let device = device::choose(DevicePreference::Auto);
    device::limit_threads(None);
    let world = world(&sample);
    let known = features(&data.join("metadata/spotify_songs_32833.csv.zst"));
    let (contents, heard) = contents(&world, &known);
    let until = (world.events.len() as f64 * TRAINED) as usize;
    let end = world
        .events
        .len()
        .min(until.saturating_add(most.unwrap_or(usize::MAX)));
    eprintln!(
        "{} plays of {} tracks, of which {heard} are known to sound; {}",
        world.events.len(),
        world.tracks.len(),
        device.reason
    );
    let played: HashSet<TrackId> = world.events[..until].iter().map(|e| e.track).collect();
    let admitted = |content: bool| -> Vec<Admitted<'_>> {
        let tracks = (0u32..).zip(&world.tracks).zip(&contents);
        tracks
            .map(|((id, track), own)| Admitted {
                track: TrackId(id),
                key: track.key,
                names: None,
                content: content.then_some(own.as_slice()),
            })
            .collect()
    };
    let (log, before) = trained(&world, until);
    let text = std::env::var("E4SREC").unwrap_or_else(|_| "{}".into());
    let modality = |kind, dimensions| Modality { kind, dimensions };
    let told = vec![
        modality(ModalityKind::Text, TEXT),
        modality(ModalityKind::Text, TEXT),
        modality(ModalityKind::Ratings, FEATURES.len()),
    ];
    let mut models: Vec<Box<dyn Recommender>> = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    for name in &asked {
        let mut settings: E4SRecSettings = serde_json::from_str(&text).unwrap();
        settings.tower.content = contents[0].len();
        let fusion = if name == "id" { "projection" } else { name };
        settings.tower.fusion = serde_json::from_value(fusion.into()).expect("a fusion, or id");
        if settings.tower.fusion == Fusion::Projection {
            settings.tower.modality_dropout = 0.0;
        }
        let path = models_folder().join("smollm2-135m");
        let foundation = Foundation::load(&path, &settings.backbone, device.device).unwrap();
        let foundation = foundation.with_content(told.clone());
        let tracks = admitted(name != "id");
        let none = HashMap::new();
        let fit = E4SRec::fit(&foundation, &log, &tracks, &none, &settings, &mut ());
        let (model, report) = fit.unwrap();
        eprintln!(
            "{name}: loss {:?} to {:?}",
            report.first_loss, report.last_loss
        );
        let mut model = model.following().unwrap();
        model.admit(&tracks).unwrap();
        models.push(Box::new(model));
        names.push(name);
    }
    let pairs: Vec<(&str, &str)> = names
        .iter()
        .flat_map(|&one| ["projection", "id"].map(|other| (one, other)))
        .filter(|(one, other)| one != other && names.contains(other))
        .collect();
    // Over all plays, and over those of tracks that the training had not.
    let parts = ["all", "new"];
    let mut figures =
        parts.map(|_| Prequential::new(&names, &pairs, PrequentialSettings::default()).unwrap());
    let mut listeners = before;
    let mut chunk = Chunk::new();
    for (number, events) in (1u64..).zip(world.events[until..end].chunks(PER_EPOCH)) {
        chunk.clear();
        for event in events {
            chunk.push(&mut listeners, event);
        }
        let asks = chunk.asks();
        let mut columns = Vec::new();
        for model in &mut models {
            let mut ranks = Vec::new();
            model.rank_of(&asks, chunk.actual(), &mut ranks).unwrap();
            columns.push(ranks);
        }
        let new: Vec<usize> = (0..events.len())
            .filter(|&at| !played.contains(&chunk.actual()[at]))
            .collect();
        let facts: Vec<_> = new.iter().map(|&at| chunk.facts()[at]).collect();
        let all: Vec<&[Option<u32>]> = columns.iter().map(Vec::as_slice).collect();
        figures[0].record(chunk.facts(), &all).unwrap();
        let some: Vec<Vec<Option<u32>>> = columns
            .iter()
            .map(|ranks| new.iter().map(|&at| ranks[at]).collect())
            .collect();
        let some: Vec<&[Option<u32>]> = some.iter().map(Vec::as_slice).collect();
        figures[1].record(&facts, &some).unwrap();
        for model in &mut models {
            model.learn(Epoch(number), &chunk.examples()).unwrap();
        }
    }
    let mut found = serde_json::Map::new();
    for (part, figures) in parts.iter().zip(&figures) {
        let report = figures.report();
        let mut told = serde_json::Map::new();
        for one in &report.recommenders {
            let overall = &one.parts.overall;
            let figure = estimate(overall);
            println!(
                "{part} {}: recall@20 {figure} of {} plays",
                one.name, overall.events
            );
            told.insert(one.name.to_string(), figure);
            told.insert("plays".into(), overall.events.into());
        }
        for one in &report.differences {
            let figure = estimate(&one.parts.overall);
            println!("{part} {} less {}: recall@20 {figure}", one.name, one.minus);
            told.insert(format!("{}_less_{}", one.name, one.minus), figure);
        }
        found.insert((*part).to_owned(), told.into());
    }
    println!("{}", serde_json::Value::from(found));
}
