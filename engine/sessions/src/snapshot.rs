//! The listening stage's state as a checkpoint keeps it.

use segue_flow::Remedy;
use segue_flow::stage::StageError;
use segue_listen::session::Session;
use segue_listen::{EventTime, History, Play, Sessions};
use serde::{Deserialize, Serialize};

use super::stage::{ListeningStage, Slot};

/// All listeners of a lane, by slot.
#[derive(Debug, Serialize, Deserialize)]
pub struct ListeningState {
    horizon: EventTime,
    slots: Vec<SlotState>,
    timers: Vec<(EventTime, u32)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SlotState {
    sessions: Vec<Session>,
    armed: bool,
    #[serde(with = "segue_listen::rows")]
    plays: Vec<Play>,
    forgotten: Vec<(EventTime, u32)>,
}

impl ListeningStage {
    pub(crate) fn state(&self) -> ListeningState {
        let slot = |slot: &Slot| SlotState {
            sessions: slot.sessions.iter().copied().collect(),
            armed: slot.armed,
            plays: slot.history.iter().copied().collect(),
            forgotten: slot.forgotten.clone(),
        };
        ListeningState {
            horizon: self.horizon,
            slots: self.slots.iter().map(slot).collect(),
            timers: self.timers.iter().collect(),
        }
    }

    pub(crate) fn take_up(&mut self, state: ListeningState) -> Result<(), StageError> {
        let mut armed = vec![false; state.slots.len()];
        for (due, slot) in state.timers {
            match armed.get_mut(slot as usize) {
                Some(armed) if !*armed => *armed = true,
                _ => return Err(torn(format!("slot {slot} has a timer too many"))),
            }
            self.timers.arm(due, slot);
        }
        self.horizon = state.horizon;
        self.slots.clear();
        for (number, (slot, has_timer)) in state.slots.into_iter().zip(armed).enumerate() {
            if slot.armed != has_timer {
                return Err(torn(format!("slot {number} and its timer disagree")));
            }
            self.slots.push(Slot {
                sessions: Sessions::restored(slot.sessions),
                armed: slot.armed,
                history: History::of(slot.plays),
                forgotten: slot.forgotten,
            });
        }
        Ok(())
    }
}

fn torn(detail: String) -> StageError {
    StageError {
        stage: "sessions",
        detail,
        remedy: Remedy::Restore,
    }
}
