//! Training that was stopped goes on: what is kept of it, and what it is compared with.

use serde::{Deserialize, Serialize};
use tch::Kind;

use super::course::{Course, Standing, Values};
use crate::backbone::Identity;
use crate::error::ModelError;
use crate::item_tower::copy_into;
use crate::kept::{Named, counted, numbered, part, read};
use crate::optimise::AdamFacts;
use crate::settings::{E4SRecSettings, OnlineSettings};

const ROOM: &str = "e4srec-training";

/// What is to be learnt, and by what: training goes on only with the same.
#[derive(PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Task {
    log: u128,
    vectors: u128,
    settings: E4SRecSettings,
    language_model: Identity,
}

/// What is kept, as far as it is not a tensor.
#[derive(Serialize)]
struct Facts<'a> {
    task: &'a Task,
    standing: &'a Standing,
    adapter: AdamFacts,
    rest: AdamFacts,
}

/// The same, read back.
#[derive(Deserialize)]
struct Owned {
    task: Task,
    standing: Standing,
    adapter: AdamFacts,
    rest: AdamFacts,
}

impl Task {
    /// The task of a course.
    pub fn of(course: &Course<'_>) -> Self {
        let [log, vectors] = course.material.prints();
        Self {
            log,
            vectors,
            settings: decisive(course.settings),
            language_model: (*course.backbone.identity).clone(),
        }
    }

    /// In what respect another task is another one.
    fn difference(&self, now: &Self) -> Option<String> {
        if self.log != now.log {
            return Some("another log".to_owned());
        }
        if self.language_model != now.language_model {
            let (was, now) = (&self.language_model, &now.language_model);
            return Some(format!("the language model {was}, and this one is {now}"));
        }
        if self.vectors != now.vectors {
            return Some("other vectors of the log's tracks".to_owned());
        }
        (self.settings != now.settings).then(|| "other settings (models.e4srec)".to_owned())
    }
}

/// Those settings on which the outcome of training depends; the others are as they are by default.
fn decisive(settings: &E4SRecSettings) -> E4SRecSettings {
    let mut decisive = settings.clone();
    let default = E4SRecSettings::default();
    decisive.cached_listeners = default.cached_listeners;
    decisive.keep_caches = default.keep_caches;
    decisive.batch_tokens = default.batch_tokens;
    decisive.offline.keep_every = default.offline.keep_every;
    decisive.online = OnlineSettings {
        row_rate: settings.online.row_rate,
        half_life: settings.online.half_life,
        recent: settings.online.recent,
        ..default.online
    };
    decisive
}

impl Course<'_> {
    /// All that is needed to go on from here.
    pub fn kept(&self, task: &Task) -> Result<Vec<u8>, ModelError> {
        let mut named = Named::new();
        name("now", &self.values()?, &mut named);
        if let Some(best) = &self.best {
            name("best", best, &mut named);
        }
        let facts = Facts {
            task,
            standing: &self.standing,
            adapter: self.adapter.kept("adam.adapter", &mut named),
            rest: self.rest.kept("adam.rest", &mut named),
        };
        part(ROOM, &facts, named)
    }

    /// Goes on from what was kept.
    pub fn take_up(&mut self, task: &Task, kept: &[u8]) -> Result<(), ModelError> {
        let (facts, mut tensors) = read::<Owned>(ROOM, kept)?;
        if let Some(difference) = facts.task.difference(task) {
            return Err(ModelError::OtherTraining(difference));
        }
        self.check(&facts.standing)?;
        let device = self.backbone.device();
        let here = self.values()?;
        let mut take = |of: &str| -> Result<Values, ModelError> {
            let (own, squares) = &here.own;
            let own = tensors.take(&format!("{of}.own"), Kind::Float, &own.size())?;
            let squares = tensors.take(&format!("{of}.squares"), Kind::Float, &squares.size())?;
            Ok(Values {
                shared: tensors.all(of, &here.shared)?,
                own: (own.f_to_device(device)?, squares.f_to_device(device)?),
            })
        };
        let now = take("now")?;
        let best = facts.standing.best.map(|_| take("best")).transpose()?;
        self.adapter
            .take_up("adam.adapter", &facts.adapter, &mut tensors)?;
        self.rest.take_up("adam.rest", &facts.rest, &mut tensors)?;
        tensors.finish()?;
        copy_into(&here.shared, &now.shared)?;
        self.put_back(&now)?;
        self.best = best;
        self.standing = facts.standing;
        tracing::info!(
            step = self.standing.step,
            epochs = self.standing.epochs,
            "training goes on"
        );
        Ok(())
    }

    /// Whether a standing is one that this course can have.
    fn check(&self, standing: &Standing) -> Result<(), ModelError> {
        let windows = self.plan.training.len();
        let mut order = standing.order.clone();
        order.sort_unstable();
        let whole = order.len() == windows
            && order.iter().zip(0u32..).all(|(&place, at)| place == at)
            && standing.at < windows.max(1)
            && standing.epochs <= self.settings.offline.epochs
            && standing.worse <= standing.epochs;
        counted("steps", standing.step)?;
        counted("tokens", standing.tokens)?;
        if whole {
            return Ok(());
        }
        Err(ModelError::State(format!(
            "window {} of {} after {} epochs",
            standing.at,
            order.len(),
            standing.epochs
        )))
    }
}

fn name(of: &str, values: &Values, named: &mut Named) {
    numbered(of, &values.shared, named);
    let (own, squares) = &values.own;
    named.push((format!("{of}.own"), own.shallow_clone()));
    named.push((format!("{of}.squares"), squares.shallow_clone()));
}
