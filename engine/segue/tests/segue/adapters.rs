//! `segue adapters` as people type it, over what a run has kept: listed, compared, gone back to.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use segue::commands::run::Run;
use segue::config::Config;
use segue::http::Phase;
use segue_listen::Listen;
use segue_log::Log;
use serde_json::Value;

use crate::models::with_models;
use crate::rig;
use crate::same_answer::deliver;

fn run(config: &Config, listens: &[Listen], run: &Run) {
    let log = Log::open(&config.log).unwrap();
    log.ensure_topic(&config.stream.topic, 1).unwrap();
    deliver(config, listens.to_vec(), &mut log.sink("replay").unwrap());
    drop(log);
    run.engine(config, Arc::default(), &Phase::default())
        .unwrap();
}

fn adapters(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_segue"));
    let command = command.args(["adapters", "--folder"]).arg(folder);
    command
        .args(arguments)
        .env("SEGUE_LOG", "error")
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn rows(folder: &Path, arguments: &[&str]) -> Vec<Value> {
    let text = said(&adapters(folder, arguments));
    serde_json::from_str(&text).unwrap()
}

#[test]
fn what_a_run_has_learnt_is_listed_compared_and_gone_back_to() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("adapters");
    assert!(said(&adapters(&kept, &["list"])).contains("no adapters in"));
    let mut config = rig::config(folder.path());
    with_models(&mut config, 700);
    config.models.adapters = kept.clone();
    let listens = rig::listens(2_000);
    let until_now = Run {
        until_now: true,
        ..Run::default()
    };
    run(&config, &listens[..1_600], &until_now);

    let listed = rows(&kept, &["list", "--json"]);
    let version = |row: &Value| row["version"].as_u64().unwrap();
    assert!(listed.len() >= 2, "{listed:?}");
    assert!(listed.windows(2).all(|w| version(&w[0]) < version(&w[1])));
    assert!(listed.iter().all(|row| row["back_to"].is_null()));
    let table = said(&adapters(&kept, &["list"]));
    assert_eq!(table.lines().count(), listed.len());
    assert!(
        table
            .lines()
            .all(|line| line.contains("loss") && line.ends_with("learnt"))
    );

    let [first, last] = [&listed[0], listed.last().unwrap()].map(|row| version(row).to_string());
    let layers = rows(&kept, &["diff", &first, &last, "--json"]);
    assert_eq!(layers.len(), 3, "one layer, three projections");
    assert!(
        layers
            .iter()
            .all(|row| row["apart"].as_f64().unwrap() > 0.0)
    );
    let table = said(&adapters(&kept, &["diff", &first, &last]));
    assert_eq!(table.lines().count(), 4);
    assert!(
        table.contains("gate_proj") && table.contains("cosine"),
        "{table}"
    );

    for arguments in [&["diff", &first, "4711"][..], &["rollback", "4711"]] {
        let output = adapters(&kept, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("no adapter 4711"), "{said}");
        assert!(said.contains("segue adapters list"), "{said}");
    }
    assert!(said(&adapters(&kept, &["rollback", &first])).contains("at the next barrier"));
    let until_end = Run {
        until_end: true,
        ..Run::default()
    };
    run(&config, &listens[1_600..], &until_end);
    let listed = rows(&kept, &["list", "--json"]);
    let back: Vec<u64> = listed
        .iter()
        .filter_map(|row| row["back_to"].as_u64())
        .collect();
    assert_eq!(back, [first.parse::<u64>().unwrap()], "once");
    let came_back = listed.iter().position(|row| !row["back_to"].is_null());
    let came_back = version(&listed[came_back.unwrap()]);
    let last: u64 = last.parse().unwrap();
    assert!(came_back > last, "versions only grow");
    let table = said(&adapters(&kept, &["list"]));
    assert!(table.contains(&format!("back to {first}")), "{table}");
    // The values are those of the version that it is: nothing lies between the two.
    let layers = rows(&kept, &["diff", &first, &came_back.to_string(), "--json"]);
    assert!(
        layers.iter().all(|row| row["apart"].as_f64() == Some(0.0)),
        "{layers:?}"
    );
}
