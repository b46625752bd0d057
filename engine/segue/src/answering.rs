//! Who answers in `segue run`: what needs no training, models that were trained before, or models that
//! are taught on the first part of the stream.

use std::time::Duration;

use anyhow::Result;
use segue_flow::{Sink, Source};

use crate::commands::run::counting;
use crate::config::Config;
use crate::pipeline::Pipeline;

/// As long as a broker lets a transaction stay open, if nobody has told it otherwise
/// (`transaction.max.timeout.ms`).
const LONGEST_TRANSACTION: Duration = Duration::from_secs(900);

/// How long a run may stand still: while its models are taught.
pub const fn standstill(config: &Config) -> Duration {
    match config.recommend.train_plays {
        0 => Duration::ZERO,
        _ => LONGEST_TRANSACTION,
    }
}

/// A run as the configuration has it; without checkpoints, and with nobody watching or stopping it.
///
/// # Errors
/// Weights or models that are missing or torn, settings that make no sense.
pub fn answering(
    config: &Config,
    sources: Vec<Box<dyn Source>>,
    sink: Box<dyn Sink>,
) -> Result<Pipeline> {
    let counting = counting(config, sources, sink);
    match config.recommend.train_plays > 0 || config.has_trained_models() {
        false => Ok(counting),
        true => with_models(config, counting),
    }
}

#[cfg(feature = "torch")]
fn with_models(config: &Config, counting: Pipeline) -> Result<Pipeline> {
    use crate::models::{self, Models};
    use crate::trained;

    let models = Models::load(config)?;
    tracing::info!(
        train_plays = config.recommend.train_plays,
        "device: {}",
        models.reason()
    );
    let mut encoders = models.live_encoders(config, counting.clock.clone())?;
    // The company that a text is encoded in changes the last bits of its vector, and who is in it
    // depends on the clock.
    if config.recommend.exact {
        encoders.batch = 1;
    }
    let (clock, taught) = (counting.clock.clone(), std::sync::Arc::default());
    let answering = trained::answering(models, config, &encoders.modalities(), clock, taught)?;
    Ok(Pipeline {
        stage: segue_recommend::stage::StageSettings {
            train_plays: config.recommend.train_plays,
            unmeasured: models::unmeasured(),
            compare: models::comparisons(config),
            ..counting.stage
        },
        recommenders: answering.recommenders,
        curriculum: answering.curriculum,
        known: answering.known,
        encoders: Some(encoders),
        ..counting
    })
}

#[cfg(not(feature = "torch"))]
fn with_models(config: &Config, _: Pipeline) -> Result<Pipeline> {
    anyhow::bail!(
        "recommend.train_plays = {}: this build has no models; set it to 0, or build with the feature \
         torch",
        config.recommend.train_plays
    )
}
