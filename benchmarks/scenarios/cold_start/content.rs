//! What is written of tracks, as vectors, and how near it is to what a listener has just played.

use std::collections::HashMap;

use anyhow::{Context, ensure};
use segue_catalog::content::TrackContent;
use segue_catalog::encoder::Encoder;
use segue_encode::text::TextEncoder;
use segue_nn::device::{DevicePreference, Precision, choose};
use segue_recommend::recommender::ContextPlay;

use crate::binary::checkout;

/// Texts that are encoded at once.
const AT_ONCE: usize = 256;
/// How much less an artist counts than the one who was played after.
const PER_ARTIST: f32 = 0.9;
/// How much less a play counts than the one after it, and how many count.
const PER_PLAY: f32 = 0.8;
const PLAYS: usize = 20;
/// What artist and title together count beside the artist alone.
const WHOLE: f32 = 0.05;
/// Numbers that are kept of what artists are like: 256 MB.
const KEPT: usize = 1 << 26;

/// Unit vectors of tracks and of their artists.
pub struct Contents {
    width: usize,
    /// `[tracks, width]`
    tracks: Vec<f32>,
    /// `[artists, width]`
    artists: Vec<f32>,
    /// By track.
    artist_of: Vec<u32>,
    /// How alike all artists are to one.
    alike: HashMap<u32, Vec<f32>>,
}

impl Contents {
    /// Encodes artist and title of all tracks, and the names of all artists.
    ///
    /// # Errors
    /// The text encoder is not there, or fails.
    pub fn of(tracks: &[TrackContent]) -> anyhow::Result<Self> {
        let models = std::env::var_os("SEGUE_MODELS");
        let models = models.map_or_else(|| checkout().join(".models"), Into::into);
        let device = choose(DevicePreference::Auto).device;
        let mut encoder = TextEncoder::load(&models.join("minilm"), device, Precision::Auto)
            .context("the text encoder: run `make setup`")?;
        let width = encoder.dimensions();
        // Texts of one length together: nothing is computed for what fills up the others.
        let mut order: Vec<usize> = (0..tracks.len()).collect();
        order.sort_by_key(|&row| tracks.get(row).map(|t| t.artist.len() + t.title.len()));
        let mut vectors = vec![0.0; tracks.len() * width];
        for some in order.chunks(AT_ONCE) {
            let batch: Vec<_> = some
                .iter()
                .filter_map(|&r| tracks.get(r).cloned())
                .collect();
            let mut rows = Vec::new();
            encoder.encode(&batch, &mut rows)?;
            for (&row, vector) in some.iter().zip(rows.chunks(width)) {
                if let Some(place) = vectors.get_mut(row * width..(row + 1) * width) {
                    place.copy_from_slice(vector);
                }
            }
        }
        let (names, artist_of) = artists(tracks);
        let mut artists = Vec::with_capacity(names.len() * width);
        for some in names.chunks(AT_ONCE) {
            artists.extend(encoder.embed(some)?);
        }
        ensure!(
            artists.len() == names.len() * width,
            "an artist has no vector"
        );
        Ok(Self {
            width,
            tracks: vectors,
            artists,
            artist_of,
            alike: HashMap::new(),
        })
    }

    /// The artist of each track.
    pub fn artist_of(&self) -> &[u32] {
        &self.artist_of
    }

    /// How near each track is to what was played: above all its artist to the artists, the newest
    /// first, and among tracks of one artist its text to the texts.
    pub fn scores(&mut self, context: &[ContextPlay]) -> Vec<f32> {
        let recent = recent_artists(context, &self.artist_of);
        let mut of_artists = vec![f32::MIN; self.artists.len() / self.width];
        let mut weight = 1.0;
        for artist in recent {
            let alike = self.alike(artist);
            for (best, alike) in of_artists.iter_mut().zip(alike) {
                *best = best.max(weight * alike);
            }
            weight *= PER_ARTIST;
        }
        let query = self.query(context);
        let texts = self.tracks.chunks_exact(self.width);
        let texts = texts.map(|vector| dot(vector, &query));
        let of_artist = |artist: &u32| of_artists.get(*artist as usize).copied();
        let artists = self
            .artist_of
            .iter()
            .map(|a| of_artist(a).unwrap_or(f32::MIN));
        artists
            .zip(texts)
            .map(|(artist, text)| artist + WHOLE * text)
            .collect()
    }

    /// The weighted mean of the texts that were played.
    fn query(&self, context: &[ContextPlay]) -> Vec<f32> {
        let mut query = vec![0.0; self.width];
        let (mut weight, mut sum) = (1.0, 0.0);
        for play in context.iter().rev().take(PLAYS) {
            let row = play.track.row() * self.width;
            let vector = self.tracks.get(row..row + self.width).unwrap_or(&[]);
            query
                .iter_mut()
                .zip(vector)
                .for_each(|(q, v)| *q += weight * v);
            sum += weight;
            weight *= PER_PLAY;
        }
        query
            .iter_mut()
            .for_each(|q| *q /= sum.max(f32::MIN_POSITIVE));
        query
    }

    fn alike(&mut self, artist: u32) -> &[f32] {
        let (width, artists) = (self.width, &self.artists);
        if self.alike.len() * artists.len() / width > KEPT {
            self.alike.clear();
        }
        self.alike.entry(artist).or_insert_with(|| {
            let row = artist as usize * width;
            let one = artists.get(row..row + width).unwrap_or(&[]);
            artists
                .chunks_exact(width)
                .map(|other| dot(one, other))
                .collect()
        })
    }
}

/// Artists of what was played, each once, the newest first.
pub fn recent_artists(context: &[ContextPlay], artist_of: &[u32]) -> Vec<u32> {
    let mut recent = Vec::new();
    for play in context.iter().rev() {
        if let Some(artist) = artist_of.get(play.track.row())
            && !recent.contains(artist)
        {
            recent.push(*artist);
        }
    }
    recent
}

/// The artists' names, each once whatever its case, and which is each track's.
fn artists(tracks: &[TrackContent]) -> (Vec<&str>, Vec<u32>) {
    let mut names: Vec<&str> = Vec::new();
    let mut places: HashMap<String, u32> = HashMap::new();
    let artist_of = tracks.iter().map(|track| {
        let next = names.len() as u32;
        let place = *places.entry(track.artist.to_lowercase()).or_insert(next);
        if place == next {
            names.push(&track.artist);
        }
        place
    });
    let artist_of = artist_of.collect();
    (names, artist_of)
}

fn dot(one: &[f32], other: &[f32]) -> f32 {
    // Eight sums at a time: the compiler keeps them in one register.
    let mut sums = [0f32; 8];
    for (a, b) in one.chunks_exact(8).zip(other.chunks_exact(8)) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let tail = one.len() / 8 * 8;
    let rest = one.iter().zip(other).skip(tail).map(|(a, b)| a * b);
    sums.iter().sum::<f32>() + rest.sum::<f32>()
}
