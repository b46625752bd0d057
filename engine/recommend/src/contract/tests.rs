use super::*;
use crate::popularity::MostPopular;
use crate::recommender::{Example, LearnReport, Tier};

/// Ways to be wrong that a suite worth its name finds.
#[derive(Clone, Copy)]
enum Fault {
    None,
    OptimisticTies,
    MasksHistory,
    RanksUnknown,
    RemembersQuestions,
    IgnoresContent,
    Unseeded,
    AnswersOnce,
}

struct Faulty {
    inner: MostPopular,
    fault: Fault,
    asked: u32,
    salt: u32,
}

impl Recommender for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }
    fn tier(&self) -> Tier {
        Tier::Popularity
    }
    fn admit(&mut self, tracks: &[Admitted<'_>]) -> Result<(), RecommendError> {
        let bad = |content: &[f32]| content.len() != 4 || content.iter().any(|x| !x.is_finite());
        let refused = !matches!(self.fault, Fault::IgnoresContent)
            && tracks.iter().any(|track| track.content.is_some_and(bad));
        if refused {
            return Err(RecommendError {
                recommender: "faulty",
                detail: "bad content".to_owned(),
                remedy: segue_flow::Remedy::Configure,
            });
        }
        self.inner.admit(tracks)
    }
    fn recommend(
        &mut self,
        asks: &[Ask<'_>],
        limit: usize,
        out: &mut Vec<Ranking>,
    ) -> Result<(), RecommendError> {
        let from = out.len();
        self.inner.recommend(asks, limit, out)?;
        match self.fault {
            Fault::MasksHistory => {
                for (ask, list) in asks.iter().zip(&mut out[from..]) {
                    list.tracks
                        .retain(|s| ask.context.iter().all(|p| p.track != s.track));
                }
            }
            Fault::AnswersOnce => out.truncate(from + 1),
            _ => {}
        }
        Ok(())
    }
    fn rank_of(
        &mut self,
        asks: &[Ask<'_>],
        actual: &[TrackId],
        ranks: &mut Vec<Option<u32>>,
    ) -> Result<(), RecommendError> {
        let from = ranks.len();
        self.inner.rank_of(asks, actual, ranks)?;
        for rank in &mut ranks[from..] {
            self.asked += 1;
            match self.fault {
                Fault::OptimisticTies => *rank = rank.map(|rank| rank.div_ceil(2)),
                Fault::RanksUnknown => *rank = rank.or(Some(40)),
                Fault::RemembersQuestions if self.asked > 60 && self.asked.is_multiple_of(2) => {
                    *rank = rank.map(|rank| rank % 40 + 1);
                }
                Fault::Unseeded if self.salt > 0 => *rank = rank.map(|rank| rank % 40 + 1),
                _ => {}
            }
        }
        Ok(())
    }
    fn learn(
        &mut self,
        epoch: Epoch,
        examples: &[Example<'_>],
    ) -> Result<LearnReport, RecommendError> {
        self.inner.learn(epoch, examples)
    }
}

fn verdict(fault: Fault) -> Result<(), Breach> {
    let mut made = 0;
    recommender_contract(
        || {
            made += 1;
            Box::new(Faulty {
                inner: MostPopular::new(1.0),
                fault,
                asked: 0,
                salt: made % 2,
            })
        },
        &Fixture::with_content(4),
    )
}

#[test]
fn the_suite_finds_what_is_wrong() {
    verdict(Fault::None).unwrap();
    for (fault, clause) in [
        (Fault::OptimisticTies, "score at least as high"),
        (Fault::MasksHistory, "not masked"),
        (Fault::RanksUnknown, "no track has a rank"),
        (Fault::RemembersQuestions, "rank"),
        (Fault::IgnoresContent, "must be refused"),
        (Fault::Unseeded, "rank"),
        (Fault::AnswersOnce, "answers were appended"),
    ] {
        let breach = verdict(fault).unwrap_err().to_string();
        assert!(breach.contains(clause), "{breach}");
        assert!(breach.contains("faulty breaks its contract"));
    }
}
