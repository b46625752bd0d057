//! Degrade, never block: the best recommender that fits the time there is.
//!
//! The ladder holds recommenders from the dearest to the cheapest. For every batch of questions each
//! rung takes as many of those still open as its measured cost lets it answer in the time that is
//! left, and the last rung takes the rest. A rung that fails, or has nothing to say to a question,
//! leaves it to the next. Who answered is part of the answer.
//!
//! It reads no clock: the time comes from the caller, and without a budget (exact mode) the time is
//! never asked for.

use std::time::Duration;

use segue_flow::{Epoch, Remedy};
use serde::Serialize;

use crate::recommender::{
    Admitted, Ask, Example, LearnReport, Ranking, RecommendError, Recommender, Tier,
};

/// How fast a measured cost forgets: the weight of the newest measurement.
const NEWEST_WEIGHT: f64 = 0.2;

/// What is left of a rung's estimated cost each time it is passed over for want of time. So a rung
/// that was slow once (a cold device) is tried again: after a tenfold overestimate, some 230 batches
/// later.
const FORGIVENESS: f64 = 0.99;

/// One answered question.
#[derive(Clone, PartialEq, Debug)]
pub struct Answer {
    /// What to play next, best first.
    pub ranking: Ranking,
    /// Which rung of the ladder answered.
    pub tier: Tier,
    /// Which recommender.
    pub recommender: &'static str,
}

/// How much time a batch may take.
pub enum Budget<'a> {
    /// As much as the first rung needs: results depend on no clock.
    Unlimited,
    /// At most about `limit`, by a clock that only moves forward (`segue_flow::clock`).
    Within {
        /// From the call on.
        limit: Duration,
        /// The time now.
        now: &'a dyn Fn() -> Duration,
    },
}

/// What became of the questions that reached a rung.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct RungCounts {
    /// Questions it answered.
    pub answered: u64,
    /// Questions it passed on because the time would not have sufficed.
    pub over_budget: u64,
    /// Questions it passed on because it failed.
    pub failed: u64,
    /// Questions it passed on because it had no track to offer.
    pub empty: u64,
}

/// A rung's account, for reports and metrics.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct RungReport {
    /// The recommender.
    pub name: &'static str,
    /// Its tier.
    pub tier: Tier,
    /// What became of its questions.
    #[serde(flatten)]
    pub counts: RungCounts,
    /// What a question is expected to cost it, in seconds, once measured.
    pub seconds_per_ask: Option<f64>,
}

struct Rung {
    recommender: Box<dyn Recommender>,
    counts: RungCounts,
    /// Seconds per question, a moving mean.
    cost: Option<f64>,
}

/// The recommenders by tier. One owner.
pub struct Ladder {
    rungs: Vec<Rung>,
}

impl Ladder {
    /// A ladder of these recommenders, from the dearest to the cheapest. The last one always answers.
    ///
    /// # Errors
    /// Without any recommender.
    pub fn new(recommenders: Vec<Box<dyn Recommender>>) -> Result<Self, RecommendError> {
        if recommenders.is_empty() {
            return Err(RecommendError {
                recommender: "ladder",
                detail: "no recommender to ask: configure at least one tier".to_owned(),
                remedy: Remedy::Configure,
            });
        }
        let rungs = recommenders
            .into_iter()
            .map(|recommender| Rung {
                recommender,
                counts: RungCounts::default(),
                cost: None,
            })
            .collect();
        Ok(Self { rungs })
    }

    /// The recommenders, from the dearest to the cheapest: what is evaluated is what answers.
    pub fn recommenders(&mut self) -> impl Iterator<Item = &mut (dyn Recommender + 'static)> {
        self.rungs.iter_mut().map(|rung| &mut *rung.recommender)
    }

    /// Every rung's account.
    pub fn report(&self) -> Vec<RungReport> {
        let rungs = self.rungs.iter();
        rungs
            .map(|rung| RungReport {
                name: rung.recommender.name(),
                tier: rung.recommender.tier(),
                counts: rung.counts,
                seconds_per_ask: rung.cost,
            })
            .collect()
    }

    /// Admits tracks to every rung.
    ///
    /// # Errors
    /// The first rung's that failed; the others have admitted them all the same.
    pub fn admit(&mut self, tracks: &[Admitted<'_>]) -> Result<(), RecommendError> {
        self.recommenders()
            .map(|recommender| recommender.admit(tracks))
            .fold(Ok(()), Result::and)
    }

    /// Lets every rung learn; their reports by name.
    ///
    /// # Errors
    /// The first rung's that failed; the others have learnt all the same.
    pub fn learn(
        &mut self,
        epoch: Epoch,
        examples: &[Example<'_>],
    ) -> Result<Vec<(&'static str, LearnReport)>, RecommendError> {
        let learnt: Vec<_> = self
            .recommenders()
            .map(|rung| Ok((rung.name(), rung.learn(epoch, examples)?)))
            .collect();
        learnt.into_iter().collect()
    }

    /// Answers every question with up to `limit` tracks, appended to `out` in order.
    ///
    /// # Errors
    /// The last rung's, if questions reached it and it failed; nothing is appended then.
    pub fn recommend(
        &mut self,
        asks: &[Ask<'_>],
        limit: usize,
        budget: &Budget<'_>,
        out: &mut Vec<Answer>,
    ) -> Result<(), RecommendError> {
        let start = budget.now();
        let mut answers: Vec<Option<Answer>> = vec![None; asks.len()];
        let mut open: Vec<usize> = (0..asks.len()).collect();
        let mut batch: Vec<Ask<'_>> = Vec::new();
        let mut rankings: Vec<Ranking> = Vec::new();
        let last = self.rungs.len().saturating_sub(1);
        for (place, rung) in self.rungs.iter_mut().enumerate() {
            if open.is_empty() {
                break;
            }
            let is_last = place == last;
            let takes = if is_last {
                open.len()
            } else {
                rung.affords(open.len(), budget.left(start))
            };
            let passed_on = open.split_off(takes);
            rung.counts.over_budget += passed_on.len() as u64;
            batch.clear();
            batch.extend(open.iter().filter_map(|&at| asks.get(at)).copied());
            rankings.clear();
            let outcome = rung.ask(&batch, limit, budget, &mut rankings);
            let mut unanswered = Vec::new();
            match outcome {
                Ok(()) => {
                    for (&at, ranking) in open.iter().zip(rankings.drain(..)) {
                        if ranking.tracks.is_empty() && !is_last {
                            rung.counts.empty += 1;
                            unanswered.push(at);
                            continue;
                        }
                        rung.counts.answered += 1;
                        if let Some(answer) = answers.get_mut(at) {
                            *answer = Some(Answer {
                                ranking,
                                tier: rung.recommender.tier(),
                                recommender: rung.recommender.name(),
                            });
                        }
                    }
                }
                Err(error) => {
                    rung.counts.failed += open.len() as u64;
                    if is_last {
                        return Err(error);
                    }
                    unanswered.append(&mut open);
                }
            }
            unanswered.extend(passed_on);
            open = unanswered;
        }
        out.extend(answers.into_iter().flatten());
        Ok(())
    }
}

impl Budget<'_> {
    fn now(&self) -> Duration {
        match self {
            Budget::Unlimited => Duration::ZERO,
            Budget::Within { now, .. } => now(),
        }
    }

    /// What is left of it; `None` if there is no end.
    fn left(&self, start: Duration) -> Option<Duration> {
        match self {
            Budget::Unlimited => None,
            Budget::Within { limit, now } => {
                Some(limit.saturating_sub(now().saturating_sub(start)))
            }
        }
    }
}

impl Rung {
    /// How many of `open` questions it can answer in the time that is left. A rung that was never
    /// measured is given one.
    fn affords(&mut self, open: usize, left: Option<Duration>) -> usize {
        let Some(left) = left else { return open };
        if left.is_zero() {
            return 0;
        }
        let takes = match self.cost {
            None => 1,
            Some(cost) if cost <= 0.0 => open,
            // A float beyond `usize` saturates.
            Some(cost) => (left.as_secs_f64() / cost) as usize,
        };
        if takes == 0 {
            self.cost = self.cost.map(|cost| cost * FORGIVENESS);
        }
        takes.min(open)
    }

    fn ask(
        &mut self,
        batch: &[Ask<'_>],
        limit: usize,
        budget: &Budget<'_>,
        rankings: &mut Vec<Ranking>,
    ) -> Result<(), RecommendError> {
        if batch.is_empty() {
            return Ok(());
        }
        let before = budget.now();
        let outcome = self.recommender.recommend(batch, limit, rankings);
        if let Budget::Within { now, .. } = budget {
            let cost = now().saturating_sub(before).as_secs_f64() / batch.len() as f64;
            self.cost = Some(match self.cost {
                None => cost,
                Some(mean) => mean + NEWEST_WEIGHT * (cost - mean),
            });
        }
        outcome?;
        if rankings.len() == batch.len() {
            return Ok(());
        }
        Err(RecommendError {
            recommender: self.recommender.name(),
            detail: format!(
                "{} rankings for {} asks: one each is needed",
                rankings.len(),
                batch.len()
            ),
            remedy: Remedy::Bug,
        })
    }
}

#[cfg(test)]
mod tests;
