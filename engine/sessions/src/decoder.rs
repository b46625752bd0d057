//! Bytes → arrivals: the wire format, then names to addresses.
//!
//! In the steady state nothing is allocated: a known listener and a known track are one look-up each
//! in maps that belong to this lane. No other lane is asked: addresses are the lane's own, so they
//! are a function of its log and move with it.

use std::cmp::Ordering;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use segue_catalog::content::TrackContent;
use segue_flow::epoch::LaneId;
use segue_flow::lane::{Decode, Decoded};
use segue_flow::names::{self, Name};
use segue_flow::partition::partition_of;
use segue_flow::stage::StageError;
use segue_flow::{RawRecord, Remedy};
use segue_listen::wire::{self, Format};
use segue_listen::{ListenRef, TrackId, TrackKey};
use serde::{Deserialize, Serialize};

use crate::arrival::Arrival;
use crate::update::Update;

/// The longest name of a listener that is accepted, in bytes: beyond it the record is an attack or
/// a mix-up of columns.
const LONGEST_USER: usize = 512;

/// Reads a lane's records.
pub struct ListenDecoder {
    lane: LaneId,
    lanes: u32,
    format: Format,
    slots: HashMap<Box<str>, u32, FixedState>,
    /// Names of listeners by slot.
    listeners: Vec<Box<str>>,
    tracks: HashMap<TrackKey, TrackId, FixedState>,
    /// First sights that were not announced yet.
    news: Vec<Update>,
}

impl ListenDecoder {
    /// A decoder for one lane of `lanes`. `format` is what a record without a `content-type` header
    /// is taken for.
    pub fn new(lane: LaneId, lanes: u32, format: Format) -> Self {
        Self {
            lane,
            lanes: lanes.max(1),
            format,
            slots: HashMap::default(),
            listeners: Vec::new(),
            tracks: HashMap::default(),
            news: Vec::new(),
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
        let slot = match self.slots.get(listen.user) {
            Some(slot) => *slot,
            None => self.new_listener(listen.user)?,
        };
        let track = match self.tracks.get(&listen.track) {
            Some(track) => *track,
            None => self.new_track(listen)?,
        };
        Ok(Arrival {
            slot,
            track,
            tie: listen.track.digest() as u32,
            at: listen.at,
            duration: listen.duration,
            played: listen.played,
        })
    }

    #[cold]
    fn new_listener(&mut self, name: &str) -> Result<u32, String> {
        if name.len() > LONGEST_USER {
            let len = name.len();
            return Err(format!("user name of {len} bytes exceeds {LONGEST_USER}"));
        }
        let slot = u32::try_from(self.listeners.len()).map_err(|e| e.to_string())?;
        self.slots.insert(name.into(), slot);
        self.listeners.push(name.into());
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

/// What a lane's addresses stand for, each list in the order of the addresses.
#[derive(Debug, Serialize, Deserialize)]
pub struct Names {
    listeners: Vec<Box<str>>,
    tracks: Vec<TrackKey>,
}

impl Decode for ListenDecoder {
    type Item = Arrival;
    type News = Update;
    type Snapshot = Names;

    fn decode(&mut self, record: &RawRecord<'_>) -> Result<Decoded<Arrival>, String> {
        let Some(value) = record.value else {
            return Ok(Decoded::Nothing);
        };
        let format = match record.content_type {
            None => self.format,
            Some(header) => Format::from_content_type(header).ok_or_else(|| {
                format!(
                    "content-type `{}` is not known",
                    String::from_utf8_lossy(header)
                )
            })?,
        };
        match wire::decode(value, format).map_err(|error| error.to_string())? {
            wire::Decoded::Heartbeat(at) => Ok(Decoded::Heartbeat(at)),
            wire::Decoded::Listen(listen) => {
                let listen = listen.listen();
                if let Some(key) = record.key
                    && partition_of(key, self.lanes) != self.lane.0
                {
                    // Counted, not refused: the listener's plays are here, and nowhere else.
                    names::count(Name::Misrouted, 1);
                }
                Ok(Decoded::Item(listen.at, self.intern(&listen)?))
            }
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
        let slots = names.listeners.iter().cloned().zip(0..);
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
        self.listeners = names.listeners;
        self.news.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use segue_flow::Offset;
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
        ListenDecoder::new(LaneId(0), 1, Format::MessagePack)
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
            content_type,
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
