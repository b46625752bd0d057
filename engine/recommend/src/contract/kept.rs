//! Two recommenders that should be one: made the same way, or one from the other's state.

use segue_flow::{Epoch, Remedy};
use segue_listen::TrackId;

use super::{Make, Suite, ensure, fine, rank_of, recommend};
use crate::recommender::{Example, Recommender};

impl Suite {
    /// Goes on from a checkpoint as if nothing had happened, or says that it cannot be kept.
    pub(super) fn kept_or_refused(&self, make: &mut Make<'_>) -> Result<(), String> {
        let mut one = self.learnt(make)?;
        let state = match one.snapshot() {
            Ok(state) => state,
            Err(error) => {
                return ensure(error.remedy == Remedy::Configure, || {
                    format!("what cannot be kept is for people to settle: {error}")
                });
            }
        };
        let mut other = make();
        fine("taking up a state", other.restore(&state, &self.admitted()))?;
        self.same_state(&*one, &*other)?;
        self.alike(&mut *one, &mut *other)?;
        self.learn_alike(&mut *one, &mut *other)?;
        self.alike(&mut *one, &mut *other)?;
        self.same_state(&*one, &*other)?;
        let cut = state.get(..state.len() / 2).unwrap_or(&[]);
        for torn in [cut, b"rubbish"] {
            ensure(make().restore(torn, &self.admitted()).is_err(), || {
                "a state that is torn must be refused".to_owned()
            })?;
        }
        Ok(())
    }

    /// States are the same, byte by byte.
    fn same_state(&self, one: &dyn Recommender, other: &dyn Recommender) -> Result<(), String> {
        let (one, other) = (
            fine("keeping a state", one.snapshot())?,
            fine("keeping a state", other.snapshot())?,
        );
        ensure(one == other, || {
            let differs = one.iter().zip(&other).position(|(a, b)| a != b);
            format!(
                "what was restored goes on as what was not: states of {} and {} bytes differ at {differs:?}",
                one.len(),
                other.len()
            )
        })
    }

    /// Ranks and lists of two recommenders are the same.
    pub(super) fn alike(
        &self,
        one: &mut dyn Recommender,
        other: &mut dyn Recommender,
    ) -> Result<(), String> {
        let asks = self.asks();
        let actual: Vec<TrackId> = (0u32..)
            .take(asks.len())
            .map(|at| TrackId(at % self.fixture.tracks.max(1)))
            .collect();
        self.same_ranks(
            &rank_of(one, &asks, &actual)?,
            &rank_of(other, &asks, &actual)?,
        )?;
        let lists = recommend(one, &asks, 10)?;
        for (list, again) in lists.iter().zip(&recommend(other, &asks, 10)?) {
            self.same_list(list, again)?;
        }
        Ok(())
    }

    /// Both learn the same from many examples at once.
    pub(super) fn learn_alike(
        &self,
        one: &mut dyn Recommender,
        other: &mut dyn Recommender,
    ) -> Result<(), String> {
        let examples: Vec<Example<'_>> = self.chunk.examples();
        let learn =
            |recommender: &mut dyn Recommender| recommender.learn(Epoch(1_000), &examples).ok();
        match (learn(one), learn(other)) {
            (Some(one), Some(other)) => ensure(one.examples == other.examples, || {
                format!("the same examples are learnt the same: {one:?} {other:?}")
            }),
            _ => Err("learning from many examples at once must not fail".to_owned()),
        }
    }
}
