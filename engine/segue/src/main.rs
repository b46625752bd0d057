//! The binary: parse, set up logs, run one command, say what went wrong.

use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use clap::Parser;
use segue::commands::Cli;
use tracing_subscriber::EnvFilter;

/// How libgomp's idle threads wait. It is read before `main`, so setting it takes a second start.
const WAIT_POLICY: &str = "OMP_WAIT_POLICY";

fn main() -> ExitCode {
    let cli = Cli::parse();
    // libtorch's threads spin between operations by default, on the cores that the lanes need.
    if cfg!(feature = "torch")
        && std::env::var_os(WAIT_POLICY).is_none()
        && let Ok(this) = std::env::current_exe()
    {
        let error = std::process::Command::new(this)
            .args(std::env::args_os().skip(1))
            .env(WAIT_POLICY, "passive")
            .exec();
        eprintln!("segue: goes on with spinning threads: {error}");
    }
    let filter = EnvFilter::try_from_env("SEGUE_LOG")
        .unwrap_or_else(|_| EnvFilter::new(if cli.verbose { "debug" } else { "info" }));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("segue: {error:#}");
            ExitCode::FAILURE
        }
    }
}
