//! Health, readiness and Prometheus metrics over HTTP, on a small runtime of their own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use segue_flow::clock::{MachineClock, WallClock};
use segue_flow::names;

/// How often samples are summed up; between two times a histogram keeps every one of them.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// What the engine is doing, as readiness tells it: ready is only what reads and answers, from
/// [`Phase::running`] until it drains.
#[derive(Clone, Debug, Default)]
pub struct Phase {
    reached: Arc<AtomicU8>,
    stop: Arc<AtomicBool>,
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
            reached: Arc::default(),
            stop,
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

    /// Phases are never gone back: who is late to say `running` does not undo `draining`.
    fn reach(&self, phase: u8) {
        self.reached.fetch_max(phase, Ordering::Relaxed);
    }

    fn answer(&self) -> (StatusCode, &'static str) {
        let mut phase = self.reached.load(Ordering::Relaxed);
        if phase < DRAINING && self.stop.load(Ordering::Relaxed) {
            phase = DRAINING;
        }
        let status = if phase == RUNNING {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        (
            status,
            NAMES.get(phase as usize).copied().unwrap_or("unknown"),
        )
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
                let router = Router::new()
                    .route("/health", get(|| async { "alive\n" }))
                    .route("/ready", get(move || async move { phase.answer() }))
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
        stop.store(true, Ordering::Relaxed);
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
