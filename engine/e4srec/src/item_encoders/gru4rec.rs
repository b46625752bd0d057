//! GRU4Rec's network: gated recurrent units over items, output tied to the item embedding, with a
//! level per item.
//!
//! The official one resets its state where a session ends and learns without looking back in time;
//! this one is taught over whole windows, across sessions, as a listener's next play is asked for
//! from what they heard before.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use segue_listen::TrackKey;
use segue_nn::lora::Mode;
use tch::{Device, Kind, Tensor};

use super::network::{Course, ItemTable, Levels, SequenceNetwork, Windows, dropped};
use crate::error::ModelError;
use crate::settings::Gru4RecSettings;

/// All parameters.
#[derive(Debug)]
pub struct Network {
    table: ItemTable,
    levels: Levels,
    /// Of each layer: `[3 d, d]` of its input and of its state, and their biases `[3 d]`.
    units: Vec<Tensor>,
    layers: i64,
    input_dropout: f64,
    dropout: f64,
}

impl SequenceNetwork for Network {
    type Settings = Gru4RecSettings;
    const NAME: &'static str = "gru4rec";

    fn check(settings: &Gru4RecSettings) -> Result<(), ModelError> {
        settings.check()
    }

    fn course(settings: &Gru4RecSettings) -> Course {
        settings.course()
    }

    fn made(settings: &Gru4RecSettings) -> String {
        format!(
            "{} components, {} layers, lookback {}",
            settings.dimensions, settings.layers, settings.lookback
        )
    }

    fn new(
        settings: &Gru4RecSettings,
        keys: &[TrackKey],
        device: Device,
    ) -> Result<Self, ModelError> {
        let d = settings.dimensions;
        let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
        let table = ItemTable::new(keys, (d, settings.init, settings.seed), &mut rng, device)?;
        let mut units = Vec::new();
        for _ in 0..settings.layers {
            for _ in ["input", "state"] {
                units.push(gates(d, &mut rng, device)?);
            }
            for _ in ["input", "state"] {
                let zeros = Tensor::f_zeros([3 * d], (Kind::Float, device))?;
                units.push(zeros.f_set_requires_grad(true)?);
            }
        }
        Ok(Self {
            levels: Levels::new(table.count(), device)?,
            table,
            units,
            layers: settings.layers,
            input_dropout: settings.input_dropout,
            dropout: settings.dropout,
        })
    }

    fn table(&self) -> &ItemTable {
        &self.table
    }

    fn output_table(&self) -> Result<Tensor, ModelError> {
        self.levels.beside(&self.table.items()?)
    }

    fn parameters(&self) -> Vec<Tensor> {
        let first = [&self.table.values, &self.levels.values];
        let all = first.into_iter().chain(&self.units);
        all.map(Tensor::shallow_clone).collect()
    }

    /// The query at a place ranks what comes after it. Padding is on the right, behind all states
    /// that are read.
    fn forward(&self, windows: &Windows, mode: Mode) -> Result<Tensor, ModelError> {
        let (batch, _) = windows.rows.size2()?;
        let x = dropped(self.table.read(&windows.rows)?, self.input_dropout, mode)?;
        let d = x.size3()?.2;
        let begin = Tensor::f_zeros([self.layers, batch, d], (Kind::Float, x.device()))?;
        let (states, _) = x.f_gru(
            &begin,
            &self.units,
            true,
            self.layers,
            if mode == Mode::Train && self.layers > 1 {
                self.dropout
            } else {
                0.0
            },
            mode == Mode::Train,
            false,
            true,
        )?;
        self.levels.asked(&dropped(states, self.dropout, mode)?)
    }
}

/// The three gates' weights, `[3 d, d]`, uniform within the square root of 6 by inputs and outputs
/// of one gate (Glorot and Bengio 2010), as in the official one.
fn gates(d: i64, rng: &mut ChaCha8Rng, device: Device) -> Result<Tensor, ModelError> {
    let bound = (3.0 / d as f32).sqrt();
    let values: Vec<f32> = (0..3 * d * d)
        .map(|_| rng.random_range(-bound..bound))
        .collect();
    let values = Tensor::f_from_slice(&values)?
        .f_reshape([3 * d, d])?
        .f_to_device(device)?;
    Ok(values.f_set_requires_grad(true)?)
}
