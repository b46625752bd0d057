//! Health, readiness and Prometheus metrics over HTTP, on a small runtime of their own.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use segue_flow::clock::{MachineClock, WallClock, time_of_day};
use segue_flow::names;
use segue_listen::EventTime;

/// How often samples are summed up; between two times a histogram keeps every one of them.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// What the engine is doing, as health and readiness tell it: ready is only what reads and answers,
/// from [`Phase::running`] until it drains; healthy is all that is not stuck.
#[derive(Clone, Debug, Default)]
pub struct Phase {
    reached: Arc<AtomicU8>,
    stop: Arc<AtomicBool>,
    stuck: Arc<Mutex<Option<Stuck>>>,
}

/// That nothing moves though something waits.
#[derive(Clone, Debug)]
struct Stuck {
    /// By the machine's time of day.
    since: EventTime,
    what: String,
}

const NAMES: [&str; 5] = ["starting", "restoring", "running", "draining", "ended"];
const RESTORING: u8 = 1;
const RUNNING: u8 = 2;
const DRAINING: u8 = 3;
const ENDED: u8 = 4;

impl Phase {
    /// Starting; and draining as soon as `stop` is raised, without anybody calling
    /// [`Phase::draining`].
    pub fn until(stop: Arc<AtomicBool>) -> Self {
        Self {
            stop,
            ..Self::default()
        }
    }

    /// A checkpoint is looked for and taken up.
    pub fn restoring(&self) {
        self.reach(RESTORING);
    }

    /// The sources and the sink are open: what comes is worked on.
    pub fn running(&self) {
        self.reach(RUNNING);
    }

    /// Nothing more is read; what was read is still being written.
    pub fn draining(&self) {
        self.reach(DRAINING);
    }

    /// Everything is written.
    pub fn ended(&self) {
        self.reach(ENDED);
    }

    /// Something waits and nothing has moved for so long: what does not move, in words.
    pub fn stuck(&self, what: String, still: Duration) {
        let since = time_of_day().checked_sub(still);
        let since = since.and_then(|since| since.duration_since(UNIX_EPOCH).ok());
        let since = since.unwrap_or_default().as_millis();
        let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *stuck {
            Some(stuck) => stuck.what = what,
            None => {
                *stuck = Some(Stuck {
                    since: EventTime::from_millis(i64::try_from(since).unwrap_or(0)),
                    what,
                });
            }
        }
    }

    /// It is not stuck, or not any longer.
    pub fn moves(&self) {
        *self.stuck.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Phases are never gone back: who is late to say `running` does not undo `draining`.
    fn reach(&self, phase: u8) {
        self.reached.fetch_max(phase, Ordering::Relaxed);
    }

    fn reached(&self) -> u8 {
        let phase = self.reached.load(Ordering::Relaxed);
        match phase < DRAINING && self.stop.load(Ordering::Relaxed) {
            true => DRAINING,
            false => phase,
        }
    }

    /// Whether it answers listeners.
    fn ready(&self) -> (StatusCode, String) {
        self.answer(self.reached() == RUNNING)
    }

    /// Whether it does what it is there for: to start and to drain is well.
    fn health(&self) -> (StatusCode, String) {
        self.answer(true)
    }

    fn answer(&self, well: bool) -> (StatusCode, String) {
        let phase = self.reached();
        let stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Stuck { since, what }) = &*stuck
            && phase == RUNNING
        {
            let said = format!("stuck since {}: {what}", since.to_rfc3339());
            return (StatusCode::SERVICE_UNAVAILABLE, said);
        }
        let status = match well {
            true => StatusCode::OK,
            false => StatusCode::SERVICE_UNAVAILABLE,
        };
        let name = NAMES.get(phase as usize).copied().unwrap_or("unknown");
        (status, name.to_owned())
    }
}

/// Installs the recorder of all metrics, and a thread that keeps it small whether or not anybody
/// asks for them.
///
/// # Errors
/// There is one already; the thread cannot be started.
pub fn record_metrics() -> Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .install_recorder()
        .context("the metrics recorder cannot be installed")?;
    names::describe();
    let kept = handle.clone();
    std::thread::Builder::new()
        .name("metrics".to_owned())
        .spawn(move || {
            let clock = MachineClock::start();
            loop {
                clock.sleep(UPKEEP_EVERY);
                kept.run_upkeep();
            }
        })
        .context("the upkeep of metrics cannot be started")?;
    Ok(handle)
}

/// Serves `/health`, `/ready` and `/metrics` on `address` until the process ends. Returns the address
/// that was bound (port 0 takes a free one).
///
/// # Errors
/// The address is taken or not this machine's: the message names it.
pub fn serve(address: SocketAddr, phase: Phase, metrics: PrometheusHandle) -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind(address).with_context(|| {
        format!("{address} cannot be listened on: is the port taken? set `http.listen` to another")
    })?;
    listener.set_nonblocking(true)?;
    let bound = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("http".to_owned())
        .spawn(move || {
            let outcome = runtime.block_on(async move {
                let health = phase.clone();
                let router = Router::new()
                    .route("/health", get(move || async move { health.health() }))
                    .route("/ready", get(move || async move { phase.ready() }))
                    .route("/metrics", get(move || async move { metrics.render() }));
                axum::serve(tokio::net::TcpListener::from_std(listener)?, router).await
            });
            if let Err(error) = outcome {
                tracing::error!(%error, "the HTTP server stopped");
            }
        })?;
    Ok(bound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn health_readiness_and_metrics_are_served_and_a_taken_port_is_named() {
        let metrics = record_metrics().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let phase = Phase::until(stop.clone());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let bound = serve(any, phase.clone(), metrics.clone()).unwrap();
        assert!(get(bound, "/health").starts_with("HTTP/1.1 200"));
        assert!(get(bound, "/ready").contains("503"), "not before it runs");
        phase.running();
        let ready = get(bound, "/ready");
        assert!(ready.contains("200 OK") && ready.ends_with("running"));
        phase.stuck("lane 3 stands".to_owned(), Duration::from_secs(90));
        for path in ["/health", "/ready"] {
            let stuck = get(bound, path);
            assert!(stuck.contains("503"), "{stuck}");
            assert!(stuck.contains("stuck since 20") && stuck.ends_with("Z: lane 3 stands"));
        }
        phase.moves();
        assert!(get(bound, "/health").ends_with("running"));
        stop.store(true, Ordering::Relaxed);
        assert!(get(bound, "/health").starts_with("HTTP/1.1 200"));
        let drains = get(bound, "/ready");
        assert!(drains.contains("503") && drains.ends_with("draining"));
        phase.ended();
        phase.running();
        assert!(get(bound, "/ready").ends_with("ended"), "not gone back to");
        names::count(names::Name::Epochs, 3);
        assert!(get(bound, "/metrics").contains("segue_epochs_total 3"));
        let error = format!("{:#}", serve(bound, phase, metrics).unwrap_err());
        assert!(
            error.contains(&bound.to_string()) && error.contains("http.listen"),
            "{error}"
        );
    }
}
