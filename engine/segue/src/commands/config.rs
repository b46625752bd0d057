//! `segue config`.

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::config::{Config, SHIPPED};

/// `segue config`.
#[derive(Debug, Args)]
pub struct ConfigCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The configuration as it stands after file, environment and defaults; secrets are masked.
    Show,
    /// The built-in defaults, with what each key does.
    Defaults,
}

impl ConfigCommand {
    /// Prints it. That the configuration could be loaded is the check.
    ///
    /// # Errors
    /// None in practice.
    pub fn run(&self, config: &Config) -> Result<()> {
        match self.what {
            What::Show => print!("{}", config.to_toml()?),
            What::Defaults => print!("{SHIPPED}"),
        }
        Ok(())
    }
}
