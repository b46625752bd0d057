//! `segue models`: pretrained weights, which there are, where they come from, whether they are whole.

mod check;
mod list;
mod pull;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::config::Config;

/// `segue models`.
#[derive(Debug, Args)]
pub struct ModelsCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The models that are known by name: which are here, how large, under which licence.
    List(list::ListCommand),
    /// Fetch a model into the folder of models, going on where an earlier attempt stopped.
    Pull(pull::PullCommand),
    /// Hold models against their checksums, their configuration and what this machine can take; fails if
    /// one cannot be used.
    Check(check::CheckCommand),
}

impl ModelsCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever stops it; a model that cannot be used.
    pub fn run(&self, config: &Config) -> Result<()> {
        match &self.what {
            What::List(command) => command.run(config),
            What::Pull(command) => command.run(config),
            What::Check(command) => command.run(config),
        }
    }
}
