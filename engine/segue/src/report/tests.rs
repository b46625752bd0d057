//! A report of strangers' names, of nothing, and of figures that are none.

use hdrhistogram::Histogram;
use segue_listen::{EventTime, UserId};
use segue_recommend::listeners::Facts;
use segue_recommend::stage::RatioCounts;

use super::data::Report;
use super::distributions::{Completion, Latency, SessionLengths};
use super::{figures, file, html, json, terminal};

mod full;

use full::{evaluated, full};

const HOSTILE: &str = "<script>alert(1)</script>\"'&\u{1b}[31m\u{202e}";
const NAMES: [&str; 5] = [
    "PersonalMostPop",
    "rules",
    "SASRec",
    "E4SRec frozen",
    "online E4SRec",
];

fn facts(play: u64) -> Facts {
    Facts {
        user: UserId((play % 37) as u32),
        at: EventTime::from_millis(1_230_768_000_000 + play as i64 * 60_000),
        first_play: play.is_multiple_of(3),
        cold_track: play.is_multiple_of(10),
        plays: play / 37,
    }
}

fn occurrences(text: &str, of: &str) -> usize {
    text.matches(of).count()
}

#[test]
fn the_page_has_every_section_and_plot() {
    let page = html::render(&full());
    for id in [
        "run",
        "accuracy",
        "over-time",
        "throughput",
        "latency",
        "sessions",
        "completion",
        "learning",
        "notes",
    ] {
        assert_eq!(
            occurrences(&page, &format!("<section id=\"{id}\"")),
            1,
            "{id}"
        );
        assert_eq!(occurrences(&page, &format!("href=\"#{id}\"")), 1, "{id}");
    }
    // 2 rates, latency, sessions, completion, differences, 3 metrics × 3 kinds of play, 2 models.
    assert_eq!(occurrences(&page, "<svg "), 17);
    assert_eq!(occurrences(&page, "</svg>"), 17);
    assert_eq!(occurrences(&page, "role=\"img\"><title>"), 17);
    assert_eq!(
        occurrences(&page, "<table>"),
        occurrences(&page, "<caption>")
    );
    for text in [
        "recall@10 over time: repeats",
        "NDCG@10 over time: first plays",
        "p50 ",
        "p99.9 ",
        "plays in the session",
        "recall@20 (%)",
        "events per second",
        "loss",
        "Recommenders on repeats",
        "PersonalMostPop",
        "online E4SRec is +",
    ] {
        assert!(page.contains(text), "{text}");
    }
}

#[test]
fn the_page_needs_nothing_from_elsewhere_and_runs_nothing() {
    let page = html::render(&full()).to_lowercase();
    for foreign in [
        "http://", "https://", "src=", "url(", "@import", "<script", "<link", "<img",
    ] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert!(page.contains("default-src 'none'"));
    assert!(page.contains("prefers-color-scheme: dark"));
    // Each colour is the page's, so that it follows light and dark.
    assert_eq!(occurrences(&page, "=\"#0"), 0);
}

#[test]
fn strangers_names_neither_run_nor_steer() {
    let mut report = full();
    let hostile = || HOSTILE.to_owned();
    report.title = hostile();
    report.input.description = hostile();
    report.machine.device = hostile();
    report.notes = vec![hostile()];
    report.phases[0].name = hostile();
    report.throughput[0].phase = hostile();
    report.throughput[0].unit = hostile();
    report.curves[0].model = hostile();
    report.curves[0].name = hostile();
    report.adapters[0].fate = hostile();
    let prequential = report.prequential.as_mut().unwrap();
    prequential.recommenders[0].name = hostile();
    prequential.differences[0].name = hostile();
    report.headline.as_mut().unwrap().online = hostile();
    let page = html::render(&report);
    assert!(!page.contains("<script"));
    assert!(page.contains("&lt;script&gt;"));
    let text = terminal::render(&report);
    for steers in ['\u{1b}', '\u{202e}'] {
        assert!(
            !page.contains(steers) && !text.contains(steers),
            "{steers:?}"
        );
    }
}

#[test]
fn a_report_of_nothing_says_so() {
    for prequential in [None, Some(evaluated(0, 10))] {
        let report = Report {
            prequential,
            ..Report::default()
        };
        let page = html::render(&report);
        assert!(!page.contains("<svg "));
        for said in [
            "no prediction was made",
            "no session was closed",
            "no play has a completion ratio",
            "no event states a track's length",
            "no phase was watched",
            "nothing was trained",
        ] {
            assert!(page.contains(said), "{said}");
        }
        assert!(!page.contains("NaN") && !terminal::render(&report).contains("NaN"));
        json::value(&report).unwrap();
    }
}

#[test]
fn figures_that_are_none_are_left_out() {
    let mut report = full();
    let nan = f64::NAN;
    report.phases[0].seconds = nan;
    report.throughput[0].points = vec![(nan, 1), (0.0, 5), (0.0, 6), (f64::INFINITY, 7), (1.0, 2)];
    report.throughput[1].points = vec![(3.0, 5)];
    report.curves[0].points = vec![(0, nan), (1, f64::INFINITY)];
    report.curves[1].points = vec![(5, 1.0)];
    report.curves[2].points = vec![(0, nan)];
    report.input.from = Some(i64::MIN);
    report.input.to = Some(i64::MAX);
    let prequential = report.prequential.as_mut().unwrap();
    for window in &mut prequential.recommenders[1].parts.windows {
        window.overall.metrics.recall_20.mean = Some(nan);
        window.overall.metrics.recall_20.high = Some(f64::INFINITY);
    }
    prequential.differences[0]
        .parts
        .overall
        .per_event
        .recall_20
        .mean = Some(nan);
    let page = html::render(&report);
    assert!(!page.contains("NaN") && !page.contains("inf "));
    assert!(page.contains("the curve has no point"));
    assert!(!terminal::render(&report).contains("NaN"));
    json::value(&report).unwrap();
}

#[test]
fn one_window_one_listener_one_play_is_drawn() {
    for plays in [1, 37] {
        let report = Report {
            prequential: Some(evaluated(plays, 10_000)),
            ..Report::default()
        };
        assert!(html::render(&report).contains("(unfinished)"));
        terminal::render(&report);
    }
}

#[test]
fn a_simulated_run_says_so_at_every_figure() {
    let mut report = full();
    assert!(!html::render(&report).contains("class=\"label\""));
    assert!(!terminal::render(&report).contains("SIMULATED"));
    report.input.simulated = true;
    let page = html::render(&report);
    assert!(page.contains("class=\"banner\""));
    let label = "<span class=\"label\">simulated</span>";
    for end in ["</figcaption>", "</caption>"] {
        assert!(occurrences(&page, end) > 0);
        assert_eq!(
            occurrences(&page, &format!("{label}{end}")),
            occurrences(&page, end)
        );
    }
    assert!(page.contains("class=\"headline\">simulated: "));
    let text = terminal::render(&report);
    assert!(
        text.lines()
            .all(|line| line.is_empty() || line.starts_with("SIMULATED | "))
    );
    let value = json::value(&report).unwrap();
    for section in ["counts", "latency", "sessions", "completion", "prequential"] {
        assert_eq!(value[section]["simulated"], true, "{section}");
    }
    assert_eq!(value["phases"][0]["simulated"], true);
    assert_eq!(value["prequential"]["recommenders"][0]["simulated"], true);
    assert_eq!(value["simulated"], true);
}

#[test]
fn the_terminal_has_the_table_and_the_headline() {
    let text = terminal::render(&full());
    for said in [
        "Recommenders on all plays: 24,000 plays of 37 listeners",
        "Recommenders on repeats",
        "Recommenders on first plays",
        "recall@10",
        "recall@20",
        "NDCG@10",
        "186,160",
        "Estimated track lengths beside stated ones",
        "6.25 %",
        "6 and more",
        "75.00 %",
    ] {
        assert!(text.contains(said), "{said}\n{text}");
    }
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("online E4SRec is +"), "{last}");
    assert!(last.contains("over E4SRec frozen in recall@20"), "{last}");
    assert!(last.contains("95 % interval +"), "{last}");
}

#[test]
fn files_are_whole_or_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("deep/report.html");
    let data = folder.path().join("deep/report.json");
    html::write(&full(), &page).unwrap();
    json::write(&full(), &data).unwrap();
    json::write(&full(), &data).unwrap();
    let text = std::fs::read_to_string(&data).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["counts"]["records"], 186_160);
    assert_eq!(
        std::fs::read_dir(data.parent().unwrap()).unwrap().count(),
        2
    );
    let error = file::write_whole(folder.path(), b"x")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&folder.path().display().to_string()),
        "{error}"
    );
    assert!(file::write_whole(std::path::Path::new("/"), b"x").is_err());
}

#[test]
fn buckets_hold_what_was_recorded() {
    let mut sessions = SessionLengths::default();
    for plays in [0, 1, 2, 3, 4, 5, 8, 9, u64::MAX] {
        sessions.record(plays);
    }
    assert_eq!(sessions.count, 8);
    let first: Vec<(u64, u64, u64)> = sessions
        .buckets
        .iter()
        .take(5)
        .map(|b| (b.from, b.to, b.count))
        .collect();
    assert_eq!(
        first,
        [(1, 1, 1), (2, 2, 1), (3, 4, 2), (5, 8, 2), (9, 16, 1)]
    );
    assert_eq!(sessions.buckets.iter().map(|b| b.count).sum::<u64>(), 8);
    let mut merged = SessionLengths::default();
    merged.record(2);
    merged.merge(&sessions);
    assert_eq!(merged.count, 9);
    assert_eq!(merged.buckets.iter().map(|b| b.count).sum::<u64>(), 9);

    let mut ratios = RatioCounts {
        sum: 2.5,
        by_player: 4,
        ..RatioCounts::default()
    };
    (ratios.bins[0], ratios.bins[10], ratios.bins[19]) = (1, 1, 2);
    let completion = Completion::of(&ratios, 6);
    assert_eq!(
        (completion.count(), completion.absent, completion.players),
        (4, 2, 4)
    );
    assert_eq!(completion.mean(), Some(0.625));
    assert_eq!(Completion::default().mean(), None);

    let mut histogram = Histogram::<u64>::new(3).unwrap();
    let values: Vec<u64> = (0..60)
        .map(|i| 1 << (i % 30))
        .chain([0, 1, 9, 10, 999, 1_000])
        .collect();
    values
        .iter()
        .for_each(|&value| histogram.record(value).unwrap());
    let latency = Latency::of(&histogram);
    assert_eq!(
        latency.buckets.iter().map(|b| b.count).sum::<u64>(),
        values.len() as u64
    );
    assert!(
        latency
            .buckets
            .windows(2)
            .all(|pair| pair[0].to < pair[1].from)
    );
    assert!(
        latency
            .buckets
            .iter()
            .all(|bucket| bucket.from <= bucket.to)
    );
}

#[test]
fn numbers_are_written_for_people() {
    assert_eq!(figures::count(186_160), "186,160");
    assert_eq!(figures::count(999), "999");
    assert_eq!(figures::about(12_345.6), "12,346");
    assert_eq!(figures::about(3_140_000.0), "3.14 M");
    assert_eq!(figures::about(100.0), "100");
    assert_eq!(figures::about(f64::NAN), figures::ABSENT);
    assert_eq!(figures::micros(12_300), "12.3 ms");
    assert_eq!(figures::seconds(200.0), "3 min 20 s");
    assert_eq!(figures::share(1, 0), figures::ABSENT);
    assert_eq!(figures::day(0), "1970-01-01");
}

/// Writes the pages that the tests speak of where `SEGUE_REPORT_SAMPLES` says, to be looked at.
#[test]
fn samples_to_look_at() {
    let Some(folder) = std::env::var_os("SEGUE_REPORT_SAMPLES") else {
        return;
    };
    let folder = std::path::PathBuf::from(folder);
    let mut report = full();
    html::write(&report, &folder.join("real.html")).unwrap();
    report.input.simulated = true;
    report.prequential.as_mut().unwrap().recommenders[0].name = HOSTILE.to_owned();
    html::write(&report, &folder.join("simulated.html")).unwrap();
    html::write(&Report::default(), &folder.join("empty.html")).unwrap();
    print!("{}", terminal::render(&report));
}
