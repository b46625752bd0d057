//! Whether a topic is keyed the way lanes need it: all of a listener's plays in one partition, the one
//! that the listener's name hashes to.
//!
//! A topic that somebody else keyed gives half sessions in two lanes and no error anywhere. So a run
//! looks before it begins; `segue rekey` mends it.

use std::time::Duration;

use anyhow::{Result, bail};
use segue_flow::partition::partition_of;
use segue_flow::{RawRecord, Readiness, Source};
use segue_listen::EventTime;
use segue_listen::wire::{self, Decoded, Format};
use segue_sessions::LONGEST_USER;

/// Plays that are looked at in each partition.
const SAMPLE: usize = 1_000;

/// How long a partition is waited for; one that is empty says nothing.
const PATIENCE: Duration = Duration::from_millis(500);

/// The listener and the start of a play; `None` for what is no play, or none that a lane lets in.
pub fn play_in(record: &RawRecord<'_>) -> Option<(String, EventTime)> {
    let value = record.value?;
    match wire::decode(value, Format::of(value)) {
        Ok(Decoded::Listen(listen)) => {
            let listen = listen.listen();
            (listen.user.len() <= LONGEST_USER).then(|| (listen.user.to_owned(), listen.at))
        }
        _ => None,
    }
}

/// Looks at the first plays of each partition of `topic`.
///
/// # Errors
/// A play lies where its listener does not belong; a source that cannot be read.
pub fn check(sources: &mut [Box<dyn Source>], topic: &str) -> Result<()> {
    let lanes = u32::try_from(sources.len())?;
    for (lane, source) in (0u32..).zip(sources) {
        let (mut plays, mut strays, mut example) = (0usize, 0usize, None);
        loop {
            let readiness = source.read(PATIENCE, &mut |record| {
                if plays >= SAMPLE {
                    return;
                }
                if let Some((user, _)) = play_in(&record) {
                    plays += 1;
                    let belongs = partition_of(user.as_bytes(), lanes);
                    if belongs != lane {
                        strays += 1;
                        example.get_or_insert((record.offset, user, belongs));
                    }
                }
            })?;
            if plays >= SAMPLE || readiness != Readiness::More {
                break;
            }
        }
        if let Some((offset, user, belongs)) = example {
            bail!(
                "topic {topic} is not keyed by listener: {strays} of the first {plays} plays in \
                 partition {lane} belong elsewhere (offset {}: {user:?} belongs in {belongs}), so \
                 sessions would be torn. Put it right once with `segue rekey {topic} \
                 {topic}-by-listener` and set stream.topic, or run with --any-keys",
                offset.0
            );
        }
    }
    Ok(())
}
