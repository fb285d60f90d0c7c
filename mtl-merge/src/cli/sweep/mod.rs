//! `mtl-merge sweep`: merges a grid of parameters and evaluates each point with the user's command.
mod eval;
mod results;

use crate::cli::{
    DIFFERS,
    args::{self, MergeArgs},
    print, print_json, progress, run, say,
};
use crate::{
    Engine, Error, Methods, ParamValue, Progress, Recipe,
    tools::{Axis, grid},
};
use anyhow::{Context, bail};
use eval::Command;
use mtl_core::files::{ensure_dir, write_atomic};
use results::{Point, Results};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// A point that is to be computed.
struct Task {
    name: String,
    key: String,
    values: Vec<ParamValue>,
    recipe: Recipe,
}

struct Sweep<'a> {
    args: &'a args::Sweep,
    axes: Vec<Axis>,
    command: Command,
    engine: Engine,
    stop: Arc<AtomicBool>,
}

pub(crate) fn sweep(args: &args::Sweep, methods: &Methods) -> anyhow::Result<u8> {
    let axes = args.grid.iter().map(|text| Axis::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let command = Command::parse(&args.eval)?;
    if let Some(stray) = args.minimize.iter().find(|m| !args.metric.is_empty() && !args.metric.contains(m)) {
        bail!("`--minimize {stray}` is not among the metrics of `--metric`");
    }
    let recipe = run::read_one(&args.config, &args.merge)?;
    let tasks = tasks(&axes, &recipe, args, methods)?;
    let jobs = usize::from(args.jobs).min(tasks.len());
    let sweep = Sweep {
        args,
        axes,
        command,
        engine: engine(&args.merge, methods, jobs)?,
        stop: progress::stop_flag()?,
    };
    if let Some(first) = tasks.first() {
        sweep.engine.check(&first.recipe)?;
    }
    ["points", "logs", "models"].iter().try_for_each(|dir| ensure_dir(&args.out.join(dir)))?;
    let _lock = lock(&args.out)?;

    let mut done: Vec<Option<Point>> = tasks.iter().map(|task| sweep.finished(task)).collect();
    let open: Vec<usize> = (0..tasks.len()).filter(|&i| done[i].is_none()).collect();
    let reused = tasks.len() - open.len();
    if !args.quiet && reused > 0 {
        say(&format!("{reused} of {} points are there already", tasks.len()));
    }
    sweep.compute(&tasks, &open, jobs, &mut done)?;
    if sweep.stop.load(Ordering::Relaxed) {
        return Err(Error::Interrupted.into());
    }
    let results = sweep.results(&done);
    sweep.save(&results)?;
    if args.json {
        print_json(&results)?
    } else {
        print(&results.text()?)?
    }
    let failed = results.failed();
    if failed > 0 {
        say(&format!("{failed} of {} points failed; see {}", tasks.len(), args.out.join("logs").display()));
        return Ok(DIFFERS);
    }
    Ok(0)
}

/// The points, each with its recipe, checked as far as that is possible without files.
fn tasks(axes: &[Axis], recipe: &Recipe, args: &args::Sweep, methods: &Methods) -> anyhow::Result<Vec<Task>> {
    let points = grid(axes)?;
    let mut tasks: Vec<Task> = Vec::with_capacity(points.len());
    for values in points {
        let mut recipe = recipe.clone();
        for (axis, value) in axes.iter().zip(&values) {
            axis.set(&mut recipe, value)?;
        }
        recipe.validate(methods)?; // Its remarks are those of the check that follows.
        let parts = axes.iter().zip(&values).map(|(axis, value)| format!("{}={}", axis.name, plain(value)));
        let label = parts.collect::<Vec<_>>().join(",");
        let key = results::key(&recipe, &args.eval)?;
        let safe = |c: char| if c.is_ascii_alphanumeric() || "=,.-_".contains(c) { c } else { '-' };
        let mut name: String = label.chars().map(safe).take(120).collect();
        if tasks.iter().any(|task| task.name == name) {
            name = format!("{name}-{}", results::hash(&label));
        }
        tasks.push(Task { name, key, values, recipe });
    }
    Ok(tasks)
}

fn plain(value: &ParamValue) -> String {
    match value {
        ParamValue::Text(text) => text.clone(),
        other => other.to_string(),
    }
}

fn engine(args: &MergeArgs, methods: &Methods, jobs: usize) -> anyhow::Result<Engine> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = if args.num_threads == 0 { (cores / jobs.max(1)).max(1) } else { args.num_threads };
    Ok(run::engine(args, methods)?.threads(threads).overwrite(true).model_card(false))
}

/// Keeps a second sweep out of the folder.
fn lock(out: &Path) -> anyhow::Result<File> {
    let path = out.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot write `{}`", path.display()))?;
    file.try_lock().with_context(|| format!("another sweep works in `{}`", out.display()))?;
    Ok(file)
}

impl Sweep<'_> {
    fn record(&self, name: &str) -> PathBuf {
        self.args.out.join("points").join(format!("{name}.json"))
    }

    /// The result of an earlier run, if recipe, inputs and command were the same and the metrics asked for are in it.
    fn finished(&self, task: &Task) -> Option<Point> {
        let text = fs::read_to_string(self.record(&task.name)).ok()?;
        let point: Point = serde_json::from_str(&text).ok()?;
        let complete = self.args.metric.iter().all(|metric| point.metrics.contains_key(metric));
        (point.key == task.key && point.error.is_none() && complete).then_some(point)
    }

    /// Computes the points `open` on `jobs` threads.
    fn compute(
        &self,
        tasks: &[Task],
        open: &[usize],
        jobs: usize,
        done: &mut Vec<Option<Point>>,
    ) -> anyhow::Result<()> {
        let next = AtomicUsize::new(0);
        let shared = Mutex::new(std::mem::take(done));
        let work = || -> anyhow::Result<()> {
            while let Some(&at) = open.get(next.fetch_add(1, Ordering::Relaxed)) {
                if self.stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                let Some(point) = self.point(&tasks[at])? else { return Ok(()) };
                self.tell(&point, tasks.len());
                write(&self.record(&point.name), &serde_json::to_string_pretty(&point)?)?;
                let mut done = shared.lock().unwrap_or_else(PoisonError::into_inner);
                done[at] = Some(point);
                self.save(&self.results(&done))?;
            }
            Ok(())
        };
        let outcome = thread::scope(|scope| {
            let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
            let results =
                threads.into_iter().map(|t| t.join().unwrap_or_else(|_| bail!("a worker panicked")));
            results.collect::<anyhow::Result<Vec<()>>>()
        });
        *done = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
        outcome.map(drop)
    }

    /// Merges and evaluates; nothing if it was interrupted.
    fn point(&self, task: &Task) -> anyhow::Result<Option<Point>> {
        let started = Instant::now();
        let model = self.args.out.join("models").join(&task.name);
        let outcome = self.merge_and_evaluate(task, &model);
        if !self.args.keep {
            remove(&model)?;
        }
        if self.stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let (metrics, error) = match outcome {
            Ok(metrics) => (metrics, None),
            Err(e) => (Default::default(), Some(crate::cli::tell(&e))),
        };
        let (name, key, values) = (task.name.clone(), task.key.clone(), task.values.clone());
        Ok(Some(Point { name, key, values, metrics, error, seconds: started.elapsed().as_secs_f64() }))
    }

    fn merge_and_evaluate(&self, task: &Task, model: &Path) -> anyhow::Result<results::Metrics> {
        let progress = Arc::new(Progress::default());
        let engine = self.engine.clone().overwrite(true).progress(Arc::clone(&progress));
        progress::watch("merging", true, &progress, || engine.run(&task.recipe, model))?
            .context("the merge failed")?;
        let logs = self.args.out.join("logs").join(&task.name);
        let timeout = self.args.timeout.map(Duration::from_secs);
        let number = self.args.metric.first().map_or("score", String::as_str);
        let metrics = self.command.run(model, &task.name, &logs, timeout, &self.stop, number)?;
        if let Some(lacking) = self.args.metric.iter().find(|m| !metrics.contains_key(*m)) {
            let found: Vec<&str> = metrics.keys().map(String::as_str).collect();
            bail!("the command gives no metric `{lacking}`, but {}", found.join(", "));
        }
        Ok(metrics)
    }

    fn results(&self, done: &[Option<Point>]) -> Results {
        Results::new(
            &self.axes,
            &self.args.metric,
            &self.args.minimize,
            done.iter().flatten().cloned().collect(),
        )
    }

    fn save(&self, results: &Results) -> anyhow::Result<()> {
        write(&self.args.out.join("sweep.csv"), &results.csv())?;
        write(&self.args.out.join("sweep.json"), &serde_json::to_string_pretty(results)?)
    }

    fn tell(&self, point: &Point, total: usize) {
        if self.args.quiet {
            return;
        }
        let what = match &point.error {
            Some(error) => format!("failed: {error}"),
            None => {
                point.metrics.iter().map(|(name, x)| format!("{name} {x}")).collect::<Vec<_>>().join(", ")
            }
        };
        say(&format!("{} (of {total} points, {:.1} s): {what}", point.name, point.seconds));
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    Ok(write_atomic(path, |out| out.write_all(text.as_bytes()))?)
}

fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove `{}`", path.display()))
        }
        _ => Ok(()),
    }
}
