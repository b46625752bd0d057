//! The report as one page that needs nothing else: no script, no font, no picture from elsewhere.

use std::borrow::Cow;
use std::path::Path;

use anyhow::Result;

use super::accuracy;
use super::charts::{self, Figure, marker};
use super::data::Report;
use super::file::write_whole;
use super::tables::{self, Table, is_figure};

const STYLE: &str = include_str!("style.css");

/// Writes the page, whole or not at all.
///
/// # Errors
/// The file cannot be written.
pub fn write(report: &Report, path: &Path) -> Result<()> {
    write_whole(path, render(report).as_bytes())
}

/// The page.
pub fn render(report: &Report) -> String {
    let mut page = Page {
        out: String::new(),
        label: report.label(),
    };
    let title = escaped(&report.title);
    page.push(&["<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"]);
    page.push(&["<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"]);
    // Whatever slipped through the escaping could still load or run nothing.
    page.push(&[
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; ",
        "style-src 'unsafe-inline'\">\n",
    ]);
    page.push(&[
        "<title>",
        &title,
        "</title>\n<style>\n",
        STYLE,
        "</style>\n</head>\n<body>\n",
    ]);
    if page.label.is_some() {
        page.push(&[
            "<p class=\"banner\" role=\"note\">Simulated: these listens were generated, nobody ",
            "played them. Every figure on this page is of the simulation.</p>\n",
        ]);
    }
    page.push(&["<header>\n<h1>", &title, "</h1>\n"]);
    page.headline(report);
    page.contents();
    page.push(&["</header>\n<main>\n"]);
    for section in &SECTIONS {
        let Section { id, heading, body } = section;
        page.push(&[
            "<section id=\"",
            id,
            "\" aria-labelledby=\"",
            id,
            "-heading\">\n",
        ]);
        page.push(&["<h2 id=\"", id, "-heading\">", heading, "</h2>\n"]);
        body(&mut page, report);
        page.push(&["</section>\n"]);
    }
    page.push(&["</main>\n</body>\n</html>\n"]);
    page.out
}

/// Text that can stand anywhere in the page, in attributes too. What steers the direction of text or
/// is no character of HTML becomes a replacement character.
pub(super) fn escaped(text: &str) -> Cow<'_, str> {
    let harmless = |c: char| !matches!(c, '<' | '>' | '&' | '"' | '\'') && !unprintable(c);
    if text.chars().all(harmless) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ if unprintable(c) => out.push('\u{fffd}'),
            _ => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// What steers the direction of text or is no character of HTML.
pub(super) fn unprintable(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

struct Section {
    id: &'static str,
    heading: &'static str,
    body: fn(&mut Page, &Report),
}

const SECTIONS: [Section; 9] = [
    Section {
        id: "run",
        heading: "Run",
        body: |page, report| {
            page.tables(&[
                tables::run(report),
                tables::counts(report),
                tables::phases(report),
            ]);
        },
    },
    Section {
        id: "accuracy",
        heading: "Accuracy",
        body: Page::accuracy,
    },
    Section {
        id: "over-time",
        heading: "Accuracy over time",
        body: Page::over_time,
    },
    Section {
        id: "throughput",
        heading: "Throughput",
        body: |page, report| {
            page.figures(&charts::throughput(report), "no phase was watched");
        },
    },
    Section {
        id: "latency",
        heading: "Latency",
        body: |page, report| {
            page.pair(&charts::latency(report), &tables::latency(report));
        },
    },
    Section {
        id: "sessions",
        heading: "Sessions",
        body: |page, report| {
            page.pair(
                &charts::sessions(report),
                &tables::sessions(&report.sessions),
            );
        },
    },
    Section {
        id: "completion",
        heading: "Completion ratio",
        body: |page, report| {
            page.pair(
                &charts::completion(report),
                &tables::completion(&report.completion),
            );
            page.tables(&[tables::durations(report.durations.as_ref())]);
        },
    },
    Section {
        id: "learning",
        heading: "Learning",
        body: |page, report| {
            page.figures(&charts::curves(report), "nothing was trained");
            page.tables(&[tables::adapters(report)]);
        },
    },
    Section {
        id: "notes",
        heading: "Notes",
        body: Page::notes,
    },
];

struct Page {
    out: String,
    label: Option<&'static str>,
}

impl Page {
    /// Pieces that are HTML already.
    fn push(&mut self, pieces: &[&str]) {
        self.out.extend(pieces.iter().copied());
    }

    fn nothing(&mut self, why: &str) {
        self.push(&["<p class=\"nothing\">", &escaped(why), "</p>\n"]);
    }

    fn headline(&mut self, report: &Report) {
        if let Some(headline) = accuracy::headline(report) {
            self.push(&["<p class=\"headline\">", &escaped(&headline), ".</p>\n"]);
        }
    }

    fn contents(&mut self) {
        self.push(&["<nav aria-label=\"Contents\"><ul>\n"]);
        for Section { id, heading, .. } in &SECTIONS {
            self.push(&["<li><a href=\"#", id, "\">", heading, "</a></li>\n"]);
        }
        self.push(&["</ul></nav>\n"]);
    }

    fn accuracy(&mut self, report: &Report) {
        let Some(prequential) = &report.prequential else {
            return self.nothing(accuracy::NOTHING_EVALUATED);
        };
        self.push(&[
            "<p>Before each play was learnt from, every recommender ranked it among all tracks ",
            "known by then. Means per play, where those who play most weigh most, and in the column ",
            "that says so the mean of each listener's mean; in brackets the 95 % interval, listeners ",
            "counted as independent and a few who play most as few. Equals rank last, and what was ",
            "already played is never left out.</p>\n",
        ]);
        let mut shown = accuracy::recommenders(prequential);
        shown.push(accuracy::differences(prequential));
        shown.push(accuracy::temperatures(prequential));
        shown.push(accuracy::old_plays(prequential));
        self.tables(&shown);
    }

    fn over_time(&mut self, report: &Report) {
        let Some(prequential) = &report.prequential else {
            return self.nothing(accuracy::NOTHING_EVALUATED);
        };
        let window = super::figures::count(prequential.window);
        self.push(&[
            "<p>Each point is a window of ",
            &window,
            " plays; the band is its 95 % interval. A last window that is not whole is in the ",
            "tables and not in the plots, unless there is no other.</p>\n",
        ]);
        let nothing = accuracy::NOTHING_EVALUATED;
        self.figures(&[charts::differences(prequential)], nothing);
        self.figures(&charts::over_time(prequential), nothing);
    }

    fn notes(&mut self, report: &Report) {
        if report.notes.is_empty() {
            return self.nothing("none");
        }
        self.push(&["<ul>\n"]);
        for note in &report.notes {
            self.push(&["<li>", &escaped(note)]);
            self.label();
            self.push(&["</li>\n"]);
        }
        self.push(&["</ul>\n"]);
    }

    fn label(&mut self) {
        if let Some(label) = self.label {
            self.push(&["<span class=\"label\">", label, "</span>"]);
        }
    }

    fn figures(&mut self, figures: &[Figure], otherwise: &str) {
        if figures.is_empty() {
            return self.nothing(otherwise);
        }
        self.push(&["<div class=\"plots\">\n"]);
        figures.iter().for_each(|figure| self.figure(figure));
        self.push(&["</div>\n"]);
    }

    fn pair(&mut self, figure: &Figure, table: &Table) {
        self.push(&["<div class=\"plots\">\n"]);
        self.figure(figure);
        self.push(&["<div class=\"table\">\n"]);
        self.table(table);
        self.push(&["</div>\n</div>\n"]);
    }

    fn figure(&mut self, figure: &Figure) {
        self.push(&["<figure>\n<figcaption>", &escaped(&figure.caption)]);
        self.label();
        self.push(&["</figcaption>\n"]);
        match &figure.svg {
            Some(svg) => self.push(&[svg]),
            None => self.nothing(&figure.otherwise),
        }
        if figure.svg.is_some() && !figure.legend.is_empty() {
            self.push(&["<ul class=\"legend\">\n"]);
            for (series, name) in &figure.legend {
                let (mark, colour) = marker(*series);
                let colour = colour.to_string();
                self.push(&["<li><span aria-hidden=\"true\" style=\"color:var(--series-"]);
                self.push(&[
                    &colour,
                    ")\">━",
                    mark,
                    "━</span> ",
                    &escaped(name),
                    "</li>\n",
                ]);
            }
            self.push(&["</ul>\n"]);
        }
        if let Some(table) = figure.table.as_ref().filter(|table| !table.rows.is_empty()) {
            self.push(&["<details><summary>as a table</summary>\n"]);
            self.table(table);
            self.push(&["</details>\n"]);
        }
        self.push(&["</figure>\n"]);
    }

    fn tables(&mut self, tables: &[Table]) {
        self.push(&["<div class=\"tables\">\n"]);
        tables.iter().for_each(|table| self.boxed(table));
        self.push(&["</div>\n"]);
    }

    fn boxed(&mut self, table: &Table) {
        // Intervals need room.
        let wide = if table.head.len() > 3 {
            "table wide"
        } else {
            "table"
        };
        self.push(&["<div class=\"", wide, "\">\n"]);
        self.table(table);
        self.push(&["</div>\n"]);
    }

    fn table(&mut self, table: &Table) {
        self.push(&["<table>\n<caption>", &escaped(&table.caption)]);
        self.label();
        self.push(&["</caption>\n"]);
        if table.rows.is_empty() {
            self.push(&["<tbody><tr><td class=\"nothing\">", table.otherwise]);
            self.push(&["</td></tr></tbody>\n</table>\n"]);
            return;
        }
        let is_figures = |column: usize| {
            let mut cells = table.rows.iter().filter_map(|row| row.get(column));
            column > 0 && cells.all(|cell| is_figure(cell))
        };
        let figures: Vec<bool> = (0..table.head.len()).map(is_figures).collect();
        let class = |figure: bool| if figure { " class=\"figure\"" } else { "" };
        self.push(&["<thead><tr>"]);
        for (cell, &figure) in table.head.iter().zip(&figures) {
            self.push(&[
                "<th scope=\"col\"",
                class(figure),
                ">",
                &escaped(cell),
                "</th>",
            ]);
        }
        self.push(&["</tr></thead>\n<tbody>\n"]);
        for row in &table.rows {
            self.push(&["<tr>"]);
            for (column, (cell, &figure)) in row.iter().zip(&figures).enumerate() {
                let cell = escaped(cell);
                match column {
                    0 => self.push(&["<th scope=\"row\">", &cell, "</th>"]),
                    _ => self.push(&["<td", class(figure), ">", &cell, "</td>"]),
                }
            }
            self.push(&["</tr>\n"]);
        }
        self.push(&["</tbody>\n</table>\n"]);
    }
}
