//! The loop of a lane, from decoded plays to updates: judge, absorb, let time move on its grid.
//!
//! It does what [`segue_flow::lane::Lane`] does between decoding and handing over, with the lane's own
//! defaults, over plays that lie in memory; so a figure taken here is the stream core's and neither
//! the source's nor the decoder's.

use segue_flow::lane::LaneSettings;
use segue_flow::stage::{Stage, StageError};
use segue_listen::{Punctuality, WatermarkClock};
use segue_sessions::{Arrival, Update};

/// Drives one stage.
pub struct LaneLoop<S> {
    stage: S,
    clock: WatermarkClock,
    settings: LaneSettings,
    tick: Option<i64>,
    updates: Vec<Update>,
    seen: Seen,
}

/// What came out, digested: enough to tell two operators apart, cheap enough not to be what is
/// measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// Running updates of sessions.
    pub plays: u64,
    /// Completion ratios that became known.
    pub ratios: u64,
    /// Sessions that were closed.
    pub closed: u64,
    /// A digest of users, session sizes and ratios, in order.
    pub digest: u64,
}

impl Seen {
    #[inline]
    fn note(&mut self, update: &Update) {
        let mut mix = |value: u64| self.digest = self.digest.rotate_left(5).wrapping_add(value);
        match update {
            Update::Play(play) => {
                let ratio = play.previous.and_then(|previous| previous.part.ratio(None));
                mix(u64::from(play.slot) ^ u64::from(play.session.plays) << 32);
                self.plays += 1;
                if let Some(ratio) = ratio {
                    mix(u64::from(ratio.value().to_bits()));
                    self.ratios += 1;
                }
            }
            Update::Closed { slot, session } => {
                mix(u64::from(*slot) ^ u64::from(session.plays) << 40);
                self.closed += 1;
            }
            _ => {}
        }
    }
}

impl<S: Stage<In = Arrival, Out = Update>> LaneLoop<S> {
    /// A loop with the lane's defaults.
    pub fn new(stage: S) -> Self {
        let settings = LaneSettings::default();
        Self {
            stage,
            clock: WatermarkClock::new(settings.disorder, settings.lateness),
            settings,
            tick: None,
            updates: Vec::with_capacity(4 * settings.batch),
            seen: Seen::default(),
        }
    }

    /// Takes plays in, in batches of at most the lane's size.
    ///
    /// # Errors
    /// The stage's.
    pub fn take(&mut self, arrivals: &[Arrival]) -> Result<(), StageError> {
        let mut from = 0;
        for (index, arrival) in arrivals.iter().enumerate() {
            let too_late = self.clock.observe(arrival.at) == Punctuality::TooLate;
            let tick = self
                .clock
                .watermark()
                .map(|mark| mark.time().millis().div_euclid(self.settings.tick.millis()));
            let entered = tick != self.tick;
            if entered || too_late || index - from >= self.settings.batch {
                self.absorb(arrivals.get(from..index).unwrap_or(&[]))?;
                from = index + usize::from(too_late);
            }
            if entered {
                self.tick = tick;
                if let Some(mark) = self.clock.watermark() {
                    self.stage.advance(mark, &mut self.updates)?;
                }
            }
        }
        self.absorb(arrivals.get(from..).unwrap_or(&[]))?;
        self.hand_over();
        Ok(())
    }

    fn absorb(&mut self, batch: &[Arrival]) -> Result<(), StageError> {
        self.stage.absorb(batch, &mut self.updates)?;
        if self.updates.len() >= self.settings.batch {
            self.hand_over();
        }
        Ok(())
    }

    /// In place of the queue: each update is read once.
    fn hand_over(&mut self) {
        for update in &self.updates {
            self.seen.note(update);
        }
        self.updates.clear();
    }

    /// What came out so far.
    pub const fn seen(&self) -> Seen {
        self.seen
    }
}
