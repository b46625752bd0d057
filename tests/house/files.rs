//! What every source file keeps: its length, its name, its module doc, and the doors for metrics and
//! `unsafe`.

use std::path::{Path, PathBuf};

use segue_tests::checkout;

use super::none_of;

/// Where sources are.
const FOLDERS: &[&str] = &[
    "engine",
    "connectors",
    "replay",
    "benchmarks",
    "tests",
    "udfs",
];

/// A file longer than this is about more than one thing.
const LONGEST: usize = 500;

/// Files that may be longer, each with its reason.
const LONGER: &[(&str, &str)] = &[];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &[
    "utils", "util", "helpers", "helper", "common", "misc", "manager",
];

/// The one file in which metrics macros stand.
const METRICS: &str = "engine/flow/src/names.rs";

/// The files behind whose walls `unsafe` stands, each with its reason.
const WALLS: &[(&str, &str)] = &[
    (
        "engine/recall/src/lanes.rs",
        "wide registers, after asking the processor; rows asked for ahead",
    ),
    (
        "engine/nn/src/weights/mapped.rs",
        "weights are mapped, not read",
    ),
    (
        "engine/nn/src/device.rs",
        "libtorch's CUDA half is loaded by hand",
    ),
    (
        "engine/memory/src/lib.rs",
        "advice to the kernel about the page size",
    ),
    (
        "engine/memory/src/shared.rs",
        "pages are read at the addresses that are kept beside their owners",
    ),
    (
        "engine/sessions/tests/allocation.rs",
        "a counting allocator",
    ),
    (
        "connectors/kafka/src/partition_queue.rs",
        "librdkafka's partition queues",
    ),
    ("connectors/kafka/tests/kafka.rs", "signals to the broker"),
    ("replay/tests/replay/counting.rs", "a counting allocator"),
    (
        "udfs/host/src/lib.rs",
        "plugins are called through their C ABI",
    ),
];

struct File {
    /// From the checkout, with `/`.
    name: String,
    text: String,
}

fn sources() -> Vec<File> {
    let mut files = Vec::new();
    for folder in FOLDERS {
        collect(&checkout().join(folder), &mut files);
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(files.len() > 50, "sources were not found");
    files
}

fn collect(folder: &Path, files: &mut Vec<File>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for entry in entries {
        let path: PathBuf = entry.unwrap().path();
        let file_name = path.file_name().unwrap_or_default().to_string_lossy();
        let built = file_name.starts_with("target") || file_name.starts_with('.');
        if path.is_dir() && !built {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path);
            // An editor's own temporary file may be gone by now.
            let Ok(text) = text else { continue };
            let inside = path.strip_prefix(checkout()).unwrap_or(&path);
            files.push(File {
                name: inside.to_string_lossy().replace('\\', "/"),
                text,
            });
        }
    }
}

fn too_long(files: &[File]) -> Vec<String> {
    files
        .iter()
        .filter(|file| !LONGER.iter().any(|(longer, _)| *longer == file.name))
        .map(|file| (file, file.text.lines().count()))
        .filter(|(_, lines)| *lines > LONGEST)
        .map(|(file, lines)| format!("{}: {lines} lines", file.name))
        .collect()
}

fn without_meaning(files: &[File]) -> Vec<String> {
    files
        .iter()
        .filter(|file| {
            file.name
                .trim_end_matches(".rs")
                .split('/')
                .any(|part| EMPTY_NAMES.contains(&part))
        })
        .map(|file| format!("{}: name it for what it is about", file.name))
        .collect()
}

fn undocumented(files: &[File]) -> Vec<String> {
    files
        .iter()
        .filter(|file| file.name.contains("/src/") && !of_tests(&file.name))
        .filter(|file| !file_doc(&file.text))
        .map(|file| format!("{}: begins without a module doc `//!`", file.name))
        .collect()
}

/// Whether a file holds the unit tests of the file it is named after, whose doc is theirs.
fn of_tests(name: &str) -> bool {
    name.ends_with("/tests.rs") || name.ends_with("_tests.rs") || name.contains("/tests/")
}

/// Whether a text begins with a module doc. A block comment may stand before it: there Arroyo wants a
/// plugin's dependencies.
fn file_doc(text: &str) -> bool {
    let after = text
        .strip_prefix("/*")
        .and_then(|rest| rest.split_once("*/"));
    after
        .map_or(text, |(_, rest)| rest.trim_start())
        .starts_with("//!")
}

fn raw_metrics(files: &[File]) -> Vec<String> {
    files
        .iter()
        .filter(|file| file.name != METRICS)
        .filter_map(|file| {
            let (line, _) = code(&file.text).find(|(_, code)| {
                ["counter", "gauge", "histogram"]
                    .iter()
                    .any(|kind| code.contains(&format!("{kind}!(")))
            })?;
            Some(format!("{}:{line}: a raw metrics macro", file.name))
        })
        .collect()
}

fn unsafe_outside(files: &[File], walls: &[(&str, &str)]) -> Vec<String> {
    let mut faults = Vec::new();
    for file in files {
        let found = code(&file.text).find(|(_, code)| {
            code.split(|c: char| !c.is_alphanumeric() && c != '_')
                .any(|word| word == "unsafe")
        });
        let listed = walls.iter().any(|(wall, _)| *wall == file.name);
        match found {
            Some((line, _)) if !listed => {
                faults.push(format!(
                    "{}:{line}: `unsafe` outside a listed wall",
                    file.name
                ));
            }
            None if listed => {
                faults.push(format!("{}: listed as a wall, has no `unsafe`", file.name));
            }
            _ => {}
        }
    }
    faults
}

/// Lines with their numbers, without comments and the insides of strings (line by line, which is
/// enough for the words looked for).
fn code(text: &str) -> impl Iterator<Item = (usize, String)> {
    text.lines().enumerate().map(|(index, line)| {
        let (mut kept, mut in_string, mut last) = (String::new(), false, ' ');
        let line = line.replace("'\"'", "' '");
        for c in line.chars() {
            if c == '"' && last != '\\' {
                in_string = !in_string;
            }
            if !in_string {
                kept.push(c);
            }
            // A backslash that is itself escaped escapes nothing.
            last = if c == '\\' && last == '\\' { ' ' } else { c };
        }
        let end = kept.find("//").unwrap_or(kept.len());
        kept.truncate(end);
        (index + 1, kept)
    })
}

#[test]
fn no_file_is_longer_than_one_thing_takes() {
    none_of(
        &too_long(&sources()),
        "at most 500 lines; divide by concept:",
    );
}

#[test]
fn files_are_named_for_what_they_are_about() {
    none_of(&without_meaning(&sources()), "names that say nothing:");
}

#[test]
fn every_module_says_what_it_is_for() {
    none_of(&undocumented(&sources()), "module docs:");
}

#[test]
fn metrics_are_named_in_one_file() {
    none_of(
        &raw_metrics(&sources()),
        "names of metrics stand in engine/flow/src/names.rs; use its functions:",
    );
}

#[test]
fn unsafe_code_stands_behind_listed_walls() {
    none_of(
        &unsafe_outside(&sources(), WALLS),
        "unsafe (tests/house/files.rs lists where it may stand, and why):",
    );
}

#[test]
fn each_fault_is_found() {
    let file = |name: &str, text: &str| File {
        name: name.to_owned(),
        text: text.to_owned(),
    };
    let files = [
        file("a/src/utils.rs", &"//! x\n".repeat(LONGEST + 1)),
        file(
            "a/src/b.rs",
            "use x; // unsafe\n/// unsafe\nlet s = \"unsafe \\\" counter!(\";\n",
        ),
        file("a/src/c.rs", "//! x\nlet q = '\"'; unsafe { f() }\n"),
        file("a/src/e.rs", "/*\n[dependencies]\n*/\n//! x\n"),
        file("a/src/d.rs", "//! x\nmetrics::counter!(\"x\");\n"),
    ];
    assert_eq!(too_long(&files), ["a/src/utils.rs: 501 lines"]);
    assert_eq!(without_meaning(&files).len(), 1);
    assert_eq!(undocumented(&files).len(), 1);
    assert_eq!(raw_metrics(&files), ["a/src/d.rs:2: a raw metrics macro"]);
    let walls = [("a/src/b.rs", "none left")];
    let faults = unsafe_outside(&files, &walls).join("\n");
    assert!(faults.contains("a/src/b.rs: listed as a wall"), "{faults}");
    assert!(
        faults.contains("a/src/c.rs:2: `unsafe` outside"),
        "{faults}"
    );
}
