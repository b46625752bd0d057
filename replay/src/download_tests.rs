use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use super::*;

/// How the server answers one request.
#[derive(Clone, Copy)]
enum Answer {
    /// As asked, with ranges.
    Well,
    /// The connection breaks after so many bytes.
    Cut(usize),
    /// The whole, whatever range was asked for.
    Whole,
    Status(u16),
}

/// A server on loopback that gives `content` to as many requests as there are answers, and notes
/// the `Range` of each.
struct Server {
    address: String,
    ranges: Arc<Mutex<Vec<Option<String>>>>,
}

impl Server {
    fn start(content: Vec<u8>, answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/file.tar.gz", listener.local_addr().unwrap());
        let ranges = Arc::new(Mutex::new(Vec::new()));
        let noted = ranges.clone();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut range = None;
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                while let Some(Ok(line)) = lines
                    .next()
                    .filter(|l| l.as_ref().is_ok_and(|l| !l.is_empty()))
                {
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("range: ") {
                        range = Some(value.to_owned());
                    }
                }
                noted.lock().unwrap().push(range.clone());
                let from = range
                    .as_deref()
                    .and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
                let from: usize = match answer {
                    Answer::Whole => 0,
                    _ => from.unwrap_or(0),
                };
                let total = content.len();
                let head = match answer {
                    Answer::Status(status) => format!("{status} X"),
                    _ if from >= total && total > 0 => "416 X".to_owned(),
                    _ if from > 0 => {
                        format!("206 X\r\nContent-Range: bytes {from}-{}/{total}", total - 1)
                    }
                    _ => "200 X".to_owned(),
                };
                let body: &[u8] = match head.starts_with('2') {
                    true => &content[from..],
                    false => b"",
                };
                let length = body.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                );
                let sent = match answer {
                    Answer::Cut(bytes) => &body[..bytes.min(length)],
                    _ => body,
                };
                let _ = stream.write_all(sent);
            }
        });
        Self { address, ranges }
    }
}

fn content() -> Vec<u8> {
    (0..700_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 21) as u8)
        .collect()
}

fn dataset(addresses: &[&str]) -> Dataset {
    Dataset {
        name: "test".to_owned(),
        file_name: "file.tar.gz".to_owned(),
        addresses: addresses.iter().map(|a| (*a).to_owned()).collect(),
        md5: Md5::digest(content())
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect(),
        notice: "for non-commercial use only.".to_owned(),
    }
}

fn fetch(dataset: &Dataset, folder: &Path) -> Result<PathBuf, DownloadError> {
    let go = AtomicBool::new(false);
    download_by(
        &agent(None),
        dataset,
        folder,
        Consent::Given,
        &go,
        &mut |_| {},
    )
}

#[test]
fn nothing_is_fetched_before_the_licence_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(content(), vec![Answer::Well]);
    let (dataset, go) = (dataset(&[&server.address]), AtomicBool::new(false));
    let error = download_by(
        &agent(None),
        &dataset,
        folder.path(),
        Consent::Missing,
        &go,
        &mut |_| {},
    );
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("non-commercial") && error.contains("--accept-licence"),
        "{error}"
    );
    assert!(server.ranges.lock().unwrap().is_empty());
}

#[test]
fn a_broken_connection_is_taken_up_where_it_broke() {
    let folder = tempfile::tempdir().unwrap();
    let answers = vec![Answer::Cut(100_000), Answer::Cut(1), Answer::Well];
    let server = Server::start(content(), answers);
    let path = fetch(&dataset(&[&server.address]), folder.path()).unwrap();
    assert!(std::fs::read(&path).unwrap() == content());
    let ranges = server.ranges.lock().unwrap().clone();
    assert_eq!(ranges.len(), 3);
    assert_eq!(ranges[0], None);
    assert_eq!(ranges[2].as_deref(), Some("bytes=100001-"));
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "no part is left"
    );
    // It is there: nothing is asked for again.
    assert_eq!(
        fetch(&dataset(&["http://127.0.0.1:1/"]), folder.path()).unwrap(),
        path
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
        let server = Server::start(content(), vec![answer]);
        let path = fetch(&dataset(&[&server.address]), folder.path()).unwrap();
        assert!(std::fs::read(path).unwrap() == content());
        let asked = format!("bytes={part}-");
        assert_eq!(
            server.ranges.lock().unwrap()[0].as_deref(),
            Some(asked.as_str())
        );
    }
}

#[test]
fn the_mirror_steps_in() {
    let folder = tempfile::tempdir().unwrap();
    let first = Server::start(content(), vec![Answer::Status(404)]);
    let second = Server::start(content(), vec![Answer::Well]);
    fetch(&dataset(&[&first.address, &second.address]), folder.path()).unwrap();
    assert_eq!(
        first.ranges.lock().unwrap().len(),
        1,
        "a 404 is not asked twice"
    );
}

#[test]
fn a_wrong_checksum_is_said_and_the_file_kept_aside() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(b"something else".to_vec(), vec![Answer::Well]);
    let error = fetch(&dataset(&[&server.address]), folder.path())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&dataset(&[]).md5) && error.contains(".wrong-checksum"),
        "{error}"
    );
    let kept = std::fs::read(folder.path().join("file.tar.gz.wrong-checksum")).unwrap();
    assert_eq!(kept, b"something else");
    assert!(!folder.path().join("file.tar.gz").exists());
}

#[test]
fn where_no_address_answers_each_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let gone = Server::start(content(), vec![Answer::Status(410)]);
    let error = fetch(
        &dataset(&["http://127.0.0.1:1/x", &gone.address]),
        folder.path(),
    );
    let error = error.unwrap_err().to_string();
    for part in [
        "127.0.0.1:1/x",
        gone.address.as_str(),
        "status 410",
        "proxy",
        ".part",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn a_stop_keeps_what_came() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(content(), vec![Answer::Well, Answer::Well]);
    let stop = AtomicBool::new(false);
    let dataset = dataset(&[&server.address]);
    let error = download_by(
        &agent(None),
        &dataset,
        folder.path(),
        Consent::Given,
        &stop,
        &mut |p| {
            assert_eq!(p.total, Some(700_000));
            stop.store(p.bytes > 0, Ordering::Relaxed);
        },
    );
    let DownloadError::Stopped { part, bytes } = error.unwrap_err() else {
        panic!("not stopped")
    };
    assert_eq!(std::fs::metadata(part).unwrap().len(), bytes);
    assert!(bytes > 0);
    fetch(&dataset, folder.path()).unwrap();
}

#[test]
fn the_known_data_set_is_complete() {
    let known = Dataset::named("lastfm-1k").unwrap();
    assert!(known.addresses.len() > 1 && known.md5.len() == 32);
    assert!(known.notice.contains("non-commercial") && known.notice.contains("Celma"));
    assert!(Dataset::named("netflix").is_none());
}
