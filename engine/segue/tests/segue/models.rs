//! A run that the language model answers goes on from its checkpoints as if it had never stopped: while
//! its training part is gathered, and when its models have learnt. With the real weights, cut short.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use segue::commands::run::{Run, output_topics};
use segue::config::Config;
use segue::http::Phase;
use segue_flow::Source;
use segue_flow::checkpoint::CheckpointStore;
use segue_flow::clock::{MachineClock, WallClock};
use segue_listen::Listen;
use segue_log::Log;
use segue_recommend::stage::RunSummary;

use crate::crash::{damage_newest, program};
use crate::rig::{self, Record};
use crate::same_answer::{deliver, read_all};

/// Small models on a small log: what is restored is tested here, and not how well it ranks.
pub fn with_models(config: &mut Config, train_plays: u64) {
    config.recommend.train_plays = train_plays;
    config.recommend.epoch = 100;
    config.models.sasrec.epochs = 1;
    config.models.sasrec.dimensions = 16;
    let e4srec = &mut config.models.e4srec;
    e4srec.backbone.depth = 1;
    e4srec.offline.windows = 16;
    e4srec.tower.dimensions = 32;
    e4srec.tower.hidden = 8;
    e4srec.lora.rank = 2;
    // Every kind of step, and more listeners than the cache holds.
    e4srec.online.content_every = 2;
    e4srec.online.lora_every = 3;
    e4srec.online.lora_batch = 4;
    e4srec.online.candidates = 64;
    e4srec.cached_listeners = 32;
}

fn config(folder: &Path) -> Config {
    let mut config = rig::config(folder);
    with_models(&mut config, 700);
    config
}

/// The number of the newest checkpoint.
fn newest(config: &Config) -> Option<u64> {
    let store = CheckpointStore::open(&config.checkpoint).unwrap();
    store.list().unwrap().first().map(|listed| listed.number)
}

fn run(config: &Config, run: Run) -> anyhow::Result<RunSummary> {
    run.engine(config, Arc::default(), &Phase::default())
}

fn append(config: &Config, listens: &[Listen]) {
    let log = Log::open(&config.log).unwrap();
    log.ensure_topic(&config.stream.topic, config.stream.lanes)
        .unwrap();
    deliver(config, listens.to_vec(), &mut log.sink("replay").unwrap());
}

fn written(config: &Config) -> Vec<Record> {
    let log = Log::open(&config.log).unwrap();
    let mut records = Vec::new();
    for topic in output_topics(config) {
        let mut source = log.source(topic, 0, segue_log::Until::Now).unwrap();
        read_all(&mut source as &mut dyn Source, topic, &mut records);
    }
    records
}

fn assert_same(found: &[Record], expected: &[Record], config: &Config) {
    for topic in output_topics(config) {
        let (found, expected) = (rig::of_topic(found, topic), rig::of_topic(expected, topic));
        assert_eq!(found.len(), expected.len(), "records in {topic}");
        let differs = expected.iter().zip(&found).position(|(a, b)| a != b);
        assert_eq!(differs, None, "first record of {topic} that differs");
    }
}

fn until_now() -> Run {
    Run {
        until_now: true,
        ..Run::default()
    }
}

#[test]
fn a_run_with_models_goes_on_byte_for_byte_and_refuses_other_weights() {
    let listens = rig::listens(1_600);
    let whole = tempfile::tempdir().unwrap();
    let whole = config(whole.path());
    append(&whole, &listens);
    let undisturbed = Run {
        until_end: true,
        no_checkpoints: true,
        ..Run::default()
    };
    let undisturbed = run(&whole, undisturbed).unwrap();

    // Stopped while the training part is gathered, and twice after the models were taught.
    let folder = tempfile::tempdir().unwrap();
    let parts = config(folder.path());
    for (from, to) in [(0, 400), (400, 950), (950, 1_270)] {
        append(&parts, &listens[from..to]);
        run(&parts, until_now()).unwrap();
    }
    append(&parts, &listens[1_270..]);
    // Nobody goes on with another language model, or with none.
    let mut deeper = parts.clone();
    deeper.models.e4srec.backbone.depth = 2;
    let error = format!("{:#}", run(&deeper, until_now()).unwrap_err());
    assert!(error.contains("the language model is"), "{error}");
    assert!(error.contains("models.e4srec.backbone"), "{error}");
    let mut counting = parts.clone();
    counting.recommend.train_plays = 0;
    let error = format!("{:#}", run(&counting, until_now()).unwrap_err());
    assert!(
        error.contains("recommend.train_plays is 0 and was 700"),
        "{error}"
    );
    let until_end = Run {
        until_end: true,
        ..Run::default()
    };
    let last = run(&parts, until_end).unwrap();

    assert_eq!(last.stream.plays, 1_600);
    assert_eq!((last.trained_on, undisturbed.trained_on), (700, 700));
    assert_eq!(last.encoded, undisturbed.encoded);
    let events = |summary: &RunSummary| {
        let prequential = summary.prequential.as_ref().unwrap();
        let one = |report: &_| serde_json::to_value(report).unwrap();
        prequential.recommenders.iter().map(one).collect::<Vec<_>>()
    };
    for (one, other) in events(&last).iter().zip(&events(&undisturbed)) {
        assert_eq!(one["name"], other["name"]);
        assert_eq!(one["overall"], other["overall"], "{}", one["name"]);
    }
    let found = written(&parts);
    assert_same(&found, &written(&whole), &whole);
    let predictions = rig::of_topic(&found, &whole.recommend.topics.predictions);
    let by_language_model = predictions
        .iter()
        .filter(|(_, value)| String::from_utf8_lossy(value).contains("e4srec-online"));
    assert!(by_language_model.count() > 100, "{}", predictions.len());
}

/// The program itself, killed while the training part is gathered, about when the models are trained,
/// and again and again as they learn; at the end its newest checkpoint is damaged too.
#[test]
fn kill_9_with_models_loses_nothing_that_was_learnt() {
    let listens = rig::listens(2_000);
    let folder = tempfile::tempdir().unwrap();
    let (mut killed, mut undisturbed) = (config(folder.path()), config(folder.path()));
    killed.checkpoint.every = Duration::from_millis(300);
    let file = folder.path().join("segue.toml");
    std::fs::write(&file, killed.to_toml().unwrap()).unwrap();
    let clock = MachineClock::start();
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for (life, portion) in listens.chunks(330).enumerate() {
        append(&killed, portion);
        let before = newest(&killed);
        let mut child = program(&file, "log", None);
        // One life ends whatever it has come to, the others some time after a checkpoint of theirs.
        let waits = life != 2;
        while waits && newest(&killed) <= before {
            clock.sleep(Duration::from_millis(50));
            if child.try_wait().unwrap().is_some() {
                let output = child.wait_with_output().unwrap();
                panic!(
                    "life {life} ended: {}",
                    String::from_utf8_lossy(&output.stderr)
                );
            }
        }
        clock.sleep(Duration::from_millis(rng.random_range(0..1_500)));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    damage_newest(Path::new(&killed.checkpoint.url));
    let output = program(&file, "log", Some("--until-end"));
    let output = output.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["stream"]["plays"], 2_000);
    assert_eq!(summary["trained_on"], 700);

    undisturbed.log.dir = folder.path().join("again");
    append(&undisturbed, &listens);
    let whole = Run {
        until_end: true,
        no_checkpoints: true,
        ..Run::default()
    };
    run(&undisturbed, whole).unwrap();
    assert_same(&written(&killed), &written(&undisturbed), &killed);
}
