//! RegMean: Jin et al., *Dataless Knowledge Fusion by Merging Weights of Language Models*, ICLR 2023, arXiv 2212.09849.
use super::{
    matrix::{MATRIX_RULE, bytes, cannot, each_model, matrix},
    statistics::{Entry, Statistics},
    weighted_sum,
};
use crate::{
    Kernel, MergeMethod, MethodSpec, ParamSpec, Preset, Resolved, Result, Survey, Tensor, Which, Work,
    linalg::{Failure, add_product, solve_symmetric, view},
    params::SHARE,
};
use faer::Mat;

/// The parameter that names the files.
const GRAM: &str = "gram";

static SPEC: MethodSpec = MethodSpec::new(
    "regmean",
    "Dataless Knowledge Fusion by Merging Weights of Language Models",
    "arXiv 2212.09849",
)
.work(Work::Tensors)
.surveys()
.params(&[
    ParamSpec::per_model_text(
        GRAM,
        Preset::Required,
        "safetensors file with the Gram matrix [in, in] of the inputs of every linear layer, under its weight's name",
    ),
    ParamSpec::number("alpha", Preset::Number(0.95), SHARE, "factor of the off-diagonal elements"),
    MATRIX_RULE,
]);

/// The linear layers whose outputs are nearest to those of every model on that model's inputs.
///
/// `Wᵀ = (Σ Gᵢ)⁻¹ Σ Gᵢ Wᵢᵀ`, where `Gᵢ = XᵀX / rows` is the Gram matrix of the layer's inputs on task `i`, its
/// off-diagonal elements times `alpha`. When `Σ Gᵢ` is singular, 1e-6 of its mean diagonal is added to the diagonal,
/// with a warning. Tensors for which no file has a Gram matrix are averaged, with a warning if they are matrices; a Gram
/// matrix that only some files have is an error. A base model is not used.
///
/// ```
/// use mtl_core::params::{ParamView, write_params};
/// use mtl_merge::{HostTensor, Recipe, TensorMap};
///
/// let dir = tempfile::tempdir()?;
/// let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
/// for (name, gram) in [("gram-a", [3.0, 0.0, 0.0, 1.0]), ("gram-b", [1.0, 0.0, 0.0, 3.0])] {
///     write_params(path(name), &Default::default(), &[ParamView::f32("w", &[2, 2], &gram)])?;
/// }
/// let map = |v: [f32; 2]| Ok::<_, mtl_merge::Error>(TensorMap::from([("w".into(), HostTensor::new(vec![1, 2], v.to_vec())?)]));
/// let recipe = Recipe::new("regmean")
///     .model_with("a", [("gram", path("gram-a").as_str())])
///     .model_with("b", [("gram", path("gram-b").as_str())]);
/// let merged = recipe.run_in_memory(None, &[&map([4.0, 4.0])?, &map([8.0, 8.0])?])?;
/// assert_eq!(merged["w"].data(), [5.0, 7.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct RegMean;

impl MergeMethod for RegMean {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn survey(&self, tensors: &[(Tensor<'_>, &Resolved)]) -> Result<Survey> {
        let files = Statistics::open(GRAM, tensors)?;
        for (tensor, params) in tensors {
            grams(tensor, params, &files)?;
        }
        Ok(Box::new(files))
    }

    fn workspace(&self, shape: &[usize], models: usize, params: &Resolved) -> Option<usize> {
        let &[_, cols] = shape else { return Some(0) };
        let rule = params.flag(MATRIX_RULE.name).unwrap_or(true);
        let grams = bytes(&[cols, cols], 1 + models.min(rayon::current_num_threads()));
        Some(if rule { bytes(shape, models + 2).saturating_add(grams) } else { 0 })
    }

    fn prepare<'t>(&self, tensor: &'t Tensor<'_>, params: &'t Resolved) -> Result<Kernel<'t>> {
        let found = match tensor.survey::<Statistics>() {
            Some(files) => grams(tensor, params, files)?,
            None => None,
        };
        let (Some(entries), Some((rows, cols))) = (found, matrix(tensor, params)?) else {
            if matrix(tensor, params)?.is_some() {
                tensor.warn("no file has a Gram matrix for it, so it is averaged");
            }
            return Ok(Box::new(|piece, out| {
                let share = 1.0 / piece.models.len().max(1) as f64;
                weighted_sum(None, piece.models, &vec![share; piece.models.len()], out);
            }));
        };
        let alpha = params.number("alpha")?;
        let grams = each_model(tensor, |model| match entries.get(model) {
            Some(entry) => gram(entry, alpha),
            None => Ok(Vec::new()),
        })?;
        let (mut sum, mut right) = (Mat::zeros(cols, cols), Mat::zeros(cols, rows));
        for (model, gram) in grams.iter().enumerate() {
            let gram = view(gram, cols, cols);
            let weight = tensor.load(Which::Model(model))?;
            add_product(right.as_mut(), gram, view(&weight, rows, cols).transpose(), 1.0);
            sum += gram;
        }
        drop(grams);
        solve(tensor, &sum, &mut right).map_err(|e| cannot(tensor, e))?;
        // The columns of [in, out] are the rows of the weight.
        let merged: Vec<f64> = (0..rows).flat_map(|j| right.col(j).iter().copied()).collect();
        Ok(Box::new(move |piece, out| {
            out.iter_mut().zip(&merged[piece.start.min(merged.len())..]).for_each(|(x, m)| *x = *m);
        }))
    }
}

/// The Gram matrices of the tensor's models, or nothing when there are none.
fn grams<'s>(
    tensor: &Tensor<'_>,
    params: &Resolved,
    files: &'s Statistics,
) -> Result<Option<Vec<Entry<'s>>>> {
    let Some((_, cols)) = matrix(tensor, params)? else { return Ok(None) };
    let mut any = false;
    for model in 0..tensor.n_models() {
        any |= files.find(tensor, params, model, &[cols, cols])?.is_some();
    }
    if !any {
        return Ok(None);
    }
    (0..tensor.n_models())
        .map(|model| files.expect(tensor, params, model, &[cols, cols]))
        .collect::<Result<_>>()
        .map(Some)
}

/// A Gram matrix with its off-diagonal elements times `alpha`.
fn gram(entry: &Entry<'_>, alpha: f64) -> Result<Vec<f64>> {
    let mut values = entry.load()?;
    let n = entry.info.shape.first().copied().unwrap_or(0);
    let largest = values.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
    for i in 0..n {
        for j in 0..i {
            let (a, b) = (values[i * n + j], values[j * n + i]);
            // bfloat16 has a relative precision of 0.4 %.
            if (a - b).abs() > 0.01 * largest {
                return Err(entry
                    .error(format!("is not symmetric: elements [{i}, {j}] and [{j}, {i}] are {a} and {b}")));
            }
            let middle = alpha * 0.5 * (a + b);
            (values[i * n + j], values[j * n + i]) = (middle, middle);
        }
    }
    Ok(values)
}

/// Overwrites `right` with the solution of `sum · x = right`.
fn solve(tensor: &Tensor<'_>, sum: &Mat<f64>, right: &mut Mat<f64>) -> Result<(), Failure> {
    let kept = right.clone();
    let first = solve_symmetric(sum.clone().as_mut(), right.as_mut());
    if first != Err(Failure::Singular) {
        return first;
    }
    let n = sum.nrows();
    let mean = (0..n).map(|i| sum[(i, i)]).sum::<f64>() / n as f64;
    let mut ridged = sum.clone();
    (0..n).for_each(|i| ridged[(i, i)] += 1e-6 * mean);
    tensor.warn("its summed Gram matrices are singular, so 1e-6 of their mean diagonal is added");
    right.copy_from(&kept);
    solve_symmetric(ridged.as_mut(), right.as_mut())
}
