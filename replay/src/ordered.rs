//! All listens of some logs in one time order, to be pulled one by one.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::Ordering;

use segue_listen::{EventTime, ListenRef};

use crate::error::ReplayError;
use crate::formats::profile;
use crate::inputs::Inputs;
use crate::merge::{Sorted, Sorter};
use crate::open::BytesRead;
use crate::rejects::{RejectCounts, Rejects};
use crate::settings::{MergeSettings, ReadSettings};

/// How often the watcher of a reading is called.
const LISTENS_PER_LOOK: u64 = 16_384;

/// How far the reading of the logs has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReadProgress {
    /// Bytes read from disk.
    pub bytes: u64,
    /// Bytes there are on disk.
    pub total_bytes: u64,
    /// Listens found.
    pub listens: u64,
}

/// What the reading of the logs found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReadReport {
    /// Listens, duplicates included.
    pub listens: u64,
    /// The first listen's start.
    pub first: Option<EventTime>,
    /// The last listen's start.
    pub last: Option<EventTime>,
    /// Rows that are no listens, by reason.
    pub rejected: RejectCounts,
    /// Place and reason of the first few of them.
    pub examples: Vec<String>,
    /// What the tables of listeners say that lie beside the logs.
    pub profiles: profile::Summary,
}

/// Listens in the order of time, then user, then arrival. Duplicates are passed on: the engine drops
/// and counts them.
pub struct OrderedListens {
    sorted: Sorted,
    report: ReadReport,
    rejects: Rejects,
    position: u64,
}

impl OrderedListens {
    /// Reads all of `inputs` and sorts it. `watch` is called now and then and may stop it, which
    /// gives `None`.
    ///
    /// # Errors
    /// Those of the files and of the temporary space; [`ReplayError::NoListens`] if there is not one
    /// good row.
    pub fn read(
        inputs: &Inputs,
        reading: &ReadSettings,
        merge: &MergeSettings,
        mut watch: impl FnMut(ReadProgress) -> ControlFlow<()>,
    ) -> Result<Option<Self>, ReplayError> {
        let mut rejects = match &reading.rejects {
            Some(path) => Rejects::kept_in(path)?,
            None => Rejects::counted(),
        };
        let bytes_read = BytesRead::default();
        let mut sorter = Sorter::new(merge)?;
        let mut ends = Ends::default();
        for log in &inputs.logs {
            let flow = log.read(reading, &mut rejects, &bytes_read, |listen| {
                sorter.push(&listen)?;
                ends.take_in(listen.at);
                if sorter.listens().is_multiple_of(LISTENS_PER_LOOK) {
                    return Ok(watch(ReadProgress {
                        bytes: bytes_read.load(Ordering::Relaxed),
                        total_bytes: inputs.bytes(),
                        listens: sorter.listens(),
                    }));
                }
                Ok(ControlFlow::Continue(()))
            })?;
            rejects.flush()?;
            let flow = match flow {
                ControlFlow::Continue(()) => watch(ReadProgress {
                    bytes: bytes_read.load(Ordering::Relaxed),
                    total_bytes: inputs.bytes(),
                    listens: sorter.listens(),
                }),
                stopped => stopped,
            };
            if flow.is_break() {
                return Ok(None);
            }
        }
        if sorter.listens() == 0 {
            return Err(ReplayError::NoListens {
                inputs: inputs.named().to_owned(),
                rejected: rejects.counts().bad(),
                first: rejects.examples().first().cloned().unwrap_or_default(),
                kept: rejects.path().map(Path::to_owned),
            });
        }
        let profiles = inputs.profiles(&mut rejects)?;
        rejects.flush()?;
        let report = ReadReport {
            listens: sorter.listens(),
            first: ends.first,
            last: ends.last,
            rejected: *rejects.counts(),
            examples: rejects.examples().to_vec(),
            profiles,
        };
        Ok(Some(Self {
            sorted: sorter.finish()?,
            report,
            rejects,
            position: 0,
        }))
    }

    /// Sorts listens that are in memory or made on the way, for example by the simulator.
    ///
    /// # Errors
    /// Those of the temporary space.
    pub fn of(
        listens: impl IntoIterator<Item = segue_listen::Listen>,
        merge: &MergeSettings,
    ) -> Result<Self, ReplayError> {
        let mut sorter = Sorter::new(merge)?;
        let mut ends = Ends::default();
        for listen in listens {
            sorter.push(&listen.borrowed())?;
            ends.take_in(listen.at);
        }
        Ok(Self {
            report: ReadReport {
                listens: sorter.listens(),
                first: ends.first,
                last: ends.last,
                ..ReadReport::default()
            },
            sorted: sorter.finish()?,
            rejects: Rejects::counted(),
            position: 0,
        })
    }

    /// The next listen; `None` after the last.
    ///
    /// # Errors
    /// Those of the temporary space.
    pub fn next_listen(&mut self) -> Result<Option<ListenRef<'_>>, ReplayError> {
        let next = self.sorted.next_listen()?;
        self.position += u64::from(next.is_some());
        Ok(next)
    }

    /// Passes over listens until `position` of them have gone by.
    ///
    /// # Errors
    /// Those of the temporary space.
    pub fn skip_to(&mut self, position: u64) -> Result<(), ReplayError> {
        while self.position < position && self.next_listen()?.is_some() {}
        Ok(())
    }

    /// How many listens have gone by.
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// The keeper of bad rows, for whoever goes on with the listens.
    pub fn take_rejects(&mut self) -> Rejects {
        std::mem::take(&mut self.rejects)
    }

    /// What the reading found.
    pub const fn report(&self) -> &ReadReport {
        &self.report
    }
}

#[derive(Default)]
struct Ends {
    first: Option<EventTime>,
    last: Option<EventTime>,
}

impl Ends {
    fn take_in(&mut self, at: EventTime) {
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
        self.last = self.last.max(Some(at));
    }
}
