//! `segue device`.

use anyhow::Result;
use clap::Args;

use crate::config::Config;

/// `segue device`.
#[derive(Debug, Args)]
pub struct Device {}

impl Device {
    /// Prints the device and the reason.
    ///
    /// # Errors
    /// None in practice.
    pub fn run(&self, config: &Config) -> Result<()> {
        let choice = segue_nn::device::choose(config.models.device);
        println!("{:?}: {}", choice.device, choice.reason);
        Ok(())
    }
}
