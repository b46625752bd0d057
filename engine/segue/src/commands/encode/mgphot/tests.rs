//! A library through the command: rated here and over real sockets, with failures, and compared.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use segue_catalog::ratings::schema::ATTRIBUTES;
use segue_chat::test_server::{Asked, Say, Server};
use segue_e4srec::TrackFeatures;
use segue_recommend::recommender::TrackNames;
use serde_json::{Map, Value};

use super::*;
use crate::models::Ratings;

/// A place with a library of tracks `Title n` by `Artist`.
struct Rig {
    folder: tempfile::TempDir,
    config: Config,
}

impl Rig {
    fn new(tracks: std::ops::Range<u32>) -> Self {
        let mut config = Config::default();
        config.endpoint.requests_per_minute = 0;
        let rig = Self {
            folder: tempfile::tempdir().unwrap(),
            config,
        };
        rig.library(tracks);
        rig
    }

    fn library(&self, tracks: std::ops::Range<u32>) {
        let line = |n| format!("{{\"artist\": \"Artist\", \"title\": \"Title {n}\"}}\n");
        std::fs::write(
            self.path("library.jsonl"),
            tracks.map(line).collect::<String>(),
        )
        .unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, server: Option<&Server>) -> MgphotCommand {
        MgphotCommand {
            from: self.path("library.jsonl"),
            out: self.path("ratings.tsv"),
            model: Some(server.map_or("smollm2-135m", |_| "gpt").to_owned()),
            endpoint: server.map(|server| server.base.clone()),
            anchors: None,
            validate: None,
        }
    }

    fn rate(&self, command: &MgphotCommand) -> Result<Ratings> {
        command.rate(&self.config, &AtomicBool::new(false))?;
        Ratings::read(&command.out)
    }

    fn problems(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("ratings.problems.jsonl")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn table(&self, name: &str, tracks: impl Iterator<Item = (u32, f32)>) -> PathBuf {
        let mut table = RatingTable::of_schema();
        for (n, rating) in tracks {
            table.insert(RatedTrack {
                artist: "Artist".into(),
                title: format!("Title {n}").into(),
                ratings: vec![rating; COUNT],
            });
        }
        std::fs::write(self.path(name), table.to_text()).unwrap();
        self.path(name)
    }
}

/// The number of the track that was asked for.
fn number(asked: &Asked) -> u32 {
    let words: Vec<&str> = asked.question().split(' ').collect();
    words[2].parse().unwrap()
}

/// A whole answer that rates everything the same.
fn answer(rating: u32) -> String {
    let each = ATTRIBUTES.map(|attribute| (attribute.name.to_owned(), Value::from(rating)));
    Value::Object(Map::from_iter(each)).to_string()
}

fn tempo(ratings: &Ratings, n: u32) -> Option<f32> {
    let title = format!("Title {n}");
    let names = TrackNames {
        artist: "Artist",
        title: &title,
    };
    ratings
        .ratings(TrackKey(0), names)
        .map(|ratings| ratings[9])
}

#[test]
fn answers_become_a_table_and_what_is_none_is_named() {
    let server = Server::start(|before, asked| match number(asked) {
        0 => Say::Answer(answer(7)),
        1 => Say::Answer("I cannot hear.".to_owned()),
        2 if before < 4 => Say::status(429),
        3 if before < 4 => Say::Cut(70),
        n => Say::Answer(answer(n % 6)),
    });
    let mut rig = Rig::new(0..8);
    rig.config.endpoint.in_flight = 3;
    let command = rig.command(Some(&server));
    let ratings = rig.rate(&command).unwrap();
    let found: Vec<Option<f32>> = (0..9).map(|n| tempo(&ratings, n)).collect();
    let expected = [2.0, 3.0, 4.0, 5.0, 0.0, 1.0].map(Some);
    assert_eq!(found[2..8], expected);
    assert_eq!([found[0], found[1], found[8]], [None; 3]);
    let mut problems = rig.problems();
    problems.sort_by_key(|problem| problem["title"].to_string());
    assert_eq!(problems.len(), 2);
    assert_eq!(problems[0]["title"], "Title 0");
    assert!(
        problems[0]["problem"]
            .as_str()
            .unwrap()
            .contains("not from 0 to 5")
    );
    assert!(
        problems[1]["problem"]
            .as_str()
            .unwrap()
            .contains("no JSON object")
    );

    // Repeated, only what has no ratings is asked for again; more music alone is new.
    let before = server.asked().len();
    rig.library(1..9);
    let ratings = rig.rate(&command).unwrap();
    assert_eq!(tempo(&ratings, 8), Some(2.0));
    let again: Vec<u32> = server.asked()[before..].iter().map(number).collect();
    assert!(again.iter().all(|n| [1, 8].contains(n)), "{again:?}");
    assert_eq!(again.len(), 3);
    // What it was told is the schema, and each answer is held to its shape.
    let body = &server.asked()[0].body;
    let rules = body["messages"][0]["content"].as_str().unwrap();
    assert!(rules.contains("Focus on Riffs: 0 incidental"), "{rules}");
    let schema = &body["response_format"]["json_schema"]["schema"];
    assert_eq!(schema["properties"]["Tempo"]["enum"][5], 5);
}

#[test]
fn another_rater_has_another_cache() {
    let server = Server::start(|_, _| Say::Answer(answer(3)));
    let rig = Rig::new(0..3);
    let plain = rig.command(Some(&server));
    rig.rate(&plain).unwrap();
    let shown = MgphotCommand {
        anchors: Some(rig.table("anchors.tsv", [(70, 1.0), (71, 4.4)].into_iter())),
        ..rig.command(Some(&server))
    };
    rig.rate(&shown).unwrap();
    assert_eq!(server.asked().len(), 6);
    let messages = &server.asked()[5].body["messages"];
    assert_eq!(messages[1]["content"], "Track: Title 70 by Artist");
    assert_eq!(messages[4]["content"], answer(4));
    // Gone back to, the first rater's are still there.
    rig.rate(&plain).unwrap();
    assert_eq!(server.asked().len(), 6);
}

#[test]
fn a_budget_ends_it_and_it_goes_on_later() {
    let server = Server::start(|_, asked| Say::Answer(answer(number(asked) % 6)));
    let mut rig = Rig::new(0..20);
    let endpoint = &mut rig.config.endpoint;
    // An answer costs 1.
    (endpoint.input_price, endpoint.budget) = (1_000.0, 5.5);
    let command = rig.command(Some(&server));
    let first = rig.rate(&command).unwrap();
    let rated = (0..20).filter(|&n| tempo(&first, n).is_some()).count();
    assert_eq!(rated, 5);
    let problems = rig.problems();
    assert_eq!(problems.len(), 20 - rated);
    assert!(
        problems[0]["problem"]
            .as_str()
            .unwrap()
            .contains("endpoint.budget")
    );
    rig.config.endpoint.budget = 0.0;
    let second = rig.rate(&command).unwrap();
    assert!((0..20).all(|n| tempo(&second, n) == Some((n % 6) as f32)));
    assert_eq!(server.asked().len(), 20, "nothing is paid for twice");
    assert!(rig.problems().is_empty());
}

#[test]
fn what_no_question_can_get_past_ends_it() {
    for (status, word, most) in [(401, "endpoint.key", 4), (400, "10 tracks in a row", 20)] {
        let server = Server::start(move |_, _| Say::status(status));
        let rig = Rig::new(0..40);
        let error = rig.rate(&rig.command(Some(&server))).unwrap_err();
        assert!(format!("{error:#}").contains(word), "{error:#}");
        assert!(server.asked().len() <= most, "{}", server.asked().len());
    }
}

#[test]
fn a_signal_ends_it_and_what_was_rated_is_kept() {
    let stop = Arc::new(AtomicBool::new(false));
    let raised = stop.clone();
    let server = Server::start(move |before, _| {
        raised.store(before >= 2, Ordering::Relaxed);
        Say::Answer(answer(1))
    });
    let mut rig = Rig::new(0..9);
    rig.config.endpoint.in_flight = 1;
    let command = rig.command(Some(&server));
    let error = command.rate(&rig.config, &stop).unwrap_err();
    assert!(error.to_string().contains("goes on from there"), "{error}");
    assert_eq!(server.asked().len(), 3);
    rig.rate(&command).unwrap();
    assert_eq!(server.asked().len(), 9);
}

#[test]
fn ratings_are_compared_with_true_ones_without_the_anchors() {
    let server = Server::start(|_, asked| Say::Answer(answer(number(asked) % 6)));
    let rig = Rig::new(0..12);
    let truth = (0..10).map(|n| (n, if n < 2 { 0.0 } else { (n % 6) as f32 }));
    let command = MgphotCommand {
        anchors: Some(rig.table("anchors.tsv", [(1, 1.0)].into_iter())),
        validate: Some(rig.table("true.tsv", truth)),
        ..rig.command(Some(&server))
    };
    rig.rate(&command).unwrap();
    let text = std::fs::read(rig.path("ratings.agreement.json")).unwrap();
    let found: Value = serde_json::from_slice(&text).unwrap();
    // Ten have true ratings, one of them is an anchor; where they differ only it would.
    assert_eq!(found["tracks"], 9);
    assert_eq!(found["all"]["spearman"], 1.0);
    assert_eq!(found["categories"][2]["category"], "rhythm");
    assert_eq!(found["categories"][2]["attributes"], 10);
    let few = MgphotCommand {
        validate: Some(rig.table("few.tsv", [(3, 1.0), (40, 2.0)].into_iter())),
        ..rig.command(Some(&server))
    };
    let error = rig.rate(&few).unwrap_err().to_string();
    assert!(error.contains("1 of the rated tracks"), "{error}");
}

#[test]
fn files_that_do_not_fit_are_named_before_anything_is_asked() {
    let server = Server::start(|_, _| Say::Answer(answer(1)));
    let rig = Rig::new(0..3);
    let write = |name: &str, text: &str| {
        std::fs::write(rig.path(name), text).unwrap();
        Some(rig.path(name))
    };
    let gaps = write("gaps.tsv", "artist\ttitle\tTempo\nA\tB\t3\n");
    let foreign = write("foreign.tsv", "artist\ttitle\tLoudness\nA\tB\t3\n");
    for (anchors, validate, words) in [
        (
            gaps,
            None,
            "gaps.tsv: B by A lacks 57 of 58 ratings, Vocal Register",
        ),
        (
            None,
            foreign,
            "none of its columns is an attribute of MGPHot (Loudness)",
        ),
        (Some(rig.path("gone.tsv")), None, "gone.tsv"),
    ] {
        let command = MgphotCommand {
            anchors,
            validate,
            ..rig.command(Some(&server))
        };
        let error = format!("{:#}", rig.rate(&command).unwrap_err());
        assert!(error.contains(words), "{error}");
    }
    assert!(server.asked().is_empty());
    std::fs::write(rig.path("library.jsonl"), "").unwrap();
    let error = rig.rate(&rig.command(Some(&server))).unwrap_err();
    assert!(error.to_string().contains("has no track"), "{error}");
}

#[test]
fn a_model_that_runs_here_rates_all_that_has_a_name() {
    let mut rig = Rig::new(0..2);
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.models");
    rig.config.models.folder = std::env::var_os("SEGUE_MODELS").map_or(here, PathBuf::from);
    let mut library = std::fs::read_to_string(rig.path("library.jsonl")).unwrap();
    library.push_str("{\"mbid\": \"2b8cd7f8-2d9b-4dd1-a1a1-b9f9a7a1e0d1\"}\n");
    std::fs::write(rig.path("library.jsonl"), library).unwrap();
    let command = rig.command(None);
    let first = rig.rate(&command).unwrap();
    for n in 0..2 {
        assert!((0.0..=5.0).contains(&tempo(&first, n).unwrap()));
    }
    let problems = rig.problems();
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0]["problem"]
            .as_str()
            .unwrap()
            .contains("neither its artist")
    );
}
