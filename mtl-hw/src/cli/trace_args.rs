//! The command line of `mtl-hw trace` as types.
use super::args::Output;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum Trace {
    /// Statistics of a routing trace, means over images.
    #[command(after_help = "\
Examples:
  mtl-hw trace stats routing.jsonl
  mtl-hw trace stats routing.bin --csv")]
    Stats(TraceStats),
    /// Draw a synthetic trace with a chosen skew, locality and overlap of tasks.
    #[command(after_help = "\
Examples:
  mtl-hw trace generate --images 100 --zipf 1.2 --stickiness 0.3 --out routing.jsonl
  mtl-hw trace generate --for m3vit-small:224 --task-overlap 0.5 --out routing.bin")]
    Generate(Box<TraceGenerate>),
    /// Turn JSON lines into the binary format, or back; the name of the output decides.
    #[command(after_help = "\
Example:
  mtl-hw trace convert routing.jsonl routing.bin")]
    Convert {
        /// Trace to read, JSON lines or binary.
        from: PathBuf,
        /// Trace to write: JSON lines if its name ends in .jsonl or .json, else binary.
        to: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TraceStats {
    /// Trace, JSON lines or binary.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct TraceGenerate {
    /// Takes tokens, experts, widths and layers from this model.
    #[arg(long = "for", value_name = "MODEL")]
    pub(crate) model: Option<String>,
    /// Images.
    #[arg(long, default_value_t = 1)]
    pub(crate) images: u64,
    /// Tasks.
    #[arg(long, default_value_t = 2)]
    pub(crate) tasks: u32,
    /// MoE layers.
    #[arg(long, default_value_t = 6, conflicts_with = "model")]
    pub(crate) layers: u64,
    /// Tokens of an image, class token included.
    #[arg(long, default_value_t = 197, conflicts_with = "model")]
    pub(crate) tokens: u64,
    /// Experts of a layer.
    #[arg(long, default_value_t = 16, conflicts_with = "model")]
    pub(crate) experts: u64,
    /// Experts per token.
    #[arg(long, default_value_t = 2, conflicts_with = "model")]
    pub(crate) top_k: u64,
    /// Exponent of Zipf's law; 0 for equally popular experts.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) zipf: f64,
    /// Probability to repeat a neighbour's experts.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) stickiness: f64,
    /// Patches of a row: the neighbour is then the patch to the left or above.
    #[arg(long)]
    pub(crate) grid_width: Option<u64>,
    /// Probability that a task takes the first task's experts.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) task_overlap: f64,
    /// Seed.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// File to write: JSON lines if its name ends in .jsonl or .json, else binary; without it JSON lines on stdout.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}
