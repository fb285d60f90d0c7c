//! How good a network is at a task, and the volume that networks cover together.
use crate::studies::pages::evaluate;
use mtl_bench::metrics::{Better, hypervolume, non_dominated};
use mtl_core::{
    Input, Result, TaskKind,
    data::TensorDataset,
    slimmable::{SlimmableTrainer, WidthConfig, WidthRatio},
};
use tch::Tensor;

/// The tasks, and what knowing nothing achieves at each: one of the classes, or the mean of the targets.
pub(super) const TASKS: [(&str, f64); 4] = [("class", 0.1), ("parity", 0.5), ("large", 0.5), ("ink", 0.0)];

/// The performance at a task, at most 1: the accuracy, or for numbers the share of their variance that is explained.
pub(super) fn performance(
    predict: &mut dyn FnMut(&Input) -> Result<Tensor>,
    data: &TensorDataset,
    task: usize,
) -> anyhow::Result<f64> {
    let score = evaluate(predict, data, task)?;
    Ok(match data.tasks()[task].kind {
        TaskKind::Regression { .. } => 1.0 - score / variance(data.targets(task)?),
        _ => score,
    })
}

/// Variance of the targets `[examples, dims]`, the mean over `dims`.
pub(super) fn variance(targets: &Tensor) -> f64 {
    let targets = targets.to_kind(tch::Kind::Double);
    let mean = targets.mean_dim([0i64].as_slice(), true, tch::Kind::Double);
    (targets - mean).square().mean(tch::Kind::Double).double_value(&[])
}

/// Performance at every task by width of the encoder and of the task's own decoder.
///
/// What a decoder puts out depends on no other decoder, so that these numbers are those of all networks whose encoder
/// stages have one width.
#[derive(Debug)]
pub(super) struct Grid {
    widths: Vec<WidthRatio>,
    /// `[task][encoder][decoder]`.
    values: Vec<Vec<Vec<f64>>>,
}

impl Grid {
    pub(super) fn measure(trainer: &SlimmableTrainer, data: &TensorDataset) -> anyhow::Result<Self> {
        let net = trainer.net();
        let widths = net.config().widths.clone();
        let tasks = data.tasks().len();
        let at = |task: usize, encoder: WidthRatio, decoder: WidthRatio| {
            let config = WidthConfig::uniform(net.stages(), encoder, tasks, decoder);
            performance(&mut |input| trainer.predict_at(input, task, &config), data, task)
        };
        let row = |task, encoder| widths.iter().map(|d| at(task, encoder, *d)).collect::<anyhow::Result<_>>();
        let table = |task| widths.iter().map(|e| row(task, *e)).collect::<anyhow::Result<_>>();
        let values = (0..tasks).map(table).collect::<anyhow::Result<_>>()?;
        Ok(Self { widths, values })
    }

    /// Every cell: task, encoder, decoder, performance.
    pub(super) fn cells(&self) -> impl Iterator<Item = (usize, WidthRatio, WidthRatio, f64)> {
        self.values.iter().enumerate().flat_map(move |(task, table)| {
            table.iter().zip(&self.widths).flat_map(move |(row, &encoder)| {
                row.iter().zip(&self.widths).map(move |(&value, &decoder)| (task, encoder, decoder, value))
            })
        })
    }

    /// Mean over tasks and cells, which is the mean over all networks whose encoder stages have one width.
    pub(super) fn mean(&self) -> f64 {
        let values: Vec<f64> = self.cells().map(|(.., value)| value).collect();
        values.iter().sum::<f64>() / values.len() as f64
    }

    /// Performance at each task of a network whose encoder stages have one width.
    pub(super) fn of(&self, config: &WidthConfig) -> Vec<f64> {
        let index = |width: &WidthRatio| self.widths.iter().position(|w| w == width).unwrap_or(0);
        let encoder = config.encoder.first().map_or(0, index);
        let each = self.values.iter().zip(&config.decoders);
        each.map(|(table, decoder)| table[encoder][index(decoder)]).collect()
    }
}

/// Volume between knowing nothing and perfection that networks with these performances dominate, as a share of all of it.
/// A network that is no better than knowing nothing at some task adds none.
pub(super) fn covered(points: &[Vec<f64>]) -> mtl_bench::Result<f64> {
    // Distances from perfection, 1 for knowing nothing.
    let distance = |(value, (_, nothing)): (&f64, &(&str, f64))| (1.0 - value) / (1.0 - nothing);
    let mut points: Vec<Vec<f64>> =
        points.iter().map(|point| point.iter().zip(&TASKS).map(distance).collect()).collect();
    points.retain(|point| point.iter().all(|d| *d < 1.0));
    points.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    points.dedup();
    let best = non_dominated(&points, &[Better::Lower; TASKS.len()])?;
    let mut points: Vec<Vec<f64>> = best.into_iter().map(|i| points[i].clone()).collect();
    // Sweeps the last task; three objectives are the most that `hypervolume` takes.
    const LAST: usize = TASKS.len() - 1;
    points.sort_by(|a, b| a[LAST].total_cmp(&b[LAST]));
    let mut volume = 0.0;
    for i in 0..points.len() {
        let thickness = points.get(i + 1).map_or(1.0, |next| next[LAST]) - points[i][LAST];
        if thickness > 0.0 {
            let face: Vec<Vec<f64>> = points[..=i].iter().map(|point| point[..LAST].to_vec()).collect();
            volume += thickness * hypervolume(&face, &[1.0; LAST])?;
        }
    }
    Ok(volume)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_covers_a_box_and_two_their_union() {
        // Halfway to perfection at every task.
        let half = vec![0.55, 0.75, 0.75, 0.5];
        assert!((covered(std::slice::from_ref(&half)).unwrap() - 0.5f64.powi(4)).abs() < 1e-12);
        assert!((covered(&[half.clone(), half.clone()]).unwrap() - 0.5f64.powi(4)).abs() < 1e-12);
        // Perfect at the last task, a quarter of the way at the others; the common part counts once.
        let other = vec![0.325, 0.625, 0.625, 1.0];
        let union = 0.5f64.powi(4) + 0.25f64.powi(3) - 0.25f64.powi(3) * 0.5;
        assert!((covered(&[half.clone(), other.clone()]).unwrap() - union).abs() < 1e-12);
        assert!((covered(&[other, half]).unwrap() - union).abs() < 1e-12);
    }

    #[test]
    fn a_network_without_skill_at_a_task_covers_nothing() {
        assert_eq!(covered(&[vec![1.0, 1.0, 0.5, 1.0]]).unwrap(), 0.0);
        assert_eq!(covered(&[vec![1.0; 4]]).unwrap(), 1.0);
        assert_eq!(covered(&[]).unwrap(), 0.0);
    }
}
