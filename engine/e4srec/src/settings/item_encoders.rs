//! What can be tuned of the item encoders.
//!
//! Defaults are the reference settings where there are published ones, cut to what a stream's first
//! half can be trained on while people wait: to reproduce published figures, see the scenario
//! `item-encoders`.

use serde::{Deserialize, Serialize};

use super::{rate, share};
use crate::error::ModelError;
use crate::item_encoders::{Course, Reading};

/// The settings of one item encoder: its own, with defaults, and those that all of them have.
macro_rules! item_encoder_settings {
    (
        $(#[$about:meta])*
        $name:ident in $section:literal {
            $( $(#[$own_about:meta])* $own:ident: $kind:ty = $own_default:expr, )*
        }
        with { $( $shared:ident: $default:expr, )* }
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            /// Components of an item's vector.
            pub dimensions: i64,
            $( $(#[$own_about])* pub $own: $kind, )*
            /// Share of values dropped while learning, in [0, 1).
            pub dropout: f64,
            /// Plays before the last multiple of 50 that are read; with it a window holds up to
            /// `lookback + 49` plays.
            pub lookback: usize,
            /// Share of input plays that are read as "some track" while learning, so that a track
            /// which is new at inference has a vector that means this.
            pub unknown: f64,
            /// Passes over the log, at most.
            pub epochs: usize,
            /// Epochs without a better loss on the newest plays after which training stops.
            pub patience: usize,
            /// The newest share of each listener's plays that is not trained on until then, in
            /// [0, 0.5).
            pub validation: f64,
            /// Windows in a step.
            pub batch: usize,
            /// Adam's rate.
            pub learning_rate: f64,
            /// Deviation of the initial values.
            pub init: f32,
            /// Tracks up to which the softmax is full; above it, it is sampled.
            pub full_softmax_limit: usize,
            /// Draws of a sampled softmax, shared by a batch; large is what makes it work.
            pub draws: usize,
            /// What everything random is derived from.
            pub seed: u64,
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $own: $own_default, )* $( $shared: $default, )* }
            }
        }

        impl $name {
            /// Refuses what no model can be built from.
            ///
            /// # Errors
            /// The first setting out of its range.
            pub fn check(&self) -> Result<(), ModelError> {
                size(concat!($section, ".dimensions"), self.dimensions)?;
                size(concat!($section, ".batch"), self.batch as i64)?;
                size(concat!($section, ".draws"), self.draws as i64)?;
                self.check_own()?;
                if self.lookback > 50 {
                    let key = concat!($section, ".lookback");
                    return Err(ModelError::setting(key, self.lookback, "from 0 to 50"));
                }
                share(concat!($section, ".dropout"), self.dropout, 1.0)?;
                share(concat!($section, ".unknown"), self.unknown, 1.0)?;
                share(concat!($section, ".validation"), self.validation, 0.5)?;
                rate(concat!($section, ".learning_rate"), self.learning_rate)?;
                rate(concat!($section, ".init"), f64::from(self.init))
            }

            /// How its network is taught and asked.
            pub(crate) fn course(&self) -> Course {
                Course {
                    reading: self.reading(),
                    lookback: self.lookback,
                    unknown: self.unknown,
                    epochs: self.epochs,
                    patience: self.patience,
                    validation: self.validation,
                    batch: self.batch,
                    learning_rate: self.learning_rate,
                    full_softmax_limit: self.full_softmax_limit,
                    draws: self.draws,
                    seed: self.seed,
                }
            }
        }
    };
}

item_encoder_settings! {
    /// SASRec (Kang and McAuley 2018) with the loss that makes it accurate (Klenitskiy and Vasilev,
    /// RecSys 2023: full softmax, or a large sample of it).
    SasRecSettings in "sasrec" {
        /// Blocks of attention and feed-forward.
        blocks: usize = 2,
        /// Heads of attention; must divide `dimensions`.
        heads: i64 = 1,
    }
    with {
        dimensions: 64,
        dropout: 0.2,
        lookback: 14,
        unknown: 0.02,
        epochs: 8,
        patience: 1,
        validation: 0.1,
        batch: 64,
        learning_rate: 2e-3,
        init: 0.02,
        full_softmax_limit: 50_000,
        draws: 4_096,
        seed: 0,
    }
}

impl SasRecSettings {
    fn check_own(&self) -> Result<(), ModelError> {
        size("sasrec.blocks", self.blocks as i64)?;
        heads("sasrec.heads", self.heads, self.dimensions)
    }

    fn reading(&self) -> Reading {
        Reading::Causal
    }
}

item_encoder_settings! {
    /// BERT4Rec (Sun et al. 2019). It learns from the hidden fifth of the plays alone, and so takes
    /// many more epochs than the others: most published runs stop too early (Petrov and Macdonald,
    /// RecSys 2022). BERT's own deviation of initial values, 0.02, is for ten times the components:
    /// here it would cost the first epochs.
    Bert4RecSettings in "bert4rec" {
        /// Blocks of attention and feed-forward.
        blocks: usize = 2,
        /// Heads of attention; must divide `dimensions`.
        heads: i64 = 2,
        /// Share of a window's plays that are hidden, to be told from the others, in (0, 1).
        hidden: f64 = 0.2,
        /// Share of windows that are cut at any play, which alone is hidden, as when it is asked, in
        /// [0, 1].
        newest_only: f64 = 0.1,
    }
    with {
        dimensions: 64,
        dropout: 0.1,
        lookback: 14,
        unknown: 0.02,
        epochs: 200,
        patience: 10,
        validation: 0.1,
        batch: 64,
        learning_rate: 1e-3,
        init: 0.1,
        full_softmax_limit: 50_000,
        draws: 4_096,
        seed: 0,
    }
}

impl Bert4RecSettings {
    fn check_own(&self) -> Result<(), ModelError> {
        size("bert4rec.blocks", self.blocks as i64)?;
        heads("bert4rec.heads", self.heads, self.dimensions)?;
        if self.hidden <= 0.0 {
            let range = "above 0 and below 1";
            return Err(ModelError::setting("bert4rec.hidden", self.hidden, range));
        }
        share("bert4rec.hidden", self.hidden, 1.0)?;
        if !(0.0..=1.0).contains(&self.newest_only) {
            let key = "bert4rec.newest_only";
            return Err(ModelError::setting(key, self.newest_only, "from 0 to 1"));
        }
        Ok(())
    }

    fn reading(&self) -> Reading {
        Reading::Cloze {
            hidden: self.hidden,
            newest_only: self.newest_only,
        }
    }
}

item_encoder_settings! {
    /// GRU4Rec (Hidasi et al. 2016; Hidasi and Karatzoglou 2018) with what unofficial versions lack
    /// (Hidasi and Czapp, RecSys 2023): one table for input and output, dropout of inputs and of
    /// states, the cross-entropy over all or many tracks with its logQ correction. Unlike the
    /// official one it is taught over whole windows and by Adam, as the others here are.
    Gru4RecSettings in "gru4rec" {
        /// Layers of recurrent units, each as wide as `dimensions`.
        layers: i64 = 1,
        /// Share of an input vector's values dropped while learning, in [0, 1).
        input_dropout: f64 = 0.1,
    }
    with {
        dimensions: 128,
        dropout: 0.2,
        lookback: 14,
        unknown: 0.02,
        epochs: 30,
        patience: 2,
        validation: 0.1,
        batch: 64,
        learning_rate: 2e-3,
        init: 0.02,
        full_softmax_limit: 50_000,
        draws: 4_096,
        seed: 0,
    }
}

impl Gru4RecSettings {
    fn check_own(&self) -> Result<(), ModelError> {
        size("gru4rec.layers", self.layers)?;
        share("gru4rec.input_dropout", self.input_dropout, 1.0)
    }

    fn reading(&self) -> Reading {
        Reading::Causal
    }
}

fn size(key: &'static str, value: i64) -> Result<(), ModelError> {
    if (1..=1 << 20).contains(&value) {
        return Ok(());
    }
    Err(ModelError::setting(key, value, "from 1 to 1048576"))
}

fn heads(key: &'static str, heads: i64, dimensions: i64) -> Result<(), ModelError> {
    size(key, heads)?;
    if dimensions % heads == 0 {
        return Ok(());
    }
    Err(ModelError::setting(
        key,
        heads,
        "to a divisor of dimensions",
    ))
}
