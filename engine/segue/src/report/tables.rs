//! The figures as tables, the same for the terminal and the page. Cells are raw text: whoever says
//! them escapes them.

use segue_catalog::durations::DurationReport;

use super::data::Report;
use super::distributions::{Completion, SessionLengths};
use super::figures::{ABSENT, about, count, day, micros, percent, seconds, share};

/// A table: the first column names the row, the others are figures.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub caption: String,
    pub head: Vec<String>,
    pub rows: Vec<Vec<String>>,
    /// What is said instead where there are no rows.
    pub otherwise: &'static str,
}

impl Table {
    pub fn new(caption: impl Into<String>, head: &[&str], otherwise: &'static str) -> Self {
        Self {
            caption: caption.into(),
            head: head.iter().map(|&cell| cell.to_owned()).collect(),
            rows: Vec::new(),
            otherwise,
        }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

/// Whether a cell is a figure, and so aligned at its right end.
pub(super) fn is_figure(cell: &str) -> bool {
    let unsigned = cell.strip_prefix(['+', '-', '−']).unwrap_or(cell);
    cell == ABSENT || unsigned.starts_with(|c: char| c.is_ascii_digit())
}

/// What was run, on what, from which seed.
pub(super) fn run(report: &Report) -> Table {
    let mut table = Table::new("The run", &["what", "which"], "nothing is known of the run");
    let mut say = |what: &str, which: String| {
        let which = if which.is_empty() {
            ABSENT.to_owned()
        } else {
            which
        };
        table.row([what.to_owned(), which]);
    };
    say("input", report.input.description.clone());
    if let (Some(from), Some(to)) = (report.input.from, report.input.to) {
        say("event time", format!("{} to {}", day(from), day(to)));
    }
    say("Segue", report.version.clone());
    say("commit", report.commit.clone().unwrap_or_default());
    say("seed", report.seed.to_string());
    say("device", report.machine.device.clone());
    say("why this device", report.machine.reason.clone());
    say("threads", count(report.machine.threads as u64));
    table
}

/// What came in and what became of it.
pub(super) fn counts(report: &Report) -> Table {
    let counts = &report.counts;
    let rows: [(&str, u64); 15] = [
        ("records read", counts.records),
        ("rows refused by the reader", counts.rejects),
        ("dead letters", counts.dead_letters),
        ("plays", counts.plays),
        ("duplicates dropped", counts.duplicates),
        ("late, still counted", counts.late),
        ("too late, kept apart", counts.too_late),
        ("listeners", counts.listeners),
        ("tracks", counts.tracks),
        ("tracks encoded", counts.tracks_encoded),
        ("tracks that could not be encoded", counts.tracks_failed),
        ("track lengths estimated", counts.durations_estimated),
        ("sessions closed", counts.sessions_closed),
        (
            "sessions retracted and corrected",
            counts.sessions_retracted,
        ),
        ("predictions", counts.predictions),
    ];
    let mut table = Table::new(
        "What came in and what became of it",
        &["what", "how many"],
        "",
    );
    for (what, many) in rows {
        table.row([what.to_owned(), count(many)]);
    }
    table
}

/// What took how long.
pub(super) fn phases(report: &Report) -> Table {
    let mut table = Table::new(
        "What took how long",
        &["phase", "time", "amount", "rate"],
        "no phase was timed",
    );
    for phase in &report.phases {
        let (amount, rate) = match &phase.amount {
            Some((many, unit)) => {
                let rate = *many as f64 / phase.seconds;
                let rate = match rate.is_finite() {
                    true => format!("{} {unit}/s", about(rate)),
                    false => ABSENT.to_owned(),
                };
                (format!("{} {unit}", count(*many)), rate)
            }
            None => (ABSENT.to_owned(), ABSENT.to_owned()),
        };
        table.row([phase.name.clone(), seconds(phase.seconds), amount, rate]);
    }
    table
}

/// From an event to its prediction.
pub(super) fn latency(report: &Report) -> Table {
    let latency = &report.latency;
    let mut table = Table::new(
        "Latency from event to prediction",
        &["predictions", "p50", "p99", "p99.9", "slowest"],
        NO_PREDICTIONS,
    );
    if latency.count > 0 {
        table.row([
            count(latency.count),
            micros(latency.p50),
            micros(latency.p99),
            micros(latency.p99_9),
            micros(latency.max),
        ]);
    }
    table
}

pub(super) const NO_PREDICTIONS: &str = "no prediction was made, so there is no latency";

/// How long sessions were.
pub(super) fn sessions(sessions: &SessionLengths) -> Table {
    let mut table = Table::new(
        "Session lengths",
        &["plays in the session", "sessions", "share"],
        NO_SESSIONS,
    );
    for bucket in &sessions.buckets {
        let cells = [
            span(bucket.from, bucket.to),
            count(bucket.count),
            share(bucket.count, sessions.count),
        ];
        table.row(cells);
    }
    if let Some(mean) = sessions.mean() {
        table.caption = format!(
            "Session lengths: {:.1} plays on the mean, {} at most",
            mean,
            count(sessions.longest)
        );
    }
    table
}

pub(super) const NO_SESSIONS: &str = "no session was closed";

/// `3–4`, or `1` where both ends are the same.
pub(super) fn span(from: u64, to: u64) -> String {
    match from == to {
        true => count(from),
        false => format!("{}–{}", count(from), count(to)),
    }
}

/// What completion ratios rest on.
pub(super) fn completion(completion: &Completion) -> Table {
    let whole = completion.count() + completion.absent;
    let mut table = Table::new(
        "What completion ratios rest on",
        &["basis", "plays", "share"],
        NO_RATIOS,
    );
    let rows = [
        ("player's own figure", completion.players),
        ("gap to the next play, stated length", completion.stated),
        (
            "gap to the next play, estimated length",
            completion.estimated,
        ),
        ("none: absent, not 0", completion.absent),
    ];
    if whole > 0 {
        for (basis, plays) in rows {
            table.row([basis.to_owned(), count(plays), share(plays, whole)]);
        }
    }
    if let Some(mean) = completion.mean() {
        table.caption = format!("What completion ratios rest on; their mean is {mean:.3}");
    }
    table
}

/// How far estimated track lengths are from those that events state.
pub(super) fn durations(durations: Option<&DurationReport>) -> Table {
    let mut table = Table::new(
        "Estimated track lengths beside stated ones",
        &[
            "plays of the track",
            "tracks with a stated length",
            "estimated",
            "median error",
            "within 5 %",
            "within 10 %",
        ],
        "no event states a track's length: estimates cannot be judged",
    );
    let Some(report) = durations else {
        return table;
    };
    let classes = report.by_plays.iter().chain([&report.overall]);
    for class in classes.filter(|class| class.tracks > 0) {
        let plays = match (class.plays_from, class.plays_to) {
            (1, None) => "any".to_owned(),
            (from, None) => format!("{from} and more"),
            (from, Some(to)) => format!("{from} to {to}"),
        };
        table.row([
            plays,
            count(class.tracks),
            count(class.estimated),
            (class.median_error).map_or_else(|| ABSENT.to_owned(), percent),
            share(class.within_5_percent, class.estimated),
            share(class.within_10_percent, class.estimated),
        ]);
    }
    table
}

pub(super) const NO_RATIOS: &str = "no play has a completion ratio";

/// The newest adapters, where there are too many for a terminal.
pub(super) fn newest_adapters(report: &Report) -> Table {
    const SHOWN: usize = 5;
    let mut table = adapters(report);
    let all = table.rows.len();
    if all > SHOWN {
        table.rows.drain(..all - SHOWN);
        table.caption = format!("Adapters: the newest {SHOWN} of {all}");
    }
    table
}

/// What became of each adapter.
pub(super) fn adapters(report: &Report) -> Table {
    let mut table = Table::new(
        "Adapters",
        &[
            "model",
            "version",
            "since epoch",
            "examples learnt from",
            "loss of its step",
            "fate",
        ],
        "no adapter was published",
    );
    for adapter in &report.adapters {
        table.row([
            adapter.model.clone(),
            count(adapter.version),
            count(adapter.epoch),
            count(adapter.examples),
            adapter
                .loss
                .map_or_else(|| ABSENT.to_owned(), |loss| format!("{loss:.3}")),
            adapter.fate.clone(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::data::Adapter;

    #[test]
    fn a_terminal_shows_the_newest_adapters() {
        let adapters = |versions| Report {
            adapters: (1..=versions)
                .map(|version| Adapter {
                    version,
                    ..Adapter::default()
                })
                .collect(),
            ..Report::default()
        };
        let table = newest_adapters(&adapters(23));
        let versions: Vec<&str> = table.rows.iter().map(|row| row[1].as_str()).collect();
        assert_eq!(versions, ["19", "20", "21", "22", "23"]);
        assert_eq!(table.caption, "Adapters: the newest 5 of 23");
        assert_eq!(newest_adapters(&adapters(5)).caption, "Adapters");
    }
}
