//! What is done to the engine, one life after another, at instants drawn by chance.

use std::time::Duration;

use anyhow::{Context, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use segue_flow::clock::{MachineClock, WallClock};
use segue_kafka::broker::Broker;

use super::engine::{Engine, Running};

/// Runs that may end by themselves before it is given up.
const ENDS: u64 = 20;
/// How long a start may take that is to refuse; one that lives longer has gone on.
const REFUSES_WITHIN: Duration = Duration::from_secs(10);
/// How long an instance may take to its first checkpoints, and a fenced one to its end.
const WORKS_WITHIN: Duration = Duration::from_secs(60);

/// What a file on a full disk may hold, in bytes: less than the stage's part, and more than what a life
/// says, which goes into a file too.
const FULL: &str = "16384";
/// What a run says of a checkpoint that it could not take.
const NO_CHECKPOINT: &str = "no checkpoint this time";

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disturbed {
    /// `kill -9` of the engine.
    pub kills: u64,
    /// `kill -9` of the broker.
    pub broker_kills: u64,
    /// Checkpoints damaged.
    pub damaged: u64,
    /// Starts that refused to go on since a checkpoint was damaged.
    pub refusals: u64,
    /// Times that checkpoints could not be written for a while, and then could.
    pub full_disks: u64,
    /// Frozen instances that ended by themselves once another had taken over.
    pub fenced: u64,
    /// Runs that ended by themselves, for no reason that was given them.
    pub ended_by_itself: u64,
    /// Runs that ended by themselves while the broker was away or had just come back.
    pub ended_in_outage: u64,
    /// Lives in which a checkpoint was taken: the others were too short.
    pub fruitful: u64,
}

/// What is done in one life, apart from its end by `kill -9`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Act {
    Nothing,
    /// The broker is killed, and started again.
    Broker,
    /// The newest checkpoint is damaged before the start.
    Damage,
    /// It is frozen while another takes over.
    Freeze,
    /// The disk of its checkpoints is full for a while.
    FullDisk,
}

impl Act {
    /// Spread over the run.
    fn of(kill: u64, kills: u64) -> Self {
        let at = |share: u64, of: u64| kill == kills * share / of;
        if at(1, 4) || at(3, 4) {
            Self::Broker
        } else if at(1, 3) || at(2, 3) {
            Self::Damage
        } else if at(1, 2) {
            Self::Freeze
        } else if at(2, 5) || at(4, 5) {
            Self::FullDisk
        } else {
            Self::Nothing
        }
    }
}

/// Has its way with an engine and its broker.
pub struct Disturber {
    pub engine: Engine,
    pub broker: Broker,
    rng: ChaCha8Rng,
    clock: MachineClock,
    done: Disturbed,
}

impl Disturber {
    pub fn new(engine: Engine, broker: Broker, seed: u64) -> Self {
        Self {
            engine,
            broker,
            rng: ChaCha8Rng::seed_from_u64(seed),
            clock: MachineClock::start(),
            done: Disturbed::default(),
        }
    }

    /// Kills the engine so many times, and does the rest in between.
    pub fn disturb(&mut self, kills: u64) -> anyhow::Result<Disturbed> {
        let bar = bar(kills);
        // There is something to lose from the first one on.
        self.at_work()?.kill()?;
        self.done.kills += 1;
        let mut tried = None;
        while self.done.kills < kills {
            let kill = self.done.kills;
            // Once each: where the life that it was done to ended by itself, a plain one follows.
            let act = match tried.replace(kill) == Some(kill) {
                true => Act::Nothing,
                false => Act::of(kill, kills),
            };
            let before = self.engine.checkpoints().last();
            let running = match act {
                Act::Nothing => self.live()?,
                Act::Broker => self.outage(&bar)?,
                Act::Damage => self.damage(&bar)?,
                Act::Freeze => Some(self.freeze(&bar)?),
                Act::FullDisk => Some(self.full_disk(&bar)?),
            };
            self.done.fruitful += u64::from(self.engine.checkpoints().last() > before);
            if let Some(running) = running {
                running.kill()?;
                self.done.kills += 1;
                bar.set_position(self.done.kills);
            }
        }
        bar.finish();
        Ok(self.done)
    }

    /// Of a start, to before it has restored its state or after; of work, over many commits.
    fn while_of_a_life(&mut self) -> Duration {
        Duration::from_millis(self.rng.random_range(100..2_500))
    }

    /// One start, left alone for a while: every other life, by chance, from its first checkpoint on,
    /// since to start can take longer than the while. `None` if it ended by itself.
    fn live(&mut self) -> anyhow::Result<Option<Running>> {
        if self.rng.random() {
            return self.at_work().map(Some);
        }
        let mut running = self.engine.start("life", &[])?;
        let life = self.while_of_a_life();
        let Some(status) = running.ended_within(life)? else {
            return Ok(Some(running));
        };
        self.done.ended_by_itself += 1;
        let said = running.said();
        eprintln!("ended by itself with {status}: {said}");
        ensure!(
            self.done.ended_by_itself < ENDS,
            "{ENDS} runs ended by themselves, the last one with: {said}"
        );
        Ok(None)
    }

    /// One start, left alone until it has taken a checkpoint, and a while.
    fn at_work(&mut self) -> anyhow::Result<Running> {
        let running = self.engine.start("work", &[])?;
        let checkpoints = self.engine.checkpoints();
        checkpoints
            .wait_for(1, WORKS_WITHIN)
            .with_context(|| running.said())?;
        let life = self.while_of_a_life();
        self.clock.sleep(life);
        Ok(running)
    }

    fn outage(&mut self, bar: &ProgressBar) -> anyhow::Result<Option<Running>> {
        bar.set_message("the broker is killed");
        let mut running = self.at_work()?;
        self.broker.kill();
        self.done.broker_kills += 1;
        let away = self.while_of_a_life();
        self.clock.sleep(away);
        self.broker.restart()?;
        bar.set_message("");
        let life = self.while_of_a_life();
        match running.ended_within(life)? {
            None => Ok(Some(running)),
            Some(status) => {
                self.done.ended_in_outage += 1;
                eprintln!(
                    "without the broker it ended with {status}: {}",
                    running.said()
                );
                Ok(None)
            }
        }
    }

    /// Either it goes on from a checkpoint that is whole, or it refuses, and gets the part back. It
    /// may not begin anew: what it wrote would be written again.
    fn damage(&mut self, bar: &ProgressBar) -> anyhow::Result<Option<Running>> {
        bar.set_message("the newest checkpoint is damaged");
        let damage = self.engine.checkpoints().damage(&mut self.rng)?;
        self.done.damaged += 1;
        let mut running = self.engine.start("damaged", &[])?;
        let ended = running.ended_within(REFUSES_WITHIN)?;
        bar.set_message("");
        let Some(status) = ended else {
            return Ok(Some(running));
        };
        let said = running.said();
        ensure!(
            !status.success() && said.contains("checkpoint"),
            "over a damaged checkpoint it ended with {status}: {said}"
        );
        eprintln!("refused: {said}");
        self.done.refusals += 1;
        damage.mend()?;
        Ok(None)
    }

    /// The run goes on without checkpoints, those there were are whole, and with room they go on.
    fn full_disk(&mut self, bar: &ProgressBar) -> anyhow::Result<Running> {
        bar.set_message("the disk of checkpoints is full");
        let mut running = self.at_work()?;
        running.leave_room(FULL)?;
        running.says(NO_CHECKPOINT, 1, WORKS_WITHIN)?;
        let last = self.engine.checkpoints().last();
        running.says(NO_CHECKPOINT, 3, WORKS_WITHIN)?;
        self.engine.verify()?;
        let still = running.ended_within(Duration::ZERO)?;
        ensure!(
            still.is_none(),
            "on a full disk it ended: {}",
            running.said()
        );
        let now = self.engine.checkpoints().last();
        ensure!(now == last, "checkpoint {now} on a full disk");
        running.leave_room("unlimited")?;
        self.engine
            .checkpoints()
            .wait_for(1, WORKS_WITHIN)
            .with_context(|| running.said())?;
        self.done.full_disks += 1;
        bar.set_message("");
        let life = self.while_of_a_life();
        self.clock.sleep(life);
        Ok(running)
    }

    /// The successor, once the frozen one has ended.
    fn freeze(&mut self, bar: &ProgressBar) -> anyhow::Result<Running> {
        bar.set_message("an instance is frozen");
        let mut frozen = self.at_work()?;
        frozen.freeze()?;
        self.engine.move_checkpoints()?;
        let mut successor = self.engine.start("successor", &[])?;
        // With the second checkpoint the first one has been committed.
        self.engine
            .checkpoints()
            .wait_for(2, WORKS_WITHIN)
            .with_context(|| successor.said())?;
        frozen.thaw()?;
        let ended = frozen.ended_within(WORKS_WITHIN)?;
        let status = ended.context("the frozen instance goes on beside the one that took over")?;
        ensure!(!status.success(), "the frozen instance ended well");
        eprintln!("fenced: {}", frozen.said());
        self.done.fenced += 1;
        let still = successor.ended_within(Duration::ZERO)?;
        ensure!(
            still.is_none(),
            "the one that took over ended: {}",
            successor.said()
        );
        bar.set_message("");
        Ok(successor)
    }
}

/// Hidden where nobody looks (no terminal).
fn bar(kills: u64) -> ProgressBar {
    let bar = ProgressBar::new(kills);
    let template = "{prefix:>8} [{elapsed_precise}] {bar:32} {pos}/{len} left {eta} {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_prefix("kills");
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_runs_have_all_of_it() {
        for kills in [10, 200] {
            let acts: Vec<Act> = (0..kills).map(|kill| Act::of(kill, kills)).collect();
            let count = |act| acts.iter().filter(|of| **of == act).count();
            let all = [Act::Broker, Act::Damage, Act::Freeze, Act::FullDisk].map(count);
            assert_eq!(all, [2, 2, 1, 2], "{kills}");
        }
    }
}
