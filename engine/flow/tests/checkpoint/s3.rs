//! A real S3 server on loopback, and what only it has: credentials, a missing bucket, no answer.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use object_store::aws::AmazonS3Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use segue_flow::Remedy;
use segue_flow::checkpoint::{CheckpointSettings, CheckpointStore, S3Settings};
use segue_flow::secret::Secret;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::contract::{KEEP, Place, a_large_part_comes_back, holds, newest, take};

const KEY_ID: &str = "key-id";
const KEY: &str = "right";
const BUCKET: &str = "segue";

/// A server over a folder. Its thread ends with the test program.
struct Server {
    address: SocketAddr,
    folder: TempDir,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("served").join(BUCKET)).unwrap();
        let files = s3s_fs::FileSystem::new(folder.path().join("served")).unwrap();
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(KEY_ID, KEY));
        let service = service.build();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                let http = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                loop {
                    let (socket, _) = listener.accept().await.unwrap();
                    let connection = http.serve_connection(TokioIo::new(socket), service.clone());
                    tokio::spawn(connection.into_owned());
                }
            });
        });
        Self { address, folder }
    }

    fn settings(&self, url: &str, key: &str) -> CheckpointSettings {
        let secret = |name: &str, secret: &str| {
            let path: PathBuf = self.folder.path().join(name);
            std::fs::write(&path, format!("{secret}\n")).unwrap();
            Some(Secret::File(path))
        };
        CheckpointSettings {
            url: url.to_owned(),
            keep: KEEP,
            answer_within: Duration::from_secs(20),
            s3: S3Settings {
                endpoint: Some(format!("http://{}", self.address)),
                region: Some("eu-central-1".to_owned()),
                access_key_id: secret("id", KEY_ID),
                secret_access_key: secret(key, key),
                session_token: None,
                allow_http: true,
            },
            ..CheckpointSettings::default()
        }
    }
}

#[test]
fn a_real_s3_server_holds_the_contract() {
    let server = Server::start();
    let objects = AmazonS3Builder::new()
        .with_endpoint(format!("http://{}", server.address))
        .with_allow_http(true)
        .with_bucket_name(BUCKET)
        .with_access_key_id(KEY_ID)
        .with_secret_access_key(KEY);
    let objects = Arc::new(objects.build().unwrap());
    let places = AtomicU32::new(0);
    let anew = |clause: crate::contract::Clause<'_>| {
        let prefix = format!("engines/{}", places.fetch_add(1, Ordering::Relaxed));
        let settings = server.settings(&format!("s3://{BUCKET}/{prefix}"), KEY);
        clause(Place {
            open: &|| CheckpointStore::open(&settings).unwrap(),
            objects: objects.clone(),
            prefix: prefix.into(),
        });
    };
    holds(&anew);
    anew(&a_large_part_comes_back);
}

#[test]
fn a_bucket_may_be_used_without_a_prefix() {
    let server = Server::start();
    let mut store = CheckpointStore::open(&server.settings("s3://segue", KEY)).unwrap();
    take(&mut store, 1);
    let manifest = "served/segue/checkpoint-0000000001/manifest.json";
    assert!(server.folder.path().join(manifest).is_file());
    assert_eq!(newest(&store), Some(1));
}

#[test]
fn a_wrong_key_and_a_missing_bucket_are_for_people_to_mend() {
    let server = Server::start();
    for (url, key) in [("s3://segue/x", "wrong"), ("s3://nowhere/x", KEY)] {
        let store = CheckpointStore::open(&server.settings(url, key)).unwrap();
        let error = store.newest_good().unwrap_err();
        assert_eq!(error.remedy(), Remedy::Configure, "{error}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("may not list {url}: ")), "{text}");
        assert!(!text.contains(KEY) || key == KEY, "{text}");
    }
    let mut missing = server.settings("s3://segue/x", KEY);
    missing.s3.secret_access_key = Some(Secret::File("/no/such/key".into()));
    let error = CheckpointStore::open(&missing).unwrap_err().to_string();
    assert!(error.starts_with("checkpoint.s3.secret_access_key: file /no/such/key"));
    let mut in_clear = server.settings("s3://segue/x", KEY);
    in_clear.s3.allow_http = false;
    let error = CheckpointStore::open(&in_clear).unwrap_err().to_string();
    assert!(
        error.starts_with("checkpoint.s3.endpoint: http://"),
        "{error}"
    );
}

#[test]
fn a_server_that_does_not_answer_is_asked_again_later() {
    let server = Server::start();
    let mut settings = server.settings("s3://segue/x", KEY);
    // Nobody listens on a port that was just given back.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    settings.s3.endpoint = Some(format!("http://{}", port.local_addr().unwrap()));
    drop(port);
    settings.answer_within = Duration::from_millis(500);
    let mut store = CheckpointStore::open(&settings).unwrap();
    let error = store.begin(segue_flow::Epoch(1)).map(|_| ()).unwrap_err();
    assert_eq!(error.remedy(), Remedy::Retry, "{error}");
}
