//! Scenarios: each runs one thing end to end and says what it found as one JSON object, the last
//! line of its output.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod binary;
mod cold_start;
mod config;
mod crash;
mod demo;
mod e4srec;
mod freshness;
mod item_encoders;
mod kafka_ratio;
mod new_track;
mod recall;
mod replay_memory;
mod soak;
mod stream_core;
mod tsv_reader;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

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

/// What is given on the command line, for whichever scenario.
#[derive(Clone, Copy, Default)]
struct Given<'a> {
    quick: bool,
    minutes: Option<u64>,
    sizes: &'a [(String, u64)],
    data: &'a [PathBuf],
}

/// What a scenario is told.
struct Ask {
    quick: bool,
    /// How long one runs that runs for a time; `None`: as long as its configuration says.
    minutes: Option<u64>,
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
        config: include_str!("demo/prequential.toml"),
        run: demo::prequential,
    },
    Scenario {
        config: include_str!("cold_start/scenario.toml"),
        run: cold_start::run,
    },
    Scenario {
        config: include_str!("kafka_ratio/scenario.toml"),
        run: kafka_ratio::run,
    },
    Scenario {
        config: include_str!("crash/scenario.toml"),
        run: crash::run,
    },
    Scenario {
        config: include_str!("soak/scenario.toml"),
        run: soak::run,
    },
    Scenario {
        config: include_str!("e4srec/incremental.toml"),
        run: e4srec::incremental,
    },
    Scenario {
        config: include_str!("e4srec/learning.toml"),
        run: e4srec::learning,
    },
    Scenario {
        config: include_str!("freshness/scenario.toml"),
        run: freshness::run,
    },
    Scenario {
        config: include_str!("new_track/scenario.toml"),
        run: new_track::run,
    },
    Scenario {
        config: include_str!("item_encoders/scenario.toml"),
        run: item_encoders::run,
    },
    Scenario {
        config: include_str!("recall/scenario.toml"),
        run: recall::run,
    },
    Scenario {
        config: include_str!("recall/under_insert.toml"),
        run: recall::under_insert,
    },
    Scenario {
        config: include_str!("recall/million.toml"),
        run: recall::million,
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
        /// How long one runs that runs for a time (soak), instead of its full length.
        #[arg(long)]
        minutes: Option<u64>,
        /// Another size than its configuration's, such as --size batch=64: to explore. Bars are set for
        /// the configuration's.
        #[arg(long = "size", value_name = "KEY=N", value_parser = size)]
        sizes: Vec<(String, u64)>,
        /// Listening logs, for the scenarios that take real ones: files or folders; ratings for
        /// item-encoders.
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
    /// Runs the engine with a slow model on top, and tells how far it is: what soak runs as a process
    /// of its own.
    #[command(hide = true)]
    SoakEngine {
        /// Its configuration.
        config: PathBuf,
        /// How long.
        seconds: u64,
        /// What a question to the model takes, in microseconds.
        cost_micros: u64,
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
            name,
            quick,
            minutes,
            sizes,
            data,
            ..
        } => {
            let given = Given {
                quick,
                minutes,
                sizes: &sizes,
                data: &data,
            };
            match name {
                Some(name) => run_named(&name, given),
                None => run_all(SCENARIOS, given),
            }
        }
        Command::ReplayIntoNothing { log, temporary } => replay_memory::child(&log, &temporary),
        Command::SoakEngine {
            config,
            seconds,
            cost_micros,
        } => soak::child(&config, seconds, Duration::from_micros(cost_micros)),
    }
}

fn run_named(name: &str, given: Given<'_>) -> anyhow::Result<()> {
    let mut known = Vec::new();
    for scenario in SCENARIOS {
        let config = Config::read(scenario.config)?;
        if config.name == name {
            return run_one(scenario, config, given);
        }
        known.push(config.name);
    }
    anyhow::bail!("no scenario `{name}`; there are {}", known.join(", "))
}

/// Runs what can be run: one that fails does not keep the others from their figures.
fn run_all(scenarios: &[Scenario], given: Given<'_>) -> anyhow::Result<()> {
    let mut failed = Vec::new();
    for scenario in scenarios {
        let config = Config::read(scenario.config)?;
        let name = config.name.clone();
        eprintln!("scenario {name}");
        if let Err(error) = run_one(scenario, config, given) {
            eprintln!("error: {error:#}");
            failed.push(name);
        }
    }
    ensure!(failed.is_empty(), "did not run: {}", failed.join(", "));
    Ok(())
}

/// `key=value`
fn size(text: &str) -> Result<(String, u64), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=N")?;
    let value = value.replace('_', "").parse();
    Ok((key.to_owned(), value.map_err(|error| format!("{error}"))?))
}

fn run_one(scenario: &Scenario, mut config: Config, given: Given<'_>) -> anyhow::Result<()> {
    for (key, value) in given.sizes {
        config.set_size(key, *value)?;
    }
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build: figures say nothing; build with --release");
    }
    let ask = Ask {
        quick: given.quick,
        minutes: given.minutes,
        data: given.data.to_owned(),
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
