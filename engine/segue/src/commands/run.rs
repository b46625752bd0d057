//! `segue run`: a topic in, sessions and predictions out, in Kafka or the embedded log.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use segue_flow::clock::MachineClock;
use segue_flow::{Sink, Source};
use segue_log::Log;
use segue_recommend::popularity::{MostPopular, PersonalMostPop};
use segue_recommend::recommender::Recommender;
use segue_recommend::rules::SequentialRules;
use segue_recommend::stage::RunSummary;

use crate::config::Config;
use crate::http::{self, Phase};
use crate::pipeline::{self, Pipeline};
use crate::shutdown;
use crate::watch::RunWatcher;

/// Successors that sequential rules remember per track.
const SUCCESSORS: usize = 100;

/// Where records come from and go to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Backend {
    /// The brokers of `[kafka]`.
    #[cfg(feature = "kafka")]
    Kafka,
    /// The directory of `[log]`.
    Log,
}

/// A source per lane, and the sink.
type Ends = (Vec<Box<dyn Source>>, Box<dyn Sink>);

/// `segue run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Where listens are read and everything else is written.
    #[arg(long, value_enum, default_value = "log")]
    pub on: Backend,
    /// End when what is in the topic now has been worked off, instead of waiting for more.
    #[arg(long)]
    pub until_now: bool,
}

impl Run {
    /// Runs until the end of the topic, or until a signal says so.
    ///
    /// # Errors
    /// Whatever stops it.
    pub fn run(&self, config: &Config) -> Result<()> {
        let stop = shutdown::on_signal()?;
        let phase = Phase::default();
        let metrics = http::record_metrics()?;
        if let Some(address) = config.http.listen {
            let bound = http::serve(address, phase.clone(), metrics)?;
            tracing::info!("health, readiness and metrics on http://{bound}");
        }
        phase.running();
        let summary = self.engine(config, stop)?;
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
        stop: Arc<std::sync::atomic::AtomicBool>,
    ) -> Result<RunSummary> {
        let (sources, sink) = match self.on {
            Backend::Log => self.log(config)?,
            #[cfg(feature = "kafka")]
            Backend::Kafka => self.kafka(config)?,
        };
        let clock = Arc::new(MachineClock::start());
        let (watcher, _) = RunWatcher::new(0, clock.clone())?;
        pipeline::run(Pipeline {
            sources,
            sink,
            lane: config.lane(),
            sessions: config.session_rules(),
            format: config.stream.format,
            stage: config.stage(),
            recommenders: counting_recommenders(),
            curriculum: None,
            encoder: None,
            watcher: Box::new(watcher),
            clock,
            stop,
        })
    }

    fn log(&self, config: &Config) -> Result<Ends> {
        use segue_log::Until;
        let log = Log::open(&config.log)?;
        let topic = &config.stream.topic;
        let partitions = log.partitions(topic).with_context(|| {
            format!("put listens there first: segue replay FILE --to log (topic {topic})")
        })?;
        let until = if self.until_now {
            Until::Now
        } else {
            Until::Forever
        };
        let sources = (0..partitions)
            .map(|partition| {
                let source = log.source(topic, partition, until)?;
                Ok(Box::new(source) as Box<dyn Source>)
            })
            .collect::<Result<_>>()?;
        for topic in output_topics(config) {
            log.ensure_topic(topic, partitions)?;
        }
        Ok((sources, Box::new(log.sink("segue-run")?)))
    }

    #[cfg(feature = "kafka")]
    fn kafka(&self, config: &Config) -> Result<Ends> {
        use segue_kafka::{Guarantee, KafkaSink, KafkaSource, Until, topics};
        let topic = &config.stream.topic;
        let partitions = topics::partitions(&config.kafka, topic)?;
        if partitions == 0 {
            bail!("topic {topic} has no partitions");
        }
        let until = if self.until_now {
            Until::Now
        } else {
            Until::Forever
        };
        let sources = (0..partitions)
            .map(|partition| {
                let source = KafkaSource::open(&config.kafka, topic, partition, until)?;
                Ok(Box::new(source) as Box<dyn Source>)
            })
            .collect::<Result<_>>()?;
        for topic in output_topics(config) {
            topics::ensure_topic(&config.kafka, topic, partitions)?;
        }
        let sink = KafkaSink::open(&config.kafka, &Guarantee::Idempotent, Some(topic))?;
        Ok((sources, Box::new(sink)))
    }
}

/// The topics that a run writes.
pub fn output_topics(config: &Config) -> [&str; 4] {
    let topics = &config.recommend.topics;
    [
        &topics.predictions,
        &topics.sessions,
        &topics.late,
        &topics.dead_letters,
    ]
}

/// What needs no training: rules, the listener's own favourites, everybody's favourites.
pub fn counting_recommenders() -> Vec<Box<dyn Recommender>> {
    vec![
        Box::new(SequentialRules::new(SUCCESSORS, 1.0)),
        Box::new(PersonalMostPop::new()),
        Box::new(MostPopular::new(1.0)),
    ]
}
