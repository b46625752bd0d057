//! A run that hears its tracks: what a library says of them is a part of their vectors, a broken file spoils
//! its own part only, and a corrected one takes its place. Real weights, real files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use segue::commands::run::{Run, counting, output_topics};
use segue::config::Config;
use segue::http::Phase;
use segue::models::Models;
use segue::pipeline::{self, Pipeline};
use segue::recovery::{self, Committed, Standing, Start};
use segue_flow::barrier::BarrierCall;
use segue_flow::checkpoint::CheckpointStore;
use segue_flow::lane::{AtEnd, LaneSettings};
use segue_listen::{Listen, Span, TrackKey};
use segue_log::Log;
use segue_recall::GraphWriter;
use segue_recommend::centroid::CentroidRecall;
use segue_recommend::popularity::MostPopular;
use segue_recommend::stage::{Checkpointing, RunSummary, StageSettings};

use crate::models::with_models;
use crate::rig::{self, Record};
use crate::same_answer::{deliver, read_all};

const CLIP: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../tests/golden/audio/clip.ogg"
);

/// The length of a vector of text and sound.
const HEARD: usize = 384 + 200;

/// Three seconds of noise, which is no music.
fn noise(to: &Path) {
    let (rate, frames) = (16_000u32, 48_000u32);
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut wav = b"RIFF".to_vec();
    wav.extend((36 + 2 * frames).to_le_bytes());
    wav.extend(b"WAVEfmt ");
    wav.extend(16u32.to_le_bytes());
    for half in [1u16, 1] {
        wav.extend(half.to_le_bytes());
    }
    for whole in [rate, 2 * rate] {
        wav.extend(whole.to_le_bytes());
    }
    for half in [2u16, 16] {
        wav.extend(half.to_le_bytes());
    }
    wav.extend(b"data");
    wav.extend((2 * frames).to_le_bytes());
    for _ in 0..frames {
        wav.extend(rng.random_range(-9_000i16..9_000).to_le_bytes());
    }
    fs::write(to, wav).unwrap();
}

/// A library of tracks, by artist and title, with the audio file of each.
fn library(folder: &Path, tracks: &[(&str, &str, &str)]) -> PathBuf {
    let lines = tracks.iter().map(|(artist, title, audio)| {
        serde_json::json!({"artist": artist, "title": title, "audio": audio}).to_string() + "\n"
    });
    let file = folder.join("library.jsonl");
    fs::write(&file, lines.collect::<String>()).unwrap();
    file
}

fn hears(config: &mut Config, library: PathBuf) {
    config.models.library = library;
    config.models.audio_encoder = "musicnn".into();
    config.models.audio_seconds = 2.0;
    config.models.e4srec.tower.content = 0;
}

pub fn written(config: &Config) -> Vec<Record> {
    let log = Log::open(&config.log).unwrap();
    let mut records = Vec::new();
    for topic in output_topics(config) {
        let mut source = log.source(topic, 0, segue_log::Until::Now).unwrap();
        read_all(&mut source, topic, &mut records);
    }
    records
}

/// Puts listens at the end of the topic.
pub fn append(config: &Config, listens: &[Listen]) {
    let log = Log::open(&config.log).unwrap();
    log.ensure_topic(&config.stream.topic, 1).unwrap();
    deliver(config, listens.to_vec(), &mut log.sink("replay").unwrap());
}

#[test]
fn a_broken_file_spoils_its_own_part_and_vectors_that_are_kept_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let listens = rig::listens(1_000);
    let mut named: Vec<(&str, &str)> = Vec::new();
    for listen in &listens {
        let names = (listen.artist.as_str(), listen.title.as_str());
        if named.len() < 3 && !named.contains(&names) {
            named.push(names);
        }
    }
    fs::copy(CLIP, folder.path().join("a.ogg")).unwrap();
    fs::write(folder.path().join("b.ogg"), "no music").unwrap();
    noise(&folder.path().join("c.wav"));
    let files = ["a.ogg", "b.ogg", "c.wav"];
    let tracks = named.iter().zip(files).map(|(&(a, t), f)| (a, t, f));
    let tracks: Vec<_> = tracks.collect();
    let library = library(folder.path(), &tracks);
    let vectors = folder.path().join("vectors");

    // In a process of its own: to the last bit it matters how many threads libtorch has when a thread starts.
    let run = |name: &str, change: &dyn Fn(&mut Config)| -> (serde_json::Value, Vec<Record>) {
        let mut config = rig::config(&folder.path().join(name));
        with_models(&mut config, 700);
        hears(&mut config, library.clone());
        change(&mut config);
        append(&config, &listens);
        let file = folder.path().join(format!("{name}.toml"));
        fs::write(&file, config.to_toml().unwrap()).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_segue"))
            .arg("--config")
            .arg(&file)
            .args(["run", "--until-end"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        let summary = said.get(said.find('{').unwrap()..).unwrap();
        (serde_json::from_str(summary).unwrap(), written(&config))
    };
    let (summary, expected) = run("without", &|_| {});
    assert_eq!(summary["stream"]["plays"], 1_000);
    assert_eq!(summary["encoded"], summary["tracks"]);
    assert_eq!(
        (&summary["failed"], &summary["content_faults"]),
        (&0.into(), &1.into())
    );
    let dead: Vec<_> = expected
        .iter()
        .filter(|record| record.0 == "listens.dead-letters")
        .collect();
    let [dead] = &dead[..] else {
        panic!("{} dead letters", dead.len());
    };
    let key = TrackKey::from_names(named[1].0, named[1].1).to_string();
    assert_eq!(dead.1, key.as_bytes());
    let dead: serde_json::Value = rmp_serde::from_slice(&dead.2).unwrap();
    assert_eq!(
        (&dead["modality"], &dead["title"]),
        (&"audio".into(), &named[1].1.into())
    );
    assert!(dead["reason"].as_str().unwrap().contains("b.ogg"), "{dead}");

    // What `segue encode` has made the run does not make again, and says the same.
    let output = Command::new(env!("CARGO_BIN_EXE_segue"))
        .args(["encode", "audio", "--model", "musicnn", "--seconds", "2"])
        .arg(&library)
        .arg("--out")
        .arg(folder.path().join("table.safetensors"))
        .env("SEGUE__MODELS__VECTOR_CACHE", &vectors)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let cached = |config: &mut Config| config.models.vector_cache = vectors.clone();
    let kept = || -> Vec<Vec<u8>> {
        let files = fs::read_dir(&vectors).unwrap().flatten();
        files.map(|file| fs::read(file.path()).unwrap()).collect()
    };
    let before = kept();
    assert!(before.len() == 1 && before[0].len() > 2 * 4 * 200);
    let (_, found) = run("with", &cached);
    assert_eq!(kept(), before, "nothing was made anew");
    assert_eq!(expected.len(), found.len());
    let differs = expected.iter().zip(&found).position(|(a, b)| a != b);
    assert_eq!(differs, None, "a cache is no difference");

    let mut wrong = rig::config(&folder.path().join("wrong"));
    with_models(&mut wrong, 700);
    hears(&mut wrong, library.clone());
    wrong.models.e4srec.tower.content = 384;
    append(&wrong, &listens[..10]);
    let refused = Run::default().engine(&wrong, Arc::default(), &Phase::default());
    let refused = format!("{:#}", refused.unwrap_err());
    for key in ["models.e4srec.tower.content = 384", "models.audio_encoder"] {
        assert!(refused.contains(key), "{refused}");
    }
}

/// Recall around what was just played answers, over what the configuration says of tracks' vectors, which are
/// so long; up to the end of the log, from the checkpoint before.
pub fn recall(config: &Config, length: usize) -> RunSummary {
    let log = Log::open(&config.log).unwrap();
    for topic in output_topics(config) {
        log.ensure_topic(topic, 1).unwrap();
    }
    let sink = log.sink("recall").unwrap();
    let last = sink.last_commit();
    let lane = last.inputs.first().map(|range| Standing {
        offset: range.to,
        epoch: last.epoch,
        instance: None,
    });
    let committed = Committed { lanes: vec![lane] };
    let topic = &config.stream.topic;
    let mut store = CheckpointStore::open(&config.checkpoint).unwrap();
    let restored = match recovery::find(&mut store, topic, &committed, config).unwrap() {
        Start::Anew => None,
        Start::From(restored) => Some(restored),
        Start::Before(_) => panic!("the checkpoint is whole"),
    };
    let encoders = Models::load(config).unwrap().encoders(config).unwrap();
    let dimensions = encoders.dimensions();
    assert_eq!(dimensions, length);
    let writer = GraphWriter::new(dimensions, config.recall.clone()).unwrap();
    let source = log.source(topic, 0, segue_log::Until::Now).unwrap();
    let plain = counting(config, vec![Box::new(source)], Box::new(sink));
    let summary = pipeline::run(Pipeline {
        lane: LaneSettings {
            at_end: AtEnd::Leave,
            ..config.lane()
        },
        stage: StageSettings {
            compare: Vec::new(),
            ..plain.stage
        },
        recommenders: vec![
            Box::new(CentroidRecall::new(dimensions, Box::new(writer))),
            Box::new(MostPopular::new(1.0)),
        ],
        encoders: Some(encoders),
        checkpointing: Some(Checkpointing {
            store,
            call: BarrierCall::default(),
            every: config.checkpoint.every,
            topic: topic.clone(),
            fixed: recovery::fixed(config),
        }),
        restored,
        ..plain
    });
    summary.unwrap()
}

/// The last score that a track was given after a play of another.
pub fn score(config: &Config, after: &str, of: &str) -> f64 {
    let mut scores = written(config).into_iter().filter_map(|record| {
        let said: serde_json::Value = rmp_serde::from_slice(&record.2).unwrap();
        if record.0 != "predictions" || said["recommender"] != "centroid-recall" {
            return None;
        }
        let tracks = said["tracks"].as_array().unwrap();
        let score = |title| Some(tracks.iter().find(|t| t["title"] == title)?["score"].as_f64());
        let key = TrackKey::from_names("x", after).to_string();
        (said["after_track"] == key).then(|| score(of).flatten())?
    });
    scores.next_back().unwrap()
}

/// So many plays of tracks of one artist in turn, each a session of its own, too long ago for others to come
/// before it.
pub fn in_turn(titles: &[&str], plays: usize) -> Vec<Listen> {
    let first = rig::listens(1).remove(0);
    let turns = titles.iter().cycle().take(plays);
    (0..)
        .zip(turns)
        .map(|(n, title)| Listen {
            artist: "x".into(),
            title: (*title).into(),
            track: TrackKey::from_names("x", title),
            at: first.at.plus(Span::from_minutes(120 * n)),
            ..first.clone()
        })
        .collect()
}

#[test]
fn a_file_that_is_corrected_takes_the_place_of_the_other_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    fs::copy(CLIP, file("song.ogg")).unwrap();
    noise(&file("wrong.wav"));
    let titles = ["song", "wrong", "silent", "other"];
    let tracks = [("x", "song", "song.ogg"), ("x", "wrong", "wrong.wav")];
    let mut config = rig::config(folder.path());
    // Each play is answered.
    config.recommend.epoch = 1;
    hears(&mut config, library(folder.path(), &tracks));

    let listens = in_turn(&titles, 36);
    append(&config, &listens[..12]);
    let summary = recall(&config, HEARD);
    assert_eq!((summary.encoded, summary.content_faults), (4, 0));
    let before = score(&config, "song", "wrong");
    let text_alone = score(&config, "song", "other");

    // Nothing has changed: nothing is said otherwise.
    append(&config, &listens[12..24]);
    recall(&config, HEARD);
    assert_eq!(score(&config, "song", "wrong"), before);

    // It was the same song all along.
    fs::copy(CLIP, file("wrong.wav")).unwrap();
    append(&config, &listens[24..]);
    let summary = recall(&config, HEARD);
    assert_eq!((summary.tracks, summary.encoded), (4, 4));
    let after = score(&config, "song", "wrong");
    assert!(after > before + 0.02, "{before} {after}");
    assert!(after > 0.5, "half of it is the same sound: {after}");
    assert!(text_alone < before, "{text_alone} {before}");

    // Other ears are another kind of vector: not halfway through a stream.
    config.models.audio_encoder = "handcrafted".into();
    let store = &mut CheckpointStore::open(&config.checkpoint).unwrap();
    let manifest = store.newest_good().unwrap().unwrap();
    let refused = recovery::check_fixed(&manifest, &config).unwrap_err();
    assert!(
        refused.to_string().contains("models.audio_encoder"),
        "{refused}"
    );
}
