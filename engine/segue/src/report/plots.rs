//! Pictures: axes, lines with bands, bars and rules, as inline SVG.
//!
//! Colours are the page's: plotters is given stand-ins, which are replaced by the names of CSS
//! variables, so that one picture is legible in light and dark. Points that are not numbers are left
//! out; a picture of nothing is `None`.

use std::fmt::{Debug, Display, Write as _};
use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// How many series have a colour of their own; the next one has the first one's again.
pub(super) const COLOURS: usize = 8;
/// How many series have a marker of their own: with the colour, a second way to tell them apart.
pub(super) const MARKERS: usize = 4;
/// No line has more markers.
const MARKED: usize = 12;

const WIDTH: u32 = 900;
const HEIGHT: u32 = 520;
/// In the units of `WIDTH`; the page shows a picture at about half of them.
const FONT: u32 = 23;

/// Stand-ins; see [`in_page_colours`].
const INK: RGBColor = RGBColor(2, 0, 1);
const GRID: RGBColor = RGBColor(2, 0, 2);

const fn series(index: usize) -> RGBColor {
    RGBColor(1, 0, (index % COLOURS) as u8)
}

/// One axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    /// What it measures, with its unit.
    pub label: String,
    pub from: f64,
    pub to: f64,
    pub ticks: Vec<(f64, String)>,
}

/// What is drawn.
#[derive(Clone, Debug)]
pub(super) enum Mark {
    /// A line with markers and, where it has one, a band of `(x, low, high)`.
    Line {
        series: usize,
        points: Vec<(f64, f64)>,
        band: Vec<(f64, f64, f64)>,
    },
    /// Bars of `(from, to, height)` that stand on the lower edge.
    Bars {
        series: usize,
        bars: Vec<(f64, f64, f64)>,
    },
    /// A vertical line with its label, the label so many lines from the top.
    Upright { at: f64, label: String, line: usize },
    /// A horizontal line.
    Level { at: f64 },
}

impl Axis {
    /// An axis from `from` to at least `to`, with about five ticks at round values.
    pub fn round(label: &str, from: f64, to: f64, write: impl Fn(f64) -> String) -> Self {
        let to = if to.is_finite() && to > from {
            to
        } else {
            from + 1.0
        };
        let rough = (to - from) / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0]
            .into_iter()
            .map(|times| times * power)
            .find(|&step| step >= rough * 0.999)
            .unwrap_or(10.0 * power);
        let first = (from / step).ceil() as i64;
        let last = (to / step + 1e-9).floor() as i64;
        let ticks = (first..=last)
            .take(20)
            .map(|times| times as f64 * step)
            .map(|value| (value, write(value)))
            .collect();
        Self {
            label: label.to_owned(),
            from,
            to,
            ticks,
        }
    }

    /// The same axis, stretched to its next tick.
    pub fn up_to_next_tick(mut self, write: impl Fn(f64) -> String) -> Self {
        let step = match self.ticks.as_slice() {
            [(a, _), (b, _), ..] => b - a,
            _ => return self,
        };
        let last = self.ticks.last().map_or(self.from, |(at, _)| *at);
        if self.to > last + step * 1e-6 {
            self.to = last + step;
            self.ticks.push((self.to, write(self.to)));
        }
        self
    }

    fn clamped(&self, value: f64) -> f64 {
        value.clamp(self.from, self.to)
    }

    fn has(&self, value: f64) -> bool {
        value.is_finite() && value >= self.from && value <= self.to
    }

    fn written(&self, at: f64) -> String {
        let near = |other: f64| (other - at).abs() <= (self.to - self.from) * 1e-6;
        let found = self.ticks.iter().find(|(tick, _)| near(*tick));
        found.map_or_else(String::new, |(_, text)| text.clone())
    }
}

/// Plotters asks the axis itself where ticks go and what they say.
impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        RangedCoordf64::from(self.from..self.to).map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.iter().map(|(at, _)| *at).collect()
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        self.written(*value)
    }
}

/// The picture, to stand in a page whose style defines its colours; `None` if nothing of it is a
/// number. `description` is for those who do not see it.
pub(super) fn draw(x: &Axis, y: &Axis, marks: &[Mark], description: &str) -> Option<String> {
    if !marks.iter().any(|mark| mark.says_something(x)) {
        return None;
    }
    let mut svg = String::new();
    // Writing to a string does not fail; if it did, a line would stand in the picture's place.
    paint(&mut svg, x, y, marks).ok()?;
    Some(in_page_colours(&svg, description))
}

impl Mark {
    fn says_something(&self, x: &Axis) -> bool {
        match self {
            Mark::Line { points, .. } => points.iter().any(|&(at, v)| x.has(at) && v.is_finite()),
            Mark::Bars { bars, .. } => bars.iter().any(|bar| bar.2.is_finite() && bar.2 > 0.0),
            Mark::Upright { .. } | Mark::Level { .. } => false,
        }
    }
}

type Failure = Box<dyn std::error::Error>;

fn paint(svg: &mut String, x: &Axis, y: &Axis, marks: &[Mark]) -> Result<(), Failure> {
    let root = SVGBackend::with_string(svg, (WIDTH, HEIGHT)).into_drawing_area();
    let longest = y.ticks.iter().map(|(_, text)| text.chars().count()).max();
    let mut chart = ChartBuilder::on(&root)
        .margin_top(16)
        .margin_right(44)
        .margin_left(8)
        .margin_bottom(4)
        .x_label_area_size(FONT * 3)
        .y_label_area_size(FONT * 2 + longest.unwrap_or(0) as u32 * FONT * 6 / 10)
        .build_cartesian_2d(x.clone(), y.clone())
        .map_err(failed)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .label_style(("sans-serif", FONT, &INK))
        .axis_desc_style(("sans-serif", FONT, &INK))
        .x_desc(x.label.as_str())
        .y_desc(y.label.as_str())
        .draw()
        .map_err(failed)?;
    // Bands first: no line is to lie under another one's band.
    for mark in marks {
        if let Mark::Line {
            series: index,
            band,
            ..
        } = mark
        {
            let band = band
                .iter()
                .filter(|(at, low, high)| x.has(*at) && low.is_finite() && high.is_finite());
            let upper = band.clone().map(|&(at, _, high)| (at, y.clamped(high)));
            let lower = band.rev().map(|&(at, low, _)| (at, y.clamped(low)));
            let outline: Vec<(f64, f64)> = upper.chain(lower).collect();
            if outline.len() > 3 {
                let band = Polygon::new(outline, series(*index).mix(0.13).filled());
                chart.draw_series([band]).map_err(failed)?;
            }
        }
    }
    for mark in marks {
        match mark {
            Mark::Line {
                series: index,
                points,
                ..
            } => {
                let colour = series(*index);
                let points: Vec<(f64, f64)> = points
                    .iter()
                    .filter(|(at, value)| x.has(*at) && value.is_finite())
                    .map(|&(at, value)| (at, y.clamped(value)))
                    .collect();
                let every = points.len().div_ceil(MARKED).max(1);
                let marked: Vec<(f64, f64)> = points.iter().copied().step_by(every).collect();
                chart
                    .draw_series(LineSeries::new(points, colour.stroke_width(4)))
                    .map_err(failed)?;
                // The order of `charts::marker`.
                let size = 8;
                match index % MARKERS {
                    0 => chart
                        .draw_series(
                            marked
                                .iter()
                                .map(|&at| Circle::new(at, size, colour.filled())),
                        )
                        .map(|_| ()),
                    1 => chart
                        .draw_series(
                            marked
                                .iter()
                                .map(|&at| TriangleMarker::new(at, size + 4, colour.filled())),
                        )
                        .map(|_| ()),
                    2 => chart
                        .draw_series(
                            marked
                                .iter()
                                .map(|&at| Cross::new(at, size, colour.stroke_width(4))),
                        )
                        .map(|_| ()),
                    _ => chart
                        .draw_series(
                            marked
                                .iter()
                                .map(|&at| Circle::new(at, size, colour.stroke_width(3))),
                        )
                        .map(|_| ()),
                }
                .map_err(failed)?;
            }
            Mark::Bars {
                series: index,
                bars,
            } => {
                let colour = series(*index);
                let bars = bars
                    .iter()
                    .filter(|(from, to, height)| {
                        x.has(*from) && to.is_finite() && height.is_finite() && *height > y.from
                    })
                    .map(|&(from, to, height)| {
                        let corners = [(from, y.from), (x.clamped(to), y.clamped(height))];
                        let mut bar = Rectangle::new(corners, colour.mix(0.85).filled());
                        bar.set_margin(0, 0, 1, 1);
                        bar
                    });
                chart.draw_series(bars).map_err(failed)?;
            }
            Mark::Upright { at, label, line } if x.has(*at) => {
                let ends = [(*at, y.from), (*at, y.to)];
                chart
                    .draw_series(LineSeries::new(ends, INK.stroke_width(2)))
                    .map_err(failed)?;
                // Beyond the middle the label stands before the line, or it would leave the picture.
                let before = *at > (x.from + x.to) / 2.0;
                let (side, shift) = if before {
                    (HPos::Right, -8)
                } else {
                    (HPos::Left, 8)
                };
                let style = ("sans-serif", FONT)
                    .into_font()
                    .color(&INK)
                    .pos(Pos::new(side, VPos::Top));
                let place = (shift, *line as i32 * (FONT as i32 + 6) + 4);
                let label = EmptyElement::at((*at, y.to)) + Text::new(label.clone(), place, style);
                chart.draw_series([label]).map_err(failed)?;
            }
            Mark::Level { at } if y.has(*at) => {
                let ends = [(x.from, *at), (x.to, *at)];
                chart
                    .draw_series(LineSeries::new(ends, INK.stroke_width(2)))
                    .map_err(failed)?;
            }
            Mark::Upright { .. } | Mark::Level { .. } => {}
        }
    }
    root.present().map_err(failed)?;
    drop(chart);
    drop(root);
    Ok(())
}

/// Plotters' errors borrow what they complain of.
fn failed<E: Debug + Display>(error: E) -> Failure {
    error.to_string().into()
}

/// Stand-ins out, the page's own colours in; named, described, and as wide as its place allows.
fn in_page_colours(svg: &str, description: &str) -> String {
    let body = svg.split_once('>').map_or("", |(_, body)| body);
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\"><title>{}</title>",
        super::html::escaped(description)
    );
    let mut rest = body;
    while let Some((before, after)) = rest.split_once("\"#") {
        out.push_str(before);
        let (code, after) = after.split_once('"').unwrap_or((after, ""));
        let _ = match code.as_bytes() {
            b"020001" => write!(out, "\"currentColor\""),
            b"020002" => write!(out, "\"var(--grid)\""),
            [b'0', b'1', b'0', b'0', b'0', digit] => {
                write!(out, "\"var(--series-{})\"", char::from(*digit))
            }
            _ => write!(out, "\"#{code}\""),
        };
        rest = after;
    }
    out.push_str(rest);
    // Plotters escapes the text of labels, but not what steers the direction of text.
    out.replace(super::html::unprintable, "\u{fffd}")
}
