//! - `allocations`: none per row, and memory that does not grow with the log.
//! - `bad_input`: what is wrong with a file is said with its name, line and remedy.
//! - `file`: what a file sink writes, the readers read.
//! - `real`: the logs of `../shared/data`, counted (skipped where they are absent), and rows in the
//!   forms of other players.
//! - `resume`: a replay that stops and goes on writes what one that runs through writes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod allocations;
mod bad_input;
mod counting;
mod file;
mod real;
mod resume;
mod sinks;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use segue_listen::Listen;
use segue_replay::{Inputs, MergeSettings, OrderedListens, ReadReport, ReadSettings, ReplayError};

/// Everything in `paths`, in order.
pub fn read_all(paths: &[PathBuf]) -> Result<(Vec<Listen>, ReadReport), ReplayError> {
    read_with(paths, &ReadSettings::default())
}

pub fn read_with(
    paths: &[PathBuf],
    settings: &ReadSettings,
) -> Result<(Vec<Listen>, ReadReport), ReplayError> {
    let inputs = Inputs::find(paths)?;
    let merge = MergeSettings::default();
    let ordered = OrderedListens::read(&inputs, settings, &merge, |_| ControlFlow::Continue(()))?;
    let mut ordered = ordered.expect("nobody stopped it");
    let mut listens = Vec::new();
    while let Some(listen) = ordered.next_listen()? {
        listens.push(listen.to_owned());
    }
    Ok((listens, ordered.report().clone()))
}

pub fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

pub fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        out.append_data(&mut header, name, *bytes).unwrap();
    }
    out.into_inner().unwrap()
}

/// A log as LastFM-1K has it: users in blocks, newest first, two at the same instant.
pub fn log(users: u32, plays: u32) -> String {
    let mut text = String::new();
    for user in 1..=users {
        for play in (0..plays).rev() {
            let (hour, minute) = (play * 4 / 60 % 24, play * 4 % 60);
            let day = 1 + play * 4 / 60 / 24;
            text.push_str(&format!(
                "user_{user:06}\t2009-01-{day:02}T{hour:02}:{minute:02}:{:02}Z\t\tartist {}\t\tsong {play}\n",
                user / 2,
                play % 7,
            ));
        }
    }
    text
}
