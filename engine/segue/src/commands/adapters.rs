//! `segue adapters`: what the language model has learnt from the stream, version by version.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use segue_e4srec::{AdapterHistory, Publication};

use crate::config::Config;

/// `segue adapters`.
#[derive(Debug, Args)]
pub struct Adapters {
    /// The folder of the history; `models.adapters` if none is given.
    #[arg(long, global = true, value_name = "DIR")]
    folder: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The adapters that are kept, oldest first: version, when it was published, from how many plays, its
    /// loss, and whether it was learnt or gone back to.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// By how much two versions differ, layer by layer: what each adds to the weight, how far the two are
    /// apart, and the cosine between them.
    Diff {
        /// The one.
        a: u64,
        /// The other.
        b: u64,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Go back to a version: a run takes it up at its next barrier (one that is not running, when it
    /// begins) and publishes it as a new version. Answers go on meanwhile.
    Rollback {
        /// Which.
        // By another id than its name: `version` is that of the program's own flag.
        #[arg(id = "adapter", value_name = "VERSION")]
        version: u64,
    },
}

impl Adapters {
    /// Runs the command.
    ///
    /// # Errors
    /// A history that cannot be read, a version that is not there.
    pub fn run(&self, config: &Config) -> Result<()> {
        let folder = self.folder.as_ref().unwrap_or(&config.models.adapters);
        let history = AdapterHistory::new(folder, config.models.adapters_kept);
        match self.what {
            What::List { json } => {
                let kept = history.list()?;
                match (json, kept.is_empty()) {
                    (true, _) => println!("{}", serde_json::to_string_pretty(&kept)?),
                    (false, true) => println!("no adapters in {}", folder.display()),
                    (false, false) => kept.iter().for_each(tell),
                }
            }
            What::Diff { a, b, json } => {
                let layers = history.difference(a, b)?;
                if json {
                    println!("{}", serde_json::to_string_pretty(&layers)?);
                    return Ok(());
                }
                println!(
                    "{:<44} {:>10} {:>10} {:>10} {:>8}",
                    "layer",
                    format!("‖{a}‖"),
                    format!("‖{b}‖"),
                    "‖apart‖",
                    "cosine"
                );
                for one in layers {
                    let cosine = one.cosine.map_or("-".to_owned(), |c| format!("{c:.4}"));
                    println!(
                        "{:<44} {:>10.4} {:>10.4} {:>10.4} {cosine:>8}",
                        one.layer, one.norms[0], one.norms[1], one.apart
                    );
                }
            }
            What::Rollback { version } => {
                history.ask_back(version)?;
                println!("version {version} is taken up at the next barrier");
            }
        }
        Ok(())
    }
}

fn tell(one: &Publication) {
    let loss = one.loss.map_or("-".to_owned(), |loss| format!("{loss:.4}"));
    let came = match one.back_to {
        Some(version) => format!("back to {version}"),
        None => "learnt".to_owned(),
    };
    println!(
        "{:>8}  epoch {:>8}  {:>10} plays  loss {loss:>8}  {came}",
        one.version, one.epoch.0, one.examples
    );
}
