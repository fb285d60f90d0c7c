//! The scheduler: hands out cells whose prerequisites are finished, and survives whatever happens to them.
use super::{
    FailedCell, Lock, Plan, State,
    pool::{Ending, Job, News, Pool},
    progress::{Counts, Progress, human},
    protocol::Event,
};
use mtl_core::{Error, Record, Result};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Write,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// How to execute a plan.
#[derive(Debug, Clone)]
pub struct Options {
    /// Worker processes.
    pub workers: usize,
    /// Leave out cells that failed before.
    pub keep_failed: bool,
    /// Show no progress.
    pub quiet: bool,
}

/// What came of a plan.
#[derive(Debug)]
pub struct Outcome {
    /// Cells in the plan.
    pub total: usize,
    /// Cells finished, by this run or earlier ones.
    pub done: usize,
    /// Records of the finished cells, in the order of the plan.
    pub records: Vec<Record>,
    /// Cells that failed, in the order of the plan.
    pub failed: Vec<FailedCell>,
    /// Whether it was asked to stop before the end.
    pub interrupted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Status {
    Waiting,
    Running,
    Done,
    Failed(String),
}

/// Runs every cell of `plan` that is not finished, and rebuilds its tables. `_lock` is the run directory's.
///
/// # Errors
///
/// [`Error::Io`] when the run directory cannot be written; errors of cells are part of the [`Outcome`].
pub fn execute(plan: &Plan, _lock: &Lock, options: &Options, stop: &AtomicBool) -> anyhow::Result<Outcome> {
    if options.workers == 0 {
        return Err(Error::config("--workers", "at least 1", 0).into());
    }
    plan.write_manifest()?;
    let log = plan.store.path("run.log");
    let log =
        File::options().create(true).append(true).open(&log).map_err(|e| Error::io("write", &log, e))?;
    let mut scheduler = Scheduler::new(plan, options, log)?;
    let mut pool = Pool::new(plan, options.workers)?;
    let worked = scheduler.work(&mut pool, stop);
    pool.close();
    scheduler.progress.end();
    worked?;
    let outcome = scheduler.outcome()?;
    plan.store.write_tables(&outcome.records, &outcome.failed)?;
    Ok(outcome)
}

struct Scheduler<'a> {
    plan: &'a Plan,
    status: Vec<Status>,
    /// For each cell, how many of its prerequisites are not finished.
    missing: Vec<usize>,
    /// For each cell, those that need it.
    users: Vec<Vec<usize>>,
    ready: BTreeSet<usize>,
    progress: Progress,
    log: File,
    start: Instant,
    stopping: bool,
}

impl<'a> Scheduler<'a> {
    fn new(plan: &'a Plan, options: &Options, log: File) -> Result<Self> {
        let cells = plan.cells();
        let index: BTreeMap<&str, usize> = cells.iter().enumerate().map(|(i, cell)| (cell.id(), i)).collect();
        let mut users = vec![Vec::new(); cells.len()];
        let mut missing = vec![0; cells.len()];
        for (i, cell) in cells.iter().enumerate() {
            for needed in cell.needs().values().filter_map(|id| index.get(id.as_str())) {
                users[*needed].push(i);
                missing[i] += 1;
            }
        }
        let mut scheduler = Self {
            plan,
            status: vec![Status::Waiting; cells.len()],
            missing,
            users,
            ready: BTreeSet::new(),
            progress: Progress::new(cells.len(), options.workers, options.quiet),
            log,
            start: Instant::now(),
            stopping: false,
        };
        scheduler.ready.extend((0..cells.len()).filter(|&i| scheduler.missing[i] == 0));
        scheduler.recall(options)?;
        Ok(scheduler)
    }

    /// Learns from the run directory what earlier runs did.
    fn recall(&mut self, options: &Options) -> Result<()> {
        for (i, state) in self.plan.states()?.into_iter().enumerate() {
            let cell = &self.plan.cells()[i];
            match state {
                State::Done => {
                    self.plan.store.tidy(cell)?;
                    self.done(i);
                }
                State::Damaged => {
                    let line =
                        format!("warning: results of cell {} are damaged; it is computed again", cell.id());
                    self.progress.say(&line);
                    self.note(&line);
                }
                State::Open => {
                    if let Some(error) = self.plan.store.error_of(cell).filter(|_| options.keep_failed) {
                        self.failed(i, error);
                    }
                }
            }
        }
        Ok(())
    }

    fn work(&mut self, pool: &mut Pool, stop: &AtomicBool) -> anyhow::Result<()> {
        loop {
            if stop.load(Ordering::Relaxed) {
                self.stop(pool);
            }
            while !self.stopping && pool.has_room() {
                let Some(i) = self.ready.pop_first() else { break };
                if let Some(slot) = pool.assign(i, &self.plan.cells()[i])? {
                    self.status[i] = Status::Running;
                    self.note_cell(i, &format!("started on worker {slot}"));
                }
            }
            if pool.running() == 0 && (self.stopping || self.ready.is_empty()) {
                return Ok(()); // Every cell that can be ready is finished or has failed, or a stop was asked for.
            }
            if let Some((slot, job, news)) = pool.wait(Duration::from_millis(100))? {
                self.handle(pool, slot, job, news);
            }
            self.progress.show(self.counts(pool.running()));
        }
    }

    fn stop(&mut self, pool: &mut Pool) {
        if !self.stopping {
            self.stopping = true;
            self.progress
                .say("stopping: running cells save a checkpoint; interrupt once more to leave at once");
            self.note("stop requested");
            pool.stop();
        }
    }

    fn handle(&mut self, pool: &mut Pool, slot: usize, job: Option<Job>, news: News) {
        let Some(Job { cell: i, since }) = job else {
            if let News::Ended(Ending::Died(how)) = news {
                self.note(&format!("idle worker {slot} {how}"));
            }
            return;
        };
        match news {
            News::Said(Event::Progress { done, total }) => self.note_cell(i, &format!("{done}/{total}")),
            News::Said(Event::Done) => {
                let wall = since.elapsed();
                self.progress.finished(wall);
                self.note_cell(i, &format!("finished after {}", human(wall)));
                self.done(i);
            }
            News::Said(Event::Failed { error, .. }) => self.failed(i, error),
            News::Said(Event::Stopped | Event::Ready) | News::Ended(Ending::Interrupted) => {
                self.status[i] = Status::Waiting;
                self.note_cell(i, "stopped");
                self.stop(pool);
            }
            News::Ended(Ending::Died(how)) => {
                let error = format!("worker {how}; see `logs/worker-{slot}.log`");
                if let Err(e) = self.plan.store.fail(&self.plan.cells()[i], &error) {
                    tracing::warn!("{e}");
                }
                self.failed(i, error);
            }
        }
    }

    fn done(&mut self, i: usize) {
        self.status[i] = Status::Done;
        self.ready.remove(&i);
        for user in self.users[i].clone() {
            self.missing[user] -= 1;
            if self.missing[user] == 0 && self.status[user] == Status::Waiting {
                self.ready.insert(user);
            }
        }
    }

    /// Notes a failure, and that of every cell that needs this one.
    fn failed(&mut self, i: usize, error: String) {
        let cell = &self.plan.cells()[i];
        self.progress.say(&format!("failed: {} ({}): {error}", cell.label(), cell.id()));
        self.note_cell(i, &format!("failed: {error}"));
        self.status[i] = Status::Failed(error);
        self.ready.remove(&i);
        let reason = format!("its prerequisite {} ({}) failed", cell.kind(), cell.id());
        let mut affected = self.users[i].clone();
        while let Some(user) = affected.pop() {
            if self.status[user] == Status::Waiting {
                self.status[user] = Status::Failed(reason.clone());
                self.ready.remove(&user);
                affected.extend(&self.users[user]);
            }
        }
    }

    fn counts(&self, running: usize) -> Counts {
        let count = |wanted: fn(&Status) -> bool| self.status.iter().filter(|status| wanted(status)).count();
        Counts {
            total: self.status.len(),
            done: count(|status| *status == Status::Done),
            running,
            failed: count(|status| matches!(status, Status::Failed(_))),
        }
    }

    fn outcome(&self) -> Result<Outcome> {
        let cells = || self.plan.cells().iter().zip(&self.status);
        let done: Vec<_> =
            cells().filter(|(_, status)| **status == Status::Done).map(|(cell, _)| cell).collect();
        let failed = cells().filter_map(|(cell, status)| match status {
            Status::Failed(error) => Some(self.plan.failed_cell(cell, error.clone())),
            _ => None,
        });
        let failed: Vec<_> = failed.collect();
        Ok(Outcome {
            total: self.status.len(),
            done: done.len(),
            records: self.plan.store.records(done.iter().copied())?,
            interrupted: self.stopping && done.len() + failed.len() < self.status.len(),
            failed,
        })
    }

    fn note_cell(&mut self, i: usize, text: &str) {
        let cell = &self.plan.cells()[i];
        let line = format!("{} {}: {text}", cell.id(), cell.label());
        self.note(&line);
    }

    /// Appends to the log, which is for people only: one that cannot be written must not end the run.
    fn note(&mut self, line: &str) {
        let line = format!("{:9.2} {}\n", self.start.elapsed().as_secs_f64(), line.replace('\n', " "));
        if let Err(e) = self.log.write_all(line.as_bytes()) {
            tracing::debug!("cannot write `run.log`: {e}");
        }
    }
}
