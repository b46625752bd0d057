//! Scenarios: each runs one thing end to end and says what it found as one JSON object, the last
//! line of its output.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod binary;
mod config;
mod crash;
mod demo;
mod kafka_ratio;
mod replay_memory;
mod stream_core;
mod tsv_reader;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::{Parser, Subcommand};
use segue_benchmarks::outcome::Outcome;

use crate::config::Config;

/// One scenario.
struct Scenario {
    /// Its configuration: name, help, sizes and bars.
    config: &'static str,
    run: fn(&Ask) -> anyhow::Result<Outcome>,
}

/// What a scenario is told.
struct Ask {
    quick: bool,
    data: Vec<PathBuf>,
    config: Config,
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        config: include_str!("stream_core/scenario.toml"),
        run: stream_core::run,
    },
    Scenario {
        config: include_str!("tsv_reader/scenario.toml"),
        run: tsv_reader::run,
    },
    Scenario {
        config: include_str!("replay_memory/scenario.toml"),
        run: replay_memory::run,
    },
    Scenario {
        config: include_str!("demo/scenario.toml"),
        run: demo::run,
    },
    Scenario {
        config: include_str!("kafka_ratio/scenario.toml"),
        run: kafka_ratio::run,
    },
    Scenario {
        config: include_str!("crash/scenario.toml"),
        run: crash::run,
    },
];

/// Runs Segue's benchmark scenarios.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists the scenarios with a line of help each.
    List,
    /// Runs one; the last line of the output is a JSON object with its figures.
    Run {
        /// Which.
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        name: Option<String>,
        /// Every one in turn, each with its own JSON object; fails if one of them does not run.
        #[arg(long)]
        all: bool,
        /// A smaller workload: to see that it runs. Bars are set for the full one.
        #[arg(long)]
        quick: bool,
        /// Listening logs, for the scenarios that take real ones: files or folders.
        #[arg(long, num_args = 1.., value_name = "PATH")]
        data: Vec<PathBuf>,
    },
    /// Replays one log into nothing and tells the memory it took: what replay-memory runs as a
    /// process of its own.
    #[command(hide = true)]
    ReplayIntoNothing {
        /// The log.
        log: PathBuf,
        /// Where temporary files go.
        temporary: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::List => {
            for scenario in SCENARIOS {
                let config = Config::read(scenario.config)?;
                println!("{:<16}{}", config.name, config.help);
            }
            Ok(())
        }
        Command::Run {
            name, quick, data, ..
        } => match name {
            Some(name) => run_named(&name, quick, &data),
            None => run_all(SCENARIOS, quick, &data),
        },
        Command::ReplayIntoNothing { log, temporary } => replay_memory::child(&log, &temporary),
    }
}

fn run_named(name: &str, quick: bool, data: &[PathBuf]) -> anyhow::Result<()> {
    let mut known = Vec::new();
    for scenario in SCENARIOS {
        let config = Config::read(scenario.config)?;
        if config.name == name {
            return run_one(scenario, config, quick, data);
        }
        known.push(config.name);
    }
    anyhow::bail!("no scenario `{name}`; there are {}", known.join(", "))
}

/// Runs what can be run: one that fails does not keep the others from their figures.
fn run_all(scenarios: &[Scenario], quick: bool, data: &[PathBuf]) -> anyhow::Result<()> {
    let mut failed = Vec::new();
    for scenario in scenarios {
        let config = Config::read(scenario.config)?;
        let name = config.name.clone();
        eprintln!("scenario {name}");
        if let Err(error) = run_one(scenario, config, quick, data) {
            eprintln!("error: {error:#}");
            failed.push(name);
        }
    }
    ensure!(failed.is_empty(), "did not run: {}", failed.join(", "));
    Ok(())
}

fn run_one(
    scenario: &Scenario,
    config: Config,
    quick: bool,
    data: &[PathBuf],
) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build: figures say nothing; build with --release");
    }
    let ask = Ask {
        quick,
        data: data.to_owned(),
        config,
    };
    let outcome = (scenario.run)(&ask).with_context(|| format!("scenario {}", ask.config.name))?;
    println!(
        "{}",
        outcome.json(&ask.config.bars, &ask.config.bars_on_real_data)
    );
    Ok(())
}

#[cfg(test)]
mod tests;
