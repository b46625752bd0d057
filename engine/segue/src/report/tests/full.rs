//! A report with something in every part.

use hdrhistogram::Histogram;
use segue_catalog::durations::{DurationErrors, DurationReport};
use segue_recommend::listeners::Facts;
use segue_recommend::prequential::{Prequential, PrequentialReport, PrequentialSettings};
use segue_recommend::stage::RatioCounts;

use super::{NAMES, facts};
use crate::report::data::{Adapter, Curve, Headline, Phase, Report, Throughput};
use crate::report::distributions::{Completion, Latency, SessionLengths};

/// Ranks that drift apart: the later a recommender stands in the list, the better it gets.
pub fn evaluated(plays: u64, window: u64) -> PrequentialReport {
    let settings = PrequentialSettings {
        window,
        ..Default::default()
    };
    let pairs = [
        ("online E4SRec", "E4SRec frozen"),
        ("online E4SRec", "PersonalMostPop"),
    ];
    let mut prequential = Prequential::new(&NAMES, &pairs, settings).unwrap();
    let facts: Vec<Facts> = (0..plays).map(facts).collect();
    let columns: Vec<Vec<Option<u32>>> = (0..NAMES.len() as u64)
        .map(|column| {
            let rank = |play: u64| {
                let chance = (play.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) % 100;
                let level = 10 + column * 4 + play * column / plays.max(1);
                Some(if chance < level {
                    1 + (chance % 20) as u32
                } else {
                    400
                })
            };
            (0..plays).map(rank).collect()
        })
        .collect();
    let columns: Vec<&[Option<u32>]> = columns.iter().map(Vec::as_slice).collect();
    prequential.record(&facts, &columns).unwrap();
    prequential.report()
}

/// Twelve tracks of which eight are estimated, those played often well.
fn durations() -> DurationReport {
    let class = |from, to, median, within| DurationErrors {
        plays_from: from,
        plays_to: to,
        tracks: 6,
        estimated: 4,
        median_error: median,
        within_5_percent: within,
        within_10_percent: 4,
    };
    DurationReport {
        overall: DurationErrors {
            tracks: 12,
            estimated: 8,
            ..class(1, None, Some(0.031), 6)
        },
        by_plays: vec![
            class(1, Some(5), Some(0.0625), 2),
            class(6, None, Some(0.008), 4),
        ],
    }
}

/// A report of everything.
pub fn full() -> Report {
    let mut latency = Histogram::<u64>::new(3).unwrap();
    (0..20_000u64).for_each(|i| latency.record(300 + (i % 97) * (i % 89)).unwrap());
    (0..20u64).for_each(|i| latency.record(100_000 + i * 9_000).unwrap());
    let mut sessions = SessionLengths::default();
    (0..4_000u64).for_each(|i| sessions.record(1 + (i % 13) * (i % 11)));
    let mut ratios = RatioCounts::default();
    for i in 0..6_000usize {
        let bin = (i % 28).min(19);
        ratios.bins[bin] += 1;
        ratios.sum += bin as f64 / 20.0;
    }
    ratios.by_estimated_length = 6_000;
    let completion = Completion::of(&ratios, 9_000);
    let losses = |from: f64| {
        (0..400)
            .map(|i| (i, from / (1.0 + i as f64 / 90.0) + 3.0))
            .collect()
    };
    let mut report = Report {
        title: "Segue: what the demo did".to_owned(),
        version: "0.1.0".to_owned(),
        commit: Some("c1e8d62".to_owned()),
        seed: 17,
        phases: vec![
            Phase {
                name: "replay and sessions".to_owned(),
                seconds: 1.42,
                amount: Some((186_160, "events".to_owned())),
            },
            Phase {
                name: "train SASRec".to_owned(),
                seconds: 81.0,
                amount: None,
            },
            Phase {
                name: "prequential".to_owned(),
                seconds: 143.2,
                amount: Some((93_000, "plays".to_owned())),
            },
        ],
        throughput: vec![
            Throughput {
                phase: "replay and sessions".to_owned(),
                unit: "events".to_owned(),
                points: (0..=28u64)
                    .map(|i| (i as f64 * 0.05, i * 6_648 - (i % 3) * 900))
                    .collect(),
            },
            Throughput {
                phase: "prequential".to_owned(),
                unit: "plays".to_owned(),
                points: (0..=500u64).map(|i| (i as f64 * 0.28, i * 186)).collect(),
            },
        ],
        latency: Latency::of(&latency),
        sessions,
        completion,
        durations: Some(durations()),
        prequential: Some(evaluated(24_000, 2_000)),
        headline: Some(Headline {
            online: "online E4SRec".to_owned(),
            frozen: "E4SRec frozen".to_owned(),
        }),
        curves: vec![
            Curve {
                model: "SASRec".to_owned(),
                name: "training loss".to_owned(),
                points: losses(6.0),
            },
            Curve {
                model: "SASRec".to_owned(),
                name: "validation loss".to_owned(),
                points: losses(7.0),
            },
            Curve {
                model: "E4SRec".to_owned(),
                name: "training loss".to_owned(),
                points: losses(5.0),
            },
        ],
        adapters: vec![Adapter {
            model: "E4SRec".to_owned(),
            version: 3,
            epoch: 120,
            examples: 40_000,
            loss: Some(4.25),
            fate: "in use".to_owned(),
        }],
        notes: vec!["The backbone is cut to 4 of its 30 layers.".to_owned()],
        ..Report::default()
    };
    report.input.description = "a log".to_owned();
    report.input.from = Some(1_230_768_000_000);
    report.input.to = Some(1_262_304_000_000);
    report.machine.device = "CPU".to_owned();
    report.machine.reason = "no GPU was found".to_owned();
    report.machine.threads = 2;
    report.counts.records = 186_160;
    report
}
