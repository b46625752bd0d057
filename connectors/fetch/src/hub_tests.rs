use super::*;
use crate::test_server::{Answer, Route, Server, client};

const SHA256: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
const BLOB: &str = "ce013625030ba8dba906f756967f9e9ca394464a";

fn hub(server: &Server) -> Hub {
    Hub::new(&format!("{}/", server.address), None)
}

#[test]
fn a_revision_is_a_commit_and_its_files() {
    let server = Server::start();
    // A branch with a slash is one segment of the address.
    let told = r#"{"id":"a/b","sha":"abc123","siblings":[{"rfilename":"config.json"},{"rfilename":"x/y"}]}"#;
    server.route(
        "/api/models/a/b/revision/refs%2Fpr%2F1",
        Route::of(told).answering(vec![Answer::Status(503), Answer::Cut(5)]),
    );
    let snapshot = |revision| hub(&server).snapshot(&client(), "a/b", revision);
    assert!(matches!(
        snapshot("refs/pr/1"),
        Err(HubError::Unexpected { .. })
    ));
    let found = snapshot("refs/pr/1").unwrap();
    assert_eq!(found.commit, "abc123");
    assert_eq!(found.files, ["config.json", "x/y"]);
    let error = snapshot("none").unwrap_err().to_string();
    assert!(
        error.contains("revision/none") && error.contains("404"),
        "{error}"
    );
}

#[test]
fn a_large_file_says_its_checksum_before_it_leads_to_its_store() {
    let server = Server::start();
    let store = server.route("/store", Route::of("never asked for"));
    server.route(
        "/a/b/resolve/c0ffee/model.safetensors",
        Route::of("")
            .answering(vec![Answer::Moved(store)])
            .header("X-Linked-Etag", format!("\"{SHA256}\""))
            .header("X-Linked-Size", "6")
            .header("ETag", "\"something else\""),
    );
    let file = hub(&server).file(&client(), "a/b", "c0ffee", "model.safetensors");
    let file = file.unwrap();
    assert_eq!(file.checksum, Some(Checksum::Sha256(SHA256.to_owned())));
    assert_eq!(file.bytes, Some(6));
    assert_eq!(server.asked().len(), 1);
    assert_eq!(server.asked()[0].method, "HEAD");
}

#[test]
fn a_small_file_says_what_git_calls_it_and_a_mirror_may_say_nothing() {
    let server = Server::start();
    let small = Route::of("hello\n").header("ETag", format!("W/\"{BLOB}\""));
    server.route("/a/b/resolve/c0ffee/config.json", small);
    server.route(
        "/a/b/resolve/c0ffee/plain",
        Route::of("hello\n").header("ETag", "\"v1\""),
    );
    let file = |path| hub(&server).file(&client(), "a/b", "c0ffee", path).unwrap();
    let config = file("config.json");
    assert_eq!(config.checksum, Some(Checksum::GitBlob(BLOB.to_owned())));
    assert_eq!((config.bytes, file("plain").checksum), (Some(6), None));
}

#[test]
fn a_renamed_repository_is_followed() {
    let server = Server::start();
    let moved = Answer::Moved("/new/b/resolve/c0ffee/config.json".to_owned());
    server.route(
        "/old/b/resolve/c0ffee/config.json",
        Route::of("").answering(vec![moved]),
    );
    server.route("/new/b/resolve/c0ffee/config.json", Route::of("hello\n"));
    let file = hub(&server)
        .file(&client(), "old/b", "c0ffee", "config.json")
        .unwrap();
    assert_eq!(file.bytes, Some(6), "that of the new place");
    // In a circle, not for ever.
    let around = Answer::Moved("/x/b/resolve/c0ffee/config.json".to_owned());
    server.route(
        "/x/b/resolve/c0ffee/config.json",
        Route::of("").answering(vec![around; 99]),
    );
    let error = hub(&server).file(&client(), "x/b", "c0ffee", "config.json");
    assert!(matches!(error, Err(HubError::Unexpected { .. })));
}

#[test]
fn who_is_not_let_in_learns_how_and_the_token_is_not_quoted() {
    let server = Server::start();
    let gated = Route {
        authorization: Some("Bearer hunter2".to_owned()),
        ..Route::of("hello\n")
    };
    server.route("/meta/l/resolve/c0ffee/config.json", gated);
    let file = tempfile::NamedTempFile::new().unwrap();
    let ask = |token: Option<&str>| {
        let token = token.map(|text| {
            std::fs::write(file.path(), text).unwrap();
            Secret::File(file.path().to_owned())
        });
        let hub = Hub::new(&server.address, token);
        hub.file(&client(), "meta/l", "c0ffee", "config.json")
    };
    for (token, word) in [
        (None, "without a token"),
        (Some("hunter3"), "may not be granted yet"),
    ] {
        let error = ask(token).unwrap_err();
        let said = format!("{error} {error:?}");
        for part in [
            word,
            "HF_TOKEN",
            "/settings/tokens",
            "/meta/l",
            "--token-file",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(!said.contains("hunter"), "{said}");
    }
    assert_eq!(ask(Some("hunter2")).unwrap().bytes, Some(6));
}

#[test]
fn offline_and_a_stranger_are_told_apart() {
    let nobody = Hub::new("http://127.0.0.1:1", None);
    let error = nobody.snapshot(&client(), "a/b", "main").unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains("offline") && said.contains("HF_ENDPOINT"),
        "{said}"
    );
    let server = Server::start();
    server.route(
        "/api/models/a/b/revision/main",
        Route::of("<html>hello</html>"),
    );
    let error = hub(&server).snapshot(&client(), "a/b", "main").unwrap_err();
    assert!(error.to_string().contains("endpoint"), "{error}");
    let error = Hub::new("huggingface", None).snapshot(&client(), "a/b", "main");
    assert!(matches!(error, Err(HubError::Unexpected { .. })));
}
