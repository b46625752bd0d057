//! Bytes → arrivals: the wire format, then names to addresses.
//!
//! In the steady state nothing is allocated: a known listener and a known track are one look-up each
//! in maps that belong to this lane. The shared directory is asked once per lane and track.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use segue_catalog::content::TrackContent;
use segue_catalog::directory::{Directory, Sighting};
use segue_flow::RawRecord;
use segue_flow::epoch::LaneId;
use segue_flow::lane::{Decode, Decoded};
use segue_flow::names::{self, Name};
use segue_flow::partition::partition_of;
use segue_listen::wire::{self, Format};
use segue_listen::{ListenRef, TrackId, TrackKey};

use crate::arrival::{Arrival, News};

/// The longest name of a listener that is accepted, in bytes: beyond it the record is an attack or
/// a mix-up of columns.
const LONGEST_USER: usize = 512;

/// Reads a lane's records.
pub struct ListenDecoder {
    lane: LaneId,
    lanes: u32,
    format: Format,
    directory: Arc<Directory>,
    listeners: HashMap<Box<str>, u32, FixedState>,
    tracks: HashMap<TrackKey, TrackId, FixedState>,
    /// First sights whose play was too late to be absorbed: they go out with the next play.
    carried: News,
}

impl ListenDecoder {
    /// A decoder for one lane of `lanes`. `format` is what a record without a `content-type` header
    /// is taken for.
    pub fn new(lane: LaneId, lanes: u32, format: Format, directory: Arc<Directory>) -> Self {
        Self {
            lane,
            lanes: lanes.max(1),
            format,
            directory,
            listeners: HashMap::default(),
            tracks: HashMap::default(),
            carried: News::default(),
        }
    }

    /// How many listeners the lane has seen.
    pub fn listeners(&self) -> usize {
        self.listeners.len()
    }

    /// The arrival that a play is: addresses are looked up, first sights noted.
    ///
    /// # Errors
    /// A reason in words: a name that is too long, a catalogue that is full.
    pub fn intern(&mut self, listen: &ListenRef<'_>) -> Result<Arrival, String> {
        let mut news = News::default();
        let slot = match self.listeners.get(listen.user) {
            Some(slot) => *slot,
            None => {
                if listen.user.len() > LONGEST_USER {
                    let len = listen.user.len();
                    return Err(format!("user name of {len} bytes exceeds {LONGEST_USER}"));
                }
                let slot = u32::try_from(self.listeners.len()).map_err(|e| e.to_string())?;
                self.listeners.insert(listen.user.into(), slot);
                news.listeners.push((slot, listen.user.into()));
                slot
            }
        };
        let track = match self.tracks.get(&listen.track) {
            Some(track) => *track,
            None => {
                let sighting = self
                    .directory
                    .sight(listen.track)
                    .map_err(|e| e.to_string())?;
                if let Sighting::New(track) = sighting {
                    news.tracks.push(TrackContent {
                        track,
                        key: listen.track,
                        artist: listen.artist.into(),
                        title: listen.title.into(),
                    });
                }
                self.tracks.insert(listen.track, sighting.track());
                sighting.track()
            }
        };
        if !self.carried.is_empty() {
            let mut carried = std::mem::take(&mut self.carried);
            carried.merge(news);
            news = carried;
        }
        Ok(Arrival {
            slot,
            track,
            tie: listen.track.digest() as u32,
            at: listen.at,
            duration: listen.duration,
            played: listen.played,
            news: (!news.is_empty()).then(|| Box::new(news)),
        })
    }
}

impl Decode for ListenDecoder {
    type Item = Arrival;

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

    fn take_back(&mut self, item: Arrival) {
        if let Some(news) = item.news {
            self.carried.merge(*news);
        }
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
        ListenDecoder::new(LaneId(0), 1, Format::MessagePack, Arc::default())
    }

    #[test]
    fn first_sights_are_told_once_and_not_lost_with_a_late_play() {
        let mut decoder = decoder();
        let first = decoder.intern(&listen("u", "t")).unwrap();
        assert_eq!(first.news.as_ref().unwrap().tracks.len(), 1);
        decoder.take_back(first);
        let second = decoder.intern(&listen("u", "t2")).unwrap();
        let news = second.news.unwrap();
        assert_eq!((news.listeners.len(), news.tracks.len()), (1, 2));
        assert!(decoder.intern(&listen("u", "t2")).unwrap().news.is_none());
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
