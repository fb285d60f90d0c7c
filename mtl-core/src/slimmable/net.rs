//! The network: a shared encoder and a decoder per task, run and cut at any width.
use super::{
    SlimInput, SlimNorm, SlimmableConfig, WidthConfig, WidthRatio,
    layer::{Layer, Style},
    parts::{Decoder, Flow, Stage, chain_macs, chain_sizes},
};
use crate::{
    Context, Cost, Error, Input, Model, MultiTaskModel, ParamSource, Result, Seed, StateDict, TaskSpec,
    check, source::Slice,
};
use std::collections::{BTreeMap, BTreeSet};
use tch::Tensor;

/// What a slimmable network makes of an input at some widths.
#[derive(Debug)]
pub struct SlimOutput {
    /// Output of each encoder stage, `[batch, channels]` or `[batch, channels, height, width]`.
    pub features: Vec<Tensor>,
    /// Output for each task.
    pub outputs: Vec<Tensor>,
}

/// A shared encoder and a decoder per task whose parts run at widths of their own, as views of one set of parameters.
///
/// The layers of stage `i` are `stages.{i}.{j}`, those of a decoder `decoders.{task}.{j}` and `decoders.{task}.out`;
/// `{layer}.norm.{n}` belongs to the `n`-th ratio of the configuration. A decoder reads vectors, or the mean over
/// positions of a map; that of a dense task has 3 × 3 convolutions instead and puts a patch of the output map at each
/// position. As a [`Model`] the network runs at full width.
///
/// ```
/// use mtl_core::{Context, Model, Seed, TaskSpec};
/// use mtl_core::slimmable::{SlimInput, SlimStage, SlimmableConfig, WidthRatio};
/// use tch::{Device, Kind, Tensor};
///
/// let config = SlimmableConfig::default()
///     .input(SlimInput::Vector { features: 6 })
///     .stages(&[SlimStage::Dense { units: 8, layers: 1 }])
///     .decoder(&[4]);
/// let net = config.build(vec![TaskSpec::classification("digit", 10), TaskSpec::classification("parity", 2)])?;
/// let params = net.init(Seed(0))?;
/// let mut widths = net.uniform(WidthRatio::new(0.5)?);
/// widths.decoders[1] = WidthRatio::new(0.25)?;
/// assert_eq!(net.macs(&widths)?, 6 * 4 + (4 * 2 + 2 * 10) + (4 * 1 + 1 * 2));
///
/// let input = Tensor::ones([3, 6], (Kind::Float, Device::Cpu)).into();
/// let outputs = net.forward_at(&params, &input, &widths, &Context::eval())?;
/// let (small, cut) = net.extract(&params, &widths)?;
/// assert_eq!(small.forward(&cut, &input, &Context::eval().with_task(1))?, outputs[1]);
/// assert_eq!(cut.get("stages.0.0.weight").unwrap().size(), [4, 6]);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct SlimmableNet {
    pub(super) config: SlimmableConfig,
    pub(super) tasks: Vec<TaskSpec>,
    stages: Vec<Stage>,
    pub(super) decoders: Vec<Decoder>,
}

impl SlimmableNet {
    pub(super) fn build(config: SlimmableConfig, tasks: Vec<TaskSpec>) -> Result<Self> {
        check_tasks(&config, &tasks)?;
        let mut flow = match config.input {
            SlimInput::Vector { features } => Flow { channels: features, map: None },
            SlimInput::Image { channels, height, width } => Flow { channels, map: Some((height, width)) },
        };
        let (rows, columns) = flow.map.unwrap_or((1, 1));
        if flow.channels < 1 || rows < 1 || columns < 1 {
            return Err(Error::config("input", "of sizes of at least 1", format!("{:?}", config.input)));
        }
        if config.stages.is_empty() {
            return Err(Error::config("stages", "at least one stage", "empty"));
        }
        let mut stages = Vec::with_capacity(config.stages.len());
        for (i, stage) in config.stages.iter().enumerate() {
            stages.push(Stage::build(i, *stage, &mut flow)?);
        }
        let decoder = |task: &TaskSpec| {
            let hidden = config.decoders.get(&task.name).unwrap_or(&config.decoder);
            Decoder::build(task, hidden, flow)
        };
        let decoders = tasks.iter().map(decoder).collect::<Result<_>>()?;
        let net = Self { config, tasks, stages, decoders };
        net.layers().try_for_each(|layer| layer.check_groups(net.config.norm, &net.config.widths))?;
        Ok(net)
    }

    /// The configuration that it was built from.
    pub fn config(&self) -> &SlimmableConfig {
        &self.config
    }

    /// Number of encoder stages.
    pub fn stages(&self) -> usize {
        self.stages.len()
    }

    /// Every part at the same ratio.
    pub fn uniform(&self, width: WidthRatio) -> WidthConfig {
        WidthConfig::uniform(self.stages.len(), width, self.tasks.len(), width)
    }

    /// Every part whole.
    pub fn full(&self) -> WidthConfig {
        self.uniform(WidthRatio::FULL)
    }

    /// Every part at its smallest ratio.
    pub fn smallest(&self) -> WidthConfig {
        self.uniform(self.config.widths.first().copied().unwrap_or(WidthRatio::FULL))
    }

    /// Outputs of all tasks at `widths`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for widths that the network does not have, [`Error::Unknown`] for a missing parameter,
    /// [`Error::Shape`] for an input or parameter of the wrong shape.
    pub fn forward_at(
        &self,
        params: &dyn ParamSource,
        input: &Input,
        widths: &WidthConfig,
        ctx: &Context,
    ) -> Result<Vec<Tensor>> {
        Ok(self.run_at(params, input, widths, ctx)?.outputs)
    }

    /// Output of each encoder stage at `widths`, `[batch, channels]` or `[batch, channels, height, width]`.
    ///
    /// # Errors
    ///
    /// See [`forward_at`](Self::forward_at).
    pub fn features_at(
        &self,
        params: &dyn ParamSource,
        input: &Input,
        widths: &WidthConfig,
        ctx: &Context,
    ) -> Result<Vec<Tensor>> {
        let (indices, sliced) = self.slice(params, widths)?;
        self.encode(&sliced, input, &indices.encoder, ctx)
    }

    /// Features and outputs of all tasks at `widths`, in one pass.
    ///
    /// # Errors
    ///
    /// See [`forward_at`](Self::forward_at).
    pub fn run_at(
        &self,
        params: &dyn ParamSource,
        input: &Input,
        widths: &WidthConfig,
        ctx: &Context,
    ) -> Result<SlimOutput> {
        let tasks: Vec<usize> = (0..self.tasks.len()).collect();
        self.run_tasks_at(params, input, widths, &tasks, ctx)
    }

    /// As [`run_at`](Self::run_at), for some tasks in the order given.
    ///
    /// # Errors
    ///
    /// See [`forward_at`](Self::forward_at); [`Error::Config`] for a task that does not exist.
    pub fn run_tasks_at(
        &self,
        params: &dyn ParamSource,
        input: &Input,
        widths: &WidthConfig,
        tasks: &[usize],
        ctx: &Context,
    ) -> Result<SlimOutput> {
        let (indices, sliced) = self.slice(params, widths)?;
        let features = self.encode(&sliced, input, &indices.encoder, ctx)?;
        let decode = |&task: &usize| match (self.decoders.get(task), features.last()) {
            (Some(decoder), Some(x)) => {
                decoder.forward(&sliced, x, self.style(), indices.decoders.get(task).copied().unwrap_or(0))
            }
            _ => Err(Error::config("task", format!("in 0..{}", self.tasks.len()), task)),
        };
        let outputs = tasks.iter().map(decode).collect::<Result<_>>()?;
        Ok(SlimOutput { features, outputs })
    }

    /// Multiply-accumulates of one example for all tasks at `widths`: the encoder once and every decoder.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for widths that the network does not have.
    pub fn macs(&self, widths: &WidthConfig) -> Result<u64> {
        self.indices(widths)?;
        let decoders = widths.decoders.iter().enumerate();
        let decoders: u64 = decoders.map(|(task, w)| self.decoder_macs(task, widths.last(), *w)).sum();
        Ok(self.encoder_macs(&widths.encoder) + decoders)
    }

    /// Multiply-accumulates of the encoder.
    pub(super) fn encoder_macs(&self, widths: &[WidthRatio]) -> u64 {
        let before = std::iter::once(WidthRatio::FULL).chain(widths.iter().copied());
        before.zip(widths).enumerate().map(|(i, (before, width))| self.stage_macs(i, before, *width)).sum()
    }

    /// Multiply-accumulates of stage `i` behind one at `before`; the input is always whole.
    pub(super) fn stage_macs(&self, i: usize, before: WidthRatio, width: WidthRatio) -> u64 {
        let before = if i == 0 { WidthRatio::FULL } else { before };
        self.stages.get(i).map_or(0, |stage| chain_macs(&stage.layers, before, width))
    }

    /// Multiply-accumulates of the decoder of `task` behind an encoder that ends at `last`.
    pub(super) fn decoder_macs(&self, task: usize, last: WidthRatio, width: WidthRatio) -> u64 {
        self.decoders.get(task).map_or(0, |decoder| chain_macs(&decoder.layers, last, width))
    }

    fn style(&self) -> Style {
        Style { norm: self.config.norm, activation: self.config.activation }
    }

    fn layers(&self) -> impl Iterator<Item = &Layer> {
        let decoders = self.decoders.iter().flat_map(|decoder| &decoder.layers);
        self.stages.iter().flat_map(|stage| &stage.layers).chain(decoders)
    }

    /// Every layer with the index of its ratio.
    pub(super) fn indexed<'a>(&'a self, indices: &'a Indices) -> impl Iterator<Item = (&'a Layer, usize)> {
        let stages = self.stages.iter().map(|stage| &stage.layers).zip(&indices.encoder);
        let decoders = self.decoders.iter().map(|decoder| &decoder.layers).zip(&indices.decoders);
        stages.chain(decoders).flat_map(|(layers, &index)| layers.iter().map(move |layer| (layer, index)))
    }

    /// Position of each part's ratio in the configuration.
    fn indices(&self, widths: &WidthConfig) -> Result<Indices> {
        let parts = [
            ("encoder", &widths.encoder, self.stages.len(), "stages"),
            ("decoders", &widths.decoders, self.tasks.len(), "tasks"),
        ];
        let [encoder, decoders] = parts.map(|(kind, ratios, count, what)| {
            if ratios.len() != count {
                let must = format!("one ratio for each of {count} {what}");
                return Err(Error::config(
                    format!("widths.{kind}"),
                    must,
                    format!("{} ratios", ratios.len()),
                ));
            }
            let find = |(i, ratio): (usize, &WidthRatio)| {
                self.config.widths.iter().position(|w| w == ratio).ok_or_else(|| {
                    let known: Vec<f64> = self.config.widths.iter().map(|w| w.get()).collect();
                    Error::config(format!("widths.{kind}[{i}]"), format!("among {known:?}"), ratio)
                })
            };
            ratios.iter().enumerate().map(find).collect()
        });
        Ok(Indices { encoder: encoder?, decoders: decoders? })
    }

    /// Views of `params` at `widths`.
    pub(super) fn slice<'a>(
        &self,
        params: &'a dyn ParamSource,
        widths: &WidthConfig,
    ) -> Result<(Indices, Slice<&'a dyn ParamSource>)> {
        let indices = self.indices(widths)?;
        let mut sizes = BTreeMap::new();
        let mut before = None;
        for (stage, &width) in self.stages.iter().zip(&widths.encoder) {
            chain_sizes(&stage.layers, before, width, &mut sizes);
            before = Some(width);
        }
        for (decoder, &width) in self.decoders.iter().zip(&widths.decoders) {
            chain_sizes(&decoder.layers, before, width, &mut sizes);
        }
        Ok((indices, Slice::new(params, sizes)?))
    }

    fn encode(
        &self,
        params: &dyn ParamSource,
        input: &Input,
        indices: &[usize],
        ctx: &Context,
    ) -> Result<Vec<Tensor>> {
        let mut x = match self.config.input {
            SlimInput::Vector { features } => {
                let values = &input.values;
                let flat = if values.dim() > 2 { values.flatten(1, -1) } else { values.shallow_clone() };
                if check::dims2(&flat, "input", &format!("[batch, {features}]"))?.1 != features {
                    return Err(Error::shape("input", format!("[batch, {features}]"), flat.size()));
                }
                flat
            }
            SlimInput::Image { channels, height, width } => {
                let expected = format!("[batch, {channels}, {height}, {width}]");
                let (_, c, h, w) = check::dims4(&input.values, "input", &expected)?;
                if (c, h, w) != (channels, height, width) {
                    return Err(Error::shape("input", expected, input.values.size()));
                }
                input.values.shallow_clone()
            }
        };
        let mut features = Vec::with_capacity(self.stages.len());
        for (i, (stage, &index)) in self.stages.iter().zip(indices).enumerate() {
            for layer in &stage.layers {
                x = layer.forward(params, &x, self.style(), index)?;
            }
            if stage.pool {
                x = x.max_pool2d([2i64], [2i64], [0i64], [1i64], false);
            }
            ctx.trace(|| format!("stages.{i}"), || x.detach().copy());
            features.push(x.shallow_clone());
        }
        Ok(features)
    }

    fn task(&self, ctx: &Context) -> Result<usize> {
        let names = || self.tasks.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(", ");
        match ctx.task() {
            Some(task) if task < self.tasks.len() => Ok(task),
            Some(task) => {
                let must = format!("in 0..{} ({})", self.tasks.len(), names());
                Err(Error::config("task of the context", must, task))
            }
            None => Err(Error::config("task of the context", format!("one of {}", names()), "absent")),
        }
    }
}

/// Position of each part's ratio in the configuration.
#[derive(Debug)]
pub(super) struct Indices {
    pub(super) encoder: Vec<usize>,
    pub(super) decoders: Vec<usize>,
}

fn check_tasks(config: &SlimmableConfig, tasks: &[TaskSpec]) -> Result<()> {
    if tasks.is_empty() {
        return Err(Error::config("tasks", "at least one task", "empty"));
    }
    let mut seen = BTreeSet::new();
    if let Some(task) = tasks.iter().find(|task| task.name.is_empty() || !seen.insert(task.name.as_str())) {
        return Err(Error::config("tasks", "tasks with names of their own", format!("`{}`", task.name)));
    }
    let known = || tasks.iter().map(|task| task.name.as_str());
    match config.decoders.keys().find(|name| !known().any(|task| task == *name)) {
        Some(name) => Err(Error::unknown("task", name, known())),
        None => Ok(()),
    }
}

impl Model for SlimmableNet {
    fn init(&self, seed: Seed) -> Result<StateDict> {
        let mut params = StateDict::new();
        let SlimmableConfig { norm, widths, .. } = &self.config;
        self.layers().try_for_each(|layer| layer.init(*norm, widths, seed, &mut params))?;
        Ok(params)
    }

    fn forward(&self, params: &dyn ParamSource, input: &Input, ctx: &Context) -> Result<Tensor> {
        let task = self.task(ctx)?;
        let mut output = self.run_tasks_at(params, input, &self.full(), &[task], ctx)?.outputs;
        output.pop().ok_or_else(|| Error::config("task of the context", "one that exists", task))
    }
}

impl MultiTaskModel for SlimmableNet {
    fn tasks(&self) -> &[TaskSpec] {
        &self.tasks
    }

    fn is_shared(&self, name: &str) -> bool {
        !name.starts_with("decoders.")
    }

    fn forward_all(&self, params: &dyn ParamSource, input: &Input, ctx: &Context) -> Result<Vec<Tensor>> {
        self.forward_at(params, input, &self.full(), ctx)
    }

    fn cost(&self, task: usize) -> Cost {
        let full = self.full();
        let Some(decoder) = self.decoders.get(task) else { return Cost::default() };
        let macs =
            self.encoder_macs(&full.encoder) + self.decoder_macs(task, WidthRatio::FULL, WidthRatio::FULL);
        let layers = self.stages.iter().flat_map(|stage| &stage.layers).chain(&decoder.layers);
        let normed = self.config.norm != SlimNorm::None;
        let affine = |layer: &Layer| if normed && !layer.fixed { 2 * layer.outputs as u64 } else { 0 };
        Cost { macs, params: layers.map(|layer| layer.params() + affine(layer)).sum() }
    }
}
