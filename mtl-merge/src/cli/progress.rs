//! Progress bars, and signals that stop a run.
use crate::Progress;
use crate::cli::INTERRUPTED;
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::{consts, flag};
use std::{
    io::{self, IsTerminal},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

/// How often the bar is drawn and signals are looked for.
const TICK: Duration = Duration::from_millis(50);

/// The flag that SIGINT and SIGTERM set; a second one ends the process at once.
pub(crate) fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    static STOP: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    if let Some(stop) = STOP.get() {
        return Ok(Arc::clone(stop));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let install = || -> io::Result<()> {
        for signal in [consts::SIGINT, consts::SIGTERM] {
            // In this order: the first signal finds the flag unset and sets it, the second exits.
            flag::register_conditional_shutdown(signal, i32::from(INTERRUPTED), Arc::clone(&stop))?;
            flag::register(signal, Arc::clone(&stop))?;
        }
        // A file that reaches its size limit is an error of the write, not the end of the process.
        #[cfg(unix)]
        flag::register(consts::SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
        Ok(())
    };
    install().context("cannot handle signals")?;
    Ok(Arc::clone(STOP.get_or_init(|| stop)))
}

/// Does `work` while another thread shows its progress, on a terminal only, and stops it on a signal.
pub(crate) fn watch<R>(
    what: &str,
    quiet: bool,
    progress: &Progress,
    work: impl FnOnce() -> R,
) -> anyhow::Result<R> {
    let stop = stop_flag()?;
    let bar = (!quiet && io::stderr().is_terminal()).then(|| bar(what));
    let (done, waits) = mpsc::channel::<()>();
    Ok(thread::scope(|scope| {
        scope.spawn(|| {
            let waits = waits;
            while waits.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                if stop.load(Ordering::Relaxed) {
                    progress.stop();
                }
                if let (Some(bar), (position, total)) = (&bar, progress.bytes())
                    && total > 0
                {
                    bar.set_length(total);
                    bar.set_position(position);
                }
            }
            if let Some(bar) = &bar {
                bar.finish_and_clear();
            }
        });
        let result = work();
        drop(done);
        result
    }))
}

fn bar(what: &str) -> ProgressBar {
    let bar = ProgressBar::new(0);
    let template =
        "{msg} {wide_bar} {decimal_bytes}/{decimal_total_bytes}, {decimal_bytes_per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar
}

/// Does `work` on a pool of `threads`, one per core if 0.
pub(crate) fn on_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> anyhow::Result<R> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    Ok(pool.context("cannot start the worker threads")?.install(work))
}
