//! The command line of `experiments`: data goes to stdout, everything else to stderr.
mod args;
mod clean;
mod verify;

use crate::{
    runner::{
        self, Assignment, FailedCell, Ledger, Manifest, Options, Outcome, Plan, Report, Request, State,
        Store, Study,
    },
    studies,
};
use anyhow::Context;
use args::{At, Cli, Command, Format, GridArgs, List, Resume, Run, WorkArgs};
use clap::Parser;
use mtl_bench::Results;
use mtl_core::{Error, Record};
use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const INTERRUPTED: u8 = 130;

/// Runs the command line and returns the exit code of its conventions: 0, 1, 2 or 130.
pub fn main() -> ExitCode {
    let filter = EnvFilter::builder()
        .with_env_var("MTL_LOG")
        .with_default_directive(LevelFilter::WARN.into())
        .from_env_lossy();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    let result = match Cli::parse().command {
        Command::List(list) => self::list(list),
        Command::Run(run) => self::run(run),
        Command::Resume(resume) => self::resume(resume),
        Command::Report(at) => report(at),
        Command::Verify(options) => verify::verify(options),
        Command::Clean(options) => clean::clean(options),
        Command::Worker(worker) => studies::find(&worker.study).map_err(Into::into).and_then(|study| {
            let store = Store::new(worker.out);
            runner::work(study, &Assignment { store, data: worker.data, threads: worker.threads }).map(|()| 0)
        }),
    };
    ExitCode::from(result.unwrap_or_else(|e| {
        if let Some(Error::Interrupted) = e.downcast_ref() {
            return INTERRUPTED;
        }
        say(&format!("error: {}", runner::tell_error(&e)));
        USAGE
    }))
}

/// A line to stderr; a closed stderr is nobody's fault.
fn say(line: &str) {
    drop(writeln!(io::stderr(), "{line}"));
}

/// Text to stdout; a reader that has seen enough, as in `| head`, is no error.
fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e).context("cannot write to stdout"),
        _ => Ok(()),
    }
}

fn list(list: List) -> anyhow::Result<u8> {
    let Some(name) = &list.study else {
        let shown = studies::all().iter().filter(|study| list.all || !study.hidden());
        print(&shown.map(|study| args::describe(*study, list.format)).collect::<String>())?;
        return Ok(0);
    };
    let plan = new_plan(studies::find(name)?, Store::new("results"), list.grid)?;
    let line = |cell: &runner::Cell| match list.format {
        Format::Json => serde_json::to_string(cell).map(|text| text + "\n"),
        Format::Text => Ok(format!("{}  {}\n", cell.id(), cell.label())),
        Format::Csv => Ok(format!("{},\"{}\"\n", cell.id(), cell.label().replace('"', "\"\""))),
    };
    print(&plan.cells().iter().map(line).collect::<Result<String, _>>()?)?;
    Ok(0)
}

fn new_plan(study: &'static dyn Study, store: Store, grid: GridArgs) -> anyhow::Result<Plan> {
    let mut request = Request::new(study);
    grid.change(&mut request)?;
    Plan::new(study, store, request)
}

fn run(run: Run) -> anyhow::Result<u8> {
    let study = studies::find(&run.study)?;
    let store = store(Some(study.name()), run.work.out.clone())?;
    refuse_foreign(store.dir())?;
    if run.resume && Manifest::read(&store)?.is_some() {
        return resume_in(store, Some(study), run.grid, &run.work, false);
    }
    let plan = new_plan(study, store, run.grid)?;
    let lock = plan.store.open()?;
    if Manifest::read(&plan.store)?.is_some() {
        let dir = plan.store.dir();
        let how = match &run.work.out {
            Some(_) => format!("--out {}", dir.display()),
            None => study.name().to_owned(),
        };
        let message = format!(
            "already holds a run; go on with it by `experiments resume {how}`, or remove it by `experiments clean {how}`"
        );
        return Err(Error::format(dir, message).into());
    }
    execute(&plan, &lock, &run.work, false)
}

fn resume(resume: Resume) -> anyhow::Result<u8> {
    let study = resume.study.as_deref().map(studies::find).transpose()?;
    let store = store(study.map(Study::name), resume.work.out.clone())?;
    resume_in(store, study, resume.grid, &resume.work, resume.keep_failed)
}

fn resume_in(
    store: Store,
    study: Option<&'static dyn Study>,
    grid: GridArgs,
    work: &WorkArgs,
    keep_failed: bool,
) -> anyhow::Result<u8> {
    let (study, manifest) = held(&store, study)?;
    let mut request = manifest.request.clone();
    if request.grid_name == Request::new(study).grid_name {
        request.grid = study.grid().to_owned(); // The embedded grid may have grown since.
    }
    grid.change(&mut request)?;
    let plan = Plan::new(study, store, request)?;
    let lock = plan.store.open()?;
    if plan.manifest.code != manifest.code {
        say(&format!(
            "note: the run was made by version {}, this is {}; its cells are computed again",
            manifest.code, plan.manifest.code
        ));
    } else if plan.manifest.data != manifest.data {
        say("note: the data files changed since the run was made; its cells are computed again");
    }
    execute(&plan, &lock, work, keep_failed)
}

/// Computes, reports, prints; returns the exit code.
fn execute(plan: &Plan, lock: &runner::Lock, work: &WorkArgs, keep_failed: bool) -> anyhow::Result<u8> {
    let stop = runner::stop_flag()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = work.workers.map_or((cores / plan.manifest.request.threads).max(1), usize::from);
    let workers = workers.min(plan.cells().len());
    let outcome = runner::execute(plan, lock, &Options { workers, keep_failed, quiet: work.quiet }, &stop)?;
    let Outcome { total, done, records, failed, interrupted } = outcome;
    let dir = plan.store.dir().display();
    if !work.quiet {
        say(&format!("{done} of {total} cells done, {} failed; records: {dir}/records.csv", failed.len()));
    }
    if interrupted {
        say(&format!("interrupted; go on with `experiments resume --out {dir}`"));
        return Ok(INTERRUPTED);
    }
    let code = if failed.is_empty() { 0 } else { FAILED };
    if code == FAILED {
        say(&format!(
            "{} cells failed; see {dir}/failed.csv, retry with `experiments resume --out {dir}`",
            failed.len()
        ));
    }
    write_report(plan, &records, failed, work.format)?;
    Ok(code)
}

fn report(at: At) -> anyhow::Result<u8> {
    let study = at.study.as_deref().map(studies::find).transpose()?;
    let store = store(study.map(Study::name), at.out)?;
    let (study, manifest) = held(&store, study)?;
    let plan = Plan { study, store, manifest };
    let (_, records, failed) = finished(&plan)?;
    write_report(&plan, &records, failed, at.format)?;
    Ok(0)
}

/// How many cells are finished, their records, and the cells that failed.
fn finished(plan: &Plan) -> anyhow::Result<(usize, Vec<Record>, Vec<FailedCell>)> {
    let states = plan.states()?;
    let cells = || plan.cells().iter().zip(&states);
    for (cell, _) in cells().filter(|(_, state)| **state == State::Damaged) {
        say(&format!(
            "warning: results of cell {} are damaged and left out; resume computes them again",
            cell.id()
        ));
    }
    let done = cells().filter(|(_, state)| **state == State::Done).map(|(cell, _)| cell);
    let done: Vec<_> = done.collect();
    let records = plan.store.records(done.iter().copied())?;
    let failed = cells().filter(|(_, state)| **state == State::Open);
    let failed =
        failed.filter_map(|(cell, _)| Some(plan.failed_cell(cell, plan.store.error_of(cell)?))).collect();
    Ok((done.len(), records, failed))
}

fn write_report(
    plan: &Plan,
    records: &[Record],
    failed: Vec<FailedCell>,
    format: Format,
) -> anyhow::Result<()> {
    let results = Results::from_records(records.iter().cloned())?;
    let claims = plan.study.claims(&results).context("cannot judge the claims")?;
    let mut report = Report::new(&plan.store, failed, plan.facts())?.with_claims(claims);
    let mut text = plan.study.report(records, &mut report).context("cannot make the report")?;
    if !report.claims().is_empty() {
        let ledger = Ledger::of_claims(report.claims());
        text = format!("{}\n\nClaims\n{}", text.trim_end(), ledger.to_text()?);
        let markdown = ledger.to_markdown()?;
        report.write("claims.md", |file| file.write_all(markdown.as_bytes()))?;
    }
    match format {
        Format::Text => print(&format!("{}\n", text.trim_end()))?,
        Format::Json => {
            let lines = records.iter().map(|record| serde_json::to_string(record).map(|line| line + "\n"));
            print(&lines.collect::<Result<String, _>>()?)?;
        }
        Format::Csv => {
            let mut writer = csv::Writer::from_writer(Vec::new());
            records.iter().try_for_each(|record| writer.serialize(record))?;
            print(&String::from_utf8_lossy(&writer.into_inner()?))?;
        }
    }
    say(&format!("report: {}", report.entry().display()));
    Ok(())
}

/// The run directory that the arguments mean.
fn store(study: Option<&str>, out: Option<PathBuf>) -> anyhow::Result<Store> {
    match (out, study) {
        (Some(dir), _) => Ok(Store::new(dir)),
        (None, Some(study)) => Ok(Store::new(Path::new("results").join(study))),
        (None, None) => anyhow::bail!("name a study or give its run directory with `--out`"),
    }
}

/// The study and the manifest of the run in `store`.
fn held(store: &Store, study: Option<&'static dyn Study>) -> anyhow::Result<(&'static dyn Study, Manifest)> {
    let Some(manifest) = Manifest::read(store)? else {
        return Err(Error::format(store.dir(), "holds no run; start one with `experiments run`").into());
    };
    let own = studies::find(&manifest.study)?;
    match study {
        Some(study) if study.name() != own.name() => {
            let message = format!("holds a run of `{}`, not of `{}`", own.name(), study.name());
            Err(Error::format(store.dir(), message).into())
        }
        _ => Ok((own, manifest)),
    }
}

/// Refuses to scatter files over a directory that serves something else.
fn refuse_foreign(dir: &Path) -> anyhow::Result<()> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(()); // Not there yet, or opening it will say what is wrong.
    };
    let names: Vec<String> =
        entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    let ours =
        |name: &String| ["cells", "lock", "logs"].contains(&name.as_str()) || name.starts_with(".tmp-");
    if names.iter().any(|name| name == "manifest.json") || names.iter().all(ours) {
        return Ok(());
    }
    Err(Error::format(dir, "is not empty and holds no run; choose another directory with `--out`").into())
}
