//! `segue run`: a topic in, sessions and predictions out, in Kafka or the embedded log.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use segue_flow::barrier::BarrierCall;
use segue_flow::checkpoint::CheckpointStore;
use segue_flow::clock::MachineClock;
use segue_flow::lane::{AtEnd, LaneSettings};
use segue_flow::{Nowhere, Offset, Sink, Source};
use segue_log::Log;
use segue_recommend::popularity::{MostPopular, PersonalMostPop};
use segue_recommend::recommender::Recommender;
use segue_recommend::rules::SequentialRules;
use segue_recommend::stage::{Checkpointing, Restored, RunSummary, StageSettings};

use crate::answering::{answering, standstill};
use crate::config::Config;
use crate::http::{self, Phase};
use crate::keying;
use crate::pipeline::{self, Pipeline};
use crate::recovery::{self, Committed, Standing, Start};
use crate::shutdown;
use crate::stuck::Attendance;
use crate::watch::RunWatcher;

mod from;
#[cfg(feature = "kafka")]
mod group;

pub use from::From;

/// Successors that sequential rules remember per track.
const SUCCESSORS: usize = 100;

/// The name under which the embedded log keeps what a run has committed.
const WRITER: &str = "segue-run";

/// Where records come from and go to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Backend {
    /// The brokers of `[kafka]`.
    #[cfg(feature = "kafka")]
    Kafka,
    /// The directory of `[log]`.
    Log,
}

/// What a run reads and writes, and the checkpoint it goes on from.
struct Ends {
    sources: Vec<Box<dyn Source>>,
    sink: Box<dyn Sink>,
    committed: Committed,
    start: Start,
}

/// `segue run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Where listens are read and everything else is written.
    #[arg(long, value_enum, default_value = "log")]
    pub on: Backend,
    /// End when what is in the topic now has been worked off; sessions that are open stay open for
    /// the next run.
    #[arg(long)]
    pub until_now: bool,
    /// As --until-now, for a log that is complete: at its end all sessions close.
    #[arg(long, conflicts_with = "until_now")]
    pub until_end: bool,
    /// Where to begin: `stored` (where the last run left off), `earliest`, `latest`, or a time such as
    /// 2009-01-01, by the log's own stamps. All but `stored` begin with an empty state.
    #[arg(long, default_value = "stored", value_name = "WHERE")]
    pub from: From,
    /// Without checkpoints: results are committed round by round, and the next run begins at the
    /// first record again.
    #[arg(long)]
    pub no_checkpoints: bool,
    /// Do not look whether the topic is keyed by listener.
    #[arg(long)]
    pub any_keys: bool,
    /// With --on kafka: share the topic with the other instances of `kafka.group`, under this name. Over
    /// `kafka.instance`.
    #[arg(long, value_name = "NAME")]
    pub instance: Option<String>,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            on: Backend::Log,
            until_now: false,
            until_end: false,
            from: From::Stored,
            no_checkpoints: false,
            any_keys: false,
            instance: None,
        }
    }
}

impl Run {
    /// Runs until the end of the topic, or until a signal says so.
    ///
    /// # Errors
    /// Whatever stops it.
    pub fn run(&self, config: &Config) -> Result<()> {
        let stop = shutdown::on_signal(config.stream.drain_within())?;
        let phase = Phase::until(stop.clone());
        let metrics = http::record_metrics()?;
        if let Some(address) = config.http.listen {
            let bound = http::serve(address, phase.clone(), metrics)?;
            tracing::info!("health, readiness and metrics on http://{bound}");
        }
        let summary = self.engine(config, stop, &phase)?;
        phase.ended();
        println!("{}", serde_json::to_string_pretty(&summary)?);
        Ok(())
    }

    /// The same without signals and HTTP: what tests call.
    ///
    /// # Errors
    /// Whatever stops it.
    pub fn engine(
        &self,
        config: &Config,
        stop: Arc<AtomicBool>,
        phase: &Phase,
    ) -> Result<RunSummary> {
        if let Some(_name) = self.instance(config) {
            match self.on {
                #[cfg(feature = "kafka")]
                Backend::Kafka => return group::run(self, config, _name, &stop, phase),
                Backend::Log => {
                    bail!("--instance: the embedded log has one reader; use --on kafka")
                }
            }
        }
        let mut store = match self.no_checkpoints {
            true => None,
            false => {
                config.checkpoint.check()?;
                Some(CheckpointStore::open(&config.checkpoint)?)
            }
        };
        phase.restoring();
        let mut ends = self.ends(config, store.as_mut())?;
        if let Start::Before(restored) = ends.start {
            self.catch_up(
                config,
                store.take(),
                ends.sources,
                restored,
                &ends.committed,
            )?;
            drop(ends.sink);
            store = Some(CheckpointStore::open(&config.checkpoint)?);
            ends = self.ends(config, store.as_mut())?;
        }
        let restored = match ends.start {
            Start::Anew => None,
            Start::From(restored) => Some(restored),
            Start::Before(_) => bail!(
                "what is committed could not be caught up with from an older checkpoint: begin anew \
                 with --from earliest (what is read again is then written again)"
            ),
        };
        let (sources, sink) = (ends.sources, ends.sink);
        let checkpointing = store.map(|store| Checkpointing {
            store,
            call: BarrierCall::default(),
            every: config.checkpoint.every,
            topic: config.stream.topic.clone(),
            fixed: recovery::fixed(config),
        });
        let clock = Arc::new(MachineClock::start());
        let (watcher, _) = RunWatcher::new(0, clock.clone())?;
        phase.running();
        let at_end = match self.until_end {
            true => AtEnd::Close,
            false => AtEnd::Leave,
        };
        pipeline::run(Pipeline {
            lane: LaneSettings {
                at_end,
                ..config.lane()
            },
            checkpointing,
            restored,
            watcher: Box::new(watcher),
            clock,
            stop,
            attendance: Attendance {
                phase: phase.clone(),
                ..config.attendance()
            },
            ..answering(config, sources, sink)?
        })
    }

    /// Reads again what lies between an older checkpoint and what is committed, writes nothing, and
    /// keeps the state that comes of it as the checkpoint that is missing. Outside exact mode rounds
    /// may be cut elsewhere than they were; sessions and ratios are the same.
    fn catch_up(
        &self,
        config: &Config,
        store: Option<CheckpointStore>,
        sources: Vec<Box<dyn Source>>,
        restored: Restored,
        committed: &Committed,
    ) -> Result<()> {
        let store = store.context("there are no checkpoints to catch up from")?;
        let sources = sources.into_iter().zip(committed.positions());
        let sources = sources
            .map(|(source, end)| Box::new(recovery::Until::new(source, end)) as _)
            .collect();
        pipeline::run(Pipeline {
            lane: LaneSettings {
                at_end: AtEnd::Leave,
                idle_after: None,
                ..config.lane()
            },
            checkpointing: Some(Checkpointing {
                store,
                call: BarrierCall::default(),
                // Only the one at its end, which is that of the committed positions.
                every: Duration::MAX,
                topic: config.stream.topic.clone(),
                fixed: recovery::fixed(config),
            }),
            restored: Some(restored),
            ..answering(config, sources, Box::new(Nowhere))?
        })?;
        Ok(())
    }

    /// The name under which this run shares a topic, if it does.
    fn instance<'a>(&'a self, config: &'a Config) -> Option<&'a str> {
        #[cfg(feature = "kafka")]
        let configured = match self.on {
            Backend::Kafka => Some(config.kafka.instance.as_str()),
            Backend::Log => None,
        };
        #[cfg(not(feature = "kafka"))]
        let configured = None;
        let name = self.instance.as_deref().or(configured);
        name.filter(|name| !name.is_empty())
    }

    fn ends(&self, config: &Config, store: Option<&mut CheckpointStore>) -> Result<Ends> {
        match self.on {
            Backend::Log => self.log(config, store),
            #[cfg(feature = "kafka")]
            Backend::Kafka => self.kafka(config, store),
        }
    }

    /// Whoever goes on has looked before.
    const fn looks_at_keys(&self, partitions: u32, start: &Start) -> bool {
        partitions > 1 && !self.any_keys && matches!(start, Start::Anew)
    }

    const fn is_bounded(&self) -> bool {
        self.until_now || self.until_end
    }

    fn log(&self, config: &Config, store: Option<&mut CheckpointStore>) -> Result<Ends> {
        use segue_log::Until;
        let log = Log::open(&config.log)?;
        let topic = &config.stream.topic;
        let partitions = log.partitions(topic).with_context(|| {
            format!("put listens there first: segue replay FILE --to log (topic {topic})")
        })?;
        let sink = log.sink(WRITER)?;
        let last = || {
            let last = sink.last_commit();
            let mut lanes = vec![None; partitions as usize];
            for range in &last.inputs {
                if let Some(place) = lanes.get_mut(range.lane.0 as usize) {
                    *place = Some(Standing {
                        offset: range.to,
                        epoch: last.epoch,
                        instance: None,
                    });
                }
            }
            Ok(Committed { lanes })
        };
        let (committed, start) = self.stored(config, store, last)?;
        let until = if self.is_bounded() {
            Until::Now
        } else {
            Until::Forever
        };
        let open = |until| {
            each(partitions, |partition| {
                Ok(Box::new(log.source(topic, partition, until)?))
            })
        };
        if self.looks_at_keys(partitions, &start) {
            keying::check(&mut open(Until::Now)?, topic)?;
        }
        let mut sources = open(until)?;
        match self.from {
            From::Stored | From::Earliest => {}
            From::Latest => seek(&mut sources, log.ends(topic)?.into_iter().map(Offset))?,
            From::Time(_) => bail!("--from TIME: the embedded log has no stamps; use --on kafka"),
        }
        for topic in output_topics(config) {
            log.ensure_topic(topic, partitions)?;
        }
        Ok(Ends {
            sources,
            sink: Box::new(sink),
            committed,
            start,
        })
    }

    #[cfg(feature = "kafka")]
    fn kafka(&self, config: &Config, store: Option<&mut CheckpointStore>) -> Result<Ends> {
        use segue_kafka::{Guarantee, KafkaSink, KafkaSource, Until, member, topics};
        let (kafka, topic) = (&config.kafka, &config.stream.topic);
        let partitions = topics::partitions(kafka, topic)?;
        if partitions == 0 {
            bail!("topic {topic} has no partitions");
        }
        for topic in output_topics(config) {
            topics::ensure_topic(kafka, topic, partitions)?;
        }
        // The sink first: it fences off an instance of before, and ends its open transaction. Only
        // then is what is committed final.
        let guarantee = match store {
            None => Guarantee::Idempotent,
            Some(_) => transactional(config, None),
        };
        let sink = KafkaSink::open(kafka, &guarantee, Some(topic))?;
        // Only now: an instance that joins from here on fences this sink off.
        let members = member::members(kafka)?;
        if members > 0 {
            bail!(
                "group {:?} has {members} instances that share {topic}: join them with --instance NAME, \
                 or end them first (one that died is forgotten after its session)",
                kafka.group
            );
        }
        let (committed, start) = self.stored(config, store, || {
            Ok(committed(topics::committed(kafka, topic)?))
        })?;
        let until = if self.is_bounded() {
            Until::Now
        } else {
            Until::Forever
        };
        let open = |until| {
            each(partitions, |partition| {
                Ok(Box::new(KafkaSource::open(kafka, topic, partition, until)?))
            })
        };
        if self.looks_at_keys(partitions, &start) {
            keying::check(&mut open(Until::Now)?, topic)?;
        }
        let mut sources = open(until)?;
        match self.from {
            From::Stored | From::Earliest => {}
            From::Latest => {
                let states = topics::inspect(kafka, topic)?;
                seek(&mut sources, states.into_iter().map(|state| state.end))?;
            }
            From::Time(at) => seek(&mut sources, topics::at_time(kafka, topic, at)?.into_iter())?,
        }
        Ok(Ends {
            sources,
            sink: Box::new(sink),
            committed,
            start,
        })
    }

    fn stored(
        &self,
        config: &Config,
        store: Option<&mut CheckpointStore>,
        committed: impl FnOnce() -> Result<Committed>,
    ) -> Result<(Committed, Start)> {
        match store {
            Some(store) if self.from == From::Stored => {
                let committed = committed()?;
                let start = recovery::find(store, &config.stream.topic, &committed, config)?;
                Ok((committed, start))
            }
            _ => Ok((Committed::default(), Start::Anew)),
        }
    }
}

/// A transaction may stay open at least so long: checkpoints may take longer than their interval.
#[cfg(feature = "kafka")]
const LEAST_TRANSACTION: Duration = Duration::from_secs(60);

/// How long a transaction may stay open.
#[cfg(feature = "kafka")]
fn open_for(config: &Config) -> Duration {
    let open_for = (4 * config.checkpoint.every).max(LEAST_TRANSACTION);
    open_for
        .max(config.kafka.deliver_within)
        .max(standstill(config))
}

/// Results and offsets together, or neither: for an instance of a group, or for a run alone.
#[cfg(feature = "kafka")]
fn transactional(config: &Config, instance: Option<&str>) -> segue_kafka::Guarantee {
    let of = instance.map_or(String::new(), |name| format!("/{name}"));
    segue_kafka::Guarantee::Transactional {
        id: format!("segue-{}{of}", config.kafka.group),
        open_for: open_for(config),
    }
}

#[cfg(feature = "kafka")]
fn committed(lanes: Vec<Option<segue_kafka::topics::Committed>>) -> Committed {
    let standing = |lane: segue_kafka::topics::Committed| Standing {
        offset: lane.offset,
        epoch: lane.epoch,
        instance: lane.instance,
    };
    Committed {
        lanes: lanes.into_iter().map(|lane| lane.map(standing)).collect(),
    }
}

/// A source for each partition.
fn each(
    partitions: u32,
    open: impl Fn(u32) -> Result<Box<dyn Source>>,
) -> Result<Vec<Box<dyn Source>>> {
    (0..partitions).map(open).collect()
}

fn seek(sources: &mut [Box<dyn Source>], to: impl Iterator<Item = Offset>) -> Result<()> {
    for (source, offset) in sources.iter_mut().zip(to) {
        source.seek(offset)?;
    }
    Ok(())
}

/// The topics that a run writes.
pub fn output_topics(config: &Config) -> Vec<&str> {
    let topics = &config.recommend.topics;
    let named = [
        &topics.predictions,
        &topics.sessions,
        &topics.completions,
        &topics.late,
        &topics.dead_letters,
    ];
    named
        .into_iter()
        .map(String::as_str)
        .filter(|topic| !topic.is_empty())
        .collect()
}

/// A run that answers with what needs no training; without checkpoints, watched and stopped by nobody.
pub fn counting(config: &Config, sources: Vec<Box<dyn Source>>, sink: Box<dyn Sink>) -> Pipeline {
    Pipeline {
        stage: StageSettings {
            lanes: sources.len() as u32,
            ..config.stage()
        },
        sources: pipeline::all_lanes(sources),
        sink,
        lane: config.lane(),
        threads: config.stream.threads,
        sessions: config.session_rules(),
        queues: config.queues,
        recommenders: counting_recommenders(),
        curriculum: None,
        known: None,
        encoders: None,
        checkpointing: None,
        restored: None,
        watcher: Box::new(()),
        clock: Arc::new(MachineClock::start()),
        stop: Arc::default(),
        attendance: config.attendance(),
    }
}

/// What needs no training: rules, the listener's own favourites, everybody's favourites.
pub fn counting_recommenders() -> Vec<Box<dyn Recommender>> {
    vec![
        Box::new(SequentialRules::new(SUCCESSORS, 1.0)),
        Box::new(PersonalMostPop::new()),
        Box::new(MostPopular::new(1.0)),
    ]
}
