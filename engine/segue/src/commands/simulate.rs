//! `segue simulate`: a made-up listening log, as a file.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use segue_flow::clock::MachineClock;
use segue_replay::file_sink::FileSink;
use segue_replay::simulate::SimulatorSettings;
use segue_replay::state::Standing;
use segue_replay::{Bar, Delivery, DeliverySettings};

use crate::config::Config;
use crate::{input, shutdown};

/// `segue simulate`.
#[derive(Debug, Args)]
pub struct Simulate {
    /// The file: .jsonl, .msgpack or .tsv (LastFM-1K rows), with .zst if it is to be compressed.
    to: PathBuf,
    /// How many plays.
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    plays: u64,
    /// How many listeners.
    #[arg(long, value_name = "N")]
    users: Option<u32>,
    /// How many tracks.
    #[arg(long, value_name = "N")]
    tracks: Option<u32>,
}

impl Simulate {
    /// Writes the file.
    ///
    /// # Errors
    /// The file cannot be written; settings make no sense.
    pub fn run(&self, config: &Config) -> Result<()> {
        let stop = shutdown::on_signal(None)?;
        let mut settings = SimulatorSettings {
            seed: config.seed,
            ..SimulatorSettings::default()
        };
        settings.users = self.users.unwrap_or(settings.users);
        settings.tracks = self.tracks.unwrap_or(settings.tracks);
        let mut log = input::simulate(settings, self.plays)?;
        let mut sink = FileSink::create(&self.to)
            .with_context(|| format!("{} cannot be written", self.to.display()))?;
        let delivery = DeliverySettings {
            format: sink.format(),
            heartbeat_ms: 0,
            ..DeliverySettings::default()
        };
        let start = Standing::start("", &delivery.topic, 1);
        let clock = Arc::new(MachineClock::start());
        let mut bar = Bar::on_terminal();
        let done = Delivery::new(&delivery, clock, &mut sink, &stop, start, None)?
            .run(&mut *log.stream, &mut |progress| bar.show(progress))?;
        bar.finish();
        println!(
            "wrote {} simulated listens to {}",
            done.listens,
            self.to.display()
        );
        Ok(())
    }
}
