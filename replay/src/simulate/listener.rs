//! One simulated listener: tastes that drift, a library to come back to, sessions with pauses.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1, LogNormal, StandardNormal};
use segue_listen::{EventTime, Span};

use super::catalogue::Catalogue;
use super::words::GENRES;
use super::{SimulatorSettings, completion};

/// Mean tracks per session.
const SESSION_TRACKS: f64 = 12.0;

/// How unlike listeners are in how much they hear (standard deviation of the logarithm).
const ACTIVITY_SPREAD: f64 = 0.8;

/// How much a listener prefers their genres: the spread of the logits of taste.
const TASTE_SPREAD: f64 = 2.0;

/// Tracks a listener comes back to.
const LIBRARY: usize = 128;

/// Within a session: going on in the same genre, on the same album.
const SAME_GENRE: f64 = 0.85;
const SAME_ALBUM: f64 = 0.25;

/// Of discoveries: those among the newest releases.
const NEW_RELEASE: f64 = 0.2;

/// A pause inside a session, and its mean.
const PAUSE: f64 = 0.04;
const MEAN_PAUSE_MS: f64 = 240_000.0;
/// From start to start: shorter than the paper's session gap of 20 min, so that a pause is one.
const LONGEST_GAP_MS: f64 = 1_140_000.0;
/// Between sessions: longer than that gap.
const SHORTEST_BREAK: Span = Span::from_minutes(25);

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: f64 = 86_400_000.0;

/// Hours without music each night.
const NIGHT_HOURS: i64 = 8;

/// What a listener heard.
#[derive(Clone, Copy)]
pub(super) struct SimulatedPlay {
    pub(super) track: u32,
    pub(super) played: Span,
}

/// A listener's state; a few hundred bytes and the library.
pub(super) struct Listener {
    rng: ChaCha8Rng,
    logits: [f64; GENRES.len()],
    home: [f64; GENRES.len()],
    library: Vec<u32>,
    sessions_per_day: f64,
    /// The hour (UTC) at which the night begins.
    night: i64,
    genre: usize,
    last: Option<u32>,
    /// When the next play starts.
    pub(super) next: EventTime,
    opens_session: bool,
    /// When the last session's last play began.
    heard_last: EventTime,
}

impl Listener {
    pub(super) fn new(number: u32, settings: &SimulatorSettings, catalogue: &Catalogue) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
        // Stream 0 is the catalogue's.
        rng.set_stream(u64::from(number) + 1);
        let mut logits = [0.0; GENRES.len()];
        for logit in logits.iter_mut().take(catalogue.genres()) {
            let normal: f64 = StandardNormal.sample(&mut rng);
            *logit = TASTE_SPREAD * normal;
        }
        let activity = LogNormal::new(-ACTIVITY_SPREAD * ACTIVITY_SPREAD / 2.0, ACTIVITY_SPREAD);
        let activity = activity.map_or(1.0, |activity| activity.sample(&mut rng));
        let mut listener = Self {
            logits,
            home: logits,
            library: Vec::with_capacity(LIBRARY),
            sessions_per_day: settings.plays_per_user_per_day * activity / SESSION_TRACKS,
            night: rng.random_range(0..24),
            genre: 0,
            last: None,
            next: settings.start(),
            opens_session: true,
            heard_last: settings.start(),
            rng,
        };
        listener.next_session(settings.start());
        listener
    }

    /// The play that starts at [`Listener::next`], which then is the start of the one after.
    pub(super) fn play(
        &mut self,
        settings: &SimulatorSettings,
        catalogue: &Catalogue,
    ) -> SimulatedPlay {
        let at = self.next;
        if self.opens_session {
            self.drift(settings, at);
        }
        let (track, liked) = self.choose(settings, catalogue, at);
        let ratio = completion::ratio(liked, &mut self.rng);
        let length = f64::from(catalogue.track(track).millis);
        let played = Span::from_millis((ratio * length) as i64);
        self.remember(track, ratio);
        self.last = Some(track);
        let mut pause = self.rng.random_range(0.0..2_000.0);
        if self.rng.random_bool(PAUSE) {
            let wait: f64 = Exp1.sample(&mut self.rng);
            let most = (LONGEST_GAP_MS - ratio * length).max(0.0);
            pause = (wait * MEAN_PAUSE_MS).min(most);
        }
        let end = at.plus(played);
        self.opens_session = self.rng.random_bool(1.0 / SESSION_TRACKS);
        if self.opens_session {
            self.next_session(end);
        } else {
            // At least a second: two plays of a listener do not start at once.
            self.next = end
                .plus(Span::from_millis(pause as i64))
                .max(at.plus(Span::from_seconds(1)));
        }
        SimulatedPlay { track, played }
    }

    fn next_session(&mut self, end: EventTime) {
        let wait: f64 = Exp1.sample(&mut self.rng);
        let mean = DAY_MS / self.sessions_per_day.max(1e-3);
        let wait = Span::from_millis((wait * mean) as i64);
        let mut begin = end.plus(SHORTEST_BREAK).plus(wait);
        let hour = begin.millis().div_euclid(HOUR_MS);
        let into_night = (hour - self.night).rem_euclid(24);
        if into_night < NIGHT_HOURS {
            let late = self.rng.random_range(0..3 * HOUR_MS);
            let morning = (NIGHT_HOURS - into_night) * HOUR_MS;
            begin = begin.plus(Span::from_millis(morning + late));
        }
        self.heard_last = self.next;
        self.next = begin;
    }

    /// An Ornstein-Uhlenbeck step of the taste since the last session, and a first genre.
    fn drift(&mut self, settings: &SimulatorSettings, at: EventTime) {
        let days = at.since(self.heard_last).millis().max(0) as f64 / DAY_MS;
        let keep = (-days / settings.taste_days.max(1e-3)).exp();
        let noise = TASTE_SPREAD * (1.0 - keep * keep).max(0.0).sqrt();
        for (logit, home) in self.logits.iter_mut().zip(self.home) {
            let normal: f64 = StandardNormal.sample(&mut self.rng);
            // Half of a taste is for life, half wanders.
            let away = *logit - home / 2.0;
            *logit = home / 2.0 + keep * away + noise * normal / 2.0;
        }
        self.last = None;
    }

    fn choose(
        &mut self,
        settings: &SimulatorSettings,
        catalogue: &Catalogue,
        at: EventTime,
    ) -> (u32, bool) {
        let opens = self.last.is_none();
        if opens || !self.rng.random_bool(SAME_GENRE) {
            self.genre = self.draw_genre(catalogue.genres());
        } else if let Some(last) = self.last
            && self.rng.random_bool(SAME_ALBUM)
            && let Some(next) = catalogue.following(last, at)
        {
            return (next, self.library.contains(&next));
        }
        if self.rng.random_bool(settings.repeat_share)
            && let Some(again) = self.again(catalogue)
        {
            return (again, true);
        }
        if self.rng.random_bool(NEW_RELEASE)
            && let Some(new) = catalogue.new_release(self.genre, at, &mut self.rng)
        {
            return (new, false);
        }
        (catalogue.popular(self.genre, at, &mut self.rng), false)
    }

    /// By the softmax of the logits.
    fn draw_genre(&mut self, genres: usize) -> usize {
        let weights = self.logits.map(f64::exp);
        let weights = weights.get(..genres).unwrap_or(&weights);
        let mut left = self.rng.random::<f64>() * weights.iter().sum::<f64>();
        for (genre, weight) in weights.iter().enumerate() {
            left -= weight;
            if left <= 0.0 {
                return genre;
            }
        }
        genres.saturating_sub(1)
    }

    /// A track heard before, of the genre if a few tries find one; recent ones more often.
    fn again(&mut self, catalogue: &Catalogue) -> Option<u32> {
        let mut found = None;
        for _ in 0..6 {
            let back = self.rng.random::<f64>().powi(2) * self.library.len() as f64;
            let index = self.library.len().checked_sub(1 + back as usize)?;
            let track = *self.library.get(index)?;
            if Some(track) == self.last {
                continue;
            }
            found = Some(track);
            if catalogue.genre(track) == self.genre {
                break;
            }
        }
        found
    }

    /// What was heard for the most part comes to the front of the library, what was skipped at once
    /// loses its place.
    fn remember(&mut self, track: u32, ratio: f64) {
        let known = self.library.iter().position(|known| *known == track);
        if ratio < 0.1 {
            if let Some(place) = known
                && self.rng.random_bool(0.3)
            {
                self.library.remove(place);
            }
        } else if ratio > 0.5 {
            if let Some(place) = known {
                self.library.remove(place);
            } else if self.library.len() == LIBRARY {
                self.library.remove(0);
            }
            self.library.push(track);
        }
    }
}
