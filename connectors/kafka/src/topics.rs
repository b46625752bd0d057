//! Topics: made, counted, looked at. None is ever made by merely writing to it.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::{Offset as Position, TopicPartitionList};
use segue_flow::clock::{MachineClock, WallClock};
use segue_flow::{Epoch, Offset};
use segue_listen::EventTime;

use crate::client::{self, Asker};
use crate::complaints::Complaints;
use crate::error::KafkaError;
use crate::settings::Settings;

/// How long to wait before a topic just made is looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What a partition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionState {
    /// The first offset that is kept.
    pub first: Offset,
    /// The offset after the last record's.
    pub end: Offset,
}

/// Makes a topic of so many partitions, or checks that it has as many. Its records are kept for
/// ever and may carry any time stamp, unless `kafka.topic` says otherwise.
///
/// # Errors
/// The brokers do not answer, do not allow it, or the topic has another number of partitions.
pub fn ensure_topic(settings: &Settings, topic: &str, partitions: u32) -> Result<(), KafkaError> {
    let asker = Asker::new(settings)?;
    let refused = |detail: String| KafkaError::Refused {
        what: format!("topic {topic:?}"),
        detail,
    };
    if count(&asker, topic)?.is_none() {
        create(settings, topic, partitions)?;
    }
    let clock = MachineClock::start();
    loop {
        match count(&asker, topic)? {
            Some(has) if has == partitions => return Ok(()),
            Some(has) => {
                return Err(refused(format!(
                    "has {has} partitions, not {partitions}; set partitions to {has}, or use a new \
                     topic: changing the number would move listeners to other lanes"
                )));
            }
            None if clock.now() > settings.connect_within => {
                return Err(refused(
                    "was made, and is not there; look at the broker's log".into(),
                ));
            }
            None => clock.sleep(LOOK_AGAIN),
        }
    }
}

/// How many partitions a topic has.
///
/// # Errors
/// The brokers do not answer, or there is no such topic.
pub fn partitions(settings: &Settings, topic: &str) -> Result<u32, KafkaError> {
    Asker::new(settings)?.partitions(topic)
}

/// What each partition of a topic holds.
///
/// # Errors
/// The brokers do not answer, or there is no such topic.
pub fn inspect(settings: &Settings, topic: &str) -> Result<Vec<PartitionState>, KafkaError> {
    let asker = Asker::new(settings)?;
    let state = |partition| {
        let (first, end) = asker.watermarks(topic, partition)?;
        Ok(PartitionState {
            first: Offset(first),
            end: Offset(end),
        })
    };
    (0..asker.partitions(topic)?).map(state).collect()
}

/// How long an answer about committed offsets has to stand, and how often it is asked for anew.
const STANDS_FOR: Duration = Duration::from_millis(100);
const AGAIN_AT_MOST: usize = 5;

/// What a group committed for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The offset to go on from.
    pub offset: Offset,
    /// The epoch that ended there, if Segue committed it.
    pub epoch: Option<Epoch>,
    /// The instance of the group whose epoch that is; `None` where one read alone.
    pub instance: Option<String>,
}

/// Where to go on in each partition of a topic, as the group committed it last; `None` where it never
/// did.
///
/// # Errors
/// The brokers do not answer, or there is no such topic.
pub fn committed(settings: &Settings, topic: &str) -> Result<Vec<Option<Committed>>, KafkaError> {
    let asker = Asker::new(settings)?;
    let count = asker.partitions(topic)?;
    let mut list = TopicPartitionList::new();
    for partition in 0..count {
        list.add_partition(topic, partition.cast_signed());
    }
    let place = format!("group {:?}", settings.group);
    // A partition's own error (its offset is about to be committed, say) is no "never": who took it
    // for that would begin from nothing.
    let ask = || {
        asker.ask(&place, |patience| {
            let answer = asker.consumer.committed_offsets(list.clone(), patience)?;
            answer.elements().iter().try_for_each(|e| e.error())?;
            Ok(answer)
        })
    };
    // A transaction counts as committed a moment before the group's coordinator gives its offsets out
    // (seen with Kafka 4.3 on a busy machine). Whoever took the answer of that moment would read again
    // what is told already: so only one that stands is believed. Where others of the group go on
    // committing none does, and that moment is over all the same.
    let mut answer = ask()?;
    let clock = MachineClock::start();
    for _ in 0..AGAIN_AT_MOST {
        clock.sleep(STANDS_FOR);
        let again = ask()?;
        let stands = again == answer;
        answer = again;
        if stands {
            break;
        }
    }
    let offset = |partition: u32| {
        let found = answer.find_partition(topic, partition.cast_signed())?;
        match found.offset() {
            Position::Offset(offset) => u64::try_from(offset).ok().map(|offset| {
                let (epoch, instance) = noted(found.metadata());
                Committed {
                    offset: Offset(offset),
                    epoch,
                    instance,
                }
            }),
            _ => None,
        }
    };
    // The lists hold references into the client and must go before it does.
    let offsets = (0..count).map(offset).collect();
    drop(answer);
    drop(list);
    Ok(offsets)
}

/// What goes with a committed offset: the epoch that it ends, and whose that is.
pub(crate) fn note(epoch: Epoch, instance: Option<&str>) -> String {
    let of = instance.map_or(String::new(), |name| format!(" of {name}"));
    format!("segue epoch {}{of}", epoch.0)
}

fn noted(note: &str) -> (Option<Epoch>, Option<String>) {
    let Some(note) = note.strip_prefix("segue epoch ") else {
        return (None, None);
    };
    let (epoch, instance) = match note.split_once(" of ") {
        Some((epoch, instance)) => (epoch, Some(instance.to_owned())),
        None => (note, None),
    };
    (epoch.parse().ok().map(Epoch), instance)
}

/// The first offset in each partition whose record its log has stamped `at` or later; the end where
/// there is none.
///
/// # Errors
/// The brokers do not answer, or there is no such topic.
pub fn at_time(settings: &Settings, topic: &str, at: EventTime) -> Result<Vec<Offset>, KafkaError> {
    let asker = Asker::new(settings)?;
    let count = asker.partitions(topic)?;
    let mut list = TopicPartitionList::new();
    for partition in 0..count {
        let stamp = Position::Offset(at.millis().max(0));
        list.add_partition_offset(topic, partition.cast_signed(), stamp)
            .map_err(|error| asker.sort(&error, topic))?;
    }
    let answer = asker.ask(topic, |patience| {
        asker.consumer.offsets_for_times(list.clone(), patience)
    })?;
    let mut offsets = Vec::new();
    for partition in 0..count {
        let found = answer.find_partition(topic, partition.cast_signed());
        let offset = match found.map(|found| found.offset()) {
            Some(Position::Offset(offset)) => u64::try_from(offset).ok(),
            _ => None,
        };
        offsets.push(match offset {
            Some(offset) => Offset(offset),
            None => Offset(asker.watermarks(topic, partition)?.1),
        });
    }
    // As above: the lists go before the client does.
    drop(answer);
    drop(list);
    Ok(offsets)
}

/// `None` if there is no such topic.
fn count(asker: &Asker, topic: &str) -> Result<Option<u32>, KafkaError> {
    let metadata = asker.ask(topic, |patience| {
        asker.consumer.fetch_metadata(Some(topic), patience)
    })?;
    match client::count_partitions(&metadata, topic) {
        Ok(count) => Ok(Some(count)),
        Err(
            RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::LeaderNotAvailable,
        ) => Ok(None),
        Err(code) => Err(asker.sort(&ClientError::MetadataFetch(code), topic)),
    }
}

fn create(settings: &Settings, topic: &str, partitions: u32) -> Result<(), KafkaError> {
    let place = format!("topic {topic:?}");
    let complaints = Complaints::default();
    let sort = |error: &ClientError| {
        KafkaError::sort(error, &settings.brokers, &place, &complaints.last())
    };
    let count = i32::try_from(partitions).unwrap_or(i32::MAX).max(1);
    let admin: AdminClient<Complaints> = client::config(settings)?
        .create_with_context(complaints.clone())
        .map_err(|error| sort(&error))?;
    let largest = client::largest_batch(settings).to_string();
    let any_time = i64::MAX.to_string();
    let defaults = [
        // Listens bear the time they were played, which may be twenty years ago: a broker's usual
        // week of retention would delete them as they arrive.
        ("retention.ms", "-1"),
        ("message.timestamp.after.max.ms", &any_time),
        ("message.timestamp.before.max.ms", &any_time),
        ("max.message.bytes", &largest),
    ];
    let mut new = NewTopic::new(topic, count, TopicReplication::Fixed(settings.replication));
    for (key, value) in defaults {
        if !settings.topic.contains_key(key) {
            new = new.set(key, value);
        }
    }
    for (key, value) in &settings.topic {
        new = new.set(key, value);
    }
    let options = AdminOptions::new().operation_timeout(Some(settings.connect_within));
    // The client has its own threads; this one only waits.
    let waiting = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|cause| {
            let detail = format!("no runtime to wait with: {cause}");
            KafkaError::Refused {
                what: place.clone(),
                detail,
            }
        })?;
    let results = waiting
        .block_on(admin.create_topics(&[new], &options))
        .map_err(|error| sort(&error))?;
    for result in results {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code))
                if matches!(
                    code,
                    RDKafkaErrorCode::InvalidConfig
                        | RDKafkaErrorCode::InvalidTopic
                        | RDKafkaErrorCode::InvalidPartitions
                        | RDKafkaErrorCode::InvalidReplicationFactor
                        | RDKafkaErrorCode::PolicyViolation
                ) =>
            {
                let detail = format!(
                    "the broker will not make it: {code}; check its name, kafka.replication and \
                     kafka.topic"
                );
                return Err(KafkaError::Refused {
                    what: place,
                    detail,
                });
            }
            Err((_, code)) => return Err(sort(&ClientError::AdminOp(code))),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_says_which_epoch_of_whom_and_older_ones_are_read() {
        let seven = Some(Epoch(7));
        assert_eq!(noted(&note(Epoch(7), None)), (seven, None));
        let alice = Some("alice".to_owned());
        assert_eq!(noted(&note(Epoch(7), Some("alice"))), (seven, alice));
        assert_eq!(noted("segue epoch 7"), (seven, None), "of before groups");
        for strange in ["", "segue epoch x", "somebody else's"] {
            assert_eq!(noted(strange).0, None, "{strange}");
        }
    }
}
