//! What the stage knows of tracks: names for the answers, vectors for the recommenders, and what is
//! still to be admitted at the next barrier.

use std::collections::VecDeque;
use std::ops::Range;

use segue_catalog::content::TrackContent;
use segue_catalog::library::Library;
use segue_catalog::newcomers::Encoded;
use segue_flow::names::{self, Name};
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
    /// Parts of vectors that came when their tracks had been admitted: they are theirs from the next
    /// admission on.
    arrived: Vec<Arrived>,
    /// What encoders have been given and have not given back.
    outstanding: usize,
    encoded: u64,
    /// Tracks without a vector that could not be encoded, by ascending id.
    failed: Vec<TrackId>,
    /// By dense id: which encoders have answered, a bit for each.
    #[serde(default)]
    answered: Vec<u8>,
    /// By dense id: what the library was when they were asked.
    #[serde(default)]
    stamps: Vec<u64>,
    /// What could not be encoded and was not told yet.
    #[serde(default)]
    faults: Vec<Fault>,
    #[serde(default)]
    faults_told: u64,
}

/// A part of an admitted track's vector.
#[derive(Debug, Serialize, Deserialize)]
struct Arrived {
    track: TrackId,
    at: usize,
    row: Vec<f32>,
}

/// Content that could not be encoded.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(super) struct Fault {
    /// Whose.
    pub track: TrackId,
    /// Which part of it.
    pub modality: Box<str>,
    /// What is wrong with it.
    pub why: Box<str>,
}

/// One of the encoders, and which components of a vector it makes.
#[derive(Clone, Debug)]
pub(super) struct Share {
    /// Which one, from 0.
    pub encoder: usize,
    /// Its components.
    pub components: Range<usize>,
    /// Whether no other one comes behind it: it reads what may change while a run goes on.
    pub is_last: bool,
}

impl Share {
    const fn bit(&self) -> u8 {
        1 << self.encoder
    }
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

    /// What the recommenders have been told: the tracks that were admitted, with the content that they
    /// have since the last admission.
    pub(super) fn told(&self) -> Vec<Admitted<'_>> {
        self.from(0).take(self.admitted).collect()
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
        self.answered.push(0);
        self.stamps.push(0);
        self.rows.resize(self.tracks.len() * self.dimensions, 0.0);
    }

    /// The same tracks, of which nobody has been told.
    pub(super) fn untold(mut self) -> Self {
        self.settle();
        self.admitted = 0;
        self.restored()
    }

    /// What was kept, complete: an earlier Segue had one encoder and no library.
    pub(super) fn restored(mut self) -> Self {
        let tracks = self.tracks.len();
        self.outstanding = 0;
        self.failed.sort_unstable();
        self.stamps.resize(tracks, 0);
        for track in self.tracks.get(self.answered.len()..).unwrap_or(&[]) {
            let row = track.track.row();
            let has_row = self.has_row.get(row).is_some_and(|has| *has);
            let answered = has_row || self.failed.binary_search(&track.track).is_ok();
            self.answered.push(u8::from(answered));
        }
        self
    }

    /// What an encoder is to be given after a restart: tracks of which it had not answered, and those of
    /// which the library knows something else than it did, which are not answered any more.
    pub(super) fn unanswered(&mut self, share: &Share, library: &Library) -> VecDeque<TrackId> {
        let mut waiting = VecDeque::new();
        let known = self.answered.iter_mut().zip(&self.stamps);
        for (track, (answered, stamp)) in self.tracks.iter().zip(known) {
            if *stamp != library.stamp(track) {
                *answered &= !share.bit();
            }
            if *answered & share.bit() == 0 {
                waiting.push_back(track.track);
            }
        }
        waiting
    }

    pub(super) fn announced(&mut self, tracks: usize) {
        self.outstanding += tracks;
    }

    pub(super) const fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// An encoder has nothing to say of a track.
    pub(super) fn skipped(&mut self, share: &Share, track: TrackId) {
        if let Some(answered) = self.answered.get_mut(track.row()) {
            *answered |= share.bit();
        }
    }

    /// Takes in what an encoder gives back.
    pub(super) fn take(&mut self, share: &Share, encoded: Encoded) {
        self.outstanding = self.outstanding.saturating_sub(encoded.len());
        let stamps = encoded.stamps.into_iter().filter(|_| share.is_last);
        for (track, stamp) in stamps {
            if let Some(place) = self.stamps.get_mut(track.row()) {
                *place = stamp;
            }
        }
        for (track, why) in encoded.failed {
            tracing::warn!(track = track.0, %why, "a track cannot be encoded");
            self.skipped(share, track);
            if self.vector(track).is_none()
                && let Err(place) = self.failed.binary_search(&track)
            {
                self.failed.insert(place, track);
                names::count(Name::TracksFailed, 1);
            }
            self.note(track, "content", why);
        }
        for fault in encoded.faults {
            let (track, modality, why) = (fault.track, fault.kind.name(), fault.detail);
            tracing::warn!(track = track.0, modality, %why, "a track goes on without a part");
            names::count_for(Name::SegmentsFailed, "modality", modality, 1);
            self.note(track, modality, why);
        }
        let rows = encoded.rows.chunks_exact(share.components.len().max(1));
        for (track, row) in encoded.tracks.into_iter().zip(rows) {
            self.skipped(share, track);
            let at = share.components.start;
            match track.row() < self.admitted {
                true => self.arrived.push(Arrived {
                    track,
                    at,
                    row: row.to_vec(),
                }),
                false => {
                    self.put(track, at, row);
                }
            }
        }
    }

    /// Takes over what another stage knows of a track that is new here.
    pub(super) fn adopt(&mut self, track: TrackId, from: &Self, there: TrackId) {
        if from.dimensions != self.dimensions {
            return;
        }
        let of = |known: &[u8]| known.get(there.row()).copied().unwrap_or(0);
        if let Some(answered) = self.answered.get_mut(track.row()) {
            *answered = of(&from.answered);
        }
        let stamp = from.stamps.get(there.row()).copied().unwrap_or(0);
        if let Some(place) = self.stamps.get_mut(track.row()) {
            *place = stamp;
        }
        match from.vector(there) {
            Some(vector) => {
                self.put(track, 0, vector);
            }
            // It is the newest.
            None if from.failed.binary_search(&there).is_ok() => self.failed.push(track),
            None => {}
        }
    }

    /// Whether an encoder has something to say of a track that it has not said yet.
    pub(super) fn waits_for(&self, share: &Share, track: TrackId) -> bool {
        let answered = self.answered.get(track.row());
        answered.is_none_or(|answered| answered & share.bit() == 0)
    }

    fn note(&mut self, track: TrackId, modality: &str, why: String) {
        self.faults.push(Fault {
            track,
            modality: modality.into(),
            why: why.into(),
        });
    }

    /// Sets a part of a track's vector; whether that changes it. A vector of zeros is none, and what has one
    /// keeps it: recommenders cannot be told that they know nothing any more.
    fn put(&mut self, track: TrackId, at: usize, part: &[f32]) -> bool {
        let start = track.row() * self.dimensions;
        let row = self.rows.get_mut(start..start + self.dimensions);
        let has = self.has_row.get_mut(track.row());
        let (Some(row), Some(has)) = (row, has) else {
            return false;
        };
        let components = at..at + part.len();
        if row
            .get(components.clone())
            .is_none_or(|place| place == part)
        {
            return false;
        }
        let mut others = (0..).zip(&*row).filter(|(i, _)| !components.contains(i));
        if part.iter().all(|x| *x == 0.0) && others.all(|(_, x)| *x == 0.0) {
            return false;
        }
        if let Some(place) = row.get_mut(components) {
            place.copy_from_slice(part);
        }
        if !std::mem::replace(has, true) {
            self.encoded += 1;
            names::count(Name::TracksEncoded, 1);
            if let Ok(place) = self.failed.binary_search(&track) {
                self.failed.remove(place);
            }
        }
        true
    }

    /// Sets the parts that came meanwhile; the tracks whose vectors that changes, by ascending id,
    /// whoever was quicker.
    pub(super) fn settle(&mut self) -> Vec<TrackId> {
        let mut arrived = std::mem::take(&mut self.arrived);
        arrived.sort_by_key(|part| (part.track, part.at));
        let mut changed: Vec<TrackId> = Vec::new();
        for part in arrived {
            let other = self.put(part.track, part.at, &part.row);
            if other && changed.last() != Some(&part.track) {
                changed.push(part.track);
            }
        }
        changed
    }

    /// What could not be encoded and was not told yet, in an order that is that of the tracks.
    pub(super) fn take_faults(&mut self) -> Vec<Fault> {
        let mut faults = std::mem::take(&mut self.faults);
        faults.sort();
        self.faults_told += faults.len() as u64;
        faults
    }

    /// Content that could not be encoded, of tracks or parts of it.
    pub const fn faults(&self) -> u64 {
        self.faults_told + self.faults.len() as u64
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

    /// What the recommenders have not been told: new tracks by ascending id, then old ones whose vector is
    /// another now.
    pub(super) fn to_admit(&self, changed: &[TrackId]) -> Vec<Admitted<'_>> {
        let changed = changed.iter().filter_map(|track| {
            let key = self.key(*track)?;
            Some(Admitted {
                track: *track,
                key,
                names: None,
                content: self.vector(*track),
            })
        });
        self.from(self.admitted).chain(changed).collect()
    }

    pub(super) fn admitted(&mut self) {
        self.admitted = self.tracks.len();
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
mod tests;
