//! Membership of the consumer group: which partitions are this instance's, and until when.
//!
//! ```text
//! join ─▶ Member<Joining> ── wait ──▶ Member<Holding> ── release ──▶ Member<Joining> ─▶ …
//!              │  ▲ no partitions           │
//!              └──┘                         └─ fences: what a sink commits for the share with
//! ```
//!
//! Steps consume the state before them, so a share that was released cannot be committed for. A
//! [`Fence`] is a piece of its share: while one is alive, a share that the group asks back is not given
//! up. So whoever holds one may still commit what it has read; when the last one is gone, the partitions
//! are free. Somebody who was away for longer than the session lasts has lost the share; the brokers
//! then refuse what bears its fence (KIP-447), and the records of that transaction are never seen.
//!
//! Lanes are read by sources of their own ([`crate::KafkaSource`]); the member only holds the place. The
//! protocol is the eager one: all shares are given up, then all are dealt anew, since a lane comes with
//! state and is not handed on while somebody works on it. This room does not know what is done with a
//! partition.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, ConsumerGroupMetadata};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};
use segue_flow::names::{self, Name};
use segue_flow::{LaneId, Remedy};

use crate::client::{self, Asker};
use crate::complaints::Complaints;
use crate::error::KafkaError;
use crate::settings::Settings;

/// How often the member looks for news of the group, and whether it is to stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Heartbeats in the time that a session lasts: several may be lost before it ends.
const BEATS_IN_A_SESSION: u32 = 6;

/// A member of the group, in a state of its membership: [`Joining`] or [`Holding`].
pub struct Member<S> {
    link: Link,
    state: S,
}

/// It holds nothing, and waits for its share.
pub struct Joining(());

/// It holds a share of the partitions.
pub struct Holding(Share);

/// What the group gave.
struct Share {
    lanes: Vec<LaneId>,
    recalled: Arc<AtomicBool>,
    lost: Arc<AtomicBool>,
    fence: Fence,
}

/// What commits for a share bear: brokers refuse those of a share that is another's by now.
#[derive(Clone)]
pub struct Fence {
    pub(crate) group: Arc<ConsumerGroupMetadata>,
    /// Under which name: what is committed says who has the state that belongs to it.
    pub(crate) instance: Arc<str>,
    /// The share is in use while this lives.
    _held: SyncSender<()>,
}

impl Member<Joining> {
    /// Becomes a member that shares `topic` with the others of the group, under the name of
    /// `instance`. Raising `stop` asks every share back.
    ///
    /// # Errors
    /// A setting is wrong; the thread cannot be started.
    pub fn join(
        settings: &Settings,
        topic: &str,
        instance: &str,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, KafkaError> {
        let beat = settings.session_timeout / BEATS_IN_A_SESSION;
        let mut config = client::config(settings)?;
        config
            // Partitions are dealt in the order of the members' ids, which begin with this: who comes
            // back gets the lanes that it had.
            .set("client.id", format!("segue-{instance}"))
            .set("partition.assignment.strategy", "range")
            .set("enable.auto.commit", "false")
            .set("allow.auto.create.topics", "false")
            .set(
                "session.timeout.ms",
                settings.session_timeout.as_millis().to_string(),
            )
            .set("heartbeat.interval.ms", beat.as_millis().max(1).to_string());
        let (grants, granted) = sync_channel(1);
        let failed = Arc::new(Mutex::new(None));
        let dealing = Dealing {
            instance: instance.into(),
            complaints: Complaints::default(),
            grants,
            current: Arc::default(),
        };
        let (current, complaints) = (dealing.current.clone(), dealing.complaints.clone());
        let address = settings.brokers.clone();
        let sort = move |error: &ClientError, place: &str| {
            KafkaError::sort(error, &address, place, &complaints.last())
        };
        let group = format!("group {:?}", settings.group);
        let consumer: BaseConsumer<Dealing> = config
            .create_with_context(dealing)
            .map_err(|error| sort(&error, "kafka.client"))?;
        consumer
            .subscribe(&[topic])
            .map_err(|error| sort(&error, topic))?;
        let quit = Arc::new(AtomicBool::new(false));
        let (leaves, failure) = (quit.clone(), failed.clone());
        let poll = move || {
            while !leaves.load(Ordering::Relaxed) {
                if stop.load(Ordering::Relaxed) {
                    recall(&current);
                }
                // Nothing is ever fetched here: an event is an error.
                let Some(Err(error)) = consumer.poll(LOOK_EVERY) else {
                    continue;
                };
                let error = sort(&error, &group);
                if error.remedy() == Remedy::Retry {
                    tracing::debug!(%error, "the group's member goes on");
                    continue;
                }
                *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                recall(&current);
            }
        };
        let thread = std::thread::Builder::new()
            .name("member".to_owned())
            .spawn(poll)
            .map_err(|cause| KafkaError::Refused {
                what: "the thread of the group's member".to_owned(),
                detail: cause.to_string(),
            })?;
        Ok(Self {
            link: Link {
                granted: Some(granted),
                failed,
                quit,
                thread: Some(thread),
            },
            state: Joining(()),
        })
    }

    /// Waits until the group gives some partitions; `None` once `until` says so. Where there are more
    /// instances than partitions, some get none, and wait for the next dealing.
    ///
    /// # Errors
    /// The brokers turn the member down.
    pub fn wait(self, until: impl Fn() -> bool) -> Result<Option<Member<Holding>>, KafkaError> {
        while !until() {
            let failed = self
                .link
                .failed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if let Some(error) = failed {
                return Err(error);
            }
            let granted = self.link.granted.as_ref();
            let share = match granted.map(|granted| granted.recv_timeout(LOOK_EVERY)) {
                Some(Ok(share)) => share,
                Some(Err(RecvTimeoutError::Timeout)) => continue,
                Some(Err(RecvTimeoutError::Disconnected)) | None => return Ok(None),
            };
            names::count(Name::Rebalances, 1);
            names::gauge(Name::LanesHeld, share.lanes.len() as f64);
            if share.lanes.is_empty() {
                tracing::info!("no lane for this instance: it waits for the next dealing");
                continue;
            }
            tracing::info!(lanes = ?share.lanes, "lanes of this instance");
            return Ok(Some(Member {
                link: self.link,
                state: Holding(share),
            }));
        }
        Ok(None)
    }
}

impl Member<Holding> {
    /// The partitions of the share, in order.
    pub fn lanes(&self) -> &[LaneId] {
        &self.state.0.lanes
    }

    /// Raised when the share is asked back, or lost: what was read is to be committed, and the share
    /// released.
    pub fn recalled(&self) -> Arc<AtomicBool> {
        self.state.0.recalled.clone()
    }

    /// Whether the share is another's already: its session has ended, and nothing that was done for it
    /// since the last commit will be seen.
    pub fn is_lost(&self) -> bool {
        self.state.0.lost.load(Ordering::Relaxed)
    }

    /// What commits for this share bear.
    pub fn fence(&self) -> Fence {
        self.state.0.fence.clone()
    }

    /// Gives the share up; the group deals again once its fences are gone too.
    pub fn release(self) -> Member<Joining> {
        names::gauge(Name::LanesHeld, 0.0);
        Member {
            link: self.link,
            state: Joining(()),
        }
    }
}

/// How many members a group has at the moment.
///
/// # Errors
/// The brokers do not answer.
pub fn members(settings: &Settings) -> Result<usize, KafkaError> {
    let asker = Asker::new(settings)?;
    let group = &settings.group;
    let list = asker.ask(&format!("group {group:?}"), |patience| {
        asker.consumer.fetch_group_list(Some(group), patience)
    })?;
    Ok(list
        .groups()
        .iter()
        .map(|group| group.members().len())
        .sum())
}

/// The way to the member's thread. When it goes, the member leaves the group.
struct Link {
    granted: Option<Receiver<Share>>,
    failed: Arc<Mutex<Option<KafkaError>>>,
    quit: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.quit.store(true, Ordering::Relaxed);
        // A share that nobody has taken goes with it, or its return would be waited for.
        self.granted.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the group's member panicked: a bug");
        }
    }
}

/// The share that is out: how to ask it back, and what tells that it has come back.
struct Out {
    recalled: Arc<AtomicBool>,
    lost: Arc<AtomicBool>,
    returned: Receiver<()>,
}

type Current = Arc<Mutex<Option<Out>>>;

fn recall(current: &Current) {
    if let Some(out) = &*current.lock().unwrap_or_else(PoisonError::into_inner) {
        out.recalled.store(true, Ordering::Relaxed);
    }
}

/// Deals shares out as the group says, on the member's thread.
struct Dealing {
    instance: Arc<str>,
    complaints: Complaints,
    /// At most one share is out at a time.
    grants: SyncSender<Share>,
    current: Current,
}

impl Dealing {
    fn give(&self, consumer: &BaseConsumer<Self>, partitions: &TopicPartitionList) {
        let Some(group) = consumer.group_metadata() else {
            tracing::error!("the group gave partitions to no member: a bug");
            return;
        };
        let elements = partitions.elements();
        let mut lanes: Vec<LaneId> = elements
            .iter()
            .filter_map(|element| u32::try_from(element.partition()).ok().map(LaneId))
            .collect();
        lanes.sort_unstable();
        let (held, returned) = sync_channel(0);
        let (recalled, lost) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(Out {
            recalled: recalled.clone(),
            lost: lost.clone(),
            returned,
        });
        let share = Share {
            lanes,
            recalled,
            lost,
            fence: Fence {
                group: Arc::new(group),
                instance: self.instance.clone(),
                _held: held,
            },
        };
        // Whoever would take it may be gone, and so is the share then.
        let _ = self.grants.send(share);
    }

    /// Asks the share back and waits for it: the group deals again when this returns.
    fn take_back(&self, lost: bool) {
        let out = self
            .current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(out) = out {
            out.lost.store(lost, Ordering::Relaxed);
            out.recalled.store(true, Ordering::Relaxed);
            if lost {
                tracing::warn!("away for longer than a session: the lanes went to others");
            }
            // Ends when all that held the share are gone; nothing is ever sent.
            let _ = out.returned.recv();
        }
    }
}

impl ClientContext for Dealing {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.complaints.log(level, facility, line);
    }

    fn error(&self, error: ClientError, reason: &str) {
        self.complaints.error(error, reason);
    }
}

impl ConsumerContext for Dealing {
    /// The client is told to read nothing, whatever the share: lanes have sources of their own.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        code: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let answered = match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                self.give(consumer, partitions);
                consumer.assign(&TopicPartitionList::new())
            }
            _ => {
                self.take_back(consumer.assignment_lost());
                consumer.unassign()
            }
        };
        if let Err(error) = answered {
            tracing::warn!(%error, "the group's dealing is not acknowledged");
        }
    }
}
