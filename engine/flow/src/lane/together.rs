//! Several lanes on one thread, in turn. Which lanes share a thread, and how many threads there are,
//! changes nothing of what any of them says: each has its own source, state and watermark.

use std::time::Duration;

use super::{Decode, FIRST_RETRY, LONGEST_RETRY, Lane, LaneError, LaneState};
use crate::clock::WallClock;
use crate::names::{self, Name};
use crate::remedy::Remedy;
use crate::source::Source;
use crate::stage::Stage;

/// Where a lane's turns stand.
struct Turns {
    /// How it ended.
    over: Option<LaneState>,
    /// Until when it waits before it asks again a source that could not be reached.
    waits_until: Duration,
    /// How long it waits the next time.
    wait: Duration,
}

/// Runs lanes until each of them has ended, its receiver is gone, or `stop` says so (then what was
/// read is handed over, and open sessions stay open for the next start); tells how each ended. A source
/// that cannot be reached is tried again, at growing intervals, while the other lanes go on.
///
/// # Errors
/// See [`LaneError`]: the first of any lane.
pub fn run_together<S, D, G>(
    lanes: &mut [Lane<S, D, G>],
    wall: &dyn WallClock,
    stop: &dyn Fn() -> bool,
) -> Result<Vec<LaneState>, LaneError>
where
    S: Source,
    D: Decode<Item = G::In, News = G::Out>,
    G: Stage,
{
    let mut turns: Vec<Turns> = lanes
        .iter()
        .map(|_| Turns {
            over: None,
            waits_until: Duration::ZERO,
            wait: FIRST_RETRY,
        })
        .collect();
    // Lanes in a row that had nothing: once all of them had, they are waited for, each a part of the
    // time that one alone would be.
    let mut silent = 0;
    loop {
        let active = turns.iter().filter(|turns| turns.over.is_none()).count();
        if active == 0 {
            let states = turns.into_iter().filter_map(|turns| turns.over);
            return Ok(states.collect());
        }
        let share = u32::try_from(active).unwrap_or(u32::MAX);
        for (lane, turns) in lanes.iter_mut().zip(&mut turns) {
            if turns.over.is_some() {
                continue;
            }
            let quiet = silent >= active;
            let patience = match quiet {
                true => lane.settings.patience / share,
                false => Duration::ZERO,
            };
            let before = lane.work.position;
            if wall.now() < turns.waits_until {
                // Where no other lane has anything to do, time is to pass all the same.
                if quiet {
                    wall.sleep(patience);
                }
            } else {
                match lane.step(wall, patience) {
                    Ok(LaneState::Running) => turns.wait = FIRST_RETRY,
                    Ok(LaneState::Ended) => {
                        turns.over = Some(lane.last(wall, LaneState::Ended)?);
                        continue;
                    }
                    Ok(LaneState::Disconnected) => {
                        turns.over = Some(LaneState::Disconnected);
                        continue;
                    }
                    Err(LaneError::Source { lane, error }) if error.remedy() == Remedy::Retry => {
                        names::count(Name::SourceRetries, 1);
                        tracing::warn!(lane = lane.0, %error, wait = ?turns.wait, "trying again");
                        turns.waits_until = wall.now() + turns.wait;
                        turns.wait = (2 * turns.wait).min(LONGEST_RETRY);
                    }
                    Err(error) => return Err(error),
                }
            }
            silent = match lane.work.position == before {
                true => silent + 1,
                false => 0,
            };
            if stop() {
                turns.over = Some(lane.last(wall, LaneState::Running)?);
                continue;
            }
            lane.answer_call(wall)?;
        }
    }
}
