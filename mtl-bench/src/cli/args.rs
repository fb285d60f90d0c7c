//! Arguments of the command line.
use crate::metrics::Better;
use crate::stats::Correction;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Parser)]
#[command(
    name = "mtl-bench",
    version,
    about = "Benchmarks, statistics, tables and figures for results of experiments",
    after_help = "Files are long: one row per measured number. See `mtl-bench stats --help` for their columns."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Scores a system, or its saved responses, on a benchmark in its released format.
    Eval(Eval),
    /// Compares methods: the recommended test and why, corrected p, effects, what could have been found.
    Stats(Stats),
    /// Prints a table: means over seeds with intervals.
    Table(TableArgs),
    /// Draws a figure as SVG or PNG.
    Plot(PlotArgs),
    /// Simulates studies whose truth is known and counts wrong verdicts and intervals.
    Audit(Audit),
    /// Prints a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Benchmarks that ask a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Benchmark {
    /// IFEval or M-IFEval: a .jsonl file of prompts.
    Ifeval,
    /// Multi-IF: a .csv file of conversations.
    MultiIf,
    /// BIG-bench: task.json, or a folder of tasks.
    BigBench,
    /// Natural Instructions: a task file, or a folder of them.
    NaturalInstructions,
    /// Med-MAT: a file of choice questions.
    MedMat,
    /// SKILL-MIX: no file; combinations are drawn by the seed.
    SkillMix,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mtl-bench eval ifeval ifeval_en.jsonl --requests questions.jsonl      # what will be asked, to be answered elsewhere
  mtl-bench eval ifeval ifeval_en.jsonl --responses model.jsonl         # {\"id\": …, \"response\": …} per line
  mtl-bench eval big-bench tasks/ --program python my_model.py          # JSON lines on standard input and output
  mtl-bench eval natural-instructions tasks/ --constant ''              # the floor

A program gets {\"id\", \"messages\": [{\"role\", \"content\"}], …} and answers {\"response\": …}; where the question has
\"choices\", it answers {\"scores\": […]}, one log-probability each.")]
pub(crate) struct Eval {
    /// Benchmark.
    #[arg(value_enum)]
    pub(crate) benchmark: Benchmark,
    /// Its file or folder.
    #[arg(value_name = "PATH", required_unless_present = "skills")]
    pub(crate) path: Option<PathBuf>,
    /// Saved responses in JSON lines.
    #[arg(long, value_name = "FILE", group = "system")]
    pub(crate) responses: Option<PathBuf>,
    /// A program that answers, and its arguments; last on the line.
    #[arg(long, value_name = "PROGRAM", group = "system", num_args = 1.., allow_hyphen_values = true)]
    pub(crate) program: Vec<String>,
    /// Answers the same text to everything.
    #[arg(long, value_name = "TEXT", group = "system")]
    pub(crate) constant: Option<String>,
    /// Asks nothing; writes the questions to a file of JSON lines.
    #[arg(long, value_name = "FILE", group = "system")]
    pub(crate) requests: Option<PathBuf>,
    /// Name of the system in records; by default that of the file or program.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Writes the scores as records, .csv or .jsonl.
    #[arg(long, value_name = "FILE")]
    pub(crate) records: Option<PathBuf>,
    /// Seed of what is drawn, and of the records.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Solved examples before a BIG-bench question.
    #[arg(long, default_value_t = 0)]
    pub(crate) shots: usize,
    /// Most questions per task of BIG-bench and Natural Instructions.
    #[arg(long)]
    pub(crate) max_examples: Option<usize>,
    /// Skills per text of SKILL-MIX.
    #[arg(long, short = 'k')]
    pub(crate) skills: Option<usize>,
    /// Texts of SKILL-MIX.
    #[arg(long, default_value_t = 100)]
    pub(crate) texts: usize,
    /// Print JSON lines of records instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

const COLUMNS: &str = "\
Columns of a CSV file are method, seed, metric, value and, as far as there are any, study, cell, setting, task, step; other
columns are ignored. Where they have other names, `--columns` says so:
  mtl-bench stats runs.csv --columns method=algo,task=dataset,seed=run,value=score --metric accuracy
A file without a metric column holds the metric that `--metric` names. JSON lines have the same keys.";

/// Which records are meant.
#[derive(Debug, Args)]
pub(crate) struct Input {
    /// Records in CSV or JSON lines.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Names of columns that differ from ours, as ours=theirs.
    #[arg(long, value_name = "OURS=THEIRS", value_delimiter = ',')]
    pub(crate) columns: Vec<String>,
    /// Metric; needed when there are several.
    #[arg(long, short)]
    pub(crate) metric: Option<String>,
    /// Only records of this setting.
    #[arg(long)]
    pub(crate) setting: Option<String>,
    /// Only records of these tasks.
    #[arg(long, value_delimiter = ',')]
    pub(crate) tasks: Vec<String>,
    /// Only records of these methods.
    #[arg(long, value_delimiter = ',')]
    pub(crate) methods: Vec<String>,
    /// Only records of this step; by default the last of each run.
    #[arg(long)]
    pub(crate) step: Option<u64>,
}

/// Which values of a metric are good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Direction {
    /// Larger is better.
    Higher,
    /// Smaller is better.
    Lower,
}

impl From<Direction> for Better {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::Higher => Self::Higher,
            Direction::Lower => Self::Lower,
        }
    }
}

/// Correction for several comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CorrectionArg {
    /// None.
    None,
    /// Bonferroni.
    Bonferroni,
    /// Holm.
    Holm,
    /// Hochberg.
    Hochberg,
    /// Hommel.
    Hommel,
    /// Benjamini and Hochberg: false discoveries.
    Bh,
    /// Benjamini and Yekutieli: false discoveries under any dependence.
    By,
}

impl From<CorrectionArg> for Correction {
    fn from(arg: CorrectionArg) -> Self {
        match arg {
            CorrectionArg::None => Self::None,
            CorrectionArg::Bonferroni => Self::Bonferroni,
            CorrectionArg::Holm => Self::Holm,
            CorrectionArg::Hochberg => Self::Hochberg,
            CorrectionArg::Hommel => Self::Hommel,
            CorrectionArg::Bh => Self::BenjaminiHochberg,
            CorrectionArg::By => Self::BenjaminiYekutieli,
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = COLUMNS, after_long_help = COLUMNS)]
pub(crate) struct Stats {
    #[command(flatten)]
    pub(crate) input: Input,
    /// Which values are good; known for usual metrics.
    #[arg(long)]
    pub(crate) better: Option<Direction>,
    /// Compare all methods with this one; without, all pairs.
    #[arg(long)]
    pub(crate) baseline: Option<String>,
    /// Correction over all comparisons made.
    #[arg(long, value_enum, default_value = "holm")]
    pub(crate) correction: CorrectionArg,
    /// Confidence level.
    #[arg(long, default_value_t = 0.95)]
    pub(crate) level: f64,
    /// Seed of the bootstrap.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Drop tasks and seeds that some method lacks, instead of refusing them.
    #[arg(long)]
    pub(crate) complete: bool,
    /// Take runs of equal seeds for independent.
    #[arg(long, conflicts_with = "complete")]
    pub(crate) unpaired: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A column of the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyArg {
    /// Study.
    Study,
    /// Setting.
    Setting,
    /// Method.
    Method,
    /// Task.
    Task,
    /// Metric.
    Metric,
}

/// Formats of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableFormat {
    /// Aligned text.
    Text,
    /// Markdown.
    Markdown,
    /// LaTeX, for booktabs.
    Latex,
    /// CSV.
    Csv,
    /// HTML.
    Html,
}

#[derive(Debug, Args)]
#[command(after_help = COLUMNS, after_long_help = COLUMNS)]
pub(crate) struct TableArgs {
    #[command(flatten)]
    pub(crate) input: Input,
    /// What the rows are.
    #[arg(long, value_enum, default_value = "method")]
    pub(crate) rows: KeyArg,
    /// What the columns are.
    #[arg(long, value_enum, default_value = "task")]
    pub(crate) cols: KeyArg,
    /// Format.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: TableFormat,
    /// Show shares as percentages.
    #[arg(long)]
    pub(crate) percent: bool,
    /// Add the mean over tasks.
    #[arg(long)]
    pub(crate) mean: bool,
    /// Decimals.
    #[arg(long)]
    pub(crate) decimals: Option<usize>,
    /// Confidence level.
    #[arg(long, default_value_t = 0.95)]
    pub(crate) level: f64,
    /// Caption.
    #[arg(long)]
    pub(crate) title: Option<String>,
    /// Mark differences from this method that are significant, for methods by tasks.
    #[arg(long)]
    pub(crate) baseline: Option<String>,
    /// Which values are good, for marks; known for usual metrics.
    #[arg(long)]
    pub(crate) better: Option<Direction>,
}

/// Kinds of figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlotKind {
    /// The metric over steps, with bands over seeds.
    Curves,
    /// Means with intervals, methods by tasks.
    Bars,
    /// Methods by tasks as a heat map of means.
    HeatMap,
    /// Mean ranks over tasks with Nemenyi's critical difference.
    CriticalDifference,
    /// Share of runs and tasks above each score.
    Profiles,
    /// Means on three to eight tasks, one axis each.
    Radar,
    /// Differences from a baseline with intervals.
    Forest,
    /// A power law of the metric over steps, with its interval.
    PowerLaw,
}

#[derive(Debug, Args)]
#[command(after_help = COLUMNS, after_long_help = COLUMNS)]
pub(crate) struct PlotArgs {
    /// Kind of figure.
    #[arg(value_enum)]
    pub(crate) kind: PlotKind,
    #[command(flatten)]
    pub(crate) input: Input,
    /// File to write; the ending is svg or png.
    #[arg(long, short)]
    pub(crate) output: PathBuf,
    /// Show shares as percentages.
    #[arg(long)]
    pub(crate) percent: bool,
    /// Title.
    #[arg(long)]
    pub(crate) title: Option<String>,
    /// Which values are good, for ranks; known for usual metrics.
    #[arg(long)]
    pub(crate) better: Option<Direction>,
    /// Method that differences are taken from, for `forest`.
    #[arg(long)]
    pub(crate) baseline: Option<String>,
    /// Confidence level of bands and intervals.
    #[arg(long, default_value_t = 0.95)]
    pub(crate) level: f64,
}

#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// Studies per question.
    #[arg(long, default_value_t = 1000)]
    pub(crate) studies: u64,
    /// Seed of the simulation.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
