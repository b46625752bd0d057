//! What the language model and those that answer with it will take of memory, part by part, before a
//! byte of its weights is read; and whether there is that much.
//!
//! Weights are there once. What learns, what is folded into the weights so that an answer costs nothing
//! more, and what is kept of listeners is there once for each of [`ANSWERING`] models.

use std::fmt;
use std::path::Path;

use segue_nn::NnError;
use segue_nn::decoder_config::DecoderConfig;
use segue_nn::memory::{MemoryPlan, MemoryTable, readable};
use segue_nn::packed::WeightFormat;
use segue_nn::tokenizer::Tokenizer;
use segue_nn::weights::Weights;
use tch::Device;

use crate::error::ModelError;
use crate::listener_cache::capacity;
use crate::settings::E4SRecSettings;

/// Models that answer on one language model: learning, only counting, and frozen.
pub const ANSWERING: u64 = 3;

/// Bytes by part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Footprint {
    parts: Vec<(&'static str, u64)>,
}

impl Footprint {
    /// Of a checkpoint with its tokenizer in a folder or file, with these settings.
    ///
    /// # Errors
    /// A folder without a checkpoint, a damaged one, or a depth it does not have.
    pub fn of(path: &Path, settings: &E4SRecSettings, device: Device) -> Result<Self, ModelError> {
        let weights = Weights::open(path).map_err(NnError::from)?;
        let config = DecoderConfig::of(&weights)?;
        let tokenizer = Tokenizer::of(&weights)?;
        let tokens = |text: &str| Ok::<_, NnError>(tokenizer.encode(text)?.len() as i64);
        let backbone = &settings.backbone;
        let around = (tokens(&backbone.instruction)?, tokens(&backbone.response)?);
        Self::with(&config, settings, around, device)
    }

    /// The same of a configuration; `around` are the tokens before the plays and after each.
    ///
    /// # Errors
    /// A configuration that no decoder can be built from, or a depth that it does not have.
    pub fn with(
        config: &DecoderConfig,
        settings: &E4SRecSettings,
        around: (i64, i64),
        device: Device,
    ) -> Result<Self, ModelError> {
        let (backbone, lora) = (&settings.backbone, &settings.lora);
        let plan = MemoryPlan {
            kind: backbone.precision.kind(device),
            weights: backbone.weights,
            depth: backbone.layers(),
            lora: Some((lora.projections.clone(), lora.rank)),
            // One more, for the instruction that all begin with.
            slots: settings.cached_listeners.saturating_add(1),
            capacity: capacity(around, settings.lookback, backbone.play_tokens()),
            learning: true,
        };
        let table = MemoryTable::of(config, &plan)?;
        let mut folded = 0u64;
        if plan.weights == WeightFormat::AsComputed {
            let each = plan.kind.elt_size_in_bytes() as u64;
            let layers = config.depth(plan.depth)? as u64;
            for &projection in &lora.projections {
                let ((output, input), _) = config.dense(projection);
                let values = output.unsigned_abs().saturating_mul(input.unsigned_abs());
                folded = folded.saturating_add(values.saturating_mul(each * layers));
            }
        }
        let of_each = |bytes: u64| bytes.saturating_mul(ANSWERING);
        Ok(Self {
            parts: vec![
                ("embeddings", table.embeddings),
                ("layers", table.layers),
                ("norms", table.norms),
                ("output layer", table.head),
                ("unpacked weights", table.unpacked),
                ("adapters", of_each(table.lora)),
                ("adapters folded in", of_each(folded)),
                ("listeners' caches", of_each(table.kv_slots)),
            ],
        })
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        let parts = self.parts.iter();
        parts.fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }

    /// Refuses what does not fit; where it is unknown how much there is, anything fits.
    ///
    /// # Errors
    /// [`ModelError::NoRoom`], which prints the table.
    pub fn check(&self, available: Option<u64>) -> Result<(), ModelError> {
        match available {
            Some(available) if self.total() > available => Err(ModelError::NoRoom {
                needed: self.clone(),
                available,
            }),
            _ => Ok(()),
        }
    }
}

/// A line for each part that takes anything, and one for all.
impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (part, bytes) in self.parts.iter().filter(|(_, bytes)| *bytes > 0) {
            writeln!(f, "{part:<20}{:>12}", readable(*bytes))?;
        }
        write!(f, "{:<20}{:>12}", "all", readable(self.total()))
    }
}

#[cfg(test)]
mod tests {
    use segue_nn::decoder::Projection;
    use segue_nn::decoder_config::ModelType;
    use segue_nn::device::Precision;

    use super::*;

    /// LLaMA-2 7B as its `config.json` says.
    fn llama_2_7b() -> DecoderConfig {
        DecoderConfig {
            model_type: ModelType::Llama,
            vocab_size: 32_000,
            hidden_size: 4_096,
            intermediate_size: 11_008,
            num_hidden_layers: 32,
            num_attention_heads: 32,
            num_key_value_heads: None,
            head_dim: None,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            rope_scaling: None,
            max_position_embeddings: 4_096,
            tie_word_embeddings: false,
            attention_bias: false,
            mlp_bias: false,
            hidden_act: "silu".into(),
            use_sliding_window: false,
        }
    }

    fn settings() -> E4SRecSettings {
        let mut settings = E4SRecSettings::default();
        settings.backbone.depth = 0;
        settings.backbone.precision = Precision::Bf16;
        settings.lora.projections = vec![Projection::QProj];
        settings
    }

    fn footprint(settings: &E4SRecSettings) -> Footprint {
        Footprint::with(&llama_2_7b(), settings, (20, 0), Device::Cpu).unwrap()
    }

    fn part(footprint: &Footprint, name: &str) -> u64 {
        let mut parts = footprint.parts.iter();
        parts.find(|(part, _)| *part == name).unwrap().1
    }

    #[test]
    fn weights_are_there_once_and_the_rest_for_each_that_answers() {
        let settings = settings();
        let all = footprint(&settings);
        let weights = ["embeddings", "layers", "norms", "output layer"];
        let weights: u64 = weights.iter().map(|name| part(&all, name)).sum();
        assert_eq!(weights, 2 * 6_738_415_616, "its parameters in bf16");
        // 32 layers of 4096 × 4096 in bf16, three times.
        assert_eq!(part(&all, "adapters folded in"), 3 * 32 * 4_096 * 4_096 * 2);
        // Rank 16 in f32.
        assert_eq!(part(&all, "adapters"), 3 * 32 * 16 * (4_096 + 4_096) * 4);
        // Keys and values of 512 listeners and the instruction, of 20 tokens and two windows of 60.
        let tokens = 513 * (20 + 2 * 60);
        assert_eq!(
            part(&all, "listeners' caches"),
            3 * tokens * 2 * 4_096 * 2 * 32
        );
        let sum: u64 = all.parts.iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(all.total(), sum);
    }

    #[test]
    fn what_makes_it_smaller_makes_it_smaller() {
        let whole = footprint(&settings()).total();
        let smaller = |change: fn(&mut E4SRecSettings)| {
            let mut settings = settings();
            change(&mut settings);
            assert!(footprint(&settings).total() < whole);
        };
        smaller(|settings| settings.backbone.depth = 8);
        smaller(|settings| settings.cached_listeners = 8);
        smaller(|settings| settings.lora.projections.clear());
        // Packed weights are not folded into, which saves more than training unpacks.
        let mut packed = settings();
        packed.lora = E4SRecSettings::default().lora;
        let plain = footprint(&packed).total();
        packed.backbone.weights = WeightFormat::Packed4;
        assert!(footprint(&packed).total() < plain);
        assert_eq!(part(&footprint(&packed), "adapters folded in"), 0);
        packed.backbone.depth = 99;
        assert!(Footprint::with(&llama_2_7b(), &packed, (0, 0), Device::Cpu).is_err());
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_table_and_what_helps() {
        let footprint = footprint(&settings());
        footprint.check(None).unwrap();
        footprint.check(Some(footprint.total())).unwrap();
        let said = footprint
            .check(Some(8_000_000_000))
            .unwrap_err()
            .to_string();
        for part in [
            "8.00 GB",
            "models.e4srec.backbone.depth",
            "packed4",
            "layers  ",
            "all  ",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}
