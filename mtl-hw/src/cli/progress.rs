//! Progress of searches, and signals that stop them.
use crate::cli::INTERRUPTED;
use crate::explore::Progress;
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::{consts, flag};
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The flag that SIGINT and SIGTERM set; a second one ends the process at once.
pub(crate) fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let install = || -> io::Result<()> {
        for signal in [consts::SIGINT, consts::SIGTERM] {
            // In this order: the first signal finds the flag unset and sets it, the second exits.
            flag::register_conditional_shutdown(signal, i32::from(INTERRUPTED), Arc::clone(&stop))?;
            flag::register(signal, Arc::clone(&stop))?;
        }
        Ok(())
    };
    install().context("cannot handle signals")?;
    Ok(stop)
}

/// Shows a search on a terminal.
#[derive(Debug)]
pub(crate) struct Bar(Option<ProgressBar>);

impl Bar {
    pub(crate) fn new(quiet: bool) -> Self {
        let shown = !quiet && io::stderr().is_terminal();
        Self(shown.then(|| {
            let bar = ProgressBar::new(0);
            if let Ok(style) = ProgressStyle::with_template("{wide_bar} {msg}") {
                bar.set_style(style);
            }
            bar
        }))
    }

    pub(crate) fn show(&self, p: &Progress) {
        if let Some(bar) = &self.0 {
            // Spaces may be larger than 64 bits: the bar counts thousandths.
            let done = (u128::from(p.evaluated) + p.pruned) as f64 / p.points as f64;
            bar.set_length(1000);
            bar.set_position((1000.0 * done.min(1.0)) as u64);
            let rate = crate::cli::table::number(p.points_per_s);
            bar.set_message(format!(
                "{} evaluated, {} excluded of {}, {rate} points/s, {} on the front",
                p.evaluated, p.pruned, p.points, p.front
            ));
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// Does `work` on a pool of `threads`, one per core if 0.
pub(crate) fn on_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> anyhow::Result<R> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    Ok(pool.context("cannot start the worker threads")?.install(work))
}
