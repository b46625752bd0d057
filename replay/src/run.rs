//! A replay: the logs of some inputs into a sink, from where it last stood.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use segue_flow::Sink;
use segue_flow::clock::{MachineClock, WallClock};
use serde::{Deserialize, Serialize};

use crate::deliver::{Delivered, Delivery, DeliverySettings};
use crate::error::ReplayError;
use crate::inputs::Inputs;
use crate::ordered::{OrderedListens, ReadReport};
use crate::progress::Progress;
use crate::rejects::Rejects;
use crate::settings::{MergeSettings, ReadSettings};
use crate::state::{Standing, StateFile};

/// All that a replay may be told.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReplaySettings {
    /// How logs are read.
    pub read: ReadSettings,
    /// How they are sorted.
    pub merge: MergeSettings,
    /// How listens are written.
    pub deliver: DeliverySettings,
    /// Where the replay notes after each epoch how far it has come, to go on there. Default: it
    /// starts from the first listen.
    pub state: Option<PathBuf>,
}

/// What a replay did.
#[derive(Clone, PartialEq, Debug)]
pub struct ReplayReport {
    /// What the reading found; `None` if it was stopped before the end or had nothing to do.
    pub read: Option<ReadReport>,
    /// What was written; `None` if it was stopped while reading.
    pub delivered: Option<Delivered>,
}

impl ReplayReport {
    /// How many rows and listens were rejected: as they were read, or by the sink.
    pub fn rejected(&self) -> u64 {
        let read = self.read.as_ref().map_or(0, |read| read.rejected.bad());
        read + self.delivered.map_or(0, |delivered| delivered.too_large)
    }
}

/// A replay that is ready to run.
pub struct Replay {
    inputs: Inputs,
    settings: ReplaySettings,
    clock: Arc<dyn WallClock>,
}

impl Replay {
    /// A replay of `inputs`, by the machine's clock.
    pub fn new(inputs: Inputs, settings: ReplaySettings) -> Self {
        Self {
            inputs,
            settings,
            clock: Arc::new(MachineClock::start()),
        }
    }

    /// The same, paced by another clock.
    pub fn with_clock(self, clock: Arc<dyn WallClock>) -> Self {
        Self { clock, ..self }
    }

    /// Reads, sorts and writes, until the end or until `stop` is set. Calling it again (in a new
    /// process too) goes on where the state file says.
    ///
    /// # Errors
    /// See [`ReplayError`]. What is committed stays so.
    pub fn run(
        &self,
        sink: &mut dyn Sink,
        stop: &AtomicBool,
        mut watch: impl FnMut(&Progress),
    ) -> Result<ReplayReport, ReplayError> {
        let settings = &self.settings.deliver;
        let (state, standing) = self.standing()?;
        let delivery = |sink, standing, state| {
            Delivery::new(settings, self.clock.clone(), sink, stop, standing, state)
        };
        if standing.finished {
            let mut nothing = crate::stream::InOrder::new(std::iter::empty(), Some(0));
            let delivered = delivery(sink, standing, state)?.run(&mut nothing, &mut watch)?;
            return Ok(ReplayReport {
                read: None,
                delivered: Some(delivered),
            });
        }
        // The run before this one has kept what the reading rejects; what the sink refused is there.
        let kept = self.settings.read.rejects.as_deref();
        let kept = kept.filter(|path| standing.position > 0 && path.exists());
        let mut read = self.settings.read.clone();
        if kept.is_some() {
            read.rejects = None;
        }
        let merge = &self.settings.merge;
        let listens = OrderedListens::read(&self.inputs, &read, merge, |progress| {
            watch(&Progress::Reading(progress));
            match stop.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        let Some(mut listens) = listens else {
            return Ok(ReplayReport {
                read: None,
                delivered: None,
            });
        };
        let report = listens.report().clone();
        listens.skip_to(standing.position)?;
        let rejects = match kept {
            Some(path) => Rejects::added_to(path)?,
            None => listens.take_rejects(),
        };
        let delivered = delivery(sink, standing, state)?
            .keeping(rejects)
            .run(&mut listens, &mut watch)?;
        Ok(ReplayReport {
            read: Some(report),
            delivered: Some(delivered),
        })
    }

    /// Where the state file says the replay stands, if there is one.
    fn standing(&self) -> Result<(Option<StateFile>, Standing), ReplayError> {
        let deliver = &self.settings.deliver;
        let Some(path) = &self.settings.state else {
            let start = Standing::start("", &deliver.topic, deliver.partitions);
            return Ok((None, start));
        };
        let input = self.inputs.fingerprint()?;
        let start = Standing::start(&input, &deliver.topic, deliver.partitions);
        let (file, standing) = StateFile::open(path, start)?;
        Ok((Some(file), standing))
    }
}
