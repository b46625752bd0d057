//! `segue rekey`: a foreign topic, once through our partitioner.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use segue_flow::{
    Epoch, LaneId, Offset, OffsetRange, OutRecord, RawRecord, Readiness, Sink, Source,
};
use segue_listen::EventTime;
use segue_log::Log;

use super::run::Backend;
use crate::config::Config;
use crate::keying;
use crate::{shutdown, watch};

/// Records that are committed together.
const EPOCH: u64 = 20_000;
/// How long a partition is waited for at a time.
const PATIENCE: Duration = Duration::from_millis(200);

/// `segue rekey`.
#[derive(Debug, Args)]
pub struct Rekey {
    /// The topic as it is.
    from: String,
    /// The topic to write, keyed by listener; made if it is not there.
    to: String,
    /// Where both are.
    #[arg(long, value_enum, default_value = "log")]
    on: Backend,
    /// Partitions of a topic that is made here; 0: as many as the other has.
    #[arg(long, default_value_t = 0, value_name = "N")]
    partitions: u32,
}

/// A record that waits for its turn.
struct Waiting {
    at: EventTime,
    offset: Offset,
    user: Option<String>,
    value: Option<Vec<u8>>,
    content_type: Option<Vec<u8>>,
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rekeyed {
    /// Plays written under their listener's name.
    pub plays: u64,
    /// Records that are no plays: written to the dead letters, as they were.
    pub others: u64,
}

impl Rekey {
    /// Takes over what is in the topic now; another call goes on from there.
    ///
    /// # Errors
    /// Whatever stops it; what was committed stays so.
    pub fn run(&self, config: &Config) -> Result<()> {
        let stop = shutdown::on_signal(None)?;
        let done = self.rekey(config, &stop)?;
        println!(
            "{} plays to {}, {} other records to {}",
            done.plays, self.to, done.others, config.recommend.topics.dead_letters
        );
        Ok(())
    }

    fn rekey(&self, config: &Config, stop: &AtomicBool) -> Result<Rekeyed> {
        if self.from == self.to {
            bail!(
                "give a new topic: {} is the one that is keyed otherwise",
                self.to
            );
        }
        let dead_letters = &config.recommend.topics.dead_letters;
        let made = |has: u32| {
            if self.partitions == 0 {
                has
            } else {
                self.partitions
            }
        };
        let (sources, mut sink): (Vec<Part>, Box<dyn Sink>) = match self.on {
            Backend::Log => {
                let log = Log::open(&config.log)?;
                let has = log.partitions(&self.from)?;
                log.ensure_topic(&self.to, made(has))?;
                log.ensure_topic(dead_letters, made(has))?;
                let sink = log.sink(&format!("rekey-{}", self.to))?;
                let mut sources = Vec::new();
                for partition in 0..has {
                    let source = log.source(&self.from, partition, segue_log::Until::Now)?;
                    let mut done = sink.last_commit().inputs.iter();
                    let done = done.find(|range| range.lane.0 == partition);
                    let done = done.map_or(Offset(0), |range| range.to);
                    sources.push(Part::new(partition, Box::new(source), done)?);
                }
                (sources, Box::new(sink))
            }
            #[cfg(feature = "kafka")]
            Backend::Kafka => {
                use segue_kafka::{Guarantee, KafkaSink, KafkaSource, Settings, Until, topics};
                // A group of its own: what it has committed is not what a run has.
                let kafka = Settings {
                    group: format!("{}-rekey-{}", config.kafka.group, self.to),
                    ..config.kafka.clone()
                };
                let has = topics::partitions(&kafka, &self.from)?;
                topics::ensure_topic(&kafka, &self.to, made(has))?;
                topics::ensure_topic(&kafka, dead_letters, made(has))?;
                let guarantee = Guarantee::Transactional {
                    id: format!("segue-{}", kafka.group),
                    open_for: Duration::from_secs(60),
                };
                let sink = KafkaSink::open(&kafka, &guarantee, Some(&self.from))?;
                let done = topics::committed(&kafka, &self.from)?;
                let mut sources = Vec::new();
                for (partition, done) in (0..has).zip(done) {
                    let source = KafkaSource::open(&kafka, &self.from, partition, Until::Now)?;
                    let done = done.map_or(source.position(), |done| done.offset);
                    sources.push(Part::new(partition, Box::new(source), done)?);
                }
                (sources, Box::new(sink))
            }
        };
        let topics = (&*self.to, &**dead_letters);
        merge(sources, &mut *sink, topics, stop)
    }
}

/// A partition of the topic as it is.
struct Part {
    source: Box<dyn Source>,
    /// What is read and not written yet; filled when it is empty.
    waiting: VecDeque<Waiting>,
    /// What was written since the last commit.
    covers: OffsetRange,
    ended: bool,
}

impl Part {
    fn new(partition: u32, mut source: Box<dyn Source>, from: Offset) -> Result<Self> {
        source.seek(from)?;
        Ok(Self {
            source,
            waiting: VecDeque::new(),
            covers: OffsetRange::empty(LaneId(partition), from),
            ended: false,
        })
    }

    fn fill(&mut self, stop: &AtomicBool) -> Result<()> {
        while self.waiting.is_empty() && !self.ended && !stop.load(Ordering::Relaxed) {
            let waiting = &mut self.waiting;
            let read = self.source.read(PATIENCE, &mut |record| {
                waiting.push_back(kept(&record));
            });
            let read = read.with_context(|| format!("partition {}", self.covers.lane.0))?;
            self.ended = read == Readiness::Ended;
        }
        Ok(())
    }
}

/// Writes the records of all partitions by ascending time of their plays, as far as each partition
/// has them so: what was written at random over partitions is then in order again for each listener.
fn merge(
    mut parts: Vec<Part>,
    sink: &mut dyn Sink,
    topics: (&str, &str),
    stop: &AtomicBool,
) -> Result<Rekeyed> {
    let bar = watch::bar(0, "rekey");
    let (mut done, mut epoch) = (Rekeyed::default(), Epoch(0));
    sink.begin(epoch)?;
    loop {
        parts.iter_mut().try_for_each(|part| part.fill(stop))?;
        let first = parts
            .iter_mut()
            .filter(|part| !part.waiting.is_empty())
            .min_by_key(|part| {
                (
                    part.waiting.front().map(|record| record.at),
                    part.covers.lane,
                )
            });
        let record = match first {
            Some(part) if !stop.load(Ordering::Relaxed) => part.waiting.pop_front().map(|record| {
                part.covers.to = record.offset.next();
                (part.covers.lane, record)
            }),
            _ => None,
        };
        if let Some((lane, record)) = &record {
            write(sink, topics, (*lane, record), &mut done)?;
        }
        let written = done.plays + done.others;
        if record.is_none() || written.is_multiple_of(EPOCH) {
            // All of them each time: where a partition stands is what was committed last.
            let inputs: Vec<OffsetRange> = parts.iter().map(|part| part.covers).collect();
            sink.commit(epoch, &inputs)?;
            parts
                .iter_mut()
                .for_each(|part| part.covers.from = part.covers.to);
            bar.set_position(written);
            if record.is_none() {
                break;
            }
            epoch = epoch.next();
            sink.begin(epoch)?;
        }
    }
    bar.finish();
    Ok(done)
}

fn kept(record: &RawRecord<'_>) -> Waiting {
    let play = keying::play_in(record);
    Waiting {
        // What is no play has no time: it goes out at once.
        at: play
            .as_ref()
            .map_or(EventTime::from_millis(i64::MIN), |(_, at)| *at),
        offset: record.offset,
        user: play.map(|(user, _)| user),
        value: record.value.map(<[u8]>::to_vec),
        content_type: record.content_type.get().map(<[u8]>::to_vec),
    }
}

fn write(
    sink: &mut dyn Sink,
    (to, dead_letters): (&str, &str),
    (lane, record): (LaneId, &Waiting),
    done: &mut Rekeyed,
) -> Result<()> {
    let (lane, offset) = (lane.0.to_string(), record.offset.0.to_string());
    let mut headers: Vec<(&str, &[u8])> = Vec::new();
    if let Some(content_type) = &record.content_type {
        headers.push(("content-type", content_type));
    }
    let topic = match &record.user {
        Some(_) => {
            done.plays += 1;
            to
        }
        None => {
            done.others += 1;
            headers.push(("reason", b"no play: nobody to key it by"));
            headers.push(("lane", lane.as_bytes()));
            headers.push(("offset", offset.as_bytes()));
            dead_letters
        }
    };
    sink.write(OutRecord {
        topic,
        partition: None,
        key: record.user.as_ref().map(String::as_bytes),
        value: record.value.as_deref(),
        headers: &headers,
        at: record.user.as_ref().map(|_| record.at),
    })?;
    Ok(())
}
