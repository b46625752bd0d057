//! A lane's state as the bytes of a checkpoint's part.

use segue_listen::{EventTime, Watermark};
use serde::{Deserialize, Serialize};

use super::{Decode, Lane, Work};
use crate::checkpoint::{decode, encode_in};
use crate::epoch::{Epoch, Offset};
use crate::remedy::Remedy;
use crate::source::Source;
use crate::stage::{Stage, StageError};

/// The version of [`State`]; what is nested in it has no versions of its own.
const VERSION: u16 = 2;

/// What names a lane's state in a part's header.
const ROOM: &str = "lane";

#[derive(Serialize, Deserialize)]
struct State<D, G, I> {
    position: Offset,
    highest: Option<EventTime>,
    released: Option<EventTime>,
    tick: Option<i64>,
    held: Vec<(EventTime, I)>,
    decoder: D,
    stage: G,
}

impl<S, D, G> Lane<S, D, G>
where
    S: Source,
    D: Decode<Item = G::In, News = G::Out>,
    G: Stage,
{
    /// Goes on from a state that a [`Barrier`](crate::barrier::Barrier) carried: the source is sought
    /// to the record after the last one in it.
    ///
    /// # Errors
    /// A state that cannot be read, of a newer version, or that does not fit; an offset that the
    /// source no longer has.
    pub fn restore(&mut self, state: &[u8]) -> Result<(), StageError> {
        let lane = self.id.0;
        let wrong = |detail: String| StageError {
            stage: "lane",
            detail: format!("lane {lane}: {detail}"),
            remedy: Remedy::Restore,
        };
        let state: State<D::Snapshot, G::Snapshot, G::In> =
            decode(ROOM, VERSION, state).map_err(|error| wrong(error.to_string()))?;
        self.source
            .seek(state.position)
            .map_err(|error| wrong(error.to_string()))?;
        let work = &mut self.work;
        work.position = state.position;
        work.clock.restore(state.highest);
        work.released.restore(state.released);
        work.tick = state.tick;
        work.held = state.held;
        work.decoder.restore(state.decoder)?;
        work.stage.restore(state.stage)
    }
}

impl<D, G> Work<D, G>
where
    D: Decode<Item = G::In>,
    G: Stage,
{
    /// The state between two batches, in memory that there is already: nothing is waiting to be absorbed.
    pub(super) fn state(&self, number: u64, memory: Vec<u8>) -> Result<Vec<u8>, StageError> {
        let state = State {
            position: self.position,
            highest: self.clock.highest(),
            released: self.released.watermark().map(Watermark::time),
            tick: self.tick,
            held: self.held.clone(),
            decoder: self.decoder.snapshot(),
            stage: self.stage.snapshot(Epoch(number)),
        };
        encode_in(memory, ROOM, VERSION, &state).map_err(|error| StageError {
            stage: "lane",
            detail: error.to_string(),
            remedy: Remedy::Bug,
        })
    }
}
