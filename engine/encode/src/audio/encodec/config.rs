//! What an EnCodec says of itself.

use segue_nn::NnError;
use serde::Deserialize;

use crate::EncodeError;

/// The parts of a model's own `config.json` that decide its encoder.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct EncodecConfig {
    /// Samples a second.
    pub sampling_rate: u32,
    /// Channels of its input: 1 or 2.
    pub audio_channels: i64,
    /// Whether each chunk is brought to one loudness first.
    pub normalize: bool,
    /// Seconds that it hears at a time; none: all at once.
    pub chunk_length_s: Option<f64>,
    /// The share of a chunk that it has in common with the next.
    pub overlap: Option<f64>,
    /// Length of the vector.
    pub hidden_size: i64,
    /// Channels of the first convolution; they double with each step down.
    pub num_filters: i64,
    /// Residual blocks before each step down.
    pub num_residual_layers: u32,
    /// How much each step lowers the rate, the last first.
    pub upsampling_ratios: Vec<i64>,
    /// `weight_norm` or `time_group_norm`.
    pub norm_type: String,
    /// Length of the first convolution.
    pub kernel_size: i64,
    /// Of the last.
    pub last_kernel_size: i64,
    /// Of those in residual blocks.
    pub residual_kernel_size: i64,
    /// How much further each of them reaches than the one before.
    pub dilation_growth_rate: i64,
    /// Whether it hears only what has been.
    pub use_causal_conv: bool,
    /// Only `reflect` is known.
    pub pad_mode: String,
    /// How much narrower the inside of a residual block is.
    pub compress: i64,
    /// Layers of the LSTM.
    pub num_lstm_layers: i64,
    /// Whether what goes around a residual block is convolved too.
    pub use_conv_shortcut: bool,
}

impl Default for EncodecConfig {
    fn default() -> Self {
        Self {
            sampling_rate: 24_000,
            audio_channels: 1,
            normalize: false,
            chunk_length_s: None,
            overlap: None,
            hidden_size: 128,
            num_filters: 32,
            num_residual_layers: 1,
            upsampling_ratios: vec![8, 5, 4, 2],
            norm_type: "weight_norm".into(),
            kernel_size: 7,
            last_kernel_size: 7,
            residual_kernel_size: 3,
            dilation_growth_rate: 2,
            use_causal_conv: true,
            pad_mode: "reflect".into(),
            compress: 2,
            num_lstm_layers: 2,
            use_conv_shortcut: true,
        }
    }
}

impl EncodecConfig {
    /// Refuses what no model can be built from, and what this one does not do.
    pub fn validate(&self) -> Result<(), EncodeError> {
        let wrong = |what: String| Err(EncodeError::Model(NnError::Config(what)));
        let residual = i64::from(self.num_residual_layers);
        let sizes = [
            (
                "sampling_rate",
                i64::from(self.sampling_rate),
                1_000,
                192_000,
            ),
            ("audio_channels", self.audio_channels, 1, 2),
            ("hidden_size", self.hidden_size, 1, 1 << 14),
            ("num_filters", self.num_filters, 1, 1 << 10),
            ("num_residual_layers", residual, 0, 16),
            ("kernel_size", self.kernel_size, 1, 1 << 10),
            ("last_kernel_size", self.last_kernel_size, 1, 1 << 10),
            (
                "residual_kernel_size",
                self.residual_kernel_size,
                1,
                1 << 10,
            ),
            ("dilation_growth_rate", self.dilation_growth_rate, 1, 8),
            ("compress", self.compress, 1, self.num_filters),
            ("num_lstm_layers", self.num_lstm_layers, 1, 16),
        ];
        for (name, size, least, most) in sizes {
            if !(least..=most).contains(&size) {
                return wrong(format!("{name} is {size}, of {least} to {most}"));
            }
        }
        let ratios = &self.upsampling_ratios;
        if !(1..=8).contains(&ratios.len()) || ratios.iter().any(|r| !(1..=64).contains(r)) {
            return wrong(format!("upsampling_ratios is {ratios:?}"));
        }
        if !["weight_norm", "time_group_norm"].contains(&self.norm_type.as_str()) {
            return wrong(format!("norm_type `{}`", self.norm_type));
        }
        if self.pad_mode != "reflect" {
            return wrong(format!(
                "pad_mode `{}`; only reflect is supported",
                self.pad_mode
            ));
        }
        let seconds = self.chunk_length_s.unwrap_or(1.0);
        let overlap = self.overlap.unwrap_or(0.0);
        if !(0.01..=600.0).contains(&seconds) || !(0.0..1.0).contains(&overlap) {
            return wrong(format!("chunk_length_s is {seconds}, overlap is {overlap}"));
        }
        Ok(())
    }

    /// Samples of a chunk, and from one to the next; none if all is heard at once.
    pub(super) fn chunks(&self) -> Option<(usize, usize)> {
        let seconds = self.chunk_length_s?;
        let length = (seconds * f64::from(self.sampling_rate)) as usize;
        let stride = ((1.0 - self.overlap.unwrap_or(0.0)) * length as f64) as usize;
        Some((length.max(1), stride.max(1)))
    }
}
