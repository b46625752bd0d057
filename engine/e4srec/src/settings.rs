//! Everything that can be tuned, with what it is good for and what it costs.

mod e4srec;
mod item_encoders;
mod tower;

pub use self::e4srec::{
    BackboneSettings, Completion, E4SRecSettings, LoraSettings, OfflineSettings, OnlineSettings,
    Prompt,
};
pub use self::item_encoders::{Bert4RecSettings, Gru4RecSettings, SasRecSettings};
pub use self::tower::{Fusion, TowerSettings};
use crate::error::ModelError;

/// In `[0, below)`.
pub(crate) fn share(key: &'static str, value: f64, below: f64) -> Result<(), ModelError> {
    if (0.0..below).contains(&value) {
        return Ok(());
    }
    let range = if below > 0.5 {
        "from 0 to below 1"
    } else {
        "from 0 to below 0.5"
    };
    Err(ModelError::setting(key, value, range))
}

/// In `(0, 10]`.
pub(crate) fn rate(key: &'static str, value: f64) -> Result<(), ModelError> {
    if value > 0.0 && value <= 10.0 {
        return Ok(());
    }
    Err(ModelError::setting(key, value, "above 0 and at most 10"))
}

/// From `least`, which is 0 or 1, to 2²⁴.
pub(crate) fn count(key: &'static str, value: usize, least: usize) -> Result<(), ModelError> {
    if (least..=1 << 24).contains(&value) {
        return Ok(());
    }
    let range = if least == 0 {
        "from 0 to 16777216"
    } else {
        "from 1 to 16777216"
    };
    Err(ModelError::setting(key, value, range))
}
