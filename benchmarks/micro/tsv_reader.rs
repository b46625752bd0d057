//! The reader of LastFM-1K rows over bytes in memory: whole, and its parts (lines alone, time stamps).

#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use segue_benchmarks::rows;
use segue_listen::TrackKey;
use segue_replay::formats::{Reading, lastfm};
use segue_replay::lines::Lines;
use segue_replay::{ReadSettings, Rejects, iso};

const ROWS: u64 = 50_000;

fn reader(c: &mut Criterion) {
    let mut text = Vec::new();
    rows::write(&mut text, ROWS, 5, 1).unwrap();
    let mut group = c.benchmark_group("tsv_reader");
    group.throughput(Throughput::Elements(ROWS));
    group.bench_function("rows", |b| {
        let settings = ReadSettings::default();
        b.iter(|| {
            let mut rejects = Rejects::counted();
            let mut reading = Reading {
                path: Path::new("simulated rows"),
                settings: &settings,
                rejects: &mut rejects,
            };
            lastfm::read(text.as_slice(), &mut reading, |listen| {
                black_box(listen);
                Ok(ControlFlow::Continue(()))
            })
            .unwrap()
        });
    });
    group.bench_function("lines_only", |b| {
        b.iter(|| {
            let mut lines = Lines::new(text.as_slice(), 1 << 20);
            while let Some(line) = lines.next_line().unwrap() {
                black_box(line);
            }
        });
    });
    group.finish();

    let mut group = c.benchmark_group("fields");
    group.throughput(Throughput::Elements(1));
    group.bench_function("time", |b| {
        b.iter(|| iso::parse(black_box("2009-05-04T23:08:57Z")).unwrap());
    });
    group.bench_function("mbid", |b| {
        b.iter(|| TrackKey::from_mbid(black_box("f1b1cf71-bd35-4e99-8624-24a6e15f133a")).unwrap());
    });
    group.bench_function("key_from_names", |b| {
        b.iter(|| TrackKey::from_names(black_box("Deep Dish"), black_box("Flashdance")));
    });
    group.finish();
}

criterion_group!(benches, reader);
criterion_main!(benches);
