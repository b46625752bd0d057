//! The queues of a run, by name: what lies between its threads, and what happens when it is full.

use anyhow::{Result, bail};
use segue_flow::queue::{QueueSettings, WhenFull};
use serde::{Deserialize, Serialize};

/// `[queues]`. Each has its metrics, labelled with its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Queues {
    /// From all lanes to the recommending stage.
    pub lanes: QueueSettings,
    /// Of new tracks, from the recommending stage to the encoder.
    pub newcomers: QueueSettings,
    /// Of their vectors, from the encoder back.
    pub vectors: QueueSettings,
}

impl Default for Queues {
    fn default() -> Self {
        let of = |capacity, when_full| QueueSettings {
            capacity,
            when_full,
        };
        Self {
            lanes: of(16, WhenFull::Block),
            newcomers: of(4, WhenFull::Coalesce),
            vectors: of(4, WhenFull::Block),
        }
    }
}

impl Queues {
    /// # Errors
    /// A queue that holds nothing; one that drops predictions which exact mode (`exact`) promises.
    pub fn check(&self, exact: bool) -> Result<()> {
        for (name, queue) in [
            ("lanes", self.lanes),
            ("newcomers", self.newcomers),
            ("vectors", self.vectors),
        ] {
            if queue.capacity == 0 {
                bail!("queues.{name}.capacity is 0: it must be at least 1");
            }
        }
        if exact && self.lanes.when_full == WhenFull::Coalesce {
            bail!(
                "queues.lanes.when_full = \"coalesce\" leaves out predictions that were not made in \
                 time, and in exact mode each is made: set it to \"block\", or recommend.exact to false"
            );
        }
        Ok(())
    }
}
