use super::*;
use crate::recommender::Scored;
use segue_listen::{TrackId, UserId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A recommender that takes a time on a clock that the test owns.
struct Slow {
    name: &'static str,
    tier: Tier,
    clock: Arc<AtomicU64>,
    millis_per_ask: Arc<AtomicU64>,
    outcome: fn(&Ask<'_>) -> Result<usize, ()>,
}

impl Recommender for Slow {
    fn name(&self) -> &'static str {
        self.name
    }
    fn tier(&self) -> Tier {
        self.tier
    }
    fn admit(&mut self, _: &[Admitted<'_>]) -> Result<(), RecommendError> {
        Ok(())
    }
    fn recommend(
        &mut self,
        asks: &[Ask<'_>],
        _: usize,
        out: &mut Vec<Ranking>,
    ) -> Result<(), RecommendError> {
        let millis = self.millis_per_ask.load(Ordering::Relaxed) * asks.len() as u64;
        self.clock.fetch_add(millis, Ordering::Relaxed);
        for ask in asks {
            let tracks = (self.outcome)(ask).map_err(|()| RecommendError {
                recommender: self.name,
                detail: "the device is gone".to_owned(),
                remedy: Remedy::Retry,
            })?;
            let scored = Scored {
                track: TrackId(ask.user.0),
                score: 1.0,
            };
            out.push(Ranking {
                tracks: vec![scored; tracks],
            });
        }
        Ok(())
    }
    fn rank_of(
        &mut self,
        _: &[Ask<'_>],
        _: &[TrackId],
        _: &mut Vec<Option<u32>>,
    ) -> Result<(), RecommendError> {
        Ok(())
    }
    fn learn(&mut self, _: Epoch, _: &[Example<'_>]) -> Result<LearnReport, RecommendError> {
        Ok(LearnReport::default())
    }
}

struct House {
    clock: Arc<AtomicU64>,
    dear: Arc<AtomicU64>,
    ladder: Ladder,
}

fn house(outcome: fn(&Ask<'_>) -> Result<usize, ()>) -> House {
    let clock = Arc::new(AtomicU64::new(5));
    let dear = Arc::new(AtomicU64::new(10));
    let slow = |name, tier, cost: &Arc<AtomicU64>, outcome| {
        Box::new(Slow {
            name,
            tier,
            clock: clock.clone(),
            millis_per_ask: cost.clone(),
            outcome,
        }) as Box<dyn Recommender>
    };
    let free = Arc::new(AtomicU64::new(0));
    let ladder = Ladder::new(vec![
        slow("dear", Tier::LanguageModel, &dear, outcome),
        slow("cheap", Tier::Popularity, &free, |_| Ok(1)),
    ]);
    House {
        ladder: ladder.unwrap(),
        clock,
        dear,
    }
}

impl House {
    /// Who answered whom.
    fn ask(&mut self, asks: u32, millis: Option<u64>) -> Vec<&'static str> {
        let asks: Vec<Ask<'_>> = (0..asks)
            .map(|user| Ask {
                user: UserId(user),
                plays: 0,
                context: &[],
            })
            .collect();
        let clock = self.clock.clone();
        let now = || Duration::from_millis(clock.load(Ordering::Relaxed));
        let budget = match millis {
            None => Budget::Unlimited,
            Some(millis) => Budget::Within {
                limit: Duration::from_millis(millis),
                now: &now,
            },
        };
        let mut out = Vec::new();
        self.ladder.recommend(&asks, 5, &budget, &mut out).unwrap();
        assert_eq!(out.len(), asks.len());
        for (ask, answer) in asks.iter().zip(&out) {
            assert_eq!(answer.ranking.tracks[0].track.0, ask.user.0, "in order");
        }
        out.iter().map(|answer| answer.recommender).collect()
    }
}

#[test]
fn without_a_budget_the_first_rung_answers_and_no_clock_is_read() {
    let mut house = house(|_| Ok(1));
    assert_eq!(house.ask(3, None), ["dear"; 3]);
    assert_eq!(house.ladder.report()[0].seconds_per_ask, None);
}

#[test]
fn as_many_questions_as_fit_get_the_best_answer() {
    let mut house = house(|_| Ok(1));
    // Not measured yet: one question to learn the cost.
    assert_eq!(house.ask(3, Some(35)), ["dear", "cheap", "cheap"]);
    assert_eq!(
        house.ask(5, Some(35)),
        ["dear", "dear", "dear", "cheap", "cheap"]
    );
    assert_eq!(house.ask(2, Some(0)), ["cheap"; 2]);
    let report = house.ladder.report();
    assert_eq!(report[0].counts.answered, 4);
    assert_eq!(report[0].counts.over_budget, 6);
    assert_eq!(report[1].counts.answered, 6);
    assert_eq!(report[1].tier, Tier::Popularity);
}

#[test]
fn a_rung_that_was_slow_once_is_tried_again() {
    let mut house = house(|_| Ok(1));
    house.dear.store(400, Ordering::Relaxed);
    assert_eq!(house.ask(1, Some(40)), ["dear"]);
    house.dear.store(1, Ordering::Relaxed);
    assert_eq!(house.ask(1, Some(40)), ["cheap"]);
    let waited = (0..1_000).take_while(|_| house.ask(1, Some(40)) == ["cheap"]);
    assert!(waited.count() < 300);
    for _ in 0..20 {
        house.ask(1, Some(40));
    }
    assert_eq!(house.ask(8, Some(40)), ["dear"; 8]);
}

#[test]
fn failures_and_silence_fall_to_the_next_rung() {
    let mut failing = house(|ask| if ask.user.0 == 1 { Err(()) } else { Ok(1) });
    assert_eq!(failing.ask(3, None), ["cheap"; 3]);
    assert_eq!(failing.ladder.report()[0].counts.failed, 3);
    let mut silent = house(|ask| Ok(usize::from(ask.user.0 != 1)));
    assert_eq!(silent.ask(3, None), ["dear", "cheap", "dear"]);
    assert_eq!(silent.ladder.report()[0].counts.empty, 1);
}

#[test]
fn the_last_rungs_failure_is_the_ladders_and_appends_nothing() {
    let failing = house(|_| Err(())).ladder.rungs.remove(0);
    let mut ladder = Ladder::new(vec![failing.recommender]).unwrap();
    let ask = Ask {
        user: UserId(0),
        plays: 0,
        context: &[],
    };
    let mut out = Vec::new();
    let error = ladder
        .recommend(&[ask], 5, &Budget::Unlimited, &mut out)
        .unwrap_err();
    assert_eq!(error.to_string(), "dear: the device is gone");
    assert!(out.is_empty());
    assert!(Ladder::new(Vec::new()).is_err());
}
