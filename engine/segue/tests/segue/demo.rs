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
        .env("SEGUE__MODELS__CLOSED_HEAD", "true")
        .env("SEGUE__RECOMMEND__PREQUENTIAL__OLD_AMONG", "500")
        .env("SEGUE__RECOMMEND__PREQUENTIAL__OLD_EVERY", "200")
        .env("SEGUE__RECOMMEND__PREQUENTIAL__OLD_PLAYS", "64")
        .env("SEGUE__RECOMMEND__EPOCH", "100")
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
        "e4srec-closed",
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
    for minus in ["gru4rec", "e4srec-closed"] {
        assert!(differences.iter().any(|pair| pair["minus"] == minus));
    }
    assert_closed_head_knows_its_log_only(&report);
    assert_old_plays_were_ranked_again(&report["prequential"]["old_plays"]);
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("<svg") && page.to_lowercase().contains("simulated"));
    assert_log_holds_predictions(&run.join("log"));
}

/// The head that E4SRec was published with has no row for what came after its training; the one that learns
/// can rank all that somebody has played before.
fn assert_closed_head_knows_its_log_only(report: &serde_json::Value) {
    let of = |name: &str| {
        let all = report["prequential"]["recommenders"].as_array().unwrap();
        all.iter().find(|one| one["name"] == name).unwrap()
    };
    let unranked = |name: &str| of(name)["unranked"].as_u64().unwrap();
    let cold = of("e4srec-closed")["cold_tracks"]["events"]
        .as_u64()
        .unwrap();
    assert!(cold > 0);
    assert_eq!(unranked("e4srec-online"), cold);
    assert!(unranked("e4srec-closed") > cold);
    let mrr = &of("e4srec-closed")["overall"]["per_event"]["mrr"]["mean"];
    assert!(mrr.as_f64().unwrap() > 0.0);
    let curves = report["curves"].as_array().unwrap();
    let closed = |curve: &&serde_json::Value| {
        curve["model"] == "e4srec-closed" && curve["name"] == "training loss"
    };
    assert!(
        !curves.iter().find(closed).unwrap()["points"]
            .as_array()
            .unwrap()
            .is_empty()
    );
}

/// By those that learn and by those that do not; by nobody who has come to know the answers by counting.
fn assert_old_plays_were_ranked_again(old: &serde_json::Value) {
    assert_eq!(old["plays"], 64);
    let readings = old["readings"].as_array().unwrap();
    assert!(readings.len() >= 2, "{}", readings.len());
    for reading in readings {
        let all = reading["recommenders"].as_array().unwrap();
        let names: Vec<&str> = all
            .iter()
            .map(|one| one["name"].as_str().unwrap())
            .collect();
        for name in ["e4srec-online", "e4srec-state", "e4srec-frozen", "gru4rec"] {
            assert!(names.contains(&name), "{names:?}");
        }
        assert!(!names.contains(&"personal-most-pop"), "{names:?}");
        let pairs = reading["differences"].as_array().unwrap();
        let learning = |pair: &&serde_json::Value| pair["minus"] == "e4srec-state";
        let learning = pairs.iter().find(learning).unwrap();
        assert!(learning["change"]["ndcg_20"]["mean"].as_f64().is_some());
    }
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
