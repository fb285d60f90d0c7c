//! What methods for matrices share.
use crate::{
    Error, Kernel, ParamSpec, Preset, Resolved, Result, Tensor, Which, linalg::Failure, params::FINITE,
};
use rayon::prelude::*;

/// Whether the method's rule for matrices holds.
pub(super) const MATRIX_RULE: ParamSpec = ParamSpec::flag(
    "matrix_rule",
    true,
    "treat matrices as such; false: like tensors with another number of axes",
);

/// The factor at the end.
pub(super) const SCALE: ParamSpec =
    ParamSpec::number("scale", Preset::Number(1.0), FINITE, "factor of the merged task vector");

/// Rows and columns, if the rule for matrices is to be used.
pub(super) fn matrix(tensor: &Tensor<'_>, params: &Resolved) -> Result<Option<(usize, usize)>> {
    let wanted = params.flag(MATRIX_RULE.name)?;
    Ok(match tensor.shape() {
        &[rows, cols] if wanted && rows > 0 && cols > 0 && tensor.n_models() > 0 => Some((rows, cols)),
        _ => None,
    })
}

/// `W − W₀` of a model, row-major.
///
/// # Errors
///
/// As [`Tensor::load`].
pub(super) fn delta(tensor: &Tensor<'_>, base: &[f64], model: usize) -> Result<Vec<f64>> {
    let mut values = tensor.load(Which::Model(model))?;
    values.iter_mut().zip(base).for_each(|(x, x0)| *x -= x0);
    Ok(values)
}

/// `work` for every model, in parallel; the first model's error counts.
///
/// # Errors
///
/// Those of `work`.
pub(super) fn each_model<R: Send>(
    tensor: &Tensor<'_>,
    work: impl Fn(usize) -> Result<R> + Send + Sync,
) -> Result<Vec<R>> {
    let results: Vec<Result<R>> = (0..tensor.n_models()).into_par_iter().map(work).collect();
    results.into_iter().collect()
}

/// The base plus `scale` times a task vector that is at hand.
pub(super) fn add<'t>(merged: Vec<f64>, scale: f64) -> Kernel<'t> {
    Box::new(move |piece, out| {
        let Some(base) = piece.base else { return };
        for ((x, x0), delta) in out.iter_mut().zip(base).zip(&merged[piece.start.min(merged.len())..]) {
            *x = x0 + scale * delta;
        }
    })
}

/// The base plus `scale` times the mean of the task vectors.
pub(super) fn add_mean<'t>(scale: f64) -> Kernel<'t> {
    Box::new(move |piece, out| {
        let Some(base) = piece.base else { return };
        let share = 1.0 / piece.models.len().max(1) as f64;
        super::weighted_sum(Some(base), piece.models, &vec![share; piece.models.len()], out);
        out.iter_mut().zip(base).for_each(|(x, x0)| *x = x0 + scale * *x);
    })
}

/// The base as it is.
pub(super) fn keep_base<'t>() -> Kernel<'t> {
    Box::new(|piece, out| {
        if let Some(base) = piece.base {
            out.copy_from_slice(base);
        }
    })
}

/// The error for a matrix that cannot be decomposed.
pub(super) fn cannot(tensor: &Tensor<'_>, failure: Failure) -> Error {
    Error::Unmergeable {
        method: tensor.spec.info.name.to_owned(),
        tensor: tensor.name().to_owned(),
        message: format!("{failure}; with a filter, `matrix_rule: false` spares single tensors"),
    }
}

/// Bytes of `matrices` matrices of that shape in `f64`.
pub(super) fn bytes(shape: &[usize], matrices: usize) -> usize {
    shape.iter().fold(8 * matrices, |n, &d| n.saturating_mul(d))
}
