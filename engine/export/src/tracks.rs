//! What is told of each track at the end.

use segue_catalog::content::TrackContent;
use segue_catalog::durations::DurationEstimates;
use segue_listen::{EventTime, Span, TrackId, TrackKey};
use segue_sessions::PlayUpdate;

use crate::error::ExportError;
use crate::split::Split;
use crate::table::Kind::{Int, Long, Real, Text, Time};
use crate::table::{Cell, Column, Table, column, maybe};

/// The columns of `tracks.parquet`.
pub const COLUMNS: [Column; 9] = [
    column(
        "track",
        Text,
        "the track's key: a MusicBrainz recording id, or a UUID of version 8 that is hashed from the names; rows are in its order",
    ),
    column("artist", Text, "as the log first writes it"),
    column("title", Text, "as the log first writes it"),
    column("plays", Long, "how often it is played in the whole log"),
    column("first_played_at", Time, "when it is first played"),
    maybe(
        "stated_duration_ms",
        Long,
        "its length, where an event states one; the last that is stated",
    ),
    maybe(
        "estimated_duration_ms",
        Long,
        "its length as estimated from the gaps after it in the whole log; a statement does not enter",
    ),
    maybe(
        "estimate_confidence",
        Real,
        "the share of its recent gaps that agree with the estimate",
    ),
    maybe("estimate_support", Int, "how many gaps agree with it"),
];

/// One track.
#[derive(Debug)]
struct Track {
    content: TrackContent,
    plays: u64,
    first: EventTime,
    stated: Option<Span>,
    /// A bit for each split that has a play of it.
    splits: u8,
}

/// All tracks, by their ids in the lane.
#[derive(Debug, Default)]
pub struct Tracks {
    tracks: Vec<Track>,
}

impl Tracks {
    /// A track is seen for the first time; ids come without gaps, ascending.
    pub fn sighted(&mut self, content: TrackContent) {
        self.tracks.push(Track {
            content,
            plays: 0,
            first: EventTime::from_millis(i64::MAX),
            stated: None,
            splits: 0,
        });
    }

    /// A play.
    pub fn take(&mut self, play: &PlayUpdate) {
        if let Some(track) = self.tracks.get_mut(play.track.row()) {
            track.plays += 1;
            track.first = track.first.min(play.at);
            track.stated = play.stated.duration().or(track.stated);
        }
    }

    /// It has a play in this split.
    pub fn is_in(&mut self, track: TrackId, split: Split) {
        if let Some(track) = self.tracks.get_mut(track.row()) {
            track.splits |= split.bit();
        }
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.tracks.len() as u64
    }

    /// What is known of a track.
    pub fn content(&self, track: TrackId) -> Option<&TrackContent> {
        self.tracks.get(track.row()).map(|track| &track.content)
    }

    /// How many have plays in a split, and how many of them in none before it.
    pub fn in_split(&self, split: Split) -> (u64, u64) {
        let there = |track: &&Track| track.splits & split.bit() != 0;
        let new = |track: &&Track| track.splits & (split.bit() - 1) == 0;
        let count = |n: usize| n as u64;
        (
            count(self.tracks.iter().filter(there).count()),
            count(self.tracks.iter().filter(there).filter(new).count()),
        )
    }

    /// How many there are with a length that is stated, and with one that is estimated.
    pub fn with_lengths(&self, durations: &DurationEstimates) -> (u64, u64) {
        let stated = self.tracks.iter().filter(|track| track.stated.is_some());
        (stated.count() as u64, durations.known() as u64)
    }

    /// Writes them in the order of their keys; tells them in that order.
    pub fn write(
        self,
        mut table: Table,
        durations: &DurationEstimates,
    ) -> Result<Vec<TrackContent>, ExportError> {
        let mut tracks = self.tracks;
        tracks.sort_unstable_by_key(|track| track.content.key);
        for track in &tracks {
            let id = track.content.track;
            let estimate = durations.get(id).and(durations.estimate(id));
            let key = track.content.key.to_string();
            table.push(&[
                Cell::Text(&key),
                Cell::Text(&track.content.artist),
                Cell::Text(&track.content.title),
                Cell::Long(i64::try_from(track.plays).unwrap_or(i64::MAX)),
                Cell::Time(track.first.millis()),
                Cell::maybe(track.stated, |length| Cell::Long(length.millis())),
                Cell::maybe(estimate, |e| Cell::Long(e.duration.millis())),
                Cell::maybe(estimate, |e| Cell::Real(e.confidence)),
                Cell::maybe(estimate, |e| {
                    Cell::Int(i32::try_from(e.support).unwrap_or(i32::MAX))
                }),
            ])?;
        }
        table.finish()?;
        Ok(tracks.into_iter().map(|track| track.content).collect())
    }

    /// The key of a track, as it is written.
    pub fn key(&self, track: TrackId) -> TrackKey {
        self.content(track)
            .map_or_else(TrackKey::default, |c| c.key)
    }
}
