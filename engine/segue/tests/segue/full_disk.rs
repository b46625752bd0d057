//! A disk that is full: no checkpoint can be written, those before stay whole, the run goes on, and
//! once there is room again everything is committed. What fills up is what the operating system lets
//! the program write into one file, which can be changed while it runs.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use segue::commands::run::{Backend, Run};
use segue::config::Config;
use segue::http::Phase;
use segue_flow::checkpoint::CheckpointStore;
use segue_kafka::broker::Broker;
use segue_kafka::{Guarantee, KafkaSink, topics};

use crate::crash::{self, LANES, PLAYS};
use crate::drain::{await_metric, free_address, metric, signal};
use crate::rig;
use crate::same_answer::deliver;

/// What fits on the full disk: less than a part.
const ROOM: &str = "512";
const FAILURES: &str = "segue_checkpoint_failures_total";
const EPOCHS: &str = "segue_epochs_total";

/// The program under a shell that makes it live with the signal of a file that may not grow.
fn program(config: &Path) -> Child {
    Command::new("/bin/sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_segue"))
        .arg("--config")
        .arg(config)
        .args(["run", "--on", "kafka"])
        .env("SEGUE_LOG", "warn")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Lets it write so many bytes into a file at most; what it may be set to later is left.
fn leave_room(child: &Child, bytes: &str) {
    let status = Command::new("prlimit")
        .args(["--pid", &child.id().to_string()])
        .arg(format!("--fsize={bytes}:"))
        .status();
    assert!(status.unwrap().success());
}

/// The newest checkpoint, once all of them have been read and found whole.
fn all_whole(config: &Config) -> u64 {
    let store = CheckpointStore::open(&config.checkpoint).unwrap();
    let listed = store.list().unwrap();
    for listed in &listed {
        store.verify(listed.manifest.as_ref().unwrap()).unwrap();
    }
    listed.first().map_or(0, |newest| newest.number)
}

#[test]
fn a_full_disk_costs_checkpoints_and_nothing_else() {
    let broker = Broker::shared().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = |name: &str| {
        let mut config = crash::config(folder.path(), name);
        config.stream.topic = "full-disk-listens".to_owned();
        config.kafka.brokers = broker.address();
        config.kafka.group = name.to_owned();
        config
    };
    let (mut full, undisturbed) = (config("disk-full"), config("disk-undisturbed"));
    let address = free_address();
    full.http.listen = Some(address);
    topics::ensure_topic(&full.kafka, &full.stream.topic, LANES).unwrap();
    let file = folder.path().join("segue.toml");
    std::fs::write(&file, full.to_toml().unwrap()).unwrap();
    let mut sink = KafkaSink::open(&full.kafka, &Guarantee::Idempotent, None).unwrap();
    let mut child = program(&file);
    let mut epochs = 0.0;
    let thirds = rig::listens(PLAYS);
    for (number, third) in thirds.chunks(PLAYS / 3).enumerate() {
        match number {
            // While there is room.
            0 => {
                deliver(&full, third.to_vec(), &mut sink);
                await_metric(address, EPOCHS, 1.0);
            }
            // And while there is none.
            1 => {
                leave_room(&child, ROOM);
                deliver(&full, third.to_vec(), &mut sink);
                await_metric(address, FAILURES, 1.0);
                let newest = all_whole(&full);
                epochs = metric(address, EPOCHS);
                let failures = metric(address, FAILURES);
                await_metric(address, FAILURES, failures + 2.0);
                assert_eq!(all_whole(&full), newest, "none came of it");
                assert!(child.try_wait().unwrap().is_none(), "it goes on");
                let read = metric(address, "segue_records_read_total");
                assert!(read >= 2.0 * third.len() as f64, "it reads on: {read}");
            }
            // And when there is again.
            _ => {
                leave_room(&child, "unlimited");
                deliver(&full, third.to_vec(), &mut sink);
            }
        }
    }
    drop(sink);
    await_metric(address, "segue_records_read_total", PLAYS as f64);
    await_metric(address, EPOCHS, epochs + 1.0);
    signal(&child, "TERM");
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("no checkpoint this time"), "{said}");

    let summary = crash::finished(&file, "kafka");
    Run {
        on: Backend::Kafka,
        until_end: true,
        no_checkpoints: true,
        ..Run::default()
    }
    .engine(&undisturbed, Arc::default(), &Phase::default())
    .unwrap();
    let (found, expected) = (
        rig::committed_on_kafka(&full, LANES),
        rig::committed_on_kafka(&undisturbed, LANES),
    );
    crash::assert_nothing_lost(&summary, &found, &expected, (&full, &undisturbed));
}
