//! Which windows are learnt from, and which judge.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use segue_recommend::training::TrainingLog;

use crate::settings::E4SRecSettings;
use crate::windows::{BLOCK, covering};

/// One window: a listener, and where in their plays it lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Window {
    pub listener: usize,
    pub begin: usize,
    /// Where the block begins for whose sake it is read.
    pub block: usize,
    pub end: usize,
}

/// What a window is read for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// To be learnt from.
    Training,
    /// To judge what was learnt.
    HeldOut,
}

/// All windows, divided. A play of a block that is held out is never a target of training, in whichever
/// window it lies; it is read there, as what was played before.
#[derive(Debug)]
pub(super) struct Plan {
    pub training: Vec<Window>,
    pub held_out: Vec<Window>,
    share: f64,
    seed: u64,
}

impl Plan {
    /// The newest windows of all listeners, in turn, as many as the settings say. With one epoch there
    /// is nothing to choose, so nothing is held out; and a log too small to be divided is learnt from
    /// whole.
    pub fn new(log: &TrainingLog, settings: &E4SRecSettings) -> Self {
        let offline = &settings.offline;
        let windows = newest(log, settings.lookback, offline.windows);
        let share = match offline.epochs {
            0 | 1 => 0.0,
            _ => offline.validation,
        };
        let mut plan = Self {
            training: Vec::new(),
            held_out: Vec::new(),
            share,
            seed: settings.seed,
        };
        let held = |window: &Window| plan.holds_out(log, window.listener, window.block);
        let (held_out, training): (Vec<Window>, Vec<Window>) =
            windows.iter().copied().partition(held);
        if training.is_empty() {
            plan.share = 0.0;
            plan.training = windows;
        } else {
            (plan.training, plan.held_out) = (training, held_out);
        }
        plan
    }

    /// The places of a window's targets among the listener's plays.
    pub fn targets<'a>(
        &'a self,
        log: &'a TrainingLog,
        window: Window,
        part: Part,
    ) -> impl Iterator<Item = usize> + 'a {
        let from = match part {
            Part::Training => window.begin,
            Part::HeldOut => window.block,
        };
        (from..window.end).filter(move |at| match part {
            Part::Training => !self.holds_out(log, window.listener, at / BLOCK * BLOCK),
            Part::HeldOut => true,
        })
    }

    /// Whether a listener's block is held out: drawn by the listener's key, not by who else there is.
    fn holds_out(&self, log: &TrainingLog, listener: usize, block: usize) -> bool {
        if self.share <= 0.0 {
            return false;
        }
        let key = log.keys.get(listener).copied().unwrap_or(0);
        let mut rng = ChaCha8Rng::seed_from_u64(key ^ self.seed.rotate_left(17));
        rng.set_stream(block as u64);
        rng.random_bool(self.share)
    }
}

/// The newest windows of all listeners, in turn, until there are enough.
fn newest(log: &TrainingLog, lookback: usize, most: usize) -> Vec<Window> {
    let mut by_age: Vec<(usize, Window)> = Vec::new();
    for (listener, plays) in log.sequences().enumerate() {
        let blocks = (0..).step_by(BLOCK);
        let all: Vec<_> = blocks.zip(covering(plays.len(), lookback)).collect();
        for (age, (block, range)) in all.into_iter().rev().enumerate() {
            let window = Window {
                listener,
                begin: range.start,
                block,
                end: range.end,
            };
            by_age.push((age, window));
        }
    }
    by_age.sort_by_key(|&(age, _)| age);
    by_age.truncate(most);
    by_age.into_iter().map(|(_, window)| window).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::windows::tests_support::plays_of;

    fn settings() -> E4SRecSettings {
        let mut settings = E4SRecSettings::default();
        settings.offline.epochs = 3;
        settings.offline.validation = 0.3;
        settings
    }

    fn log(names: &[&str]) -> TrainingLog {
        let mut log = TrainingLog::default();
        for name in names {
            log.push_named(name, plays_of(0..230));
        }
        log
    }

    /// (listener, place) of every target.
    fn targets(plan: &Plan, log: &TrainingLog, part: Part) -> BTreeSet<(u64, usize)> {
        let windows = match part {
            Part::Training => &plan.training,
            Part::HeldOut => &plan.held_out,
        };
        let of = |window: &Window| {
            let key = log.keys[window.listener];
            let all: Vec<_> = plan.targets(log, *window, part).collect();
            all.into_iter().map(move |at| (key, at))
        };
        windows.iter().flat_map(of).collect()
    }

    #[test]
    fn what_judges_is_never_learnt_from_and_nothing_is_lost() {
        let names: Vec<String> = (0..40).map(|n| format!("listener {n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let log = log(&names);
        let plan = Plan::new(&log, &settings());
        let training = targets(&plan, &log, Part::Training);
        let held_out = targets(&plan, &log, Part::HeldOut);
        assert!(training.is_disjoint(&held_out));
        assert_eq!(training.len() + held_out.len(), 40 * 230);
        let share = plan.held_out.len() as f64 / (plan.held_out.len() + plan.training.len()) as f64;
        assert!((share - 0.3).abs() < 0.1, "{share}");
        // Who is held out of one listener is not decided by who else there is.
        let fewer = super::tests::log(&names[20..]);
        let plan = Plan::new(&fewer, &settings());
        let again = targets(&plan, &fewer, Part::HeldOut);
        assert!(!again.is_empty() && again.is_subset(&held_out));
        let mut other = settings();
        other.seed = 9;
        let plan = Plan::new(&log, &other);
        assert_ne!(targets(&plan, &log, Part::HeldOut), held_out);
    }

    #[test]
    fn nothing_is_held_out_where_there_is_nothing_to_choose() {
        let log = log(&["ann", "bob"]);
        let mut one = settings();
        one.offline.epochs = 1;
        let plan = Plan::new(&log, &one);
        assert_eq!((plan.training.len(), plan.held_out.len()), (10, 0));
        assert_eq!(targets(&plan, &log, Part::Training).len(), 460);
        // A single block cannot be divided, whatever is drawn.
        let mut short = TrainingLog::default();
        short.push_named("ann", plays_of(0..30));
        for seed in 0..10 {
            let plan = Plan::new(&short, &E4SRecSettings { seed, ..settings() });
            assert_eq!((plan.training.len(), plan.held_out.len()), (1, 0));
            assert_eq!(targets(&plan, &short, Part::Training).len(), 30);
        }
    }
}
