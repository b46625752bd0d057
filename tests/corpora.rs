//! Hostile input: every decoder, over its corpus and mutations of it, as the fuzzer runs it.
//!
//! `tests/fuzz/corpus/<target>/` holds the seeds (`seeds.rs` writes them) and whatever input once
//! found something. `make fuzz` looks for more.

mod mutator;
mod seeds;

use std::any::Any;
use std::panic::catch_unwind;
use std::path::PathBuf;

use segue_tests::checkout;
use segue_tests::fuzz::{self, Body, TARGETS, Target};

use mutator::Mutator;

fn folder(target: &Target) -> PathBuf {
    checkout().join("tests/fuzz/corpus").join(target.name)
}

/// The inputs of a corpus, in the order of their names.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = folder(target);
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect()
}

/// The first input on which the body panics, and with what words.
fn finding<'a>(body: Body, inputs: impl IntoIterator<Item = &'a [u8]>) -> Result<usize, String> {
    let mut read = 0;
    for bytes in inputs {
        let found = catch_unwind(|| body(bytes));
        let found = found.map_err(|panic| format!("{}: {}", bytes.escape_ascii(), words(&*panic)));
        read += usize::from(found?);
    }
    Ok(read)
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied())
        .unwrap_or("without words")
}

fn mutations(corpus: &[Vec<u8>], count: usize) -> Vec<Vec<u8>> {
    let mut mutator = Mutator::new(corpus);
    (0..count).map(|_| mutator.mutated()).collect()
}

/// Fewer mutations than this going one way would be chance.
const ENOUGH: usize = 40;

/// Both ways are gone often enough to mean something: inputs that are read, and such that are not.
fn fuzz(target: &str) {
    let target = TARGETS.iter().find(|known| known.name == target).unwrap();
    let corpus = corpus(target);
    let read = finding(target.body, corpus.iter().map(Vec::as_slice)).unwrap();
    assert!(read > 0 && read < corpus.len(), "good and bad seeds");

    let mutations = mutations(&corpus, target.mutations);
    let read = finding(target.body, mutations.iter().map(Vec::as_slice)).unwrap();
    let refused = mutations.len() - read;
    println!(
        "{}: {read} of {} mutations were read",
        target.name,
        mutations.len()
    );
    assert!(read >= ENOUGH && refused >= ENOUGH);
}

#[test]
fn hostile_messagepack() {
    fuzz("wire_msgpack");
}

#[test]
fn hostile_json() {
    fuzz("wire_json");
}

#[test]
fn hostile_lastfm_rows() {
    fuzz("lastfm");
}

#[test]
fn hostile_spotify_exports() {
    fuzz("spotify");
}

#[test]
fn hostile_listenbrainz_exports() {
    fuzz("listenbrainz");
}

#[test]
fn hostile_parts_of_checkpoints() {
    fuzz("part");
}

#[test]
fn hostile_manifests() {
    fuzz("manifest");
}

#[test]
fn hostile_segments_of_the_log() {
    fuzz("frames");
}

#[test]
fn hostile_commit_files() {
    fuzz("commit");
}

/// `SEGUE_WRITE_CORPORA=1` writes them anew.
#[test]
fn seeds_lie_in_the_corpora() {
    let write = std::env::var_os("SEGUE_WRITE_CORPORA").is_some();
    for target in &TARGETS {
        let folder = folder(target);
        for (name, bytes) in seeds::of(target.name) {
            let file = folder.join(name);
            if write {
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(&file, &bytes).unwrap();
            }
            let there = std::fs::read(&file).unwrap_or_default();
            assert!(there == bytes, "{} is not its seed", file.display());
        }
    }
}

#[test]
fn each_target_has_a_binary_for_the_fuzzer() {
    let manifest = std::fs::read_to_string(checkout().join("tests/fuzz/Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let bins = manifest["bin"].as_array().unwrap();
    let bins: Vec<_> = bins
        .iter()
        .map(|bin| bin["name"].as_str().unwrap())
        .collect();
    assert_eq!(bins, TARGETS.map(|target| target.name));
}

/// A decoder that believes a length, and one that breaks on a cut: both are found.
#[test]
fn what_is_wrong_is_found() {
    fn believes(bytes: &[u8]) -> bool {
        let Some((length, _)) = bytes.split_first_chunk() else {
            return false;
        };
        let length = u32::from_le_bytes(*length) as usize;
        fuzz::within(1 << 20, || {
            Vec::<u8>::with_capacity(length).capacity() == length
        })
    }
    fn breaks(bytes: &[u8]) -> bool {
        bytes[..4] == *b"good"
    }
    let corpus = [b"\x04\x00\x00\x00good".to_vec(), b"good".to_vec()];
    let mutations = mutations(&corpus, 2_000);
    let inputs = || mutations.iter().map(Vec::as_slice);
    let found = finding(believes, inputs()).unwrap_err();
    assert!(found.contains("bytes of memory"), "{found}");
    let found = finding(breaks, inputs()).unwrap_err();
    assert!(found.contains("range end index 4"), "{found}");
}
