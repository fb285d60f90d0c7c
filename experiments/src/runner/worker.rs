//! A worker process: computes one cell after the other until its runner closes the pipe, by design or by dying.
use super::{
    CellContext, State, Store, Study, checkpoint,
    context::Surroundings,
    protocol::{Command, Event, send, tell_error},
    store::remove_tree,
};
use crate::runner::Cell;
use anyhow::Context;
use mtl_core::Error;
use std::{
    cell::RefCell,
    io::{self, BufRead},
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// What a worker is told on its command line.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// The run directory.
    pub store: Store,
    /// Folder given with `--data`.
    pub data: Option<PathBuf>,
    /// Threads to compute with.
    pub threads: usize,
}

thread_local! {
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Serves the runner at the other end of stdin and stdout; returns only on an error.
///
/// # Errors
///
/// The handlers of signals could not be installed, or the runner is gone.
pub fn work(study: &dyn Study, assignment: &Assignment) -> anyhow::Result<()> {
    let stop = super::stop_flag()?;
    let cells = listen(Arc::clone(&stop));
    panic::set_hook(Box::new(|info| {
        let text = info.to_string().lines().take(2).collect::<Vec<_>>().join(" ");
        tracing::error!("{text}");
        PANIC.with_borrow_mut(|last| *last = text);
    }));
    tell(&Event::Ready)?;
    while let Ok(cell) = cells.recv() {
        let run = AssertUnwindSafe(|| compute(study, assignment, &cell, &stop));
        let (event, panicked) = match panic::catch_unwind(run) {
            Ok(Ok(())) => (Event::Done, false),
            Ok(Err(e)) if interrupted(&e, &stop) => (Event::Stopped, false),
            Ok(Err(e)) => (Event::Failed { error: tell_error(&e), leaving: false }, false),
            Err(_) => (Event::Failed { error: PANIC.take(), leaving: true }, true),
        };
        if let Event::Failed { error, .. } = &event {
            // On a full disk this fails too; the runner still learns of it through the pipe.
            if let Err(e) = assignment.store.fail(&cell, error) {
                tracing::warn!("{e}");
            }
        }
        tell(&event)?;
        if panicked {
            signal_hook::low_level::exit(0); // A panic may leave libtorch's thread state askew: start afresh.
        }
    }
    Ok(())
}

/// Reads commands in a thread of its own, so that the runner's death is noticed in the middle of a cell.
fn listen(stop: Arc<AtomicBool>) -> mpsc::Receiver<Box<Cell>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                Ok(Command::Run(cell)) => drop(sender.send(cell)),
                Ok(Command::Stop) => stop.store(true, Ordering::Relaxed),
                Err(e) => tracing::error!("the runner sent what is no command: {e}"),
            }
        }
        // At once, without running destructors of libtorch under a computing thread. Files are complete at any instant.
        signal_hook::low_level::exit(0);
    });
    receiver
}

fn tell(event: &Event) -> anyhow::Result<()> {
    send(&mut io::stdout().lock(), event).context("cannot reach the runner")
}

/// Runs the cell, unless another process has finished it in the meantime, and commits its results.
fn compute(study: &dyn Study, task: &Assignment, cell: &Cell, stop: &Arc<AtomicBool>) -> anyhow::Result<()> {
    let start = Instant::now();
    let _lock = task.store.open_cell(cell)?;
    match task.store.state(cell)? {
        State::Done => return Ok(()),
        State::Damaged => task.store.reset(cell, true)?,
        State::Open => task.store.reset(cell, false)?,
    }
    let cells = task.store.cells_dir();
    let dir = cells.join(cell.id());
    if checkpoint::load(&dir)?.is_none() {
        checkpoint::clear(&dir)?;
        remove_tree(&dir.join("artifacts"))?;
    }
    let mut last = Instant::now();
    let progress = move |done, total| {
        if last.elapsed() > Duration::from_secs(1) {
            last = Instant::now();
            // A lost line of progress is no reason to lose the cell.
            drop(tell(&Event::Progress { done, total }));
        }
    };
    let around = Surroundings {
        study: study.name(),
        cells: &cells,
        data: task.data.as_deref(),
        threads: task.threads,
        stop: Arc::clone(stop),
        progress: Box::new(progress),
    };
    let mut context = CellContext::new(cell, around);
    study.run(cell, &mut context)?;
    task.store.finish(cell, &context.into_records(), start.elapsed())?;
    Ok(())
}

/// Whether the cell gave up because it was asked to, however its crate wraps that.
fn interrupted(error: &anyhow::Error, stop: &AtomicBool) -> bool {
    let typed = error.chain().any(|cause| matches!(cause.downcast_ref(), Some(Error::Interrupted)));
    let named = || error.root_cause().to_string() == Error::Interrupted.to_string();
    stop.load(Ordering::Relaxed) && (typed || named())
}
