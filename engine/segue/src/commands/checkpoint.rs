//! `segue checkpoint`: what there is to go on from.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use segue_flow::checkpoint::{CheckpointStore, Encoded, Listed, Manifest};

use crate::config::Config;

/// `segue checkpoint`.
#[derive(Debug, Args)]
pub struct CheckpointCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// All checkpoints, newest first: epoch, positions, size.
    List,
    /// Everything that one says of itself, and its parts.
    Inspect {
        /// Its number; the newest if none is given.
        number: Option<u64>,
    },
    /// Read every part and hold it against its checksum; fails if one is damaged.
    Verify {
        /// Its number; all of them if none is given.
        number: Option<u64>,
    },
}

impl CheckpointCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// A store that cannot be read, a number that is not there, damage.
    pub fn run(&self, config: &Config) -> Result<()> {
        config.checkpoint.check()?;
        let store = CheckpointStore::open(&config.checkpoint)?;
        let listed = store.list()?;
        if listed.is_empty() {
            println!("no checkpoints in {}", config.checkpoint.url);
        }
        match self.what {
            What::List => listed.iter().for_each(list),
            What::Inspect { number } => match chosen(&listed, number)? {
                Some(Listed {
                    manifest: Ok(manifest),
                    ..
                }) => inspect(&store, manifest)?,
                Some(unreadable) => list(unreadable),
                None => {}
            },
            What::Verify { number } => {
                let chosen: Vec<&Listed> = match number {
                    None => listed.iter().collect(),
                    some => self::chosen(&listed, some)?.into_iter().collect(),
                };
                verify(&store, &chosen)?;
            }
        }
        Ok(())
    }
}

fn chosen(listed: &[Listed], number: Option<u64>) -> Result<Option<&Listed>> {
    let Some(number) = number else {
        return Ok(listed.first());
    };
    match listed.iter().find(|listed| listed.number == number) {
        Some(listed) => Ok(Some(listed)),
        None => bail!("there is no checkpoint {number}: `segue checkpoint list` shows all"),
    }
}

fn list(listed: &Listed) {
    match &listed.manifest {
        Ok(manifest) => println!(
            "{:>10}  epoch {:>8}  {:>12} bytes  {}",
            listed.number,
            manifest.epoch.0,
            manifest.bytes(),
            positions(manifest)
        ),
        Err(error) => println!("{:>10}  unreadable: {error}", listed.number),
    }
}

fn positions(manifest: &Manifest) -> String {
    let one = |position: &segue_flow::checkpoint::Position| {
        format!(
            "{}/{}@{}",
            position.topic, position.partition, position.offset.0
        )
    };
    let all: Vec<String> = manifest.body.positions.iter().map(one).collect();
    all.join(" ")
}

fn inspect(store: &CheckpointStore, manifest: &Manifest) -> Result<()> {
    println!("checkpoint   {}", manifest.number);
    println!("epoch        {}", manifest.epoch.0);
    println!("written by   {}", manifest.created_by);
    println!("positions    {}", positions(manifest));
    println!("partitions   {}", manifest.body.partitions);
    for (key, value) in &manifest.body.fixed {
        println!("under        {key} = {value}");
    }
    for part in &manifest.parts {
        let bytes = store.load_part(manifest, &part.name)?.unwrap_or_default();
        // A recommender's room goes by the name behind its part's prefix.
        let room = part.name.strip_prefix("recommender-").unwrap_or(&part.name);
        let room = if room.starts_with("lane-") {
            "lane"
        } else {
            room
        };
        let version = match Encoded::open(room, u16::MAX, &bytes) {
            Ok(encoded) => format!("version {}", encoded.version()),
            Err(error) => error.to_string(),
        };
        println!(
            "part         {:<32} {:>12} bytes  {version}",
            part.name, part.bytes
        );
    }
    Ok(())
}

fn verify(store: &CheckpointStore, chosen: &[&Listed]) -> Result<()> {
    let mut damaged = 0;
    for listed in chosen {
        let outcome = match &listed.manifest {
            Ok(manifest) => store.verify(manifest).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match outcome {
            Ok(()) => println!("{:>10}  whole", listed.number),
            Err(error) => {
                damaged += 1;
                println!("{:>10}  {error}", listed.number);
            }
        }
    }
    if damaged > 0 {
        bail!("{damaged} of {} checkpoints cannot be used", chosen.len());
    }
    Ok(())
}
