use std::path::{Path, PathBuf};

use segue_listen::{Span, TrackKey};
use segue_replay::formats::{Container, profile};
use segue_replay::{Reason, Rejects};

use crate::{read_all, write};

/// The folder of real logs, if this machine has it.
fn data() -> Option<PathBuf> {
    let folder = match std::env::var_os("SEGUE_DATA") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
    };
    if folder.is_dir() {
        return Some(folder);
    }
    println!(
        "skipped: no real logs at {} (set SEGUE_DATA)",
        folder.display()
    );
    None
}

/// `zstdcat FILES | wc -l`, `| cut -f1 | sort -u | wc -l`.
#[test]
fn the_lastfm_logs_count_as_they_should() {
    let Some(data) = data() else { return };
    let paths = [
        "lastfm1k/genuine_merged.tsv.zst",
        "converted/lfm1b_as_lastfm1k.tsv.zst",
        "converted/jodie_as_lastfm1k.tsv.zst",
    ];
    let (listens, report) = read_all(&paths.map(|path| data.join(path))).unwrap();
    assert_eq!(listens.len(), 186_160);
    assert_eq!(report.rejected.bad(), 0, "{:?}", report.examples);
    assert!(listens.is_sorted_by_key(|l| l.at));
    let users: std::collections::HashSet<_> = listens.iter().map(|l| &l.user).collect();
    assert_eq!(users.len(), 330);
    assert_eq!(report.first, listens.first().map(|l| l.at));
    assert_eq!(report.last, listens.last().map(|l| l.at));
}

#[test]
fn the_profiles_are_992() {
    let Some(data) = data() else { return };
    let mut rejects = Rejects::counted();
    let path = data.join("lastfm1k/userid-profile.tsv.zst");
    let profiles = profile::read(&path, Container::File, &mut rejects).unwrap();
    assert_eq!((profiles.len(), rejects.counts().bad()), (992, 0));
    let first = &profiles[0];
    assert_eq!(
        (first.user.as_str(), first.gender, first.age),
        ("user_000001", Some('m'), None)
    );
    assert_eq!(first.country.as_deref(), Some("Japan"));
    assert_eq!(first.registered.unwrap().to_string(), "2006-08-13");
}

#[test]
fn listenbrainz_dump_rows_are_read_with_their_lengths() {
    let Some(data) = data() else { return };
    let path = data.join("listenbrainz_sample/listens_sample.jsonl.zst");
    let (listens, report) = read_all(&[path]).unwrap();
    assert_eq!((listens.len(), report.rejected.bad()), (100, 0));
    let users: std::collections::HashSet<_> = listens.iter().map(|l| &l.user).collect();
    assert_eq!(users.len(), 98);
    // 46 rows have duration_ms, 7 others duration; some state 0.
    let with_length = listens.iter().filter(|l| l.duration.is_some()).count();
    assert!((46..=53).contains(&with_length), "{with_length}");
    let one = listens
        .iter()
        .find(|l| l.title == "Blue Charlie Brown")
        .unwrap();
    assert_eq!(
        one.track.to_string(),
        "f8d186be-5bdf-4e2d-883a-0a3c4d7a9989"
    );
    assert_eq!(one.duration, Some(Span::from_millis(449_000)));
    assert_eq!(
        (one.user.as_str(), one.at.millis()),
        ("csaavedra", 1_704_067_200_000)
    );
}

#[test]
fn listenbrainz_exports_and_their_oddities() {
    let folder = tempfile::tempdir().unwrap();
    let rows = [
        // A user's export does not say who it is.
        r#"{"listened_at":1700000000,"track_metadata":{"artist_name":"A","track_name":"T","mbid_mapping":{"recording_mbid":"f8d186be-5bdf-4e2d-883a-0a3c4d7a9989"},"additional_info":{"duration":"200","duration_played":50}}}"#,
        r#"{"listened_at":1700000001,"user_name":"x","track_metadata":{"artist_name":"A","track_name":"T","mbid_mapping":null,"additional_info":{"duration_ms":[1],"recording_mbid":7}}}"#,
        r#"{"listened_at":1700000002,"user_name":"","track_metadata":{"artist_name":"A","track_name":"T"}}"#,
        r#"{"listened_at":null,"user_name":"x","track_metadata":{"artist_name":"A","track_name":"T"}}"#,
        r#"{"listened_at":1700000000000,"user_name":"x","track_metadata":{"artist_name":"A","track_name":"T"}}"#,
        r#"{"listened_at":1700000003,"user_name":"x","track_metadata":{}}"#,
        r#"{"listened_at":1700000003,"user_name":"x"}"#,
        r#"{"listened_at":1700000003,"#,
    ];
    let path = write(folder.path(), "1.jsonl", rows.join("\n").as_bytes());
    let (listens, report) = read_all(&[path]).unwrap();
    assert_eq!(listens.len(), 2);
    assert_eq!(listens[0].user, "listener");
    assert_eq!(
        listens[0].track.to_string(),
        "f8d186be-5bdf-4e2d-883a-0a3c4d7a9989"
    );
    assert_eq!(listens[0].duration, Some(Span::from_seconds(200)));
    assert_eq!(listens[0].played, Some(Span::from_seconds(50)));
    assert_eq!(
        (listens[1].duration, listens[1].track),
        (None, TrackKey::from_names("A", "T"))
    );
    for (reason, count) in [
        (Reason::NoUser, 1),
        (Reason::BadTime, 1),
        (Reason::ImplausibleTime, 1),
        (Reason::NoTrack, 1),
        (Reason::BadJson, 2),
    ] {
        assert_eq!(report.rejected.of(reason), count, "{reason}");
    }
}

#[test]
fn a_spotify_play_began_before_its_time_stamp() {
    let folder = tempfile::tempdir().unwrap();
    let history = r#"[
  {"ts":"2023-01-01T10:00:00Z","username":"me","ms_played":60000,"master_metadata_track_name":"T","master_metadata_album_artist_name":"A","spotify_track_uri":"spotify:track:1","episode_name":null},
  {"ts":"2023-01-01T09:00:00Z","username":"me","ms_played":900000,"master_metadata_track_name":null,"master_metadata_album_artist_name":null,"episode_name":"talk"},
  {"ts":"2023-01-01T09:30:00Z","ms_played":-5,"master_metadata_track_name":"U","master_metadata_album_artist_name":"A"},
  {"ts":"yesterday","ms_played":5,"master_metadata_track_name":"U","master_metadata_album_artist_name":"A"},
  17, {"ts": }
]"#;
    let path = write(
        folder.path(),
        "Streaming_History_Audio_2023_0.json",
        history.as_bytes(),
    );
    let (listens, report) = read_all(&[path]).unwrap();
    assert_eq!(listens.len(), 2);
    let (other, play) = (&listens[0], &listens[1]);
    assert_eq!(play.at.to_rfc3339(), "2023-01-01T09:59:00Z");
    assert_eq!(
        (play.played, play.user.as_str()),
        (Some(Span::from_seconds(60)), "me")
    );
    assert_eq!((other.played, other.user.as_str()), (None, "listener"));
    for (reason, count) in [
        (Reason::NotMusic, 1),
        (Reason::BadTime, 1),
        (Reason::BadJson, 2),
    ] {
        assert_eq!(report.rejected.of(reason), count, "{reason}");
    }
    assert_eq!(report.rejected.bad(), 3);
    assert!(
        report.examples[1].contains("0.json:6: "),
        "{:?}",
        report.examples
    );
}
