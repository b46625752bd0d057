//! Models that are trained on a log, stopped, gone on with and answered by: the real program, with the
//! real weights cut short.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use segue::commands::run::Run;
use segue::commands::train::Train;
use segue::config::Config;
use segue::http::Phase;
use segue_flow::clock::{MachineClock, WallClock};
use segue_listen::Listen;
use segue_log::Log;

use crate::rig;
use crate::same_answer::{deliver, read_all};

/// Small models on a small log, in many small steps.
fn config(folder: &Path) -> Config {
    let mut config = rig::config(folder);
    config.recommend.epoch = 100;
    // The company that a text is encoded in changes the last bits of its vector.
    config.models.encoder_batch = 1;
    config.models.sasrec.epochs = 1;
    config.models.sasrec.dimensions = 16;
    let e4srec = &mut config.models.e4srec;
    e4srec.backbone.depth = 1;
    e4srec.tower.dimensions = 32;
    e4srec.tower.hidden = 8;
    e4srec.lora.rank = 2;
    e4srec.online.candidates = 64;
    e4srec.cached_listeners = 32;
    e4srec.offline.windows = 24;
    e4srec.offline.batch = 4;
    e4srec.offline.micro_batch = 2;
    e4srec.offline.epochs = 3;
    e4srec.offline.validation = 0.2;
    e4srec.offline.keep_every = 1;
    config
}

fn train(log: &Path, out: &Path) -> Train {
    Train {
        data: vec![log.to_owned()],
        out: out.to_owned(),
        fresh: false,
        epochs: None,
        windows: None,
    }
}

fn program(config: &Path, log: &Path, out: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_segue"));
    let command = command.arg("--config").arg(config).arg("train");
    let command = command
        .arg(log)
        .arg("--out")
        .arg(out)
        .env("SEGUE_LOG", "warn");
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A file that `segue train` reads, of plays that state how long their tracks are.
fn written(folder: &Path, listens: usize) -> PathBuf {
    let log = folder.join("log.jsonl");
    let plays = listens.to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_segue"))
        .args([
            "simulate",
            log.to_str().unwrap(),
            "--plays",
            &plays,
            "--users",
            "20",
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let text = std::fs::read_to_string(&log).unwrap();
    let stated = text.lines().map(|line| {
        let mut listen: serde_json::Value = serde_json::from_str(line).unwrap();
        let letters = listen["title"].as_str().unwrap().len();
        listen["duration_ms"] = (150_000 + 2_000 * letters).into();
        listen.to_string() + "\n"
    });
    std::fs::write(&log, stated.collect::<String>()).unwrap();
    log
}

fn answer(config: &Config, listens: &[Listen]) -> anyhow::Result<Vec<serde_json::Value>> {
    let log = Log::open(&config.log)?;
    log.ensure_topic(&config.stream.topic, 1)?;
    deliver(config, listens.to_vec(), &mut log.sink("replay")?);
    drop(log);
    let until_end = Run {
        until_end: true,
        ..Run::default()
    };
    until_end.engine(config, Arc::default(), &Phase::default())?;
    let topic = &config.recommend.topics.predictions;
    let log = Log::open(&config.log)?;
    let mut records = Vec::new();
    let mut source = log.source(topic, 0, segue_log::Until::Now)?;
    read_all(&mut source, topic, &mut records);
    let one = |record: &rig::Record| Ok(rmp_serde::from_slice(&record.2)?);
    records.iter().map(one).collect()
}

const STATES: [&str; 5] = [
    "e4srec-frozen",
    "sasrec",
    "sequential-rules",
    "personal-most-pop",
    "catalogue",
];

#[test]
fn trained_in_parts_and_whole_is_the_same_and_answers_from_the_first_round() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    let file = folder.path().join("segue.toml");
    std::fs::write(&file, config.to_toml().unwrap()).unwrap();
    let log = written(folder.path(), 1_000);
    let (out, whole) = (folder.path().join("model"), folder.path().join("whole"));

    // Stopped once by a signal and once by a kill, when some steps are kept.
    let kept = out.join("progress/e4srec");
    let clock = MachineClock::start();
    for signal in ["-INT", "-KILL"] {
        let mut child = program(&file, &log, &out);
        let before = std::fs::read(&kept).ok();
        while std::fs::read(&kept).ok() == before {
            clock.sleep(Duration::from_millis(5));
            assert!(
                child.try_wait().unwrap().is_none(),
                "it ended before {signal}"
            );
        }
        let pid = child.id().to_string();
        Command::new("kill").args([signal, &pid]).status().unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(!output.status.success(), "{signal}: {}", said(&output));
        assert!(!out.join("model.json").exists());
        if signal == "-INT" {
            let said = said(&output);
            assert!(
                said.contains("the same command goes on from there"),
                "{said}"
            );
            assert!(said.contains("training was stopped after step"), "{said}");
        }
    }
    // Not with other settings.
    let mut other = config.clone();
    other.models.e4srec.offline.head_rate *= 2.0;
    let error = train(&log, &out)
        .train(&other, &Arc::default())
        .unwrap_err();
    assert!(format!("{error:#}").contains("other settings"), "{error:#}");
    let mut other = config.clone();
    other.models.sasrec.dimensions = 8;
    let error = train(&log, &out)
        .train(&other, &Arc::default())
        .unwrap_err();
    assert!(
        format!("{error:#}").contains("models.sasrec.dimensions"),
        "{error:#}"
    );

    let output = program(&file, &log, &out).wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).contains("goes on with what was gathered"),
        "{}",
        said(&output)
    );
    assert!(!out.join("progress").exists());
    let output = program(&file, &log, &whole).wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    for state in STATES {
        let (one, other) = (
            std::fs::read(out.join(state)),
            std::fs::read(whole.join(state)),
        );
        assert!(one.unwrap() == other.unwrap(), "{state} is another");
    }
    let report = std::fs::read_to_string(out.join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let curve = |model: &str, name: &str| {
        let curves = report["curves"].as_array().unwrap();
        let curve = curves
            .iter()
            .find(|c| c["model"] == model && c["name"] == name);
        curve.unwrap()["points"].as_array().unwrap().len()
    };
    assert!(curve("sasrec", "training loss") > 0);
    assert!(curve("e4srec", "training loss") > 8);
    assert!((1..=3).contains(&curve("e4srec", "validation loss")));
    assert_eq!(report["counts"]["plays"], 1_000);
    // How far estimated lengths are from stated ones was kept with what was gathered.
    let whole = std::fs::read_to_string(whole.join("report.json")).unwrap();
    let whole: serde_json::Value = serde_json::from_str(&whole).unwrap();
    let judged = &report["durations"]["overall"];
    assert!(judged["tracks"].as_u64().unwrap() > 0, "{judged}");
    assert_eq!(report["durations"], whole["durations"]);
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("Estimated track lengths beside stated ones"));
    assert!(!page.contains("estimates cannot be judged"));
    // What is there is not trained over unasked.
    let error = train(&log, &out)
        .train(&config, &Arc::default())
        .unwrap_err();
    assert!(format!("{error:#}").contains("--fresh"), "{error:#}");

    config.models.trained = out.clone();
    let listens = rig::listens(450);
    let first = answer(&config, &listens[..300]).unwrap().len();
    // And from a checkpoint it goes on with what its models have learnt.
    let answers = answer(&config, &listens[300..]).unwrap();
    assert!(
        first > 5 && answers.len() > first + 2,
        "{first}, {}",
        answers.len()
    );
    assert_eq!(answers[0]["epoch"], 0, "the first round answers");
    for answer in answers {
        assert_eq!(answer["recommender"], "e4srec-online");
        assert_eq!(answer["tracks"].as_array().unwrap().len(), 10);
    }
    refused(&config, &out, folder.path());
}

/// Models that are not there, not whole, or not these: by file and remedy.
fn refused(config: &Config, out: &Path, folder: &Path) {
    let error = |change: &dyn Fn(&mut Config)| {
        let mut config = config.clone();
        config.log.dir = folder.join("none");
        config.checkpoint.url = folder.join("no-checkpoints").display().to_string();
        change(&mut config);
        format!("{:#}", answer(&config, &rig::listens(10)).unwrap_err())
    };
    let mut without = config.clone();
    without.models.trained = PathBuf::new();
    let without = format!("{:#}", answer(&without, &[]).unwrap_err());
    assert!(
        without.contains("models.trained is \"\" and was"),
        "{without}"
    );
    let elsewhere = error(&|config| config.models.trained = folder.join("nowhere"));
    assert!(
        elsewhere.contains("nowhere") && elsewhere.contains("segue train"),
        "{elsewhere}"
    );
    let deeper = error(&|config| config.models.e4srec.backbone.depth = 2);
    assert!(
        deeper.contains("model.json") && deeper.contains("models.e4srec.backbone"),
        "{deeper}"
    );
    let wider = error(&|config| config.models.e4srec.tower.dimensions = 16);
    assert!(
        wider.contains("e4srec-frozen") && wider.contains("--fresh"),
        "{wider}"
    );
    let state = out.join("sasrec");
    let mut bytes = std::fs::read(&state).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&state, bytes).unwrap();
    let damaged = error(&|_| {});
    assert!(
        damaged.contains("sasrec is damaged") && damaged.contains("--fresh"),
        "{damaged}"
    );
    let both = Config {
        recommend: segue::config::Recommend {
            train_plays: 100,
            ..config.recommend.clone()
        },
        ..config.clone()
    };
    let file = folder.join("both.toml");
    std::fs::write(&file, both.to_toml().unwrap()).unwrap();
    let both = format!("{:#}", Config::load(Some(&file)).unwrap_err());
    assert!(both.contains("models.trained is set"), "{both}");
}
