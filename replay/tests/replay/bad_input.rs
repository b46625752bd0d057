use segue_replay::{ReadSettings, Reason, ReplayError};

use crate::{gzip, log, read_all, read_with, tar, write};

fn said(name: &str, bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), name, bytes);
    read_all(&[path]).unwrap_err().to_string()
}

#[test]
fn each_bad_file_is_named_with_a_remedy() {
    let good = log(3, 300);
    let packed = gzip(good.as_bytes());
    let zst = zstd::encode_all(good.as_bytes(), 1).unwrap();
    let member = "lastfm-dataset-1K/userid-timestamp-artid-artname-traid-traname.tsv";
    let archive = tar(&[(member, good.as_bytes())]);
    let cut = |bytes: &[u8]| bytes[..bytes.len() * 2 / 3].to_vec();
    let table: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("empty.tsv", vec![], &["empty.tsv is empty", "leave it out"]),
        ("empty.tsv.gz", gzip(b""), &["empty.tsv.gz is empty"]),
        (
            "cut.tsv.gz",
            cut(&packed),
            &["cut.tsv.gz", "gzip", "ends in the middle", "again"],
        ),
        (
            "cut.tsv.zst",
            cut(&zst),
            &["cut.tsv.zst", "zstd", "ends in the middle", "again"],
        ),
        (
            "cut.tar",
            cut(&archive),
            &["cut.tar", "tar", "ends in the middle", "again"],
        ),
        (
            "cut.tar.gz",
            cut(&gzip(&archive)),
            &["cut.tar.gz", "gzip", "ends in the middle"],
        ),
        (
            "other.tar",
            tar(&[("x.txt", b"hello")]),
            &["other.tar", "without a file userid-"],
        ),
        (
            "notes.txt",
            b"dear diary".to_vec(),
            &["notes.txt", "`dear diary`", "known are LastFM"],
        ),
        (
            "x.json",
            b"{\"a\":1}".to_vec(),
            &["x.json", "JSON of another kind"],
        ),
        (
            "bad.tsv",
            b"a\tb\nc\n".to_vec(),
            &["all 2 rows", "bad.tsv:1: not 6 columns)"],
        ),
        (
            "hist.json",
            b"[{\"ms_played\":1,".to_vec(),
            &["hist.json", "JSON", "line 1"],
        ),
    ];
    for (name, bytes, says) in table {
        let error = said(name, &bytes);
        for part in says {
            assert!(error.contains(part), "{name}: {error}");
        }
    }
    let error = read_all(&["/no/such/file".into()]).unwrap_err().to_string();
    assert!(
        error.contains("/no/such/file") && error.contains("check"),
        "{error}"
    );
    let folder = tempfile::tempdir().unwrap();
    let error = read_all(&[folder.path().to_owned()]).unwrap_err();
    assert!(matches!(error, ReplayError::NoInput { .. }), "{error}");
}

#[test]
fn every_container_gives_the_same_listens() {
    let folder = tempfile::tempdir().unwrap();
    let good = log(3, 300);
    let member = "lastfm-dataset-1K/userid-timestamp-artid-artname-traid-traname.tsv";
    let archive = tar(&[
        ("lastfm-dataset-1K/README.txt", b"hello"),
        (member, good.as_bytes()),
    ]);
    let plain = write(folder.path(), "log.tsv", good.as_bytes());
    let (expected, _) = read_all(&[plain]).unwrap();
    assert_eq!(expected.len(), 900);
    assert!(expected.is_sorted_by_key(|l| (l.at, l.user.clone())));
    for (name, bytes) in [
        ("log.tsv.gz", gzip(good.as_bytes())),
        ("log.tsv.zst", zstd::encode_all(good.as_bytes(), 3).unwrap()),
        ("lastfm-dataset-1K.tar.gz", gzip(&archive)),
        ("lastfm-dataset-1K.tar", archive.clone()),
        // What a file is does not depend on its name.
        ("download", gzip(&archive)),
    ] {
        let path = write(folder.path(), name, &bytes);
        assert!(read_all(&[path]).unwrap().0 == expected, "{name}");
    }
}

#[test]
fn bad_rows_are_counted_and_kept_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = log(1, 2).into_bytes();
    text.extend_from_slice(b"u\t2009-01-01T00:00:00Z\t\ta\tt\n");
    text.extend_from_slice(b"u\tnow\t\ta\t\tt\n");
    text.extend_from_slice(b"u\t2009-01-01T00:00:00Z\t\ta\t\t\xff\xfe\n");
    text.extend_from_slice(b"u\t1969-12-31T23:59:59Z\t\ta\t\tt\n");
    text.extend_from_slice(b"u\t2100-01-01T00:00:00Z\t\ta\t\tt\n");
    text.extend_from_slice(b"\t2009-01-01T00:00:00Z\t\ta\t\tt\n");
    text.extend_from_slice(b"u\t2009-01-01T00:00:00Z\t\t\t\t\n");
    text.resize(text.len() + 10 * 1024 * 1024, b'x');
    text.extend_from_slice(
        b"\nu\t2009-01-01T00:00:00Z\t\ta\t\tt\nu\t2009-01-01T00:00:00Z\t\ta\t\tt",
    );
    let path = write(folder.path(), "mixed.tsv", &text);
    let rejects = folder.path().join("rejects.txt");
    let settings = ReadSettings {
        rejects: Some(rejects.clone()),
        ..ReadSettings::default()
    };
    let (listens, report) = read_with(&[path], &settings).unwrap();
    assert_eq!(listens.len(), 4, "duplicates are passed on");
    let table = [
        (Reason::WrongColumns, 1, 3),
        (Reason::BadTime, 1, 4),
        (Reason::InvalidUtf8, 1, 5),
        (Reason::ImplausibleTime, 2, 6),
        (Reason::NoUser, 1, 8),
        (Reason::NoTrack, 1, 9),
        (Reason::TooLong, 1, 10),
    ];
    let kept = String::from_utf8_lossy(&std::fs::read(rejects).unwrap()).into_owned();
    for (reason, count, line) in table {
        assert_eq!(report.rejected.of(reason), count, "{reason}");
        let place = format!("mixed.tsv:{line}\t{reason}\t");
        assert!(kept.contains(&place), "{place}");
    }
    assert_eq!(report.rejected.bad(), 8);
    assert_eq!(kept.lines().count(), 8);
    assert!(kept.len() < 8 * 1024, "a long row is not kept whole");
    assert!(report.examples[0].ends_with("mixed.tsv:3: not 6 columns"));
}

#[test]
fn a_folder_is_searched_for_logs_and_what_else_is_there_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("b")).unwrap();
    write(
        folder.path(),
        "b/second.tsv.gz",
        &gzip(log(2, 5).as_bytes()),
    );
    write(folder.path(), "a.tsv", log(1, 5).as_bytes());
    write(folder.path(), "other.tsv", b"bin\tcount\n0.1\t5\n");
    write(folder.path(), "empty.tsv", b"");
    write(folder.path(), "picture.png", b"\x89PNG");
    write(
        folder.path(),
        "userid-profile.tsv",
        b"#id\tgender\tage\tcountry\tregistered\n",
    );
    let inputs = segue_replay::Inputs::find(&[folder.path()]).unwrap();
    let names: Vec<_> = inputs
        .logs
        .iter()
        .map(|l| l.path.file_name().unwrap())
        .collect();
    assert_eq!(names, ["a.tsv", "second.tsv.gz"]);
    let passed: Vec<_> = inputs
        .passed_over
        .iter()
        .map(|(p, _)| p.file_name().unwrap())
        .collect();
    assert_eq!(passed, ["empty.tsv", "other.tsv"]);
    assert_eq!(read_all(&[folder.path().to_owned()]).unwrap().0.len(), 15);
}

#[test]
fn profiles_are_read_wherever_they_lie_beside_a_log() {
    let table = "#id\tgender\tage\tcountry\tregistered\n\
                 user_000001\tm\t\tJapan\tAug 13, 2006\n\
                 user_000002\tf\t\tPeru\tFeb 24, 2006\n\
                 user_000003\tm\t22\t\tOct 30, 2005\n\
                 user_000004\tno\n";
    let log = log(3, 5);
    let folder = tempfile::tempdir().unwrap();
    let archive = tar(&[
        ("lastfm-dataset-1K/userid-profile.tsv", table.as_bytes()),
        (
            "lastfm-dataset-1K/userid-timestamp-artid-artname-traid-traname.tsv",
            log.as_bytes(),
        ),
    ]);
    let archive = write(folder.path(), "lastfm-dataset-1K.tar.gz", &gzip(&archive));
    let loose = folder.path().join("loose");
    std::fs::create_dir(&loose).unwrap();
    write(&loose, "log.tsv", log.as_bytes());
    let profile = write(&loose, "userid-profile.tsv.gz", &gzip(table.as_bytes()));
    let named = vec![loose.join("log.tsv"), profile];
    for paths in [
        vec![archive.clone()],
        vec![loose],
        named,
        vec![folder.path().to_owned()],
    ] {
        let (_, report) = read_all(&paths).unwrap();
        let found = (report.profiles.listeners, report.profiles.countries);
        assert_eq!(found, (3, 2), "{paths:?}");
        assert!(
            report.examples[0].ends_with(":5: not 6 columns"),
            "{:?}",
            report.examples
        );
    }
    let (_, report) = read_all(&[folder.path().join("loose/log.tsv")]).unwrap();
    assert_eq!(report.profiles.listeners, 0);
}

#[test]
fn unknown_settings_are_refused() {
    for text in [
        "{\"reed\":{}}",
        "{\"read\":{\"max_row\":1}}",
        "{\"deliver\":{\"topics\":\"x\"}}",
        "{\"merge\":{\"threads\":1}}",
        "{\"deliver\":{\"pace\":{\"warp\":9}}}",
    ] {
        let error = serde_json::from_str::<segue_replay::ReplaySettings>(text).unwrap_err();
        assert!(error.to_string().contains("unknown"), "{error}");
    }
    let empty: segue_replay::ReplaySettings = serde_json::from_str("{}").unwrap();
    assert_eq!(empty, segue_replay::ReplaySettings::default());
}
