use super::*;

use std::fs::File;
use std::ops::ControlFlow;

use parquet::file::reader::SerializedFileReader;
use parquet::record::Field;
use segue_flow::epoch::LaneId;
use segue_flow::lane::Decode;
use segue_flow::stage::Stage;
use segue_listen::{ListenRef, SessionGap, Span, TrackKey, Watermark, WatermarkClock};
use segue_sessions::{ListenDecoder, ListeningStage, SessionSettings};

use crate::split::Shares;

/// User, title, start in seconds, length and time played in seconds.
type Said<'a> = (&'a str, &'a str, i64, Option<i64>, Option<i64>);

/// What the real stage says of a log in order of time.
fn updates(log: &[Said<'_>]) -> Vec<Update> {
    let mut decoder = ListenDecoder::new(LaneId(0), 1);
    let mut stage = ListeningStage::new(SessionSettings {
        gap: SessionGap::default(),
        lateness: Span::from_minutes(60),
    });
    let mut clock = WatermarkClock::new(Span::ZERO, Span::ZERO);
    let mut out = Vec::new();
    for (user, title, at, duration, played) in log {
        clock.observe(EventTime::from_millis(at * 1_000));
        stage.advance(clock.watermark().unwrap(), &mut out).unwrap();
        let arrival = decoder.intern(&ListenRef {
            user,
            track: TrackKey::from_names("Björk", title),
            artist: "Björk",
            title,
            at: EventTime::from_millis(at * 1_000),
            duration: duration.map(Span::from_seconds),
            played: played.map(Span::from_seconds),
        });
        decoder.announce(&mut out);
        stage.absorb(&[arrival.unwrap()], &mut out).unwrap();
    }
    stage.advance(Watermark::END, &mut out).unwrap();
    out
}

fn boundaries(log: &[Said<'_>], shares: Shares) -> Arc<Boundaries> {
    let boundaries = Boundaries::new(shares, log.len() as u64).unwrap();
    for (number, (_, _, at, ..)) in (0..).zip(log) {
        boundaries.read(number, EventTime::from_millis(at * 1_000));
    }
    Arc::new(boundaries)
}

fn about() -> About {
    About {
        name: "A log: \"mine\"".to_owned(),
        log: "plays.tsv".to_owned(),
        session_gap: Span::from_minutes(20),
        ..About::default()
    }
}

fn export(log: &[Said<'_>], out: &Path, replace: bool) -> Result<Contents, ExportError> {
    let boundaries = boundaries(log, Shares::default());
    let mut dataset = Dataset::create(out, replace, boundaries, 1)?;
    for update in updates(log) {
        dataset.take(update)?;
    }
    dataset.finish(Vec::new(), &about(), &mut |_| ControlFlow::Continue(()))
}

/// The values of some columns of a table, a text for each row.
fn read(path: &Path, columns: &[&str]) -> Vec<String> {
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let row = |row: parquet::record::Row| {
        let value = |name: &&str| {
            let field = row.get_column_iter().find(|(column, _)| column == name);
            match field.unwrap().1 {
                Field::Str(text) => text.clone(),
                Field::TimestampMillis(at) => (at / 1_000).to_string(),
                Field::Null => "-".to_owned(),
                other => other.to_string(),
            }
        };
        columns.iter().map(value).collect::<Vec<_>>().join(" ")
    };
    reader.into_iter().map(|r| row(r.unwrap())).collect()
}

/// Two listeners; the first has a session of three plays and one of one, the other's is the last.
const LOG: [Said<'static>; 10] = [
    ("ann", "Army of Me", 0, Some(200), None),
    ("ann", "Hyperballad", 100, Some(300), Some(30)),
    ("ann", "Army of Me", 400, None, None),
    ("bob", "Hyperballad", 10_000, None, Some(60)),
    ("bob", "Isobel", 10_100, None, None),
    ("bob", "Isobel", 10_400, None, None),
    ("bob", "Isobel", 10_700, None, None),
    ("bob", "Isobel", 11_000, None, None),
    ("bob", "Isobel", 11_300, None, None),
    ("ann", "Joga", 20_000, None, None),
];

#[test]
fn plays_stand_by_session_with_what_was_heard_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("set");
    let contents = export(&LOG, &out, false).unwrap();

    let columns = [
        "user",
        "session",
        "position",
        "started_at",
        "title",
        "gap_ms",
        "played_ms",
        "played_by",
        "duration_ms",
        "duration_by",
        "completion_ratio",
    ];
    let train = read(&out.join("interactions/train.parquet"), &columns);
    let expected = [
        "ann 0 0 0 Army of Me 100000 100000 gap 200000 event 0.5",
        "ann 0 1 100 Hyperballad 300000 30000 player 300000 event 0.1",
        "ann 0 2 400 Army of Me - - - - - -",
        "bob 1 0 10000 Hyperballad 100000 60000 player - - -",
        "bob 1 1 10100 Isobel 300000 300000 gap - - -",
        "bob 1 2 10400 Isobel 300000 300000 gap - - -",
        // The first two gaps and the third are known only once this one is over.
        "bob 1 3 10700 Isobel 300000 300000 gap - - -",
        "bob 1 4 11000 Isobel 300000 300000 gap 300000 estimate 1.0",
    ];
    assert_eq!(train, expected);
    let short = ["user", "session", "position"];
    let of = |split: &str| read(&out.join(format!("interactions/{split}.parquet")), &short);
    assert_eq!(of("validation"), ["bob 1 5"]);
    assert_eq!(of("test"), ["ann 2 0"]);

    let columns = [
        "session",
        "user",
        "split",
        "started_at",
        "last_started_at",
        "plays",
        "ratios",
    ];
    let sessions = read(&out.join("sessions.parquet"), &columns);
    assert_eq!(
        sessions,
        [
            "0 ann train 0 400 3 2",
            "1 bob train 10000 11300 6 1",
            "2 ann test 20000 20000 1 0"
        ]
    );

    assert_eq!(
        (contents.listeners, contents.tracks, contents.straddling),
        (2, 4, 1)
    );
    let by_split: Vec<_> = contents
        .splits
        .iter()
        .map(|s| (s.plays, s.tracks, s.new_tracks))
        .collect();
    assert_eq!(by_split, [(8, 3, 3), (1, 1, 0), (1, 1, 1)]);
    let expected = RatioCounts {
        by_player: 1,
        by_stated_length: 1,
        by_estimated_length: 1,
        unknown_length: 4,
        last_of_session: 3,
    };
    assert_eq!(contents.ratios, expected);
}

#[test]
fn tracks_stand_by_key_with_their_lengths() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("set");
    let contents = export(&LOG, &out, false).unwrap();
    let columns = [
        "title",
        "plays",
        "first_played_at",
        "stated_duration_ms",
        "estimated_duration_ms",
        "estimate_support",
    ];
    let mut tracks = read(&out.join("tracks.parquet"), &columns);
    let keys = read(&out.join("tracks.parquet"), &["track"]);
    assert!(keys.is_sorted() && keys.len() == 4);
    tracks.sort();
    assert_eq!(
        tracks,
        [
            "Army of Me 2 0 200000 - -",
            "Hyperballad 2 100 300000 - -",
            "Isobel 5 10100 - 300000 4",
            "Joga 1 20000 - - -",
        ]
    );
    assert_eq!(
        (contents.lengths_stated, contents.lengths_estimated),
        (2, 1)
    );
}

#[test]
fn the_same_log_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    export(&LOG, &one, false).unwrap();
    export(&LOG, &other, false).unwrap();
    for file in [
        "interactions/train.parquet",
        "interactions/validation.parquet",
        "interactions/test.parquet",
        "sessions.parquet",
        "tracks.parquet",
        "README.md",
    ] {
        let bytes = |folder: &Path| fs::read(folder.join(file)).unwrap();
        assert!(bytes(&one) == bytes(&other), "{file}");
    }
}

#[test]
fn the_card_names_the_files_of_each_split_and_every_column() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("set");
    export(&LOG, &out, false).unwrap();
    let card = fs::read_to_string(out.join("README.md")).unwrap();
    assert!(card.starts_with("---\npretty_name: \"A log: \\\"mine\\\"\"\nlicense: \"unknown\"\n"));
    for line in [
        "  - split: validation\n    path: interactions/validation.parquet\n",
        "| test | 1970-01-01T05:33:20Z | 1970-01-01T05:33:20Z (the last) | 1 | 1 | 1 | 1 |",
        "no pause of more than 20 minutes",
        "| `estimate_support` | int32, may be null |",
    ] {
        assert!(card.contains(line), "{line}\n\n{card}");
    }
    assert!(!card.contains("safetensors` |"), "there are none");
}

#[test]
fn a_split_without_a_share_has_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("set");
    let shares = Shares {
        validation: 0.0,
        test: 0.1,
    };
    let mut dataset = Dataset::create(&out, false, boundaries(&LOG, shares), 1).unwrap();
    for update in updates(&LOG) {
        dataset.take(update).unwrap();
    }
    let contents = dataset.finish(Vec::new(), &about(), &mut |_| ControlFlow::Continue(()));
    let splits: Vec<_> = contents.unwrap().splits.iter().map(|s| s.split).collect();
    assert_eq!(splits, [Split::Train, Split::Test]);
    assert!(!out.join("interactions/validation.parquet").exists());
}

#[test]
fn what_is_there_is_replaced_only_where_it_is_ours_and_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("set");
    export(&LOG, &out, false).unwrap();
    let said = |replace| export(&LOG[..9], &out, replace).unwrap_err().to_string();
    assert!(said(false).contains("--force"), "{}", said(false));
    let contents = export(&LOG[..9], &out, true).unwrap();
    assert_eq!(contents.tracks, 3);
    assert_eq!(read(&out.join("tracks.parquet"), &["title"]).len(), 3);
    fs::write(out.join("thesis.tex"), "").unwrap();
    assert!(said(true).contains("thesis.tex"), "{}", said(true));
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "nothing is left beside it"
    );
}

#[test]
fn an_export_that_fails_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("set");
    let error = export(&[], &out, false).unwrap_err();
    assert!(error.to_string().contains("no plays"), "{error}");
    let mut dataset = Dataset::create(&out, false, boundaries(&LOG, Shares::default()), 1).unwrap();
    for update in updates(&LOG).into_iter().take(5) {
        dataset.take(update).unwrap();
    }
    drop(dataset);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_lane_that_does_not_keep_order_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let late = [LOG[0], LOG[2], LOG[1]];
    let error = export(&late, &folder.path().join("set"), false).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("\"ann\" are not in order of time"),
        "{error}"
    );
}
