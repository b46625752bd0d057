//! The demo on a small simulated log, with the real weights.

use std::path::Path;
use std::process::Command;

#[test]
fn a_report_with_every_part_and_every_figure_labelled() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_segue"))
        .args([
            "demo",
            "--plays",
            "3000",
            "--out",
            folder.path().to_str().unwrap(),
        ])
        .env("SEGUE_LOG", "warn")
        // Small models on a small log: the wiring is what is tested here.
        .env("SEGUE__MODELS__ITEM_ENCODER", "gru4rec")
        .env("SEGUE__MODELS__GRU4REC__EPOCHS", "1")
        .env("SEGUE__MODELS__E4SREC__BACKBONE__DEPTH", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("device: "), "{said}");
    assert!(said.contains("simulated"), "{said}");

    let run = folder.path().join("run-00001");
    let json = std::fs::read_to_string(run.join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["input"]["simulated"], true);
    assert_eq!(report["counts"]["plays"], 3_000);
    assert_eq!(
        report["counts"]["tracks"],
        report["counts"]["tracks_encoded"]
    );
    let names: Vec<_> = report["prequential"]["recommenders"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["name"].as_str().unwrap())
        .collect();
    for name in [
        "e4srec-online",
        "e4srec-frozen",
        "gru4rec",
        "sequential-rules",
        "personal-most-pop",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
    for recommender in report["prequential"]["recommenders"].as_array().unwrap() {
        assert_eq!(recommender["overall"]["events"], 1_500);
    }
    // Only the item encoder that was chosen was trained, and it is compared with.
    assert!(!names.contains(&"sasrec"), "{names:?}");
    let differences = report["prequential"]["differences"].as_array().unwrap();
    assert!(differences.iter().any(|pair| pair["minus"] == "gru4rec"));
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("<svg") && page.to_lowercase().contains("simulated"));
    assert_log_holds_predictions(&run.join("log"));
}

/// What the demo wrote can be read back by anyone.
fn assert_log_holds_predictions(dir: &Path) {
    use segue_flow::{Readiness, Source};
    let settings = segue_log::Settings {
        dir: dir.to_owned(),
        ..segue_log::Settings::default()
    };
    let log = segue_log::Log::open(&settings).unwrap();
    let mut source = log.source("predictions", 0, segue_log::Until::Now).unwrap();
    let mut predictions = 0;
    loop {
        let patience = std::time::Duration::from_millis(100);
        let readiness = source.read(patience, &mut |record| {
            assert!(record.key.is_some() && record.value.is_some());
            predictions += 1;
        });
        if readiness.unwrap() == Readiness::Ended {
            break;
        }
    }
    assert!(predictions > 100, "{predictions}");
}
