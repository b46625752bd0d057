//! A run whose tracks are rated: the ratings are a part of their vectors, models fuse them with the text, a
//! corrected file counts from the next start on, and who has no ratings goes without. Real weights.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use segue::commands::run::Run;
use segue::config::Config;
use segue::http::Phase;
use segue::recovery;
use segue_e4srec::settings::Fusion;
use segue_flow::checkpoint::CheckpointStore;
use segue_listen::Listen;

use crate::hearing::{append, in_turn, recall, score, written};
use crate::models::with_models;
use crate::rig;

/// The length of a vector of text and ratings.
const RATED: usize = 384 + 58;

fn rates(config: &mut Config, folder: &Path, rows: &str) {
    let file = folder.join("ratings.tsv");
    let head = "artist\ttitle\tTempo\tDanceability\tSad Lyrics";
    fs::write(&file, format!("{head}\n{rows}")).unwrap();
    config.models.ratings = file;
    config.models.encode_ratings = true;
    config.models.e4srec.tower.content = 0;
}

#[test]
fn models_learn_and_answer_with_text_and_ratings_of_which_some_are_missing() {
    let listens: Vec<Listen> = rig::listens(900);
    for fusion in [Fusion::CrossAttention, Fusion::Film] {
        let folder = tempfile::tempdir().unwrap();
        let mut config = rig::config(folder.path());
        with_models(&mut config, 700);
        config.models.e4srec.tower.fusion = fusion;
        config.models.e4srec.tower.modality_dropout = 0.2;
        // Two of three tracks.
        let rows = listens.iter().filter_map(|listen| {
            let length = listen.title.len();
            let [a, b, c] = [1, 2, 3].map(|every| length / every % 6);
            let row = format!("{}\t{}\t{a}\t{b}\t{c}\n", listen.artist, listen.title);
            (length % 3 > 0).then_some(row)
        });
        rates(&mut config, folder.path(), &rows.collect::<String>());
        append(&config, &listens);
        let run = Run {
            until_end: true,
            ..Run::default()
        };
        let summary = run.engine(&config, Arc::default(), &Phase::default());
        let summary = summary.unwrap();
        assert_eq!(summary.stream.plays, 900);
        assert_eq!((summary.encoded, summary.failed), (summary.tracks, 0));
        assert_eq!(summary.content_faults, 0, "no ratings are no fault");
        let answers = written(&config).into_iter();
        let answers = answers.filter(|record| record.0 == "predictions");
        let learnt = answers.filter(|record| {
            let answer: serde_json::Value = rmp_serde::from_slice(&record.2).unwrap();
            answer["recommender"] == "e4srec-online"
        });
        // One an epoch for each of those who have played.
        let learnt = learnt.count() as u64;
        assert!(learnt > 20, "{fusion:?}: {learnt}");
        assert_eq!(learnt, summary.predictions);
    }
}

#[test]
fn ratings_that_are_corrected_count_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = rig::config(folder.path());
    config.recommend.epoch = 1;
    let listens = in_turn(&["song", "wrong", "unrated"], 27);
    rates(
        &mut config,
        folder.path(),
        "x\tsong\t5\t5\t0\nx\twrong\t0\t0\t5\n",
    );
    append(&config, &listens[..9]);
    let summary = recall(&config, RATED);
    assert_eq!((summary.encoded, summary.content_faults), (3, 0));
    let before = score(&config, "song", "wrong");

    append(&config, &listens[9..18]);
    recall(&config, RATED);
    assert_eq!(
        score(&config, "song", "wrong"),
        before,
        "nothing has changed"
    );

    rates(
        &mut config,
        folder.path(),
        "x\tsong\t5\t5\t0\nx\twrong\t5\t5\t0\n",
    );
    append(&config, &listens[18..]);
    let summary = recall(&config, RATED);
    assert_eq!((summary.tracks, summary.encoded), (3, 3));
    let after = score(&config, "song", "wrong");
    // Half of a vector's square length: from opposite to the same.
    assert!(after > before + 0.9, "{before} {after}");

    // Vectors without this part are of another kind.
    config.models.encode_ratings = false;
    let store = &mut CheckpointStore::open(&config.checkpoint).unwrap();
    let manifest = store.newest_good().unwrap().unwrap();
    let refused = recovery::check_fixed(&manifest, &config).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("models.encode_ratings is false and was true"),
        "{refused}"
    );
}
