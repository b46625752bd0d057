//! A log of many rows, replayed as `segue replay` does by a process of its own that tells its peak memory.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, ensure};
use segue_benchmarks::machine::peak_memory_kib;
use segue_benchmarks::outcome::{Metric, Outcome};
use segue_benchmarks::rows;
use segue_benchmarks::timing::{rate, timed};
use segue_flow::epoch::{Epoch, OffsetRange};
use segue_flow::{OutRecord, Sink, SinkError};
use segue_listen::EventTime;
use segue_replay::formats::lastfm;
use segue_replay::{Inputs, MergeSettings, ReadSettings, Replay, ReplaySettings};
use serde::{Deserialize, Serialize};

use crate::Ask;

const SEED: u64 = 20_260_603;

/// What the child process tells in the last line of its output.
#[derive(Serialize, Deserialize)]
struct Told {
    listens: u64,
    bytes: u64,
    peak_kib: u64,
    seconds: f64,
}

pub fn run(ask: &Ask) -> anyhow::Result<Outcome> {
    let rows = ask.config.size("rows", ask.quick)?;
    let users = ask.config.size("users", ask.quick)?;
    // Removed when it goes out of scope, whatever happens.
    let folder = tempfile::tempdir().context("folder for temporary files")?;
    let log = folder.path().join(lastfm::FILE_NAME);
    let (took, written) = timed(|| write(&log, rows, users));
    let size = written?;
    println!(
        "{rows} rows, {} MiB, written in {:.0} s",
        size >> 20,
        took.as_secs_f64()
    );
    let told = replay_in_child(&log, folder.path())?;
    ensure!(
        told.listens == rows,
        "{} listens came out of {rows} rows",
        told.listens
    );
    println!(
        "replayed in {:.0} s, {} MiB of records, at most {} MiB resident",
        told.seconds,
        told.bytes >> 20,
        told.peak_kib >> 10
    );
    let per_second = rate(
        usize::try_from(rows)?,
        std::time::Duration::from_secs_f64(told.seconds),
    );
    Ok(Outcome {
        name: "replay-memory",
        quick: ask.quick,
        simulated: true,
        metrics: vec![
            Metric::single("max_rss_mib", told.peak_kib as f64 / 1_024.0, "MiB")
                .beside("the log's size", size as f64 / 1_048_576.0),
            Metric::single("rows_per_s_replayed", per_second, "rows/s"),
        ],
        repeats: 1,
        workload: format!(
            "{rows} simulated rows (seed {SEED}) of {users} users in blocks, newest first; replayed with default settings into a sink that counts"
        ),
    })
}

fn write(log: &Path, rows: u64, users: u64) -> anyhow::Result<u64> {
    let file = std::fs::File::create(log).with_context(|| log.display().to_string())?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    rows::write(&mut out, rows, users, SEED)
        .and_then(|()| out.flush())
        .with_context(|| format!("{}: is there room for {rows} rows?", log.display()))?;
    Ok(std::fs::metadata(log)?.len())
}

fn replay_in_child(log: &Path, temporary: &Path) -> anyhow::Result<Told> {
    let this = std::env::current_exe().context("this program's own path")?;
    let output = Command::new(this)
        .arg("replay-into-nothing")
        .args([log, temporary])
        .output()
        .context("starting the process that replays")?;
    ensure!(
        output.status.success(),
        "the process that replays failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout)?;
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).with_context(|| format!("what the process told: `{last}`"))
}

/// The child's work: what `segue replay` does, into a sink that keeps nothing.
pub fn child(log: &Path, temporary: &Path) -> anyhow::Result<()> {
    let settings = ReplaySettings {
        read: ReadSettings {
            rejects: Some(temporary.join("rejects.tsv")),
            ..ReadSettings::default()
        },
        merge: MergeSettings {
            temp_dir: Some(temporary.to_owned()),
            ..MergeSettings::default()
        },
        ..ReplaySettings::default()
    };
    let replay = Replay::new(Inputs::find(&[log])?, settings);
    let mut sink = Counting::default();
    let (took, report) = timed(|| replay.run(&mut sink, &AtomicBool::new(false), |_| {}));
    let delivered = report?.delivered.context("the replay was stopped")?;
    ensure!(
        delivered.listens == sink.listens,
        "{} listens reported as written, {} came",
        delivered.listens,
        sink.listens
    );
    let told = Told {
        listens: sink.listens,
        bytes: sink.bytes,
        peak_kib: peak_memory_kib().context("/proc/self/status tells no VmHWM: not Linux?")?,
        seconds: took.as_secs_f64(),
    };
    println!("{}", serde_json::to_string(&told)?);
    Ok(())
}

/// Counts, keeps nothing, and takes nothing that is out of order.
#[derive(Default)]
struct Counting {
    listens: u64,
    bytes: u64,
    last: Option<EventTime>,
}

impl Sink for Counting {
    fn begin(&mut self, _: Epoch) -> Result<(), SinkError> {
        Ok(())
    }

    fn write(&mut self, record: OutRecord<'_>) -> Result<(), SinkError> {
        if record.at < self.last {
            let (at, last) = (record.at, self.last);
            return Err(SinkError::Misuse(format!("{at:?} after {last:?}")));
        }
        self.last = record.at;
        // Heartbeats have no key.
        self.listens += u64::from(record.key.is_some());
        self.bytes += record.value.map_or(0, <[u8]>::len) as u64;
        Ok(())
    }

    fn commit(&mut self, _: Epoch, _: &[OffsetRange]) -> Result<(), SinkError> {
        Ok(())
    }

    fn abort(&mut self, _: Epoch) -> Result<(), SinkError> {
        Ok(())
    }
}
