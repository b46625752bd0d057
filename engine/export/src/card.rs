//! The data card: `README.md`, with the head by which Hugging Face knows which files are what.

use std::fmt::Write;

use segue_listen::{EventTime, Span};

use crate::dataset::{
    CARD_FILE, Contents, FEATURES_FILE, INTERACTIONS, INTERACTIONS_FOLDER, SESSIONS, SESSIONS_FILE,
    SplitContents, TRACKS_FILE,
};
use crate::table::{Column, Kind};
use crate::tracks;

/// What the card says beside what it counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct About {
    /// What the data set is called.
    pub name: String,
    /// Under which terms it may be used, as Hugging Face names licences; `None`: nobody has said.
    pub licence: Option<String>,
    /// The log, in words.
    pub log: String,
    /// A print of the log's files.
    pub fingerprint: String,
    /// Rows of the log that were no listens.
    pub rejected: u64,
    /// Listens that were there twice.
    pub duplicates: u64,
    /// The longest pause inside a session.
    pub session_gap: Span,
    /// Plays after which the estimated lengths are taken anew.
    pub epoch: usize,
}

/// Size categories of Hugging Face: up to so many rows, and the name.
const SIZES: [(u64, &str); 7] = [
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
    (1_000_000_000, "100M<n<1B"),
];

/// The card of a data set.
pub(crate) fn written(about: &About, contents: &Contents) -> String {
    let mut card = head(about, contents);
    // Writing to a string does not fail.
    let mut line = |line: std::fmt::Arguments<'_>| _ = writeln!(card, "{line}");
    line(format_args!("# {}\n", about.name));
    line(format_args!(
        "Listening as it happened: plays in sessions, how much of each track was heard, and what is \
         known of the tracks. Written by `segue export` {} from {}.\n",
        env!("CARGO_PKG_VERSION"),
        about.log
    ));
    line(format_args!(
        "```python\nimport pandas\nfrom datasets import load_dataset\nfrom safetensors.numpy import load_file\n"
    ));
    line(format_args!(
        "plays = load_dataset(\"FOLDER\", \"interactions\")  # by split\n\
         sessions = pandas.read_parquet(\"FOLDER/{SESSIONS_FILE}\")\n\
         tracks = pandas.read_parquet(\"FOLDER/{TRACKS_FILE}\")"
    ));
    if !contents.features.is_empty() {
        line(format_args!(
            "features = load_file(\"FOLDER/{FEATURES_FILE}\")  # rows as in tracks"
        ));
    }
    line(format_args!("```\n"));
    card.push_str(&what_there_is(contents));
    card.push_str(&how_it_was_made(about, contents));
    card.push_str(&columns(contents));
    card
}

/// YAML: whatever is text is quoted as JSON, which YAML reads.
fn head(about: &About, contents: &Contents) -> String {
    let mut head = String::from("---\n");
    let mut line = |line: std::fmt::Arguments<'_>| _ = writeln!(head, "{line}");
    let plays: u64 = contents.splits.iter().map(|split| split.plays).sum();
    let size = SIZES.iter().find(|(most, _)| plays < *most);
    line(format_args!("pretty_name: {}", quoted(&about.name)));
    line(format_args!(
        "license: {}",
        quoted(about.licence.as_deref().unwrap_or("unknown"))
    ));
    line(format_args!(
        "size_categories:\n- {}",
        size.map_or("n>1T", |(_, name)| name)
    ));
    line(format_args!(
        "tags:\n- music\n- recommendation\n- sequential-recommendation\n- session-based-recommendation"
    ));
    line(format_args!(
        "configs:\n- config_name: interactions\n  default: true\n  data_files:"
    ));
    for split in contents.splits.iter().filter(|split| split.plays > 0) {
        let name = split.split.name();
        line(format_args!(
            "  - split: {name}\n    path: {INTERACTIONS_FOLDER}/{name}.parquet"
        ));
    }
    for (name, file) in [("sessions", SESSIONS_FILE), ("tracks", TRACKS_FILE)] {
        // Hugging Face wants a split's name for what has none.
        line(format_args!(
            "- config_name: {name}\n  data_files:\n  - split: train\n    path: {file}"
        ));
    }
    line(format_args!("---\n"));
    head
}

fn what_there_is(contents: &Contents) -> String {
    let mut text = String::new();
    let mut line = |line: std::fmt::Arguments<'_>| _ = writeln!(text, "{line}");
    line(format_args!("## What there is\n"));
    line(format_args!(
        "| split | from | until before | plays | listeners | tracks | of them in no earlier split |\n\
         |---|---|---|--:|--:|--:|--:|"
    ));
    for split in &contents.splits {
        line(format_args!("{}", split_row(split, contents)));
    }
    line(format_args!(
        "\n{} listeners, {} tracks, {} sessions. Splits are by time, the same instants for everybody: no \
         play to train on is younger than one to be judged by. {} sessions begin in one split and end \
         in a later one: their rows are in both files, under one number.\n",
        contents.listeners, contents.tracks, contents.sessions, contents.straddling
    ));
    line(format_args!("| file | what is in it |\n|---|---|"));
    line(format_args!(
        "| `{INTERACTIONS_FOLDER}/SPLIT.parquet` | a row for each play |\n\
         | `{SESSIONS_FILE}` | a row for each session |\n\
         | `{TRACKS_FILE}` | a row for each track |"
    ));
    if !contents.features.is_empty() {
        line(format_args!(
            "| `{FEATURES_FILE}` | vectors of tracks, a row for each row of `{TRACKS_FILE}` |"
        ));
    }
    line(format_args!("| `{CARD_FILE}` | this card |\n"));
    text
}

fn split_row(split: &SplitContents, contents: &Contents) -> String {
    let (first, last) = contents.times.unzip();
    let time = |at: Option<EventTime>| at.map_or_else(String::new, EventTime::to_rfc3339);
    format!(
        "| {} | {} | {} | {} | {} | {} | {} |",
        split.split.name(),
        time(split.from.or(first)),
        split
            .until
            .map_or_else(|| format!("{} (the last)", time(last)), |at| time(Some(at))),
        split.plays,
        split.listeners,
        split.tracks,
        split.new_tracks
    )
}

fn how_it_was_made(about: &About, contents: &Contents) -> String {
    let mut text = String::new();
    let mut line = |line: std::fmt::Arguments<'_>| _ = writeln!(text, "{line}");
    line(format_args!("## How it was made\n"));
    line(format_args!(
        "- **Source**: {}, whose files have the print `{}`.",
        about.log, about.fingerprint
    ));
    line(format_args!(
        "- **Licence**: {}",
        match &about.licence {
            Some(licence) => format!("{licence}, as whoever exported it has said."),
            None => "unknown: the terms of the source hold, and nobody has said which they are."
                .to_owned(),
        }
    ));
    line(format_args!(
        "- **Left out**: {} rows that are no listens, {} listens that were there twice.",
        about.rejected, about.duplicates
    ));
    line(format_args!(
        "- **Listeners** are called as the log calls them: where those are names of people, they are \
         personal data."
    ));
    line(format_args!(
        "- **Tracks** are known by their MusicBrainz recording id where the log has one, else by a hash \
         of artist and title in lower case without signs."
    ));
    line(format_args!(
        "- **Sessions**: plays of one listener with no pause of more than {} minutes between two starts.",
        about.session_gap.seconds() / 60.0
    ));
    let ratios = contents.ratios;
    line(format_args!(
        "- **Completion ratio**: time heard over the track's length, cut to [0, 1]. Time heard is the \
         player's own figure, else the gap to the next play of the session; the last play of a session \
         then has none. The length is the event's, else an estimate: the centre of the densest cluster \
         of the gaps after the track, everybody's, up to then (taken anew every {} plays), where at \
         least three gaps and 30 % of the last 16 agree. It uses no play of the future; \
         `{TRACKS_FILE}` has the estimates at the end of the log.",
        about.epoch
    ));
    line(format_args!(
        "- **What ratios rest on**: {} plays on the player's figure, {} on a gap and a stated length, {} \
         on a gap and an estimated length; {} were heard for a known time of a track of unknown length, \
         {} are the last of their session.",
        ratios.by_player,
        ratios.by_stated_length,
        ratios.by_estimated_length,
        ratios.unknown_length,
        ratios.last_of_session
    ));
    line(format_args!(
        "- **Lengths**: {} of {} tracks have a stated one, {} an estimated one.\n",
        contents.lengths_stated, contents.tracks, contents.lengths_estimated
    ));
    text
}

fn columns(contents: &Contents) -> String {
    let mut text = String::from("## Columns\n\n");
    let interactions = format!("{INTERACTIONS_FOLDER}/SPLIT.parquet");
    let tables: [(&str, &[Column]); 3] = [
        (&interactions, &INTERACTIONS),
        (SESSIONS_FILE, &SESSIONS),
        (TRACKS_FILE, &tracks::COLUMNS),
    ];
    let mut line = |line: std::fmt::Arguments<'_>| _ = writeln!(text, "{line}");
    for (file, columns) in tables {
        line(format_args!(
            "`{file}`\n\n| column | type | what it is |\n|---|---|---|"
        ));
        for column in columns {
            let nullable = if column.nullable { ", may be null" } else { "" };
            line(format_args!(
                "| `{}` | {}{nullable} | {} |",
                column.name,
                kind(column.kind),
                column.meaning
            ));
        }
        line(format_args!(""));
    }
    if !contents.features.is_empty() {
        line(format_args!(
            "`{FEATURES_FILE}`\n\n| tensor | type | what it is |\n|---|---|---|"
        ));
        for feature in &contents.features {
            let (name, tracks) = (&feature.name, contents.tracks);
            line(format_args!(
                "| `{name}` | f32 [{tracks}, {}] | {}; zeros where nothing is known |\n\
                 | `{name}.known` | bool [{tracks}] | whether the track has a vector: {} have |",
                feature.dimensions, feature.about, feature.known
            ));
        }
        line(format_args!(""));
    }
    text
}

const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "string",
        Kind::Long => "int64",
        Kind::Int => "int32",
        Kind::Real => "float32",
        Kind::Time => "timestamp[ms, UTC]",
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
