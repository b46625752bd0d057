//! A listener's last plays in event-time order: what a recommender reads, and what a late play is
//! put into.

use crate::completion::{Part, Ratio};
use crate::time::{EventTime, Span};
use crate::track::{TrackId, TrackKey};

/// How many plays a history keeps: E4SRec's input length (arXiv 2606.00125, section 1.6 of the
/// authors' training settings: the last 50 items).
pub const HISTORY_LEN: usize = 50;

/// One play in a history: 24 bytes.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Play {
    at: EventTime,
    track: TrackId,
    /// The bits of a ratio, NaN where none is known yet; with `UNMEASURED`, milliseconds.
    heard: u32,
    /// Milliseconds, 0: unknown; the two top bits are flags.
    length: u32,
    /// Low bits of the track key's digest: orders simultaneous plays the same way in every run.
    tie: u32,
}

/// How much was heard is the player's own word.
const PLAYERS_WORD: u32 = 1 << 31;
/// How long it was heard is known and how long the track is is not.
const UNMEASURED: u32 = 1 << 30;
const LENGTH_MASK: u32 = UNMEASURED - 1;

impl Default for Play {
    fn default() -> Self {
        Self {
            at: EventTime::default(),
            track: TrackId(0),
            heard: f32::NAN.to_bits(),
            length: 0,
            tie: 0,
        }
    }
}

#[cfg(feature = "serde")]
impl crate::rows::Row for Play {
    type Bytes = [u8; 24];

    fn to_bytes(&self) -> Self::Bytes {
        let mut bytes = [0; 24];
        let (at, rest) = bytes.split_at_mut(8);
        at.copy_from_slice(&self.at.millis().to_le_bytes());
        let words = [self.track.0, self.heard, self.length, self.tie];
        for (place, word) in rest.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: Self::Bytes) -> Self {
        let (at, rest) = bytes.split_at(8);
        let mut words = rest
            .chunks_exact(4)
            .map(|word| word.try_into().map_or(0, u32::from_le_bytes));
        let mut word = || words.next().unwrap_or_default();
        Self {
            at: EventTime::from_millis(at.try_into().map_or(0, i64::from_le_bytes)),
            track: TrackId(word()),
            heard: word(),
            length: word(),
            tie: word(),
        }
    }
}

impl Play {
    /// A play whose ratio is not known yet.
    pub fn new(at: EventTime, track: TrackId, key: TrackKey) -> Self {
        Self::with_tie(at, track, key.digest() as u32)
    }

    /// As [`Play::new`], where the key's digest has been taken already.
    pub const fn with_tie(at: EventTime, track: TrackId, tie: u32) -> Self {
        Self {
            at,
            track,
            heard: f32::NAN.to_bits(),
            length: 0,
            tie,
        }
    }

    /// When it started.
    pub const fn at(&self) -> EventTime {
        self.at
    }

    /// Which track.
    pub const fn track(&self) -> TrackId {
        self.track
    }

    /// How much of it was heard, where known.
    #[inline]
    pub fn part(&self) -> Option<Part> {
        if self.length & UNMEASURED == 0 {
            return Ratio::new(f32::from_bits(self.heard)).map(Part::Ratio);
        }
        Some(Part::Span(Span::from_millis(i64::from(self.heard))))
    }

    /// It was heard so long by the gap to the next play; nothing changes where the player has said
    /// how long it was. The duration is to be set first.
    #[inline]
    pub fn set_gap(&mut self, gap: Span) {
        if !self.has_players_word() {
            self.set_part(Part::of(gap, self.duration()));
        }
    }

    /// It was heard so long by the player's own figure; gaps no longer change it. The duration is
    /// to be set first.
    pub fn set_played(&mut self, played: Span) {
        self.set_part(Part::of(played, self.duration()));
        self.length |= PLAYERS_WORD;
    }

    #[inline]
    fn set_part(&mut self, part: Part) {
        match part {
            Part::Ratio(ratio) => {
                self.heard = ratio.value().to_bits();
                self.length &= !UNMEASURED;
            }
            Part::Span(span) => {
                self.heard = u32::try_from(span.millis().max(0)).unwrap_or(u32::MAX);
                self.length |= UNMEASURED;
            }
        }
    }

    /// Whether how much was heard is the player's own word.
    pub const fn has_players_word(&self) -> bool {
        self.length & PLAYERS_WORD != 0
    }

    /// The track's length, where known.
    pub const fn duration(&self) -> Option<Span> {
        match self.length & LENGTH_MASK {
            0 => None,
            millis => Some(Span::from_millis(millis as i64)),
        }
    }

    /// Sets the track's length; beyond 12 days it is taken as unknown.
    pub fn set_duration(&mut self, duration: Option<Span>) {
        let millis = duration.map_or(0, |d| u32::try_from(d.millis()).unwrap_or(0));
        let millis = if millis > LENGTH_MASK { 0 } else { millis };
        self.length = (self.length & !LENGTH_MASK) | millis;
    }

    /// Low bits of the track key's digest.
    pub const fn tie(&self) -> u32 {
        self.tie
    }

    fn order(&self) -> (EventTime, u32) {
        (self.at, self.tie)
    }
}

/// Where an insertion put a play.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inserted {
    /// After all others: the usual case.
    Newest,
    /// Between others (or before them), at this index counted from the oldest.
    At(usize),
    /// The same track at the same instant is there already.
    Duplicate,
    /// Older than everything in a full history: not kept.
    BeforeMemory,
}

/// A ring of the last [`HISTORY_LEN`] plays, ordered by start.
///
/// Where it begins and how long it is stand first, beside whatever its owner keeps before it.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct History {
    start: u16,
    len: u16,
    plays: [Play; HISTORY_LEN],
}

impl Default for History {
    fn default() -> Self {
        Self {
            start: 0,
            len: 0,
            plays: [Play::default(); HISTORY_LEN],
        }
    }
}

impl History {
    /// Puts a play in its place by start time. Simultaneous plays stand in an order that does not
    /// depend on the order of arrival.
    #[inline]
    pub fn insert(&mut self, play: Play) -> Inserted {
        match self.newest() {
            Some(newest) if play.order() > newest.order() => self.append(play),
            None => self.append(play),
            Some(_) => return self.insert_among(play),
        }
        Inserted::Newest
    }

    #[inline]
    fn append(&mut self, play: Play) {
        let index = self.slot(self.len());
        self.plays[index] = play;
        if self.len() == HISTORY_LEN {
            self.start = self.slot(1) as u16;
        } else {
            self.len += 1;
        }
    }

    fn insert_among(&mut self, play: Play) -> Inserted {
        // From the newest backwards: late plays are mostly a little late.
        let mut index = self.len();
        while index > 0 {
            let other = &self.plays[self.slot(index - 1)];
            if other.order() < play.order() {
                break;
            }
            if other.at == play.at && other.track == play.track {
                return Inserted::Duplicate;
            }
            index -= 1;
        }
        if index == 0 && self.len() == HISTORY_LEN {
            return Inserted::BeforeMemory;
        }
        if self.len() == HISTORY_LEN {
            self.start = self.slot(1) as u16;
            self.len -= 1;
            index -= 1;
        }
        for moved in (index..self.len()).rev() {
            self.plays[self.slot(moved + 1)] = self.plays[self.slot(moved)];
        }
        let slot = self.slot(index);
        self.plays[slot] = play;
        self.len += 1;
        Inserted::At(index)
    }

    #[inline]
    fn slot(&self, index: usize) -> usize {
        let slot = self.start as usize + index;
        if slot >= HISTORY_LEN {
            slot - HISTORY_LEN
        } else {
            slot
        }
    }

    /// Reads what the next [`History::insert`] will read or overwrite, and gives the newest play. An
    /// owner of many histories does so for several before it changes the first of them: the memory
    /// then comes all at once, not one after the other.
    #[inline]
    pub fn foretaste(&self) -> Option<Play> {
        let next = &self.plays[self.slot(self.len()) % HISTORY_LEN];
        std::hint::black_box(next.length);
        self.newest().copied()
    }

    /// The play that a full history forgets when the next one is put in.
    #[inline]
    pub fn leaving(&self) -> Option<&Play> {
        if self.len() == HISTORY_LEN {
            self.get(0)
        } else {
            None
        }
    }

    /// How many plays it holds.
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether it holds none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The play at `index`, counted from the oldest.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&Play> {
        (index < self.len()).then(|| &self.plays[self.slot(index)])
    }

    /// The same, to be changed.
    #[inline]
    pub fn get_mut(&mut self, index: usize) -> Option<&mut Play> {
        if index < self.len() {
            let slot = self.slot(index);
            Some(&mut self.plays[slot])
        } else {
            None
        }
    }

    /// A history of the plays that another one held, in its order: what a checkpoint gives back.
    pub fn of(plays: impl IntoIterator<Item = Play>) -> Self {
        let mut history = Self::default();
        for play in plays {
            history.append(play);
        }
        history
    }

    /// The last play.
    #[inline]
    pub fn newest(&self) -> Option<&Play> {
        self.len().checked_sub(1).and_then(|last| self.get(last))
    }

    /// The plays, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Play> + ExactSizeIterator {
        (0..self.len()).map(|index| &self.plays[self.slot(index)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn play(at: i64, track: u32) -> Play {
        Play::new(
            EventTime::from_millis(at),
            TrackId(track),
            TrackKey(u128::from(track)),
        )
    }

    fn tracks(history: &History) -> Vec<(i64, u32)> {
        history
            .iter()
            .map(|p| (p.at().millis(), p.track().0))
            .collect()
    }

    #[test]
    fn late_plays_find_their_place_and_duplicates_do_not() {
        let mut history = History::default();
        assert_eq!(history.insert(play(10, 1)), Inserted::Newest);
        assert_eq!(history.insert(play(30, 3)), Inserted::Newest);
        assert_eq!(history.insert(play(20, 2)), Inserted::At(1));
        assert_eq!(history.insert(play(5, 0)), Inserted::At(0));
        assert_eq!(history.insert(play(20, 2)), Inserted::Duplicate);
        assert_eq!(history.insert(play(30, 3)), Inserted::Duplicate);
        assert_eq!(tracks(&history), [(5, 0), (10, 1), (20, 2), (30, 3)]);
    }

    #[test]
    fn a_full_history_drops_its_oldest() {
        let mut history = History::default();
        for at in 0..HISTORY_LEN as i64 {
            history.insert(play(at * 10, at as u32));
        }
        assert_eq!(history.insert(play(-1, 9)), Inserted::BeforeMemory);
        assert_eq!(history.insert(play(15, 99)), Inserted::At(1));
        assert_eq!(history.len(), HISTORY_LEN);
        assert_eq!(tracks(&history)[..3], [(10, 1), (15, 99), (20, 2)]);
    }

    #[test]
    fn the_players_word_stands() {
        let half = Part::of(Span::from_seconds(100), Some(Span::from_seconds(200)));
        let mut stated = play(0, 0);
        stated.set_duration(Some(Span::from_seconds(200)));
        stated.set_played(Span::from_seconds(100));
        stated.set_gap(Span::from_seconds(200));
        assert_eq!(stated.part(), Some(half));
        assert_eq!(stated.duration(), Some(Span::from_seconds(200)));

        let mut unstated = play(0, 0);
        unstated.set_duration(Some(Span::from_millis(i64::MAX)));
        assert_eq!((unstated.duration(), unstated.part()), (None, None));
        unstated.set_gap(Span::from_seconds(7));
        assert_eq!(unstated.part(), Some(Part::Span(Span::from_seconds(7))));
        unstated.set_played(Span::from_seconds(100));
        unstated.set_gap(Span::from_seconds(9));
        assert_eq!(unstated.part(), Some(Part::Span(Span::from_seconds(100))));
        assert!(unstated.has_players_word());
    }

    proptest! {
        #[test]
        fn any_order_of_arrival_gives_the_same_history(
            mut log in prop::collection::vec((0i64..60, 0u32..5), 0..HISTORY_LEN),
            turn in 0usize..50,
        ) {
            let mut forward = History::default();
            for (at, track) in &log { forward.insert(play(*at, *track)); }
            let turn = turn % log.len().max(1);
            log.rotate_left(turn);
            log.reverse();
            let mut other = History::default();
            for (at, track) in &log { other.insert(play(*at, *track)); }
            prop_assert_eq!(tracks(&forward), tracks(&other));
        }
    }
}
