use super::*;
use crate::test_server::{Answer, Route, Server, client};

fn content() -> Vec<u8> {
    (0..700_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 21) as u8)
        .collect()
}

/// A server that gives the content at one address by these answers, then well.
fn server(answers: Vec<Answer>) -> (Server, String) {
    let server = Server::start();
    let address = server.route("/file.tar.gz", Route::of(content()).answering(answers));
    (server, address)
}

fn published(addresses: &[&str]) -> Published {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content()).unwrap();
    let none = Checksum::Md5(String::new());
    Published {
        name: "test".to_owned(),
        file_name: "file.tar.gz".to_owned(),
        addresses: addresses.iter().map(|a| Address::open(*a)).collect(),
        checksum: Some(Checksum::Md5(none.of_file(file.path()).unwrap())),
    }
}

fn fetch(published: &Published, folder: &Path) -> Result<PathBuf, DownloadError> {
    let go = AtomicBool::new(false);
    download(&client(), published, folder, &go, &mut |_| {})
}

fn names(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_broken_connection_is_taken_up_where_it_broke() {
    let folder = tempfile::tempdir().unwrap();
    let (server, address) = server(vec![Answer::Cut(100_000), Answer::Cut(1), Answer::Well]);
    let path = fetch(&published(&[&address]), folder.path()).unwrap();
    assert!(std::fs::read(&path).unwrap() == content());
    let ranges = server.ranges();
    assert_eq!(ranges.len(), 3);
    assert_eq!(ranges[0], None);
    assert_eq!(ranges[2].as_deref(), Some("bytes=100001-"));
    assert_eq!(names(folder.path()), ["file.tar.gz"], "no part is left");
    // It is there: nothing is asked for again.
    assert_eq!(
        fetch(&published(&["http://127.0.0.1:1/"]), folder.path()).unwrap(),
        path
    );
}

#[test]
fn it_may_break_often_as_long_as_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (server, address) = server(vec![Answer::Cut(10_000); 20]);
    fetch(&published(&[&address]), folder.path()).unwrap();
    assert_eq!(server.asked().len(), 21);
    // One that always begins again and never gets further is given up.
    let folder = tempfile::tempdir().unwrap();
    let part = folder.path().join("file.tar.gz.part");
    std::fs::write(&part, &content()[..10_000]).unwrap();
    let answers = vec![vec![Answer::Misplaced, Answer::Cut(10_000)]; 25].concat();
    let (stubborn, address) = self::server(answers);
    let error = fetch(&published(&[&address]), folder.path());
    assert!(
        matches!(error, Err(DownloadError::Unreachable { .. })),
        "{error:?}"
    );
    assert!(
        stubborn.asked().len() < 20,
        "{} attempts",
        stubborn.asked().len()
    );
}

#[test]
fn a_part_of_an_earlier_run_is_gone_on_with_or_begun_again() {
    for (answer, part) in [
        (Answer::Well, 5_000),
        (Answer::Whole, 5_000),
        (Answer::Well, 700_000),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file.tar.gz.part"), &content()[..part]).unwrap();
        let (server, address) = server(vec![answer]);
        let path = fetch(&published(&[&address]), folder.path()).unwrap();
        assert!(std::fs::read(path).unwrap() == content());
        assert_eq!(server.ranges()[0], Some(format!("bytes={part}-")));
    }
}

#[test]
fn the_mirror_steps_in() {
    let folder = tempfile::tempdir().unwrap();
    let (first, gone) = server(vec![Answer::Status(404)]);
    let (_second, there) = server(vec![]);
    fetch(&published(&[&gone, &there]), folder.path()).unwrap();
    assert_eq!(first.asked().len(), 1, "a 404 is not asked twice");
}

#[test]
fn a_wrong_checksum_is_said_and_the_file_kept_aside() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start();
    let address = server.route("/file.tar.gz", Route::of("something else"));
    let published = published(&[&address]);
    let error = fetch(&published, folder.path()).unwrap_err().to_string();
    let digits = published.checksum.unwrap().digits().to_owned();
    assert!(
        error.contains(&digits) && error.contains("MD5") && error.contains(".wrong-checksum"),
        "{error}"
    );
    assert_eq!(names(folder.path()), ["file.tar.gz.wrong-checksum"]);
}

#[test]
fn where_no_address_answers_each_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, gone) = server(vec![Answer::Status(410)]);
    let error = fetch(&published(&["http://127.0.0.1:1/x", &gone]), folder.path());
    let error = error.unwrap_err().to_string();
    for part in [
        "127.0.0.1:1/x",
        gone.as_str(),
        "status 410",
        "proxy",
        ".part",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn who_is_not_let_in_is_told_so() {
    for status in [401, 403] {
        let folder = tempfile::tempdir().unwrap();
        let (server, address) = server(vec![Answer::Status(status); 9]);
        match fetch(&published(&[&address]), folder.path()) {
            Err(DownloadError::Denied { status: told, .. }) => assert_eq!(told, status),
            other => panic!("{other:?}"),
        }
        assert_eq!(server.asked().len(), 1, "asking again does not help");
    }
}

#[test]
fn a_stop_keeps_what_came() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, address) = server(vec![]);
    let stop = AtomicBool::new(false);
    let published = published(&[&address]);
    let error = download(&client(), &published, folder.path(), &stop, &mut |p| {
        assert_eq!(p.total, Some(700_000));
        stop.store(p.bytes > 0, Ordering::Relaxed);
    });
    let DownloadError::Stopped { part, bytes } = error.unwrap_err() else {
        panic!("not stopped")
    };
    assert_eq!(std::fs::metadata(part).unwrap().len(), bytes);
    assert!(bytes > 0);
    fetch(&published, folder.path()).unwrap();
}

#[test]
fn what_the_disk_cannot_hold_is_not_begun() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, address) = server(vec![Answer::Claims(1 << 60)]);
    match fetch(&published(&[&address]), folder.path()) {
        Err(DownloadError::NoRoom { missing, free, .. }) => {
            assert_eq!(missing, 1 << 60);
            assert!(free > 0);
        }
        other => panic!("{other:?}"),
    }
    let part = folder.path().join("file.tar.gz.part");
    assert_eq!(std::fs::metadata(part).unwrap().len(), 0);
}

#[test]
fn a_disk_that_fills_up_is_told_from_other_troubles() {
    let folder = tempfile::tempdir().unwrap();
    // A device whose every write says that there is no room left.
    std::os::unix::fs::symlink("/dev/full", folder.path().join("file.tar.gz.part")).unwrap();
    let (_server, address) = server(vec![]);
    let error = fetch(&published(&[&address]), folder.path()).unwrap_err();
    assert!(matches!(error, DownloadError::NoRoom { .. }), "{error:?}");
    let said = error.to_string();
    assert!(
        said.contains("700000 bytes") && said.contains("free some"),
        "{said}"
    );
}

#[test]
fn two_downloads_of_one_file_do_not_mix() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, address) = server(vec![]);
    let published = published(&[&address]);
    let mut inner = None;
    let go = AtomicBool::new(false);
    download(&client(), &published, folder.path(), &go, &mut |_| {
        inner.get_or_insert_with(|| fetch(&published, folder.path()));
    })
    .unwrap();
    let inner = inner.unwrap();
    assert!(
        matches!(inner, Err(DownloadError::Busy { .. })),
        "{inner:?}"
    );
}
