//! The stages and decoders of a slimmable network.
use super::{
    SlimStage, WidthRatio,
    layer::{Layer, Op, Style},
};
use crate::{Error, ParamSource, Result, TaskKind, TaskSpec};
use std::collections::BTreeMap;
use tch::Tensor;

/// Layers of the encoder that run at the same width.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    pub(super) layers: Vec<Layer>,
    pub(super) pool: bool,
}

/// The layers of one task.
#[derive(Debug, Clone)]
pub(super) struct Decoder {
    pub(super) layers: Vec<Layer>,
    patches: Option<Patches>,
}

/// How patches tile the output map of a dense task.
#[derive(Debug, Clone, Copy)]
struct Patches {
    outputs: i64,
    grid: (i64, i64),
    size: (i64, i64),
}

/// Channels and, for a map, rows and columns on the way through the network at full width.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flow {
    pub(super) channels: i64,
    pub(super) map: Option<(i64, i64)>,
}

/// Active input channels of each layer of a part behind one at `before`; whole where there is none.
fn chain(
    layers: &[Layer],
    before: Option<WidthRatio>,
    width: WidthRatio,
) -> impl Iterator<Item = (&Layer, i64)> {
    layers.iter().enumerate().map(move |(i, layer)| {
        let before = if i == 0 { before } else { Some(width) };
        (layer, before.map_or(layer.inputs, |w| w.channels(layer.inputs)))
    })
}

/// Multiply-accumulates of a part.
pub(super) fn chain_macs(layers: &[Layer], before: WidthRatio, width: WidthRatio) -> u64 {
    chain(layers, Some(before), width).map(|(layer, inputs)| layer.macs(inputs, width)).sum()
}

/// Adds the sizes of a part's parameters.
pub(super) fn chain_sizes(
    layers: &[Layer],
    before: Option<WidthRatio>,
    width: WidthRatio,
    into: &mut BTreeMap<String, Vec<i64>>,
) {
    chain(layers, before, width).for_each(|(layer, inputs)| layer.slice(inputs, width, into));
}

impl Stage {
    pub(super) fn build(i: usize, stage: SlimStage, flow: &mut Flow) -> Result<Self> {
        let field = |name: &str| format!("stages[{i}].{name}");
        let (outputs, count) = match stage {
            SlimStage::Dense { units, layers } => (units, layers),
            SlimStage::Conv { channels, layers, .. } => (channels, layers),
        };
        if outputs < 1 || count < 1 {
            let value = format!("{outputs} channels in {count} layers");
            return Err(Error::config(format!("stages[{i}]"), "at least one channel in one layer", value));
        }
        let mut layers = Vec::with_capacity(count);
        for j in 0..count {
            let op = match (stage, flow.map) {
                (SlimStage::Dense { .. }, map) => {
                    flow.map = None;
                    Op::Dense { positions: map.map_or(1, |(h, w)| h * w) }
                }
                (SlimStage::Conv { kernel, .. }, Some(_)) if kernel >= 1 && kernel % 2 == 1 => {
                    Op::Conv { kernel }
                }
                (SlimStage::Conv { kernel, .. }, Some(_)) => {
                    return Err(Error::config(field("kernel"), "odd and at least 1", kernel));
                }
                (SlimStage::Conv { .. }, None) => {
                    let must = "behind an image or another convolution";
                    return Err(Error::config(format!("stages[{i}]"), must, "a convolution of a vector"));
                }
            };
            let area = flow.map.map_or(1, |(h, w)| h * w);
            let name = format!("stages.{i}.{j}");
            layers.push(Layer { name, op, inputs: flow.channels, outputs, area, fixed: false });
            flow.channels = outputs;
        }
        let pool = matches!(stage, SlimStage::Conv { pool: true, .. });
        if let (true, Some((h, w))) = (pool, flow.map) {
            if h < 2 || w < 2 {
                return Err(Error::config(field("pool"), "false for a map this small", format!("{h} × {w}")));
            }
            flow.map = Some((h / 2, w / 2));
        }
        Ok(Self { layers, pool })
    }
}

impl Decoder {
    pub(super) fn build(task: &TaskSpec, hidden: &[i64], flow: Flow) -> Result<Self> {
        let patches = match task.kind {
            TaskKind::Classification { .. } | TaskKind::MultiLabel { .. } | TaskKind::Regression { .. } => {
                None
            }
            TaskKind::DenseClassification { height, width, .. }
            | TaskKind::DenseRegression { height, width, .. } => {
                Some(Patches::new(task, flow.map, height, width)?)
            }
            ref other => {
                let field = format!("kind of task `{}`", task.name);
                return Err(Error::config(field, "one that a decoder can answer", format!("{other:?}")));
            }
        };
        if task.outputs() < 1 {
            return Err(Error::config(
                format!("outputs of task `{}`", task.name),
                "at least 1",
                task.outputs(),
            ));
        }
        if hidden.iter().any(|size| *size < 1) {
            let field = format!("decoder of task `{}`", task.name);
            return Err(Error::config(field, "layers of at least 1", format!("{hidden:?}")));
        }
        let op = |kernel| patches.map_or(Op::Dense { positions: 1 }, |_| Op::Conv { kernel });
        let area = patches.map_or(1, |p| p.grid.0 * p.grid.1);
        let (mut layers, mut inputs) = (Vec::with_capacity(hidden.len() + 1), flow.channels);
        for (j, &outputs) in hidden.iter().enumerate() {
            let name = format!("decoders.{}.{j}", task.name);
            layers.push(Layer { name, op: op(3), inputs, outputs, area, fixed: false });
            inputs = outputs;
        }
        let outputs = task.outputs() * patches.map_or(1, |p| p.size.0 * p.size.1);
        let name = format!("decoders.{}.out", task.name);
        layers.push(Layer { name, op: op(1), inputs, outputs, area, fixed: true });
        Ok(Self { layers, patches })
    }

    pub(super) fn forward(
        &self,
        params: &dyn ParamSource,
        features: &Tensor,
        style: Style,
        index: usize,
    ) -> Result<Tensor> {
        let map = features.dim() == 4;
        let mut x = match self.patches {
            None if map => features.mean_dim([2i64, 3].as_slice(), false, None),
            _ => features.shallow_clone(),
        };
        for layer in &self.layers {
            x = layer.forward(params, &x, style, index)?;
        }
        let Some(Patches { outputs, grid: (rows, columns), size: (height, width) }) = self.patches else {
            return Ok(x);
        };
        let tiles = x.view([-1, outputs, height, width, rows, columns]);
        Ok(tiles.permute([0, 1, 4, 2, 5, 3]).reshape([-1, outputs, rows * height, columns * width]))
    }
}

impl Patches {
    fn new(task: &TaskSpec, map: Option<(i64, i64)>, height: i64, width: i64) -> Result<Self> {
        let field = format!("map of task `{}`", task.name);
        let Some((rows, columns)) = map else {
            return Err(Error::config(field, "absent with an encoder that ends in linear maps", "present"));
        };
        if height < rows || width < columns || height % rows != 0 || width % columns != 0 {
            let must = format!("a multiple of the encoder's {rows} × {columns} positions");
            return Err(Error::config(field, must, format!("{height} × {width}")));
        }
        Ok(Self { outputs: task.outputs(), grid: (rows, columns), size: (height / rows, width / columns) })
    }
}
