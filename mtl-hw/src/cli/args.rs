//! The command line as types.
pub(crate) use super::trace_args::{Trace, TraceGenerate, TraceStats};
use crate::graph::Convention;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Predicts latency, energy, memory and resources of multi-task networks on FPGAs.
#[derive(Debug, Parser)]
#[command(
    name = "mtl-hw",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  mtl-hw estimate m3vit-small:512 --on zcu104-m3vit
  mtl-hw simulate m3vit-small --on zcu102-edge-moe --routing zipf:1.2 --gantt gantt.svg
  mtl-hw explore platform.toml workload.toml --plot pareto.svg
  mtl-hw compare vit-tiny m3vit-tiny --on zcu104-m3vit,zcu102-edge-moe --csv
  mtl-hw trace stats routing.jsonl

Exit status: 0 done, 1 the design does not fit its board or no design meets the constraints, 2 bad usage or input, \
130 interrupted."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Predict one image's cost in closed form, layer by layer.
    Estimate(Box<Estimate>),
    /// Simulate loads and computations of one image event by event, beside the closed form.
    Simulate(Box<Simulate>),
    /// Search for designs: the trade-off of latency, energy and resources, or widths under a budget.
    Explore(Box<Explore>),
    /// Set models, designs and schedules side by side.
    Compare(Compare),
    /// Look at, make or convert routing traces.
    Trace {
        #[command(subcommand)]
        command: Trace,
    },
    /// List the boards and designs that come with the program, or print one as TOML.
    Platforms(Platforms),
    /// Set predictions beside published numbers.
    Validate(Validate),
    /// Print a script that completes the options in a shell.
    #[command(after_help = "\
Example:
  mtl-hw completions bash > ~/.local/share/bash-completion/completions/mtl-hw")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// What runs on what.
#[derive(Debug, Clone, Args)]
pub(crate) struct Target {
    /// Design: the name of a preset (see `mtl-hw platforms --designs`) or a TOML file.
    #[arg(long, value_name = "DESIGN")]
    pub(crate) on: String,
    /// Puts the design on another board: a name (see `mtl-hw platforms`) or a TOML file.
    #[arg(long, alias = "platform", value_name = "BOARD")]
    pub(crate) board: Option<String>,
}

/// Which task and which experts.
#[derive(Debug, Clone, Args)]
pub(crate) struct RoutingArgs {
    /// Which experts tokens choose: uniform, zipf:S with an exponent S, zipf:S:P with the probability P to repeat the
    /// previous token's choice, or histogram:N,N,… with tokens per expert.
    #[arg(
        long,
        value_name = "ROUTING",
        default_value = "uniform",
        conflicts_with = "trace",
        help_heading = "Routing"
    )]
    pub(crate) routing: String,
    /// Recorded choices instead: a routing trace, JSON lines or binary.
    #[arg(long, value_name = "FILE", help_heading = "Routing")]
    pub(crate) trace: Option<PathBuf>,
    /// Image of the trace.
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Routing")]
    pub(crate) image: u64,
    /// Task that runs; without it all heads of the model run, and routing is that of task 0.
    #[arg(long, value_name = "N", help_heading = "Routing")]
    pub(crate) task: Option<u32>,
    /// Seed of drawn routing.
    #[arg(long, value_name = "SEED", default_value_t = 0, help_heading = "Routing")]
    pub(crate) seed: u64,
}

/// What is printed.
#[derive(Debug, Clone, Args)]
pub(crate) struct Output {
    /// Print JSON.
    #[arg(long, conflicts_with = "csv", help_heading = "Output")]
    pub(crate) json: bool,
    /// Print comma-separated values.
    #[arg(long, help_heading = "Output")]
    pub(crate) csv: bool,
    /// Print no remarks and no progress.
    #[arg(long, short, help_heading = "Output")]
    pub(crate) quiet: bool,
}

const MODELS: &str = "\
Models: vit-tiny, vit-small, vit-base, deit-tiny, deit-small, deit-base (each also -distilled), vit-small-12h, m3vit-tiny,
m3vit-small, resnet-18, -34, -50, -101, -152, bert-base, bert-large, mixtral-8x7b. Options follow a colon, split by commas:
sides in pixels (224 or 480x640) or tokens (512), and classes=N, patch=N, heads=N, depth=N, experts=N, top_k=N, hidden=N,
gates=N for vision transformers. Or a file: a graph in TOML or JSON, or the config.json of a Hugging Face model.
Schedules of experts: reordered, all-resident, token-by-token[:CACHED], expert-by-expert[+matrix][+speculative][+no-prefetch].";

#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  mtl-hw estimate m3vit-small:512 --on zcu104-m3vit --totals
  mtl-hw estimate vit-small --on zcu102-heatvit --roofline roofline.svg --breakdown breakdown.png
  mtl-hw estimate bert-base:128 --on design.toml --board zcu104 --json
  mtl-hw estimate resnet-18 --count fvcore

{MODELS}"))]
pub(crate) struct Estimate {
    /// Model: a name with options, such as vit-small:384, or a file.
    pub(crate) model: String,
    /// Design: the name of a preset (see `mtl-hw platforms --designs`) or a TOML file.
    #[arg(long, value_name = "DESIGN", required_unless_present = "count")]
    pub(crate) on: Option<String>,
    /// Puts the design on another board: a name (see `mtl-hw platforms`) or a TOML file.
    #[arg(long, alias = "platform", value_name = "BOARD", requires = "on")]
    pub(crate) board: Option<String>,
    /// Schedule of experts instead of the design's.
    #[arg(long, value_name = "SCHEDULE")]
    pub(crate) schedule: Option<String>,
    /// Tokens of a text model from a config.json.
    #[arg(long, value_name = "N")]
    pub(crate) tokens: Option<u32>,
    #[command(flatten)]
    pub(crate) routing: RoutingArgs,
    /// Count operations, parameters and activations in this convention.
    #[arg(long, value_name = "CONVENTION")]
    pub(crate) count: Option<CountConvention>,
    /// Sums per block and unit instead of one row per layer.
    #[arg(long, help_heading = "Output")]
    pub(crate) totals: bool,
    /// Draw the layers under the design's roofline: FILE.svg or FILE.png.
    #[arg(long, value_name = "FILE", requires = "on", help_heading = "Output")]
    pub(crate) roofline: Option<PathBuf>,
    /// Draw the time of each block and unit: FILE.svg or FILE.png.
    #[arg(long, value_name = "FILE", requires = "on", help_heading = "Output")]
    pub(crate) breakdown: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Conventions of counting.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum CountConvention {
    /// Two FLOPs per multiply-accumulate of products and convolutions, as torch.utils.flop_counter.
    Torch,
    /// Multiply-accumulates and norms, as fvcore.
    Fvcore,
    /// Multiply-accumulates of modules, as thop.
    Thop,
    /// Everything.
    Full,
}

impl From<CountConvention> for Convention {
    fn from(convention: CountConvention) -> Self {
        match convention {
            CountConvention::Torch => Self::Torch,
            CountConvention::Fvcore => Self::Fvcore,
            CountConvention::Thop => Self::Thop,
            CountConvention::Full => Self::Full,
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  mtl-hw simulate m3vit-small:512 --on zcu104-m3vit
  mtl-hw simulate m3vit-tiny --on zcu104-m3vit --routing zipf:1.2 --schedule reordered,token-by-token:4
  mtl-hw simulate m3vit-small --on zcu104-m3vit --gantt gantt.svg --layers blk.1.
  mtl-hw simulate m3vit-tiny --on zcu104-m3vit --trace routing.jsonl --all-images

The simulator keeps activations on chip. It agrees with the closed form exactly with --overlap barrier and no experts.

{MODELS}"))]
pub(crate) struct Simulate {
    /// Model: a name with options, such as vit-small:384, or a file.
    pub(crate) model: String,
    #[command(flatten)]
    pub(crate) target: Target,
    /// Schedules of experts, split by commas, instead of the design's.
    #[arg(long, value_name = "SCHEDULE", value_delimiter = ',')]
    pub(crate) schedule: Vec<String>,
    /// Tokens of a text model from a config.json.
    #[arg(long, value_name = "N")]
    pub(crate) tokens: Option<u32>,
    #[command(flatten)]
    pub(crate) routing: RoutingArgs,
    /// Simulate every image that the trace has of the task, and print means.
    #[arg(long, requires = "trace", help_heading = "Routing")]
    pub(crate) all_images: bool,
    /// How far loads run ahead.
    #[arg(long, value_name = "OVERLAP", default_value = "free")]
    pub(crate) overlap: OverlapArg,
    /// Buffers for large weights; 0 for any number.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) buffers: u32,
    /// Order of a layer's experts.
    #[arg(long, value_name = "ORDER", default_value = "index")]
    pub(crate) order: OrderArg,
    /// Draw what ran when under the first schedule: FILE.svg.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) gantt: Option<PathBuf>,
    /// Only layers whose names start so in the Gantt chart, such as `blk.1.`.
    #[arg(long, value_name = "PREFIX", requires = "gantt", help_heading = "Output")]
    pub(crate) layers: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// How far loads run ahead.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum OverlapArg {
    /// A load waits for the port and a free buffer.
    Free,
    /// Loads wait for the swap of buffers, as in the closed form.
    Barrier,
    /// A load waits for the computation before it.
    Serial,
}

/// Order of experts.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum OrderArg {
    /// By index.
    Index,
    /// By index, but the shortest computation last.
    ShortestLast,
    /// Johnson's rule.
    Johnson,
    /// The best of these.
    Best,
    /// The best of all, for up to ten active experts.
    Exhaustive,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mtl-hw platforms zcu104 > platform.toml
  echo 'model = \"m3vit-small:224\"' > workload.toml
  mtl-hw explore platform.toml workload.toml --strategy nsga2 --evaluations 20000 --plot pareto.svg
  mtl-hw explore space.toml --max-latency-ms 5 --csv > front.csv
  mtl-hw explore --widths widths.toml

space.toml (only models is required):
  platform = \"zcu104\"                    # a board or its file; or base = \"zcu104-m3vit\", a design or its file
  models = [\"m3vit-small:224\"]           # several become one more dimension; [[models]] tables as workload.toml
  goals = [\"latency\", \"energy\", \"max-resource\"]
  strategy = \"auto\"
  [dims]                                 # what is left out takes the default values that the board allows
  rows = [8, 16, 32]
  weight_bits = [8, 16]
  [limits]
  latency_s = 0.01

A base that keeps activations off chip, such as \"zcu102-edge-moe\", takes [off_chip] in place of [dims]:
  [off_chip]
  t_in = [8, 16, 32]                     # and t_out, queries, lanes, clock_mhz
  projections = [0, 16]                  # side of a unit of its own for attention's projections; 0 for none

workload.toml:
  model = \"m3vit-small:224\"              # or a graph file by itself
  routing = \"zipf:1.2\"                   # or trace = \"routing.jsonl\", with images = [0, 1]
  task = 0
  accuracy = 0.81

widths.toml:
  budgets = [4e6, 8e6]                   # in the unit of cost: MACs, seconds or joules
  preferences = [0.5, 0.5]
  cost = \"macs\"                          # latency and energy need design = \"zcu104-m3vit\"
  accuracy = \"accuracy.csv\"              # columns encoder.0, …, decoder.0, …, task.0, …; or a [score] table
  [space]
  encoder = [[0.5, 1.0], [0.5, 1.0]]
  decoders = [[0.5, 1.0], [0.5, 1.0]]
  [net]
  input_channels = 3
  encoder = [[{ positions = 1024, kernel = 3, channels = 32 }], [{ positions = 256, kernel = 3, channels = 64 }]]
  decoders = [[{ positions = 1, kernel = 1, channels = 10, fixed = true }], \
[{ positions = 1, kernel = 1, channels = 2, fixed = true }]]

Paths in a file are relative to it.")]
pub(crate) struct Explore {
    /// Space in TOML, or a board in TOML or by name when a workload follows.
    #[arg(value_name = "SPACE|PLATFORM", required_unless_present = "widths")]
    pub(crate) space: Option<String>,
    /// Workload in TOML, a graph file, or a model by name.
    pub(crate) workload: Option<String>,
    /// Search widths of a slimmable network under budgets instead.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["space", "workload"])]
    pub(crate) widths: Option<PathBuf>,
    /// How to search.
    #[arg(long, value_name = "STRATEGY")]
    pub(crate) strategy: Option<StrategyArg>,
    /// Most evaluations; the number of points of a random search.
    #[arg(long, value_name = "N")]
    pub(crate) evaluations: Option<u64>,
    /// Most seconds; results then depend on the machine.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) time: Option<f64>,
    /// Seed of random strategies.
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Threads, one per core if 0; results do not depend on them.
    #[arg(long, short = 'j', value_name = "N", default_value_t = 0)]
    pub(crate) threads: usize,
    /// Longest latency.
    #[arg(long, value_name = "MS", help_heading = "Constraints")]
    pub(crate) max_latency_ms: Option<f64>,
    /// Most energy per image.
    #[arg(long, value_name = "MJ", help_heading = "Constraints")]
    pub(crate) max_energy_mj: Option<f64>,
    /// Highest average power.
    #[arg(long, value_name = "W", help_heading = "Constraints")]
    pub(crate) max_power_w: Option<f64>,
    /// Least accuracy.
    #[arg(long, value_name = "A", help_heading = "Constraints")]
    pub(crate) min_accuracy: Option<f64>,
    /// Draw the front: FILE.svg or FILE.png.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) plot: Option<PathBuf>,
    /// Rows of the table at most; 0 for all.
    #[arg(long, value_name = "N", default_value_t = 20, help_heading = "Output")]
    pub(crate) limit: usize,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Strategies of search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StrategyArg {
    /// Exhaustive up to 10⁷ points, else branch and bound where bounds help, else NSGA-II.
    Auto,
    /// Every point.
    Exhaustive,
    /// The exhaustive front from fewer evaluations.
    BranchAndBound,
    /// Genetic search.
    Nsga2,
    /// Different random points.
    Random,
    /// UbiMoE's two stages.
    Ubimoe,
}

#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  mtl-hw compare m3vit-small:512 --on zcu104-m3vit --schedule reordered,token-by-token:4,all-resident
  mtl-hw compare vit-tiny vit-small m3vit-tiny --on zcu104-m3vit,zcu102-edge-moe --sort energy --csv

{MODELS}"))]
pub(crate) struct Compare {
    /// Models: names with options, or files.
    #[arg(required = true, value_name = "MODEL")]
    pub(crate) models: Vec<String>,
    /// Designs, split by commas: presets or TOML files; all presets without it.
    #[arg(long, value_name = "DESIGN", value_delimiter = ',')]
    pub(crate) on: Vec<String>,
    /// Schedules of experts, split by commas, instead of the designs'.
    #[arg(long, value_name = "SCHEDULE", value_delimiter = ',')]
    pub(crate) schedule: Vec<String>,
    /// Order of the rows.
    #[arg(long, value_name = "COLUMN", default_value = "latency")]
    pub(crate) sort: SortBy,
    #[command(flatten)]
    pub(crate) routing: RoutingArgs,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Columns to sort by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SortBy {
    /// Shortest first.
    Latency,
    /// Least first.
    Energy,
    /// Least on-chip memory first.
    Memory,
    /// Fewest loaded bytes first.
    Traffic,
    /// As given.
    None,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mtl-hw platforms
  mtl-hw platforms zcu104 > my-board.toml
  mtl-hw platforms zcu104-m3vit > my-design.toml")]
pub(crate) struct Platforms {
    /// Board or design to print as TOML.
    pub(crate) name: Option<String>,
    /// List designs instead of boards.
    #[arg(long, conflicts_with = "name")]
    pub(crate) designs: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mtl-hw validate | less
  mtl-hw validate --csv
  mtl-hw validate --write VALIDATION.md")]
pub(crate) struct Validate {
    /// Write the text to a file instead.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "csv"])]
    pub(crate) write: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: Output,
}
