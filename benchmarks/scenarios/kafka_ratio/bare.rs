//! The baseline: rdkafka's own consumer, one per partition on a thread of its own, which throws
//! every message away. Its queues are set as Segue's reader sets its own, or it would sleep a second
//! whenever one of them is full.

use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use segue_benchmarks::timing::timed;

use super::Topic;

const PATIENCE: Duration = Duration::from_millis(50);
const CONNECT: Duration = Duration::from_secs(10);

/// How long it takes to read the topic to its end.
pub fn run(topic: &Topic) -> anyhow::Result<Duration> {
    let mut consumers = Vec::new();
    for _ in 0..topic.partitions {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &topic.settings.brokers)
            .set("group.id", "bare")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("fetch.queue.backoff.ms", "10")
            .set("queued.min.messages", "1000000")
            .set("queued.max.messages.kbytes", "16384")
            .set("fetch.message.max.bytes", "4194304")
            .set("fetch.wait.max.ms", "100")
            .create()?;
        consumer.fetch_metadata(Some(topic.name), CONNECT)?;
        consumers.push(consumer);
    }
    let (took, read) = timed(|| {
        std::thread::scope(|scope| {
            let reading: Vec<_> = (0..)
                .zip(consumers)
                .map(|(partition, consumer)| {
                    scope.spawn(move || drain(&consumer, topic.name, partition))
                })
                .collect();
            let joined = reading.into_iter().map(|reading| {
                let read = reading.join().map_err(|_| anyhow!("a reader panicked"));
                read.and_then(|read| read)
            });
            joined.sum::<anyhow::Result<u64>>()
        })
    });
    let read = read?;
    ensure!(
        read == topic.listens,
        "{read} of {} messages",
        topic.listens
    );
    Ok(took)
}

fn drain(consumer: &BaseConsumer, topic: &str, partition: i32) -> anyhow::Result<u64> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Beginning)?;
    consumer.assign(&list)?;
    let (mut read, mut bytes) = (0, 0);
    loop {
        match consumer.poll(PATIENCE) {
            None => {}
            Some(Ok(message)) => {
                read += 1;
                bytes += message.payload_len();
            }
            Some(Err(KafkaError::PartitionEOF(_))) => break,
            Some(Err(error)) => return Err(error).context("the bare consumer"),
        }
    }
    ensure!(bytes > 0, "messages without a payload");
    Ok(read)
}
