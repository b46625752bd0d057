//! The stream core, part by part: the listening stage over decoded plays, and what comes before it
//! (wire format to plays, names to addresses).

#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use segue_benchmarks::lane_loop::LaneLoop;
use segue_benchmarks::plays::{Plays, Size};
use segue_flow::epoch::{LaneId, Offset};
use segue_flow::lane::{Decode, LaneSettings};
use segue_flow::source::{ContentType, RawRecord};
use segue_listen::wire::{Format, encode};
use segue_listen::{ListenRef, SessionGap, TrackKey};
use segue_sessions::{ListenDecoder, ListeningStage, SessionSettings};

fn stage(c: &mut Criterion) {
    let settings = SessionSettings {
        gap: SessionGap::default(),
        lateness: LaneSettings::default().lateness,
    };
    let mut group = c.benchmark_group("stream_core");
    group.sample_size(10);
    for (name, listeners, plays) in [
        ("1k_users", 1_000, 500_000),
        ("1m_users", 1_000_000, 3_000_000),
    ] {
        let size = Size {
            listeners,
            tracks: 100_000,
            plays,
        };
        let mut workload = Plays::simulate(size, 1);
        let stage = ListeningStage::new(settings);
        let mut lane = LaneLoop::new(stage);
        lane.take(workload.arrivals()).unwrap();
        group.throughput(Throughput::Elements(plays as u64));
        group.bench_function(name, |b| {
            b.iter_custom(|rounds| {
                (0..rounds)
                    .map(|_| {
                        workload.go_on();
                        segue_benchmarks::timing::on_core(|| {
                            lane.take(workload.arrivals()).unwrap()
                        })
                        .0
                    })
                    .sum()
            });
        });
    }
    group.finish();
}

fn decoder(c: &mut Criterion) {
    let listens: Vec<(String, String)> = (0..10_000u32)
        .map(|n| {
            (
                format!("user_{:06}", n % 1_000),
                format!("title {}", n * 7 % 3_000),
            )
        })
        .collect();
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(listens.len() as u64));
    for (name, format) in [("messagepack", Format::MessagePack), ("json", Format::Json)] {
        let records: Vec<Vec<u8>> = listens
            .iter()
            .enumerate()
            .map(|(n, (user, title))| {
                let mut bytes = Vec::new();
                let listen = ListenRef {
                    user,
                    // As of a track with a MusicBrainz id, which is most of them.
                    track: TrackKey((0x4000 << 64) | ((n as u128 * 7 % 3_000) + 1)),
                    artist: "An Artist of Some Name",
                    title,
                    at: segue_listen::EventTime::from_millis(1_108_339_200_000 + n as i64),
                    duration: None,
                    played: None,
                };
                encode(listen, format, &mut bytes).unwrap();
                bytes
            })
            .collect();
        let mut decoder = ListenDecoder::new(LaneId(0), 1);
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || (),
                |()| {
                    for (n, value) in records.iter().enumerate() {
                        let record = RawRecord {
                            offset: Offset(n as u64),
                            key: None,
                            value: Some(value),
                            content_type: ContentType::Known(None),
                            logged_at: None,
                        };
                        black_box(decoder.decode(&record).unwrap());
                    }
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, stage, decoder);
criterion_main!(benches);
