//! Transfer gains: what a task gains from being trained beside another one.
//!
//! Standley et al., *Which Tasks Should Be Learned Together in Multi-task Learning?*, ICML 2020, arXiv 1905.07553.
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Scores of single-task models and of models of two tasks, by one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreTable {
    /// Names of the tasks.
    pub tasks: Vec<String>,
    /// Metric of each task.
    pub metrics: Vec<String>,
    /// Whether a larger score is a better one, for each task.
    pub higher_is_better: Vec<bool>,
    /// Score of each task trained alone.
    pub single: Vec<f64>,
    /// `[i][j]`: score on task j when trained together with task i; none where that was not tried. The diagonal is not
    /// read.
    pub together: Vec<Vec<Option<f64>>>,
}

/// Gains by partner and task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TransferGain {
    /// Names of the tasks, in the order of rows and columns.
    pub tasks: Vec<String>,
    /// `[i][j]`: what training beside task i gives task j, in units of j's metric, positive where it helps. None on the
    /// diagonal and where it was not tried.
    pub gain: Vec<Vec<Option<f64>>>,
}

/// Score on task j when trained beside task i, less the score of j alone; the sign is turned where less is better.
///
/// ```
/// use mtl_core::analysis::{ScoreTable, transfer_gain};
///
/// let table = ScoreTable {
///     tasks: vec!["digit".to_owned(), "density".to_owned()],
///     metrics: vec!["accuracy".to_owned(), "mse".to_owned()],
///     higher_is_better: vec![true, false],
///     single: vec![0.5, 2.0],
///     together: vec![vec![None, Some(1.5)], vec![Some(0.25), None]],
/// };
/// let gains = transfer_gain(&table)?;
/// assert_eq!((gains.gain[0][1], gains.gain[1][0]), (Some(0.5), Some(-0.25)));
/// assert_eq!(gains.best_partner(1), Some(0));
/// # Ok::<(), mtl_core::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Config`] when the parts of the table are not of one size, or naming task and metric of a score that is not
/// finite.
pub fn transfer_gain(table: &ScoreTable) -> Result<TransferGain> {
    let n = table.tasks.len();
    let lengths = [
        ("metrics", table.metrics.len()),
        ("higher_is_better", table.higher_is_better.len()),
        ("single", table.single.len()),
        ("together", table.together.len()),
    ];
    let rows = table.together.iter().map(|row| ("together[_]", row.len()));
    if let Some((field, found)) = lengths.into_iter().chain(rows).find(|(_, len)| *len != n) {
        let must = format!("one entry for each of {n} tasks");
        return Err(Error::config(format!("score table: {field}"), must, format!("{found} entries")));
    }
    let columns: Vec<Column<'_>> = (0..n).filter_map(|j| Column::of(table, j)).collect();
    columns.iter().try_for_each(|column| column.check(column.single, "alone"))?;
    let mut gain = Vec::with_capacity(n);
    for (i, (row, partner)) in table.together.iter().zip(&table.tasks).enumerate() {
        let mut gains = Vec::with_capacity(n);
        for (j, (score, column)) in row.iter().zip(&columns).enumerate() {
            let Some(score) = score.filter(|_| i != j) else {
                gains.push(None);
                continue;
            };
            column.check(score, &format!("beside `{partner}`"))?;
            gains.push(Some(column.sign * (score - column.single)));
        }
        gain.push(gains);
    }
    Ok(TransferGain { tasks: table.tasks.clone(), gain })
}

struct Column<'a> {
    task: &'a str,
    metric: &'a str,
    sign: f64,
    single: f64,
}

impl<'a> Column<'a> {
    fn of(table: &'a ScoreTable, j: usize) -> Option<Self> {
        let sign = if *table.higher_is_better.get(j)? { 1.0 } else { -1.0 };
        Some(Self {
            task: table.tasks.get(j)?,
            metric: table.metrics.get(j)?,
            sign,
            single: *table.single.get(j)?,
        })
    }

    fn check(&self, score: f64, how: &str) -> Result<()> {
        if score.is_finite() {
            return Ok(());
        }
        Err(Error::config(format!("`{}` of task `{}` {how}", self.metric, self.task), "finite", score))
    }
}

impl TransferGain {
    /// The partner that helps `task` most, or hurts least; the first of equals. None where no partner was tried.
    pub fn best_partner(&self, task: usize) -> Option<usize> {
        let gains = self.gain.iter().enumerate().filter_map(|(i, row)| Some((i, (*row.get(task)?)?)));
        gains.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(i, _)| i)
    }

    /// Mean of what `task` gives its partners; none where it was nobody's partner.
    pub fn given(&self, task: usize) -> Option<f64> {
        mean(self.gain.get(task)?.iter().flatten())
    }

    /// Mean of what `task` gets from its partners; none where it has none.
    pub fn received(&self, task: usize) -> Option<f64> {
        mean(self.gain.iter().filter_map(|row| row.get(task)?.as_ref()))
    }
}

fn mean<'a>(values: impl Iterator<Item = &'a f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0u32), |(sum, n), v| (sum + v, n + 1));
    (n > 0).then(|| sum / f64::from(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> ScoreTable {
        ScoreTable {
            tasks: ["a", "b", "c"].map(str::to_owned).to_vec(),
            metrics: ["accuracy", "rmse", "miou"].map(str::to_owned).to_vec(),
            higher_is_better: vec![true, false, true],
            single: vec![0.5, 4.0, 0.25],
            together: vec![
                vec![Some(9.0), Some(3.0), Some(0.5)],
                vec![Some(0.75), None, None],
                vec![Some(0.25), Some(4.5), None],
            ],
        }
    }

    #[test]
    fn gains_are_positive_where_the_metric_improves() {
        let gains = transfer_gain(&table()).unwrap();
        assert_eq!(gains.gain[0], [None, Some(1.0), Some(0.25)]);
        assert_eq!(gains.gain[1], [Some(0.25), None, None]);
        assert_eq!(gains.gain[2], [Some(-0.25), Some(-0.5), None]);
        assert_eq!(
            (gains.best_partner(0), gains.best_partner(1), gains.best_partner(9)),
            (Some(1), Some(0), None)
        );
        assert_eq!((gains.given(0), gains.given(2)), (Some(0.625), Some(-0.375)));
        assert_eq!((gains.received(0), gains.received(2)), (Some(0.0), Some(0.25)));
    }

    #[test]
    fn bad_scores_name_task_and_metric() {
        let refuse = |change: &dyn Fn(&mut ScoreTable)| {
            let mut table = table();
            change(&mut table);
            transfer_gain(&table).unwrap_err().to_string()
        };
        insta::assert_snapshot!(refuse(&|t| t.single[1] = f64::NAN), @"``rmse` of task `b` alone` must be finite, but is NaN");
        insta::assert_snapshot!(refuse(&|t| t.together[0][2] = Some(f64::INFINITY)), @"``miou` of task `c` beside `a`` must be finite, but is inf");
        insta::assert_snapshot!(refuse(&|t| t.together[1].truncate(2)), @"`score table: together[_]` must be one entry for each of 3 tasks, but is 2 entries");
        insta::assert_snapshot!(refuse(&|t| t.metrics.clear()), @"`score table: metrics` must be one entry for each of 3 tasks, but is 0 entries");
    }
}
