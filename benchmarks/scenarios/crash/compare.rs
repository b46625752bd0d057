//! What readers of committed records see of two runs, and where it differs.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use segue_flow::{Readiness, Source};
use segue_kafka::{KafkaSource, Settings, Until};
use serde::Deserialize;

use super::LANES;
use super::engine::Engine;

/// Partition, key, value.
type Record = (u32, Vec<u8>, Vec<u8>);

/// All that one run wrote.
pub struct Written {
    sessions: Vec<Record>,
    predictions: Vec<Record>,
    aside: Vec<Record>,
}

/// How two runs differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Differences {
    /// Plays that no session of the run in question counts.
    pub lost: u64,
    /// Plays counted more often than they are.
    pub doubled: u64,
    /// Records of sessions that only one of them has.
    pub sessions: u64,
    /// Predictions that only one of them has, or that stand elsewhere.
    pub predictions: u64,
    /// Records put aside that only one of them has.
    pub aside: u64,
}

/// What is looked at in a session's record.
#[derive(Deserialize)]
struct Session {
    user: String,
    first_ms: i64,
    plays: i64,
    retracted: bool,
}

impl Written {
    /// Reads the outputs of an engine.
    pub fn read(settings: &Settings, engine: &Engine) -> anyhow::Result<Self> {
        let read = |output: &str| read(settings, &engine.topic(output));
        let mut aside = read("late")?;
        aside.extend(read("dead_letters")?);
        Ok(Self {
            sessions: read("sessions")?,
            predictions: read("predictions")?,
            aside,
        })
    }

    /// How many predictions there are.
    pub fn predictions(&self) -> usize {
        self.predictions.len()
    }

    /// Plays of all sessions.
    pub fn plays(&self) -> anyhow::Result<i64> {
        Ok(self.plays_by_session()?.values().sum())
    }

    /// Plays by listener and beginning of the session; a retracted one takes its plays back.
    fn plays_by_session(&self) -> anyhow::Result<BTreeMap<(String, i64), i64>> {
        let mut plays = BTreeMap::new();
        for (_, _, value) in &self.sessions {
            let session: Session = rmp_serde::from_slice(value).context("a session's record")?;
            let sign = if session.retracted { -1 } else { 1 };
            *plays.entry((session.user, session.first_ms)).or_default() += sign * session.plays;
        }
        Ok(plays)
    }

    /// How this run differs from one that is right.
    pub fn differences(&self, right: &Self) -> anyhow::Result<Differences> {
        let (found, expected) = (self.plays_by_session()?, right.plays_by_session()?);
        let mut over: BTreeMap<_, i64> = found;
        for (session, plays) in expected {
            *over.entry(session).or_default() -= plays;
        }
        let sum = |sign: i64| {
            let over = over.values().map(|plays| (sign * plays).max(0));
            over.sum::<i64>().unsigned_abs()
        };
        Ok(Differences {
            lost: sum(-1),
            doubled: sum(1),
            // Which of two lanes' sessions is told first is left open.
            sessions: unmatched(&self.sessions, &right.sessions),
            predictions: match unmatched(&self.predictions, &right.predictions) {
                0 => displaced(&self.predictions, &right.predictions),
                differ => differ,
            },
            aside: unmatched(&self.aside, &right.aside),
        })
    }
}

/// Records that only one side has, each as often as it has it more.
fn unmatched(ours: &[Record], theirs: &[Record]) -> u64 {
    let mut balance: BTreeMap<&Record, i64> = BTreeMap::new();
    for record in ours {
        *balance.entry(record).or_default() += 1;
    }
    for record in theirs {
        *balance.entry(record).or_default() -= 1;
    }
    balance.values().map(|more| more.unsigned_abs()).sum()
}

/// Places at which another record stands.
fn displaced(ours: &[Record], theirs: &[Record]) -> u64 {
    ours.iter().zip(theirs).filter(|(a, b)| a != b).count() as u64
}

fn read(settings: &Settings, topic: &str) -> anyhow::Result<Vec<Record>> {
    let mut records = Vec::new();
    for partition in 0..LANES {
        let mut source = KafkaSource::open(settings, topic, partition, Until::Now)?;
        loop {
            let readiness = source.read(Duration::from_millis(100), &mut |record| {
                let bytes = |bytes: Option<&[u8]>| bytes.unwrap_or_default().to_vec();
                records.push((partition, bytes(record.key), bytes(record.value)));
            })?;
            if readiness == Readiness::Ended {
                break;
            }
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(user: &str, first_ms: i64, plays: i64, retracted: bool) -> Record {
        let fields = serde_json::json!({
            "v": 1, "user": user, "first_ms": first_ms, "last_ms": first_ms + 9,
            "plays": plays, "retracted": retracted,
        });
        (0, user.into(), rmp_serde::to_vec_named(&fields).unwrap())
    }

    fn written(sessions: Vec<Record>, predictions: &[&str]) -> Written {
        let prediction = |text: &&str| (0, Vec::new(), text.as_bytes().to_vec());
        Written {
            sessions,
            predictions: predictions.iter().map(prediction).collect(),
            aside: Vec::new(),
        }
    }

    #[test]
    fn what_is_lost_is_not_made_up_for_by_what_is_doubled() {
        let (a, b) = (session("a", 0, 5, false), session("b", 0, 5, false));
        let right = written(vec![a.clone(), b], &["1", "2"]);
        let same = right.differences(&right).unwrap();
        assert_eq!(same, Differences::default());
        assert_eq!(right.plays().unwrap(), 10);
        let found = written(vec![a.clone(), a], &["2", "1"]);
        let differ = found.differences(&right).unwrap();
        assert_eq!((differ.lost, differ.doubled), (5, 5));
        assert_eq!((differ.sessions, differ.predictions), (2, 2));
    }

    #[test]
    fn a_session_that_was_taken_back_does_not_count() {
        let right = written(vec![session("a", 0, 6, false)], &[]);
        let corrected = written(
            vec![
                session("a", 0, 5, false),
                session("a", 0, 5, true),
                session("a", 0, 6, false),
            ],
            &["1"],
        );
        let differ = corrected.differences(&right).unwrap();
        assert_eq!((differ.lost, differ.doubled), (0, 0));
        assert_eq!((differ.sessions, differ.predictions), (2, 1));
    }
}
