//! A real Apache Kafka broker for tests: one node, KRaft, on loopback, in a temporary folder.
//!
//! `make setup-kafka` puts the jars into `.kafka/libs` of the checkout; this module formats a
//! storage folder, starts the broker on ports that were free a moment ago, and asks it for metadata
//! until it answers. The broker lives as long as the [`Broker`] value and not longer, even if the
//! test process is killed: a shell stands between, and ends the broker when the pipe to the test
//! breaks. It knows nothing of sources and sinks.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tempfile::TempDir;

mod certificates;
mod listeners;

pub use certificates::Certificates;
use listeners::{Listener, Listeners};

/// The user that the authenticated listener knows ([`Broker::authenticated`]).
pub const USER: &str = "segue";
/// The password of [`USER`].
pub const PASSWORD: &str = "open-sesame";

/// How often the broker is asked for metadata before it is given up.
const READY_ATTEMPTS: u32 = 180;
/// How long one such question may take; with [`READY_ATTEMPTS`] it bounds the start to 90 s.
const READY_PATIENCE: Duration = Duration::from_millis(500);
/// How many sets of ports are tried when others take them first.
const PORT_ATTEMPTS: u32 = 4;
/// How much of the end of the broker's log an error quotes, in bytes.
const LOG_TAIL: u64 = 1500;

/// Why there is no broker to test against.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The jars are not there; run the set-up.
    #[error("no kafka jars in {0}: run `make setup-kafka` (needs Java 17 and Maven)")]
    NotInstalled(PathBuf),
    /// There is no Java to run it with.
    #[error(
        "cannot run {java}: {cause}; install Java 17 (`apt-get install openjdk-17-jdk-headless`), then `make setup-kafka`"
    )]
    NoJava {
        /// What was tried.
        java: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The folder or a file in it cannot be made.
    #[error("cannot prepare the broker's folder {path}: {cause}; is TMPDIR writable and not full?")]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The storage tool refused, or the broker ended or did not answer in time.
    #[error("{what}; its log is {log} and ends with:\n{tail}")]
    Failed {
        /// What happened.
        what: String,
        /// The log, kept on disk.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },
    /// A certificate could not be made.
    #[error("cannot make the broker's certificates: {0}")]
    Certificates(#[from] openssl::error::ErrorStack),
    /// Ports found free were taken by others before the broker could bind them, several times.
    #[error(
        "ports {0} and others before them were taken before the broker could bind them; end what takes them, or run the tests again"
    )]
    PortTaken(String),
}

/// A running broker; ends when dropped.
pub struct Broker {
    process: Child,
    listeners: Listeners,
    certificates: Option<Certificates>,
    folder: TempDir,
    /// Starts it on its folder and ports.
    start: Command,
}

impl Broker {
    /// Starts a broker and returns once it has answered a metadata request.
    ///
    /// # Errors
    /// See [`BrokerError`]; each names what to install or which log to read.
    pub fn start() -> Result<Self, BrokerError> {
        Self::start_with(&libs(), &java(), false)
    }

    /// The same with encrypted listeners beside the open one, which take it longer to start:
    /// [`Broker::encrypted`], [`Broker::encrypted_authenticated`], [`Broker::mutual`] and
    /// [`Broker::elsewhere`].
    ///
    /// # Errors
    /// As [`Broker::start`].
    pub fn secured() -> Result<Self, BrokerError> {
        Self::start_with(&libs(), &java(), true)
    }

    /// The broker that other tests of this process use at the moment, or else a new one. It ends
    /// with its last user.
    ///
    /// # Errors
    /// As [`Broker::start`].
    pub fn shared() -> Result<Arc<Self>, BrokerError> {
        static SHARED: Mutex<Weak<Broker>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(broker) = shared.upgrade() {
            return Ok(broker);
        }
        let broker = Arc::new(Self::start()?);
        *shared = Arc::downgrade(&broker);
        Ok(broker)
    }

    fn start_with(libs: &Path, java: &Path, secured: bool) -> Result<Self, BrokerError> {
        let installed = std::fs::read_dir(libs).is_ok_and(|mut jars| jars.next().is_some());
        if !installed {
            return Err(BrokerError::NotInstalled(libs.to_owned()));
        }
        let mut tried = String::new();
        for _ in 0..PORT_ATTEMPTS {
            let listeners = Listeners::free(secured)?;
            let on = listeners.to_string();
            match Self::start_on(libs, java, listeners) {
                Err(BrokerError::Failed { tail, .. }) if port_was_taken(&tail) => tried = on,
                other => return other,
            }
        }
        Err(BrokerError::PortTaken(tried))
    }

    /// `host:port` of the open listener.
    pub fn address(&self) -> String {
        self.listeners.address(Listener::Plaintext)
    }

    /// `host:port` of the listener that wants SASL PLAIN with [`USER`] and [`PASSWORD`].
    pub fn authenticated(&self) -> String {
        self.listeners.address(Listener::Auth)
    }

    /// `host:port` of the listener that speaks TLS and asks nobody who they are.
    pub fn encrypted(&self) -> String {
        self.listeners.address(Listener::Tls)
    }

    /// `host:port` of the listener that speaks TLS and wants [`USER`] and [`PASSWORD`], by PLAIN or
    /// either SCRAM.
    pub fn encrypted_authenticated(&self) -> String {
        self.listeners.address(Listener::AuthTls)
    }

    /// `host:port` of the listener that speaks TLS to who shows a certificate.
    pub fn mutual(&self) -> String {
        self.listeners.address(Listener::Mutual)
    }

    /// `host:port` of the listener that speaks TLS with a certificate of another host.
    pub fn elsewhere(&self) -> String {
        self.listeners.address(Listener::Elsewhere)
    }

    /// What the encrypted listeners' clients need; there if the broker is [`Broker::secured`].
    pub const fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// The broker's log: what to read when a test fails for no reason of its own.
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("broker.log")
    }

    fn start_on(libs: &Path, java: &Path, listeners: Listeners) -> Result<Self, BrokerError> {
        let folder = tempfile::Builder::new()
            .prefix("segue-kafka-")
            .tempdir()
            .map_err(|cause| BrokerError::Folder {
                path: std::env::temp_dir(),
                cause,
            })?;
        let properties = folder.path().join("server.properties");
        let certificates = match listeners.secured() {
            true => Some(Certificates::make(folder.path())?),
            false => None,
        };
        let text = listeners.properties(folder.path(), certificates.as_ref());
        std::fs::write(&properties, text).map_err(|cause| BrokerError::Folder {
            path: properties.clone(),
            cause,
        })?;
        let path = folder.path().join("broker.log");
        let log = File::create(&path).map_err(|cause| BrokerError::Folder {
            path: path.clone(),
            cause,
        })?;

        let formatted = quiet(&mut jvm(java, libs), &log)?
            .args(["kafka.tools.StorageTool", "format", "--standalone"])
            // A cluster's identity is 16 bytes in base64url; a test's need not be unique.
            .args(["-t", "c2VndWUtdGVzdC1icm9rZQ", "-c"])
            .arg(&properties)
            .args(listeners.users())
            .status()
            .map_err(|cause| BrokerError::NoJava {
                java: java.to_owned(),
                cause,
            })?;
        if !formatted.success() {
            return Err(failed(
                format!("kafka's storage tool ended with {formatted}"),
                folder,
            ));
        }

        let mut start = guarded(jvm(java, libs).arg("kafka.Kafka").arg(&properties));
        quiet(&mut start, &log)?.stdin(Stdio::piped());
        let process = start.spawn().map_err(|cause| BrokerError::NoJava {
            java: java.to_owned(),
            cause,
        })?;
        let mut broker = Self {
            process,
            listeners,
            certificates,
            folder,
            start,
        };
        broker.answers()?;
        Ok(broker)
    }

    /// Ends it by `kill -9`, in the middle of whatever it does. Its folder stays.
    pub fn kill(&mut self) {
        self.end();
    }

    /// Starts it again after [`Broker::kill`], on the same folder and ports, and returns once it has
    /// answered. Its log is added to.
    ///
    /// # Errors
    /// As [`Broker::start`]; another process may have taken a port meanwhile.
    pub fn restart(&mut self) -> Result<(), BrokerError> {
        self.end();
        self.process = self.start.spawn().map_err(|cause| BrokerError::NoJava {
            java: self.start.get_program().into(),
            cause,
        })?;
        self.answers()
    }

    /// Waits until it is ready; one that is not to be is ended, and its log kept.
    fn answers(&mut self) -> Result<(), BrokerError> {
        self.wait_until_ready().map_err(|what| {
            self.end();
            self.folder.disable_cleanup(true);
            failed_at(what, &self.log())
        })
    }

    /// Asks for metadata until the broker names itself in it: no sleep, no guess.
    fn wait_until_ready(&mut self) -> Result<(), String> {
        let asker: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.address())
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "200")
            // Refused connections are what is expected until it is up.
            .set("log_level", "0")
            .create()
            .map_err(|error| format!("cannot make a client for the new broker: {error}"))?;
        for _ in 0..READY_ATTEMPTS {
            if let Ok(Some(status)) = self.process.try_wait() {
                return Err(format!(
                    "the broker on {} ended with {status}",
                    self.listeners
                ));
            }
            let answer = asker.fetch_metadata(None, READY_PATIENCE);
            if answer.is_ok_and(|cluster| !cluster.brokers().is_empty()) {
                return Ok(());
            }
        }
        Err(format!(
            "the broker on {} did not answer within 90 s",
            self.listeners
        ))
    }

    /// Breaks the pipe, on which the shell kills the broker, and collects both.
    fn end(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            self.folder.disable_cleanup(true);
            eprintln!("the broker's log is kept in {}", self.log().display());
        }
    }
}

/// `.kafka/libs` of the checkout, or what `SEGUE_KAFKA_LIBS` names.
fn libs() -> PathBuf {
    std::env::var_os("SEGUE_KAFKA_LIBS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.kafka/libs"),
        PathBuf::from,
    )
}

/// `$JAVA_HOME/bin/java`, or `java` from the PATH: the same choice as the set-up's.
fn java() -> PathBuf {
    std::env::var_os("JAVA_HOME")
        .map_or_else(|| "java".into(), |home| Path::new(&home).join("bin/java"))
}

/// A JVM small and quick enough for a test.
fn jvm(java: &Path, libs: &Path) -> Command {
    let mut command = Command::new(java);
    command
        .args([
            "-Xms64m",
            "-Xmx512m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-cp",
        ])
        .arg(libs.join("*"));
    command
}

/// Sends all that the command says into the log.
fn quiet<'a>(command: &'a mut Command, log: &File) -> Result<&'a mut Command, BrokerError> {
    let output = || {
        log.try_clone().map_err(|cause| BrokerError::Folder {
            path: "broker.log".into(),
            cause,
        })
    };
    Ok(command
        .stdin(Stdio::null())
        .stdout(output()?)
        .stderr(output()?))
}

/// The same command under a shell that kills it when our end of its input closes, for whatever
/// reason; so a test that is itself killed leaves no broker behind. Ends with the broker's status.
fn guarded(command: &Command) -> Command {
    const SCRIPT: &str = "exec 3<&0; \"$@\" </dev/null 3<&- & broker=$!; \
        (cat <&3 >/dev/null; kill -KILL $broker 2>/dev/null) & wait $broker";
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", SCRIPT, "broker"])
        .arg(command.get_program())
        .args(command.get_args());
    shell
}

fn port_was_taken(log_tail: &str) -> bool {
    log_tail.contains("Address already in use") || log_tail.contains("BindException")
}

/// An error whose log outlives the folder it is in.
fn failed(what: String, mut folder: TempDir) -> BrokerError {
    folder.disable_cleanup(true);
    failed_at(what, &folder.path().join("broker.log"))
}

fn failed_at(what: String, log: &Path) -> BrokerError {
    let tail = tail(log).unwrap_or_else(|cause| format!("(cannot be read: {cause})"));
    BrokerError::Failed {
        what,
        log: log.to_owned(),
        tail,
    }
}

fn tail(log: &Path) -> std::io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_installed_is_named_with_the_remedy() {
        let Err(error) = Broker::start_with(Path::new("/no/such/libs"), Path::new("java"), false)
        else {
            panic!("started from nothing");
        };
        let message = error.to_string();
        assert!(
            message.contains("/no/such/libs") && message.contains("make setup-kafka"),
            "{message}"
        );
        let libs = tempfile::tempdir().unwrap();
        std::fs::write(libs.path().join("x.jar"), "").unwrap();
        let Err(error) = Broker::start_with(libs.path(), Path::new("/no/such/java"), false) else {
            panic!("started without java");
        };
        let message = error.to_string();
        assert!(
            message.contains("/no/such/java") && message.contains("openjdk"),
            "{message}"
        );
    }

    #[test]
    fn a_broker_that_cannot_start_leaves_its_log() {
        let libs = tempfile::tempdir().unwrap();
        std::fs::write(libs.path().join("x.jar"), "").unwrap();
        // A `java` that complains and fails, as the real one does without the classes.
        let Err(error) = Broker::start_with(libs.path(), Path::new("/bin/ls"), false) else {
            panic!("started ls");
        };
        let BrokerError::Failed { log, tail, .. } = &error else {
            panic!("{error}")
        };
        assert!(log.exists() && !tail.is_empty(), "{error}");
        std::fs::remove_dir_all(log.parent().unwrap()).unwrap();
    }
}
