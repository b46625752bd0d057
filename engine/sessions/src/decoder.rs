//! Bytes → arrivals: the wire format, then names to addresses.
//!
//! In the steady state nothing is allocated: a known listener and a known spelling of a track are one
//! look-up each in maps that belong to this lane. No other lane is asked: addresses are the lane's own, so they
//! are a function of its log and move with it.

use std::cmp::Ordering;
use std::collections::VecDeque;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use segue_catalog::content::TrackContent;
use segue_flow::epoch::LaneId;
use segue_flow::lane::{Decode, Decoded};
use segue_flow::names::{self, Name};
use segue_flow::partition::partition_of;
use segue_flow::source::RUN;
use segue_flow::stage::StageError;
use segue_flow::{Offset, RawRecord, Remedy};
use segue_listen::wire::{self, Format, Glance, WireListen};
use segue_listen::{EventTime, ListenRef, Span, TrackId, TrackKey};
use segue_memory::LargePages;
use serde::{Deserialize, Serialize};

use crate::arrival::Arrival;
use crate::spellings::{Spelling, Spellings, Spelt};
use crate::update::Update;

/// The longest name of a listener that is accepted, in bytes: beyond it the record is an attack or
/// a mix-up of columns.
pub const LONGEST_USER: usize = 512;

/// Reads a lane's records.
pub struct ListenDecoder {
    lane: LaneId,
    lanes: u32,
    /// By the bytes of the name.
    slots: HashMap<Box<[u8]>, u32, FixedState, LargePages>,
    /// Names of listeners by slot.
    listeners: Vec<Box<str>>,
    /// By slot, whether the listener's name belongs into this lane.
    at_home: Vec<bool>,
    tracks: HashMap<TrackKey, TrackId, FixedState, LargePages>,
    spellings: Spellings,
    /// First sights that were not announced yet.
    news: Vec<Update>,
    /// What was made out of the records that come next, in their order.
    ahead: VecDeque<Foreseen>,
}

/// What was made out of a record that has not been decoded.
struct Foreseen {
    offset: Offset,
    /// The arrival that it is, and whether it lies where its key does not belong: of a listener and a
    /// spelling of a track that were both seen before.
    known: Option<(Arrival, bool)>,
}

impl ListenDecoder {
    /// A decoder for one lane of `lanes`.
    pub fn new(lane: LaneId, lanes: u32) -> Self {
        Self {
            lane,
            lanes: lanes.max(1),
            slots: HashMap::default(),
            listeners: Vec::new(),
            at_home: Vec::new(),
            tracks: HashMap::default(),
            spellings: Spellings::default(),
            news: Vec::new(),
            ahead: VecDeque::with_capacity(RUN),
        }
    }

    /// How many listeners the lane has seen.
    pub fn listeners(&self) -> usize {
        self.listeners.len()
    }

    /// The arrival that a play is: addresses are looked up, first sights noted.
    ///
    /// # Errors
    /// A reason in words: a name that is too long, more listeners or tracks than can be numbered.
    pub fn intern(&mut self, listen: &ListenRef<'_>) -> Result<Arrival, String> {
        let slot = self.slot(listen.user)?;
        let track = self.track(listen)?;
        Ok(Arrival {
            slot,
            track,
            tie: tie(listen.track),
            at: listen.at,
            duration: listen.duration,
            played: listen.played,
        })
    }

    /// The arrival that a play is whose listener and track were both seen before, spelt as here.
    fn recognised(&mut self, glance: &Glance<'_>) -> Option<Arrival> {
        let times = glance.times()?;
        let spelling = Spelling::of(glance.spelling())?;
        let spelt = self.spellings.get(spelling)?;
        let slot = *self.slots.get(glance.user())?;
        Some(arrival(slot, spelt, times))
    }

    /// Looks a play up by its key, and remembers how it is spelt in these bytes.
    fn learnt(&mut self, listen: &WireListen<'_>, value: &[u8]) -> Result<Arrival, String> {
        let arrival = self.intern(&listen.listen())?;
        let glance = wire::glance(value);
        if let Some(spelling) = glance.and_then(|glance| Spelling::of(glance.spelling())) {
            let spelt = Spelt {
                track: arrival.track,
                tie: arrival.tie,
            };
            self.spellings.put(spelling, spelt, self.tracks.len());
        }
        Ok(arrival)
    }

    /// The play, and whether it lies where its key does not belong.
    fn place(&self, key: Option<&[u8]>, user: &[u8], arrival: Arrival) -> (Arrival, bool) {
        let strays = key.is_some_and(|key| self.is_misrouted(key, user, arrival.slot));
        (arrival, strays)
    }

    /// What was made out of a record when it was shown.
    #[inline]
    fn foreseen(&mut self, offset: Offset) -> Option<(Arrival, bool)> {
        if self.ahead.front()?.offset != offset {
            return None;
        }
        self.ahead.pop_front()?.known
    }

    #[inline]
    fn slot(&mut self, user: &str) -> Result<u32, String> {
        match self.slots.get(user.as_bytes()) {
            Some(slot) => Ok(*slot),
            None => self.new_listener(user),
        }
    }

    fn track(&mut self, listen: &ListenRef<'_>) -> Result<TrackId, String> {
        match self.tracks.get(&listen.track) {
            Some(track) => Ok(*track),
            None => self.new_track(listen),
        }
    }

    fn is_at_home(&self, name: &[u8]) -> bool {
        partition_of(name, self.lanes) == self.lane.0
    }

    /// Whether a record lies where its key says; listeners' own names, which are the keys as a rule,
    /// have been looked at.
    fn is_misrouted(&self, key: &[u8], user: &[u8], slot: u32) -> bool {
        if key == user {
            return self.at_home.get(slot as usize) == Some(&false);
        }
        !self.is_at_home(key)
    }

    #[cold]
    fn new_listener(&mut self, name: &str) -> Result<u32, String> {
        if name.len() > LONGEST_USER {
            let len = name.len();
            return Err(format!("user name of {len} bytes exceeds {LONGEST_USER}"));
        }
        let slot = u32::try_from(self.listeners.len()).map_err(|e| e.to_string())?;
        self.slots.insert(name.as_bytes().into(), slot);
        self.listeners.push(name.into());
        self.at_home.push(self.is_at_home(name.as_bytes()));
        self.news.push(Update::Listener {
            slot,
            name: name.into(),
        });
        Ok(slot)
    }

    #[cold]
    fn new_track(&mut self, listen: &ListenRef<'_>) -> Result<TrackId, String> {
        let track = TrackId(u32::try_from(self.tracks.len()).map_err(|e| e.to_string())?);
        self.tracks.insert(listen.track, track);
        self.news.push(Update::Track(Box::new(TrackContent {
            track,
            key: listen.track,
            artist: listen.artist.into(),
            title: listen.title.into(),
        })));
        Ok(track)
    }
}

/// When a play started, how long the track is, and how long it was played.
type Times = (EventTime, Option<Span>, Option<Span>);

/// A play of a listener and a track that are known.
fn arrival(slot: u32, Spelt { track, tie }: Spelt, (at, duration, played): Times) -> Arrival {
    Arrival {
        slot,
        track,
        tie,
        at,
        duration,
        played,
    }
}

/// Counts a record that lies where its key does not belong. It is not refused: the listener's plays are
/// here, and nowhere else.
#[inline]
fn counted((arrival, strays): (Arrival, bool)) -> Decoded<Arrival> {
    if strays {
        names::count(Name::Misrouted, 1);
    }
    Decoded::Item(arrival.at, arrival)
}

/// Low bits of a track key's digest.
const fn tie(track: TrackKey) -> u32 {
    track.digest() as u32
}

/// Why a record is no listen; a header that names something else than we read is the better reason.
#[cold]
fn refusal(record: &RawRecord<'_>, error: String) -> String {
    match record.content_type.get() {
        Some(header) if Format::from_content_type(header).is_none() => {
            let header = String::from_utf8_lossy(header);
            format!("content-type `{header}` is not known: {error}")
        }
        _ => error,
    }
}

/// What a lane's addresses stand for, each list in the order of the addresses.
#[derive(Debug, Serialize, Deserialize)]
pub struct Names {
    listeners: Vec<Box<str>>,
    #[serde(with = "segue_listen::rows")]
    tracks: Vec<TrackKey>,
}

impl Decode for ListenDecoder {
    type Item = Arrival;
    type News = Update;
    type Snapshot = Names;

    fn decode(&mut self, record: &RawRecord<'_>) -> Result<Decoded<Arrival>, String> {
        if let Some(known) = self.foreseen(record.offset) {
            return Ok(counted(known));
        }
        let Some(value) = record.value else {
            return Ok(Decoded::Nothing);
        };
        if let Some(glance) = wire::glance(value)
            && let Some(arrival) = self.recognised(&glance)
        {
            return Ok(counted(self.place(record.key, glance.user(), arrival)));
        }
        // What the bytes are decides. The header is not asked unless they say nothing: some logs have
        // to take all headers of a record apart for it.
        let decoded = wire::decode(value, Format::of(value));
        match decoded.map_err(|error| refusal(record, error.to_string()))? {
            wire::Decoded::Heartbeat(at) => Ok(Decoded::Heartbeat(at)),
            wire::Decoded::Listen(listen) => {
                let arrival = self.learnt(&listen, value)?;
                Ok(counted(self.place(
                    record.key,
                    listen.user().as_bytes(),
                    arrival,
                )))
            }
        }
    }

    /// Each look-up goes far away in memory. In one loop after the other none waits for the one before it.
    fn look_ahead(&mut self, records: &[RawRecord<'_>], items: &mut Vec<Arrival>) {
        self.ahead.clear();
        let mut seen: [Option<(&[u8], Spelling, Times)>; RUN] = [None; RUN];
        for (place, record) in seen.iter_mut().zip(records) {
            if let Some(glance) = record.value.and_then(wire::glance)
                && let Some(times) = glance.times()
                && let Some(spelling) = Spelling::of(glance.spelling())
            {
                *place = Some((glance.user(), spelling, times));
            }
        }
        for (_, spelling, _) in seen.iter().flatten() {
            self.spellings.touch(*spelling);
        }
        let mut spelt = [None; RUN];
        for (place, seen) in spelt.iter_mut().zip(&seen) {
            *place = seen.and_then(|(_, spelling, _)| self.spellings.get(spelling));
        }
        let mut slots = [None; RUN];
        for (place, seen) in slots.iter_mut().zip(&seen) {
            *place = seen.and_then(|(user, ..)| self.slots.get(user).copied());
        }
        for (record, ((seen, spelt), slot)) in records.iter().zip(seen.iter().zip(spelt).zip(slots))
        {
            let known = match (seen, slot, spelt) {
                (Some((user, _, times)), Some(slot), Some(spelt)) => {
                    Some(self.place(record.key, user, arrival(slot, spelt, *times)))
                }
                _ => None,
            };
            items.extend(known.map(|(arrival, _)| arrival));
            self.ahead.push_back(Foreseen {
                offset: record.offset,
                known,
            });
        }
    }

    fn announce(&mut self, out: &mut Vec<Update>) {
        out.append(&mut self.news);
    }

    /// By track and then by the listener's name: the same in every run, however records arrived.
    fn order(&self, one: &Arrival, other: &Arrival) -> Ordering {
        let name = |arrival: &Arrival| self.listeners.get(arrival.slot as usize);
        one.tie
            .cmp(&other.tie)
            .then_with(|| name(one).cmp(&name(other)))
    }

    fn snapshot(&self) -> Names {
        let mut tracks = vec![TrackKey::default(); self.tracks.len()];
        for (key, track) in &self.tracks {
            if let Some(place) = tracks.get_mut(track.row()) {
                *place = *key;
            }
        }
        Names {
            listeners: self.listeners.clone(),
            tracks,
        }
    }

    fn restore(&mut self, names: Names) -> Result<(), StageError> {
        let slots = names.listeners.iter().map(|name| name.as_bytes().into());
        let slots = slots.zip(0..);
        self.slots = slots.collect();
        self.tracks = names
            .tracks
            .iter()
            .copied()
            .zip((0..).map(TrackId))
            .collect();
        if self.slots.len() != names.listeners.len() || self.tracks.len() != names.tracks.len() {
            return Err(StageError {
                stage: "decoder",
                detail: format!(
                    "lane {}: a listener or track has two addresses",
                    self.lane.0
                ),
                remedy: Remedy::Restore,
            });
        }
        let at_home = names
            .listeners
            .iter()
            .map(|name| self.is_at_home(name.as_bytes()));
        self.at_home = at_home.collect();
        self.listeners = names.listeners;
        self.spellings.clear();
        self.news.clear();
        self.ahead.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use segue_flow::{ContentType, Offset};
    use segue_listen::EventTime;

    fn listen<'a>(user: &'a str, title: &'a str) -> ListenRef<'a> {
        ListenRef {
            user,
            track: TrackKey::from_names("a", title),
            artist: "a",
            title,
            at: EventTime::from_millis(1),
            duration: None,
            played: None,
        }
    }

    fn decoder() -> ListenDecoder {
        ListenDecoder::new(LaneId(0), 1)
    }

    #[test]
    fn first_sights_are_announced_once_in_the_order_of_addresses() {
        let mut decoder = decoder();
        decoder.intern(&listen("u", "t")).unwrap();
        decoder.intern(&listen("v", "t2")).unwrap();
        let mut news = Vec::new();
        decoder.announce(&mut news);
        let addresses: Vec<_> = news
            .iter()
            .map(|update| match update {
                Update::Listener { slot, name } => (*slot, name.to_string()),
                Update::Track(content) => (content.track.0, content.title.to_string()),
                other => panic!("{other:?}"),
            })
            .collect();
        let expected = [(0, "u"), (0, "t"), (1, "v"), (1, "t2")];
        assert_eq!(addresses, expected.map(|(n, text)| (n, text.to_owned())));
        news.clear();
        let again = decoder.intern(&listen("v", "t")).unwrap();
        assert_eq!((again.slot, again.track), (1, TrackId(0)));
        decoder.announce(&mut news);
        assert!(news.is_empty());
    }

    #[test]
    fn bad_records_are_refused_with_a_reason() {
        let mut decoder = decoder();
        let record = |content_type, value| RawRecord {
            offset: Offset(0),
            key: None,
            value,
            content_type: ContentType::Known(content_type),
            logged_at: None,
        };
        let tombstone = decoder.decode(&record(None, None)).unwrap();
        assert!(matches!(tombstone, Decoded::Nothing));
        let error = decoder
            .decode(&record(Some(b"text/html"), Some(b"x")))
            .unwrap_err();
        assert!(error.contains("`text/html`"), "{error}");
        assert!(decoder.decode(&record(None, Some(b"\xc1"))).is_err());
        let long = "u".repeat(LONGEST_USER + 1);
        assert!(
            decoder
                .intern(&listen(&long, "t"))
                .unwrap_err()
                .contains("513 bytes")
        );
    }
}
