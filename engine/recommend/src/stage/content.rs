//! What the stage knows of tracks: names for the answers, vectors for the recommenders, and what is
//! still to be admitted at the next barrier.

use std::collections::VecDeque;

use segue_catalog::content::TrackContent;
use segue_catalog::newcomers::Encoded;
use segue_listen::{TrackId, TrackKey};
use serde::{Deserialize, Serialize};

use super::records::PredictedTrack;
use crate::recommender::{Admitted, Ranking, TrackNames};

/// All tracks seen so far.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Content {
    dimensions: usize,
    /// By dense id; ids come without gaps.
    tracks: Vec<TrackContent>,
    /// `[tracks, dimensions]`; a row counts only where `has_row` says so.
    rows: Vec<f32>,
    has_row: Vec<bool>,
    /// Ids below it have been admitted.
    admitted: usize,
    /// Tracks that were admitted without a vector and have one now.
    enriched: Vec<TrackId>,
    /// Tracks that the encoder has been given and has not given back.
    outstanding: usize,
    encoded: u64,
    /// Tracks that could not be encoded.
    failed: Vec<TrackId>,
}

impl Content {
    /// Nothing, with vectors of a length to come (0: none will).
    pub fn new(dimensions: usize) -> Self {
        Self {
            dimensions,
            ..Self::default()
        }
    }

    /// How many tracks are known.
    pub const fn len(&self) -> usize {
        self.tracks.len()
    }

    /// Whether none is.
    pub const fn is_empty(&self) -> bool {
        self.tracks.is_empty()
    }

    /// The length of a vector; 0 if nothing encodes.
    pub const fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Tracks that have a vector.
    pub const fn encoded(&self) -> u64 {
        self.encoded
    }

    /// Tracks that could not be encoded.
    pub const fn failed(&self) -> u64 {
        self.failed.len() as u64
    }

    /// Every known track, as recommenders take them in.
    pub fn all(&self) -> Vec<Admitted<'_>> {
        self.from(0).collect()
    }

    /// What the recommenders have been told: the tracks that were admitted, with the content that
    /// they were admitted with.
    pub(super) fn told(&self) -> Vec<Admitted<'_>> {
        let told = self.from(0).take(self.admitted);
        told.map(|track| Admitted {
            content: track
                .content
                .filter(|_| !self.enriched.contains(&track.track)),
            ..track
        })
        .collect()
    }

    /// A track's content.
    pub fn track(&self, track: TrackId) -> Option<&TrackContent> {
        self.tracks.get(track.row())
    }

    /// All keys, in the order of ids.
    pub(super) fn keys(&self) -> impl Iterator<Item = TrackKey> + '_ {
        self.tracks.iter().map(|content| content.key)
    }

    pub(super) fn key(&self, track: TrackId) -> Option<TrackKey> {
        self.track(track).map(|content| content.key)
    }

    /// A track's vector.
    pub fn vector(&self, track: TrackId) -> Option<&[f32]> {
        let row = track.row();
        if !self.has_row.get(row).is_some_and(|has| *has) {
            return None;
        }
        self.rows
            .get(row * self.dimensions..(row + 1) * self.dimensions)
    }

    /// Takes in the track whose id is the next one.
    pub(super) fn sighted(&mut self, track: TrackContent) {
        debug_assert_eq!(track.track.row(), self.tracks.len());
        self.tracks.push(track);
        self.has_row.push(false);
        self.rows.resize(self.tracks.len() * self.dimensions, 0.0);
    }

    /// The same tracks, of which nobody has been told.
    pub(super) fn untold(mut self) -> Self {
        self.admitted = 0;
        self.enriched.clear();
        self
    }

    /// What the encoder is to be given again after a restart: it had not answered.
    pub(super) fn unanswered(&mut self) -> VecDeque<TrackId> {
        self.outstanding = 0;
        let waits = |track: &&TrackContent| {
            self.vector(track.track).is_none() && !self.failed.contains(&track.track)
        };
        let waiting = self.tracks.iter().filter(waits);
        waiting.map(|track| track.track).collect()
    }

    pub(super) fn announced(&mut self, tracks: usize) {
        self.outstanding += tracks;
    }

    pub(super) const fn outstanding(&self) -> usize {
        self.outstanding
    }

    pub(super) fn take(&mut self, encoded: Encoded) {
        self.outstanding = self.outstanding.saturating_sub(encoded.len());
        self.encoded += encoded.tracks.len() as u64;
        for (track, why) in &encoded.failed {
            self.failed.push(*track);
            tracing::warn!(track = track.0, %why, "a track goes on without a vector");
        }
        let dimensions = self.dimensions.max(1);
        for (track, row) in encoded
            .tracks
            .iter()
            .zip(encoded.rows.chunks_exact(dimensions))
        {
            let at = track.row();
            if let Some(place) = self.rows.get_mut(at * dimensions..(at + 1) * dimensions) {
                place.copy_from_slice(row);
                if let Some(has) = self.has_row.get_mut(at) {
                    *has = true;
                }
                if at < self.admitted {
                    self.enriched.push(*track);
                }
            }
        }
    }

    fn from(&self, first: usize) -> impl Iterator<Item = Admitted<'_>> {
        let tracks = self.tracks.get(first..).unwrap_or(&[]);
        tracks.iter().map(|content| Admitted {
            track: content.track,
            key: content.key,
            names: Some(TrackNames {
                artist: &content.artist,
                title: &content.title,
            }),
            content: self.vector(content.track),
        })
    }

    /// What the recommenders have not been told: new tracks by ascending id, then old ones that have
    /// a vector now.
    pub(super) fn to_admit(&self) -> Vec<Admitted<'_>> {
        let enriched = self.enriched.iter().filter_map(|track| {
            let key = self.key(*track)?;
            Some(Admitted {
                track: *track,
                key,
                names: None,
                content: self.vector(*track),
            })
        });
        self.from(self.admitted).chain(enriched).collect()
    }

    pub(super) fn admitted(&mut self) {
        self.admitted = self.tracks.len();
        self.enriched.clear();
    }

    /// A ranking with names.
    pub(super) fn described(&self, ranking: &Ranking) -> Vec<PredictedTrack<'_>> {
        ranking
            .tracks
            .iter()
            .filter_map(|scored| {
                let content = self.track(scored.track)?;
                Some(PredictedTrack {
                    track: content.key.to_string(),
                    artist: &content.artist,
                    title: &content.title,
                    score: scored.score,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(id: u32) -> TrackContent {
        TrackContent {
            track: TrackId(id),
            key: TrackKey(u128::from(id) + 1),
            artist: "a".into(),
            title: "t".into(),
        }
    }

    #[test]
    fn tracks_are_admitted_once_and_vectors_when_they_come() {
        let mut content = Content::new(2);
        content.sighted(track(0));
        content.sighted(track(1));
        content.announced(2);
        let ids: Vec<_> = content.to_admit().iter().map(|a| a.track.0).collect();
        assert_eq!(ids, [0, 1]);
        content.admitted();
        assert!(content.to_admit().is_empty());
        content.take(Encoded {
            tracks: vec![TrackId(1)],
            rows: vec![0.6, 0.8],
            failed: vec![(TrackId(0), "why".into())],
        });
        assert_eq!(content.outstanding(), 0);
        let again = content.to_admit();
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].content, Some(&[0.6, 0.8][..]));
        assert_eq!((content.encoded(), content.failed()), (1, 1));
        assert_eq!(content.vector(TrackId(0)), None);
    }
}
