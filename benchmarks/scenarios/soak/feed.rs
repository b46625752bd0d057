//! Plays without end: one pass of simulated plays that comes again, later each time, so that time goes
//! on and the listeners and tracks stay who they are.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use segue_benchmarks::feed::deliver;
use segue_flow::clock::{MachineClock, WallClock};
use segue_kafka::KafkaSink;
use segue_listen::{Listen, Span};
use segue_replay::{Simulator, SimulatorSettings};

/// Plays that are written at once.
const PORTION: usize = 20_000;
/// How long it waits before it looks again whether there is room.
const LOOK: Duration = Duration::from_millis(20);

/// One pass, and where it is.
pub struct Passes {
    pass: Vec<Listen>,
    at: usize,
    /// From one pass to the next.
    period: Span,
    later: Span,
}

/// How far the feeder and the engine are.
#[derive(Debug, Default)]
pub struct Progress {
    pub fed: AtomicU64,
    pub taken: AtomicU64,
    /// The engine has ended.
    pub over: AtomicBool,
}

impl Progress {
    /// Plays that wait for the engine.
    pub fn waiting(&self) -> u64 {
        let (fed, taken) = (&self.fed, &self.taken);
        let taken = taken.load(Ordering::Relaxed);
        fed.load(Ordering::Relaxed).saturating_sub(taken)
    }
}

impl Passes {
    pub fn simulate(settings: SimulatorSettings, listens: usize) -> anyhow::Result<Self> {
        let pass: Vec<Listen> = Simulator::new(settings)?.take(listens).collect();
        let (first, last) = pass.first().zip(pass.last()).context("no plays")?;
        let period = last.at.since(first.at).plus(Span::from_minutes(1));
        Ok(Self {
            at: 0,
            period,
            later: Span::ZERO,
            pass,
        })
    }

    fn portion(&mut self) -> impl Iterator<Item = Listen> + use<'_> {
        if self.at >= self.pass.len() {
            self.at = 0;
            self.later = self.later.plus(self.period);
        }
        let from = self.at;
        self.at = (from + PORTION).min(self.pass.len());
        let later = self.later;
        let portion = self.pass.get(from..self.at).unwrap_or_default();
        portion.iter().map(move |listen| Listen {
            at: listen.at.plus(later),
            ..listen.clone()
        })
    }

    /// Writes portions until so many plays wait for the engine.
    pub fn fill(
        &mut self,
        sink: &mut KafkaSink,
        to: (&str, u32),
        ahead: u64,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        while progress.waiting() < ahead && !progress.over.load(Ordering::Relaxed) {
            let fed = deliver(self.portion(), to, sink)?;
            progress.fed.fetch_add(fed, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The same again and again, until the engine has ended.
    pub fn feed(
        mut self,
        mut sink: KafkaSink,
        to: (&str, u32),
        ahead: u64,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        let clock = MachineClock::start();
        while !progress.over.load(Ordering::Relaxed) {
            self.fill(&mut sink, to, ahead, progress)?;
            clock.sleep(LOOK);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_plays_come_again_and_time_goes_on() {
        let settings = SimulatorSettings::default();
        let mut passes = Passes::simulate(settings, PORTION + 10).unwrap();
        let first: Vec<_> = passes.portion().collect();
        let rest: Vec<_> = passes.portion().collect();
        let again: Vec<_> = passes.portion().collect();
        assert_eq!((first.len(), rest.len()), (PORTION, 10));
        assert!(again[0].at > rest[9].at);
        for (one, other) in first.iter().zip(&again) {
            assert_eq!((&one.user, one.track), (&other.user, other.track));
        }
        let times: Vec<_> = again.iter().map(|listen| listen.at).collect();
        assert!(times.is_sorted());
    }
}
