//! The command line as types.
use crate::cli::{compat::Ignored, extract_lora::ExtractLoraArgs, moe::MoeArgs, size};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Merges models: many fine-tuned checkpoints of one architecture into one, without training.
#[derive(Debug, Parser)]
#[command(
    name = "mtl-merge",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  mtl-merge run config.yml merged/          # also: mtl-merge config.yml merged/
  mtl-merge check config.yml
  mtl-merge inspect ft1 ft2 --base base
  mtl-merge diff merged/ reference/
  mtl-merge methods ties

Recipes are those of mergekit. Nothing is ever downloaded.

Exit status: 0 done, 1 checkpoints differ or a point of a sweep failed, 2 bad usage, recipe or checkpoint, \
130 interrupted. MTL_LOG=mtl_merge=debug logs more."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Merge the checkpoints that a recipe names.
    Run(Box<Run>),
    /// Check a recipe and its checkpoints as `run` does, and tell what it would do; write nothing.
    Check(Check),
    /// Look at checkpoints: tensors, their values, and how task vectors relate.
    Inspect(Inspect),
    /// Compare two checkpoints.
    Diff(Diff),
    /// Extract a LoRA adapter from a fine-tuned model.
    ExtractLora(Box<ExtractLoraArgs>),
    /// Build a mixture of experts from dense models.
    Moe(Box<MoeArgs>),
    /// Merge and evaluate a grid of parameters.
    Sweep(Sweep),
    /// List the merge methods, or explain one.
    Methods(Methods),
    /// Print a script that completes the options in a shell.
    #[command(after_help = "\
Example:
  mtl-merge completions bash > ~/.local/share/bash-completion/completions/mtl-merge")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

impl Command {
    /// How much is logged.
    pub(crate) fn verbosity(&self) -> u8 {
        match self {
            Self::Run(run) => run.verbosity,
            _ => 0,
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mtl-merge run config.yml merged/
  mtl-merge run config.yml merged/ --out-shard-size 2B -j 8 --random-seed 7
  mtl-merge run config.yml merged.safetensors --json --quiet > report.json

A merge that was interrupted goes on where it stopped when the same command is run again.")]
pub(crate) struct Run {
    /// Recipe: mergekit's YAML, or the same keys in TOML or JSON.
    pub(crate) config: PathBuf,
    /// Folder to write, or a file if its name ends in `.safetensors`; appears complete or not at all.
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) merge: MergeArgs,
    /// Bytes per output shard, with suffix k, m or b for 10^3, 10^6, 10^9; 0 for one file.
    #[arg(long, alias = "shard-size", value_name = "SIZE", default_value = "5B", value_parser = size::shard,
          allow_negative_numbers = true, help_heading = "Output")]
    pub(crate) out_shard_size: u64,
    /// Replace a folder that has content already.
    #[arg(long, help_heading = "Output")]
    pub(crate) overwrite: bool,
    /// Leave the model card, README.md, out.
    #[arg(long, overrides_with = "_write_model_card", help_heading = "Output")]
    pub(crate) no_write_model_card: bool,
    /// Write a model card [default].
    #[arg(long = "write-model-card", hide_short_help = true, help_heading = "Output")]
    _write_model_card: bool,
    /// Leave the tokenizer out.
    #[arg(long, overrides_with = "_copy_tokenizer", help_heading = "Output")]
    pub(crate) no_copy_tokenizer: bool,
    /// Copy the tokenizer of the base or the first model, if the recipe makes none [default].
    #[arg(long = "copy-tokenizer", hide_short_help = true, help_heading = "Output")]
    _copy_tokenizer: bool,
    /// Folder for the results of named recipes, if the file holds several [default: OUT.parts].
    #[arg(long, short = 'I', value_name = "DIR", help_heading = "Output")]
    pub(crate) intermediate_dir: Option<PathBuf>,
    /// Merge named recipes anew even if their results are there.
    #[arg(long, overrides_with = "_lazy", help_heading = "Output")]
    pub(crate) no_lazy: bool,
    #[arg(long = "lazy", hide = true)]
    _lazy: bool,
    /// Print what was done as JSON.
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    /// Show no progress and no remarks.
    #[arg(long, overrides_with = "_no_quiet", help_heading = "Output")]
    pub(crate) quiet: bool,
    #[arg(long = "no-quiet", hide = true)]
    _no_quiet: bool,
    /// Log more; twice for everything.
    #[arg(short = 'v', action = ArgAction::Count, help_heading = "Output")]
    pub(crate) verbosity: u8,
    #[command(flatten)]
    pub(crate) ignored: Ignored,
}

/// What changes a merge and its check alike.
#[derive(Debug, Clone, Args)]
pub(crate) struct MergeArgs {
    /// Seed of methods that draw at random, instead of the recipe's.
    #[arg(long, alias = "seed", value_name = "SEED")]
    pub(crate) random_seed: Option<u64>,
    /// Threads; 0 for one per core.
    #[arg(long, short = 'j', alias = "threads", value_name = "N", default_value_t = 0)]
    pub(crate) num_threads: usize,
    /// Memory besides mapped files, such as 256M or 2G.
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = size::memory)]
    pub(crate) max_memory: u64,
    /// Keep NaN and infinite values instead of refusing them.
    #[arg(long)]
    pub(crate) allow_nan: bool,
    /// Cut embedding tables of different lengths to the shortest.
    #[arg(long, overrides_with = "_no_unsafe_truncate_embeddings")]
    pub(crate) unsafe_truncate_embeddings: bool,
    #[arg(long = "no-unsafe-truncate-embeddings", hide = true)]
    _no_unsafe_truncate_embeddings: bool,
    /// Mix architectures.
    #[arg(long, overrides_with = "_no_allow_crimes")]
    pub(crate) allow_crimes: bool,
    #[arg(long = "no-allow-crimes", hide = true)]
    _no_allow_crimes: bool,
    /// Refuse keys of the recipe that mean nothing, instead of remarking on them.
    #[arg(long)]
    pub(crate) strict: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mtl-merge check config.yml
  mtl-merge check config.yml --json | jq .bytes_written")]
pub(crate) struct Check {
    /// Recipe.
    pub(crate) config: PathBuf,
    #[command(flatten)]
    pub(crate) merge: MergeArgs,
    /// Bytes per output shard, as for `run`.
    #[arg(long, alias = "shard-size", value_name = "SIZE", default_value = "5B", value_parser = size::shard)]
    pub(crate) out_shard_size: u64,
    /// Print the findings as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
    Csv,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mtl-merge inspect model/
  mtl-merge inspect ft1/ ft2/ ft3/ --base base/ --plots figures/
  mtl-merge inspect model.safetensors --csv > tensors.csv

A model is a safetensors file, an index, a folder, or one of these with a LoRA adapter: base/+adapter/.")]
pub(crate) struct Inspect {
    /// Checkpoints.
    #[arg(required = true, value_name = "MODEL")]
    pub(crate) models: Vec<String>,
    /// Model they were fine-tuned from: compare task vectors instead of listing tensors.
    #[arg(long, value_name = "MODEL")]
    pub(crate) base: Option<String>,
    /// Print JSON.
    #[arg(long, conflicts_with = "csv")]
    pub(crate) json: bool,
    /// Print comma-separated values: one line per tensor, or per part of the model with `--base`.
    #[arg(long)]
    pub(crate) csv: bool,
    /// Folder for heat maps of cosine and sign conflict and norms by layer, as SVG and PNG.
    #[arg(long, value_name = "DIR", requires = "base")]
    pub(crate) plots: Option<PathBuf>,
    /// Threads; 0 for one per core.
    #[arg(long, short = 'j', alias = "num-threads", value_name = "N", default_value_t = 0)]
    pub(crate) threads: usize,
    /// Show no progress.
    #[arg(long)]
    pub(crate) quiet: bool,
}

impl Inspect {
    pub(crate) fn format(&self) -> Format {
        match (self.json, self.csv) {
            (true, _) => Format::Json,
            (_, true) => Format::Csv,
            _ => Format::Text,
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mtl-merge diff merged/ reference/
  mtl-merge diff a.safetensors b.safetensors --rtol 1e-5 --atol 1e-6
  mtl-merge diff bf16/ f32/ --any-dtype --rtol 0.01

Equal means |a - b| <= atol + rtol * |b| for every element; by default, the same bits.
Exit status: 0 equal, 1 different, 2 a checkpoint cannot be read.")]
pub(crate) struct Diff {
    /// First checkpoint: a safetensors file, an index or a folder.
    pub(crate) first: String,
    /// Second checkpoint.
    pub(crate) second: String,
    /// Tolerance relative to the second.
    #[arg(long, value_name = "X", default_value_t = 0.0, value_parser = size::tolerance)]
    pub(crate) rtol: f64,
    /// Absolute tolerance.
    #[arg(long, value_name = "X", default_value_t = 0.0, value_parser = size::tolerance)]
    pub(crate) atol: f64,
    /// Compare floating-point values across types.
    #[arg(long)]
    pub(crate) any_dtype: bool,
    /// Most tensors to list; 0 for all.
    #[arg(long, value_name = "N", default_value_t = 40)]
    pub(crate) limit: usize,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Threads; 0 for one per core.
    #[arg(long, short = 'j', alias = "num-threads", value_name = "N", default_value_t = 0)]
    pub(crate) threads: usize,
    /// Print nothing; the exit status tells.
    #[arg(long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mtl-merge sweep config.yml sweep/ --grid lambda=0.1:1.0:0.1 --eval 'python eval.py {model}'
  mtl-merge sweep config.yml sweep/ --grid 'models[0].weight=0.2,0.4' --grid density=0.3:0.9:0.2 \\
      --eval './eval.sh {model} {name}' --metric digits --metric loss --minimize loss

The command is run without a shell; its arguments may contain {model}, the merged folder, and {name}, \
the point's name. The last line it prints must be a JSON object of metrics or a number, which is then \
called `score`. Its output is kept in OUT/logs, the results in OUT/sweep.csv and OUT/sweep.json; points \
that are there already are not computed again. A bare name such as `weight` replaces the values of all \
models.")]
pub(crate) struct Sweep {
    /// Recipe.
    pub(crate) config: PathBuf,
    /// Folder for the results.
    pub(crate) out: PathBuf,
    /// Parameter and its values, NAME=FIRST:LAST:STEP or NAME=VALUE,VALUE; repeat for a grid.
    #[arg(long, value_name = "NAME=VALUES", required = true)]
    pub(crate) grid: Vec<String>,
    /// Command that evaluates a merged model.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) eval: String,
    /// Metric to compare by; repeat for several [default: all].
    #[arg(long, value_name = "NAME")]
    pub(crate) metric: Vec<String>,
    /// Metric of which less is better; repeat for several.
    #[arg(long, value_name = "NAME")]
    pub(crate) minimize: Vec<String>,
    /// Longest time for one evaluation, in seconds.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u64>,
    /// Points under way at a time.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) jobs: u16,
    /// Keep the merged models, in OUT/models.
    #[arg(long)]
    pub(crate) keep: bool,
    #[command(flatten)]
    pub(crate) merge: MergeArgs,
    /// Print the results as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Show no progress.
    #[arg(long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mtl-merge methods
  mtl-merge methods ties
  mtl-merge methods --json")]
pub(crate) struct Methods {
    /// Method to explain.
    pub(crate) name: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
