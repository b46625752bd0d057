//! SIGINT and SIGTERM: drain and end, within a time. A second one ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The exit code of a program that a second signal ended: 128 + SIGINT.
const ENDED_BY_SIGNAL: i32 = 130;
/// The exit code of one that did not drain in its time: EX_TEMPFAIL, since the next start goes on.
const NOT_DRAINED: i32 = 75;

/// A flag that is raised by the first signal. A thread of its own listens until the process ends; it
/// ends the process itself where draining takes longer than `within` (`None`: as long as it takes).
///
/// # Errors
/// The operating system refuses the handlers or the thread.
pub fn on_signal(within: Option<Duration>) -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let raised = stop.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the signal listener cannot be started")?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async move {
                let (Ok(mut interrupt), Ok(mut terminate)) = (
                    signal(SignalKind::interrupt()),
                    signal(SignalKind::terminate()),
                ) else {
                    tracing::error!("signals cannot be listened to: SIGINT will end at once");
                    return;
                };
                either(&mut interrupt, &mut terminate).await;
                raised.store(true, Ordering::Relaxed);
                tracing::info!("draining; a second signal ends at once");
                let second = either(&mut interrupt, &mut terminate);
                let Some(within) = within else {
                    second.await;
                    std::process::exit(ENDED_BY_SIGNAL);
                };
                if tokio::time::timeout(within, second).await.is_ok() {
                    std::process::exit(ENDED_BY_SIGNAL);
                }
                eprintln!(
                    "segue: not drained within {within:?} (stream.drain_within): what is not \
                     committed is read again by the next run, and nothing of it is lost"
                );
                std::process::exit(NOT_DRAINED);
            });
        })
        .context("the signal listener cannot be started")?;
    Ok(stop)
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
