//! What people type.

#[cfg(feature = "torch")]
pub mod adapters;
pub mod checkpoint;
pub mod config;
#[cfg(feature = "torch")]
pub mod demo;
#[cfg(feature = "torch")]
pub mod device;
#[cfg(feature = "torch")]
pub mod encode;
#[cfg(feature = "export")]
pub mod export;
#[cfg(feature = "torch")]
pub mod models;
pub mod rekey;
pub mod replay;
pub mod run;
pub mod simulate;
#[cfg(feature = "torch")]
pub mod train;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::config::Config;

/// A streaming engine for real-time music recommendation.
///
/// Listening events go in; sessions, completion ratios and learned next-track predictions come out,
/// while the song still plays.
#[derive(Debug, Parser)]
#[command(name = "segue", version, propagate_version = true)]
pub struct Cli {
    /// A TOML file over the built-in defaults. The environment goes over both:
    /// SEGUE__SESSIONS__GAP=30m sets sessions.gap.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Say more. SEGUE_LOG takes a filter such as `segue_kafka=debug,info`.
    #[arg(long, short, global = true)]
    pub verbose: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take a log through every room, train, predict, learn, and write a report.
    #[cfg(feature = "torch")]
    Demo(demo::Demo),
    /// Train models on a log, into a folder that runs begin with; stopped, it goes on.
    #[cfg(feature = "torch")]
    Train(train::Train),
    /// Follow a topic of Kafka or of the embedded log and write sessions and predictions.
    Run(run::Run),
    /// Put logs of listens, in one time order and at a chosen pace, into Kafka, the embedded log or a
    /// file.
    Replay(replay::ReplayCommand),
    /// Key a foreign topic by listener, once, into a new topic.
    Rekey(rekey::Rekey),
    /// Write a simulated listening log to a file.
    Simulate(simulate::Simulate),
    /// List, inspect or verify the checkpoints that a run can go on from.
    Checkpoint(checkpoint::CheckpointCommand),
    /// List, compare or go back to what the language model has learnt from the stream.
    #[cfg(feature = "torch")]
    Adapters(adapters::Adapters),
    /// Encode what a library or folder of music sounds like, or what is written of it, into vectors; rate
    /// its tracks.
    #[cfg(feature = "torch")]
    Encode(encode::EncodeCommand),
    /// Write a log as a data set that pandas and Hugging Face datasets read: plays, sessions, ratios,
    /// vectors, splits, and a card.
    #[cfg(feature = "export")]
    Export(export::Export),
    /// List, fetch or check pretrained models.
    #[cfg(feature = "torch")]
    Models(models::ModelsCommand),
    /// Show or check the configuration.
    Config(config::ConfigCommand),
    /// Say which device the models will use, and why.
    #[cfg(feature = "torch")]
    Device(device::Device),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever stops it, with what to do about it.
    pub fn run(self) -> Result<()> {
        let config = Config::load(self.config.as_deref())?;
        match self.command {
            #[cfg(feature = "torch")]
            Command::Demo(command) => command.run(&config),
            #[cfg(feature = "torch")]
            Command::Train(command) => command.run(&config),
            Command::Run(command) => command.run(&config),
            Command::Replay(command) => command.run(&config),
            Command::Rekey(command) => command.run(&config),
            Command::Simulate(command) => command.run(&config),
            Command::Checkpoint(command) => command.run(&config),
            #[cfg(feature = "torch")]
            Command::Adapters(command) => command.run(&config),
            #[cfg(feature = "torch")]
            Command::Encode(command) => command.run(&config),
            #[cfg(feature = "export")]
            Command::Export(command) => command.run(&config),
            #[cfg(feature = "torch")]
            Command::Models(command) => command.run(&config),
            Command::Config(command) => command.run(&config),
            #[cfg(feature = "torch")]
            Command::Device(command) => command.run(&config),
        }
    }
}
