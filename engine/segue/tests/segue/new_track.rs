//! A track that nobody had ever played is among the answers one second of event time after its first
//! play: for the listener who played it, and for another who has played what is like it. With the
//! real text encoder and a trained language model, cut short.

use std::collections::HashSet;
use std::sync::Arc;

use segue::commands::run::Run;
use segue::http::Phase;
use segue_listen::{Listen, Span, TrackKey};
use segue_log::Log;

use crate::models::with_models;
use crate::rig;
use crate::same_answer::{deliver, read_all};

/// A listener's name, the time of the play that was answered, and the tracks of the answer, best first.
type Answer = (String, i64, Vec<String>);

#[test]
fn a_track_first_played_a_second_ago_is_among_the_answers() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = rig::config(folder.path());
    with_models(&mut config, 700);
    // All of the catalogue.
    config.recommend.top = 5_000;
    let mut listens = rig::listens(1_200);
    // One listener plays something new, and a second later another plays a track of the same artist.
    let known = listens.last().unwrap().clone();
    let other = listens.iter().find(|listen| listen.user != known.user);
    let title = format!("{} (live)", known.title);
    let new = Listen {
        user: other.unwrap().user.clone(),
        track: TrackKey::from_names(&known.artist, &title),
        title,
        at: known.at.plus(Span::from_minutes(3)),
        ..known.clone()
    };
    let like_it = Listen {
        at: new.at.plus(Span::from_seconds(1)),
        ..known
    };
    listens.extend([new.clone(), like_it.clone()]);
    let own = listens.iter().filter(|listen| listen.user == like_it.user);
    let played: HashSet<String> = own.map(|listen| listen.track.to_string()).collect();

    let log = Log::open(&config.log).unwrap();
    log.ensure_topic(&config.stream.topic, 1).unwrap();
    deliver(&config, listens, &mut log.sink("replay").unwrap());
    drop(log);
    let until_end = Run {
        until_end: true,
        ..Run::default()
    };
    let summary = until_end.engine(&config, Arc::default(), &Phase::default());
    assert_eq!(summary.unwrap().stream.plays, 1_202);

    let topic = &config.recommend.topics.predictions;
    let log = Log::open(&config.log).unwrap();
    let mut records = Vec::new();
    let mut source = log.source(topic, 0, segue_log::Until::Now).unwrap();
    read_all(&mut source, topic, &mut records);
    let answers: Vec<Answer> = records.iter().map(answer).collect();
    let new_key = new.track.to_string();
    let first = answers
        .iter()
        .position(|(_, _, tracks)| tracks.contains(&new_key));
    let [who, other] = &answers[first.unwrap()..] else {
        panic!("it is known before it is played, or to others: {first:?}");
    };
    assert_eq!(
        (who.0.as_str(), who.1),
        (new.user.as_str(), new.at.millis())
    );
    let place = who.2.iter().position(|track| *track == new_key).unwrap();
    assert!(place < 10, "of the listener's own: {place}");
    assert_eq!(
        (other.0.as_str(), other.1),
        (like_it.user.as_str(), like_it.at.millis())
    );
    // What people have played comes first, since they play it again.
    let mut unplayed = other.2.iter().filter(|track| !played.contains(*track));
    let many = unplayed.clone().count();
    let place = unplayed.position(|track| *track == new_key).unwrap();
    // By its words alone, after a training of sixteen windows.
    assert!(
        many > 100 && place < many / 4,
        "{place} of {many} that are new to the listener"
    );
}

fn answer((_, _, value): &rig::Record) -> Answer {
    let answer: serde_json::Value = rmp_serde::from_slice(value).unwrap();
    assert_eq!(answer["recommender"], "e4srec-online");
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let tracks = answer["tracks"].as_array().unwrap().iter();
    (
        text(&answer["user"]),
        answer["after_ms"].as_i64().unwrap(),
        tracks.map(|track| text(&track["track"])).collect(),
    )
}
