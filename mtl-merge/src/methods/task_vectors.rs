//! The methods that add task vectors to the base: what they share is everything but the way entries are dropped.
//!
//! Per tensor: δᵢ = Wᵢ − W₀; a sparsifier drops entries of each δᵢ; the rest may be rescaled; Dᵢ = wᵢ sᵢ; with consensus,
//! only entries that agree with the sign of Σ Dᵢ count; the sum may be divided by that of the weights;
//! M = W₀ + λ · sum.
use super::sparsify::{Drop, Sparsifier};
use super::vectorized;
use crate::{Error, Kernel, MethodSpec, ParamSpec, Piece, Preset, Resolved, Result, Tensor, params::FINITE};

/// Parameters that all of them have, `normalize` and `rescale` apart.
pub(super) const WEIGHT: ParamSpec =
    ParamSpec::per_model("weight", Preset::Required, FINITE, "factor of the model's task vector");
pub(super) const DENSITY: ParamSpec = ParamSpec::per_model(
    "density",
    Preset::Number(1.0),
    crate::params::SHARE,
    "share of the task vector's entries that are kept",
);
pub(super) const LAMBDA: ParamSpec =
    ParamSpec::number("lambda", Preset::Number(1.0), FINITE, "factor of the summed task vectors");
pub(super) const INT8_MASK: ParamSpec =
    ParamSpec::flag("int8_mask", false, "no effect; accepted for compatibility");
pub(super) const RESCALE_MODE: ParamSpec = ParamSpec::text(
    "rescale_mode",
    Preset::Text("l1"),
    "`l1` restores the sum of magnitudes, `inverse_density` divides by the density",
);

/// Checks a text parameter; one that the method lacks passes.
pub(super) fn one_of(params: &Resolved, name: &str, known: &[&str]) -> Result<()> {
    match params.text(name) {
        Some(text) if !known.contains(&text) => Err(Error::Parameter {
            path: name.to_owned(),
            must: format!("`{}`", known.join("` or `")),
            found: format!("`{text}`"),
        }),
        _ => Ok(()),
    }
}

/// Elements treated at a time; all of their task vectors stay in the first-level cache.
const LANES: usize = 512;

/// Merges a tensor: `drop` says which entries go, `consensus` whether signs are elected.
pub(super) fn prepare<'t>(
    spec: &'static MethodSpec,
    tensor: &'t Tensor<'_>,
    params: &'t Resolved,
    drop: Drop,
    consensus: bool,
) -> Result<Kernel<'t>> {
    let sparsifier = Sparsifier::new(spec, tensor, params, drop)?;
    let weights = params.per_model("weight")?;
    let factors = sparsifier.rescaled(tensor, params, weights)?;
    let (normalize, lambda) = (params.flag("normalize")?, params.number("lambda")?);
    let sum: f64 = weights.iter().sum();
    let divisor = if normalize && sum.abs() >= 1e-8 { sum } else { 1.0 };
    Ok(Box::new(move |piece, out| {
        let Some(base) = piece.base else { return };
        let mut scaled = vec![0.0; LANES * piece.models.len()];
        for start in (0..out.len()).step_by(LANES) {
            let end = (start + LANES).min(out.len());
            let (out, base) = (&mut out[start..end], &base[start..end]);
            let at = piece.start + start;
            for (i, model) in piece.models.iter().enumerate() {
                let scaled = &mut scaled[i * LANES..][..out.len()];
                sparsifier.write(i, at, base, &model[start..end], factors[i], scaled);
            }
            let scaled = scaled.chunks(LANES);
            if !consensus {
                vectorized(|| plain(scaled, base, lambda / divisor, out));
            } else {
                vectorized(|| elect(scaled, weights, base, normalize, lambda, out));
            }
        }
    }))
}

/// `out = base + factor · Σ D`.
#[inline(always)]
fn plain<'a>(scaled: impl Iterator<Item = &'a [f64]>, base: &[f64], factor: f64, out: &mut [f64]) {
    out.fill(0.0);
    for scaled in scaled {
        for (out, d) in out.iter_mut().zip(scaled) {
            *out += d;
        }
    }
    for (out, x0) in out.iter_mut().zip(base) {
        *out = x0 + factor * *out;
    }
}

/// `out = base + λ · Σ Dᵢ mᵢ (/ Σ wᵢ mᵢ)`, where `mᵢ` says that `Dᵢ` has the sign of `Σ D`; a zero agrees with nothing, and
/// a sum of zero is positive.
#[inline(always)]
fn elect<'a>(
    scaled: impl Iterator<Item = &'a [f64]> + Clone,
    weights: &[f64],
    base: &[f64],
    normalize: bool,
    lambda: f64,
    out: &mut [f64],
) {
    let n = out.len();
    let (mut sign, mut weight) = ([0.0; LANES], [0.0; LANES]);
    let (sign, weight) = (&mut sign[..n], &mut weight[..n]);
    for scaled in scaled.clone() {
        for (sign, d) in sign.iter_mut().zip(scaled) {
            *sign += d;
        }
    }
    for sign in sign.iter_mut() {
        *sign = if *sign < 0.0 { -1.0 } else { 1.0 };
    }
    out.fill(0.0);
    for (scaled, &w) in scaled.zip(weights) {
        for (((out, weight), sign), d) in out.iter_mut().zip(weight.iter_mut()).zip(&*sign).zip(scaled) {
            // A NaN, where the user allows it, agrees.
            let product = d * sign;
            let agrees = product > 0.0 || product.is_nan();
            *out += if agrees { *d } else { 0.0 };
            *weight += if agrees { w } else { 0.0 };
        }
    }
    if normalize {
        for (out, weight) in out.iter_mut().zip(&*weight) {
            *out /= if *weight == 0.0 { 1.0 } else { *weight };
        }
    }
    for (out, x0) in out.iter_mut().zip(base) {
        *out = x0 + lambda * *out;
    }
}

/// `δ` of a piece into `out`.
#[inline(always)]
pub(super) fn delta(piece: &Piece<'_>, model: usize, out: &mut [f64]) {
    let base = piece.base.unwrap_or_default();
    for ((out, x), x0) in out.iter_mut().zip(piece.models[model]).zip(base) {
        *out = x - x0;
    }
}
