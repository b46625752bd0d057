//! New tracks to the encoders, and their vectors back.
//!
//! Each encoder makes a part of a vector, on a thread of its own. Where runs are to be repeatable, a round is
//! closed when all parts of all its tracks are there; otherwise with what has come: a track is known by what
//! is quick to be had, and better with each part that comes later.

use std::collections::VecDeque;
use std::time::Duration;

use segue_catalog::newcomers::Arrivals;
use segue_flow::queue::{Received, WhenFull};
use segue_listen::TrackId;

use super::content::Share;
use super::{Content, EncoderLink, EngineError, RecommendStage};

/// How long an encoder is waited for before new tracks are offered again.
const ENCODER_PATIENCE: Duration = Duration::from_millis(10);

/// An encoder, and the tracks that were not handed over to it yet: it may take its time.
pub(super) struct Encoding {
    link: EncoderLink,
    share: Share,
    newcomers: VecDeque<TrackId>,
}

impl Encoding {
    /// The encoders, each with the part of a vector that it makes.
    pub(super) fn all(links: Vec<EncoderLink>) -> Vec<Self> {
        let (mut start, last) = (0, links.len().saturating_sub(1));
        let links = links.into_iter().enumerate();
        links
            .map(|(encoder, link)| {
                let components = start..start + link.dimensions;
                start = components.end;
                Self {
                    link,
                    share: Share {
                        encoder,
                        components,
                        is_last: encoder == last,
                    },
                    newcomers: VecDeque::new(),
                }
            })
            .collect()
    }

    /// Asks for a track of another stage, if that one was not answered.
    pub(super) fn asks_for(&mut self, track: TrackId, content: &Content) {
        if content.waits_for(&self.share, track) {
            self.newcomers.push_back(track);
        }
    }

    fn waits_when_full(&self) -> bool {
        self.link.arrivals.settings().when_full == WhenFull::Block
    }
}

impl RecommendStage {
    /// The length of a vector; 0 if nothing encodes.
    pub(super) fn dimensions(encodings: &[Encoding]) -> usize {
        encodings.last().map_or(0, |last| last.share.components.end)
    }

    /// A track is to be encoded. What the library does not know has nothing but its names.
    pub(super) fn newcomer(&mut self, track: TrackId) {
        let library = self.parts.library.now();
        let known = self
            .content
            .track(track)
            .is_some_and(|track| library.knows(track));
        for encoding in &mut self.encodings {
            if encoding.share.encoder == 0 || known {
                encoding.newcomers.push_back(track);
            } else {
                self.content.skipped(&encoding.share, track);
            }
        }
    }

    /// After a restart, or where the library is another: what had not been answered is asked again, and what the library says otherwise now.
    ///
    /// # Errors
    /// The tracks have vectors of another length.
    pub(super) fn ask_again(&mut self) -> Result<(), EngineError> {
        let (was, now) = (self.content.dimensions(), Self::dimensions(&self.encodings));
        if now > 0 && was != now && !self.content.is_empty() {
            return Err(EngineError::OtherVectors { was, now });
        }
        let library = self.parts.library.now();
        for encoding in &mut self.encodings {
            encoding.newcomers = self.content.unanswered(&encoding.share, &library);
            if !library.is_empty() && !encoding.newcomers.is_empty() {
                tracing::info!(
                    encoder = encoding.share.encoder,
                    tracks = encoding.newcomers.len(),
                    "tracks to be encoded that were not, or of which the library says something else"
                );
            }
        }
        Ok(())
    }

    /// Hands new tracks to the encoders. Where a queue is full they wait, a number each, unless its
    /// policy is that we wait.
    pub(super) fn announce(&mut self) -> Result<(), EngineError> {
        if self.parts.library.is_another() {
            self.ask_again()?;
        }
        self.offer_newcomers()?;
        let waits =
            |encoding: &Encoding| encoding.waits_when_full() && !encoding.newcomers.is_empty();
        let Some(place) = self.encodings.iter().position(waits) else {
            return Ok(());
        };
        let before = self.parts.clock.now();
        while self.encodings.iter().any(waits) {
            self.await_vectors()?;
            self.offer_newcomers()?;
        }
        let blocked = self.parts.clock.now().saturating_sub(before);
        if let Some(encoding) = self.encodings.get(place) {
            encoding.link.arrivals.blocked(blocked);
        }
        Ok(())
    }

    /// As many as there is room for.
    fn offer_newcomers(&mut self) -> Result<(), EngineError> {
        for encoding in &mut self.encodings {
            let (link, newcomers) = (&mut encoding.link, &mut encoding.newcomers);
            while !newcomers.is_empty() && link.arrivals.has_room() {
                let many = link.batch.clamp(1, newcomers.len());
                let ids = newcomers.drain(..many);
                let tracks: Vec<_> = ids
                    .filter_map(|track| self.content.track(track).cloned())
                    .collect();
                self.content.announced(tracks.len());
                // Nobody else sends: there is room.
                let offered = link.arrivals.offer(Arrivals(tracks));
                offered.map_err(|_| EngineError::EncoderGone)?;
            }
        }
        Ok(())
    }

    /// Waits a while for vectors. The queues are bounded and the encoders wait for us too: so what they
    /// hold is taken while what we hold is offered.
    fn await_vectors(&mut self) -> Result<(), EngineError> {
        for encoding in &mut self.encodings {
            match encoding.link.encoded.receive(ENCODER_PATIENCE) {
                Received::Batch(encoded) => {
                    self.content.take(&encoding.share, encoded);
                    return Ok(());
                }
                Received::Nothing => {}
                Received::Over => return Err(EngineError::EncoderGone),
            }
        }
        Ok(())
    }

    /// Takes in the vectors that are ready.
    pub(super) fn collect(&mut self) -> Result<(), EngineError> {
        for encoding in &mut self.encodings {
            while let Some(encoded) = encoding.link.encoded.ready() {
                self.content.take(&encoding.share, encoded);
            }
        }
        Ok(())
    }

    /// Waits until every new track has been encoded.
    pub(super) fn collect_all(&mut self) -> Result<(), EngineError> {
        self.offer_newcomers()?;
        let waits = |encoding: &Encoding| !encoding.newcomers.is_empty();
        while self.content.outstanding() > 0 || self.encodings.iter().any(waits) {
            self.await_vectors()?;
            self.offer_newcomers()?;
        }
        Ok(())
    }
}
