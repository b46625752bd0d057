//! Who rates: a language model here, or one elsewhere.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use segue_catalog::ratings::prompt::Anchor;

use super::Wanted;
use super::endpoint::Elsewhere;
use super::local::Here;
use crate::config::Config;
use segue_encode::vector_cache::{ContentPrint, VectorCache};

/// What became of the tracks that were to be rated; the ratings themselves are in the cache.
#[derive(Default)]
pub struct Outcome {
    /// Why tracks have none.
    pub problems: HashMap<ContentPrint, String>,
    /// Why not all were asked for, if so.
    pub ended: Option<String>,
}

impl Outcome {
    /// Why a track has no ratings.
    pub fn problem_of(&self, content: ContentPrint) -> String {
        let ended = || {
            self.ended
                .as_ref()
                .map(|why| format!("not asked for: {why}"))
        };
        let known = self.problems.get(&content).cloned().or_else(ended);
        known.unwrap_or_else(|| "not asked for".to_owned())
    }
}

/// Who rates.
pub enum Rater {
    Here(Box<Here>),
    Elsewhere(Box<Elsewhere>),
}

impl Rater {
    /// The language model that `named` means.
    ///
    /// # Errors
    /// It is not there, or cannot be asked for ratings.
    pub fn here(named: &str, anchors: &[Anchor], config: &Config) -> Result<Self> {
        Ok(Self::Here(Box::new(Here::load(named, anchors, config)?)))
    }

    /// A model behind an endpoint.
    ///
    /// # Errors
    /// Settings that cannot be meant.
    pub fn elsewhere(base: &str, model: &str, anchors: &[Anchor], config: &Config) -> Result<Self> {
        let elsewhere = Elsewhere::new(base, model, anchors, &config.endpoint)?;
        Ok(Self::Elsewhere(Box::new(elsewhere)))
    }

    /// Who it is, in a line for people.
    pub fn about(&self) -> &str {
        match self {
            Self::Here(here) => here.about(),
            Self::Elsewhere(elsewhere) => elsewhere.about(),
        }
    }

    /// What tells its ratings from another's: the model and all that it is told beside the track.
    pub fn print(&self) -> &str {
        match self {
            Self::Here(here) => here.print(),
            Self::Elsewhere(elsewhere) => elsewhere.print(),
        }
    }

    /// What it has cost, where it costs.
    pub fn spent(&self) -> Option<String> {
        match self {
            Self::Here(_) => None,
            Self::Elsewhere(elsewhere) => Some(elsewhere.spent()),
        }
    }

    /// Rates tracks into the cache.
    ///
    /// # Errors
    /// Whatever stops it; a track that gets no ratings does not.
    pub fn rate(
        &mut self,
        wanted: &[Wanted],
        cache: &mut VectorCache,
        out: &Path,
        stop: &AtomicBool,
    ) -> Result<Outcome> {
        match self {
            Self::Here(here) => here.rate(wanted, cache, out, stop),
            Self::Elsewhere(elsewhere) => elsewhere.rate(wanted, cache, out, stop),
        }
    }
}
