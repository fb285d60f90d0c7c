//! How much the gradients of tasks disagree.
//!
//! Yu et al., *Gradient Surgery for Multi-Task Learning*, NeurIPS 2020, arXiv 2001.06782 (cosines, magnitude
//! similarity, definition 2); Senushkin et al., *Independent Component Alignment for Multi-Task Learning*, CVPR 2023,
//! arXiv 2305.19000 (condition number).
use crate::{
    Error, Result, StateDict,
    balancing::{Gram, TaskGrads},
};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use tch::{Kind, Tensor};

/// Disagreement of the gradients of two or more tasks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConflictReport {
    /// Cosine of the angle between each two gradients, `[tasks, tasks]`; 0 where one is zero.
    pub cosine: Vec<Vec<f64>>,
    /// Mean cosine over pairs of tasks.
    pub mean_cosine: f64,
    /// Least cosine of a pair.
    pub min_cosine: f64,
    /// Share of pairs with a negative cosine.
    pub conflict_fraction: f64,
    /// `2·n_i·n_j / (n_i² + n_j²)` for norms `n`, `[tasks, tasks]`: 1 for equal norms. Two zero gradients have 1.
    pub magnitude_similarity: Vec<Vec<f64>>,
    /// Mean magnitude similarity over pairs.
    pub mean_magnitude_similarity: f64,
    /// Ratio of the largest to the smallest singular value of the gradients as rows of a matrix. Infinite where the
    /// smallest is lost in rounding, which happens from about 10⁷ on as it comes from inner products.
    pub condition_number: f64,
    /// Cosine of each gradient with the mean of all, `[tasks]`; 0 where one is zero.
    pub cosine_with_mean: Vec<f64>,
}

/// Measures of conflict from the inner products of task gradients.
///
/// ```
/// use mtl_core::{analysis::conflict, balancing::Gram};
///
/// let report = conflict(&Gram::from_rows(&[vec![1.0, -1.0], vec![-1.0, 4.0]])?)?;
/// assert_eq!((report.mean_cosine, report.conflict_fraction), (-0.5, 1.0));
/// assert_eq!(report.magnitude_similarity[0][1], 0.8); // 2·1·2 / (1 + 4)
/// # Ok::<(), mtl_core::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Config`] for fewer than two tasks, [`Error::Torch`] when the eigenvalues are not found.
pub fn conflict(gram: &Gram) -> Result<ConflictReport> {
    let tasks = gram.tasks();
    if tasks < 2 {
        return Err(Error::config("gradients for `conflict`", "those of at least two tasks", tasks));
    }
    let square = |f: &dyn Fn(usize, usize) -> f64| -> Vec<Vec<f64>> {
        (0..tasks).map(|i| (0..tasks).map(|j| f(i, j)).collect()).collect()
    };
    let similarity = |i: usize, j: usize| {
        let sum = gram.get(i, i) + gram.get(j, j);
        if sum > 0.0 { 2.0 * gram.norm(i) * gram.norm(j) / sum } else { 1.0 }
    };
    let cosines = pairs(gram, Gram::cosine);
    let negative = cosines.iter().filter(|c| **c < 0.0).count();
    let sums = gram.times(&vec![1.0; tasks]);
    let norm_of_sum = sums.iter().sum::<f64>().max(0.0).sqrt();
    let with_mean = |(i, sum): (usize, &f64)| {
        let norms = gram.norm(i) * norm_of_sum;
        if norms > 0.0 { sum / norms } else { 0.0 }
    };
    Ok(ConflictReport {
        cosine: square(&|i, j| gram.cosine(i, j)),
        mean_cosine: mean(&cosines),
        min_cosine: cosines.iter().copied().fold(f64::INFINITY, f64::min),
        conflict_fraction: negative as f64 / cosines.len() as f64,
        magnitude_similarity: square(&similarity),
        mean_magnitude_similarity: mean(&pairs(gram, |_, i, j| similarity(i, j))),
        condition_number: condition_number(gram)?,
        cosine_with_mean: sums.iter().enumerate().map(with_mean).collect(),
    })
}

/// `f` of each pair of tasks.
pub(super) fn pairs(gram: &Gram, f: impl Fn(&Gram, usize, usize) -> f64) -> Vec<f64> {
    let tasks = gram.tasks();
    (0..tasks).flat_map(|i| (i + 1..tasks).map(move |j| (i, j))).map(|(i, j)| f(gram, i, j)).collect()
}

pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn condition_number(gram: &Gram) -> Result<f64> {
    let tasks = gram.tasks();
    let matrix = Tensor::from_slice(&gram.rows().concat()).view([tasks as i64, tasks as i64]);
    let values = matrix.f_linalg_eigvalsh("L")?; // rising
    let (least, most) = (values.min().double_value(&[]), values.max().double_value(&[]));
    debug_assert_eq!(values.kind(), Kind::Double);
    let noise = tasks as f64 * f64::EPSILON * most;
    Ok(if least > noise { (most / least).sqrt() } else { f64::INFINITY })
}

/// The parameter without its last component: `fc0` of `fc0.weight`.
pub fn layer_of(name: &str) -> String {
    name.rsplit_once('.').map_or(name, |(layer, _)| layer).to_owned()
}

/// [`conflict()`] for each group of parameters, by the name that `group` gives each of them; [`layer_of`] gives one
/// report per layer. A parameter that a task does not use counts as zero.
///
/// ```
/// use mtl_core::{StateDict, analysis::{conflict_by_group, layer_of}, balancing::TaskGrads};
/// use tch::Tensor;
///
/// let task = |a: f32, b: f32| -> StateDict {
///     [("a.weight", a), ("b.weight", b)].map(|(n, v)| (n.to_owned(), Tensor::from_slice(&[v]))).into_iter().collect()
/// };
/// let reports = conflict_by_group(&TaskGrads::new(vec![task(1.0, 1.0), task(2.0, -3.0)])?, layer_of)?;
/// assert_eq!((reports["a"].mean_cosine, reports["b"].mean_cosine), (1.0, -1.0));
/// # Ok::<(), mtl_core::Error>(())
/// ```
///
/// # Errors
///
/// Those of [`conflict()`]; [`Error::NonFinite`] for NaN or infinity in a gradient.
pub fn conflict_by_group(
    grads: &TaskGrads,
    group: impl Fn(&str) -> String,
) -> Result<BTreeMap<String, ConflictReport>> {
    let groups: BTreeSet<String> = grads.names().into_iter().map(&group).collect();
    let report = |name: String| {
        let report = conflict(&subset(grads, |param| group(param) == name)?.gram()?)?;
        Ok((name, report))
    };
    groups.into_iter().map(report).collect()
}

/// Gradient alignment: mean pairwise cosine of the task gradients of the parameters that `keep` accepts, such as those
/// of an adapter (Page-Caccia et al., *Multi-Head Adapter Routing for Cross-Task Generalization*, NeurIPS 2023, arXiv
/// 2211.03831).
///
/// # Errors
///
/// [`Error::Config`] for fewer than two tasks or when `keep` accepts no parameter with a gradient;
/// [`Error::NonFinite`] for NaN or infinity in a gradient.
pub fn alignment(grads: &TaskGrads, keep: impl Fn(&str) -> bool) -> Result<f64> {
    if grads.tasks() < 2 {
        let field = "gradients for `alignment`";
        return Err(Error::config(field, "those of at least two tasks", grads.tasks()));
    }
    let kept = subset(grads, keep)?;
    if kept.names().is_empty() {
        let field = "parameters for `alignment`";
        return Err(Error::config(field, "at least one with a gradient", "none"));
    }
    Ok(mean(&pairs(&kept.gram()?, Gram::cosine)))
}

fn subset(grads: &TaskGrads, keep: impl Fn(&str) -> bool) -> Result<TaskGrads> {
    let part = |dict: &StateDict| dict.filter(&keep);
    TaskGrads::new(grads.per_task().iter().map(part).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dict(entries: &[(&str, &[f64])]) -> StateDict {
        entries.iter().map(|(name, values)| ((*name).to_owned(), Tensor::from_slice(values))).collect()
    }

    #[test]
    fn a_zero_gradient_conflicts_with_nothing() {
        let report = conflict(&Gram::from_rows(&[vec![4.0, 0.0], vec![0.0, 0.0]]).unwrap()).unwrap();
        assert_eq!((report.mean_cosine, report.conflict_fraction), (0.0, 0.0));
        assert_eq!((report.mean_magnitude_similarity, report.condition_number), (0.0, f64::INFINITY));
        assert_eq!(report.cosine_with_mean, [1.0, 0.0]);
        let none = conflict(&Gram::from_rows(&[vec![0.0; 2], vec![0.0; 2]]).unwrap()).unwrap();
        assert_eq!((none.mean_magnitude_similarity, none.cosine_with_mean), (1.0, vec![0.0; 2]));
    }

    #[test]
    fn opposite_gradients_are_of_rank_one() {
        let report = conflict(&Gram::from_rows(&[vec![1.0, -1.0], vec![-1.0, 1.0]]).unwrap()).unwrap();
        assert_eq!((report.min_cosine, report.conflict_fraction), (-1.0, 1.0));
        assert_eq!((report.condition_number, report.cosine_with_mean), (f64::INFINITY, vec![0.0; 2]));
    }

    #[test]
    fn a_layer_that_one_task_alone_uses_has_no_conflict() {
        let grads = TaskGrads::new(vec![
            dict(&[("a.weight", &[1.0, 0.0]), ("a.bias", &[1.0]), ("b.weight", &[1.0])]),
            dict(&[("a.weight", &[-1.0, 0.0]), ("a.bias", &[2.0])]),
        ])
        .unwrap();
        let reports = conflict_by_group(&grads, layer_of).unwrap();
        assert_eq!(reports.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert!((reports["a"].mean_cosine - 1.0 / 10f64.sqrt()).abs() < 1e-12); // (−1 + 2) / (√2 √5)
        assert_eq!(reports["b"].mean_cosine, 0.0);
        assert_eq!(alignment(&grads, |name| name == "a.weight").unwrap(), -1.0);
    }

    #[test]
    fn too_few_tasks_or_parameters_are_refused() {
        let err = conflict(&Gram::from_rows(&[vec![1.0]]).unwrap()).unwrap_err();
        insta::assert_snapshot!(err, @"`gradients for `conflict`` must be those of at least two tasks, but is 1");
        let grads = TaskGrads::new(vec![dict(&[("w", &[1.0])]), dict(&[("w", &[1.0])])]).unwrap();
        let err = alignment(&grads, |name| name.contains("adapter")).unwrap_err();
        insta::assert_snapshot!(err, @"`parameters for `alignment`` must be at least one with a gradient, but is none");
        assert!(alignment(&TaskGrads::new(vec![]).unwrap(), |_| true).is_err());
    }
}
