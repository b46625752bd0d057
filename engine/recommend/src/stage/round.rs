//! The parts of a round: vectors collected, tracks admitted, plays measured and learnt from, listeners
//! answered.

use std::time::Duration;

use segue_flow::names::{self, Name};
use segue_flow::queue::Received;

use super::{EngineError, Prediction, RecommendStage, is_measured};
use crate::ladder::Budget;

/// How long the encoder is waited for before new tracks are offered to it again.
const ENCODER_PATIENCE: Duration = Duration::from_millis(10);

impl RecommendStage {
    /// Hands new tracks to the encoder; never waits.
    pub(super) fn announce(&mut self) -> Result<(), EngineError> {
        let news = std::mem::take(&mut self.newcomers);
        match &mut self.parts.encoder {
            Some(encoder) if !news.0.is_empty() => {
                self.content.announced(news.0.len());
                encoder
                    .arrivals
                    .send(news)
                    .map_err(|_| EngineError::EncoderGone)
            }
            _ => Ok(()),
        }
    }

    /// Takes in the vectors that are ready.
    pub(super) fn collect(&mut self) -> Result<(), EngineError> {
        if let Some(encoder) = &mut self.parts.encoder {
            while let Some(encoded) = encoder.encoded.ready() {
                self.content.take(encoded);
            }
        }
        Ok(())
    }

    /// Waits until every announced track has been encoded. Both queues are bounded and the encoder
    /// waits for us too: so what it holds is taken while what we hold is offered.
    pub(super) fn collect_all(&mut self) -> Result<(), EngineError> {
        self.announce()?;
        let Some(encoder) = &mut self.parts.encoder else {
            return Ok(());
        };
        while self.content.outstanding() > 0 {
            encoder
                .arrivals
                .try_flush()
                .map_err(|_| EngineError::EncoderGone)?;
            match encoder.encoded.receive(ENCODER_PATIENCE) {
                Received::Batch(encoded) => self.content.take(encoded),
                Received::Nothing => {}
                Received::Over => return Err(EngineError::EncoderGone),
            }
        }
        Ok(())
    }

    pub(super) fn measure_and_learn(&mut self) -> Result<(), EngineError> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        if let Some(ladder) = &mut self.ladder {
            let examples = self.chunk.examples();
            let asks = self.chunk.asks();
            let mut columns = Vec::new();
            let unmeasured = &self.settings.unmeasured;
            for recommender in ladder
                .recommenders()
                .filter(|r| is_measured(*r, unmeasured))
            {
                let mut ranks = Vec::with_capacity(asks.len());
                recommender.rank_of(&asks, self.chunk.actual(), &mut ranks)?;
                for (rank, facts) in ranks.iter_mut().zip(self.chunk.facts()) {
                    if facts.cold_track {
                        *rank = None;
                    }
                }
                columns.push(ranks);
            }
            if let Some(prequential) = &mut self.prequential {
                let columns: Vec<&[Option<u32>]> = columns.iter().map(Vec::as_slice).collect();
                prequential.record(self.chunk.facts(), &columns)?;
            }
            for (name, report) in ladder.learn(self.round, &examples)? {
                if let Some(loss) = report.loss {
                    self.losses.push((name.to_owned(), self.round.0, loss));
                }
            }
        }
        self.chunk.clear();
        Ok(())
    }

    pub(super) fn admit(&mut self) -> Result<(), EngineError> {
        if let Some(ladder) = &mut self.ladder {
            let admitted = self.content.to_admit();
            if !admitted.is_empty() {
                ladder.admit(&admitted)?;
            }
        }
        self.content.admitted();
        Ok(())
    }

    /// Answers every listener of the epoch once, after their newest play.
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
                Some(limit) if !self.settings.exact => Budget::Within { limit, now: &now },
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
