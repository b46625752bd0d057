//! A seeded simulator of a listening log, for a first run without data and for benchmarks. Whatever
//! is measured on it is to be labelled as simulated.
//!
//! What it has in common with real logs: tastes that drift between genres (an Ornstein-Uhlenbeck
//! walk of each listener's logits), repeat consumption (a library of what was liked, recent first),
//! Zipf popularity within a genre, albums heard in order, sessions with pauses and nights without
//! music, skips as in the real distribution of completion ([`REAL_COMPLETION`]), releases during the
//! log, and names made of the words of their genre. What it has not: friends, charts, playlists,
//! radio, or anything else that makes listeners alike beyond their genres.
//!
//! Memory is one state per listener and 32 bytes per track, however long the log is.

mod catalogue;
mod completion;
mod listener;
mod words;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use segue_listen::{EventTime, Listen, Span, TrackKey};
use serde::{Deserialize, Serialize};

use self::catalogue::Catalogue;
pub use self::completion::REAL_COMPLETION;
use self::listener::Listener;
use crate::error::ReplayError;

/// What listens say about lengths.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lengths {
    /// Nothing, as in LastFM-1K.
    #[default]
    Unknown,
    /// How long the track is.
    Duration,
    /// How long the track is and how long it was played.
    DurationAndPlayed,
}

/// What is simulated.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimulatorSettings {
    /// The same seed and settings give the same log, byte for byte. Default 1.
    pub seed: u64,
    /// Listeners. Default 200.
    pub users: u32,
    /// Tracks, those included that come out during the log. Default 5,000.
    pub tracks: u32,
    /// The log's span. Default 120.
    pub days: u32,
    /// When it begins, in ms since 1970. Default 2005-02-14T00:00Z.
    pub start_ms: i64,
    /// Plays per listener and day, on average. Default 10.
    pub plays_per_user_per_day: f64,
    /// The share of choices that go back to the library. Default 0.5.
    pub repeat_share: f64,
    /// The share of tracks that come out during the log. Default 0.3.
    pub new_release_share: f64,
    /// The exponent of the Zipf law of popularity within a genre. Default 0.9.
    pub popularity_exponent: f64,
    /// In how many days the wandering half of a taste is forgotten (to 1/e). Default 60.
    pub taste_days: f64,
    /// What listens say about lengths. Default: nothing.
    pub lengths: Lengths,
}

impl Default for SimulatorSettings {
    fn default() -> Self {
        Self {
            seed: 1,
            users: 200,
            tracks: 5_000,
            days: 120,
            start_ms: 1_108_339_200_000,
            plays_per_user_per_day: 10.0,
            repeat_share: 0.5,
            new_release_share: 0.3,
            popularity_exponent: 0.9,
            taste_days: 60.0,
            lengths: Lengths::default(),
        }
    }
}

impl SimulatorSettings {
    /// The first instant.
    pub const fn start(&self) -> EventTime {
        EventTime::from_millis(self.start_ms)
    }

    /// The first instant after the log.
    pub const fn end(&self) -> EventTime {
        self.start()
            .plus(Span::from_minutes(self.days as i64 * 24 * 60))
    }

    /// About how many listens there will be.
    pub fn expected_listens(&self) -> u64 {
        (f64::from(self.users) * f64::from(self.days) * self.plays_per_user_per_day) as u64
    }

    /// Whether the figures make sense.
    ///
    /// # Errors
    /// [`ReplayError::Setting`].
    pub fn check(&self) -> Result<(), ReplayError> {
        let share = |value: f64| (0.0..=1.0).contains(&value);
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let plausible = EventTime::plausible(self.start_ms).is_ok()
            && EventTime::plausible(self.end().millis()).is_ok();
        let rules = [
            ("users", self.users > 0, "at least 1 is needed"),
            ("tracks", self.tracks > 0, "at least 1 is needed"),
            (
                "start_ms",
                plausible,
                "start and end must lie in [1970, 2100)",
            ),
            (
                "plays_per_user_per_day",
                positive(self.plays_per_user_per_day) && self.plays_per_user_per_day <= 200.0,
                "a day holds between 0 and 200 plays",
            ),
            (
                "repeat_share",
                share(self.repeat_share),
                "a share is in [0, 1]",
            ),
            (
                "new_release_share",
                share(self.new_release_share),
                "a share is in [0, 1]",
            ),
            (
                "popularity_exponent",
                self.popularity_exponent.is_finite() && self.popularity_exponent >= 0.0,
                "it is a number from 0 on",
            ),
            (
                "taste_days",
                positive(self.taste_days),
                "it is a positive number",
            ),
        ];
        match rules.iter().find(|(_, holds, _)| !holds) {
            Some((key, _, detail)) => Err(ReplayError::Setting {
                key,
                detail: (*detail).to_owned(),
            }),
            None => Ok(()),
        }
    }
}

/// A simulated log: listens in order of time, then user.
pub struct Simulator {
    settings: SimulatorSettings,
    catalogue: Catalogue,
    listeners: Vec<Listener>,
    /// The start of each listener's next play, in whole seconds as scrobblers report it.
    due: BinaryHeap<Reverse<(i64, u32)>>,
    digits: usize,
}

impl Simulator {
    /// The log of `settings`.
    ///
    /// # Errors
    /// [`ReplayError::Setting`].
    pub fn new(settings: SimulatorSettings) -> Result<Self, ReplayError> {
        settings.check()?;
        let catalogue = Catalogue::new(&settings);
        let listeners: Vec<Listener> = (0..settings.users)
            .map(|number| Listener::new(number, &settings, &catalogue))
            .collect();
        let mut simulator = Self {
            // Equal widths: the order of numbers is the order of names.
            digits: settings.users.to_string().len().max(6),
            due: BinaryHeap::with_capacity(listeners.len()),
            settings,
            catalogue,
            listeners,
        };
        for number in 0..simulator.settings.users {
            simulator.schedule(number);
        }
        Ok(simulator)
    }

    /// The settings.
    pub const fn settings(&self) -> &SimulatorSettings {
        &self.settings
    }

    fn schedule(&mut self, number: u32) {
        if let Some(listener) = self.listeners.get(number as usize)
            && listener.next < self.settings.end()
        {
            let second = listener.next.millis().div_euclid(1_000);
            self.due.push(Reverse((second, number)));
        }
    }
}

impl Iterator for Simulator {
    type Item = Listen;

    fn next(&mut self) -> Option<Listen> {
        let Reverse((second, number)) = self.due.pop()?;
        let listener = self.listeners.get_mut(number as usize)?;
        let play = listener.play(&self.settings, &self.catalogue);
        self.schedule(number);
        let (artist, title) = self.catalogue.names(play.track);
        let length = Span::from_millis(i64::from(self.catalogue.track(play.track).millis));
        let (duration, played) = match self.settings.lengths {
            Lengths::Unknown => (None, None),
            Lengths::Duration => (Some(length), None),
            Lengths::DurationAndPlayed => (Some(length), Some(play.played)),
        };
        Some(Listen {
            user: format!("user_{:0width$}", number + 1, width = self.digits),
            track: TrackKey::from_names(&artist, &title),
            artist,
            title,
            at: EventTime::from_millis(second * 1_000),
            duration,
            played,
        })
    }
}

#[cfg(test)]
mod tests;
