//! A log as a data set: what the engine itself makes of the log, in files that others read.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use parquet::file::reader::SerializedFileReader;
use parquet::record::Field;
use safetensors::SafeTensors;
use segue::commands::export::Export;
use segue_export::Contents;
use segue_flow::clock::MachineClock;
use segue_listen::Listen;
use segue_replay::file_sink::FileSink;
use segue_replay::state::Standing;
use segue_replay::{Delivery, DeliverySettings, InOrder};

use crate::rig;

const PLAYS: usize = 3_000;

/// A file of the listens, every tenth of them twice.
fn written(folder: &Path, listens: &[Listen]) -> PathBuf {
    let path = folder.join("plays.jsonl");
    let twice = listens
        .iter()
        .enumerate()
        .flat_map(|(number, listen)| vec![listen.clone(); 1 + usize::from(number % 10 == 0)]);
    let mut sink = FileSink::create(&path).unwrap();
    let settings = DeliverySettings {
        format: sink.format(),
        heartbeat_ms: 0,
        ..DeliverySettings::default()
    };
    let start = Standing::start("", &settings.topic, 1);
    let clock = std::sync::Arc::new(MachineClock::start());
    let stop = false.into();
    let delivery = Delivery::new(&settings, clock, &mut sink, &stop, start, None).unwrap();
    delivery
        .run(&mut InOrder::new(twice, None), &mut |_| {})
        .unwrap();
    path
}

fn export(log: &Path, out: &Path) -> Export {
    Export {
        data: vec![log.to_owned()],
        out: out.to_owned(),
        force: false,
        validation: 0.1,
        test: 0.2,
        vectors: Vec::new(),
        text: None,
        licence: Some("cc0-1.0".to_owned()),
        name: None,
    }
}

fn rows(path: &Path) -> Vec<BTreeMap<String, Field>> {
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let row = |row: parquet::record::Row| {
        let fields = row.get_column_iter();
        fields
            .map(|(name, field)| (name.clone(), field.clone()))
            .collect()
    };
    reader.into_iter().map(|read| row(read.unwrap())).collect()
}

#[test]
fn it_holds_what_a_run_makes_of_the_same_log() {
    let folder = tempfile::tempdir().unwrap();
    let listens = rig::listens(PLAYS);
    let log = written(folder.path(), &listens);
    let mut config = rig::config(folder.path());
    config.recommend.epoch = 100;
    config.recommend.exact = true;
    let out = folder.path().join("set");
    let contents = export(&log, &out)
        .export(&config, &Default::default())
        .unwrap();
    let (summary, _) = rig::in_process(&config, listens);

    let stream = &summary.stream;
    let plays: u64 = contents.splits.iter().map(|split| split.plays).sum();
    assert_eq!(
        (
            plays,
            contents.sessions,
            contents.listeners,
            contents.tracks
        ),
        (
            stream.plays,
            stream.sessions,
            summary.listeners,
            summary.tracks
        )
    );
    let (ours, theirs) = (contents.ratios, &stream.ratios);
    assert_eq!(
        (
            ours.by_player,
            ours.by_stated_length,
            ours.by_estimated_length,
            ours.unknown_length
        ),
        (
            theirs.by_player,
            theirs.by_stated_length,
            theirs.by_estimated_length,
            theirs.unknown_length
        )
    );
    let mut sum = 0.0;
    let mut bins = vec![0; theirs.bins.len()];
    for split in &contents.splits {
        let name = format!("interactions/{}.parquet", split.split.name());
        let read = rows(&out.join(name));
        assert_eq!(read.len() as u64, split.plays);
        for row in read {
            if let Field::Float(ratio) = row["completion_ratio"] {
                sum += f64::from(ratio);
                let bin = (ratio * bins.len() as f32) as usize;
                let last = bins.len() - 1;
                bins[bin.min(last)] += 1;
            }
        }
    }
    assert_eq!(bins, theirs.bins);
    assert!(
        (sum - theirs.sum).abs() < 1e-6 * theirs.sum,
        "{sum} {}",
        theirs.sum
    );
    assert_eq!(
        rows(&out.join("sessions.parquet")).len() as u64,
        contents.sessions
    );
    let card = std::fs::read_to_string(out.join("README.md")).unwrap();
    assert!(card.contains("300 listens that were there twice"), "{card}");
    assert!(
        !card.contains(folder.path().to_str().unwrap()),
        "paths are nobody's business"
    );
}

#[test]
fn the_same_log_gives_the_same_bytes_whatever_the_batches() {
    let folder = tempfile::tempdir().unwrap();
    let log = written(folder.path(), &rig::listens(PLAYS));
    let mut config = rig::config(folder.path());
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    export(&log, &one)
        .export(&config, &Default::default())
        .unwrap();
    config.stream.batch = 7;
    config.queues.lanes.capacity = 1;
    export(&log, &other)
        .export(&config, &Default::default())
        .unwrap();
    for file in [
        "interactions/train.parquet",
        "sessions.parquet",
        "tracks.parquet",
        "README.md",
    ] {
        let bytes = |folder: &Path| std::fs::read(folder.join(file)).unwrap();
        assert!(bytes(&one) == bytes(&other), "{file}");
    }
}

/// A Python with pandas and Hugging Face datasets: `SEGUE_PEERS_PYTHON`, else that of `make
/// setup-peers`.
fn python() -> Option<PathBuf> {
    let path = match std::env::var_os("SEGUE_PEERS_PYTHON") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin/python"),
    };
    let tried = Command::new(&path)
        .args(["-c", "import pandas, datasets, pyarrow, safetensors"])
        .output();
    match tried {
        Ok(tried) if tried.status.success() => Some(path),
        _ => {
            eprintln!(
                "SKIPPED: {} has no pandas and datasets: run `make setup-peers`, or name a Python that \
                 has them in SEGUE_PEERS_PYTHON",
                path.display()
            );
            None
        }
    }
}

#[test]
fn pandas_and_hugging_face_datasets_read_it() {
    let folder = tempfile::tempdir().unwrap();
    // Few: each of their tracks is encoded.
    let log = written(folder.path(), &rig::listens(300));
    let config = rig::config(folder.path());
    let out = folder.path().join("set");
    let with_text = Export {
        text: Some("minilm".to_owned()),
        ..export(&log, &out)
    };
    let contents: Contents = with_text.export(&config, &Default::default()).unwrap();

    let features = std::fs::read(out.join("features.safetensors")).unwrap();
    let features = SafeTensors::deserialize(&features).unwrap();
    let tracks = contents.tracks as usize;
    assert_eq!(features.tensor("text").unwrap().shape(), [tracks, 384]);
    assert_eq!(
        features.tensor("text.known").unwrap().data(),
        vec![1; tracks]
    );

    let Some(python) = python() else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/segue/export.py");
    let output = Command::new(python)
        .arg(script)
        .arg(&out)
        .arg(folder.path().join("cache"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let read: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    for reader in ["pandas", "datasets"] {
        let read = &read[reader];
        for split in &contents.splits {
            assert_eq!(
                read["interactions"][split.split.name()],
                split.plays,
                "{reader}"
            );
        }
        assert_eq!(read["sessions"], contents.sessions, "{reader}");
        assert_eq!(read["tracks"], contents.tracks, "{reader}");
    }
    assert_eq!(
        read["features"],
        serde_json::json!({"text": [tracks, 384], "text.known": [tracks]})
    );
}

#[test]
fn what_is_wrong_is_refused_before_anything_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let config = rig::config(folder.path());
    // A log that is not there would be found out first if it were read first.
    let log = folder.path().join("none.tsv");
    let out = folder.path().join("set");
    let refused = |export: Export, words: &str| {
        let error = export.export(&config, &Default::default()).unwrap_err();
        assert!(format!("{error:#}").contains(words), "{error:#}");
        assert!(!out.exists());
    };
    let half = Export {
        validation: 0.5,
        test: 0.5,
        ..export(&log, &out)
    };
    refused(half, "leave nothing to train on");
    let vectors = |files: &[&str]| Export {
        vectors: files.iter().map(|file| file.parse().unwrap()).collect(),
        ..export(&log, &out)
    };
    refused(
        vectors(&["sound=nowhere.safetensors"]),
        "cannot read nowhere.safetensors",
    );
    refused(export(&log, &out), "none.tsv");
    std::fs::create_dir(&out).unwrap();
    let error = export(&log, &out)
        .export(&config, &Default::default())
        .unwrap_err();
    assert!(error.to_string().contains("--force"), "{error:#}");
}
