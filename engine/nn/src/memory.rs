//! What a decoder will take, part by part, before a byte of its weights is read; and whether there
//! is that much.
//!
//! The sizes are those of the tensors that stay. What a pass computes comes and goes on top; of it
//! only weights that are unpacked for the time are counted ([`MemoryTable::unpacked`]).

use std::fmt;

use tch::{Device, Kind};

use crate::NnError;
use crate::decoder::Projection;
use crate::decoder_config::DecoderConfig;
use crate::packed::{Packed, WeightFormat};

/// What a decoder is going to be loaded and used with.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryPlan {
    /// What it computes in.
    pub kind: Kind,
    /// How the projections' weights are kept.
    pub weights: WeightFormat,
    /// Only the first so many layers, if given.
    pub depth: Option<usize>,
    /// The projections with adapters and their rank.
    pub lora: Option<(Vec<Projection>, i64)>,
    /// Conversations whose keys and values are kept.
    pub slots: usize,
    /// Tokens of each.
    pub capacity: i64,
    /// Whether adapters are trained on it. Then each packed weight stays in plain numbers from the
    /// forward pass until the backward one is through.
    pub learning: bool,
}

/// Bytes by part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryTable {
    /// The table of tokens.
    pub embeddings: u64,
    /// Weights and biases of the layers' projections.
    pub layers: u64,
    /// All norms.
    pub norms: u64,
    /// The output layer; nothing if it is the embedding.
    pub head: u64,
    /// The adapters, without what an optimiser keeps beside them.
    pub lora: u64,
    /// Keys and values.
    pub kv_slots: u64,
    /// Packed weights in plain numbers: the largest, as it is while it is multiplied; all of them
    /// where adapters are trained.
    pub unpacked: u64,
}

impl MemoryTable {
    /// What `plan` takes of a model of this configuration.
    ///
    /// # Errors
    /// A configuration that no decoder can be built from, or a depth that it does not have.
    pub fn of(config: &DecoderConfig, plan: &MemoryPlan) -> Result<Self, NnError> {
        config.validate()?;
        let depth = config.depth(plan.depth)?;
        let layers = depth as u64;
        let each = plan.kind.elt_size_in_bytes() as u64;
        let table = product(&[config.vocab_size, config.hidden_size, each as i64]);
        let (mut dense, mut plain_layer, mut largest) = (0u64, 0u64, 0u64);
        for projection in Projection::ALL {
            let ((output, input), bias) = config.dense(projection);
            let plain = product(&[output, input, each as i64]);
            dense = dense.saturating_add(match plan.weights {
                WeightFormat::AsComputed => plain,
                WeightFormat::Packed4 => Packed::bytes_with_minima((output, input)),
            });
            if bias {
                dense = dense.saturating_add(product(&[output, each as i64]));
            }
            plain_layer = plain_layer.saturating_add(plain);
            largest = largest.max(plain);
        }
        let mut lora = 0u64;
        if let Some((projections, rank)) = &plan.lora {
            for &projection in projections {
                let ((output, input), _) = config.dense(projection);
                let float = Kind::Float.elt_size_in_bytes() as i64;
                lora = lora.saturating_add(product(&[output + input, *rank, float]));
            }
        }
        let slots = i64::try_from(plan.slots).unwrap_or(i64::MAX);
        let tokens = product(&[slots, plan.capacity]);
        let per_token = product(&[2, config.kv_heads(), config.head_dim(), each as i64]);
        Ok(Self {
            embeddings: table,
            layers: dense.saturating_mul(layers),
            norms: product(&[config.hidden_size, each as i64]).saturating_mul(2 * layers + 1),
            head: if config.tie_word_embeddings { 0 } else { table },
            lora: lora.saturating_mul(layers),
            kv_slots: tokens.saturating_mul(per_token).saturating_mul(layers),
            unpacked: match plan.weights {
                WeightFormat::AsComputed => 0,
                WeightFormat::Packed4 if plan.learning => plain_layer.saturating_mul(layers),
                WeightFormat::Packed4 => largest,
            },
        })
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.parts()
            .iter()
            .fold(0, |sum: u64, (_, bytes)| sum.saturating_add(*bytes))
    }

    /// Refuses what does not fit; where it is unknown how much there is, anything fits.
    ///
    /// # Errors
    /// [`NnError::Memory`], which prints the table.
    pub fn check(&self, available: Option<u64>) -> Result<(), NnError> {
        match available {
            Some(available) if self.total() > available => Err(NnError::Memory {
                needed: *self,
                available,
            }),
            _ => Ok(()),
        }
    }

    fn parts(&self) -> [(&'static str, u64); 7] {
        [
            ("embeddings", self.embeddings),
            ("layers", self.layers),
            ("norms", self.norms),
            ("output layer", self.head),
            ("adapters", self.lora),
            ("keys and values", self.kv_slots),
            ("unpacked weights", self.unpacked),
        ]
    }
}

impl fmt::Display for MemoryTable {
    /// A line for each part that takes anything, and one for all.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (part, bytes) in self.parts() {
            if bytes > 0 {
                writeln!(f, "{part:<20}{:>12}", readable(bytes))?;
            }
        }
        write!(f, "{:<20}{:>12}", "all", readable(self.total()))
    }
}

/// Bytes that a device can still give: on the CPU what the system says is available
/// (`MemAvailable`), on others nothing is known.
pub fn available(device: Device) -> Option<u64> {
    match device {
        Device::Cpu => mem_available(&std::fs::read_to_string("/proc/meminfo").ok()?),
        _ => None,
    }
}

fn mem_available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// Bytes as people read them, in powers of ten.
pub fn readable(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// A product of sizes that stays at the largest number instead of wrapping around.
fn product(sizes: &[i64]) -> u64 {
    sizes.iter().fold(1u64, |product, &size| {
        product.saturating_mul(u64::try_from(size).unwrap_or(0))
    })
}
