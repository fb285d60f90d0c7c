//! Search spaces from files.
use super::in_file;
use crate::cli::args::{Explore, StrategyArg};
use crate::cli::files::{self, beside, is_path};
use crate::cli::input::{self, Choices};
use crate::cost::engine::{Engine, Tile};
use crate::cost::{
    Accelerator, GateUnit, MoeSchedule, PowerModel, Precision, Provenance, VectorUnit, WeightPort,
};
use crate::explore::off_chip::{OffChipDims, OffChipSearch};
use crate::explore::transformer::{
    DesignDims, EnergyModel, FabricModel, Limits, Storage, Transformer, TransformerSpec, Workload,
};
use crate::explore::{Evaluate, Goal, Space};
use crate::graph::ModelGraph;
use crate::platform::Platform;
use crate::routing::Routing;
use crate::text;
use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// A space in TOML.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SpaceFile {
    platform: Option<String>,
    base: Option<String>,
    models: Vec<Network>,
    dims: Option<DesignDims>,
    off_chip: Option<OffChipDims>,
    #[serde(default)]
    limits: Limits,
    fabric: Option<FabricModel>,
    energy: Option<EnergyModel>,
    goals: Option<Vec<Goal>>,
    strategy: Option<StrategyArg>,
    #[serde(default)]
    overlap_images: bool,
}

/// A model by name, or with its routing.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Network {
    Name(String),
    Full(WorkloadFile),
}

/// A workload in TOML.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkloadFile {
    model: String,
    tokens: Option<u32>,
    routing: Option<String>,
    trace: Option<String>,
    images: Option<Vec<u64>>,
    task: Option<u32>,
    #[serde(default)]
    seed: u64,
    accuracy: Option<f64>,
}

/// What to search.
#[derive(Debug)]
pub(super) struct Search {
    designs: Designs,
    pub(super) goals: Vec<Goal>,
    pub(super) strategy: Option<StrategyArg>,
    pub(super) title: String,
    pub(super) board: String,
}

/// The space's designs, before anything is computed.
#[derive(Debug)]
enum Designs {
    OnChip(Box<TransformerSpec>),
    OffChip { base: Box<Accelerator>, network: Box<Loaded>, dims: Box<OffChipDims>, limits: Box<Limits> },
}

/// Who computes the points of a space.
pub(super) enum Evaluator<'a> {
    OnChip(Box<Transformer>),
    OffChip(Box<OffChipSearch<'a>>),
}

impl Evaluator<'_> {
    pub(super) fn space(&self) -> &Space {
        match self {
            Self::OnChip(t) => t.space(),
            Self::OffChip(o) => o.space(),
        }
    }

    pub(super) fn evaluate(&self) -> &dyn Evaluate {
        match self {
            Self::OnChip(t) => t.as_ref(),
            Self::OffChip(o) => o.as_ref(),
        }
    }
}

impl Search {
    /// Tabulates what the search needs.
    pub(super) fn evaluator(&self) -> anyhow::Result<Evaluator<'_>> {
        Ok(match &self.designs {
            Designs::OnChip(spec) => Evaluator::OnChip(Box::new(spec.as_ref().clone().build()?)),
            Designs::OffChip { base, network, dims, limits } => {
                Evaluator::OffChip(Box::new(OffChipSearch::new(
                    base.as_ref().clone(),
                    network.graph.clone(),
                    &network.routings(),
                    dims.as_ref().clone(),
                    limits.as_ref().clone(),
                )?))
            }
        })
    }

    /// What the arguments and the files that they name ask for.
    pub(super) fn of(args: &Explore) -> anyhow::Result<Self> {
        let Some(first) = args.space.as_deref() else {
            bail!("a space, or a platform and a workload, is missing")
        };
        let mut search = match &args.workload {
            Some(workload) => Self::of_pair(first, workload)?,
            None => Self::of_space(first)?,
        };
        let limits = match &mut search.designs {
            Designs::OnChip(spec) => &mut spec.limits,
            Designs::OffChip { limits, .. } => limits.as_mut(),
        };
        for (given, limit, factor) in [
            (args.max_latency_ms, &mut limits.latency_s, 1e-3),
            (args.max_energy_mj, &mut limits.energy_j, 1e-3),
            (args.max_power_w, &mut limits.power_w, 1.0),
            (args.min_accuracy, &mut limits.accuracy, 1.0),
        ] {
            *limit = given.map(|v| v * factor).or(*limit);
        }
        Ok(search)
    }

    /// A board and a workload, with the default parameters that the board allows.
    fn of_pair(platform: &str, workload: &str) -> anyhow::Result<Self> {
        let board = input::board(platform)?;
        let (title, workload) = workload_of(workload)?;
        let dims = possible(DesignDims::default(), &board);
        let board_name = board.name.clone();
        let spec = TransformerSpec { dims, ..TransformerSpec::new(base_on(board), vec![workload]) };
        let designs = Designs::OnChip(Box::new(spec));
        Ok(Self { designs, goals: Goal::defaults(), strategy: None, title, board: board_name })
    }

    fn of_space(name: &str) -> anyhow::Result<Self> {
        let path = Path::new(name);
        let content = files::read(path)?;
        Self::parse(path, &content).map_err(|e| in_file(path, e))
    }

    fn parse(path: &Path, content: &str) -> anyhow::Result<Self> {
        let file: SpaceFile = text::from_toml("space", content)?;
        let place = |named: &str| {
            if is_path(named) { beside(path, named).display().to_string() } else { named.to_owned() }
        };
        let base = match (&file.base, &file.platform) {
            (Some(base), board) => input::design(&place(base), board.as_deref().map(place).as_deref())?,
            (None, Some(board)) => base_on(input::board(&place(board))?),
            (None, None) => bail!("`platform` or `base` is missing"),
        };
        let mut networks = Vec::new();
        let mut names = Vec::new();
        for (i, network) in file.models.into_iter().enumerate() {
            let full = match network {
                Network::Full(full) => full,
                Network::Name(model) => WorkloadFile {
                    model,
                    tokens: None,
                    routing: None,
                    trace: None,
                    images: None,
                    task: None,
                    seed: 0,
                    accuracy: None,
                },
            };
            names.push(full.model.clone());
            networks.push(full.load(path).with_context(|| format!("models[{i}]"))?);
        }
        let (goals, strategy, title) =
            (file.goals.unwrap_or_else(Goal::defaults), file.strategy, names.join(", "));
        let board = base.platform.name.clone();
        let designs = if base.off_chip.is_some() {
            for (key, given) in [
                ("dims", file.dims.is_some()),
                ("fabric", file.fabric.is_some()),
                ("energy", file.energy.is_some()),
                ("overlap_images", file.overlap_images),
            ] {
                ensure!(
                    !given,
                    "`{key}` is for designs with activations on chip; `{}` keeps them off chip and takes `[off_chip]`",
                    base.name
                );
            }
            let one = networks.len() == 1;
            let Some(network) = networks.pop().filter(|_| one) else {
                bail!(
                    "`models` must be one model for a design that keeps activations off chip, but are {}",
                    names.len()
                )
            };
            ensure!(network.accuracy.is_none(), "`accuracy` is for designs with activations on chip");
            let dims = file.off_chip.unwrap_or_else(|| {
                let mut dims = OffChipDims::default();
                let fastest = base.platform.max_clock_mhz.min(base.platform.memory.port_max_clock_mhz);
                dims.clock_mhz.retain(|&c| f64::from(c) <= fastest);
                dims
            });
            Designs::OffChip {
                base: Box::new(base),
                network: Box::new(network),
                dims: Box::new(dims),
                limits: Box::new(file.limits),
            }
        } else {
            ensure!(
                file.off_chip.is_none(),
                "`[off_chip]` is for a base that keeps activations off chip, such as zcu102-edge-moe, but `{}` does not",
                base.name
            );
            let dims = possible(file.dims.unwrap_or_default(), &base.platform);
            let workloads = networks.iter().map(Loaded::workload).collect::<anyhow::Result<_>>()?;
            let mut spec = TransformerSpec::new(base, workloads);
            (spec.dims, spec.limits, spec.overlap_images) = (dims, file.limits, file.overlap_images);
            (spec.fabric, spec.energy) = (file.fabric.unwrap_or_default(), file.energy.unwrap_or_default());
            Designs::OnChip(Box::new(spec))
        };
        Ok(Self { designs, goals, strategy, title, board })
    }
}

/// A network with the choices of experts it runs under.
#[derive(Debug)]
struct Loaded {
    graph: ModelGraph,
    choices: Choices,
    /// Images of the trace, or none where there is no recorded trace.
    images: Vec<u64>,
    accuracy: Option<f64>,
}

impl Loaded {
    fn routings(&self) -> Vec<Routing<'_>> {
        match &self.choices {
            Choices::Trace { trace, task, .. } if !self.images.is_empty() => {
                self.images.iter().map(|&image| Routing::Trace { trace, image, task: *task }).collect()
            }
            other => vec![other.routing()],
        }
    }

    fn workload(&self) -> anyhow::Result<Workload> {
        let workload = Workload::new(&self.graph, &self.routings())?;
        Ok(match self.accuracy {
            Some(accuracy) => workload.accuracy(accuracy),
            None => workload,
        })
    }
}

impl WorkloadFile {
    fn load(self, file: &Path) -> anyhow::Result<Loaded> {
        let model =
            if is_path(&self.model) { beside(file, &self.model).display().to_string() } else { self.model };
        let mut graph = input::model(&model, self.tokens)?;
        ensure!(self.routing.is_none() || self.trace.is_none(), "`routing` and `trace` exclude each other");
        ensure!(
            self.images.is_none() || self.trace.is_some(),
            "`images` are those of a `trace`, which is missing"
        );
        let choices = match (&self.trace, &self.routing) {
            (Some(trace), _) => Choices::recorded(&beside(file, trace), 0, self.task.unwrap_or(0))?,
            (None, Some(routing)) => Choices::drawn(routing, self.seed, &graph)?,
            (None, None) => Choices::Uniform,
        };
        if let Some(task) = self.task {
            graph = graph.for_task(task);
        }
        let images = match &choices {
            Choices::Trace { trace, task, .. } if self.trace.is_some() => {
                let all = self.images.unwrap_or_else(|| trace.images(*task).collect());
                ensure!(!all.is_empty(), "the trace has no image of task {task}");
                all
            }
            _ => Vec::new(),
        };
        Ok(Loaded { graph, choices, images, accuracy: self.accuracy })
    }
}

/// A workload from its file, a graph's file, or a model by name.
fn workload_of(named: &str) -> anyhow::Result<(String, Workload)> {
    let path = PathBuf::from(named);
    if !named.ends_with(".toml") {
        let graph = input::model(named, None)?;
        return Ok((graph.name.clone(), Workload::new(&graph, &[Routing::Uniform])?));
    }
    let content = files::read(&path)?;
    let read = || {
        let keys: toml::Table = text::from_toml("workload", &content)?;
        if keys.contains_key("nodes") {
            let graph = ModelGraph::from_toml(&content)?;
            return Ok((graph.name.clone(), Workload::new(&graph, &[Routing::Uniform])?));
        }
        let file: WorkloadFile = text::from_toml("workload", &content)?;
        Ok((file.model.clone(), file.load(&path)?.workload()?))
    };
    read().map_err(|e| in_file(&path, e))
}

/// A plain design on a board: what the search does not choose. Loads reach 85 % of the memory's peak, and the vector unit
/// has 16 lanes.
fn base_on(platform: Platform) -> Accelerator {
    let memory = &platform.memory;
    Accelerator {
        name: format!("{}-search", platform.name),
        clock_mhz: platform.max_clock_mhz.min(memory.port_max_clock_mhz).min(200.0),
        engine: Engine::Tile(Tile { t_in: 16, t_out: 16, ii: 1, depth: 0 }),
        attention: None,
        off_chip: None,
        gate: GateUnit::MatrixEngine,
        vector: Some(VectorUnit { lanes: 16, row_latency: 40 }),
        port: WeightPort { width_bits: memory.port_bits, count: 1, burst_latency: 64, outstanding: 16 },
        dram_efficiency: 0.85,
        precision: Precision { activation_bits: 16, weight_bits: 16 },
        schedule: MoeSchedule::reordered(),
        embed_prefix_rows: false,
        power: PowerModel::Constant {
            watts: platform.typical_watts,
            source: "typical power of the board; the search has an estimate of its own".to_owned(),
        },
        provenance: Provenance::Unpublished,
        platform,
    }
}

/// Values that are the defaults, cut to what the board has; others are left for the evaluator to check.
fn possible(mut dims: DesignDims, board: &Platform) -> DesignDims {
    let defaults = DesignDims::default();
    let fastest = board.max_clock_mhz.min(board.memory.port_max_clock_mhz);
    if dims.clock_mhz == defaults.clock_mhz {
        dims.clock_mhz.retain(|&c| f64::from(c) <= fastest);
    }
    if dims.ports == defaults.ports {
        dims.ports.retain(|&p| p <= board.memory.ports);
    }
    if dims.storage == defaults.storage && board.usable().uram == 0 {
        dims.storage = vec![Storage::BlockRam];
    }
    dims
}
