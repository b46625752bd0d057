//! What people get wrong, and what they are told: the real program, its exit code, its last words.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

fn segue(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_segue"));
    command.args(arguments).env("SEGUE_LOG", "error");
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

#[track_caller]
fn refused(mut command: Command, words: &[&str]) {
    let output = command.output().unwrap();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in words {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

fn write(folder: &Path, name: &str, content: &[u8]) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path.to_string_lossy().into_owned()
}

#[test]
fn help_teaches_and_config_shows_every_key() {
    for arguments in [
        &["--help"][..],
        &["demo", "--help"],
        &["replay", "--help"],
        &["models", "pull", "--help"],
        &["models", "check", "--help"],
        &["train", "--help"],
        &["export", "--help"],
    ] {
        let output = segue(arguments).output().unwrap();
        assert!(output.status.success());
        assert!(said(&output).len() > 400);
    }
    let output = segue(&["config", "show"])
        .env("SEGUE__SESSIONS__GAP", "31m")
        .output()
        .unwrap();
    assert!(said(&output).contains("gap = \"31m\""), "{}", said(&output));
}

#[test]
fn configuration() {
    let folder = tempfile::tempdir().unwrap();
    let bad = write(folder.path(), "bad.toml", b"[sessions]\ngapp = \"20m\"\n");
    refused(segue(&["--config", &bad, "config", "show"]), &["gapp"]);
    let mut command = segue(&["config", "show"]);
    command.env("SEGUE__SESSIONS__GAAP", "20m");
    refused(command, &["gaap"]);
    refused(
        segue(&["--config", "no/such.toml", "config", "show"]),
        &["no/such.toml"],
    );
}

#[test]
fn logs() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("out.jsonl");
    let to = to.to_str().unwrap();
    let replay = |file: &str| segue(&["replay", file, "--to", to]);
    refused(replay("no/such/file.tsv"), &["no/such/file.tsv"]);
    let empty = write(folder.path(), "empty.tsv", b"");
    refused(replay(&empty), &["empty.tsv"]);
    let rubbish = write(
        folder.path(),
        "rubbish.tsv",
        b"a\tb\nuser_1\tnever\t\tx\t\ty\n",
    );
    refused(replay(&rubbish), &["rubbish.tsv"]);
    // A gzip header and nothing behind it.
    let cut = write(
        folder.path(),
        "cut.tsv.gz",
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xcb",
    );
    refused(replay(&cut), &["cut.tsv.gz"]);
    refused(segue(&["replay"]), &["nothing to replay"]);
}

#[test]
fn brokers_ports_and_topics() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = segue(&["run", "--on", "log"]);
    command.env("SEGUE__HTTP__LISTEN", &address);
    refused(command, &[&address, "http.listen"]);

    let free = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let mut command = segue(&["run", "--on", "kafka", "--until-now"]);
    command
        .env("SEGUE__KAFKA__BROKERS", &free)
        .env("SEGUE__KAFKA__CONNECT_WITHIN", "2s");
    refused(command, &[&free]);

    let folder = tempfile::tempdir().unwrap();
    let mut command = segue(&["run", "--on", "log", "--until-now"]);
    command.env("SEGUE__LOG__DIR", folder.path().join("log"));
    refused(command, &["listens", "segue replay"]);
}

#[test]
fn models_that_are_not_there_or_not_whole() {
    let folder = tempfile::tempdir().unwrap();
    let demo = |models: &Path| {
        let out = folder.path().join("out");
        let mut command = segue(&["demo", "--plays", "100", "--out", out.to_str().unwrap()]);
        command.env("SEGUE_MODELS", models);
        command
    };
    refused(demo(&folder.path().join("none")), &["none", "make setup"]);
    let whole = std::env::var("SEGUE_MODELS").unwrap();
    let torn = folder.path().join("torn");
    std::fs::create_dir_all(torn.join("minilm")).unwrap();
    for name in ["config.json", "tokenizer.json"] {
        let from = Path::new(&whole).join("minilm").join(name);
        std::fs::copy(from, torn.join("minilm").join(name)).unwrap();
    }
    std::fs::write(torn.join("minilm/model.safetensors"), [0xff; 64]).unwrap();
    refused(demo(&torn), &["model.safetensors"]);

    let mut command = demo(Path::new(&whole));
    command.env("SEGUE__MODELS__LANGUAGE_MODEL", "llama-3-8b");
    refused(
        command,
        &[
            "models.language_model",
            "smollm2-135m",
            "segue models pull llama-3-8b",
        ],
    );
    // Nothing is asked of anybody before the licence was accepted.
    let mut command = segue(&["models", "pull", "llama-3-8b"]);
    command.env("SEGUE_MODELS", folder.path().join("none"));
    refused(command, &["Community License", "--accept-licence"]);
    let mut command = segue(&["models", "check", "minilm", "llama-3-8b"]);
    command.env("SEGUE_MODELS", &torn);
    refused(command, &["2 of 2 models cannot be used"]);
}
