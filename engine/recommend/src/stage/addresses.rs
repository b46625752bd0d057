//! What the lanes' addresses mean: each lane numbers listeners and tracks by its own log, here they
//! get the addresses that hold for all lanes, in the order in which their first plays are taken in.

use std::sync::Arc;

use hashbrown::HashMap;
use segue_catalog::content::TrackContent;
use segue_catalog::directory::{Directory, Sighting};
use segue_flow::LaneId;
use segue_listen::{TrackId, TrackKey, UserId};
use serde::{Deserialize, Serialize};

use super::EngineError;

/// What one lane has announced, by its own addresses.
#[derive(Default, Serialize, Deserialize)]
struct LaneAddresses {
    listeners: Vec<Listener>,
    tracks: Vec<Track>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Listener {
    name: Box<str>,
    user: Option<UserId>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Track {
    key: TrackKey,
    state: TrackState,
}

#[derive(Clone, Serialize, Deserialize)]
enum TrackState {
    /// Announced, and nobody was told to have played it yet.
    Announced(Box<TrackContent>),
    Known(TrackId),
}

/// All lanes' addresses. One owner.
#[derive(Serialize, Deserialize)]
pub(super) struct Addresses {
    lanes: Vec<LaneAddresses>,
    /// Names by [`UserId`].
    names: Vec<Box<str>>,
    #[serde(skip)]
    users: HashMap<Box<str>, UserId>,
    #[serde(skip)]
    directory: Arc<Directory>,
}

impl Addresses {
    /// Nothing announced; ids of tracks are given by `directory`.
    pub(super) fn new(directory: Arc<Directory>) -> Self {
        Self {
            lanes: Vec::new(),
            users: HashMap::new(),
            names: Vec::new(),
            directory,
        }
    }

    /// Goes on from a checkpoint: what is derived is derived again. `keys` are those of all tracks, in
    /// the order of their ids.
    pub(super) fn restored(
        mut self,
        directory: Arc<Directory>,
        keys: impl Iterator<Item = TrackKey>,
    ) -> Result<Self, EngineError> {
        for key in keys {
            directory.sight(key)?;
        }
        self.users = self.names.iter().cloned().zip((0..).map(UserId)).collect();
        self.directory = directory;
        Ok(self)
    }

    /// How many listeners have played.
    pub(super) fn listeners(&self) -> usize {
        self.names.len()
    }

    /// A listener's name in the log.
    pub(super) fn name(&self, user: UserId) -> &str {
        self.names.get(user.0 as usize).map_or("", |name| name)
    }

    /// A lane has seen a listener for the first time.
    pub(super) fn announce_listener(
        &mut self,
        lane: LaneId,
        slot: u32,
        name: Box<str>,
    ) -> Result<(), EngineError> {
        let listeners = &mut self.lane(lane).listeners;
        check_next(lane, "listener", slot, listeners.len())?;
        listeners.push(Listener { name, user: None });
        Ok(())
    }

    /// A lane has seen a track for the first time.
    pub(super) fn announce_track(
        &mut self,
        lane: LaneId,
        content: Box<TrackContent>,
    ) -> Result<(), EngineError> {
        let tracks = &mut self.lane(lane).tracks;
        check_next(lane, "track", content.track.0, tracks.len())?;
        tracks.push(Track {
            key: content.key,
            state: TrackState::Announced(content),
        });
        Ok(())
    }

    /// Who is in a slot of a lane.
    pub(super) fn user(&mut self, lane: LaneId, slot: u32) -> Result<UserId, EngineError> {
        let listener = self
            .lanes
            .get_mut(lane.0 as usize)
            .and_then(|lane| lane.listeners.get_mut(slot as usize))
            .ok_or_else(|| unannounced(lane, "listener", slot))?;
        if let Some(user) = listener.user {
            return Ok(user);
        }
        let user = numbered(&mut self.users, &mut self.names, &listener.name);
        listener.user = Some(user);
        Ok(user)
    }

    /// The lanes of which something was announced.
    pub(super) fn announced(&self) -> impl Iterator<Item = LaneId> + use<> {
        (0u32..).map(LaneId).take(self.lanes.len())
    }

    /// Forgets a lane, and returns who had played in it.
    pub(super) fn forget(&mut self, lane: LaneId) -> Vec<UserId> {
        let listeners = std::mem::take(self.lane(lane)).listeners;
        listeners.iter().filter_map(|one| one.user).collect()
    }

    /// Takes a lane over from another stage, in the lane's own order; `here` gives tracks their
    /// address in this one. Returns its listeners, by their address there and here.
    pub(super) fn take_over(
        &mut self,
        lane: LaneId,
        from: &Self,
        here: &mut impl FnMut(TrackId) -> Result<TrackId, EngineError>,
    ) -> Result<Vec<(UserId, UserId)>, EngineError> {
        let mut taken = LaneAddresses::default();
        let mut users = Vec::new();
        for listener in from
            .lanes
            .get(lane.0 as usize)
            .iter()
            .flat_map(|l| &l.listeners)
        {
            let mut listener = listener.clone();
            if let Some(user) = &mut listener.user {
                let there = *user;
                *user = numbered(&mut self.users, &mut self.names, &listener.name);
                users.push((there, *user));
            }
            taken.listeners.push(listener);
        }
        for track in from
            .lanes
            .get(lane.0 as usize)
            .iter()
            .flat_map(|l| &l.tracks)
        {
            let mut track = track.clone();
            if let TrackState::Known(id) = &mut track.state {
                *id = here(*id)?;
            }
            taken.tracks.push(track);
        }
        *self.lane(lane) = taken;
        Ok(users)
    }

    /// The name of who is in a slot of a lane.
    pub(super) fn name_in(&self, lane: LaneId, slot: u32) -> Result<&str, EngineError> {
        self.lanes
            .get(lane.0 as usize)
            .and_then(|lane| lane.listeners.get(slot as usize))
            .map(|listener| &*listener.name)
            .ok_or_else(|| unannounced(lane, "listener", slot))
    }

    /// The identity of a lane's track.
    pub(super) fn key(&self, lane: LaneId, track: TrackId) -> Result<TrackKey, EngineError> {
        self.lanes
            .get(lane.0 as usize)
            .and_then(|lane| lane.tracks.get(track.row()))
            .map(|track| track.key)
            .ok_or_else(|| unannounced(lane, "track", track.0))
    }

    /// The address of a lane's track, and its content if this is its first play of all.
    pub(super) fn track(
        &mut self,
        lane: LaneId,
        track: TrackId,
    ) -> Result<(TrackId, Option<TrackContent>), EngineError> {
        let known = self
            .lanes
            .get_mut(lane.0 as usize)
            .and_then(|lane| lane.tracks.get_mut(track.row()))
            .ok_or_else(|| unannounced(lane, "track", track.0))?;
        if let TrackState::Known(track) = known.state {
            return Ok((track, None));
        }
        let sighting = self.directory.sight(known.key)?;
        let id = sighting.track();
        let announced = std::mem::replace(&mut known.state, TrackState::Known(id));
        let content = match (announced, sighting) {
            (TrackState::Announced(content), Sighting::New(track)) => {
                Some(TrackContent { track, ..*content })
            }
            _ => None,
        };
        Ok((id, content))
    }

    fn lane(&mut self, lane: LaneId) -> &mut LaneAddresses {
        let index = lane.0 as usize;
        if index >= self.lanes.len() {
            self.lanes.resize_with(index + 1, LaneAddresses::default);
        }
        &mut self.lanes[index]
    }
}

/// A listener's address, given now if the name has none.
fn numbered(
    users: &mut HashMap<Box<str>, UserId>,
    names: &mut Vec<Box<str>>,
    name: &str,
) -> UserId {
    let next = UserId(u32::try_from(names.len()).unwrap_or(u32::MAX));
    let user = *users.entry_ref(name).or_insert(next);
    if user == next {
        names.push(name.into());
    }
    user
}

fn check_next(lane: LaneId, what: &str, number: u32, expected: usize) -> Result<(), EngineError> {
    if number as usize == expected {
        return Ok(());
    }
    Err(EngineError::Address(format!(
        "lane {} announces {what} {number} where {expected} follows",
        lane.0
    )))
}

fn unannounced(lane: LaneId, what: &str, number: u32) -> EngineError {
    EngineError::Address(format!(
        "lane {} speaks of {what} {number}, which it has not announced",
        lane.0
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(track: u32, key: u128) -> Box<TrackContent> {
        Box::new(TrackContent {
            track: TrackId(track),
            key: TrackKey(key),
            artist: "a".into(),
            title: "t".into(),
        })
    }

    #[test]
    fn addresses_follow_the_first_plays_and_not_the_announcements() {
        let mut addresses = Addresses::new(Arc::default());
        let (one, two) = (LaneId(1), LaneId(2));
        for (track, key) in [(0, 70), (1, 80)] {
            addresses.announce_track(one, content(track, key)).unwrap();
        }
        addresses.announce_track(two, content(0, 80)).unwrap();
        let (track, new) = addresses.track(two, TrackId(0)).unwrap();
        assert_eq!((track, new.unwrap().key), (TrackId(0), TrackKey(80)));
        let (track, new) = addresses.track(one, TrackId(1)).unwrap();
        assert_eq!(
            (track, new),
            (TrackId(0), None),
            "known from the other lane"
        );
        let (track, new) = addresses.track(one, TrackId(0)).unwrap();
        assert_eq!((track, new.unwrap().track), (TrackId(1), TrackId(1)));

        addresses.announce_listener(one, 0, "ann".into()).unwrap();
        addresses.announce_listener(two, 0, "bob".into()).unwrap();
        addresses.announce_listener(two, 1, "ann".into()).unwrap();
        assert_eq!(addresses.user(two, 0).unwrap(), UserId(0));
        assert_eq!(addresses.user(one, 0).unwrap(), UserId(1));
        assert_eq!(addresses.user(two, 1).unwrap(), UserId(1), "one person");
        assert_eq!(
            (addresses.name(UserId(1)), addresses.listeners()),
            ("ann", 2)
        );
    }

    #[test]
    fn what_was_not_announced_is_a_bug_with_a_name() {
        let mut addresses = Addresses::new(Arc::default());
        let error = addresses.user(LaneId(3), 5).unwrap_err().to_string();
        assert!(error.contains("lane 3 speaks of listener 5"), "{error}");
        let error = addresses.announce_track(LaneId(3), content(2, 1));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("track 2 where 0 follows"), "{error}");
    }
}
