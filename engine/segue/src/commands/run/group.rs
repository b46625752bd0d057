//! One of several instances: it shares the topic's partitions with the others of its consumer group.
//!
//! Share by share: the lanes go on from where they were held last, run until the group asks them back,
//! and what was read is committed before they are given up. Who was away too long has lost them; nothing
//! that it did since its last commit is seen, and it waits for its next share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use segue_flow::barrier::BarrierCall;
use segue_flow::checkpoint::CheckpointStore;
use segue_flow::clock::{MachineClock, WallClock};
use segue_flow::lane::{AtEnd, LaneSettings};
use segue_flow::names::{self, Name};
use segue_flow::{LaneId, Remedy, SinkError, Source};
use segue_kafka::{Fence, Holding, KafkaSink, KafkaSource, Member, Settings, Until, topics};
use segue_recommend::stage::{Checkpointing, EngineError, RunSummary, StageSettings};

use super::{Run, counting, output_topics, transactional};
use crate::config::Config;
use crate::http::Phase;
use crate::keying;
use crate::pipeline::{self, Pipeline};
use crate::recovery::{self, Committed};
use crate::shares;
use crate::stuck::Attendance;
use crate::watch::RunWatcher;

/// The longest name of an instance, in bytes: it is part of a folder's name and of every commit.
const LONGEST_NAME: usize = 64;
/// How long one question for what is committed may take, before it is seen whether to go on asking.
const ASK: Duration = Duration::from_secs(1);
/// How often a loss is looked for where a commit failed.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One instance and what it works with.
struct Instance<'a> {
    run: &'a Run,
    config: &'a Config,
    name: &'a str,
    partitions: u32,
    clock: Arc<MachineClock>,
}

/// Runs as the instance `name` until `stop` is raised.
///
/// # Errors
/// What is asked for does not go with a group; whatever stops a run.
pub(super) fn run(
    run: &Run,
    config: &Config,
    name: &str,
    stop: &Arc<AtomicBool>,
    phase: &Phase,
) -> Result<RunSummary> {
    check(run, config, name)?;
    let (kafka, topic) = (&config.kafka, &config.stream.topic);
    let partitions = topics::partitions(kafka, topic)?;
    for output in output_topics(config) {
        topics::ensure_topic(kafka, output, partitions)?;
    }
    let instance = Instance {
        run,
        config,
        name,
        partitions,
        clock: Arc::new(MachineClock::start()),
    };
    let stopped = || stop.load(Ordering::Relaxed);
    let mut summary = RunSummary::default();
    let mut alone_is_over = false;
    let mut member = Member::join(kafka, topic, name, stop.clone())?;
    while let Some(holding) = member.wait(stopped)? {
        if !alone_is_over {
            // A run without a name commits for all partitions. It may not start while the group has
            // members; one that started before us ends here.
            KafkaSink::open(kafka, &transactional(config, None), None)?;
            alone_is_over = true;
        }
        match instance.share(&holding, phase) {
            Ok(Some(done)) => summary = done,
            Ok(None) => {}
            Err(error) if instance.has_lost(&holding, &error) => {
                names::count(Name::SharesLost, 1);
                tracing::warn!("{error:#}: nothing of it is committed, others do it again");
            }
            Err(error) => return Err(error),
        }
        member = holding.release();
    }
    Ok(summary)
}

fn check(run: &Run, config: &Config, name: &str) -> Result<()> {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-_".contains(&c);
    if name.len() > LONGEST_NAME || !name.bytes().all(plain) {
        bail!(
            "kafka.instance = {name:?}: a name is made of at most {LONGEST_NAME} of a-z, 0-9, - and _"
        );
    }
    if run.no_checkpoints {
        bail!(
            "--no-checkpoints: lanes move between the instances of a group with their state, which is in \
             the checkpoints; leave it out, or run alone (without kafka.instance)"
        );
    }
    if config.recommend.train_plays > 0 {
        bail!(
            "recommend.train_plays = {}: models are taught by a run alone, on all partitions; set it to 0, \
             or leave kafka.instance out",
            config.recommend.train_plays
        );
    }
    if config.has_trained_models() {
        bail!(
            "models.trained is set: models answer and learn in a run alone, on all partitions; leave it \
             empty, or leave kafka.instance out"
        );
    }
    if run.is_bounded() || run.from != super::From::Stored {
        bail!(
            "--until-now, --until-end and --from are for a run alone: an instance of a group goes on from \
             what is committed, until it is stopped (leave them out, or kafka.instance)"
        );
    }
    Ok(config.checkpoint.check()?)
}

impl Instance<'_> {
    /// Works on a share until it is asked back. `None` where that was before it had begun.
    fn share(&self, holding: &Member<Holding>, phase: &Phase) -> Result<Option<RunSummary>> {
        let (config, lanes) = (self.config, holding.lanes());
        let topic = &config.stream.topic;
        if config.recommend.exact && lanes.len() < self.partitions as usize {
            bail!(
                "recommend.exact puts the plays of all lanes into one order, and this instance has {} of \
                 {}: run one instance, or without it",
                lanes.len(),
                self.partitions
            );
        }
        phase.restoring();
        // The sink first: it ends a transaction that an instance of this name has left open.
        let sink = self.sink(holding.fence())?;
        let Some(committed) = self.committed(holding)? else {
            return Ok(None);
        };
        let mut store = CheckpointStore::open(&config.checkpoint.of_instance(self.name))?;
        let restored = shares::find(&mut store, Some(self.name), lanes, &committed, config)?;
        if committed.is_empty() && self.partitions > 1 && !self.run.any_keys {
            let now = lanes.iter().map(|lane| self.source(*lane, Until::Now));
            keying::check(&mut now.collect::<Result<Vec<_>>>()?, topic)?;
        }
        let sources = lanes.iter().map(|lane| self.source(*lane, Until::Forever));
        let (watcher, _) = RunWatcher::new(0, self.clock.clone())?;
        phase.running();
        let done = pipeline::run(Pipeline {
            sources: lanes
                .iter()
                .copied()
                .zip(sources.collect::<Result<Vec<_>>>()?)
                .collect(),
            stage: StageSettings {
                lanes: self.partitions,
                ..config.stage()
            },
            lane: LaneSettings {
                at_end: AtEnd::Leave,
                ..config.lane()
            },
            checkpointing: Some(Checkpointing {
                store,
                call: BarrierCall::default(),
                every: config.checkpoint.every,
                topic: topic.clone(),
                fixed: recovery::fixed(config),
            }),
            restored,
            watcher: Box::new(watcher),
            clock: self.clock.clone(),
            stop: holding.recalled(),
            attendance: Attendance {
                phase: phase.clone(),
                ..config.attendance()
            },
            ..counting(config, Vec::new(), Box::new(sink))
        })?;
        Ok(Some(done))
    }

    fn sink(&self, fence: Fence) -> Result<KafkaSink> {
        let guarantee = transactional(self.config, Some(self.name));
        let sink = KafkaSink::open(
            &self.config.kafka,
            &guarantee,
            Some(&self.config.stream.topic),
        )?;
        Ok(sink.within(fence))
    }

    fn source(&self, lane: LaneId, until: Until) -> Result<Box<dyn Source>> {
        let topic = &self.config.stream.topic;
        let source = KafkaSource::open(&self.config.kafka, topic, lane.0, until)?;
        Ok(Box::new(source))
    }

    /// What is committed of all lanes. What an instance was about to commit when it fell silent is
    /// waited for: until it commits after all, or its transaction times out. `None` where the share is
    /// asked back meanwhile.
    fn committed(&self, holding: &Member<Holding>) -> Result<Option<Committed>> {
        let brief = Settings {
            connect_within: ASK,
            ..self.config.kafka.clone()
        };
        let recalled = holding.recalled();
        let longest = super::open_for(self.config) + self.config.kafka.connect_within;
        let begun = self.clock.now();
        loop {
            match topics::committed(&brief, &self.config.stream.topic) {
                Ok(committed) => return Ok(Some(super::committed(committed))),
                Err(_) if recalled.load(Ordering::Relaxed) => return Ok(None),
                Err(error) if error.remedy() == Remedy::Retry => {
                    if self.clock.now() > begun + longest {
                        return Err(error).context("what the group has committed cannot be learnt");
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether a share failed because it is another's. The brokers may say so of a commit before the
    /// member hears it from the group; and who was away longer than a transaction lasts is told other
    /// things.
    fn has_lost(&self, holding: &Member<Holding>, error: &anyhow::Error) -> bool {
        let Some(EngineError::Sink(error)) = error.downcast_ref() else {
            return false;
        };
        if matches!(error, SinkError::Revoked { .. }) {
            return true;
        }
        let until = self.clock.now() + self.config.kafka.session_timeout / 2;
        while !holding.is_lost() && self.clock.now() < until {
            self.clock.sleep(LOOK_EVERY);
        }
        holding.is_lost()
    }
}
