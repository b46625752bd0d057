//! Lanes come and go: what goes with a lane, and what it brings along.
//!
//! A lane's own state travels as it is. Here are the listeners of the lane: their addresses, in the
//! lane's own order, and what each has played. Listeners and tracks have other ids in the stage they
//! come from, so names and keys carry them over; a track that nobody played here is admitted with its
//! content. What is counted over everybody (popularity, rules, estimated lengths, the evaluation) is
//! an instance's own and stays where it is.

use std::sync::Arc;

use hashbrown::HashMap;
use segue_catalog::content::TrackContent;
use segue_catalog::directory::{Directory, Sighting};
use segue_flow::LaneId;
use segue_flow::checkpoint::decode;
use segue_listen::{TrackId, UserId};

use super::checkpoints::{Owned, PART, VERSION};
use super::encoding::Encoding;
use super::{Content, EngineError, Moved, RecommendStage};

impl RecommendStage {
    /// Forgets the listeners of the lanes that `stays` does not name: they are another instance's, or
    /// come from elsewhere.
    pub(super) fn let_go(&mut self, stays: impl Fn(LaneId) -> bool) {
        for lane in self.addresses.announced().filter(|lane| !stays(*lane)) {
            for user in self.addresses.forget(lane) {
                self.listeners.forget(user);
                self.asked.retain(|asked| asked.user != user);
            }
        }
        self.asked_at = places(&self.asked);
    }

    /// Takes lanes over with their listeners, from the state of the stage that had them.
    pub(super) fn take_over(&mut self, moved: &Moved) -> Result<(), EngineError> {
        let wrong = |detail: String| EngineError::Restore {
            epoch: moved.epoch.0,
            detail,
        };
        let from: Owned =
            decode(PART, VERSION, &moved.stage).map_err(|error| wrong(error.to_string()))?;
        let there = from.content.restored();
        let mut tracks = Tracks {
            from: &there,
            content: &mut self.content,
            encodings: &mut self.encodings,
            directory: self.parts.directory.clone(),
            known: HashMap::new(),
        };
        for lane in &moved.lanes {
            let mut here = |track| {
                let found = tracks.here(track)?;
                found.ok_or_else(|| wrong(format!("it speaks of track {} of none", track.0)))
            };
            let users = self
                .addresses
                .take_over(*lane, &from.addresses, &mut here)?;
            for (there, user) in users {
                self.listeners
                    .take_over(&from.listeners, there, user, &mut here)?;
                for asked in from.asked.iter().filter(|asked| asked.user == there) {
                    self.asked.push(super::Asked {
                        user,
                        track: here(asked.track)?,
                        at: asked.at,
                    });
                }
            }
        }
        self.asked_at = places(&self.asked);
        Ok(())
    }
}

/// Where each listener's question stands.
pub(super) fn places(asked: &[super::Asked]) -> HashMap<UserId, usize> {
    asked.iter().map(|asked| asked.user).zip(0..).collect()
}

/// The tracks of another stage in the addresses of this one.
struct Tracks<'a> {
    from: &'a Content,
    content: &'a mut Content,
    encodings: &'a mut [Encoding],
    directory: Arc<Directory>,
    known: HashMap<TrackId, TrackId>,
}

impl Tracks<'_> {
    /// `None` if the other stage does not know it either.
    fn here(&mut self, there: TrackId) -> Result<Option<TrackId>, EngineError> {
        if let Some(here) = self.known.get(&there) {
            return Ok(Some(*here));
        }
        let Some(content) = self.from.track(there) else {
            return Ok(None);
        };
        let sighting = self.directory.sight(content.key)?;
        let track = sighting.track();
        if let Sighting::New(_) = sighting {
            let content = TrackContent {
                track,
                ..content.clone()
            };
            self.content.sighted(content);
            self.content.adopt(track, self.from, there);
            for encoding in &mut *self.encodings {
                encoding.asks_for(track, self.content);
            }
        }
        self.known.insert(there, track);
        Ok(Some(track))
    }
}
