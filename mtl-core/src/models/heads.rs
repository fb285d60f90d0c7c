//! The head of a task: from features to the task's output.
use crate::{
    Cost, Encoder, Error, Features, ParamSource, Result, Seed, StateDict, TaskKind, TaskSpec,
    nn::{Init, linear},
};
use tch::Tensor;

/// A linear map from the features of an encoder to the output of a task.
///
/// For a dense task it maps each position to a patch of the output map, and the patches are put together.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    name: String,
    inputs: i64,
    outputs: i64,
    patches: Option<Patches>,
}

/// How patches tile the output map.
#[derive(Debug, Clone, Copy)]
struct Patches {
    grid: (i64, i64),
    size: (i64, i64),
}

impl Head {
    /// A head for `task` on `encoder`.
    pub(crate) fn new(encoder: &dyn Encoder, task: &TaskSpec) -> Result<Self> {
        Self::on(encoder.dim(), encoder.grid(), task)
    }

    /// A head for `task` on features of width `dim` with positions in `grid`.
    pub(crate) fn on(dim: i64, grid: Option<(i64, i64)>, task: &TaskSpec) -> Result<Self> {
        let patches = match task.kind {
            TaskKind::Classification { .. } | TaskKind::MultiLabel { .. } | TaskKind::Regression { .. } => {
                None
            }
            TaskKind::DenseClassification { height, width, .. }
            | TaskKind::DenseRegression { height, width, .. } => {
                Some(Patches::new(grid, &task.name, height, width)?)
            }
            ref other => {
                let field = format!("kind of task `{}`", task.name);
                return Err(Error::config(field, "one that a linear head can answer", format!("{other:?}")));
            }
        };
        if task.outputs() < 1 {
            return Err(Error::config(
                format!("outputs of task `{}`", task.name),
                "at least 1",
                task.outputs(),
            ));
        }
        Ok(Self { name: format!("heads.{}", task.name), inputs: dim, outputs: task.outputs(), patches })
    }

    /// Width of the linear map's output.
    fn width(&self) -> i64 {
        self.patches.map_or(self.outputs, |p| self.outputs * p.size.0 * p.size.1)
    }

    pub(crate) fn init(&self, seed: Seed, into: &mut StateDict) -> Result<()> {
        linear::init(&self.name, self.inputs, self.width(), true, Init::default(), seed, into)
    }

    pub(crate) fn forward(&self, params: &dyn ParamSource, features: &Features) -> Result<Tensor> {
        let Some(Patches { grid: (rows, columns), size: (height, width) }) = self.patches else {
            return params.linear(&self.name, &features.pooled);
        };
        let Some(positions) = &features.positions else {
            return Err(Error::config(
                format!("features for {}", self.name),
                "given for positions",
                "pooled only",
            ));
        };
        let batch = positions.size().first().copied().unwrap_or(0);
        let patches = params.linear(&self.name, positions)?; // [batch, rows · columns, outputs · height · width]
        if patches.size() != [batch, rows * columns, self.width()] {
            let expected = format!("[batch, {}, {}]", rows * columns, self.width());
            return Err(Error::shape(format!("output of {}", self.name), expected, patches.size()));
        }
        let tiles = patches.view([batch, rows, columns, self.outputs, height, width]);
        Ok(tiles.permute([0, 3, 1, 4, 2, 5]).reshape([batch, self.outputs, rows * height, columns * width]))
    }

    pub(crate) fn cost(&self) -> Cost {
        let weights = (self.inputs * self.width()) as u64;
        let positions = self.patches.map_or(1, |p| (p.grid.0 * p.grid.1) as u64);
        Cost { macs: weights * positions, params: weights + self.width() as u64 }
    }
}

impl Patches {
    fn new(grid: Option<(i64, i64)>, task: &str, height: i64, width: i64) -> Result<Self> {
        let field = format!("map of task `{task}`");
        let Some((rows, columns)) = grid else {
            return Err(Error::config(field, "absent with an encoder without positions", "present"));
        };
        if height < rows || width < columns || height % rows != 0 || width % columns != 0 {
            let must = format!("a multiple of the encoder's {rows} × {columns} positions");
            return Err(Error::config(field, must, format!("{height} × {width}")));
        }
        Ok(Self { grid: (rows, columns), size: (height / rows, width / columns) })
    }
}
