//! SIGINT and SIGTERM: drain and end. A second one ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

/// The exit code of a program that a second signal ended: 128 + SIGINT.
const ENDED_BY_SIGNAL: i32 = 130;

/// A flag that is raised by the first signal. A thread of its own listens until the process ends.
///
/// # Errors
/// The operating system refuses the handlers or the thread.
pub fn on_signal() -> Result<Arc<AtomicBool>> {
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
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    if raised.swap(true, Ordering::Relaxed) {
                        std::process::exit(ENDED_BY_SIGNAL);
                    }
                    tracing::info!("draining; a second signal ends at once");
                }
            });
        })
        .context("the signal listener cannot be started")?;
    Ok(stop)
}
