//! Watches how well the model answers, and takes back what it has learnt when that falls.
//!
//! Labels may be wrong: a feed that stamps the wrong track, a bot, a rate set too high. What is then
//! learnt makes the answers worse, and the ranks that the prequential test takes before every lesson
//! show it. The guard keeps the mean reciprocal rank over windows of plays. When a window's mean falls
//! well below what it was, everything that was learnt goes back to where it stood at the beginning of
//! the last window that held: adapter, projection, heads, the map of contents, the tracks' own vectors;
//! the examples since then are forgotten, and a new adapter is published with the old one's values.
//! What was only counted stays: it happened.
//!
//! Who has changed, the model or the listeners? A mean alone does not tell: a window has to be of enough
//! listeners to be alike the one before, and where that cannot be had, the guard is off, as it is by default.
//! A mean that stays low brings its expectation down with it, so that after some windows the stream as it is
//! now is what answers are held against.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::error::ModelError;
use crate::item_tower::{ItemTower, copied, copy_into};
use crate::kept::{Named, Tensors, numbered};
use crate::model::E4SRec;
use crate::settings::OnlineSettings;

/// Weight of the newest window in what is expected.
const NEWEST_WEIGHT: f64 = 0.25;
/// A fall has to be so many standard errors deep, whatever share it is.
const SURE: f64 = 4.0;

/// What the newest window says.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Verdict {
    /// It is not over.
    Open,
    /// The answers are as good as they were.
    Held,
    /// They have become worse: from what was expected to what was found, mean reciprocal ranks.
    Fell { expected: f64, found: f64 },
}

/// What was learnt, as it stood at the beginning of a window.
#[derive(Debug)]
struct Standing {
    /// The parameters that all tracks share.
    shared: Vec<Tensor>,
    /// Tracks' own vectors as they were before this window changed them.
    replaced: Replaced,
    /// Examples that had been learnt from.
    examples: u64,
    /// The adapter's version.
    version: u64,
}

/// Rows of a table before they were changed, each once.
#[derive(Debug, Default)]
struct Replaced {
    known: HashSet<i64>,
    rows: Vec<i64>,
    /// `[n, d]` each, in the order of `rows`.
    residuals: Vec<Tensor>,
    /// `[n]` each.
    squares: Vec<Tensor>,
}

/// Whom the model has become since, and whom it can go back to.
#[derive(Debug)]
pub(crate) struct Guard {
    /// Reciprocal ranks of the window: count, sum, sum of squares.
    asked: u64,
    sum: f64,
    squares: f64,
    expected: Option<f64>,
    /// Where the last window that held began.
    held: Option<Standing>,
    /// Where the window that is going on began.
    begun: Standing,
}

/// What of it is not a tensor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct GuardFacts {
    asked: u64,
    sum: f64,
    squares: f64,
    expected: Option<f64>,
    held: Option<StandingFacts>,
    begun: StandingFacts,
}

#[derive(Debug, Serialize, Deserialize)]
struct StandingFacts {
    rows: Vec<i64>,
    examples: u64,
    version: u64,
}

/// Where the model went back to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WentBack {
    pub version: u64,
    pub examples: u64,
}

impl Guard {
    /// From now on; `shared` are the parameters that all tracks share.
    pub fn new(shared: &[Tensor], examples: u64, version: u64) -> Result<Self, ModelError> {
        Ok(Self {
            asked: 0,
            sum: 0.0,
            squares: 0.0,
            expected: None,
            held: None,
            begun: Standing::of(shared, examples, version)?,
        })
    }

    /// Of a model as it is, after so many examples; none where its answers are not watched.
    pub fn of(model: &E4SRec, examples: u64) -> Result<Option<Self>, ModelError> {
        let watched = model.settings.online.watched > 0;
        watched
            .then(|| Self::new(&model.shared(), examples, model.adapter_version))
            .transpose()
    }

    /// A play was found at this rank, or not at all.
    pub fn note_rank(&mut self, rank: Option<u32>) {
        let value = rank.map_or(0.0, |rank| 1.0 / f64::from(rank.max(1)));
        self.asked += 1;
        self.sum += value;
        self.squares += value * value;
    }

    /// These rows are about to change.
    pub fn note_rows(&mut self, tower: &ItemTower, rows: &Tensor) -> Result<(), ModelError> {
        self.begun.replaced.note(tower, rows)
    }

    /// Whether the window is over, and how it went; then the next one is counted from nothing.
    pub fn judge(&mut self, settings: &OnlineSettings) -> Verdict {
        if settings.watched == 0 || self.asked < settings.watched {
            return Verdict::Open;
        }
        let asked = self.asked as f64;
        let found = self.sum / asked;
        let variance = (self.squares / asked - found * found).max(0.0);
        let error = (variance / asked).sqrt();
        (self.asked, self.sum, self.squares) = (0, 0.0, 0.0);
        let Some(expected) = self.expected else {
            self.expected = Some(found);
            return Verdict::Held;
        };
        self.expected = Some(expected + NEWEST_WEIGHT * (found - expected));
        let below = expected - found;
        if below > settings.fall * expected && below > SURE * error {
            return Verdict::Fell { expected, found };
        }
        Verdict::Held
    }

    /// The window held: the next one begins.
    pub fn turn(
        &mut self,
        shared: &[Tensor],
        examples: u64,
        version: u64,
    ) -> Result<(), ModelError> {
        let next = Standing::of(shared, examples, version)?;
        self.held = Some(std::mem::replace(&mut self.begun, next));
        Ok(())
    }

    /// Puts all that was learnt back to the beginning of the last window that held, or of this one
    /// where none did.
    pub fn take_back(
        &mut self,
        shared: &[Tensor],
        tower: &mut ItemTower,
    ) -> Result<WentBack, ModelError> {
        self.begun.replaced.put_back(tower)?;
        if let Some(held) = self.held.take() {
            held.replaced.put_back(tower)?;
            self.begun = held;
        }
        self.begun.replaced = Replaced::default();
        copy_into(shared, &self.begun.shared)?;
        Ok(WentBack {
            version: self.begun.version,
            examples: self.begun.examples,
        })
    }

    /// What belongs into a checkpoint.
    pub fn kept(&self, named: &mut Named) -> Result<GuardFacts, ModelError> {
        let held = self.held.as_ref();
        Ok(GuardFacts {
            asked: self.asked,
            sum: self.sum,
            squares: self.squares,
            expected: self.expected,
            held: held
                .map(|held| held.kept("guard.held", named))
                .transpose()?,
            begun: self.begun.kept("guard.begun", named)?,
        })
    }

    /// Takes up what was kept of a model with these parameters.
    pub fn taken_up(
        facts: GuardFacts,
        shared: &[Tensor],
        tower: &ItemTower,
        tensors: &mut Tensors<'_>,
    ) -> Result<Self, ModelError> {
        let sums = [facts.sum, facts.squares];
        let within = |value: &f64| (0.0..=facts.asked as f64).contains(value);
        if !sums.iter().all(within) || facts.expected.is_some_and(|e| !(0.0..=1.0).contains(&e)) {
            return Err(ModelError::State(format!(
                "{} ranks whose reciprocals sum up to {}, where {:?} was expected of each",
                facts.asked, facts.sum, facts.expected
            )));
        }
        let mut standing = |name: &str, facts: StandingFacts| {
            Standing::taken_up(name, facts, shared, tower, tensors)
        };
        let begun = standing("guard.begun", facts.begun)?;
        let held = facts.held;
        Ok(Self {
            asked: facts.asked,
            sum: facts.sum,
            squares: facts.squares,
            expected: facts.expected,
            held: held.map(|held| standing("guard.held", held)).transpose()?,
            begun,
        })
    }
}

impl Standing {
    fn of(shared: &[Tensor], examples: u64, version: u64) -> Result<Self, ModelError> {
        Ok(Self {
            shared: shared.iter().map(copied).collect::<Result<_, _>>()?,
            replaced: Replaced::default(),
            examples,
            version,
        })
    }

    fn kept(&self, name: &str, named: &mut Named) -> Result<StandingFacts, ModelError> {
        numbered(&format!("{name}.shared"), &self.shared, named);
        let replaced = &self.replaced;
        if !replaced.rows.is_empty() {
            let [residuals, squares] =
                [&replaced.residuals, &replaced.squares].map(|chunks| Tensor::f_cat(chunks, 0));
            named.push((format!("{name}.residuals"), residuals?));
            named.push((format!("{name}.squares"), squares?));
        }
        Ok(StandingFacts {
            rows: replaced.rows.clone(),
            examples: self.examples,
            version: self.version,
        })
    }

    fn taken_up(
        name: &str,
        facts: StandingFacts,
        shared: &[Tensor],
        tower: &ItemTower,
        tensors: &mut Tensors<'_>,
    ) -> Result<Self, ModelError> {
        let kept = tensors.all(&format!("{name}.shared"), shared)?;
        let mut standing = Self::of(shared, facts.examples, facts.version)?;
        copy_into(&standing.shared, &kept)?;
        let known: HashSet<i64> = facts.rows.iter().copied().collect();
        let count = facts.rows.len() as i64;
        if known.len() != facts.rows.len()
            || !facts.rows.iter().all(|row| (0..tower.rows()).contains(row))
        {
            return Err(ModelError::State(format!(
                "{count} rows before they were changed, of {} that there are",
                tower.rows()
            )));
        }
        if count > 0 {
            let mut take = |part: &str, shape: &[i64]| -> Result<Tensor, ModelError> {
                let kept = tensors.take(&format!("{name}.{part}"), Kind::Float, shape)?;
                Ok(kept.f_to_device(tower.device())?)
            };
            standing.replaced = Replaced {
                residuals: vec![take("residuals", &[count, tower.dimensions()])?],
                squares: vec![take("squares", &[count])?],
                rows: facts.rows,
                known,
            };
        }
        Ok(standing)
    }
}

impl Replaced {
    fn note(&mut self, tower: &ItemTower, rows: &Tensor) -> Result<(), ModelError> {
        let mut new: Vec<i64> = Vec::try_from(rows.f_to_device(tch::Device::Cpu)?)?;
        new.retain(|&row| self.known.insert(row));
        if new.is_empty() {
            return Ok(());
        }
        let index = Tensor::f_from_slice(&new)?.f_to_device(tower.device())?;
        let (residuals, squares) = tower.learnt(&index)?;
        self.residuals.push(residuals);
        self.squares.push(squares);
        self.rows.append(&mut new);
        Ok(())
    }

    fn put_back(&self, tower: &mut ItemTower) -> Result<(), ModelError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let rows = Tensor::f_from_slice(&self.rows)?.f_to_device(tower.device())?;
        let residuals = Tensor::f_cat(&self.residuals, 0)?;
        tower.put_back(&rows, &residuals, &Tensor::f_cat(&self.squares, 0)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fusion::Parts;
    use tch::Device;

    fn guard() -> (Guard, OnlineSettings) {
        let settings = OnlineSettings {
            watched: 100,
            fall: 0.3,
            ..OnlineSettings::default()
        };
        (Guard::new(&[], 0, 0).unwrap(), settings)
    }

    fn window(guard: &mut Guard, settings: &OnlineSettings, rank: u32) -> Verdict {
        for _ in 0..99 {
            guard.note_rank(Some(rank));
        }
        assert_eq!(guard.judge(settings), Verdict::Open);
        guard.note_rank(None);
        guard.judge(settings)
    }

    #[test]
    fn a_fall_is_one_from_what_was_expected_until_it_is_what_is_expected() {
        let (mut guard, settings) = guard();
        assert_eq!(window(&mut guard, &settings, 2), Verdict::Held);
        assert_eq!(window(&mut guard, &settings, 2), Verdict::Held);
        assert_eq!(window(&mut guard, &settings, 1), Verdict::Held);
        let fell = window(&mut guard, &settings, 4);
        assert!(matches!(fell, Verdict::Fell { found, .. } if found < 0.25));
        // It stays so: in the end it is the listeners who have changed.
        let stays = (0..8).map(|_| window(&mut guard, &settings, 4));
        let stays: Vec<bool> = stays.map(|verdict| verdict == Verdict::Held).collect();
        assert!(!stays[0] && stays[7], "{stays:?}");
    }

    #[test]
    fn few_plays_far_apart_prove_nothing() {
        let (mut guard, mut settings) = guard();
        settings.watched = 4;
        let mut of = |ranks: [u32; 4]| {
            for rank in ranks {
                guard.note_rank(Some(rank));
            }
            guard.judge(&settings)
        };
        assert_eq!(of([1, 1, 100, 100]), Verdict::Held);
        assert_eq!(of([1, 100, 100, 100]), Verdict::Held, "half, by chance");
    }

    #[test]
    fn unwatched_it_never_judges() {
        let (mut guard, mut settings) = guard();
        settings.watched = 0;
        for _ in 0..1_000 {
            guard.note_rank(None);
        }
        assert_eq!(guard.judge(&settings), Verdict::Open);
    }

    #[test]
    fn a_state_that_cannot_be_is_refused() {
        let (guard, _) = guard();
        let parts = Parts::new(&Default::default(), None).unwrap();
        let tower = ItemTower::new(&Default::default(), parts, 0, Device::Cpu).unwrap();
        let mut named = Named::new();
        let mut facts = guard.kept(&mut named).unwrap();
        facts.begun.rows = vec![0];
        let bytes = crate::kept::part("guard", &facts, named).unwrap();
        let (facts, mut tensors) = crate::kept::read::<GuardFacts>("guard", &bytes).unwrap();
        let error = Guard::taken_up(facts, &[], &tower, &mut tensors).unwrap_err();
        assert!(matches!(error, ModelError::State(_)), "{error}");
    }
}
