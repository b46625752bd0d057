//! A simulated log, and the engine over it in this process.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use segue::commands::run::{counting, output_topics};
use segue::config::Config;
use segue::input;
use segue::pipeline;
use segue_flow::clock::MachineClock;
use segue_flow::memory::memory_topic;
use segue_flow::{Epoch, OffsetRange, OutRecord, Sink, SinkError};
use segue_kafka::KafkaSource;
use segue_listen::Listen;
use segue_recommend::stage::RunSummary;
use segue_replay::InOrder;
use segue_replay::simulate::{Simulator, SimulatorSettings};

use crate::same_answer::read_all;

/// Topic, key, value.
pub type Record = (String, Vec<u8>, Vec<u8>);

/// Collects what is committed.
#[derive(Default)]
struct Collect {
    open: Vec<Record>,
    committed: Arc<Mutex<Vec<Record>>>,
}

impl Sink for Collect {
    fn begin(&mut self, _: Epoch) -> Result<(), SinkError> {
        self.open.clear();
        Ok(())
    }
    fn write(&mut self, record: OutRecord<'_>) -> Result<(), SinkError> {
        self.open.push((
            record.topic.to_owned(),
            record.key.unwrap_or_default().to_vec(),
            record.value.unwrap_or_default().to_vec(),
        ));
        Ok(())
    }
    fn commit(&mut self, _: Epoch, _: &[OffsetRange]) -> Result<(), SinkError> {
        self.committed.lock().unwrap().append(&mut self.open);
        Ok(())
    }
    fn abort(&mut self, _: Epoch) -> Result<(), SinkError> {
        self.open.clear();
        Ok(())
    }
}

/// The built-in configuration with everything under `folder`.
pub fn config(folder: &std::path::Path) -> Config {
    let mut config = Config::load(None).unwrap();
    config.log.dir = folder.join("log");
    config.log.sync = false;
    config.checkpoint.url = folder.join("checkpoints").display().to_string();
    config.models.adapters = folder.join("adapters");
    // What is compared has to be repeatable.
    config.recommend.exact = true;
    config
}

/// Gives the outputs names of one run's own, where several runs share a broker.
pub fn name_outputs(config: &mut Config, run: &str) {
    let names = &mut config.recommend.topics;
    for topic in [
        &mut names.predictions,
        &mut names.sessions,
        &mut names.completions,
        &mut names.late,
        &mut names.dead_letters,
    ] {
        if !topic.is_empty() {
            topic.insert_str(0, &format!("{run}-"));
        }
    }
}

/// What readers of committed records see on Kafka of all outputs, a partition after the other.
pub fn committed_on_kafka(config: &Config, partitions: u32) -> Vec<Record> {
    let mut records = Vec::new();
    for topic in output_topics(config) {
        for partition in 0..partitions {
            let until = segue_kafka::Until::Now;
            let mut source = KafkaSource::open(&config.kafka, topic, partition, until).unwrap();
            read_all(&mut source, topic, &mut records);
        }
    }
    records
}

/// `plays` simulated plays, in time order.
pub fn listens(plays: usize) -> Vec<Listen> {
    let settings = SimulatorSettings {
        seed: 7,
        ..SimulatorSettings::default()
    };
    Simulator::new(settings).unwrap().take(plays).collect()
}

/// The engine over `listens` in this process: its summary and what it wrote, in order.
pub fn in_process(config: &Config, listens: Vec<Listen>) -> (RunSummary, Vec<Record>) {
    let lanes = config.stream.lanes;
    let (sink, sources) = memory_topic(&config.stream.topic, lanes);
    let clock = Arc::new(MachineClock::start());
    let stop = Arc::new(AtomicBool::new(false));
    let total = listens.len() as u64;
    let stream = Box::new(InOrder::new(listens.into_iter(), Some(total)));
    let delivery = input::delivery(config, lanes);
    let replay = input::spawn(
        stream,
        delivery,
        Box::new(sink),
        clock.clone(),
        stop.clone(),
    )
    .unwrap();
    let collect = Collect::default();
    let committed = collect.committed.clone();
    let sources = sources
        .into_iter()
        .map(|source| Box::new(source) as _)
        .collect();
    let summary = pipeline::run(counting(config, sources, Box::new(collect))).unwrap();
    replay.join().unwrap().unwrap();
    let written = std::mem::take(&mut *committed.lock().unwrap());
    (summary, written)
}

/// What a run answers over HTTP.
pub fn ask(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A counter or gauge without labels, in what a run answers.
pub fn metric(metrics: &str, name: &str) -> Option<f64> {
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
    metrics.lines().find_map(value)
}

/// The records of one topic, in order.
pub fn of_topic<'a>(records: &'a [Record], topic: &str) -> Vec<(&'a [u8], &'a [u8])> {
    records
        .iter()
        .filter(|r| r.0 == topic)
        .map(|r| (&r.1[..], &r.2[..]))
        .collect()
}
