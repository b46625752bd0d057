//! The simulated tracks: who made them, how long they are, how popular, and since when they exist.

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, LogNormal, Zipf};
use segue_listen::EventTime;

use super::SimulatorSettings;
use super::words::{self, GENRES};

/// Tracks per artist: at least, and up to so many more for the most productive.
const FEWEST: u32 = 4;
const MORE: f64 = 60.0;

/// Lengths vary by this much (standard deviation of their logarithm).
const LENGTH_SPREAD: f64 = 0.25;

/// A track.
pub(super) struct Track {
    artist: u32,
    /// Its number among its artist's tracks.
    index: u32,
    pub(super) millis: u32,
    pub(super) released: EventTime,
}

struct Artist {
    genre: u8,
    /// Its number among its genre's artists.
    index: u32,
    first_track: u32,
    tracks: u32,
}

/// The tracks of one genre.
struct Shelf {
    /// Most popular first.
    by_popularity: Vec<u32>,
    /// Those that come out during the log, oldest first.
    by_release: Vec<u32>,
    zipf: Zipf<f64>,
}

/// All tracks.
pub(super) struct Catalogue {
    tracks: Vec<Track>,
    artists: Vec<Artist>,
    shelves: Vec<Shelf>,
}

impl Catalogue {
    pub(super) fn new(settings: &SimulatorSettings) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
        let mut catalogue = Self {
            tracks: Vec::with_capacity(settings.tracks as usize),
            artists: Vec::new(),
            shelves: Vec::new(),
        };
        let span = settings.end().since(settings.start()).millis();
        let mut artists_of_genre = [0u32; GENRES.len()];
        while catalogue.tracks.len() < settings.tracks as usize {
            let number = catalogue.artists.len() as u32;
            // The first artists go round all genres, so that none is empty.
            let genre = match (number as usize) < GENRES.len() {
                true => number as usize,
                false => rng.random_range(0..GENRES.len()),
            };
            let productive: f64 = rng.random();
            let wanted = FEWEST + (MORE * productive.powi(4)) as u32;
            let room = settings.tracks - catalogue.tracks.len() as u32;
            let artist = Artist {
                genre: genre as u8,
                index: artists_of_genre[genre],
                first_track: catalogue.tracks.len() as u32,
                tracks: wanted.min(room),
            };
            artists_of_genre[genre] += 1;
            for index in 0..artist.tracks {
                let released = match rng.random_bool(settings.new_release_share) {
                    true => EventTime::from_millis(
                        settings.start().millis() + rng.random_range(0..span.max(1)),
                    ),
                    false => EventTime::from_millis(i64::MIN),
                };
                catalogue.tracks.push(Track {
                    artist: number,
                    index,
                    millis: length(GENRES[genre].seconds, &mut rng),
                    released,
                });
            }
            catalogue.artists.push(artist);
        }
        catalogue.shelve(settings.popularity_exponent, &mut rng);
        catalogue
    }

    fn shelve(&mut self, exponent: f64, rng: &mut ChaCha8Rng) {
        for genre in 0..GENRES.len() {
            let artists = self.artists.iter().filter(|a| a.genre as usize == genre);
            let mut by_popularity: Vec<u32> = artists
                .flat_map(|artist| artist.first_track..artist.first_track + artist.tracks)
                .collect();
            let released = |track: &u32| self.tracks[*track as usize].released;
            let mut by_release = by_popularity.clone();
            by_release.retain(|track| released(track).millis() > i64::MIN);
            by_release.sort_by_key(released);
            by_popularity.shuffle(rng);
            // Fewer tracks than genres leave shelves empty; nobody is sent there.
            if let Ok(zipf) = Zipf::new(by_popularity.len().max(1) as f64, exponent) {
                self.shelves.push(Shelf {
                    by_popularity,
                    by_release,
                    zipf,
                });
            }
        }
        self.shelves.retain(|shelf| !shelf.by_popularity.is_empty());
    }

    /// How many genres have tracks.
    pub(super) fn genres(&self) -> usize {
        self.shelves.len()
    }

    pub(super) fn track(&self, track: u32) -> &Track {
        &self.tracks[track as usize]
    }

    /// The genre of a track, as an index below [`Catalogue::genres`].
    pub(super) fn genre(&self, track: u32) -> usize {
        self.artists[self.tracks[track as usize].artist as usize].genre as usize
    }

    /// A track of the genre that is out by `at`, by popularity.
    pub(super) fn popular(&self, genre: usize, at: EventTime, rng: &mut ChaCha8Rng) -> u32 {
        let shelf = &self.shelves[genre];
        let mut track = shelf.by_popularity[0];
        for _ in 0..16 {
            let rank = shelf.zipf.sample(rng) as usize;
            track = shelf.by_popularity[(rank - 1).min(shelf.by_popularity.len() - 1)];
            if self.track(track).released <= at {
                return track;
            }
        }
        let out = |track: &&u32| self.track(**track).released <= at;
        shelf
            .by_popularity
            .iter()
            .find(out)
            .copied()
            .unwrap_or(track)
    }

    /// One of the genre's newest tracks at `at`, the very newest most often.
    pub(super) fn new_release(
        &self,
        genre: usize,
        at: EventTime,
        rng: &mut ChaCha8Rng,
    ) -> Option<u32> {
        let by_release = &self.shelves[genre].by_release;
        let out = by_release.partition_point(|track| self.track(*track).released <= at);
        let back = (rng.random::<f64>().powi(2) * 30.0) as usize;
        by_release.get(out.checked_sub(1 + back)?).copied()
    }

    /// The artist's next track, as on an album; `None` after the last or before its release.
    pub(super) fn following(&self, track: u32, at: EventTime) -> Option<u32> {
        let next = track + 1;
        let (this, that) = (self.track(track), self.tracks.get(next as usize)?);
        (this.artist == that.artist && that.released <= at).then_some(next)
    }

    /// Artist and title.
    pub(super) fn names(&self, track: u32) -> (String, String) {
        let track = self.track(track);
        let artist = &self.artists[track.artist as usize];
        let genre = &GENRES[artist.genre as usize];
        let salt = track.artist as usize * 7_919;
        (
            words::artist(genre, artist.index as usize),
            words::title(genre, track.index as usize, salt),
        )
    }
}

fn length(median_seconds: f64, rng: &mut ChaCha8Rng) -> u32 {
    let seconds = match LogNormal::new(median_seconds.ln(), LENGTH_SPREAD) {
        Ok(lengths) => lengths.sample(rng),
        Err(_) => median_seconds,
    };
    (seconds.clamp(45.0, 1_100.0) * 1_000.0) as u32
}
