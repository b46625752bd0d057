//! Which pictures a report has.

use segue_recommend::prequential::{PrequentialReport, Window, WindowPart};
use segue_recommend::tally::Metrics;

use super::accuracy::{METRICS, Metric, NOTHING_EVALUATED, RECALL_20};
use super::data::{Curve, Report, Throughput};
use super::distributions::Completion;
use super::figures::{Scale, about, count, day, micros, seconds};
use super::plots::{Axis, COLOURS, MARKERS, Mark, draw};
use super::tables::{NO_PREDICTIONS, NO_RATIOS, NO_SESSIONS, Table, span};

/// A picture with all that belongs to it.
#[derive(Clone, Debug, Default)]
pub(super) struct Figure {
    pub caption: String,
    /// Inline SVG; `None` where there is nothing to draw.
    pub svg: Option<String>,
    /// What is said in its place.
    pub otherwise: String,
    /// Series and its name.
    pub legend: Vec<(usize, String)>,
    /// The same figures to read.
    pub table: Option<Table>,
}

/// The marker and the colour of a series, as text and as an index of the page's colours.
pub(super) fn marker(series: usize) -> (&'static str, usize) {
    const MARKS: [&str; MARKERS] = ["●", "▲", "✕", "○"];
    (
        MARKS.get(series % MARKERS).unwrap_or(&"●"),
        series % COLOURS,
    )
}

/// More points than this are merged (rates) or thinned (curves, windows): no screen shows them.
const POINTS: usize = 150;

/// Events per second in every phase that was watched.
pub(super) fn throughput(report: &Report) -> Vec<Figure> {
    report.throughput.iter().map(rate).collect()
}

fn rate(watched: &Throughput) -> Figure {
    let every = watched.points.len().div_ceil(POINTS).max(1);
    let last = watched.points.last().copied();
    let mut from = (0.0, 0);
    let mut points = Vec::new();
    for to in watched.points.iter().copied().step_by(every).chain(last) {
        let passed = to.0 - from.0;
        if passed > 0.0 && to.1 >= from.1 {
            points.push((to.0, (to.1 - from.1) as f64 / passed));
            from = to;
        }
    }
    let unit = match watched.unit.is_empty() {
        true => "events",
        false => watched.unit.as_str(),
    };
    let end = greatest(points.iter().map(|point| point.0));
    let top = greatest(points.iter().map(|point| point.1));
    let x = Axis::round("seconds since the phase began", 0.0, end, about);
    let y = Axis::round(&format!("{unit} per second"), 0.0, top, about).up_to_next_tick(about);
    let caption = format!("Throughput of {}", watched.phase);
    let overall = last.filter(|last| last.0 > 0.0).map(|(passed, done)| {
        let rate = about(done as f64 / passed);
        format!(
            ": {} {unit} in {}, {rate} a second",
            count(done),
            seconds(passed)
        )
    });
    let mark = Mark::Line {
        series: 0,
        points,
        band: Vec::new(),
    };
    Figure {
        svg: draw(&x, &y, &[mark], &caption),
        caption: caption + &overall.unwrap_or_default(),
        otherwise: "the phase was over before its rate could be taken".to_owned(),
        ..Figure::default()
    }
}

/// Latency on logarithmic axes: the tail is what matters.
pub(super) fn latency(report: &Report) -> Figure {
    let latency = &report.latency;
    let place = |micros: u64| (micros.max(1) as f64).log10();
    let low = latency
        .buckets
        .first()
        .map_or(0.0, |one| place(one.from).floor());
    let high = latency
        .buckets
        .last()
        .map_or(1.0, |one| place(one.to + 1).ceil());
    let most = latency
        .buckets
        .iter()
        .map(|one| one.count)
        .max()
        .unwrap_or(1);
    let x = Axis {
        label: "latency (logarithmic)".to_owned(),
        from: low,
        to: high.max(low + 1.0),
        ticks: decades(low, high, micros),
    };
    // Half a decade below 1, so that a single prediction has a bar; room above for the labels.
    let y = Axis {
        label: "predictions (logarithmic)".to_owned(),
        from: -0.5,
        to: ((most as f64).log10() + 0.5) * 1.35,
        ticks: decades(0.0, (most as f64).log10().floor(), |value| {
            about(value as f64)
        }),
    };
    let bars = latency
        .buckets
        .iter()
        .map(|one| {
            (
                place(one.from),
                place(one.to + 1),
                (one.count as f64).log10(),
            )
        })
        .collect();
    let upright = |line, name: &str, value| Mark::Upright {
        at: place(value),
        label: format!("{name} {}", micros(value)),
        line,
    };
    let marks = [
        Mark::Bars { series: 0, bars },
        upright(0, "p50", latency.p50),
        upright(1, "p99", latency.p99),
        upright(2, "p99.9", latency.p99_9),
    ];
    let caption = format!(
        "Latency from event to prediction, {} predictions",
        count(latency.count)
    );
    let drawn = (latency.count > 0).then(|| draw(&x, &y, &marks, &caption));
    Figure {
        svg: drawn.flatten(),
        caption,
        otherwise: NO_PREDICTIONS.to_owned(),
        ..Figure::default()
    }
}

fn decades(low: f64, high: f64, write: impl Fn(u64) -> String) -> Vec<(f64, String)> {
    let (low, high) = (low.max(0.0) as u32, high.clamp(0.0, 19.0) as u32);
    (low..=high)
        .map(|power| (f64::from(power), write(10u64.saturating_pow(power))))
        .collect()
}

/// How many sessions had how many plays.
pub(super) fn sessions(report: &Report) -> Figure {
    let buckets = &report.sessions.buckets;
    let most = greatest(buckets.iter().map(|bucket| bucket.count as f64));
    let x = Axis {
        label: "plays in the session".to_owned(),
        from: 0.0,
        to: buckets.len().max(1) as f64,
        ticks: buckets
            .iter()
            .enumerate()
            .map(|(place, bucket)| (place as f64 + 0.5, span(bucket.from, bucket.to)))
            .collect(),
    };
    let y = Axis::round("sessions", 0.0, most, about).up_to_next_tick(about);
    let bars = buckets
        .iter()
        .enumerate()
        .map(|(place, bucket)| (place as f64, place as f64 + 1.0, bucket.count as f64))
        .collect();
    let caption = format!("Session lengths, {} sessions", count(report.sessions.count));
    Figure {
        svg: draw(&x, &y, &[Mark::Bars { series: 2, bars }], &caption),
        caption,
        otherwise: NO_SESSIONS.to_owned(),
        ..Figure::default()
    }
}

/// How much of the tracks was heard.
pub(super) fn completion(report: &Report) -> Figure {
    let completion = &report.completion;
    let width = 1.0 / Completion::BINS as f64;
    let bars: Vec<(f64, f64, f64)> = completion
        .bins
        .iter()
        .enumerate()
        .map(|(place, &many)| {
            (
                place as f64 * width,
                (place + 1) as f64 * width,
                many as f64,
            )
        })
        .collect();
    let x = Axis::round(
        "completion ratio (share of the track heard)",
        0.0,
        1.0,
        about,
    );
    let y = Axis::round("plays", 0.0, greatest(bars.iter().map(|bar| bar.2)), about)
        .up_to_next_tick(about);
    let caption = format!(
        "Completion ratios of {} plays; {} have none",
        count(completion.count()),
        count(completion.absent)
    );
    Figure {
        svg: draw(&x, &y, &[Mark::Bars { series: 3, bars }], &caption),
        caption,
        otherwise: NO_RATIOS.to_owned(),
        ..Figure::default()
    }
}

type Part = (&'static str, fn(&Window) -> &WindowPart);
const PARTS: [Part; 3] = [
    ("all plays", |window| &window.overall),
    ("repeats", |window| &window.repeats),
    ("first plays", |window| &window.first_plays),
];

/// Every metric over time, for all plays and with repeats and first plays apart.
pub(super) fn over_time(report: &PrequentialReport) -> Vec<Figure> {
    METRICS
        .iter()
        .flat_map(|metric| {
            PARTS
                .iter()
                .map(|part| metric_over_time(report, metric, *part))
        })
        .collect()
}

/// The windows of one recommender or difference, as they are drawn.
fn drawn(windows: &[Window]) -> impl Iterator<Item = (f64, &Window)> {
    let whole = windows.iter().any(|window| window.whole);
    let every = windows.len().div_ceil(POINTS).max(1);
    let mut plays = 0.0;
    windows
        .iter()
        .map(move |window| {
            plays += window.overall.events as f64;
            (plays, window)
        })
        // An unfinished window is noise beside whole ones, but better than nothing.
        .filter(move |(_, window)| window.whole || !whole)
        .step_by(every)
}

/// The line of some windows: its series, and which figures.
fn line(
    series: usize,
    windows: &[Window],
    part: fn(&Window) -> &WindowPart,
    metric: &Metric,
    factor: f64,
) -> Mark {
    let estimate = |window| (metric.of)(&part(window).metrics);
    Mark::Line {
        series,
        points: drawn(windows)
            .filter_map(|(plays, window)| Some((plays, estimate(window).mean? * factor)))
            .collect(),
        band: drawn(windows)
            .filter_map(|(plays, window)| {
                let found = estimate(window);
                Some((plays, found.low? * factor, found.high? * factor))
            })
            .collect(),
    }
}

fn metric_over_time(report: &PrequentialReport, metric: &Metric, part: Part) -> Figure {
    let factor = factor(metric.scale);
    let marks: Vec<Mark> = report
        .recommenders
        .iter()
        .enumerate()
        .map(|(at, one)| line(at, &one.parts.windows, part.1, metric, factor))
        .collect();
    let (end, _, top) = extent(&marks);
    let x = Axis::round("plays evaluated so far", 0.0, end, about);
    let y = Axis::round(&label(metric), 0.0, top, about).up_to_next_tick(about);
    let caption = format!("{} over time: {}", metric.name, part.0);
    Figure {
        svg: draw(&x, &y, &marks, &caption),
        legend: legend(report.recommenders.iter().map(|one| one.name.clone())),
        table: Some(windows_table(report, metric, part, &caption)),
        caption,
        otherwise: NOTHING_EVALUATED.to_owned(),
    }
}

/// The paired differences in recall@20 over time.
pub(super) fn differences(report: &PrequentialReport) -> Figure {
    let metric = &RECALL_20;
    // A recommender's colour is its own: differences have those after the last recommender's.
    let first = report.recommenders.len();
    let mut marks: Vec<Mark> = report
        .differences
        .iter()
        .enumerate()
        .map(|(at, one)| line(first + at, &one.parts.windows, PARTS[0].1, metric, 100.0))
        .collect();
    let (end, low, top) = extent(&marks);
    let (low, top) = (low.min(0.0), top.max(0.0));
    let x = Axis::round("plays evaluated so far", 0.0, end, about);
    let y = Axis::round(
        "difference in recall@20 (points)",
        low * 1.1,
        top * 1.1,
        about,
    );
    marks.push(Mark::Level { at: 0.0 });
    let caption = "Differences in recall@20 over time: all plays; above 0, the first is better";
    Figure {
        svg: draw(&x, &y, &marks, caption),
        legend: report
            .differences
            .iter()
            .enumerate()
            .map(|(at, one)| (first + at, format!("{} − {}", one.name, one.minus)))
            .collect(),
        caption: caption.to_owned(),
        otherwise: "no recommenders were compared".to_owned(),
        ..Figure::default()
    }
}

fn windows_table(report: &PrequentialReport, metric: &Metric, part: Part, caption: &str) -> Table {
    let mut table = Table::new(caption, &["window", "plays"], NOTHING_EVALUATED);
    table
        .head
        .extend(report.recommenders.iter().map(|one| one.name.clone()));
    let windows = report
        .recommenders
        .first()
        .map_or(&[][..], |one| &one.parts.windows);
    let every = windows.len().div_ceil(POINTS).max(1);
    for (at, window) in windows.iter().enumerate().step_by(every) {
        let unfinished = if window.whole { "" } else { " (unfinished)" };
        let days = format!("{} to {}{unfinished}", day(window.from), day(window.to));
        let figures = report.recommenders.iter().map(|one| {
            let metrics = one
                .parts
                .windows
                .get(at)
                .map(|window| part.1(window).metrics);
            let metrics: Metrics = metrics.unwrap_or_default();
            metric.scale.estimate(&(metric.of)(&metrics))
        });
        table.row(
            [days, count(part.1(window).events)]
                .into_iter()
                .chain(figures),
        );
    }
    table
}

/// One picture per model: its curves.
pub(super) fn curves(report: &Report) -> Vec<Figure> {
    let mut models: Vec<&str> = Vec::new();
    for curve in &report.curves {
        if !models.contains(&curve.model.as_str()) {
            models.push(&curve.model);
        }
    }
    models
        .into_iter()
        .map(|model| {
            let curves: Vec<&Curve> = report
                .curves
                .iter()
                .filter(|curve| curve.model == model)
                .collect();
            learning(model, &curves)
        })
        .collect()
}

fn learning(model: &str, curves: &[&Curve]) -> Figure {
    let marks: Vec<Mark> = curves
        .iter()
        .enumerate()
        .map(|(at, curve)| {
            let every = curve.points.len().div_ceil(2 * POINTS).max(1);
            let points = curve.points.iter().step_by(every);
            Mark::Line {
                series: at,
                points: points.map(|&(step, value)| (step as f64, value)).collect(),
                band: Vec::new(),
            }
        })
        .collect();
    let (end, low, top) = extent(&marks);
    let room = ((top - low) * 0.05).max(top.abs() * 0.001);
    let x = Axis::round("step", 0.0, end, about);
    let y = Axis::round("loss", low - room, top + room, about);
    let caption = format!("Training of {model}");
    Figure {
        svg: draw(&x, &y, &marks, &caption),
        legend: legend(curves.iter().map(|curve| curve.name.clone())),
        caption,
        otherwise: "the curve has no point".to_owned(),
        ..Figure::default()
    }
}

fn legend(names: impl Iterator<Item = String>) -> Vec<(usize, String)> {
    names.enumerate().collect()
}

const fn factor(scale: Scale) -> f64 {
    match scale {
        Scale::Percent => 100.0,
        Scale::Plain => 1.0,
    }
}

fn label(metric: &Metric) -> String {
    match metric.scale {
        Scale::Percent => format!("{} (%)", metric.name),
        Scale::Plain => format!("{} (0 to 1)", metric.name),
    }
}

/// The end of the x axis, and the least and the greatest value of lines and bands. A band counts for
/// at most half the spread of the lines more: windows with few listeners would flatten all else.
fn extent(marks: &[Mark]) -> (f64, f64, f64) {
    let (mut end, mut low, mut top) = (f64::NAN, f64::NAN, f64::NAN);
    let (mut band_low, mut band_top) = (f64::NAN, f64::NAN);
    let mut banded = false;
    for mark in marks {
        if let Mark::Line { points, band, .. } = mark {
            // `min` and `max` leave out what is not a number.
            for &(at, value) in points.iter().filter(|point| point.1.is_finite()) {
                end = end.max(at);
                low = low.min(value);
                top = top.max(value);
            }
            banded |= !band.is_empty();
            for (_, least, most) in band {
                band_low = band_low.min(*least);
                band_top = band_top.max(*most);
            }
        }
    }
    if !banded {
        return (end, low, top);
    }
    let room = (top - low).max(top.abs() * 0.5) * 0.5;
    (
        end,
        low.min(band_low.max(low - room)),
        top.max(band_top.min(top + room)),
    )
}

fn greatest(values: impl Iterator<Item = f64>) -> f64 {
    values.filter(|value| value.is_finite()).fold(0.0, f64::max)
}
