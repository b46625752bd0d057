//! Plays in order of time, with the names that a library would tell of their tracks.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use anyhow::ensure;
use segue::config::Config;
use segue::input::{OrderedLog, read_files, simulate};
use segue_catalog::content::TrackContent;
use segue_listen::{EventTime, SessionGap, TrackId, TrackKey, UserId};
use segue_recommend::listeners::PlayEvent;
use segue_replay::simulate::SimulatorSettings;

/// A log.
#[derive(Default)]
pub struct Log {
    /// Without duplicates, in order of time.
    pub plays: Vec<PlayEvent>,
    /// By id, in order of first play.
    pub tracks: Vec<TrackContent>,
    /// How many listeners there are.
    pub listeners: usize,
    /// What it is, in words.
    pub description: String,
}

impl Log {
    /// Reads files, or makes up so many plays where there are none.
    ///
    /// # Errors
    /// Those of the files; a log without plays.
    pub fn read(data: &[PathBuf], plays: u64) -> anyhow::Result<Self> {
        let rejects = tempfile::NamedTempFile::new()?;
        let read = match data {
            [] => simulate(SimulatorSettings::default(), plays)?,
            files => {
                let stop = AtomicBool::new(false);
                read_files(files, &Config::default(), rejects.path(), &stop)?
            }
        };
        Self::of(read)
    }

    fn of(read: OrderedLog) -> anyhow::Result<Self> {
        let mut stream = read.stream;
        let mut log = Self {
            description: read.description,
            ..Self::default()
        };
        let gap = SessionGap::default();
        let mut users: HashMap<String, (UserId, EventTime)> = HashMap::new();
        let mut ids: HashMap<TrackKey, TrackId> = HashMap::new();
        let mut now = HashSet::new();
        let mut at = None;
        while let Some(listen) = stream.next_listen()? {
            if at.replace(listen.at) != Some(listen.at) {
                now.clear();
            }
            let new = TrackId(log.tracks.len() as u32);
            let track = *ids.entry(listen.track).or_insert(new);
            if track == new {
                log.tracks.push(TrackContent {
                    track,
                    key: listen.track,
                    artist: listen.artist.into(),
                    title: listen.title.into(),
                });
            }
            let next = UserId(users.len() as u32);
            let known = users.get_mut(listen.user);
            let before = known.map(|(user, last)| (*user, std::mem::replace(last, listen.at)));
            if before.is_none() {
                users.insert(listen.user.to_owned(), (next, listen.at));
            }
            let user = before.map_or(next, |(user, _)| user);
            if !now.insert((user, track)) {
                continue;
            }
            log.plays.push(PlayEvent {
                user,
                track,
                at: listen.at,
                opens_session: before.is_none_or(|(_, last)| !gap.joins(last, listen.at)),
                own_ratio: None,
                ratio_of_previous: None,
            });
        }
        log.listeners = users.len();
        ensure!(!log.plays.is_empty(), "the log has no plays");
        Ok(log)
    }
}
