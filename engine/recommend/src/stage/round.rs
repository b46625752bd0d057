//! The parts of a round: tracks admitted, plays measured and learnt from, listeners answered.

use segue_flow::names::{self, Name};

use super::measuring::spread;
use super::{EngineError, Prediction, RecommendStage, is_measured, look_back};
use crate::ladder::Budget;
use crate::recommender::Example;

impl RecommendStage {
    pub(super) fn measure_and_learn(&mut self) -> Result<(), EngineError> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        if self.ladder.is_some() {
            self.measure()?;
        }
        if let Some(ladder) = &mut self.ladder {
            for (name, report) in ladder.learn(self.round, &self.chunk.examples())? {
                if let Some(loss) = report.loss {
                    self.losses.note(name, self.round.0, loss);
                }
            }
        }
        self.chunk.clear();
        self.look_back()
    }

    /// Measures the plays of the round, or as many as there is time for.
    fn measure(&mut self) -> Result<(), EngineError> {
        let mut open: Vec<usize> = (0..self.chunk.len()).collect();
        self.measuring.open_round(self.share);
        loop {
            let some = self.measuring.affords(open.len());
            let places = spread(&mut open, some);
            if places.is_empty() {
                break;
            }
            if self.measuring.is_limited() {
                let before = self.parts.clock.now();
                self.measure_some(&places)?;
                let took = self.parts.clock.now().saturating_sub(before);
                self.measuring.took(places.len(), took);
            } else {
                self.measure_some(&places)?;
            }
        }
        self.tally.not_measured(open.len());
        Ok(())
    }

    /// Measures the plays at these places of the round, which ascend.
    fn measure_some(&mut self, places: &[usize]) -> Result<(), EngineError> {
        let (Some(ladder), Some(prequential)) = (&mut self.ladder, &mut self.prequential) else {
            return Ok(());
        };
        let all = self.chunk.asks();
        let asks: Vec<_> = at(places, &all).collect();
        let actual: Vec<_> = at(places, self.chunk.actual()).collect();
        let facts: Vec<_> = at(places, self.chunk.facts()).collect();
        let mut columns = Vec::new();
        let unmeasured = &self.settings.unmeasured;
        for recommender in ladder
            .recommenders()
            .filter(|r| is_measured(*r, unmeasured))
        {
            let mut ranks = Vec::with_capacity(asks.len());
            recommender.rank_of(&asks, &actual, &mut ranks)?;
            for (rank, facts) in ranks.iter_mut().zip(&facts) {
                if facts.cold_track {
                    *rank = None;
                }
            }
            columns.push(ranks);
        }
        let columns: Vec<&[Option<u32>]> = columns.iter().map(Vec::as_slice).collect();
        prequential.record(&facts, &columns)?;
        let examples = asks
            .iter()
            .zip(&actual)
            .map(|(&ask, &actual)| Example { ask, actual });
        let plays: Vec<_> = examples.zip(facts.iter().copied()).collect();
        look_back::draw(ladder, prequential, &plays)
    }

    /// Tracks and vectors that came are the recommenders' from here on; what could not be encoded is told.
    pub(super) fn admit(&mut self) -> Result<(), EngineError> {
        let changed = self.content.settle();
        if let Some(ladder) = &mut self.ladder {
            let admitted = self.content.to_admit(&changed);
            if !admitted.is_empty() {
                ladder.admit(&admitted)?;
            }
            let nothing_encodes = self.encodings.is_empty();
            for track in admitted
                .iter()
                .filter(|t| nothing_encodes || t.content.is_some())
            {
                self.fresh.admitted(track.track);
            }
        }
        self.content.admitted();
        for fault in self.content.take_faults() {
            self.fresh.given_up(&fault, &self.content);
            if let Some(content) = self.content.track(fault.track) {
                let sink = &mut *self.parts.sink;
                self.records.content_fault(sink, content, &fault)?;
            }
        }
        Ok(())
    }

    /// Answers every listener who has played since they were last answered, after their newest play.
    pub(super) fn answer(&mut self) -> Result<(), EngineError> {
        let asked = std::mem::take(&mut self.asked);
        self.asked_at.clear();
        if let Some(ladder) = &mut self.ladder
            && self.settings.top > 0
            && !asked.is_empty()
        {
            let asks: Vec<_> = asked
                .iter()
                .map(|asked| self.listeners.ask(asked.user))
                .collect();
            let mut answers = Vec::with_capacity(asks.len());
            let clock = &*self.parts.clock;
            let now = || clock.now();
            let budget = match self.settings.answer_within {
                Some(limit) if !self.settings.exact => Budget::Within {
                    limit: limit.mul_f64(self.share),
                    now: &now,
                },
                _ => Budget::Unlimited,
            };
            ladder.recommend(&asks, self.settings.top, &budget, &mut answers)?;
            for (asked, answer) in asked.iter().zip(&answers) {
                let user = self.addresses.name(asked.user);
                let tracks = self.content.described(&answer.ranking);
                let key = self.content.key(asked.track);
                let by = (answer.recommender, answer.tier);
                let prediction = Prediction::new(user, key, asked.at, self.round, by);
                self.records
                    .prediction(&mut *self.parts.sink, prediction, tracks)?;
                names::count_for(Name::Predictions, "recommender", answer.recommender, 1);
            }
            self.predictions += answers.len() as u64;
            let now = self.parts.clock.now();
            for seen_at in self.fresh.predicted() {
                let after = now.saturating_sub(seen_at);
                names::observe(Name::Freshness, after);
                self.parts.watcher.fresh(after);
            }
        }
        let now = self.parts.clock.now();
        for (read_at, plays) in self.waiting.drain(..) {
            let latency = now.saturating_sub(read_at.max(self.taught_at));
            names::observe(Name::EventToPrediction, latency);
            self.parts.watcher.answered(latency, plays);
        }
        Ok(())
    }
}

fn at<'a, T: Copy>(places: &'a [usize], of: &'a [T]) -> impl Iterator<Item = T> + 'a {
    places.iter().filter_map(|&place| of.get(place).copied())
}
