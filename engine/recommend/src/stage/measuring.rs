//! Which plays of a round are measured, where there is no time to measure them all.
//!
//! Every round brings a budget of time, and what measuring took is paid from it, as a debt if it took
//! longer: over some rounds measuring takes no more than its budgets, however wrong an estimate was.
//! What is measured is spread evenly over the round, and every recommender sees the same plays, so
//! that differences stay paired. The other plays are learnt from all the same, and counted.

use std::time::Duration;

/// How fast a measured cost forgets: the weight of the newest measurement.
const NEWEST_WEIGHT: f64 = 0.2;

/// The account of a stage.
#[derive(Debug)]
pub(super) struct Measuring {
    /// Seconds a round; `None`: whatever it takes.
    budget: Option<f64>,
    credit: f64,
    /// Seconds per play by all recommenders together, a moving mean.
    cost: Option<f64>,
}

impl Measuring {
    pub(super) fn new(within: Option<Duration>) -> Self {
        Self {
            budget: within.map(|within| within.as_secs_f64()),
            credit: 0.0,
            cost: None,
        }
    }

    /// A round begins, with this share of its budget.
    pub(super) fn open_round(&mut self, share: f64) {
        let Some(budget) = self.budget else { return };
        // Saved up for one play at least: one that costs more than a round's budget is measured in
        // some of the rounds.
        let most = budget.max(self.cost.unwrap_or_default());
        self.credit = (self.credit + budget * share).min(most);
    }

    /// Whether what it takes has to be told.
    pub(super) const fn is_limited(&self) -> bool {
        self.budget.is_some()
    }

    /// How many of `open` plays there is time for. What was never measured is tried with one.
    pub(super) fn affords(&self, open: usize) -> usize {
        if self.budget.is_none() {
            return open;
        }
        match self.cost {
            _ if self.credit <= 0.0 => 0,
            None => open.min(1),
            Some(cost) if cost <= 0.0 => open,
            // A float beyond `usize` saturates.
            Some(cost) => ((self.credit / cost) as usize).min(open),
        }
    }

    /// Something else that measures took so long.
    pub(super) fn pays(&mut self, time: Duration) {
        self.credit -= time.as_secs_f64();
    }

    /// So many plays took so long.
    pub(super) fn took(&mut self, plays: usize, time: Duration) {
        self.pays(time);
        let cost = time.as_secs_f64() / plays.max(1) as f64;
        self.cost = Some(match self.cost {
            None => cost,
            Some(mean) => mean + NEWEST_WEIGHT * (cost - mean),
        });
    }
}

/// Takes `some` of the places out of `open`, evenly spread and in order.
pub(super) fn spread(open: &mut Vec<usize>, some: usize) -> Vec<usize> {
    let all = open.len();
    if some >= all {
        return std::mem::take(open);
    }
    let mut taken = Vec::with_capacity(some);
    let mut at = 0;
    open.retain(|&place| {
        let takes = (at + 1) * some / all > at * some / all;
        at += 1;
        if takes {
            taken.push(place);
        }
        !takes
    });
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn without_a_budget_everything_is_measured() {
        let mut measuring = Measuring::new(None);
        measuring.open_round(0.0);
        assert_eq!(measuring.affords(512), 512);
        assert!(!measuring.is_limited());
    }

    #[test]
    fn what_is_measured_takes_no_longer_than_the_budgets_together() {
        let mut measuring = Measuring::new(Some(SECOND));
        let (mut measured, mut rounds) = (0, 0);
        for round in 0..1_000 {
            measuring.open_round(0.5);
            // Ten times dearer than was thought, from the middle on.
            let cost = if round < 500 { 1 } else { 10 } * SECOND / 100;
            let mut open = 512;
            while open > 0 {
                let plays = measuring.affords(open);
                if plays == 0 {
                    break;
                }
                open -= plays;
                measured += plays;
                measuring.took(plays, cost * plays as u32);
                rounds += 1;
            }
        }
        // Half a second buys 50 plays, then 5.
        assert!((26_500..=27_600).contains(&measured), "{measured}");
        assert!(rounds >= 900, "in nearly every round: {rounds}");
    }

    #[test]
    fn a_play_that_costs_more_than_a_round_is_measured_in_some_rounds() {
        let mut measuring = Measuring::new(Some(SECOND));
        let mut measured = 0;
        for _ in 0..1_000 {
            measuring.open_round(1.0);
            let plays = measuring.affords(512);
            if plays > 0 {
                measured += plays;
                measuring.took(plays, 50 * SECOND * plays as u32);
            }
        }
        assert!((19..=21).contains(&measured), "{measured}");
    }

    #[test]
    fn what_is_taken_is_spread_evenly_and_nothing_is_lost() {
        let mut open: Vec<usize> = (0..10).collect();
        assert_eq!(spread(&mut open, 3), [3, 6, 9]);
        assert_eq!(open, [0, 1, 2, 4, 5, 7, 8]);
        assert_eq!(spread(&mut open, 0), [] as [usize; 0]);
        assert_eq!(spread(&mut open, 99).len(), 7);
        assert!(open.is_empty());
    }
}
