//! Threads for work that is better cut by rows than by operations.
//!
//! libtorch cuts each operation into as many pieces as it has threads, and has them meet before the next.
//! Where operations are small the meetings take longer than the work. Here each thread takes its rows
//! through all operations, with a libtorch that uses that thread alone.

use std::sync::OnceLock;

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

/// As many threads as libtorch may use ([`crate::device::limit_threads`]), on each of which it uses one.
/// `None` where that is one, or threads cannot be had. Gradients are not recorded on them unless their work
/// says so itself.
pub fn pool() -> Option<&'static ThreadPool> {
    static POOL: OnceLock<Option<ThreadPool>> = OnceLock::new();
    POOL.get_or_init(|| {
        let threads = tch::get_num_threads();
        if threads < 2 {
            return None;
        }
        let pool = ThreadPoolBuilder::new()
            .num_threads(usize::try_from(threads).unwrap_or(1))
            .thread_name(|number| format!("rows-{number}"))
            .start_handler(|_| {
                tch::set_num_threads(1);
                // libtorch asks what all were told last when a thread first has work for several: now, or it would
                // find what follows below, and each thread would have others at its side.
                tch::get_num_threads();
                std::mem::forget(tch::no_grad_guard());
            })
            .build()
            .ok()?;
        // Once all have started: what a thread is told counts for those that come later too.
        pool.broadcast(|_| ());
        tch::set_num_threads(threads);
        Some(pool)
    })
    .as_ref()
}

/// What becomes of each piece of work, in order: on the threads of the [`pool`], or one after the other where
/// there is none.
///
/// # Errors
/// One of a piece's own.
pub fn on_each<W: Send, R: Send, E: Send>(
    work: Vec<W>,
    run: impl Fn(W) -> Result<R, E> + Send + Sync,
) -> Result<Vec<R>, E> {
    match pool() {
        None => work.into_iter().map(run).collect(),
        Some(pool) => pool.install(|| work.into_par_iter().map(run).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn each_thread_of_the_pool_works_alone_whatever_it_has_done() {
        let Some(pool) = pool() else { return };
        let alone = pool.broadcast(|_| {
            // Enough for libtorch to cut it.
            let large = Tensor::ones([1 << 20], (Kind::Float, Device::Cpu));
            let sum = large.exp().sum(Kind::Double).double_value(&[]);
            assert!(sum > 2.0);
            tch::get_num_threads()
        });
        assert!(alone.iter().all(|&threads| threads == 1), "{alone:?}");
        assert!(tch::get_num_threads() > 1);
    }
}
