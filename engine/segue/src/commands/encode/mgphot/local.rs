//! A language model that runs here.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use segue_catalog::ratings::prompt::{Anchor, instruction};
use segue_encode::rater::LocalRater;
use segue_encode::vector_cache::VectorCache;
use segue_nn::device::choose;

use super::Wanted;
use super::rater::Outcome;
use crate::commands::encode::go_on;
use crate::commands::encode::store::keep;
use crate::config::Config;
use crate::models::place;
use crate::watch;

/// A language model that runs here.
pub struct Here {
    rater: LocalRater,
    about: String,
    print: String,
}

impl Here {
    pub fn load(named: &str, anchors: &[Anchor], config: &Config) -> Result<Self> {
        let chosen = choose(config.models.device);
        let path = place::language_model(named, &place::folder(&config.models))?;
        let weights = config.models.e4srec.backbone.weights;
        let how = (chosen.device, config.models.precision, weights);
        let rater = LocalRater::load(&path, anchors, how)
            .with_context(|| format!("{} cannot rate", path.display()))?;
        let print = format!(
            "mgphot here {:032x} {:?} {anchors:?} {}",
            rater.fingerprint()?,
            config.models.precision.kind(chosen.device),
            instruction()
        );
        let about = format!(
            "device: {}\n{named} has read the schema and {} anchors, {} tokens",
            chosen.reason,
            anchors.len(),
            rater.kept()
        );
        Ok(Self {
            rater,
            about,
            print,
        })
    }

    pub fn about(&self) -> &str {
        &self.about
    }

    pub fn print(&self) -> &str {
        &self.print
    }

    pub fn rate(
        &mut self,
        wanted: &[Wanted],
        cache: &mut VectorCache,
        out: &Path,
        stop: &AtomicBool,
    ) -> Result<Outcome> {
        let bar = watch::bar(wanted.len() as u64, "rating");
        for some in wanted.chunks(self.rater.tracks_at_once()) {
            go_on(stop, out)?;
            let lines: Vec<&str> = some.iter().map(|track| track.line.as_str()).collect();
            for (track, ratings) in some.iter().zip(self.rater.rate(&lines)?) {
                keep(cache, track.content, &ratings)?;
            }
            bar.inc(some.len() as u64);
        }
        bar.finish_and_clear();
        Ok(Outcome::default())
    }
}
