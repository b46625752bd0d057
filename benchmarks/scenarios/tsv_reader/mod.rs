//! The reader of LastFM-1K rows, from bytes in memory to plays with their track keys.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, ensure};
use segue_benchmarks::outcome::{Metric, Outcome};
use segue_benchmarks::rows;
use segue_benchmarks::timing::{Interval, on_core, rate};
use segue_replay::formats::{Reading, lastfm};
use segue_replay::{ReadSettings, Rejects};

use crate::Ask;

const SEED: u64 = 20_260_602;

pub fn run(ask: &Ask) -> anyhow::Result<Outcome> {
    let rows = ask.config.size("rows", ask.quick)?;
    let users = ask.config.size("users", ask.quick)?;
    let repeats = usize::try_from(ask.config.size("repeats", ask.quick)?)?;
    let mut text = Vec::new();
    rows::write(&mut text, rows, users, SEED)?;
    let count = usize::try_from(rows)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // Turn about, so that a busy spell of the machine falls on both.
    for _ in 0..repeats {
        let (took, read) = on_core(|| read(&text));
        ensure!(read? == rows, "the reader did not read all of its rows");
        ours.push(rate(count, took));
        let (took, read) = on_core(|| read_by_csv(&text));
        ensure!(read? == rows, "the csv crate did not read all of its rows");
        theirs.push(rate(count, took));
    }
    let none = "scenario.toml: repeats must not be 0";
    let ours = Interval::of(&ours).context(none)?;
    let theirs = Interval::of(&theirs).context(none)?;
    println!(
        "{rows} rows of {} bytes on average: median {:.2} M/s; by the csv crate {:.2} M/s",
        text.len() as u64 / rows.max(1),
        ours.median / 1e6,
        theirs.median / 1e6
    );
    Ok(Outcome {
        name: "tsv-reader",
        quick: ask.quick,
        simulated: true,
        metrics: vec![
            Metric::repeated("rows_per_s", ours, "rows/s").beside(
                "the csv crate, tabs, no quoting, six owned strings a row (time not parsed, no track key)",
                theirs.median,
            ),
            Metric::single(
                "mib_per_s",
                ours.median * text.len() as f64 / rows.max(1) as f64 / 1_048_576.0,
                "MiB/s",
            ),
        ],
        repeats,
        workload: format!("{rows} simulated rows (seed {SEED}) in memory; one thread, by its time on a core"),
    })
}

fn read(text: &[u8]) -> anyhow::Result<u64> {
    let settings = ReadSettings::default();
    let mut rejects = Rejects::counted();
    let mut reading = Reading {
        path: Path::new("simulated rows"),
        settings: &settings,
        rejects: &mut rejects,
    };
    let mut read = 0;
    let _ = lastfm::read(text, &mut reading, |listen| {
        black_box(listen);
        read += 1;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(read)
}

fn read_by_csv(text: &[u8]) -> anyhow::Result<u64> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(b'\t')
        .has_headers(false)
        .quoting(false)
        .from_reader(text);
    let mut read = 0;
    for row in reader.deserialize() {
        let row: [String; 6] = row?;
        black_box(row);
        read += 1;
    }
    Ok(read)
}
