//! The report for the terminal: what a person wants to know when a run ends.

use std::io::{self, Write};

use super::accuracy::{differences, headline, old_plays, recommenders};
use super::data::Report;
use super::tables::{self, Table, is_figure};

/// No cell is wider: one endless name must not push all figures off the screen.
const WIDEST_CELL: usize = 64;

/// Prints the summary to standard output.
///
/// # Errors
/// Standard output cannot be written to; a reader who has gone away (`| head`) is none.
pub fn print(report: &Report) -> io::Result<()> {
    match io::stdout().lock().write_all(render(report).as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// The summary. Each line of a simulated run begins with the word.
pub fn render(report: &Report) -> String {
    let mut lines = Vec::new();
    lines.push(plain(&report.title));
    lines.push("=".repeat(width(&plain(&report.title)).min(80)));
    let mut shown = vec![
        tables::run(report),
        tables::counts(report),
        tables::phases(report),
        tables::latency(report),
        tables::sessions(&report.sessions),
        tables::completion(&report.completion),
        tables::durations(report.durations.as_ref()),
        tables::newest_adapters(report),
    ];
    if let Some(prequential) = &report.prequential {
        shown.extend(recommenders(prequential));
        shown.push(differences(prequential));
        shown.push(old_plays(prequential));
    }
    for table in &shown {
        lines.push(String::new());
        push(table, &mut lines);
    }
    for note in &report.notes {
        lines.push(String::new());
        lines.push(format!("note: {}", plain(note)));
    }
    lines.push(String::new());
    lines.push(match (headline(report), &report.prequential) {
        (Some(headline), _) => plain(&headline),
        (None, Some(_)) => "no two recommenders were compared for the headline".to_owned(),
        (None, None) => super::accuracy::NOTHING_EVALUATED.to_owned(),
    });

    let margin = report
        .label()
        .map(|label| format!("{} | ", label.to_uppercase()));
    let mut text = String::new();
    for line in lines {
        if let (Some(margin), false) = (&margin, line.is_empty()) {
            text.push_str(margin);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn push(table: &Table, lines: &mut Vec<String>) {
    lines.push(plain(&table.caption));
    if table.rows.is_empty() {
        lines.push(format!("  {}", table.otherwise));
        return;
    }
    let cells = |row: &[String]| -> Vec<String> { row.iter().map(|cell| clipped(cell)).collect() };
    let mut rows = vec![cells(&table.head)];
    rows.extend(table.rows.iter().map(|row| cells(row)));
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| width(cell)).max().unwrap_or(0)
        })
        .collect();
    let figures: Vec<bool> = (0..columns)
        .map(|column| {
            let mut cells = table.rows.iter().filter_map(|row| row.get(column));
            column > 0 && cells.all(|cell| is_figure(cell))
        })
        .collect();
    let rule: Vec<String> = widths.iter().map(|&wide| "-".repeat(wide)).collect();
    rows.insert(1, rule);
    for row in rows {
        let mut line = String::new();
        for ((cell, &wide), &figure) in row.iter().zip(&widths).zip(&figures) {
            let pad = " ".repeat(wide.saturating_sub(width(cell)));
            let (before, after) = if figure {
                (pad.as_str(), "")
            } else {
                ("", pad.as_str())
            };
            line.extend(["  ", before, cell, after]);
        }
        lines.push(line);
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn clipped(cell: &str) -> String {
    let cell = plain(cell);
    match width(&cell) > WIDEST_CELL {
        true => cell.chars().take(WIDEST_CELL - 1).chain(['…']).collect(),
        false => cell,
    }
}

/// Without what steers a terminal or turns the direction of text: names come from strangers.
fn plain(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    text.chars()
        .map(|c| if steers(c) { '\u{fffd}' } else { c })
        .collect()
}
