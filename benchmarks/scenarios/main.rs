//! Scenarios: each runs one thing end to end and says what it found as one JSON object, the last
//! line of its output.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod config;
mod demo;
mod replay_memory;
mod stream_core;
mod tsv_reader;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
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
    data: Option<PathBuf>,
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
        name: String,
        /// A smaller workload: to see that it runs. Bars are set for the full one.
        #[arg(long)]
        quick: bool,
        /// Listening logs, for the scenarios that take real ones: files or a folder.
        #[arg(long, env = "DATA")]
        data: Option<PathBuf>,
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
        Command::Run { name, quick, data } => run_one(&name, quick, data),
        Command::ReplayIntoNothing { log, temporary } => replay_memory::child(&log, &temporary),
    }
}

fn run_one(name: &str, quick: bool, data: Option<PathBuf>) -> anyhow::Result<()> {
    let mut known = Vec::new();
    for scenario in SCENARIOS {
        let config = Config::read(scenario.config)?;
        if config.name != name {
            known.push(config.name);
            continue;
        }
        if cfg!(debug_assertions) {
            eprintln!("this is a debug build: figures say nothing; build with --release");
        }
        let ask = Ask {
            quick,
            data,
            config,
        };
        let outcome = (scenario.run)(&ask).with_context(|| format!("scenario {name}"))?;
        println!("{}", outcome.json(&ask.config.bars));
        return Ok(());
    }
    anyhow::bail!("no scenario `{name}`; there are {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scenario_has_its_own_name_and_a_line_of_help() {
        let mut names = std::collections::BTreeSet::new();
        for scenario in SCENARIOS {
            let config = Config::read(scenario.config).unwrap();
            assert!(!config.help.is_empty() && !config.help.contains('\n'));
            assert!(names.insert(config.name), "a name twice");
        }
        assert!(names.contains("stream-core") && names.contains("demo"));
    }

    #[test]
    fn an_unknown_name_is_told_the_known_ones() {
        let error = run_one("nonsense", true, None).unwrap_err().to_string();
        assert!(
            error.contains("`nonsense`") && error.contains("tsv-reader"),
            "{error}"
        );
    }
}
