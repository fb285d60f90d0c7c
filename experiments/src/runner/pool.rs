//! The worker processes of a run: starting them, talking to them, learning why they ended.
use super::{
    Cell, Plan,
    protocol::{Command, Event, send},
    signals::INTERRUPTED,
};
use anyhow::Context;
#[cfg(unix)]
use signal_hook::consts;
use std::{
    ffi::OsString,
    fs::File,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{self, Child, ChildStdin, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

/// What happened at a worker.
#[derive(Debug)]
pub(super) enum News {
    /// It said something.
    Said(Event),
    /// It is gone.
    Ended(Ending),
}

/// How a worker ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// By an interruption of its own.
    Interrupted,
    /// Otherwise, in words.
    Died(String),
}

/// The cell a worker computes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job {
    /// Index in the plan.
    pub(super) cell: usize,
    pub(super) since: Instant,
}

#[derive(Debug)]
struct Worker {
    child: Child,
    stdin: ChildStdin,
    /// Distinguishes it from earlier workers of the same slot.
    birth: u64,
    job: Option<Job>,
    greeted: bool,
    /// About to end, unfit for another cell.
    leaving: bool,
}

impl Worker {
    fn idle(&self) -> bool {
        self.job.is_none() && !self.leaving
    }
}

type Message = (usize, u64, Option<Event>);

/// The workers.
#[derive(Debug)]
pub(super) struct Pool {
    slots: Vec<Option<Worker>>,
    sender: Sender<Message>,
    receiver: Receiver<Message>,
    program: PathBuf,
    arguments: Vec<OsString>,
    threads: usize,
    logs: PathBuf,
    births: u64,
}

impl Pool {
    /// A pool of up to `size` workers, none started yet.
    pub(super) fn new(plan: &Plan, size: usize) -> anyhow::Result<Self> {
        // Through /proc the workers are the very program that is running, even when it was rebuilt since.
        let own = PathBuf::from("/proc/self/exe");
        let program = if cfg!(target_os = "linux") && own.exists() { own } else { std::env::current_exe()? };
        let request = &plan.manifest.request;
        let mut arguments: Vec<OsString> = vec!["worker".into(), plan.study.name().into()];
        arguments.extend(["--out".into(), plan.store.dir().into()]);
        arguments.extend(["--threads".into(), request.threads.to_string().into()]);
        if let Some(data) = &request.data {
            arguments.extend(["--data".into(), data.into()]);
        }
        let (sender, receiver) = mpsc::channel();
        let slots = (0..size).map(|_| None).collect();
        let logs = plan.store.path("logs");
        Ok(Self { slots, sender, receiver, program, arguments, threads: request.threads, logs, births: 0 })
    }

    /// Whether a worker could take a cell now.
    pub(super) fn has_room(&self) -> bool {
        self.slots.iter().any(|slot| slot.as_ref().is_none_or(Worker::idle))
    }

    /// Cells being computed.
    pub(super) fn running(&self) -> usize {
        self.slots.iter().flatten().filter(|worker| worker.job.is_some()).count()
    }

    /// Gives `cell` to an idle worker, or to a new one, and returns its slot.
    pub(super) fn assign(&mut self, index: usize, cell: &Cell) -> anyhow::Result<Option<usize>> {
        let idle = self.slots.iter().position(|slot| slot.as_ref().is_some_and(Worker::idle));
        let Some(slot) = idle.or_else(|| self.slots.iter().position(Option::is_none)) else {
            return Ok(None);
        };
        if self.slots[slot].is_none() {
            let worker = self.start(slot)?;
            self.slots[slot] = Some(worker);
        }
        if let Some(worker) = &mut self.slots[slot] {
            worker.job = Some(Job { cell: index, since: Instant::now() });
            // A worker that is already gone reports itself as ended with this job.
            drop(send(&mut worker.stdin, &Command::Run(Box::new(cell.clone()))));
        }
        Ok(Some(slot))
    }

    fn start(&mut self, slot: usize) -> anyhow::Result<Worker> {
        let log = self.logs.join(format!("worker-{slot}.log"));
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("{}", log.display()))?;
        let threads = self.threads.to_string();
        let mut command = process::Command::new(&self.program);
        #[cfg(unix)]
        std::os::unix::process::CommandExt::arg0(&mut command, "experiments");
        command.args(&self.arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        command.envs([
            ("OMP_NUM_THREADS", &threads),
            ("MKL_NUM_THREADS", &threads),
            ("RAYON_NUM_THREADS", &threads),
        ]);
        let mut child = command.spawn().context("cannot start a worker process")?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            anyhow::bail!("cannot talk to a worker process");
        };
        self.births += 1;
        let (sender, birth) = (self.sender.clone(), self.births);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                match serde_json::from_str(&line) {
                    Ok(event) => drop(sender.send((slot, birth, Some(event)))),
                    Err(_) => tracing::info!("worker {slot}: {line}"), // Some library printed.
                }
            }
            drop(sender.send((slot, birth, None)));
        });
        Ok(Worker { child, stdin, birth, job: None, greeted: false, leaving: false })
    }

    /// Waits for news: the slot, the job concerned, what happened. The job ends with it unless it is progress.
    pub(super) fn wait(&mut self, patience: Duration) -> anyhow::Result<Option<(usize, Option<Job>, News)>> {
        let (slot, birth, event) = match self.receiver.recv_timeout(patience) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(None),
        };
        let Some(worker) = self.slots[slot].as_mut().filter(|worker| worker.birth == birth) else {
            return Ok(None);
        };
        match event {
            Some(Event::Ready) => {
                worker.greeted = true;
                Ok(None)
            }
            Some(event @ Event::Progress { .. }) => Ok(Some((slot, worker.job, News::Said(event)))),
            Some(event) => {
                worker.leaving = matches!(event, Event::Failed { leaving: true, .. });
                Ok(Some((slot, worker.job.take(), News::Said(event))))
            }
            None => {
                let (job, greeted) = (worker.job, worker.greeted);
                let status = worker.child.wait().context("cannot wait for a worker process")?;
                self.slots[slot] = None;
                let log = self.logs.join(format!("worker-{slot}.log"));
                let ending = ending(status);
                match &ending {
                    Ending::Died(how) if !greeted => {
                        anyhow::bail!("a worker could not start: it {how}; see `{}`", log.display())
                    }
                    _ => Ok(Some((slot, job, News::Ended(ending)))),
                }
            }
        }
    }

    /// Asks all workers to save and stop.
    pub(super) fn stop(&mut self) {
        for worker in self.slots.iter_mut().flatten() {
            drop(send(&mut worker.stdin, &Command::Stop)); // One that is gone needs no telling.
        }
    }

    /// Sends the workers home and waits for them.
    pub(super) fn close(self) {
        for worker in self.slots.into_iter().flatten() {
            let Worker { mut child, stdin, .. } = worker;
            drop(stdin);
            if let Err(e) = child.wait() {
                tracing::warn!("cannot wait for a worker process: {e}");
            }
        }
    }
}

fn ending(status: ExitStatus) -> Ending {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        if [consts::SIGINT, consts::SIGTERM, consts::SIGUSR1].contains(&signal) {
            return Ending::Interrupted; // Struck while the worker was starting and had no handlers yet.
        }
        let hint = match signal {
            6 => ", an abort inside a native library",
            9 => ", perhaps out of memory",
            7 | 11 => ", an invalid memory access",
            _ => "",
        };
        return Ending::Died(format!("was killed by signal {signal}{hint}"));
    }
    match status.code() {
        Some(INTERRUPTED) => Ending::Interrupted,
        code => Ending::Died(format!("exited with status {}", code.unwrap_or_default())),
    }
}
