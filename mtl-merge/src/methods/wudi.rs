//! WUDI merging: Cheng et al., *Whoever Started the Interference Should End It: Guiding Data-Free Model Merging via Task
//! Vectors*, ICML 2025, arXiv 2503.08099.
use super::{
    adam::Adam,
    iso_c::sum,
    matrix::{MATRIX_RULE, SCALE, add, add_mean, bytes, cannot, delta, each_model, matrix},
};
use crate::{
    Base, Error, Kernel, MergeMethod, MethodSpec, ParamSpec, Preset, Resolved, Result, Tensor, Which, Work,
    linalg::{Failure, add_product, noise, norm, product, row_major_product, thin_svd, view},
    params::{COUNT, POSITIVE},
};
use faer::{Mat, MatMut};

static SPEC: MethodSpec = MethodSpec::new(
    "wudi",
    "Whoever Started the Interference Should End It: Guiding Data-Free Model Merging via Task Vectors",
    "arXiv 2503.08099",
)
.base(Base::Required)
.models(2, None)
.work(Work::Tensors)
.params(&[
    ParamSpec::text(
        "solver",
        Preset::Text("adam"),
        "`adam`: the authors' descent; `closed_form`: the minimum it heads for",
    ),
    ParamSpec::number("steps", Preset::Number(300.0), COUNT, "steps of `adam`"),
    ParamSpec::number("lr", Preset::Number(1e-5), POSITIVE, "learning rate of `adam`"),
    SCALE,
    MATRIX_RULE,
]);

/// The task vector that disturbs no task where its own task vector acts.
///
/// Minimizes `Σ ‖(τ − δᵢ) δᵢᵀ‖² / ‖δᵢ‖²` (Frobenius norms), from `τ = Σ δᵢ`; the model is `W₀ + s τ`. `adam` takes 300
/// steps of 1e-5 as the authors do, which moves no weight by more than about 0.003; `closed_form` gives the minimum
/// nearest to 0, which is also the one that exact descent would reach. Tensors that are not matrices are averaged.
///
/// # Departures
///
/// A task vector of zeros has no part in the sum, where the authors' code divides by zero.
///
/// ```
/// use mtl_merge::{HostTensor, Recipe, TensorMap};
///
/// let map = |v: [f32; 4]| Ok::<_, mtl_merge::Error>(TensorMap::from([("w".into(), HostTensor::new(vec![2, 2], v.to_vec())?)]));
/// // The tasks act on the first and the second input alone: both can have their way.
/// let (base, a, b) = (map([0.0; 4])?, map([3.0, 0.0, 1.0, 0.0])?, map([0.0, 2.0, 0.0, 4.0])?);
/// let recipe = Recipe::new("wudi").base("base").input("a").input("b").parameter("solver", "closed_form");
/// assert_eq!(recipe.run_in_memory(Some(&base), &[&a, &b])?["w"].data(), [3.0, 2.0, 1.0, 4.0]);
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Wudi;

impl MergeMethod for Wudi {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn check(&self, params: &Resolved) -> Result<()> {
        match params.text("solver") {
            Some("adam" | "closed_form") => Ok(()),
            other => Err(Error::Parameter {
                path: "parameters.solver".to_owned(),
                must: "`adam` or `closed_form`".to_owned(),
                found: format!("`{}`", other.unwrap_or_default()),
            }),
        }
    }

    fn workspace(&self, shape: &[usize], models: usize, params: &Resolved) -> Option<usize> {
        let &[rows, cols] = shape else { return Some(0) };
        if !params.flag(MATRIX_RULE.name).unwrap_or(true) {
            return Some(0);
        }
        let all = bytes(shape, models + 1);
        Some(if params.text("solver") == Some("closed_form") {
            all.saturating_add(bytes(shape, 11 * models))
        } else {
            // Task vectors, their sum, gradient, two moments; the normal matrix where it is the cheaper way.
            let square = if normal_is_cheaper(rows, cols, models) { bytes(&[cols, cols], 1) } else { 0 };
            all.saturating_add(bytes(shape, 5)).saturating_add(square)
        })
    }

    fn prepare<'t>(&self, tensor: &'t Tensor<'_>, params: &'t Resolved) -> Result<Kernel<'t>> {
        let scale = params.number(SCALE.name)?;
        let Some((rows, cols)) = matrix(tensor, params)? else { return Ok(add_mean(scale)) };
        let start = sum(tensor)?;
        let base = tensor.load(Which::Base)?;
        let deltas = each_model(tensor, |model| delta(tensor, &base, model))?;
        drop(base);
        let problem = Problem::new(rows, cols, deltas);
        let merged = if params.text("solver") == Some("closed_form") {
            problem.minimum().map_err(|e| cannot(tensor, e))?
        } else {
            problem.descend(start, params.number("steps")? as u64, params.number("lr")?)
        };
        Ok(add(merged, scale))
    }
}

/// Whether a gradient costs less by `Σ Aᵢ` than by the task vectors.
fn normal_is_cheaper(rows: usize, cols: usize, models: usize) -> bool {
    cols < 2 * rows * models
}

/// The task vectors that are not zero, row-major, and their Frobenius norms.
struct Problem {
    rows: usize,
    cols: usize,
    deltas: Vec<(Vec<f64>, f64)>,
}

impl Problem {
    fn new(rows: usize, cols: usize, deltas: Vec<Vec<f64>>) -> Self {
        let with_norm = deltas.into_iter().map(|delta| {
            let norm = norm(&delta);
            (delta, norm)
        });
        Self { rows, cols, deltas: with_norm.filter(|(_, norm)| *norm > 0.0).collect() }
    }

    /// Least squares of `τ Bᵢᵀ = δᵢ Bᵢᵀ` with `Bᵢ = δᵢ/‖δᵢ‖`, of smallest norm; row-major.
    fn minimum(&self) -> Result<Vec<f64>, Failure> {
        let (rows, cols) = (self.rows, self.cols);
        let stacked = rows * self.deltas.len();
        let mut b = vec![0.0; stacked * cols];
        let mut targets = Mat::zeros(rows, stacked);
        for (i, (delta, norm)) in self.deltas.iter().enumerate() {
            let part = &mut b[i * rows * cols..(i + 1) * rows * cols];
            part.iter_mut().zip(delta).for_each(|(b, d)| *b = d / norm);
            let part = view(part, rows, cols);
            add_product(targets.subcols_mut(i * rows, rows), view(delta, rows, cols), part.transpose(), 1.0);
        }
        let svd = thin_svd(view(&b, stacked, cols), 0.0)?;
        let floor = noise(stacked, cols, svd.s.first().copied().unwrap_or(0.0));
        let mut coefficients = product(targets.as_ref(), svd.u.as_ref());
        for (j, &s) in svd.s.iter().enumerate() {
            let factor = if s > floor { 1.0 / s } else { 0.0 };
            coefficients.col_mut(j).iter_mut().for_each(|x| *x *= factor);
        }
        Ok(row_major_product(coefficients.as_ref(), svd.v.transpose()))
    }

    /// The authors' descent.
    fn descend(&self, mut tau: Vec<f64>, steps: u64, lr: f64) -> Vec<f64> {
        let (rows, cols) = (self.rows, self.cols);
        let mut adam = Adam::new(tau.len(), lr);
        let normal = normal_is_cheaper(rows, cols, self.deltas.len()).then(|| self.normal());
        let mut gradient = vec![0.0; tau.len()];
        for _ in 0..steps {
            match &normal {
                Some((a, target)) => {
                    gradient.iter_mut().zip(target).for_each(|(g, t)| *g = -2.0 * t);
                    let out = MatMut::from_row_major_slice_mut(&mut gradient, rows, cols);
                    add_product(out, view(&tau, rows, cols), a.as_ref(), 2.0);
                }
                None => self.gradient(&tau, &mut gradient),
            }
            adam.step(&mut tau, &gradient);
        }
        tau
    }

    /// `Σ Aᵢ` and `Σ δᵢ Aᵢ` with `Aᵢ = δᵢᵀδᵢ/‖δᵢ‖²`.
    fn normal(&self) -> (Mat<f64>, Vec<f64>) {
        let (rows, cols) = (self.rows, self.cols);
        let mut sum = Mat::zeros(cols, cols);
        let mut target = vec![0.0; rows * cols];
        for (delta, norm) in &self.deltas {
            let delta = view(delta, rows, cols);
            let gram = product(delta, delta.transpose()); // [rows, rows]
            let factor = 1.0 / (norm * norm);
            add_product(sum.as_mut(), delta.transpose(), delta, factor);
            let out = MatMut::from_row_major_slice_mut(&mut target, rows, cols);
            add_product(out, gram.as_ref(), delta, factor);
        }
        (sum, target)
    }

    /// `2 Σ (τ − δᵢ) δᵢᵀ δᵢ / ‖δᵢ‖²`.
    fn gradient(&self, tau: &[f64], gradient: &mut [f64]) {
        let (rows, cols) = (self.rows, self.cols);
        gradient.fill(0.0);
        for (delta, norm) in &self.deltas {
            let rest: Vec<f64> = tau.iter().zip(delta).map(|(t, d)| t - d).collect();
            let delta = view(delta, rows, cols);
            let inner = product(view(&rest, rows, cols), delta.transpose()); // [rows, rows]
            let out = MatMut::from_row_major_slice_mut(gradient, rows, cols);
            add_product(out, inner.as_ref(), delta, 2.0 / (norm * norm));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Uniform, linalg::norm};
    use mtl_core::Seed;

    fn problem(rows: usize, cols: usize, tasks: usize) -> Problem {
        let deltas = (0..tasks).map(|t| {
            let stream = Uniform::new(Seed(t as u64));
            (0..rows * cols).map(|i| 0.02 * stream.at(i) - 0.01).collect()
        });
        Problem::new(rows, cols, deltas.collect())
    }

    fn gradient(problem: &Problem, tau: &[f64]) -> Vec<f64> {
        let mut out = vec![0.0; tau.len()];
        problem.gradient(tau, &mut out);
        out
    }

    #[test]
    fn the_closed_form_has_no_gradient_left() {
        for (rows, cols, tasks) in [(6, 8, 2), (8, 6, 3), (5, 40, 2), (1, 3, 2)] {
            let problem = problem(rows, cols, tasks);
            let minimum = problem.minimum().unwrap();
            let start: Vec<f64> = vec![0.0; rows * cols];
            assert!(norm(&gradient(&problem, &minimum)) < 1e-10 * norm(&gradient(&problem, &start)));
        }
    }

    #[test]
    fn both_ways_to_the_gradient_agree() {
        let problem = problem(7, 9, 3);
        let tau: Vec<f64> = (0..63).map(|i| f64::from(i) * 1e-3).collect();
        let (a, target) = problem.normal();
        let by_normal = row_major_product(view(&tau, 7, 9), a.as_ref());
        let worst = gradient(&problem, &tau)
            .iter()
            .zip(by_normal.iter().zip(&target))
            .map(|(g, (x, t))| (g - 2.0 * (x - t)).abs())
            .fold(0.0, f64::max);
        assert!(worst < 1e-15, "{worst}");
    }

    #[test]
    fn the_descent_approaches_the_minimum() {
        let problem = problem(6, 4, 2);
        let minimum = problem.minimum().unwrap();
        let start: Vec<f64> =
            (0..24).map(|i| problem.deltas.iter().map(|(delta, _)| delta[i]).sum()).collect();
        let away = |tau: &[f64]| norm(&tau.iter().zip(&minimum).map(|(a, b)| a - b).collect::<Vec<_>>());
        let near = problem.descend(start.clone(), 4000, 1e-5);
        assert!(away(&near) < 0.05 * away(&start), "{} of {}", away(&near), away(&start));
    }
}
