//! DOGE: Wei et al., *Modeling Multi-Task Model Merging as Adaptive Projective Gradient Descent*, ICML 2025,
//! arXiv 2501.01230.
use super::{
    adam::Adam,
    matrix::{MATRIX_RULE, add, bytes, cannot, delta, each_model, keep_base, matrix},
    order::{Query, ranked, sizes},
    tsv_m::leading,
};
use crate::{
    Base, Error, Kernel, MergeMethod, MethodSpec, ParamSpec, Preset, Resolved, Result, Survey, Tensor, Which,
    Work,
    linalg::{Failure, add_product, beside, noise, norm, product, thin_svd, view},
    params::{COUNT, FINITE, POSITIVE, SHARE},
};
use faer::{Mat, MatMut};
use rayon::prelude::*;

static SPEC: MethodSpec = MethodSpec::new(
    "doge_ta",
    "Modeling Multi-Task Model Merging as Adaptive Projective Gradient Descent",
    "arXiv 2501.01230",
)
.base(Base::Required)
.models(2, None)
.work(Work::Tensors)
.surveys()
.params(&[
    ParamSpec::number("lambda", Preset::Number(0.07), FINITE, "norm that every task vector is scaled to"),
    ParamSpec::number(
        "subspace",
        Preset::Number(6.0),
        POSITIVE,
        "the shared subspace has rank/subspace dimensions",
    ),
    ParamSpec::number("top", Preset::Number(0.3), SHARE, "share of each task vector that is kept"),
    ParamSpec::number("steps", Preset::Number(400.0), COUNT, "steps of descent"),
    ParamSpec::number("lr", Preset::Number(1e-4), POSITIVE, "learning rate of the descent"),
    MATRIX_RULE,
]);

/// Task arithmetic with a common correction `Δ` of the task vectors, outside the subspace that the tasks share.
///
/// For every matrix, `λᵢ = λ/‖δᵢ‖` and `P` projects on the shared subspace: the `rank/subspace` leading left singular
/// vectors of the tasks' `⌊rank/N⌋` leading left singular vectors, side by side. `Δ` starts at 0 and takes 400 Adam steps
/// on `Σⱼ Σ_rows (Σ_cols δⱼ ⊙ (δⱼ − Σ λᵢ δᵢ − Σ λᵢ Δ))²` with the gradient projected by `I − P`. The model is
/// `W₀ + Σ λᵢ mᵢ ⊙ (δᵢ + Δ)`, where `mᵢ` marks the `top` largest `|δᵢ|` of the whole model.
///
/// Tensors that are not matrices stay those of the base, and so do matrices with `matrix_rule` false: the authors merge
/// the weights of the encoder alone, which for other models is a matter of filters.
///
/// # Departures
///
/// A task vector of zeros has `λᵢ` = 0, where the authors' code divides by zero.
///
/// ```
/// use mtl_merge::{HostTensor, Recipe, TensorMap};
///
/// let map = |v: [f32; 4]| Ok::<_, mtl_merge::Error>(TensorMap::from([("w".into(), HostTensor::new(vec![2, 2], v.to_vec())?)]));
/// let (base, a, b) = (map([0.0; 4])?, map([4.0, 0.0, 0.0, 3.0])?, map([0.0, 1.0, 0.0, 0.0])?);
/// let recipe = Recipe::new("doge_ta").base("base").input("a").input("b");
/// let recipe = recipe.parameter("steps", 0.0).parameter("lambda", 10.0).parameter("top", 0.25);
/// assert_eq!(recipe.run_in_memory(Some(&base), &[&a, &b])?["w"].data(), [8.0, 10.0, 0.0, 6.0]);
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct DogeTa;

/// Magnitudes from which on weights are kept, by the models' numbers.
struct Thresholds(Vec<f64>);

impl MergeMethod for DogeTa {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn survey(&self, tensors: &[(Tensor<'_>, &Resolved)]) -> Result<Survey> {
        let mut top = None;
        let mut chosen = Vec::new();
        for (tensor, params) in tensors {
            let takes_part = matrix(tensor, params)?.is_some();
            chosen.push(takes_part);
            if !takes_part {
                continue;
            }
            let own = params.number("top")?;
            if *top.get_or_insert(own) != own {
                return Err(Error::Unmergeable {
                    method: SPEC.info.name.to_owned(),
                    tensor: tensor.name().to_owned(),
                    message: "its `top` is not that of other tensors, but ranks in the whole model decide; give one number"
                        .to_owned(),
                });
            }
        }
        let sizes = sizes(tensors, |at| chosen[at]);
        let top = top.unwrap_or(1.0);
        // The authors keep what is not below the k-th smallest magnitude, counted from 1, with k = d − ⌊top · d⌋.
        let rank = |size: usize| (size - ((size as f64 * top) as usize).min(size)).saturating_sub(1);
        let queries: Vec<Query> =
            sizes.iter().enumerate().map(|(lane, &size)| Query { lane, rank: rank(size) }).collect();
        let found = ranked(tensors, &sizes, &queries, |at, piece, m, out| {
            let Some((base, model)) = piece.base.zip(piece.models.get(m)) else { return false };
            out.iter_mut().zip(model.iter().zip(base)).for_each(|(out, (x, x0))| *out = (x - x0).abs());
            chosen[at]
        })?;
        Ok(Box::new(Thresholds(found)))
    }

    fn workspace(&self, shape: &[usize], models: usize, params: &Resolved) -> Option<usize> {
        let rule = shape.len() == 2 && params.flag(MATRIX_RULE.name).unwrap_or(true);
        // Task vectors and their decompositions; then the correction, its gradient and two moments.
        Some(if rule { bytes(shape, models + 4 + 11 * models.min(rayon::current_num_threads())) } else { 0 })
    }

    fn prepare<'t>(&self, tensor: &'t Tensor<'_>, params: &'t Resolved) -> Result<Kernel<'t>> {
        let Some((rows, cols)) = matrix(tensor, params)? else { return Ok(keep_base()) };
        let base = tensor.load(Which::Base)?;
        let deltas = each_model(tensor, |model| delta(tensor, &base, model))?;
        drop(base);
        let lambda = params.number("lambda")?;
        let lambdas: Vec<f64> = deltas
            .iter()
            .map(|delta| match norm(delta) {
                0.0 => 0.0,
                norm => lambda / norm,
            })
            .collect();
        let size = (rows.min(cols) as f64 / params.number("subspace")?) as usize;
        let shared = shared_subspace(rows, cols, &deltas, size).map_err(|e| cannot(tensor, e))?;
        let steps = params.number("steps")? as u64;
        let correction = correction(rows, cols, &deltas, &lambdas, &shared, steps, params.number("lr")?);
        let thresholds = tensor.survey::<Thresholds>().map_or(&[][..], |t| t.0.as_slice());
        let mut merged = vec![0.0; rows * cols];
        for (m, (delta, lambda)) in deltas.iter().zip(&lambdas).enumerate() {
            let threshold = thresholds.get(tensor.number(m)).copied().unwrap_or(0.0);
            for ((x, d), c) in merged.iter_mut().zip(delta).zip(&correction) {
                if d.abs() >= threshold {
                    *x += lambda * (d + c);
                }
            }
        }
        Ok(add(merged, 1.0))
    }
}

/// Orthonormal basis `[rows, ≤ size]` of the directions of output that the tasks share.
fn shared_subspace(rows: usize, cols: usize, deltas: &[Vec<f64>], size: usize) -> Result<Mat<f64>, Failure> {
    let k = rows.min(cols) / deltas.len().max(1);
    let parts: Vec<Result<Mat<f64>, Failure>> =
        deltas.par_iter().map(|delta| Ok(leading(delta, rows, cols, k)?.u)).collect();
    let parts: Vec<Mat<f64>> = parts.into_iter().collect::<Result<_, _>>()?;
    let all = beside(rows, parts.iter().map(Mat::as_ref));
    let floor = noise(all.nrows(), all.ncols(), 1.0);
    Ok(thin_svd(all.as_ref(), floor)?.leading(size).u)
}

/// The correction `Δ`, row-major.
fn correction(
    rows: usize,
    cols: usize,
    deltas: &[Vec<f64>],
    lambdas: &[f64],
    shared: &Mat<f64>,
    steps: u64,
    lr: f64,
) -> Vec<f64> {
    let sum: f64 = lambdas.iter().sum();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let of = |model: usize, at: usize| &deltas[model][at * cols..(at + 1) * cols];
    // What is left of Σ_cols … when Δ is 0, for every row and task.
    let start: Vec<Vec<f64>> = (0..rows)
        .into_par_iter()
        .map(|at| {
            let own = |j: usize| {
                let others = (0..deltas.len()).map(|i| lambdas[i] * dot(of(j, at), of(i, at))).sum::<f64>();
                dot(of(j, at), of(j, at)) - others
            };
            (0..deltas.len()).map(own).collect()
        })
        .collect();
    let mut correction = vec![0.0; rows * cols];
    let mut gradient = vec![0.0; rows * cols];
    let mut adam = Adam::new(rows * cols, lr);
    for _ in 0..steps {
        gradient.par_chunks_mut(cols).enumerate().for_each(|(at, gradient)| {
            gradient.fill(0.0);
            let here = &correction[at * cols..(at + 1) * cols];
            for (j, start) in start[at].iter().enumerate() {
                let rest = start - sum * dot(of(j, at), here);
                gradient.iter_mut().zip(of(j, at)).for_each(|(g, d)| *g -= 2.0 * sum * rest * d);
            }
        });
        let shares = product(shared.transpose(), view(&gradient, rows, cols));
        let out = MatMut::from_row_major_slice_mut(&mut gradient, rows, cols);
        add_product(out, shared.as_ref(), shares.as_ref(), -1.0);
        adam.step(&mut correction, &gradient);
    }
    correction
}
