//! Whether a track that nobody had ever played can be predicted one second of event time after its first play.
//!
//! A simulated log through the whole engine, which trains its language model on the first half. At its end come
//! the new tracks, one after the other: one listener plays it, and a second later another, who has just played
//! the same artist, plays that again. What is looked at is the answer to that play: whether the new track is
//! among all tracks that it ranks, and how many of those that the listener has not played are ahead of it. Its
//! words are all that the model knows of it, and one play of somebody else.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use segue::commands::run::Run;
use segue::config::Config;
use segue::http::Phase;
use segue_benchmarks::feed::deliver;
use segue_benchmarks::outcome::{Metric, Outcome};
use segue_flow::{Readiness, Source};
use segue_listen::{EventTime, Listen, Span, TrackKey};
use segue_log::{Log, Until};
use segue_recommend::interval::Estimate;
use segue_replay::{Simulator, SimulatorSettings};
use serde::Deserialize;

use crate::Ask;

const SEED: u64 = 20_261_129;
/// Who is to have answered.
const LANGUAGE_MODEL: &str = "e4srec-online";
/// After the first play of a new track.
const SECOND: Span = Span::from_seconds(1);
/// Between two new tracks.
const APART: Span = Span::from_minutes(3);
/// Tracks of an answer that is shown to somebody.
const SHOWN: usize = 20;

/// A new track and the play whose answer is to have it.
struct Trial {
    track: String,
    /// When it is first played.
    first: EventTime,
    /// The other listener.
    asks: String,
}

/// What is read of a prediction.
#[derive(Deserialize)]
struct Answer {
    recommender: String,
    user: String,
    after_ms: i64,
    tracks: Vec<Answered>,
}

#[derive(Deserialize)]
struct Answered {
    track: String,
}

pub fn run(ask: &Ask) -> anyhow::Result<Outcome> {
    let size = |key| ask.config.size(key, ask.quick);
    let plays = size("plays")?;
    let simulated = SimulatorSettings {
        seed: SEED,
        users: u32::try_from(size("users")?)?,
        tracks: u32::try_from(size("tracks")?)?,
        ..SimulatorSettings::default()
    };
    let mut listens: Vec<Listen> = Simulator::new(simulated.clone())?
        .take(usize::try_from(plays)?)
        .collect();
    let trials = with_new_tracks(&mut listens, usize::try_from(size("new")?)?)?;
    let mut played: HashMap<String, HashSet<String>> = HashMap::new();
    for listen in &listens {
        let tracks = played.entry(listen.user.clone()).or_default();
        tracks.insert(listen.track.to_string());
    }

    let folder = tempfile::tempdir().context("folder for the log")?;
    let config = config(folder.path(), plays, simulated.tracks)?;
    let log = Log::open(&config.log)?;
    log.ensure_topic(&config.stream.topic, config.stream.lanes)?;
    let mut sink = log.sink("replay")?;
    let topic = (&*config.stream.topic, config.stream.lanes);
    deliver(listens.into_iter(), topic, &mut sink)?;
    drop((sink, log));
    let run = Run {
        until_end: true,
        ..Run::default()
    };
    let summary = run.engine(&config, Arc::default(), &Phase::default())?;

    let answers = answers(&config, trials.first().map(|trial| trial.first))?;
    let judged: Vec<Judged> = trials
        .iter()
        .map(|trial| judge(trial, &answers, &played))
        .collect::<anyhow::Result<_>>()?;
    let share = |key, of: fn(&Judged) -> f64, unit| {
        let estimate = Estimate::per_event(judged.iter().map(move |one| (1.0, of(one))));
        Metric::estimated(key, estimate, unit)
    };
    Ok(Outcome {
        name: "new-track-scorable",
        quick: ask.quick,
        simulated: true,
        metrics: vec![
            share("scorable", |one| f64::from(one.ranked), "of the new tracks"),
            share(
                "shown",
                |one| f64::from(one.shown),
                "of the new tracks, among the first 20",
            ),
            share(
                "ahead",
                |one| one.ahead,
                "of what the listener has not played",
            ),
            Metric::single("new_tracks", judged.len() as f64, "new tracks"),
            Metric::single("predictions", summary.predictions as f64, "predictions"),
        ],
        repeats: 1,
        workload: format!(
            "{plays} simulated plays (seed {SEED}) of {} listeners, the language model trained on the first half; \
             then {} tracks that nobody had played, each asked for one second of event time after its first play",
            simulated.users,
            judged.len()
        ),
    })
}

/// Adds plays of new tracks behind all others, for each pair of listeners at the most one.
fn with_new_tracks(listens: &mut Vec<Listen>, new: usize) -> anyhow::Result<Vec<Trial>> {
    let mut seen = HashSet::new();
    let newest_first = listens.iter().rev();
    let last: Vec<Listen> = newest_first
        .filter(|listen| seen.insert(listen.user.clone()))
        .cloned()
        .collect();
    ensure!(
        last.len() >= 2 * new,
        "{new} new tracks take {} listeners, and {} have played",
        2 * new,
        last.len()
    );
    let mut at = last.first().context("a log without plays")?.at;
    let mut trials = Vec::with_capacity(new);
    for pair in last.chunks_exact(2).take(new) {
        let [asks, plays] = pair else { continue };
        at = at.plus(APART);
        let title = format!("{} (live)", asks.title);
        let track = TrackKey::from_names(&asks.artist, &title);
        let first = Listen {
            user: plays.user.clone(),
            track,
            title,
            at,
            ..asks.clone()
        };
        let again = Listen {
            at: at.plus(SECOND),
            ..asks.clone()
        };
        trials.push(Trial {
            track: track.to_string(),
            first: at,
            asks: asks.user.clone(),
        });
        listens.extend([first, again]);
    }
    Ok(trials)
}

/// The built-in one in a folder of its own; answers are the whole catalogue and do not depend on when
/// encoders are done.
fn config(folder: &Path, plays: u64, tracks: u32) -> anyhow::Result<Config> {
    let mut config = Config::load(None)?;
    config.log.dir = folder.join("log");
    config.log.sync = false;
    config.checkpoint.url = folder.join("checkpoints").display().to_string();
    config.models.adapters = folder.join("adapters");
    config.recommend.exact = true;
    config.recommend.train_plays = plays / 2;
    config.recommend.top = tracks as usize * 2;
    Ok(config)
}

/// All answers from a time on, by listener and by the play that they follow.
fn answers(
    config: &Config,
    from: Option<EventTime>,
) -> anyhow::Result<HashMap<(String, i64), Answer>> {
    let from = from.map_or(i64::MAX, EventTime::millis);
    let log = Log::open(&config.log)?;
    let mut source = log.source(&config.recommend.topics.predictions, 0, Until::Now)?;
    let (mut answers, mut unread) = (HashMap::new(), None);
    loop {
        let readiness =
            source.read(
                Duration::from_millis(100),
                &mut |record| match rmp_serde::from_slice::<Answer>(
                    record.value.unwrap_or_default(),
                ) {
                    Ok(answer) if answer.after_ms >= from => {
                        answers.insert((answer.user.clone(), answer.after_ms), answer);
                    }
                    Ok(_) => {}
                    Err(error) => unread = Some(error),
                },
            )?;
        if let Some(error) = unread {
            return Err(error).context("a prediction");
        }
        if readiness == Readiness::Ended {
            return Ok(answers);
        }
    }
}

/// What became of a new track.
struct Judged {
    ranked: bool,
    shown: bool,
    /// The share of what the listener has not played that is ranked before it; one where it is not ranked.
    ahead: f64,
}

fn judge(
    trial: &Trial,
    answers: &HashMap<(String, i64), Answer>,
    played: &HashMap<String, HashSet<String>>,
) -> anyhow::Result<Judged> {
    let after = trial.first.plus(SECOND).millis();
    let answer = answers
        .get(&(trial.asks.clone(), after))
        .with_context(|| format!("no answer for {} after {after}", trial.asks))?;
    ensure!(
        answer.recommender == LANGUAGE_MODEL,
        "{} answered in place of {LANGUAGE_MODEL}",
        answer.recommender
    );
    let own = played.get(&trial.asks);
    let is_new = |track: &str| own.is_none_or(|own| !own.contains(track));
    let tracks = || answer.tracks.iter().map(|answered| &*answered.track);
    let place = tracks().position(|track| track == trial.track);
    let among_new = tracks().filter(|track| is_new(track)).count();
    let before = tracks().take(place.unwrap_or_default());
    let before = before.filter(|track| is_new(track)).count();
    Ok(Judged {
        ranked: place.is_some(),
        shown: place.is_some_and(|place| place < SHOWN),
        ahead: match place {
            Some(_) => before as f64 / (among_new.saturating_sub(1)).max(1) as f64,
            None => 1.0,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(tracks: &[&str]) -> HashMap<(String, i64), Answer> {
        let answer = Answer {
            recommender: LANGUAGE_MODEL.to_owned(),
            user: "a".to_owned(),
            after_ms: 6_000,
            tracks: tracks
                .iter()
                .map(|track| Answered {
                    track: (*track).to_owned(),
                })
                .collect(),
        };
        HashMap::from([(("a".to_owned(), 6_000), answer)])
    }

    #[test]
    fn a_place_is_told_among_what_the_listener_has_not_played() {
        let trial = Trial {
            track: "new".to_owned(),
            first: EventTime::from_millis(5_000),
            asks: "a".to_owned(),
        };
        let own = HashSet::from(["own".to_owned()]);
        let played = HashMap::from([("a".to_owned(), own)]);
        let judged = |tracks: &[&str]| judge(&trial, &answered(tracks), &played).unwrap();
        let found = judged(&["own", "x", "new", "y", "z"]);
        assert!(found.ranked && found.shown);
        assert_eq!(found.ahead, 1.0 / 3.0);
        let last = judged(&["x", "own", "new"]);
        assert_eq!(last.ahead, 1.0);
        let missing = judged(&["own", "x"]);
        assert!(!missing.ranked && !missing.shown && missing.ahead == 1.0);
        // Nobody asked then.
        assert!(judge(&trial, &HashMap::new(), &played).is_err());
    }

    #[test]
    fn each_new_track_is_played_once_and_asked_for_a_second_later() {
        let simulated = SimulatorSettings {
            users: 20,
            tracks: 200,
            ..SimulatorSettings::default()
        };
        let mut listens: Vec<Listen> = Simulator::new(simulated).unwrap().take(600).collect();
        let trials = with_new_tracks(&mut listens, 6).unwrap();
        assert!(listens.is_sorted_by_key(|listen| listen.at));
        for trial in &trials {
            let plays: Vec<&Listen> = listens
                .iter()
                .filter(|listen| listen.track.to_string() == trial.track)
                .collect();
            assert_eq!(plays.len(), 1);
            assert_ne!(plays[0].user, trial.asks);
            let asked = |listen: &&Listen| {
                listen.at == trial.first.plus(SECOND) && listen.user == trial.asks
            };
            assert_eq!(listens.iter().filter(asked).count(), 1);
        }
        assert!(with_new_tracks(&mut listens, 100).is_err());
    }
}
