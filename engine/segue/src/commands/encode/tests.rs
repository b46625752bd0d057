//! A folder and a library of real files, through the command.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use segue_nn::weights::Weights;

use super::{AudioCommand, music_in};
use crate::config::Config;

fn clips() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/audio")
}

fn command(from: &Path, out: &Path) -> AudioCommand {
    AudioCommand {
        from: from.to_path_buf(),
        out: out.to_path_buf(),
        model: "handcrafted".into(),
        layers: "mean".into(),
        seconds: 1.0,
        count: 1,
    }
}

fn encode(command: &AudioCommand) -> anyhow::Result<(Vec<u8>, Vec<serde_json::Value>)> {
    command.encode(&Config::default(), &Arc::default())?;
    let lines = std::fs::read_to_string(command.out.with_extension("jsonl"))?;
    let lines = lines
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    Ok((std::fs::read(&command.out)?, lines))
}

#[test]
fn a_folder_becomes_a_table_and_is_not_encoded_twice() {
    let place = tempfile::tempdir().unwrap();
    let music = place.path().join("music");
    std::fs::create_dir_all(music.join("deep/er")).unwrap();
    for (from, to) in [
        ("clip.ogg", "b.ogg"),
        ("clip.mp3", "deep/er/a.MP3"),
        ("LICENSE", "text.txt"),
    ] {
        std::fs::copy(clips().join(from), music.join(to)).unwrap();
    }
    std::fs::write(music.join("broken.flac"), b"no music").unwrap();
    let command = command(&music, &place.path().join("out.safetensors"));
    let (first, lines) = encode(&command).unwrap();
    assert_eq!(lines.len(), 3);
    assert_eq!(
        (&lines[0]["track"], &lines[0]["row"]),
        (&"b.ogg".into(), &0.into())
    );
    assert!(
        lines[1]["problem"]
            .as_str()
            .unwrap()
            .contains("not an audio file")
    );
    assert_eq!(
        (&lines[2]["track"], &lines[2]["row"]),
        (&"deep/er/a.MP3".into(), &1.into())
    );
    let vectors = Weights::open(&command.out).unwrap().get("vectors").unwrap();
    assert_eq!(vectors.size(), [2, 63]);

    // Moved, it is the same music; half a vector that a crash left is none.
    std::fs::rename(music.join("b.ogg"), music.join("a.ogg")).unwrap();
    let cache = command.out.with_extension("cache");
    let mut kept = std::fs::read(&cache).unwrap();
    assert_eq!(kept.len(), 16 + 2 * (16 + 4 * 63 + 8));
    kept.extend([7; 100]);
    std::fs::write(&cache, &kept).unwrap();
    let (again, lines) = encode(&command).unwrap();
    assert_eq!(lines[0]["track"], "a.ogg");
    assert_eq!(again, first);
    assert_eq!(std::fs::read(&cache).unwrap().len(), kept.len() - 100);

    // Other seconds are other vectors.
    let other = AudioCommand {
        seconds: 2.0,
        ..command
    };
    assert_ne!(encode(&other).unwrap().0, first);
}

#[test]
fn a_signal_ends_it_and_what_is_wrong_is_named() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("out.safetensors");
    let stopped = Arc::new(AtomicBool::new(false));
    stopped.store(true, Ordering::Relaxed);
    let error = command(&clips(), &out)
        .encode(&Config::default(), &stopped)
        .unwrap_err();
    assert!(error.to_string().contains("goes on from there"), "{error}");
    assert!(!out.exists());
    assert_eq!(music_in(&clips()).unwrap().len(), 6);
    let empty = place.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    for (wrong, named) in [
        (command(&empty, &out), "no music"),
        (
            command(&place.path().join("gone.jsonl"), &out),
            "gone.jsonl",
        ),
        (
            AudioCommand {
                model: "nothing".into(),
                ..command(&clips(), &out)
            },
            "--model nothing",
        ),
        (
            AudioCommand {
                layers: "first".into(),
                ..command(&clips(), &out)
            },
            "--layers first",
        ),
        (
            AudioCommand {
                count: 0,
                ..command(&clips(), &out)
            },
            "count is 0",
        ),
    ] {
        let error = encode(&wrong).unwrap_err();
        assert!(format!("{error:#}").contains(named), "{error:#}");
    }
}
