//! How well each recommender predicted: tables with intervals, and the sentence it comes down to.

use segue_recommend::interval::Estimate;
use segue_recommend::prequential::{DifferenceReport, Parts, PrequentialReport, Slice};
use segue_recommend::tally::Metrics;

use super::data::Report;
use super::figures::{ABSENT, Scale, count};
use super::tables::Table;

/// A metric that is shown.
#[derive(Clone, Copy)]
pub(super) struct Metric {
    pub name: &'static str,
    pub scale: Scale,
    pub of: fn(&Metrics) -> Estimate,
}

pub(super) const RECALL_20: Metric = Metric {
    name: "recall@20",
    scale: Scale::Percent,
    of: |metrics| metrics.recall_20,
};

/// The metrics that are shown, in this order.
pub(super) const METRICS: [Metric; 3] = [
    Metric {
        name: "recall@10",
        scale: Scale::Percent,
        of: |metrics| metrics.recall_10,
    },
    RECALL_20,
    Metric {
        name: "NDCG@10",
        scale: Scale::Plain,
        of: |metrics| metrics.ndcg_10,
    },
];

/// Some of the plays, chosen by kind.
pub(super) type Kind = (&'static str, fn(&Parts) -> &Slice);

/// All plays, and those apart that are apart in every table.
pub(super) const KINDS: [Kind; 3] = [
    ("all plays", |parts| &parts.overall),
    ("repeats", |parts| &parts.repeats),
    ("first plays", |parts| &parts.first_plays),
];

const TEMPERATURES: [Kind; 4] = [
    ("new tracks", |parts| &parts.cold_tracks),
    ("known tracks", |parts| &parts.warm_tracks),
    ("new listeners", |parts| &parts.cold_users),
    ("known listeners", |parts| &parts.warm_users),
];

pub(super) const NOTHING_EVALUATED: &str = "no recommender was evaluated";

/// One table per kind of play: every recommender, every metric.
pub(super) fn recommenders(report: &PrequentialReport) -> Vec<Table> {
    KINDS
        .iter()
        .map(|(kind, slice)| {
            let mut table = Table::new(
                format!("Recommenders on {kind}{}", size(report, *slice)),
                &[
                    "recommender",
                    "recall@10",
                    "recall@20",
                    "NDCG@10",
                    "recall@20, mean of listeners",
                    "could not rank",
                ],
                NOTHING_EVALUATED,
            );
            if *kind != "all plays" {
                table.head.pop();
            }
            for recommender in &report.recommenders {
                let slice = slice(&recommender.parts);
                let figures = METRICS
                    .iter()
                    .map(|metric| metric.scale.estimate(&(metric.of)(&slice.per_event)));
                let per_user = (RECALL_20.of)(&slice.per_user);
                let unranked = (*kind == "all plays").then(|| count(recommender.unranked));
                table.row(
                    [recommender.name.clone()]
                        .into_iter()
                        .chain(figures)
                        .chain([RECALL_20.scale.estimate(&per_user)])
                        .chain(unranked),
                );
            }
            table
        })
        .collect()
}

/// `, 12,345 plays of 330 listeners`: the same for every recommender, since all see the same plays.
fn size(report: &PrequentialReport, slice: fn(&Parts) -> &Slice) -> String {
    report.recommenders.first().map_or_else(String::new, |one| {
        let slice = slice(&one.parts);
        format!(
            ": {} plays of {} listeners",
            count(slice.events),
            count(slice.users)
        )
    })
}

/// Recall@20 of every recommender where tracks or listeners are new, and where they are not.
pub(super) fn temperatures(report: &PrequentialReport) -> Table {
    let mut table = Table::new(
        "recall@20 where tracks or listeners are new and where they are known",
        &["recommender"],
        NOTHING_EVALUATED,
    );
    for (kind, slice) in TEMPERATURES {
        let plays = report
            .recommenders
            .first()
            .map_or(0, |one| slice(&one.parts).events);
        table.head.push(format!("{kind} ({} plays)", count(plays)));
    }
    for recommender in &report.recommenders {
        let figures = TEMPERATURES.iter().map(|(_, slice)| {
            let metrics = &slice(&recommender.parts).per_event;
            RECALL_20.scale.estimate(&(RECALL_20.of)(metrics))
        });
        table.row([recommender.name.clone()].into_iter().chain(figures));
    }
    table
}

/// The paired differences.
pub(super) fn differences(report: &PrequentialReport) -> Table {
    let mut table = Table::new(
        "Differences on the same plays; an interval above 0 says that the first is better",
        &[
            "difference",
            "plays",
            "recall@10",
            "recall@20",
            "NDCG@10",
            "recall@20, mean of listeners",
        ],
        "no recommenders were compared",
    );
    for difference in &report.differences {
        for (kind, slice) in KINDS {
            let slice = slice(&difference.parts);
            let figures = METRICS
                .iter()
                .map(|metric| metric.scale.difference(&(metric.of)(&slice.per_event)));
            let per_user = (RECALL_20.of)(&slice.per_user);
            let per_user = RECALL_20.scale.difference(&per_user);
            let name = format!("{} − {}", difference.name, difference.minus);
            table.row(
                [name, kind.to_owned()]
                    .into_iter()
                    .chain(figures)
                    .chain([per_user]),
            );
        }
    }
    table
}

/// Old plays, ranked again: recall@20 of each recommender when they were new and now, and by how much more
/// the first of a pair has changed than the second.
pub(super) fn old_plays(report: &PrequentialReport) -> Table {
    let old = report.old_plays.as_ref();
    let caption = old.map_or_else(String::new, |old| {
        format!(
            ": recall@20 on {} plays drawn from the first {}, not learnt from since; {}",
            count(old.plays),
            count(old.among),
            "the catalogue has grown for all, so what learning costs is a difference of changes below 0"
        )
    });
    let mut table = Table::new(
        format!("Old plays, ranked again{caption}"),
        &[
            "recommender",
            "plays measured by then",
            "when new",
            "now",
            "change",
        ],
        "no old play was ranked again",
    );
    let estimate = |metrics: &Metrics| RECALL_20.scale.estimate(&(RECALL_20.of)(metrics));
    let difference = |metrics: &Metrics| RECALL_20.scale.difference(&(RECALL_20.of)(metrics));
    let readings = old.map_or(&[][..], |old| &old.readings);
    // The first reading and the last: what lies between is in report.json.
    let ends = match readings {
        [first, .., last] => vec![first, last],
        few => few.iter().collect(),
    };
    for reading in ends {
        for one in &reading.recommenders {
            table.row([
                one.name.clone(),
                count(reading.after),
                estimate(&one.new),
                estimate(&one.now),
                difference(&one.change),
            ]);
        }
        for pair in &reading.differences {
            table.row([
                format!("{} − {}", pair.name, pair.minus),
                count(reading.after),
                ABSENT.to_owned(),
                difference(&pair.now),
                difference(&pair.change),
            ]);
        }
    }
    table
}

/// `online E4SRec is +1.20 points (95 % interval +0.80 to +1.60) over frozen in recall@20 …`.
pub(super) fn headline(report: &Report) -> Option<String> {
    let pair = report.headline.as_ref()?;
    let prequential = report.prequential.as_ref()?;
    let found = prequential
        .differences
        .iter()
        .find(|one| one.name == pair.online && one.minus == pair.frozen)?;
    let overall = &found.parts.overall;
    let recall = overall.per_event.recall_20;
    let mean = recall.mean.filter(|mean| mean.is_finite())?;
    let (interval, verdict) = match (recall.low, recall.high) {
        (Some(low), Some(high)) if low.is_finite() && high.is_finite() => (
            format!("95 % interval {:+.2} to {:+.2}", low * 100.0, high * 100.0),
            if low > 0.0 {
                "the interval is above 0: it is ahead"
            } else if high < 0.0 {
                "the interval is below 0: it is behind"
            } else {
                "the interval has 0 in it: this log does not tell which is better"
            },
        ),
        _ => (
            "no interval".to_owned(),
            "an interval needs at least two listeners",
        ),
    };
    let label = report
        .label()
        .map_or_else(String::new, |label| format!("{label}: "));
    Some(format!(
        "{label}{} is {:+.2} points ({interval}) over {} in recall@20, on {} plays of {} listeners; \
         {verdict}{}",
        pair.online,
        mean * 100.0,
        pair.frozen,
        count(overall.events),
        count(overall.users),
        windows_ahead(found),
    ))
}

fn windows_ahead(difference: &DifferenceReport) -> String {
    let means = || {
        let windows = difference
            .parts
            .windows
            .iter()
            .filter(|window| window.whole);
        windows.filter_map(|window| window.overall.metrics.recall_20.mean)
    };
    match means().count() {
        0 => String::new(),
        windows => format!(
            "; it is at or above in {} of {} whole windows",
            count(means().filter(|&mean| mean >= 0.0).count() as u64),
            count(windows as u64)
        ),
    }
}
