//! The pipelines in `config/arroyo` against the plugins: no planner is at hand, so this checks what
//! needs none, that every call is of a plugin there is, with as many arguments as it takes.

use std::collections::BTreeSet;

use crate::source::registered;
use crate::{PLUGINS, workspace};

/// The SQL files with their text, comments and string literals blanked out.
fn pipelines() -> Vec<(String, String)> {
    let folder = workspace().parent().unwrap().join("config/arroyo");
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|ext| ext == "sql"));
    files
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let lines = text.lines().map(|line| line.split("--").next().unwrap());
            let code: Vec<&str> = lines.collect();
            let outside_quotes: Vec<String> = code
                .join("\n")
                .split('\'')
                .step_by(2)
                .map(str::to_owned)
                .collect();
            (path.display().to_string(), outside_quotes.join("''"))
        })
        .collect()
}

/// How many arguments each call of `function` in `sql` has.
fn calls(sql: &str, function: &str) -> Vec<usize> {
    let name = format!("{function}(");
    sql.match_indices(&name)
        .map(|(begin, _)| {
            let (mut depth, mut arguments) = (0, 1);
            for c in sql[begin + name.len()..].chars() {
                match c {
                    '(' => depth += 1,
                    ')' if depth == 0 => return arguments,
                    ')' => depth -= 1,
                    ',' if depth == 0 => arguments += 1,
                    _ => {}
                }
            }
            panic!("{function}( is not closed");
        })
        .collect()
}

#[test]
fn every_call_has_the_plugins_arguments_and_every_plugin_is_called() {
    let pipelines = pipelines();
    let mut called = BTreeSet::new();
    for plugin in PLUGINS {
        let arguments = registered(plugin).args.len();
        for (path, sql) in &pipelines {
            for found in calls(sql, plugin) {
                assert_eq!(found, arguments, "{plugin} in {path}");
                called.insert(plugin);
            }
        }
    }
    assert_eq!(called, BTreeSet::from(PLUGINS));
}

#[test]
fn calls_are_counted() {
    let sql = "SELECT f(a, g(b, c), d), f(x), ff(1, 2)";
    assert_eq!(calls(sql, " f"), [3, 1]);
    assert_eq!(calls(sql, "g"), [2]);
}

/// Arroyo's session operator misplaces rows in catch-up.
#[test]
fn no_pipeline_uses_arroyos_session_window() {
    for (path, sql) in pipelines() {
        assert!(!sql.to_lowercase().contains("session("), "{path}");
    }
}
