//! The command line as types.
use crate::runner::{Overrides, Study};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Runs studies: grids of cells, computed in worker processes, resumable at any instant.
#[derive(Debug, Parser)]
#[command(
    name = "experiments",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  experiments list
  experiments run quickstart --seeds 0,1,2,3,4
  experiments resume quickstart
  experiments report --out results/quickstart --format csv
  experiments verify

Exit status: 0 done, 1 a cell failed or a claim is not confirmed, 2 bad usage, config or input, 130 interrupted."
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the studies, or the cells of one.
    List(List),
    /// Run a study in a new run directory.
    Run(Run),
    /// Go on with a run: compute what is missing, retry what failed, add what is asked for.
    Resume(Resume),
    /// Make tables and plots again from the records, also of a run that is still going on.
    Report(At),
    /// Print what the runs there are say about the claims of papers.
    Verify(Verify),
    /// Remove a run directory.
    Clean(Clean),
    /// Compute cells for a runner.
    #[command(hide = true)]
    Worker(Worker),
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Study whose cells to list.
    pub(super) study: Option<String>,
    /// List the studies meant for tests as well.
    #[arg(long)]
    pub(super) all: bool,
    #[command(flatten)]
    pub(super) grid: GridArgs,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  experiments run quickstart
  experiments run quickstart --seeds 0,1 --set steps=50 --only method=pcgrad
  experiments run quickstart --data ~/mnist --out results/mnist --workers 8")]
pub(super) struct Run {
    /// Study to run; see `experiments list`.
    pub(super) study: String,
    /// Go on with the run that is in the directory, if there is one.
    #[arg(long)]
    pub(super) resume: bool,
    #[command(flatten)]
    pub(super) grid: GridArgs,
    #[command(flatten)]
    pub(super) work: WorkArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  experiments resume quickstart
  experiments resume quickstart --seeds 0,1,2,3,4     # finished cells are kept, new seeds are added
  experiments resume --out results/mnist --keep-failed")]
pub(super) struct Resume {
    /// Study to go on with, unless `--out` is given.
    pub(super) study: Option<String>,
    /// Leave cells alone that failed before.
    #[arg(long)]
    pub(super) keep_failed: bool,
    #[command(flatten)]
    pub(super) grid: GridArgs,
    #[command(flatten)]
    pub(super) work: WorkArgs,
}

#[derive(Debug, Args)]
pub(super) struct At {
    /// Study to report on, unless `--out` is given.
    pub(super) study: Option<String>,
    /// Run directory [default: results/<STUDY>].
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
    /// How to print: the study's tables, or its records.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  experiments verify                                  # every study, from the runs in results/
  experiments verify flat-regions --format markdown
  experiments verify --out results/mnist

Exit status: 0 every claim is confirmed, 1 one is not, or was not run, 2 bad usage.")]
pub(super) struct Verify {
    /// Studies to verify [default: all].
    pub(super) studies: Vec<String>,
    /// Run directory, of one study [default: results/<STUDY>].
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = LedgerFormat::Text)]
    pub(super) format: LedgerFormat,
}

#[derive(Debug, Args)]
pub(super) struct Clean {
    /// Study whose results to remove, unless `--out` is given.
    pub(super) study: Option<String>,
    /// Run directory [default: results/<STUDY>].
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
    /// Do not ask.
    #[arg(long)]
    pub(super) yes: bool,
}

/// What decides the cells.
#[derive(Debug, Args)]
pub(super) struct GridArgs {
    /// Grid to use instead of the study's own.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Seeds to use instead of the grid's, such as 0,1,2.
    #[arg(long, value_delimiter = ',', value_name = "SEEDS")]
    pub(super) seeds: Option<Vec<u64>>,
    /// Give a key another value everywhere, or for one kind of cells: steps=50, train.lr=0.1.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
    /// Run only cells with this value: method=pcgrad, kind=train; repeat for several, `all` for every cell.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) only: Vec<String>,
    /// Folder of the user's own data, for studies that take one.
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
    /// Threads each cell computes with; more than one changes the last bits of results [default: 1].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) threads: Option<u16>,
}

/// How the cells are computed.
#[derive(Debug, Args)]
pub(super) struct WorkArgs {
    /// Run directory [default: results/<STUDY>].
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
    /// Worker processes [default: cores divided by threads].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) workers: Option<u16>,
    /// Show no progress.
    #[arg(long)]
    pub(super) quiet: bool,
    /// How to print the end: the study's tables, or its records.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
pub(super) struct Worker {
    pub(super) study: String,
    #[arg(long)]
    pub(super) out: PathBuf,
    #[arg(long)]
    pub(super) data: Option<PathBuf>,
    #[arg(long)]
    pub(super) threads: usize,
}

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
    /// Comma-separated, with a header.
    Csv,
}

/// How the ledger is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LedgerFormat {
    /// For people.
    Text,
    /// One table.
    Markdown,
    /// Comma-separated, with a header.
    Csv,
    /// One JSON object a line.
    Json,
}

impl GridArgs {
    /// Changes `request` as asked for.
    pub(super) fn change(self, request: &mut crate::runner::Request) -> anyhow::Result<()> {
        if let Some(path) = &self.config {
            request.grid = std::fs::read_to_string(path).map_err(|e| mtl_core::Error::io("read", path, e))?;
            request.grid_name = path.display().to_string();
        }
        let Overrides { seeds, set, only } = &mut request.overrides;
        *seeds = self.seeds.or(seeds.take());
        set.extend(self.set);
        if !self.only.is_empty() {
            *only = self.only.into_iter().filter(|filter| filter != "all").collect();
        }
        if let Some(dir) = self.data {
            request.data = Some(std::path::absolute(dir)?);
        }
        request.threads = self.threads.map_or(request.threads, usize::from);
        Ok(())
    }
}

/// One line of `list`.
pub(super) fn describe(study: &dyn Study, format: Format) -> String {
    match format {
        Format::Text => format!("{:<14} {}\n", study.name(), study.about()),
        Format::Json => format!("{}\n", serde_json::json!({ "study": study.name(), "about": study.about() })),
        Format::Csv => format!("{},\"{}\"\n", study.name(), study.about().replace('"', "\"\"")),
    }
}
