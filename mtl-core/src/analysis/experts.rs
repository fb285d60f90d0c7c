//! Who uses which expert: load, entropy, overlap, mutual information.
//!
//! Mutual information of tasks and experts: Chen et al., *Mod-Squad: Designing Mixtures of Experts As Modular Multi-Task
//! Learners*, CVPR 2023, arXiv 2212.08066, where all tasks are equally likely.
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// How likely each task is when mutual information is computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskPrior {
    /// All tasks alike, as in Mod-Squad.
    #[default]
    Uniform,
    /// In proportion to what each task routed.
    Counts,
}

/// How much each task routed to each expert, collected from choices or gates.
///
/// ```
/// use mtl_core::analysis::{ExpertCounts, TaskPrior};
///
/// let mut counts = ExpertCounts::new(&["seg", "depth"], 4)?;
/// counts.add_choices(0, &[0, 1, 0, 1])?; // two tokens, two experts each
/// counts.add_gates(1, &[0.0, 0.0, 0.5, 0.5])?; // one token
/// let usage = counts.usage(0.0, TaskPrior::Uniform)?;
/// assert_eq!(usage.load[0], [0.5, 0.5, 0.0, 0.0]);
/// assert_eq!((usage.entropy[0], usage.overlap[0][1]), (0.5, 0.0)); // ln 2 / ln 4; no expert in common
/// assert!((usage.mutual_information - 2f64.ln()).abs() < 1e-12); // The expert tells the task.
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpertCounts {
    tasks: Vec<String>,
    experts: usize,
    /// `[tasks][experts]`.
    counts: Vec<Vec<f64>>,
}

/// Statistics of the use of experts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExpertUsage {
    /// Names of the tasks.
    pub tasks: Vec<String>,
    /// Share of each expert in what a task routed, `[tasks][experts]`; a row sums to 1.
    pub load: Vec<Vec<f64>>,
    /// Entropy of each task's load over ln(experts): 1 when even, 0 when one expert does all. 1 for a single expert.
    pub entropy: Vec<f64>,
    /// Jaccard overlap of the sets of experts of two tasks, `[tasks][tasks]`: size of the intersection over that of the
    /// union; 0 for two empty sets.
    pub overlap: Vec<Vec<f64>>,
    /// I(task; expert), in nats: 0 when all tasks route alike.
    pub mutual_information: f64,
}

impl ExpertCounts {
    /// Nothing counted yet.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] without a task or an expert.
    pub fn new(tasks: &[&str], experts: usize) -> Result<Self> {
        if tasks.is_empty() || experts == 0 {
            let value = format!("{} tasks and {experts} experts", tasks.len());
            return Err(Error::config("expert usage", "of at least one task and one expert", value));
        }
        let names = tasks.iter().map(|name| (*name).to_owned()).collect();
        Ok(Self { tasks: names, experts, counts: vec![vec![0.0; experts]; tasks.len()] })
    }

    /// Adds chosen experts, one entry for each token and choice.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a task that does not exist, or naming the task with an expert that does not; nothing is
    /// added then.
    pub fn add_choices(&mut self, task: usize, experts: &[i64]) -> Result<()> {
        let n = self.experts;
        let (name, row) = self.row(task)?;
        let valid = |expert: &i64| usize::try_from(*expert).is_ok_and(|expert| expert < n);
        if let Some(bad) = experts.iter().find(|expert| !valid(expert)) {
            return Err(Error::config(format!("expert chosen for task `{name}`"), format!("in 0..{n}"), bad));
        }
        for expert in experts {
            if let Some(slot) = usize::try_from(*expert).ok().and_then(|expert| row.get_mut(expert)) {
                *slot += 1.0;
            }
        }
        Ok(())
    }

    /// Adds gates, `[tokens, experts]` row by row.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a task that does not exist, or naming the task with rows of another length or a gate that
    /// is negative or not finite; nothing is added then.
    pub fn add_gates(&mut self, task: usize, gates: &[f64]) -> Result<()> {
        let n = self.experts;
        let (name, row) = self.row(task)?;
        let field = || format!("gates of task `{name}`");
        if !gates.len().is_multiple_of(n) {
            let value = format!("{} numbers", gates.len());
            return Err(Error::config(field(), format!("rows of {n} experts"), value));
        }
        if let Some(bad) = gates.iter().find(|gate| !(0.0 <= **gate && gate.is_finite())) {
            return Err(Error::config(field(), "finite and at least 0", bad));
        }
        for token in gates.chunks_exact(n) {
            row.iter_mut().zip(token).for_each(|(slot, gate)| *slot += gate);
        }
        Ok(())
    }

    /// Adds a tensor that a router traced: of integers, experts chosen in any shape; else gates `[…, experts]`.
    ///
    /// # Errors
    ///
    /// Those of [`add_choices`](Self::add_choices) and [`add_gates`](Self::add_gates).
    #[cfg(feature = "torch")]
    pub fn add_trace(&mut self, task: usize, trace: &tch::Tensor) -> Result<()> {
        use tch::Kind;
        let flat = crate::no_grad(|| trace.detach().flatten(0, -1).to_device(tch::Device::Cpu));
        if trace.is_floating_point() {
            if trace.size().last() != Some(&(self.experts as i64)) {
                let expected = format!("[…, {}]", self.experts);
                let (name, _) = self.row(task)?;
                return Err(Error::shape(format!("gates of task `{name}`"), expected, trace.size()));
            }
            let gates: Vec<f64> = Vec::try_from(flat.to_kind(Kind::Double))?;
            return self.add_gates(task, &gates);
        }
        let choices: Vec<i64> = Vec::try_from(flat.to_kind(Kind::Int64))?;
        self.add_choices(task, &choices)
    }

    /// What was added so far, `[tasks][experts]`.
    pub fn counts(&self) -> &[Vec<f64>] {
        &self.counts
    }

    /// Statistics of what was added. An expert is in a task's set when its share of the task's load is above
    /// `threshold`, which is in `[0, 1)`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming a task that routed nothing, or for a threshold out of range.
    pub fn usage(&self, threshold: f64, prior: TaskPrior) -> Result<ExpertUsage> {
        if !(0.0..1.0).contains(&threshold) {
            return Err(Error::config("threshold of expert usage", "at least 0 and below 1", threshold));
        }
        let totals: Vec<f64> = self.counts.iter().map(|row| row.iter().sum()).collect();
        if let Some((name, total)) = self.tasks.iter().zip(&totals).find(|(_, total)| **total <= 0.0) {
            return Err(Error::config(format!("load of task `{name}` for expert usage"), "positive", total));
        }
        let shares = |(row, total): (&Vec<f64>, &f64)| row.iter().map(|n| n / total).collect();
        let load: Vec<Vec<f64>> = self.counts.iter().zip(&totals).map(shares).collect();
        let sets: Vec<Vec<bool>> =
            load.iter().map(|row| row.iter().map(|share| *share > threshold).collect()).collect();
        let overlap = sets.iter().map(|a| sets.iter().map(|b| jaccard(a, b)).collect()).collect();
        let all: f64 = totals.iter().sum();
        let likely = |total: &f64| match prior {
            TaskPrior::Uniform => 1.0 / totals.len() as f64,
            TaskPrior::Counts => total / all,
        };
        let prior: Vec<f64> = totals.iter().map(likely).collect();
        Ok(ExpertUsage {
            tasks: self.tasks.clone(),
            entropy: load.iter().map(|row| normalised_entropy(row)).collect(),
            overlap,
            mutual_information: mutual_information(&prior, &load),
            load,
        })
    }

    fn row(&mut self, task: usize) -> Result<(&str, &mut Vec<f64>)> {
        let tasks = self.tasks.len();
        match (self.tasks.get(task), self.counts.get_mut(task)) {
            (Some(name), Some(row)) => Ok((name, row)),
            _ => Err(Error::config("task of expert usage", format!("below {tasks}"), task)),
        }
    }
}

fn normalised_entropy(shares: &[f64]) -> f64 {
    if shares.len() < 2 {
        return 1.0; // A single expert carries no choice: its load is even by definition.
    }
    let entropy: f64 = shares.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
    entropy / (shares.len() as f64).ln()
}

fn jaccard(a: &[bool], b: &[bool]) -> f64 {
    let count = |f: fn(bool, bool) -> bool| a.iter().zip(b).filter(|(x, y)| f(**x, **y)).count() as f64;
    let union = count(|x, y| x || y);
    if union > 0.0 { count(|x, y| x && y) / union } else { 0.0 }
}

/// `Σ p(t) p(e|t) ln(p(e|t) / p(e))`; never below 0, whatever rounding says.
fn mutual_information(prior: &[f64], load: &[Vec<f64>]) -> f64 {
    let experts = load.first().map_or(0, Vec::len);
    let marginal = |e: usize| -> f64 {
        prior.iter().zip(load).map(|(p, row)| p * row.get(e).copied().unwrap_or(0.0)).sum()
    };
    let marginals: Vec<f64> = (0..experts).map(marginal).collect();
    let term = |(p, row): (&f64, &Vec<f64>)| -> f64 {
        let used = row.iter().zip(&marginals).filter(|(share, _)| **share > 0.0);
        p * used.map(|(share, marginal)| share * (share / marginal).ln()).sum::<f64>()
    };
    prior.iter().zip(load).map(term).sum::<f64>().max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(rows: &[&[f64]]) -> ExpertCounts {
        let names = ["seg", "depth", "edge"];
        let mut counts = ExpertCounts::new(&names[..rows.len()], rows[0].len()).unwrap();
        rows.iter().enumerate().for_each(|(task, row)| counts.add_gates(task, row).unwrap());
        counts
    }

    #[test]
    fn tasks_that_route_alike_share_everything_and_tell_nothing() {
        let usage = counts(&[&[1.0, 3.0], &[2.0, 6.0]]).usage(0.0, TaskPrior::Counts).unwrap();
        assert_eq!((usage.mutual_information, usage.overlap[0][1]), (0.0, 1.0));
        assert_eq!(usage.load[0], usage.load[1]);
        let even = counts(&[&[2.0, 2.0, 2.0]]).usage(0.0, TaskPrior::Uniform).unwrap();
        assert!((even.entropy[0] - 1.0).abs() < 1e-12);
    }

    #[test]
    fn mutual_information_is_that_of_the_joint_table() {
        // Joint table of counts [[3, 1], [0, 4]] / 8.
        let counts = counts(&[&[3.0, 1.0], &[0.0, 4.0]]);
        let joint = [(3.0f64, 4.0, 3.0), (1.0, 4.0, 5.0), (4.0, 4.0, 5.0)]; // cell, row, column
        let wanted: f64 = joint.iter().map(|(n, r, c)| n / 8.0 * (n * 8.0 / (r * c)).ln()).sum();
        let usage = counts.usage(0.0, TaskPrior::Counts).unwrap();
        assert!((usage.mutual_information - wanted).abs() < 1e-12);
        assert_eq!(usage.overlap[0][1], 0.5);
        // A quarter is not above a threshold of a quarter.
        assert_eq!(counts.usage(0.25, TaskPrior::Counts).unwrap().overlap[0][1], 0.0);
    }

    #[test]
    fn the_prior_matters_where_tasks_route_unequal_amounts() {
        let counts = counts(&[&[9.0, 0.0], &[0.0, 1.0]]);
        let at = |prior| counts.usage(0.0, prior).unwrap().mutual_information;
        assert!((at(TaskPrior::Uniform) - 2f64.ln()).abs() < 1e-12);
        let skewed = -(0.9f64 * 0.9f64.ln() + 0.1 * 0.1f64.ln());
        assert!((at(TaskPrior::Counts) - skewed).abs() < 1e-12);
    }

    #[test]
    fn bad_routing_names_the_task_and_adds_nothing() {
        let mut counts = ExpertCounts::new(&["seg", "depth"], 2).unwrap();
        insta::assert_snapshot!(counts.add_choices(1, &[0, 2]).unwrap_err(), @"`expert chosen for task `depth`` must be in 0..2, but is 2");
        insta::assert_snapshot!(counts.add_choices(2, &[0]).unwrap_err(), @"`task of expert usage` must be below 2, but is 2");
        insta::assert_snapshot!(counts.add_gates(0, &[0.5, f64::NAN]).unwrap_err(), @"`gates of task `seg`` must be finite and at least 0, but is NaN");
        insta::assert_snapshot!(counts.add_gates(0, &[0.5]).unwrap_err(), @"`gates of task `seg`` must be rows of 2 experts, but is 1 numbers");
        assert_eq!(counts.counts().concat(), [0.0; 4]);
        counts.add_choices(0, &[1]).unwrap();
        insta::assert_snapshot!(counts.usage(0.0, TaskPrior::Uniform).unwrap_err(), @"`load of task `depth` for expert usage` must be positive, but is 0");
        insta::assert_snapshot!(counts.usage(1.0, TaskPrior::Uniform).unwrap_err(), @"`threshold of expert usage` must be at least 0 and below 1, but is 1");
        assert!(ExpertCounts::new(&[], 2).is_err() && ExpertCounts::new(&["a"], 0).is_err());
    }

    #[cfg(feature = "torch")]
    #[test]
    fn traces_are_choices_or_gates_by_their_kind() {
        use tch::Tensor;
        let mut counts = ExpertCounts::new(&["seg"], 3).unwrap();
        counts.add_trace(0, &Tensor::from_slice(&[0i64, 2, 2, 1]).view([1, 2, 2])).unwrap();
        counts.add_trace(0, &Tensor::from_slice(&[0.5f32, 0.0, 0.5]).view([1, 3])).unwrap();
        assert_eq!(counts.counts()[0], [1.5, 1.0, 2.5]);
        let err = counts.add_trace(0, &Tensor::from_slice(&[0.5f32, 0.5])).unwrap_err();
        insta::assert_snapshot!(err, @"`gates of task `seg`` must have shape […, 3], but has [2]");
    }
}
