//! Simulated listens into a topic, as a replay writes them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::ensure;
use segue_flow::Sink;
use segue_flow::clock::MachineClock;
use segue_listen::Listen;
use segue_replay::state::Standing;
use segue_replay::{Delivery, DeliverySettings, InOrder};

/// Writes listens, which are in order of time, to a topic of so many partitions; returns when the
/// sink has them.
///
/// # Errors
/// What the sink says.
pub fn deliver(
    listens: impl Iterator<Item = Listen>,
    (topic, partitions): (&str, u32),
    sink: &mut dyn Sink,
) -> anyhow::Result<u64> {
    let settings = DeliverySettings {
        topic: topic.to_owned(),
        partitions,
        // Every record is a listen: what is counted are records.
        heartbeat_ms: 0,
        ..DeliverySettings::default()
    };
    let mut given = 0;
    let counted = listens.inspect(|_| given += 1);
    let mut stream = InOrder::new(counted, None);
    let start = Standing::start("", topic, partitions);
    let (clock, stop) = (Arc::new(MachineClock::start()), AtomicBool::new(false));
    let delivery = Delivery::new(&settings, clock, sink, &stop, start, None)?;
    let written = delivery.run(&mut stream, &mut |_| {})?.listens;
    drop(stream);
    ensure!(written == given, "{written} of {given} listens written");
    Ok(written)
}
